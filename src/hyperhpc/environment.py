"""Keep settings that a user made for other programs out of this one.

GDAL, PROJ, matplotlib and Dask read variables and files of the user. Hubs set
``GDAL_DISABLE_READDIR_ON_OPEN`` for remote files, theses set ``text.usetex``; either would change
numbers or end a run. :func:`isolate` must be called before one of these libraries is imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

#: Beginnings of the names of variables that the libraries read and that no run may depend on.
_PREFIXES = (
    "GDAL_", "CPL_", "OGR_", "VSI_", "PROJ_", "SHAPE_", "DASK_", "MPLBACKEND", "MATPLOTLIBRC",
)  # fmt: skip
#: They begin with one of these, but are set by the image and not by users.
_KEPT = ("DASK_TEMPORARY_DIRECTORY",)
#: The variables that were set aside in this process, by name.
set_aside: dict[str, str] = {}


def isolate() -> None:
    """Remove the variables from this process and its children, and pass over Dask's YAML files."""
    for name in [name for name in os.environ if name.startswith(_PREFIXES) and name not in _KEPT]:
        set_aside[name] = os.environ.pop(name)
    if dask_folders():
        with without_dask_files():
            import dask.config  # noqa: F401


def dask_folders() -> list[str]:
    """The folders with configuration of Dask that are on this machine."""
    home = os.path.join(os.path.expanduser("~"), ".config", "dask")
    return [folder for folder in ("/etc/dask", home) if os.path.isdir(folder)]


@contextmanager
def without_dask_files() -> Iterator[None]:
    """Let Dask, also in a process that starts meanwhile, find none of its YAML files."""
    before = {name: os.environ.get(name) for name in ("HOME", "DASK_ROOT_CONFIG")}
    if dask_folders():
        os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
