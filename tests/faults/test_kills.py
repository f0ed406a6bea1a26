"""SIGKILL to every role of a run, at random moments: it resumes, with the same bits."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from kill_case import OPTIONS, Case, draw_kills
from tally import Tally

pytestmark = pytest.mark.faults

#: Kills of a case that end a start.
ENDS = 3
#: Of a gang: scheduler, client and two workers.
TASKS = 4


def one_process(number: int) -> Sequence[Mapping[str, str]]:
    """A run on this machine."""
    return [{}]


def gang_of_tasks(number: int) -> Sequence[Mapping[str, str]]:
    """What srun sets for the tasks of a job that was requeued so often."""
    job = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": str(TASKS), "SLURM_JOB_NUM_NODES": "1"}
    job |= {"SLURM_MEM_PER_NODE": str(TASKS * 600), "SLURM_RESTART_COUNT": str(number)}
    return [job | {"SLURM_PROCID": str(rank)} for rank in range(TASKS)]


def share(request: pytest.FixtureRequest, of_gangs: bool) -> int:
    """How many kills: a fifth of them for gangs, which start four times as many processes."""
    kills = int(request.config.getoption("--kills", default=40))
    return kills // 5 if of_gangs else kills - kills // 5


@pytest.mark.parametrize(
    ("roles", "options", "environments"),
    [
        (("driver", "driver", "group"), ("--workers", "2"), one_process),
        (("scheduler", "client", "nanny"), ("--launcher", "gang"), gang_of_tasks),
    ],
    ids=["local", "gang"],
)
def test_run__killed_anywhere_resumes_with_the_same_bits(
    roles: Sequence[str],
    options: Sequence[str],
    environments: Callable[[int], Sequence[Mapping[str, str]]],
    tiled_scene: Path,
    alone: Path,
    tally: Tally,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    wanted = tally.kills.total() + share(request, "gang" in options)
    first = int(request.config.getoption("--kill-seed", default=0))
    for seed in itertools.count(first):
        begin, before = time.monotonic(), tally.kills.total()
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        words = ("run", tiled_scene, folder / "out", *OPTIONS, *options)
        case = Case(words, folder / "out", folder, environments, 2, rng, tally)
        kills = draw_kills(rng, roles, ENDS)
        try:
            case.play(kills)
            case.check_same(alone)
        except BaseException as error:
            which = request.node.callspec.id
            error.add_note(f"to see it again: -k {which} --kills 1 --kill-seed {seed}")
            error.add_note(case.log.read_text("utf-8", "replace"))
            raise
        done, seconds = tally.kills.total(), time.monotonic() - begin
        said = f"case {seed}: {done - before} kills, {case.starts} starts, {seconds:.0f} s"
        print(said, flush=True)
        if done >= wanted:
            return
