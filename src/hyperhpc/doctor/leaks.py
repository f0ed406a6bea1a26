"""Packages and settings of elsewhere that get into this Python."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import site
import subprocess
import sys
from pathlib import Path

from hyperhpc.doctor.finding import Finding

_PATH_VARIABLES = ("PYTHONPATH", "PYTHONHOME")


def check_pythonpath() -> Finding:
    """Whether variables put folders before the installed packages."""
    found = [f"{name}={os.environ[name]}" for name in _PATH_VARIABLES if os.environ.get(name)]
    if found:
        return Finding("warning", ", ".join(found), f"unset {' '.join(_PATH_VARIABLES)}")
    return Finding("ok", "not set")


def check_user_site() -> Finding:
    """Whether packages below the home folder can be seen."""
    try:
        folder = Path(site.getusersitepackages())
        names = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")
    except OSError:
        names = []
    if not site.ENABLE_USER_SITE:
        return Finding("ok", "off" + (f"; {folder} is not looked at" if names else ""))
    if not names:
        return Finding("ok", "on, and empty")
    packages = [name for name in names if not name.endswith((".dist-info", ".egg-info"))]
    shown = ", ".join((packages or names)[:5])
    return Finding("warning", f"{folder} is visible: {shown}", "export PYTHONNOUSERSITE=1")


def check_conda() -> Finding:
    """Whether a conda environment is active that is not this Python's."""
    prefix = os.environ.get("CONDA_PREFIX")
    if not prefix:
        return Finding("ok", "none active")
    if Path(sys.prefix).resolve() == Path(prefix).resolve():
        return Finding("ok", f"this Python is that of {prefix}")
    return Finding("warning", f"{prefix} is active, but not this Python's", "conda deactivate")


def check_origins() -> Finding:
    """Whether modules come from outside the environment.

    The folders that belong to it are those the same interpreter has when it looks neither
    at variables, nor at the home folder, nor at the current one. A package of the lock, or
    a module of Python itself, that comes from elsewhere is an error: it is not the tested.
    """
    inside = [os.path.realpath(entry) for entry in _own_path()]
    locked = _locked_names()
    specs = {name: _find(name) for name in locked}
    for name, module in list(sys.modules.items()):
        if "." not in name:
            specs[name] = getattr(module, "__spec__", None)
    strange: dict[str, list[str]] = {}
    for name, spec in sorted(specs.items()):
        if spec is not None and (folder := _outside(spec, inside)):
            strange.setdefault(folder, []).append(name)
    if not strange:
        return Finding("ok", f"all modules come from {sys.prefix} and its Python")
    known = locked | sys.stdlib_module_names
    return Finding(
        "error" if any(known.intersection(names) for names in strange.values()) else "warning",
        "; ".join(f"from {folder}: {_some(names)}" for folder, names in strange.items()),
        "unset PYTHONPATH; export PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1",
    )


def _own_path() -> list[str]:
    program = "import json, sys; print(json.dumps(sys.path))"
    done = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-I", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _locked_names() -> set[str]:
    """Names under which the packages of the lock are imported."""
    from packaging.utils import canonicalize_name

    from hyperhpc.doctor.packages import find_lock, read_lock

    lock = find_lock()
    pins = set(read_lock(lock)) if lock else set()
    return {
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if name.isidentifier() and pins & {canonicalize_name(o) for o in owners if o}
    }


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)  # looks, and does not import
    except (ImportError, ValueError):
        return None


def _outside(spec: importlib.machinery.ModuleSpec, inside: list[str]) -> str | None:
    """The folder a module or package was found in, unless it is one of those inside."""
    if not (spec.has_location and spec.origin):
        return None  # built in; or a folder without __init__.py, which hides no package
    for place in spec.submodule_search_locations or [spec.origin]:
        real = os.path.realpath(place)
        if not any(real.startswith(folder.rstrip("/") + "/") for folder in inside):
            return os.path.dirname(place)
    return None


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
