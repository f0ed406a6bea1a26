"""The coarser levels of the overviews: how many pixels become one."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from hyperhpc.compute.overview import _fill, _mean, _median, _split_squares
from hyperhpc.schema import CLUSTER, INDICES


@pytest.mark.parametrize("share_missing", [0.0, 0.4, 0.97, 1.0])
def test_median__is_numpys_without_missing_pixels(share_missing: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(37, 50)).astype(np.float32)
    values[rng.random(values.shape) < share_missing] = np.nan
    found = _median(_split_squares(values, INDICES))
    padded = np.pad(values, ((0, 3), (0, 2)), constant_values=np.nan)
    squares = padded.reshape(10, 4, 13, 4).swapaxes(1, 2).reshape(10, 13, 16)
    has_any = np.isfinite(squares).any(axis=2)
    np.testing.assert_array_equal(np.isfinite(found), has_any)
    np.testing.assert_allclose(found[has_any], np.nanmedian(squares[has_any], axis=1), rtol=1e-6)


def test_fill__knows_variables_that_were_sent_to_a_worker(tmp_path: Path) -> None:
    """Numbers of clusters are never averaged."""
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 7, 255], (1, 32, 32)).astype(np.uint8)
    root = zarr.open_group(str(tmp_path), mode="w", zarr_format=2)
    for level, side in (("1", 32), ("4", 8)):
        root.create_array(
            f"{level}/cluster", shape=(1, side, side), dtype="uint8", chunks=(1, 8, 8)
        )
    root["1/cluster"][:] = labels
    sent = pickle.loads(pickle.dumps(CLUSTER))
    _fill(tmp_path, "4", {sent: None}, "1", (slice(0, 8), slice(0, 8)))
    assert set(np.unique(root["4/cluster"][:])) <= {0, 7, 255}


def test_median__does_not_spread_an_extreme() -> None:
    values = np.full((8, 8), 0.5, np.float32)
    values[3, 3] = -9000  # 3 DN over a denominator that is only just not zero
    assert (_median(_split_squares(values, INDICES)) == 0.5).all()
    assert _mean(_split_squares(values, INDICES))[0, 0] < -500
