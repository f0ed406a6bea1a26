"""Damaged scenes end in an error that says something, or give the numbers they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from campaign import Campaign
from formats import FORMATS
from scene_case import damage_scene

from child_case import Child
from cli_case import spawn

pytestmark = pytest.mark.faults

#: 0 and the errors' own; 2 is a usage error, and there is none here.
CODES = {0, 3, 4, 5, 6, 7}


@pytest.mark.parametrize("kind", FORMATS)
def test_scenes__are_refused_or_read_right(kind: str, campaign: Campaign, child: Child) -> None:
    findings = []
    for case in campaign.share(0.71 / len(FORMATS)):
        outcome = child.look_at(kind, campaign.seed, case)
        campaign.tally[kind]["finding" if outcome.finding else outcome.label] += 1
        if outcome.finding:
            findings.append(f"replay.py {kind} {campaign.seed} {case}: {outcome.finding}")
    assert not findings, "\n\n".join(findings)


@pytest.mark.parametrize("command", ["info", "plan"])
def test_commands__end_in_words(
    command: str, campaign: Campaign, whole_scenes: Path, tmp_path: Path
) -> None:
    findings = []
    seed = campaign.seed + 1  # other cases than those above
    for case in campaign.share(0.005):
        kind = list(FORMATS)[case % len(FORMATS)]
        place = tmp_path / str(case)
        place.mkdir()
        damaged = damage_scene(kind, whole_scenes / kind, place / "scene", seed, case)
        out = [place / "out"] if command == "plan" else []
        done = spawn(command, damaged.path, *out, "--json")
        sound = done.code in CODES and "Traceback" not in done.err
        if done.code == 0:
            sound = sound and isinstance(json.loads(done.out), dict)
        else:
            sound = sound and bool(done.error) and not done.out
        sound = sound and not (place / "out").exists()
        campaign.tally[command][f"exit code {done.code}" if sound else "finding"] += 1
        if not sound:
            findings.append(f"replay.py {kind} {seed} {case}: {damaged.what}: {done}")
    assert not findings, "\n\n".join(findings)
