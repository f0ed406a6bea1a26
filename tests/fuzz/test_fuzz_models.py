"""Damaged models of another run are refused, or hold nothing but numbers."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from campaign import Campaign
from direct import BANDS, NB
from mutations import damage_json
from scene_case import check_refusal

from hyperhpc.compute.fit.applied import read_applied
from hyperhpc.errors import HyperhpcError
from hyperhpc.scene import open_scene

pytestmark = pytest.mark.faults

CENTRES = np.random.default_rng(0).random((3, NB)).tolist()
FILES = {
    "model.json": {
        "wavelength_nm": BANDS.tolist(),
        "mean": [0.2] * NB,
        "scale": [0.1] * NB,
        "n_pixels_fit": 6,
        "models": {"lloyd": {"centers": CENTRES, "counts": [1, 2, 3], "inertia": 1.5}},
    },
    "clusters.json": {
        "models": {"lloyd": {"mean": CENTRES, "sd": CENTRES, "counts": [1, 2, 3], "nir": [0.1] * 3}}
    },
}


def test_models__are_refused_or_applied(
    campaign: Campaign, whole_scenes: Path, tmp_path: Path
) -> None:
    scene = open_scene(whole_scenes / "zarr3")
    for case in campaign.share(0.03):
        rng = Random(f"model {campaign.seed} {case}")
        damaged = rng.choice(("model.json", "model.json", "clusters.json"))
        for name, content in FILES.items():
            text = json.dumps(content)
            data = damage_json(text, rng)[0] if name == damaged else text.encode()
            (tmp_path / name).write_bytes(data)
        try:
            applied = read_applied(tmp_path / "model.json", ("lloyd",), scene)
        except HyperhpcError as error:
            campaign.tally["model"][check_refusal(error)] += 1
            continue
        except Exception:
            campaign.tally["model"]["finding"] += 1
            raise
        (labeller,) = applied.labellers(scene)
        assert labeller.centres is not None
        assert np.isfinite(labeller.centres).all()
        json.dumps(applied.spectra, allow_nan=False)
        campaign.tally["model"]["numbers"] += 1
