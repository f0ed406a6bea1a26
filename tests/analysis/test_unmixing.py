"""Unmixing against all subsets of endmembers, scipy's nnls, and public abundances."""

from __future__ import annotations

from itertools import combinations, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import loadmat
from scipy.optimize import nnls

from hyperhpc.analysis.unmixing.endmembers import find_atgp, find_nfindr
from hyperhpc.analysis.unmixing.fractions import MAX_CONDITION, Unmixer, measure_dependence
from hyperhpc.scene import open_scene

FLOAT = np.dtype(np.float64)


def best_of_all_subsets(spectra: np.ndarray, pixel: np.ndarray) -> np.ndarray:
    """The constrained minimum: the best of the minima of all subsets that are not negative."""
    m, least, found = len(spectra), np.inf, np.zeros(len(spectra))
    for size in range(1, m + 1):
        for chosen in map(list, combinations(range(m), size)):
            first, others = spectra[chosen[0]], spectra[chosen[1:]]
            shares = np.linalg.lstsq((others - first).T, pixel - first, rcond=None)[0]
            fractions = np.zeros(m)
            fractions[chosen] = [1 - shares.sum(), *shares]
            residual = float(((pixel - fractions @ spectra) ** 2).sum())
            if fractions.min() >= -1e-12 and residual < least - 1e-15:
                least, found = residual, fractions
    return found


def mixtures(m: int, n_bands: int, n: int, noise: float, seed: int = 0) -> Any:
    """Endmembers, true fractions (pixel, endmember) and DN, many of them outside the simplex."""
    rng = np.random.default_rng([m, n_bands, seed])
    spectra = rng.uniform(0, 0.6, (m, n_bands))
    true = rng.dirichlet(np.full(m, 0.4), n)
    pixels = true @ spectra + rng.normal(0, noise, (n, n_bands))
    return spectra, true, np.rint(pixels.clip(0) * 1e4).astype(np.uint16)


@pytest.mark.parametrize(("m", "n_bands"), [(2, 2), (3, 40), (5, 5), (5, 120)])
def test_unmixer__is_the_best_of_all_subsets(m: int, n_bands: int) -> None:
    spectra, _, dn = mixtures(m, n_bands, 40, 0.2)
    wanted = np.array([best_of_all_subsets(spectra, pixel) for pixel in dn / 1e4])
    rmse = np.sqrt(((dn / 1e4 - wanted @ spectra) ** 2).mean(axis=1))
    for pixels in (dn, dn.astype(np.float64)):
        found, residual = Unmixer(spectra, 1e4, pixels.dtype).unmix(pixels)
        np.testing.assert_allclose(found.T, wanted, atol=1e-11)
        np.testing.assert_allclose(residual, rmse, atol=1e-8)
        assert found.min() >= 0
        np.testing.assert_allclose(found.sum(axis=0), 1, atol=1e-14)


@pytest.mark.parametrize("by_shape", [False, True])
def test_unmixer__agrees_with_nnls_for_many_endmembers(by_shape: bool) -> None:
    spectra, _, dn = mixtures(16, 300, 60, 0.1)
    found, _ = Unmixer(spectra, 1e4, dn.dtype, by_shape=by_shape).unmix(dn)
    if by_shape:
        shapes = spectra / spectra.max(axis=1, keepdims=True)
        plain = np.array([nnls(shapes.T, pixel)[0] for pixel in dn / 1e4])
        wanted = plain / plain.sum(axis=1, keepdims=True)
    else:  # the sum as one more band of great weight
        weighted = np.vstack([spectra.T, np.full(16, 1e4)])
        wanted = np.array([nnls(weighted, [*pixel, 1e4])[0] for pixel in dn / 1e4])
    assert (wanted == 0).mean() > 0.2
    np.testing.assert_allclose(found.T, wanted, atol=1e-6)


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_unmixer__a_pixel_has_the_same_bits_in_any_block(dtype: str) -> None:
    spectra, _, dn = mixtures(9, 61, 5000, 0.1)
    dn = dn.astype(dtype)
    unmixer = Unmixer(spectra, 1e4, dn.dtype)
    fractions, rmse = unmixer.unmix(dn)
    for start, stop in ((0, 1), (255, 258), (4090, 4999)):
        some, some_rmse = unmixer.unmix(dn[start:stop])
        assert some.tobytes() == fractions[:, start:stop].tobytes()
        assert some_rmse.tobytes() == rmse[start:stop].tobytes()


