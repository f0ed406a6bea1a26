"""Full-batch k-means against scikit-learn, fractions and brute force."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from sklearn.cluster import KMeans

from hyperhpc.analysis.kernel import Scaler, Scorer, label_pixels, sum_clusters
from hyperhpc.analysis.kmeans import (
    ClusterMoments,
    Fit,
    Step,
    compute_inertia,
    find_farthest_pixels,
    fit_in_memory,
    fit_scaler,
    measure_clusters,
    measure_moments,
    order_by_nir,
    run_lloyd,
)
from hyperhpc.analysis.starts import draw_seeds, merge_bands
from kernel_case import distances, land, scaler_of


def squares_of(dn: np.ndarray, scaler: Scaler) -> np.ndarray:
    return measure_moments(dn, scaler.offset).squares.astype(np.float64)


def brute_inertia(dn: np.ndarray, centres: np.ndarray, scaler: Scaler) -> float:
    return float(distances(dn, centres, scaler).min(axis=1).sum())


def fit(dn: np.ndarray, centres: np.ndarray, scaler: Scaler | None = None) -> Fit:
    scaler = scaler or scaler_of(dn)
    return fit_in_memory(dn, centres.astype(np.float64), scaler)


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_measure_moments__exact_for_integers(dtype: str) -> None:
    info = np.iinfo(dtype)
    dn = np.random.default_rng(0).integers(info.min, info.max, (9001, 3), endpoint=True)
    dn[:, 2] = info.max
    for reference in (np.zeros(3), np.array([1.0, -7.0, info.min])):
        moments = measure_moments(dn.astype(dtype), reference)
        wide = dn - reference.astype(np.int64)
        assert moments.squares.dtype == moments.sums.dtype == np.int64
        np.testing.assert_array_equal(moments.sums, wide.sum(axis=0))
        np.testing.assert_array_equal(moments.squares, (wide**2).sum(axis=0))
        parts = [measure_moments(dn[a:b].astype(dtype), reference)
                 for a, b in ((0, 5), (5, 8000), (8000, 9001))]  # fmt: skip
        total = parts[0] + parts[1] + parts[2]
        assert total.count == 9001
        np.testing.assert_array_equal(total.squares, moments.squares)


def test_measure_moments__no_rounding_beyond_float64() -> None:
    """More than 2**53 in all, though every block stays far below."""
    dn = np.broadcast_to(np.array([[65535]], dtype=np.uint16), (2_200_000, 1))
    moments = measure_moments(dn, np.zeros(1))
    assert int(moments.squares[0]) == 2_200_000 * 65535**2 > 2**53


def test_fit_scaler__rounds_the_exact_rationals() -> None:
    dn = land(777, 9)
    dn[:, 4] = 123
    for reference in (np.zeros(9), np.full(9, 2000.0)):
        scaler = fit_scaler(measure_moments(dn, reference), reference, 10000, is_integer=True)
        for band, column in enumerate(dn.T.tolist()):
            mean = Fraction(sum(column), 777)
            variance = Fraction(sum(v * v for v in column), 777) - mean**2
            assert scaler.mean[band] == float(mean)
            assert scaler.scale[band] == (np.sqrt(float(variance)) or 10000.0)
    assert scaler.scale[4] == 10000.0
    np.testing.assert_allclose(scaler.mean, dn.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(np.delete(scaler.scale, 4), np.delete(dn.std(axis=0), 4), 1e-13)


def test_fit_scaler__float_scenes() -> None:
    dn = (land(5000, 6) / 10000).astype(np.float32)
    dn[:, 2] = 0.3  # constant, and not a round binary number
    dn[:, 3] = 0.3 + np.float32(3e-7) * (np.arange(5000) % 2)  # nearly, but not
    wide = dn.astype(np.float64)
    for reference in (wide[0], np.zeros(6)):
        scaler = fit_scaler(measure_moments(dn, reference), reference, 1.0, is_integer=False)
        np.testing.assert_allclose(scaler.mean, wide.mean(axis=0), rtol=1e-12)
        assert scaler.scale[2] == 1.0
        others = [0, 1, 4, 5]
        np.testing.assert_allclose(scaler.scale[others], wide.std(axis=0)[others], rtol=1e-9)
        if reference.any():
            np.testing.assert_allclose(scaler.scale[3], wide[:, 3].std(), rtol=1e-6)


def test_inertia_of__brute_force() -> None:
    for dtype in ("int16", "float32"):
        dn = land(3000, 25, dtype=dtype)
        scaler = scaler_of(dn)
        centres = dn[:7].astype(np.float64) + 0.4
        sums = sum_clusters(dn, Scorer(centres, scaler))
        inertia = compute_inertia(sums, squares_of(dn, scaler), centres, scaler)
        np.testing.assert_allclose(inertia, brute_inertia(dn, centres, scaler), rtol=1e-10)


@pytest.mark.parametrize("case", ["plain", "constant bands", "float32", "loose scaler"])
def test_lloyd__same_as_scikit_learn(case: str) -> None:
    for seed in range(3):
        dn = land(4000, 30, seed=seed, dtype="float32" if case == "float32" else "int16")
        if case == "constant bands":
            dn[:, 5:25] = 7
        scaler = scaler_of(dn)
        if case == "loose scaler":  # as on a subsample: the variance is not 1
            scaler = Scaler(scaler.mean, scaler.scale * 3.0, True)
        starts = dn[np.random.default_rng(seed).choice(4000, 6, replace=False)]
        x = scaler.transform(dn)
        theirs = KMeans(6, init=scaler.transform(starts), n_init=1, algorithm="lloyd").fit(x)
        ours = fit(dn, starts, scaler)
        assert ours.n_iter == theirs.n_iter_
        np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-9)
        labels = label_pixels(dn, [Scorer(ours.centres, scaler)])[0]
        np.testing.assert_array_equal(labels, theirs.labels_)
        centres = theirs.cluster_centers_ * scaler.scale + scaler.mean
        np.testing.assert_allclose(ours.centres, centres, rtol=1e-8, atol=1e-6)


def steps(dn: np.ndarray, step: Step, **options: int) -> list[Step]:
    """Each step of Lloyd's iterations."""
    scaler, seen = scaler_of(dn), []
    run_lloyd(
        lambda c: sum_clusters(dn, Scorer(c, scaler)),
        lambda c, n: find_farthest_pixels(dn, c, scaler, n)[1],
        squares_of(dn, scaler),
        step,
        scaler,
        on_step=seen.append,
        **options,
    )
    return seen


