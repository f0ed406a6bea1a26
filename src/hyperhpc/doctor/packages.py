"""Python, the installed packages, where they come from, and how they are set."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import importlib.resources
import importlib.util
import json
import os
import platform
import re
import shlex
import site
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import hyperhpc
from hyperhpc.doctor.finding import Finding
from hyperhpc.errors import cause

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_LOCK = "requirements.lock"
#: Packages that are compiled or that many others need, and that import quickly.
_IMPORTED = ("numpy", "h5py", "pyproj", "cryptography", "zarr", "distributed")


def check_python() -> Finding:
    """Check the version of Python; show where it and hyperhpc are installed."""
    version = platform.python_version()
    value = (
        f"{platform.python_implementation()} {version} in {sys.prefix}; "
        f"hyperhpc {hyperhpc.__version__} in {Path(hyperhpc.__file__).parent}"
    )
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("error", value, "make setup PYTHON=python3.11")
    return Finding("ok", value)


def find_lock() -> Path | None:
    """Find the lock this hyperhpc was tested with: in the wheel, or in the checkout."""
    shipped = Path(str(importlib.resources.files(hyperhpc) / _LOCK))
    checkout = Path(hyperhpc.__file__).resolve().parents[2] / "container" / _LOCK
    return next((path for path in (shipped, checkout) if path.is_file()), None)


def read_lock(lock: Path) -> dict[str, Requirement]:
    """Read name and requirement of the entries that apply to this Python."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = re.sub(r"\\\n", " ", lock.read_text("utf-8"))
    entries = (re.sub(r"\s(--hash=|#).*", "", line).strip() for line in text.splitlines())
    pins = (Requirement(entry) for entry in entries if entry and not entry.startswith("#"))
    valid = (pin for pin in pins if pin.marker is None or pin.marker.evaluate())
    return {canonicalize_name(pin.name): pin for pin in valid}


def check_versions(lock: Path | None = None) -> Finding:
    """Compare the installed versions with the lock.

    A version that hyperhpc does not allow, or a missing package that it needs, is an error;
    any other version than the tested one is a warning: the results may differ in bits.
    """
    lock = lock or find_lock()
    if lock is None:
        return Finding("warning", "no lock was found with hyperhpc", "install hyperhpc's wheel")
    pins, needs = read_lock(lock), _find_needs()
    missing: list[str] = []
    not_allowed: list[str] = []
    not_tested: list[str] = []
    for name, pin in pins.items():
        version = _version(name)
        wanted = str(pin.specifier).removeprefix("==")
        if version is None:
            if name in needs:  # the others are for tests and builds
                missing.append(f"{name} {wanted} is missing")
        elif not pin.specifier.contains(version, prereleases=True):
            allowed = (need.specifier for need in needs.get(name, ()))
            is_allowed = all(span.contains(version, prereleases=True) for span in allowed)
            (not_tested if is_allowed else not_allowed).append(f"{name} {version} is not {wanted}")
    bad = missing + not_allowed
    if not bad + not_tested:
        count = sum(_version(name) is not None for name in pins)
        return Finding("ok", f"{count} packages, each as in the lock")
    return Finding(
        "error" if bad else "warning", _list_some([*bad, *not_tested], 6), _install_command(lock)
    )


def _list_some(items: list[str], count: int) -> str:
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(items[:count]) + more


def _install_command(lock: Path) -> str:
    """The command that installs the locked packages, by the way hyperhpc was installed."""
    if sys.prefix.startswith("/opt/hyperhpc/"):
        return "use the image as it was built: unset PYTHONPATH, export PYTHONNOUSERSITE=1"
    if lock.parent.name == "container" and (lock.parent / "venv.sh").exists():
        return "make setup, then . .venv/bin/activate"
    python = shlex.quote(sys.executable or "python3")
    return f"{python} -m pip install --require-hashes -r {shlex.quote(str(lock))}"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name) or None
    except (importlib.metadata.PackageNotFoundError, KeyError):
        return None  # KeyError: metadata without a version, as a broken install leaves it


