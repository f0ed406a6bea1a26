"""Limits of the control group this process is in, version 1 or 2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

#: Version 1 says "no limit" with a number near 2**63.
_ENDLESS = 2**60


@dataclass(frozen=True)
class Limits:
    """The smallest limit on the way from the process's own group to the root.

    Attributes
    ----------
    version
        ``v1``, ``v2`` or ``none``.
    group
        The group that memory is accounted to.
    cpus, memory_bytes
        None for no limit.
    """

    version: str
    group: str
    cpus: float | None
    memory_bytes: int | None


def read_limits(root: Path = Path("/")) -> Limits:
    """Read the limits; `root` is where proc and sys are looked for.

    Dask looks at the root of the hierarchy only, which is this process's group in a container
    of its own namespace, but not in a job of Slurm.
    """
    groups = _read_groups(root / "proc/self/cgroup")
    base = root / "sys/fs/cgroup"
    if "memory" in groups:
        memory, cpu = base / "memory", base / "cpu"
        if not cpu.exists():
            cpu = base / "cpu,cpuacct"
        amounts = [
            int(text)
            for folder in _upwards(memory, groups["memory"])
            if (text := _read(folder / "memory.limit_in_bytes")).isdecimal()
        ]
        shares = [
            _share(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))
            for folder in _upwards(cpu, groups.get("cpu", "/"))
        ]
        return Limits("v1", groups["memory"], _least(shares), _memory(amounts))
    if "" not in groups:
        return Limits("none", "", None, None)
    unified = base / "unified"
    folders = list(_upwards(unified if unified.exists() else base, groups[""]))
    amounts = [
        int(text)
        for folder in folders
        for name in ("memory.max", "memory.high")
        if (text := _read(folder / name)).isdecimal()
    ]
    shares = [_share(*(_read(folder / "cpu.max").split() or [""])) for folder in folders]
    return Limits("v2", groups[""], _least(shares), _memory(amounts))


def _read_groups(file: Path) -> dict[str, str]:
    """Controller to group; version 2's has no name."""
    groups: dict[str, str] = {}
    for line in _read(file).splitlines():
        _, controllers, group = line.split(":", 2)
        groups |= dict.fromkeys(controllers.split(","), group)
    return groups


def _upwards(mount: Path, group: str) -> Iterator[Path]:
    """The group's folder and those above it; some cannot be seen from within a container."""
    folder = mount / group.strip("/")
    while folder != mount and ".." not in folder.parts:
        if folder.is_dir():
            yield folder
        folder = folder.parent
    yield mount


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def _share(quota: str, period: str = "100000") -> float | None:
    """Cores, from microseconds allowed in a period; ``max`` and ``-1`` are no limit."""
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _least(values: list[float | None]) -> float | None:
    return min((value for value in values if value is not None), default=None)


def _memory(amounts: list[int]) -> int | None:
    return min((amount for amount in amounts if amount < _ENDLESS), default=None)