def test_lloyd__stops_at_max_iterations_and_reports() -> None:
    dn = land(2000, 10)
    seen = steps(dn, Step(dn[:5] + 0.0), max_iterations=3)
    assert [(step.n_iter, step.is_settled) for step in seen] == [(1, False), (2, False), (3, False)]


def test_lloyd__resumes_from_any_step_with_the_same_bits() -> None:
    dn = land(2000, 10)
    seen = steps(dn, Step(dn[:5] + 0.0))
    last = seen[-1]
    assert last.is_settled
    assert len(seen) > 3
    for number, step in enumerate(seen[:-1], 1):
        again = steps(dn, step)
        assert len(again) == len(seen) - number
        assert again[-1].n_iter == last.n_iter
        np.testing.assert_array_equal(again[-1].centres, last.centres)
    assert steps(dn, last) == []


def test_lloyd__moves_a_cluster_without_pixels() -> None:
    dn = land(1500, 12, seed=4)
    duplicates = np.repeat(dn[:1], 6, axis=0)
    result = fit(dn, duplicates)
    counts = sum_clusters(dn, Scorer(result.centres, scaler_of(dn))).counts
    assert counts.min() > 0
    good = KMeans(6, n_init=5, random_state=0).fit(scaler_of(dn).transform(dn)).inertia_
    assert result.inertia < 1.5 * good


