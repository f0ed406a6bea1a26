"""Limits of the control group of this process, version 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Version 1 writes "no limit" with a number near 2**63.
_NO_LIMIT = 2**60


@dataclass(frozen=True)
class Limits:
    """The smallest limits of the process's own group and of those above it.

    ``version``: ``v1``, ``v2`` or ``none``. ``group``: The group whose memory is counted.
    ``cpus``, ``memory_bytes``: None for no limit.
    """

    version: str
    group: str
    cpus: float | None
    memory_bytes: int | None


def read_limits(root: Path = Path("/")) -> Limits:
    """Read the limits; `root` is the folder of proc and sys.

    Dask reads the root of the hierarchy only, which in a Slurm job is not the process's group.
    """
    groups = _read_groups(root / "proc/self/cgroup")
    base = root / "sys/fs/cgroup"
    if "memory" in groups:
        version, group = "v1", groups["memory"]
        amounts = [read_text(f / "memory.limit_in_bytes") for f in _upwards(base / "memory", group)]
        cpu = base / "cpu" if (base / "cpu").exists() else base / "cpu,cpuacct"
        shares = [
            _share(read_text(folder / "cpu.cfs_quota_us"), read_text(folder / "cpu.cfs_period_us"))
            for folder in _upwards(cpu, groups.get("cpu", "/"))
        ]
    elif "" in groups:
        version, group = "v2", groups[""]
        unified = base / "unified"
        folders = list(_upwards(unified if unified.exists() else base, group))
        amounts = [read_text(f / name) for f in folders for name in ("memory.max", "memory.high")]
        shares = [_share(*(read_text(folder / "cpu.max").split() or [""])) for folder in folders]
    else:
        return Limits("none", "", None, None)
    cpus = min((share for share in shares if share is not None), default=None)
    limits = (int(text) for text in amounts if text.isdecimal())
    memory = min((limit for limit in limits if limit < _NO_LIMIT), default=None)
    return Limits(version, group, cpus, memory)


def _read_groups(file: Path) -> dict[str, str]:
    """Controller to group; the controller of version 2 has no name."""
    groups: dict[str, str] = {}
    for line in read_text(file).splitlines():
        _, controllers, group = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), group)
    return groups


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """The group's folder and those above it; a container does not show all of them."""
    folder = mount / group.strip("/")
    while folder != mount and ".." not in folder.parts:
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield mount


def read_text(file: Path) -> str:
    """Text of a file of the kernel; empty if there is none."""
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _share(quota: str, period: str = "100000") -> float | None:
    """Cores, from microseconds allowed in a period; ``max`` and ``-1`` are no limit."""
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None
