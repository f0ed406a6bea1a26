"""Attacks drawn from one table: each ends as its row says, or is a finding."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

import files
import integrity
import limits
import pytest
import races
import surroundings
from attack import FEW, PATIENCE_S, Attack, judge, run_case
from network import draw_request, send
from world import World

from browser_case import served
from child_case import Child
from run_case import RunCase

#: The table, by the names of its rows.
TABLE: dict[str, Attack] = {
    f"{attack.kind}: {attack.name}": attack
    for part in (files, integrity, limits, races, surroundings)
    for attack in part.rows()
}
#: Of all attacks, by what a case costs; those of rows with programs take seconds.
_SHARES = {
    "files: as an input": 0.2,
    "files: in a scene": 0.12,
    "files: in a run": 0.16,
    "files: odd names": 0.08,
    "integrity: of a run": 0.18,
    "integrity: of a scene": 0.1,
    "limits: of a process": 0.04,
    "limits: full streams": 0.02,
    "races: signals": 0.02,
    "races: the same command twice": 0.01,
    "surroundings: variables": 0.04,
    "surroundings: settings files": 0.03,
}
#: Rows of programs that take seconds each.
_SLOW = (
    "limits: of a process", "limits: full streams", "races: signals",
    "races: the same command twice", "surroundings: variables", "surroundings: settings files",
)  # fmt: skip
#: As many requests to the viewer, besides.
_REQUESTS = 0.1


@cache
def _world(folder: Path, scene: str, out: str) -> World:
    return World(Path(scene), Path(out), folder)


def look_at(folder: Path, scene: str, out: str, row: str, seed: int, number: int) -> str:
    """Draw a case, run it, judge it; in a child process."""
    world, attack = _world(folder, scene, out), TABLE[row]
    place = folder / "case"
    for path in folder.glob("case*"):
        shutil.rmtree(path)
    case = attack.draw(Random(f"{row} {seed} {number}"), world.lay_out(place))
    return judge(attack, case, run_case(case, place), lambda: world.alone(case.like or case.words))


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """Looks at attacks, one after the other."""
    child = Child(look_at, tmp_path_factory.mktemp("attacks"), patience_s=4 * PATIENCE_S)
    yield child
    child.close()


def test_table__is_whole() -> None:
    assert _SHARES.keys() == TABLE.keys()
    assert sum(_SHARES.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=pytest.mark.e2e if row in _SLOW else ()) for row in TABLE]
)
def test_attacks__end_as_the_table_says(
    row: str,
    child: Child,
    run_case: RunCase,
    tally: dict[str, Counter[str]],
    pytestconfig: pytest.Config,
) -> None:
    count = round(pytestconfig.getoption("--attacks", default=FEW) * _SHARES[row])
    seed = pytestconfig.getoption("--attack-seed", default=0)
    numbers = range(max(1, count))
    if only := pytestconfig.getoption("--attack-case", default=""):
        name, _, number = only.rpartition(": ")
        numbers = range(int(number), int(number) + 1) if name == row else range(0)
    findings = []
    for number in numbers:
        outcome = child.look_at(str(run_case.scene), str(run_case.out), row, seed, number)
        tally[row]["finding" if outcome.finding else outcome.label] += 1
        if outcome.finding:
            findings.append(f'--attack-case "{row}: {number}" (seed {seed}): {outcome.finding}')
    assert not findings, "\n\n".join(findings)


@pytest.mark.e2e
def test_viewer__gives_strangers_nothing(
    run_case: RunCase, tally: dict[str, Counter[str]], pytestconfig: pytest.Config
) -> None:
    count = max(5, round(pytestconfig.getoption("--attacks", default=FEW) * _REQUESTS))
    rng = Random(f"viewer {pytestconfig.getoption('--attack-seed', default=0)}")
    findings = []
    with served(run_case.out) as page:
        port, secret = int(page.url.split(":")[2].split("/")[0]), page.url.rsplit("/", 2)[1]
        for _ in range(count):
            request = draw_request(rng)
            answer = send(port, request)
            status = answer.split(b" ", 2)[1:2]
            is_refused = not answer or b"400" <= status[0] < b"500"
            if not is_refused or secret.encode() in answer:
                findings.append(f"{request[:300]!r} was answered: {answer[:300]!r}")
            tally["network: viewer"]["refused" if is_refused else "finding"] += 1
        code, _, err = page.stop()
    if code != 0 or "Traceback" in err or "Uncaught" in err:
        tally["network: viewer"]["finding"] += 1
        findings.append(f"exit code {code}, its owner saw: {err[:2000]}")
    assert not findings, "\n\n".join(findings)
