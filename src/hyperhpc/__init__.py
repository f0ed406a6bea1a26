"""Hyperspectral analysis of whole scenes, on a laptop or on a cluster, with the same bits.

Notebooks use ``open_scene``, ``reflectance``, ``spectrum``, ``indices``, ``run``, ``open_run`` and
``figures``. Each is loaded when it is first used, so that ``import hyperhpc`` takes no time.
"""

from typing import TYPE_CHECKING, Any

from hyperhpc.version import __version__ as __version__

__all__ = ["figures", "indices", "open_run", "open_scene", "reflectance", "run", "spectrum"]

if TYPE_CHECKING:
    from hyperhpc.api import figures, indices, open_run, open_scene, reflectance, run, spectrum


def __getattr__(name: str) -> Any:
    if name in __all__:
        from hyperhpc import api

        return getattr(api, name)
    raise AttributeError(f"module 'hyperhpc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
