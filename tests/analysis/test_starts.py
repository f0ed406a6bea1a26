"""Starts of k-means against scikit-learn and sums taken otherwise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from sklearn.cluster import KMeans, kmeans_plusplus

from hyperhpc.analysis.kmeans import fit_in_memory, measure_moments
from hyperhpc.analysis.starts import MERGED, draw_seeds, fit_start, merge_bands
from kernel_case import distances, land, scaler_of


@pytest.mark.parametrize("n_bands", [1, 5, MERGED, MERGED + 1, 355])
def test_merge_bands__means_of_neighbours_in_sixteenths(n_bands: int) -> None:
    dn = land(5000, n_bands, seed=n_bands)
    dn[7] = 32767  # beyond what is kept
    scaler = scaler_of(dn)
    merged = merge_bands(dn, scaler)
    assert merged.dtype == np.int8
    assert merged.shape == (5000, min(n_bands, MERGED))
    steps = np.rint((dn - scaler.mean) / scaler.scale * 16)
    bounds = [i * n_bands // merged.shape[1] for i in range(merged.shape[1] + 1)]
    for g, (low, high) in enumerate(pairwise(bounds)):
        mean = np.clip(steps[:, low:high].mean(axis=1), -127, 127)
        assert np.abs(merged[:, g] - mean).max() <= 0.5


def test_merge_bands__a_pixel_has_the_same_values_in_any_company() -> None:
    dn = land(9000, 100)
    scaler = scaler_of(dn)
    whole = merge_bands(dn, scaler)
    np.testing.assert_array_equal(merge_bands(dn[4000:4500], scaler), whole[4000:4500])


def test_draw_seeds__deterministic_and_as_good_as_scikit_learn() -> None:
    dn = land(3000, 20, seed=7)
    scaler = scaler_of(dn)
    x, merged = scaler.transform(dn), merge_bands(dn, scaler)
    ours, theirs = [], []
    for seed in range(40):
        seeds = draw_seeds(merged, 8, np.random.default_rng(seed))
        ours.append(distances(dn, dn[seeds], scaler).min(axis=1).sum())
        centres, _ = kmeans_plusplus(x, 8, random_state=seed)
        centres = centres * scaler.scale + scaler.mean
        theirs.append(distances(dn, centres, scaler).min(axis=1).sum())
        assert len(np.unique(dn[seeds], axis=0)) == 8
    again = draw_seeds(merged, 8, np.random.default_rng(39))
    np.testing.assert_array_equal(again, seeds)
    assert np.mean(ours) < 1.05 * np.mean(theirs)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["spectra", "bands unlike their neighbours", "float32"])
def test_fit_start__best_of_ten_as_good_as_scikit_learn(case: str) -> None:
    for seed in range(3):
        dn = land(4000, 200, seed=seed, dtype="float32" if case == "float32" else "int16")
        if case == "bands unlike their neighbours":
            dn = np.ascontiguousarray(dn[:, np.random.default_rng(seed).permutation(200)])
        scaler = scaler_of(dn)
        merged = merge_bands(dn, scaler)
        squares = measure_moments(dn, scaler.offset).squares.astype(np.float64)
        fits = [
            fit_start(dn, merged, 6, scaler, squares, np.random.default_rng([seed, n]))
            for n in range(10)
        ]
        best = min(fits, key=lambda fit: fit.inertia)
        x = scaler.transform(dn)
        theirs = KMeans(6, n_init=10, random_state=seed).fit(x).inertia_
        assert best.inertia <= 1.001 * theirs
        brute = distances(dn, best.centres, scaler).min(axis=1).sum()
        np.testing.assert_allclose(best.inertia, brute, rtol=1e-6)
        # It has come to rest in all bands, too
        again = fit_in_memory(dn, best.centres, scaler, squares)
        assert again.n_iter <= 2
        np.testing.assert_allclose(again.inertia, best.inertia, rtol=1e-4)


def test_fit_start__fewer_kinds_of_pixel_than_clusters() -> None:
    dn = np.repeat(np.array([[5, 9], [5, 90], [700, 9]], dtype=np.int16), 4, axis=0)
    scaler = scaler_of(dn)
    squares = measure_moments(dn, scaler.offset).squares.astype(np.float64)
    fit = fit_start(dn, merge_bands(dn, scaler), 5, scaler, squares, np.random.default_rng(0))
    assert fit.centres.shape == (5, 2)
    assert np.isfinite(fit.centres).all()
    np.testing.assert_allclose(fit.inertia, 0, atol=1e-9)