def test_unmixer__pure_pixels_edges_and_equal_pixels() -> None:
    spectra = np.array([[0.0, 0.0, 0.0], [0.5, 0.0, 0.0], [0.5, 0.5, 0.0]])
    pixels = np.array([*spectra, [0.25, 0, 0], [0.5, 0.25, 0], [9, -9, 4], [0.5, 0.25, 0]])
    fractions, rmse = Unmixer(spectra, 1.0, FLOAT).unmix(pixels)
    wanted = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0], [0, 0.5, 0.5], [0, 1, 0]]
    np.testing.assert_allclose(fractions.T, [*wanted, wanted[4]], atol=1e-14)
    np.testing.assert_allclose(rmse[:5], 0, atol=1e-8)
    empty, none = Unmixer(spectra, 1.0, FLOAT).unmix(pixels[:0])
    assert empty.shape == (3, 0)
    assert none.shape == (0,)


def test_unmixer__by_shape_no_brightness_counts() -> None:
    spectra, true, _ = mixtures(4, 50, 200, 0)
    spectra /= spectra.max(axis=1, keepdims=True)
    light = np.random.default_rng(0).uniform(0.01, 1, (200, 1))
    pixels = np.vstack([true @ spectra * light, np.zeros(50)])
    unmixer = Unmixer(spectra * [[0.1], [0.2], [0.5], [0.9]], 1.0, FLOAT, by_shape=True)
    fractions, rmse = unmixer.unmix(pixels)
    np.testing.assert_allclose(fractions[:, :-1].T, true, atol=1e-7)
    assert rmse.max() < 1e-7
    assert np.isnan(fractions[:, -1]).all()  # no light at all


def test_measure_dependence__names_the_pair() -> None:
    spectra, _, _ = mixtures(5, 80, 1, 0)
    assert measure_dependence(spectra).condition < 10
    twin = spectra.copy()
    twin[3] = twin[1] + 1e-6
    found = measure_dependence(twin)
    assert found.condition > MAX_CONDITION
    assert found.pair == (1, 3)
    # Spectra of one shape are endmembers still, unless three of them lie on one line
    bright = np.vstack([spectra[:4], 2 * spectra[0]])
    assert measure_dependence(bright).condition < 100
    line = np.vstack([bright, 3 * spectra[0]])
    found = measure_dependence(line)
    assert found.condition > MAX_CONDITION
    assert set(found.pair) <= {0, 4, 5}


@pytest.mark.parametrize("find", [find_atgp, find_nfindr])
def test_find__pure_pixels_of_a_simulated_scene(find: Any) -> None:
    spectra, true, _ = mixtures(6, 90, 3000, 0)
    pure = [17, 400, 1111, 2000, 2500, 2999]
    true = true.clip(0, 0.75) / true.clip(0, 0.75).sum(axis=1, keepdims=True)
    true[pure] = np.eye(6)
    pixels = true @ spectra + np.random.default_rng(1).normal(0, 1e-4, (3000, 90))
    assert sorted(find(pixels, 6)) == pure
    assert list(find(pixels, 6)) == list(find(pixels.copy(), 6))


def test_find__fewer_endmembers_than_asked() -> None:
    pixels = np.outer([1.0, 2, 3, 1, 2], [1.0, 2, 1])
    assert list(find_atgp(pixels, 3)) == [2]
    assert list(find_nfindr(pixels, 3)) == [2]
    assert not find_atgp(np.zeros((4, 3)), 2).size


def test_nfindr__its_volume_is_the_largest() -> None:
    """In two dimensions: the largest triangle of all."""
    points = np.random.default_rng(3).normal(size=(30, 2))
    pixels = points @ np.random.default_rng(4).normal(size=(2, 20)) + 3.0

    def area(triangle: Any) -> float:
        a, b, c = points[list(triangle)]
        return abs(float(np.linalg.det(np.array([b - a, c - a]))))

    largest = max(area(t) for t in combinations(range(30), 3))
    assert area(find_nfindr(pixels, 3)) == pytest.approx(largest)


def test_samson__its_published_abundances(shared_data: Path) -> None:
    """They were made by shape: what counts as shade in reflectance is no cover of its own."""
    folder = shared_data / "samson"
    if not folder.is_dir():
        pytest.skip(f"the scene Samson is missing: no folder {folder}")
    published = loadmat(folder / "Samson.mat")
    true = published["S_GT"].reshape(-1, 3)
    dn = open_scene(folder / "samson_1.img").read(slice(0, 95), slice(0, 95)).reshape(-1, 156)

    def rmse(spectra: np.ndarray, by_shape: bool) -> float:
        unmixer = Unmixer(spectra, 1402.0, dn.dtype, by_shape=by_shape)
        found = unmixer.unmix(dn[::5])[0].T
        errors = (found[:, list(order)] - true[::5] for order in permutations(range(3)))
        return min(float(np.sqrt((error**2).mean())) for error in errors)

    assert rmse(published["GT"], True) < 0.0025
    assert rmse(dn[find_nfindr(dn / 1402.0, 3)] / 1402.0, True) < 0.05
    assert rmse(published["GT"], False) > 0.3  # its endmembers have a peak of 1