def _find_needs() -> dict[str, list[Requirement]]:
    """Requirements of hyperhpc, and of the packages that it needs, by name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    needs: dict[str, list[Requirement]] = {}
    todo = ["hyperhpc"]
    while todo:
        texts: list[str] = []
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            texts = importlib.metadata.requires(todo.pop()) or []
        for need in map(Requirement, texts):
            name = canonicalize_name(need.name)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                if name not in needs:
                    todo.append(name)
                needs.setdefault(name, []).append(need)
    return needs


def check_imports() -> Finding:
    """Import the packages that break most easily."""
    broken = []
    for name in _IMPORTED:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - broken packages raise anything
            broken.append(f"{name}: {cause(error)}")
    if broken:
        remedy = "unset PYTHONPATH; export PYTHONNOUSERSITE=1"
        if lock := find_lock():
            remedy += f"; if this does not help: {_install_command(lock)}"
        return Finding("error", _list_some(broken, 2), remedy)
    return Finding("ok", ", ".join(_IMPORTED))


# --- packages and settings from outside this environment -----------------------------

_PATH_VARIABLES = ("PYTHONPATH", "PYTHONHOME")


def check_pythonpath() -> Finding:
    """Check if variables put folders before the installed packages."""
    found = [f"{name}={os.environ[name]}" for name in _PATH_VARIABLES if os.environ.get(name)]
    if found:
        return Finding("warning", ", ".join(found), f"unset {' '.join(_PATH_VARIABLES)}")
    return Finding("ok", "not set")


def check_user_site() -> Finding:
    """Check if packages below the home folder are visible."""
    try:
        folder = Path(site.getusersitepackages())
        names = sorted(path.name for path in folder.iterdir() if path.name != "__pycache__")
    except OSError:
        names = []
    if not site.ENABLE_USER_SITE:
        return Finding("ok", "off" + (f"; {folder} is not used" if names else ""))
    if not names:
        return Finding("ok", "on, and empty")
    packages = [name for name in names if not name.endswith((".dist-info", ".egg-info"))]
    shown = ", ".join((packages or names)[:5])
    return Finding("warning", f"{folder} is visible: {shown}", "export PYTHONNOUSERSITE=1")


def check_conda() -> Finding:
    """Check if a conda environment is active that is not this Python's."""
    prefix = os.environ.get("CONDA_PREFIX")
    if not prefix:
        return Finding("ok", "none active")
    if Path(sys.prefix).resolve() == Path(prefix).resolve():
        return Finding("ok", f"this Python belongs to {prefix}")
    value = f"{prefix} is active, but this Python does not belong to it"
    return Finding("warning", value, "conda deactivate")


def check_origins() -> Finding:
    """Check if modules come from outside the environment.

    Inside are the folders that the same interpreter searches when it ignores variables, the
    home folder and the current folder. A package of the lock, or a module of Python itself,
    from any other folder is an error: it is not the one that was tested.
    """
    inside = [os.path.realpath(entry) for entry in _isolated_path()]
    locked = _locked_names()
    specs = {name: _find(name) for name in locked}
    modules = {name: module for name, module in sys.modules.copy().items() if "." not in name}
    specs |= {name: getattr(module, "__spec__", None) for name, module in modules.items()}
    outside: dict[str, list[str]] = {}
    for name, spec in sorted(specs.items()):
        if spec is not None and (folder := _find_outside(spec, inside)):
            outside.setdefault(folder, []).append(name)
    if not outside:
        return Finding("ok", f"all modules come from {sys.prefix} and its Python")
    known = locked | sys.stdlib_module_names
    return Finding(
        "error" if any(known.intersection(names) for names in outside.values()) else "warning",
        "; ".join(f"from {folder}: {_list_some(names, 4)}" for folder, names in outside.items()),
        "unset PYTHONPATH; export PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1",
    )


def _isolated_path() -> list[str]:
    program = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    shown = subprocess.check_output(  # noqa: S603 - this very interpreter
        program, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=60
    )
    return json.loads(shown.splitlines()[-1])


