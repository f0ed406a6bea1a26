"""Folders in which files are made: scratch and caches."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from hyperhpc.doctor.finding import Finding, format_bytes

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = re.compile(
    r"9p|afs|beegfs\w*|ceph|cifs|daos|(fuse\.)?(gluster|weka|juice|cvm|ceph)\w*|fuse\.sshfs|"
    r"glusterfs|gpfs|lustre|nfs\d?|orangefs|panfs|pvfs2|smb\d?|smbfs|wekafs"
)
#: With less free space than the first most runs fail. Apptainer's --contain gives 64 MiB.
_MIN_BYTES, _GOOD_BYTES = 16 * 2**20, 2**30


def check_tmpdir(mounts: Path = _MOUNTS) -> Finding:
    """Check that the scratch folder can be written, is on this node and has room."""
    asked = os.environ.get("TMPDIR")
    other_folder = "export TMPDIR=$(mktemp -d /tmp/hyperhpc-XXXXXX)"
    try:
        folder = Path(asked or tempfile.gettempdir())
    except FileNotFoundError as error:
        return Finding("error", str(error), "export TMPDIR=FOLDER")
    problem = why_not_writable(folder)
    if problem:
        bind = '; in a container: --bind "$TMPDIR"' if asked else ""
        return Finding("error", f"{folder}: {problem}", other_folder + bind)
    free, kind = shutil.disk_usage(folder).free, mount_type(folder, mounts)
    value = f"{folder}{'' if asked else ' (TMPDIR is not set)'}, {kind}, {format_bytes(free)} free"
    if kind == "tmpfs":
        value += "; its files count as memory"
    if free < _GOOD_BYTES:
        remedy = "export TMPDIR=FOLDER with 1 GiB of room; with --contain also --workdir FOLDER"
        return Finding("error" if free < _MIN_BYTES else "warning", value, remedy)
    if is_network(kind):
        remedy = f"{other_folder}, or what your site names as node-local"
        return Finding("warning", f"{value}; a network file system", remedy)
    return Finding("ok", value)


def is_network(kind: str) -> bool:
    """True for file systems that several nodes share."""
    return _NETWORK.fullmatch(kind) is not None


def why_not_writable(folder: Path) -> str | None:
    """Write a file to see if it is possible, as modes do not show it; None if it is."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        return error.strerror or str(error)
    return None


def mount_type(folder: Path, mounts: Path = _MOUNTS) -> str:
    """Type of the file system of a folder, by the longest mount point above it."""
    real = os.path.realpath(folder)
    best, kind = "", "an unknown file system"
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return kind
    for line in lines:
        before, _, after = line.partition(" - ")
        words, types = before.split(), after.split()
        if len(words) < 5 or not types:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])
        inside = real == point or real.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):  # a later mount hides an earlier one
            best, kind = point, types[0]
    return kind


def check_caches() -> Finding:
    """Check the folders where libraries keep compiled code and lists of fonts."""
    home = os.path.expanduser("~")
    defaults = {
        "XDG_CACHE_HOME": f"{home}/.cache",
        "XDG_CONFIG_HOME": f"{home}/.config",
        "MPLCONFIGDIR": f"{os.environ.get('XDG_CONFIG_HOME') or home + '/.config'}/matplotlib",
        "NUMBA_CACHE_DIR": None,  # numba writes next to the code, or else below the cache
        "XDG_DATA_HOME": None,
    }
    folders = {name: os.environ.get(name) or default for name, default in defaults.items()}
    found = {name: folder for name, folder in folders.items() if folder}
    problems = {name: _why_not_creatable(Path(folder)) for name, folder in found.items()}
    if bad := {name: problem for name, problem in problems.items() if problem}:
        settings = " ".join(f'{name}="${{TMPDIR:-/tmp}}/{name.lower()}"' for name in bad)
        value = "; ".join(f"{name} {found[name]}: {problem}" for name, problem in bad.items())
        return Finding("warning", value, f"export {settings}")
    writable = ", ".join(f"{name} {folder}" for name, folder in found.items())
    return Finding("ok", f"writable: {writable}")


def _why_not_creatable(folder: Path) -> str | None:
    """None if the folder can be written or made; nothing is left behind."""
    if not folder.is_absolute():
        return "not an absolute path"
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return why_not_writable(folder)
