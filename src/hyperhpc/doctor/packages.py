"""Python and the packages, against the lock."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import platform
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hyperhpc
from hyperhpc.doctor.finding import Finding

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_LOCK = "requirements.lock"
#: Those that are compiled or that much else stands on, and are quick to import.
_IMPORTED = ("numpy", "h5py", "pyproj", "cryptography", "zarr", "distributed")


def check_python() -> Finding:
    """The interpreter, and where it and hyperhpc lie."""
    version = platform.python_version()
    value = (
        f"{platform.python_implementation()} {version} in {sys.prefix}; "
        f"hyperhpc {hyperhpc.__version__} in {Path(hyperhpc.__file__).parent}"
    )
    if not (3, 11) <= sys.version_info[:2] < (3, 14):
        return Finding("error", value, "make setup PYTHON=python3.11")
    return Finding("ok", value)


def find_lock() -> Path | None:
    """The lock this hyperhpc was tested with: in the wheel, or in the checkout."""
    shipped = Path(str(importlib.resources.files(hyperhpc) / _LOCK))
    checkout = Path(hyperhpc.__file__).resolve().parents[2] / "container" / _LOCK
    return next((path for path in (shipped, checkout) if path.is_file()), None)


def read_lock(lock: Path) -> dict[str, Requirement]:
    """Name to requirement, of the entries whose marker holds for this Python."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    text = re.sub(r"\\\n", " ", lock.read_text("utf-8"))
    entries = (re.sub(r"\s(--hash=|#).*", "", line).strip() for line in text.splitlines())
    pins = (Requirement(entry) for entry in entries if entry and not entry.startswith("#"))
    return {
        canonicalize_name(pin.name): pin
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def check_versions(lock: Path | None = None) -> Finding:
    """Installed versions against the lock's.

    A version that hyperhpc does not allow, or a missing package it needs, is an error;
    another version than the tested one is a warning: the results may differ in bits.
    """
    lock = lock or find_lock()
    if lock is None:
        return Finding("warning", "no lock found beside hyperhpc", "install hyperhpc's wheel")
    pins, needs = read_lock(lock), _needs()
    missing: list[str] = []
    unfit: list[str] = []
    other: list[str] = []
    for name, pin in pins.items():
        version = _version(name)
        wanted = str(pin.specifier).removeprefix("==")
        if version is None:
            if name in needs:  # others are for tests and building
                missing.append(f"{name} {wanted} is missing")
        elif not pin.specifier.contains(version, prereleases=True):
            unfit_here = any(
                not need.specifier.contains(version, prereleases=True)
                for need in needs.get(name, ())
            )
            (unfit if unfit_here else other).append(f"{name} {version} is not {wanted}")
    bad = missing + unfit
    if not bad + other:
        there = sum(_version(name) is not None for name in pins)
        return Finding("ok", f"{there} packages, each as in the lock")
    return Finding(
        "error" if bad else "warning", _some([*bad, *other], 6), _install_command(lock)
    )


def _some(items: list[str], count: int) -> str:
    more = f" and {len(items) - count} more" if len(items) > count else ""
    return ", ".join(items[:count]) + more


def _install_command(lock: Path) -> str:
    """How to get the locked packages, which depends on how this hyperhpc came here."""
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


def _needs() -> dict[str, list[Requirement]]:
    """Packages that hyperhpc needs to run, its own demands first, then theirs."""
    from packaging.utils import canonicalize_name

    needs: dict[str, list[Requirement]] = {}
    todo = ["hyperhpc"]
    while todo:
        for need in _requires(todo.pop()):
            name = canonicalize_name(need.name)
            if name not in needs:
                todo.append(name)
            needs.setdefault(name, []).append(need)
    return needs


def _requires(name: str) -> Iterator[Requirement]:
    from packaging.requirements import Requirement

    try:
        texts = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        texts = []
    for text in texts:
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield need


def check_imports() -> Finding:
    """Import, for real, the packages that break most easily."""
    broken = []
    for name in _IMPORTED:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - broken packages raise anything
            what = " ".join(str(error).split())[:120]
            broken.append(f"{name}: {type(error).__name__}: {what}")
    if broken:
        lock = find_lock()
        remedy = "unset PYTHONPATH; export PYTHONNOUSERSITE=1"
        if lock:
            remedy += f"; if that is not it: {_install_command(lock)}"
        return Finding("error", _some(broken, 2), remedy)
    return Finding("ok", ", ".join(_IMPORTED))
