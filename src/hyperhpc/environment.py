"""Keep settings that a user made for other programs out of this one.

GDAL, PROJ, HDF5, Zarr, matplotlib and Dask read variables and files of the user. Hubs set
``GDAL_DISABLE_READDIR_ON_OPEN`` for remote files, theses set ``text.usetex``; either would change
numbers or end a run. :func:`isolate` must be called before one of these libraries is imported.
"""

from __future__ import annotations

import os
import pickle
import signal
from glob import glob
from importlib import import_module
from importlib.util import find_spec
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

#: Beginnings of the names of variables that the libraries read and that no run may depend on.
_PREFIXES = (
    "GDAL_", "CPL_", "OGR_", "VSI_", "PROJ_", "SHAPE_", "DASK_", "MPLBACKEND",
    "MATPLOTLIBRC", "HDF5_", "ZARR_",
)  # fmt: skip
#: They begin with one of these, but are set by the image, name the keys of a cluster that users
#: have started (docs/cluster.md), or are needed to open files on this machine at all.
_KEPT = (
    "DASK_TEMPORARY_DIRECTORY", "DASK_DISTRIBUTED__COMM__TLS__",
    "HDF5_PLUGIN_PATH", "HDF5_USE_FILE_LOCKING",
)  # fmt: skip

#: All signals that end a command in order: of a batch system, of a closed terminal, of Ctrl-\\.
TERMINATIONS = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

#: The variables that were set aside in this process, by name.
set_aside: dict[str, str] = {}


#: Libraries that read YAML files of their own in the same folders, and the module that reads them.
_READERS = {"dask": "dask.config", "zarr": "zarr.core.config"}


def isolate() -> None:
    """Remove the variables from this process and its children, and pass over the files."""
    for name in [name for name in os.environ if _is_foreign(name)]:
        set_aside[name] = os.environ.pop(name)
    for library, module in _READERS.items():
        if _yaml_files(library):
            devnull = {"HOME": os.devnull, f"{library.upper()}_ROOT_CONFIG": os.devnull}
            _import_alone(module, devnull)
    if _matplotlib_files():
        _import_matplotlib_alone()


def _is_foreign(name: str) -> bool:
    return name.startswith(_PREFIXES) and not name.startswith(_KEPT)


def settings_files() -> list[str]:
    """The files of the user on this machine that are passed over."""
    return [*(path for library in _READERS for path in _yaml_files(library)), *_matplotlib_files()]


def _yaml_files(library: str) -> list[str]:
    """The YAML files of a library; those that only comment do not count.

    Dask itself writes files of comments into the home folder.
    """
    home = os.path.join(os.path.expanduser("~"), ".config", library)
    folders = (f"/etc/{library}", home)
    paths = [path for folder in folders for path in sorted(glob(f"{folder}/*.y*ml"))]
    return [path for path in paths if _says_something(path)]


def _matplotlib_files() -> list[str]:
    """The files that matplotlib would read: of the working folder, and of the user."""
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    folders = ("", os.environ.get("MPLCONFIGDIR"), os.path.join(config, "matplotlib"))
    paths = [os.path.join(folder, "matplotlibrc") for folder in folders if folder is not None]
    return [path for path in paths if os.path.isfile(path)]


def _says_something(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return any(line.strip() and not line.lstrip().startswith(b"#") for line in file)
    except OSError:
        return True


def _import_alone(module: str, variables: dict[str, str]) -> None:
    """Import a module, which reads its settings then, with other variables meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        import_module(module)
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _import_matplotlib_alone() -> None:
    """Import matplotlib with its own settings; it would look in the working folder first."""
    found = find_spec("matplotlib")
    if found is None or found.origin is None:
        return
    own = os.path.join(os.path.dirname(found.origin), "mpl-data", "matplotlibrc")
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir("/")
        _import_alone("matplotlib", {"MATPLOTLIBRC": own})
    finally:
        os.fchdir(here)
        os.close(here)


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
