"""Labels are the same bits whatever the block, the threads or the processor."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from hyperhpc.analysis.kernel import Scaler, Scorer, label_pixels, sum_clusters
from kernel_case import assert_nearest, land, scaler_of


def test_label_pixels__same_bits_at_any_place_in_a_block() -> None:
    dn = land(2500, 97, seed=3)
    scaler = scaler_of(dn)
    # Pairs of nearly equal centres, so that many pixels are near a tie
    centres = np.repeat(dn[:4].astype(np.float64), 2, axis=0)
    centres[1::2] += 1e-3 * scaler.scale * np.random.default_rng(0).normal(size=(4, 97))
    for kind in (dn, dn.astype(np.float32)):
        scorer = Scorer(centres, Scaler(scaler.mean, scaler.scale, kind.dtype == np.int16))
        labels = label_pixels(kind, [scorer])[0]
        assert len(np.unique(labels)) == 8
        order = np.random.default_rng(1).permutation(len(dn))
        np.testing.assert_array_equal(label_pixels(kind[order], [scorer])[0], labels[order])
        for start, stop in ((0, 1), (1, 2), (7, 1032), (1000, 2500), (2499, 2500), (5, 5)):
            part = label_pixels(kind[start:stop], [scorer])[0]
            np.testing.assert_array_equal(part, labels[start:stop])
        single = [int(label_pixels(kind[i : i + 1], [scorer])[0, 0]) for i in range(0, 2500, 25)]
        assert single == labels[::25].tolist()
        assert_nearest(labels, kind, centres, scaler)


def _digest() -> str:
    """Labels and sums of many near ties, as one number."""
    dn = land(4000, 120, seed=9)
    rng = np.random.default_rng(4)
    centres = np.repeat(dn[:10].astype(np.float64), 3, axis=0)
    centres += rng.choice([0, 1e-6, 1e-2], centres.shape)
    scorer = Scorer(centres, scaler_of(land(4000, 120, seed=9)))
    labels = label_pixels(dn, [scorer])
    sums = sum_clusters(dn, scorer)
    return hashlib.sha256(labels.tobytes() + sums.sums.tobytes()).hexdigest()


@pytest.mark.smoke
@pytest.mark.slow
def test_label_pixels__same_bits_with_any_number_of_threads() -> None:
    digests = set()
    for n in (1, 2, 4):
        with threadpool_limits(n):
            digests.add(_digest())
    assert len(digests) == 1


@pytest.mark.smoke
@pytest.mark.slow
@pytest.mark.parametrize("core", ["Prescott", "Haswell", "SkylakeX"])
def test_label_pixels__same_bits_on_other_processors(core: str) -> None:
    """OpenBLAS takes other kernels: other orders of sums, with and without fused products."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    needs = {"Prescott": "sse3", "Haswell": "avx2", "SkylakeX": "avx512f"}[core]
    blas = [i for i in threadpool_info() if i["internal_api"] == "openblas"]
    if not blas or needs.replace("sse3", "pni") not in flags:
        pytest.skip(f"{core}: needs numpy with OpenBLAS and a processor with {needs}")
    code = "import test_kernel_bits as t, threadpoolctl as c; print(t._digest()); " + (
        "print(*(i.get('architecture') for i in c.threadpool_info()))"
    )
    environment = os.environ | {"OPENBLAS_CORETYPE": core, "PYTHONPATH": os.pathsep.join(sys.path)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout.split("\n")
    names = {core.lower(), "katmai"} if core == "Prescott" else {core.lower()}  # its other name
    assert names & set(out[1].lower().split())
    assert out[0] == _digest()
