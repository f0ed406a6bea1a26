"""The Slurm allocation, if any, and whether Slurm can be asked from here."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from hyperhpc.doctor.cgroup import read_limits
from hyperhpc.doctor.finding import Finding, gib
from hyperhpc.doctor.machine import run_options, usable

_COMMANDS = ("sbatch", "squeue", "scancel", "srun", "sinfo", "scontrol")
#: The last is where nodes without a file of their own keep what the controller sent.
_CONFIGURATIONS = (
    "etc/slurm/slurm.conf",
    "etc/slurm-llnl/slurm.conf",
    "run/slurm/conf/slurm.conf",
)
_SOCKETS = ("run/munge/munge.socket.2", "var/run/munge/munge.socket.2")


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and int(text) else None


def in_job() -> bool:
    """True inside a Slurm job."""
    return bool(os.environ.get("SLURM_JOB_ID"))


def check_allocation(root: Path = Path("/"), seen: tuple[int, int] | None = None) -> Finding:
    """What Slurm gave this job here, and whether ``hyperhpc run`` would keep to it.

    Parameters
    ----------
    root
        Where proc and sys are looked for.
    seen
        Cores and bytes that a run would take; by default those it would take here.
    """
    if not in_job():
        group = read_limits(root).group
        if "/slurm" in group and "/job_" in group:
            return Finding(
                "warning",
                f"the control group {group} is a job's, but no SLURM_* variable is here",
                "leave out --cleanenv, or hand them over as APPTAINERENV_SLURM_*",
            )
        return Finding("ok", "none: this is no Slurm job")
    cpus = _number("SLURM_CPUS_ON_NODE")
    memory = _memory(cpus)
    nodes = _number("SLURM_JOB_NUM_NODES") or _number("SLURM_NNODES") or 1
    tasks = _number("SLURM_NTASKS") or 1
    value = (
        f"job {os.environ['SLURM_JOB_ID']}: {_count(nodes, 'node')}, {_count(tasks, 'task')}; "
        f"here {_count(cpus, 'core') if cpus else 'some cores'}, "
        f"{gib(memory) if memory else 'no limit of memory'}"
    )
    cores, available = seen or usable()
    if (cpus and cores > cpus) or (memory and available > memory):
        takes = f"a run would take {cores} cores and {gib(available)}"
        least = min(cores, cpus or cores), min(available, memory or available)
        return Finding("warning", f"{value}; {takes}", run_options(*least))
    each = _number("SLURM_CPUS_PER_TASK")
    if each and cores < each and os.environ.get("SLURM_STEP_ID", "").isdecimal():
        # Since Slurm 22.05 srun no longer takes it over from sbatch
        return Finding(
            "warning",
            f"{value}; this step has {cores} of its {each} cores",
            f"srun --cpus-per-task={each} ...",
        )
    return Finding("ok", value)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _memory(cpus: int | None) -> int | None:
    """Bytes of this job on this node; Slurm counts in MiB."""
    per_node, per_cpu = _number("SLURM_MEM_PER_NODE"), _number("SLURM_MEM_PER_CPU")
    if per_node:
        return per_node * 2**20
    return per_cpu * cpus * 2**20 if per_cpu and cpus else None


def check_commands(root: Path = Path("/")) -> Finding:
    """Slurm's commands, configuration and munge's socket: what a driver job needs."""
    commands = [name for name in _COMMANDS if shutil.which(name)]
    named = os.environ.get("SLURM_CONF", "").lstrip("/")
    files = [named] if named else _CONFIGURATIONS
    configuration = next((f"/{name}" for name in files if (root / name).exists()), None)
    munge = any((root / name).exists() for name in _SOCKETS)
    if not commands:
        bridge = " (a gang job needs none)" if in_job() else ""
        also = f"; {configuration} is visible" if configuration else ""
        return Finding("ok", f"no commands visible{bridge}{also}")
    value = f"{' '.join(commands)}; {configuration or 'no slurm.conf'}"
    value += ", munge" if munge else ", no munge socket"
    if not configuration or not munge:
        binds = "/etc/slurm,/run/munge,/etc/passwd"
        return Finding(
            "warning", value, f"in a container: --bind {binds}; else export SLURM_CONF=FILE"
        )
    return Finding("ok", value)
