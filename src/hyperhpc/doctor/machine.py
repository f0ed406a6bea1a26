"""Cores and memory, as the machine has them and as this process may use them."""

from __future__ import annotations

import math
import os
from pathlib import Path

from hyperhpc.doctor.cgroup import read_limits
from hyperhpc.doctor.finding import Finding, gib

#: Part of a limit that workers are given: the rest is for what nobody counts.
_SHARE = 0.9
_MIB = 2**20


def usable() -> tuple[int, int]:
    """Cores and bytes that ``hyperhpc run`` would take by itself."""
    from hyperhpc.workers.sizes import usable_cores, usable_memory

    return usable_cores(), usable_memory()


def run_options(cores: float, memory_bytes: int) -> str:
    """The command that stays within these cores and this memory."""
    from hyperhpc.workers.sizes import BASE_BYTES

    promise, room = _default_memory(), int(memory_bytes * _SHARE)
    count = max(1, min(int(cores), room // promise))
    command = f"hyperhpc run SCENE OUT --workers {count}"
    each = room // count
    if each < promise:
        command += f" --memory-per-worker {max(each, BASE_BYTES) // _MIB}MiB"
    return command


def _default_memory() -> int:
    from hyperhpc.config import RunConfig, parse_memory

    return parse_memory(RunConfig.memory_per_worker)


def check_cores() -> Finding:
    """Cores of the machine, and those this process may run on."""
    allowed = len(os.sched_getaffinity(0))
    total = os.cpu_count() or allowed
    load = os.getloadavg()[0]  # no reason to warn: it may be the run one is looking at
    return Finding("ok", f"{allowed} of {total} by affinity, load {load:.1f}")


def check_memory() -> Finding:
    """Memory of the machine, and what is available now."""
    import psutil

    from hyperhpc.workers.sizes import BASE_BYTES

    memory, promise = psutil.virtual_memory(), _default_memory()
    value = f"{gib(memory.total)}, {gib(memory.available)} available"
    if memory.available < 2 * BASE_BYTES:
        least = f"less than the {gib(2 * BASE_BYTES)} of one worker and its scheduler"
        return Finding("error", f"{value}: {least}", "end other programs, or ask for more")
    if memory.available < promise:
        less = f"less than one worker's {gib(promise)}"
        return Finding("warning", f"{value}: {less}", run_options(1, memory.available))
    return Finding("ok", value)


def check_cgroup(root: Path = Path("/"), seen: tuple[int, int] | None = None) -> Finding:
    """Limits of the control group, and whether ``hyperhpc run`` would keep them.

    Parameters
    ----------
    root
        Where proc and sys are looked for.
    seen
        Cores and bytes that a run would take; by default those it would take here.
    """
    limits = read_limits(root)
    if limits.version == "none":
        return Finding("ok", "none")
    cores, memory = seen or usable()
    parts = []
    if limits.cpus is not None:
        parts.append(f"{limits.cpus:.4g} cores")
    if limits.memory_bytes is not None:
        parts.append(gib(limits.memory_bytes))
    value = f"{limits.version}: {', '.join(parts) or 'no limit'}"
    most_cores = math.ceil(limits.cpus) if limits.cpus else cores
    most_memory = limits.memory_bytes or memory
    if cores > most_cores or memory > most_memory:
        takes = f"a run would take {cores} cores and {gib(memory)}"
        return Finding("warning", f"{value}; {takes}", run_options(most_cores, most_memory))
    return Finding("ok", value)