def _locked_names() -> set[str]:
    """Names under which the packages of the lock are imported."""
    from packaging.utils import canonicalize_name

    lock = find_lock()
    pins = set(read_lock(lock)) if lock else set()
    return {
        name
        for name, owners in importlib.metadata.packages_distributions().items()
        if name.isidentifier() and pins & {canonicalize_name(o) for o in owners if o}
    }


def _find(name: str) -> importlib.machinery.ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)  # searches, and does not import
    except (ImportError, ValueError):
        return None


def _find_outside(spec: importlib.machinery.ModuleSpec, inside: list[str]) -> str | None:
    """The folder in which a module was found, if it is not inside the environment."""
    if not (spec.has_location and spec.origin):
        return None  # built in, or a namespace package, which hides no other
    for location in spec.submodule_search_locations or [spec.origin]:
        real = os.path.realpath(location)
        if not any(real.startswith(folder.rstrip("/") + "/") for folder in inside):
            return os.path.dirname(location)
    return None


# --- settings of libraries: of the user, threads, BLAS, codecs of Zarr -----------------


def check_settings() -> Finding:
    """Name the variables and files of GDAL, PROJ, matplotlib and Dask that are passed over."""
    from hyperhpc.environment import set_aside, settings_files

    found = [*sorted(set_aside), *settings_files()]
    return Finding("ok", f"passed over: {', '.join(found)}" if found else "none")


def check_threads(cores: int | None = None) -> Finding:
    """Check the variables that set how many threads libraries start."""
    from hyperhpc.workers.dask_setup import THREAD_VARIABLES

    cores = cores or len(os.sched_getaffinity(0))
    given = {name: os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name)}
    if not given:
        return Finding("ok", "not set; hyperhpc gives each worker 1")
    value = ", ".join(f"{name}={text}" for name, text in given.items())
    if len(given) == len(THREAD_VARIABLES) and len(different := set(given.values())) == 1:
        value = f"{different.pop()} in all {len(given)} variables"
    bad = [name for name, text in given.items() if not _fits(text, cores)]
    if bad:
        remedy = "export " + " ".join(f"{name}=1" for name in bad)
        return Finding("warning", f"{value}, on {cores} core{'s' * (cores > 1)}", remedy)
    return Finding("ok", value)


def _fits(text: str, cores: int) -> bool:
    first = text.split(",")[0].strip()  # OpenMP takes a list, one number per level
    return first.isdecimal() and 1 <= int(first) <= cores


def check_blas(cores: int | None = None) -> Finding:
    """Check the number of threads of the BLAS that numpy has loaded."""
    import numpy as np
    from threadpoolctl import threadpool_info

    cores = cores or len(os.sched_getaffinity(0))
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return Finding("ok", f"numpy {np.__version__} has one threadpoolctl does not know")
    value = ", ".join(
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')}), "
        f"{pool['num_threads']} thread{'s' * (pool['num_threads'] > 1)}"
        for pool in pools
    )
    if any(pool["num_threads"] > cores for pool in pools):
        return Finding("warning", f"{value}, on {cores} cores", "export OPENBLAS_NUM_THREADS=1")
    return Finding("ok", value)


def check_codecs() -> Finding:
    """Check that Zarr's codec pipeline returns what was written."""
    import numpy as np
    import zarr

    path = zarr.config.get("codec_pipeline.path")
    value = f"{path.rpartition('.')[2]} of zarr {zarr.__version__}"
    if importlib.util.find_spec("zarrs") is None:
        value += "; zarrs is not installed"
    written = np.arange(24, dtype="int16").reshape(4, 6)
    remedy = "Install zarr again"
    try:
        array = zarr.create_array({}, shape=(4, 6), chunks=(2, 6), dtype="int16")
        array[:] = written
        is_same = np.array_equal(array[:], written)
    except Exception as error:  # noqa: BLE001 - whatever a foreign pipeline raises
        return Finding("error", f"{path} fails: {cause(error)}", remedy)
    if not is_same:
        return Finding("error", f"{path} does not return what was written", remedy)
    return Finding("ok", value)
