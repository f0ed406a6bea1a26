"""Keep settings that a user made for other programs out of this one.

GDAL, PROJ, matplotlib and Dask read variables and files of the user. Hubs set
``GDAL_DISABLE_READDIR_ON_OPEN`` for remote files, theses set ``text.usetex``; either would change
numbers or end a run. :func:`isolate` must be called before one of these libraries is imported.
"""

from __future__ import annotations

import os
import pickle
from glob import glob
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

#: Beginnings of the names of variables that the libraries read and that no run may depend on.
_PREFIXES = (
    "GDAL_", "CPL_", "OGR_", "VSI_", "PROJ_", "SHAPE_", "DASK_", "MPLBACKEND",
    "MATPLOTLIBRC", "HDF5_",
)  # fmt: skip
#: They begin with one of these, but are set by the image, name the keys of a cluster that users
#: have started (docs/cluster.md), or are needed to open files on this machine at all.
_KEPT = (
    "DASK_TEMPORARY_DIRECTORY", "DASK_DISTRIBUTED__COMM__TLS__",
    "HDF5_PLUGIN_PATH", "HDF5_USE_FILE_LOCKING",
)  # fmt: skip

#: The variables that were set aside in this process, by name.
set_aside: dict[str, str] = {}


def isolate() -> None:
    """Remove the variables from this process and its children, and pass over Dask's YAML files."""
    for name in [name for name in os.environ if _is_foreign(name)]:
        set_aside[name] = os.environ.pop(name)
    if dask_files():
        _import_dask_alone()


def _is_foreign(name: str) -> bool:
    return name.startswith(_PREFIXES) and not name.startswith(_KEPT)


def dask_files() -> list[str]:
    """The files with configuration of Dask on this machine; those that only comment do not count.

    Dask itself writes files of comments into the home folder.
    """
    home = os.path.join(os.path.expanduser("~"), ".config", "dask")
    paths = [path for folder in ("/etc/dask", home) for path in sorted(glob(f"{folder}/*.y*ml"))]
    return [path for path in paths if _says_something(path)]


def _says_something(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return any(line.strip() and not line.lstrip().startswith(b"#") for line in file)
    except OSError:
        return True


def _import_dask_alone() -> None:
    """Import Dask, which reads its YAML files then, where it finds none."""
    before = {name: os.environ.get(name) for name in ("HOME", "DASK_ROOT_CONFIG")}
    os.environ.update(dict.fromkeys(before, os.devnull))
    try:
        import dask.config  # noqa: F401
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


class IsolatedProcess(SpawnProcess):
    """A process that is isolated before what it is to do is unpickled, which imports Dask."""

    def __reduce__(self) -> Any:
        """Hide what the process is to do in bytes."""
        return _rebuild, (bytes(ForkingPickler.dumps(vars(self))),)


def _rebuild(content: bytes) -> IsolatedProcess:
    isolate()
    process = IsolatedProcess.__new__(IsolatedProcess)
    vars(process).update(pickle.loads(content))  # noqa: S301 - from the process that starts it
    return process