@pytest.mark.parametrize(
    "dn",
    [
        np.array([[5, 9]] * 3 + [[5, 10]] * 2, dtype=np.int16),  # two kinds of pixel
        np.array([[100, -9]] * 7, dtype=np.int16),  # all bands constant
        np.array([[1, 2]], dtype=np.uint16),  # a single pixel
        np.array([[0.1, 0.2]] * 4 + [[0.1, 0.3]], dtype=np.float32),
    ],
)
def test_lloyd__fewer_kinds_of_pixel_than_clusters(dn: np.ndarray) -> None:
    moments = measure_moments(dn, np.zeros(2))
    scaler = fit_scaler(moments, np.zeros(2), 10000.0, is_integer=dn.dtype.kind != "f")
    merged = merge_bands(dn, scaler)
    starts = draw_seeds(merged, 4, np.random.default_rng(0))
    assert starts.shape == (4,)
    result = fit(dn, dn[starts], scaler)
    assert result.n_iter < 10
    np.testing.assert_allclose(result.inertia, 0, atol=1e-9)
    assert np.isfinite(result.centres).all()
    labels = label_pixels(dn, [Scorer(result.centres, scaler)])[0]
    assert len(np.unique(labels)) == len(np.unique(dn, axis=0))


def test_lloyd__one_cluster_is_the_mean() -> None:
    dn = land(999, 8)
    result = fit(dn, dn[:1])
    np.testing.assert_allclose(result.centres[0], dn.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(result.inertia, 999 * 8, rtol=1e-10)
    assert result.n_iter == 2


def test_farthest_pixels__order_and_ties() -> None:
    dn = np.array([[0, 0], [9, 0], [0, 9], [9, 0], [1, 1], [4, 0]], dtype=np.int16)
    scaler = Scaler(np.zeros(2), np.array([1.0, 3.0]), True)
    centres = np.array([[0.0, 0.0], [1.0, 1.0]])
    found, pixels = find_farthest_pixels(dn, centres, scaler, 3)
    assert pixels.tolist() == [[9, 0], [9, 0], [4, 0]]
    np.testing.assert_allclose(found, np.sort(distances(dn, centres, scaler).min(1))[:-4:-1])
    found, pixels = find_farthest_pixels(dn, centres, scaler, 99)
    assert len(found) == len(pixels) == 4  # two lie on their centres
    assert (np.diff(found) <= 0).all()


def test_order_by_nir__ascending_stable_nan_last() -> None:
    wavelength = np.array([900.0, 500.0, 779.9, 780.0])  # not ascending; ends are inside
    centres = np.array([[4, 0, 0, 4], [1, 9, 9, 1], [2, 0, 0, 6], [np.nan, 1, 1, 1]])
    assert order_by_nir(centres, wavelength).tolist() == [1, 0, 2, 3]
    assert order_by_nir(centres[:3], np.array([500.0, 600, 650, 700])).tolist() == [0, 2, 1]


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_measure_clusters__numpy(dtype: str) -> None:
    dn = land(2100, 13, dtype=dtype)
    scaler = scaler_of(dn)
    rng, sizes = np.random.default_rng(0), (5, 3)
    labels = np.stack([rng.integers(0, n, 2100) for n in (4, 3)]).astype(np.uint8)
    moments = measure_clusters(dn, labels, sizes, scaler)
    halves = [measure_clusters(dn[a], labels[:, a], sizes, scaler) for a in np.s_[:999, 999:]]
    total: ClusterMoments = halves[0] + halves[1]
    own = [(m, k) for m, n in enumerate(sizes) for k in range(n)]
    assert moments.counts.tolist() == [int((labels[m] == k).sum()) for m, k in own]
    for row, (m, k) in enumerate(own):
        wide = dn[labels[m] == k].astype(np.float64) - scaler.offset
        close = np.testing.assert_allclose if dtype == "float32" else (
            lambda a, b, **_: np.testing.assert_array_equal(a, b))  # fmt: skip
        close(moments.sums[row], wide.sum(axis=0), atol=1e-6)
        close(moments.squares[row], (wide**2).sum(axis=0), rtol=1e-9)
        close(total.squares[row], moments.squares[row], rtol=1e-9)
