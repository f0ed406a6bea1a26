"""Mini-batch k-means against scikit-learn's and whole numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.cluster import MiniBatchKMeans

from hyperhpc.analysis.kernel import Scaler
from hyperhpc.analysis.minibatch import fit_batches
from kernel_case import distances, land, scaler_of


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
@pytest.mark.parametrize("n_clusters", [1, 2, 8])
def test_fit_batches__is_scikit_learns(dtype: str, n_clusters: int) -> None:
    dn = land(6000, 40, seed=3).astype(dtype)
    scaler, starts = scaler_of(dn), dn[:n_clusters].astype(np.float64)
    model = MiniBatchKMeans(
        n_clusters,
        init=(starts - scaler.mean) / scaler.scale,
        n_init=1,
        reassignment_ratio=0.0,  # whose pixels are drawn by another generator
    )
    batches = np.array_split(dn, 9)
    for batch in batches:
        model.partial_fit(scaler.transform(batch))
    step = fit_batches(batches, starts, scaler, rng())
    expected = scaler.mean + model.cluster_centers_ * scaler.scale
    np.testing.assert_allclose(step.centres, expected, rtol=1e-9)
    assert step.n_iter == model.n_steps_ == 9


def test_fit_batches__centres_are_means_of_whole_numbers() -> None:
    dn = np.random.default_rng(4).integers(-32768, 32768, (5000, 3)).astype(np.int16)
    scaler = scaler_of(dn)
    starts = np.array([[-9000.0, 0, 0], [9000.0, 0, 0]])
    sums, counts, centres = [[0] * 3, [0] * 3], [0, 0], starts.copy()
    for batch in np.array_split(dn, 5):
        labels = distances(batch, centres, scaler).argmin(axis=1)
        for pixel, k in zip(batch, labels, strict=True):
            counts[k] += 1
            sums[k] = [s + int(v) for s, v in zip(sums[k], pixel, strict=True)]
        centres = np.array(
            [[float(Fraction(s, n)) for s in row] for row, n in zip(sums, counts, strict=True)]
        )
    found = fit_batches(np.array_split(dn, 5), starts, scaler, rng()).centres
    np.testing.assert_allclose(found, centres, rtol=1e-15)


def test_fit_batches__a_cluster_without_pixels_is_moved_to_one() -> None:
    dn = np.repeat(np.array([[100], [200], [900]], dtype=np.int16), 100, axis=0)
    scaler = Scaler(np.zeros(1), np.ones(1), is_integer=True)
    far = np.array([[150.0], [900.0], [30000.0]])
    mixed = np.random.default_rng(2).permutation(dn)
    step = fit_batches(np.array_split(mixed, 3), far, scaler, rng())
    assert step.centres.max() < 901
    again = fit_batches(np.array_split(mixed, 3), far, scaler, rng())
    np.testing.assert_array_equal(step.centres, again.centres)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_fit_batches__fewer_distinct_pixels_than_clusters(dtype: str) -> None:
    dn = np.full((5, 4), 7, dtype=dtype)
    scaler = Scaler(np.full(4, 7.0), np.ones(4), is_integer=dtype == "int16")
    step = fit_batches([dn, dn], np.full((8, 4), 7.0), scaler, rng())
    np.testing.assert_array_equal(step.centres, np.full((8, 4), 7.0))
