"""--drop auto: the bands with most noise are left out, and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cli_case import call, check_refused
from hyperhpc.compute.selection import resolve_drop, select_bands
from hyperhpc.config import load_config
from hyperhpc.scene import open_scene
from zarr_case import write

NM = 390.0 + 10.0 * np.arange(210)
NOISY = [30, 31, 160]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Gentle spectra of 64 x 64 pixels; three bands have noise of a fifth of their values."""
    rng = np.random.default_rng(4)
    phase, height = rng.uniform(0, 6, (64, 64, 1)), rng.uniform(0.2, 0.4, (64, 64, 1))
    cube = height * (1.3 + 0.3 * np.sin(NM / 300 + phase))
    cube += rng.normal(0, 0.002, cube.shape)
    cube[..., NOISY] += rng.normal(0, 0.08, (64, 64, len(NOISY)))
    coords = {"x": 500000.5 + np.arange(64), "y": 4100010.5 - np.arange(64), "wl": NM}
    path = tmp_path_factory.mktemp("noisy") / "scene.zarr"
    return write(path, np.round(cube * 10000).astype(np.int16), coords=coords)


def test_drop_auto__leaves_out_the_noisy_bands_and_what_the_default_does(scene: Path) -> None:
    opened = open_scene(scene)
    config = load_config(scene, "out", {"drop": "auto"})
    noted, resolved = resolve_drop(opened, config)
    usual = set(select_bands(opened).bands.tolist())
    kept = set(select_bands(opened, resolved.drop).bands.tolist())
    # the neighbours of a noisy band lie off the line too
    assert set(NOISY) <= usual - kept <= {n + d for n in NOISY for d in (-1, 0, 1)}
    (note,) = set(noted.notes) - set(opened.notes)
    assert note.startswith(f"--drop auto leaves out {len(usual - kept)} bands whose median")
    json.dumps(resolved.drop, allow_nan=False)


def test_drop_auto__of_a_plan_says_so(scene: Path, tmp_path: Path) -> None:
    plan = json.loads(call("plan", scene, tmp_path / "out", "--drop", "auto", "--json").out)
    usual = json.loads(call("plan", scene, tmp_path / "out", "--json").out)
    assert int(plan["bands"].split()[0]) < int(usual["bands"].split()[0])
    assert any(note.startswith("--drop auto leaves out") for note in plan["notes"])


def test_drop_auto__stands_alone(scene: Path, tmp_path: Path) -> None:
    words = ("plan", scene, tmp_path / "out", "--drop", "auto", "--drop", "1340-1445")
    check_refused(call(*words), 2, "or auto alone")
