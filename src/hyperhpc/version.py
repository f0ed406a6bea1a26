"""The version of this package, said once: pyproject.toml reads it here."""

__version__ = "0.2.0"
