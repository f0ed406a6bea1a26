"""Labels and sums against brute force, Python integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from hyperhpc.analysis.kernel import ClusterSums, Scaler, Scorer, _Limbs, label_pixels, sum_clusters
from kernel_case import assert_nearest, exact_labels, exact_scores, land, scaler_of


@pytest.mark.parametrize("n_clusters", [1, 2, 8, 255])
@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_label_pixels__nearest_centres(n_clusters: int, dtype: str) -> None:
    dn = land(3000, 60, dtype=dtype)
    scaler = scaler_of(dn)
    centres = dn[:n_clusters].astype(np.float64) + 0.3
    labels = label_pixels(dn, [Scorer(centres, scaler)])
    assert labels.shape == (1, 3000)
    assert labels.dtype == np.uint8
    assert assert_nearest(labels[0], dn, centres, scaler) < 1e-3


def test_label_pixels__bands_and_several_models() -> None:
    dn = land(1100, 40)
    bands = np.array([0, 1, 2, 7, 9, 10, 39])
    scaler = scaler_of(dn[:, bands])
    scorers = [Scorer(dn[:k][:, bands] + 0.0, scaler) for k in (3, 5)]
    labels = label_pixels(dn, scorers, bands)
    np.testing.assert_array_equal(labels, label_pixels(dn[:, bands].copy(), scorers))
    np.testing.assert_array_equal(labels[1], label_pixels(dn, scorers[1:], bands)[0])
    assert label_pixels(dn, []).shape == (0, 1100)


@pytest.mark.parametrize(("dtype", "n_bands"), [("int16", 30), ("uint16", 30), ("int16", 1)])
def test_scorer__equals_its_definition_in_python_integers(dtype: str, n_bands: int) -> None:
    """Midpoints of centres that nearly coincide, and the corners of the dtype."""
    rng = np.random.default_rng(5)
    info = np.iinfo(dtype)
    dn = rng.integers(info.min, info.max + 1, (900, n_bands)).astype(dtype)
    dn[:4] = [[info.min], [info.max], [info.min], [info.max]]
    dn[2, ::2], dn[3, ::2] = info.max, info.min
    centres = np.repeat(dn[:5].astype(np.float64), 3, axis=0)
    centres += rng.choice([0, 1e-9, 1e-4, 1.0, -1.0], centres.shape)
    midpoints = (centres[:, None] + centres[None]).reshape(-1, n_bands) / 2
    dn[100:325] = np.rint(midpoints).clip(info.min, info.max)
    scaler = Scaler(dn.mean(axis=0), dn.std(axis=0) * rng.choice([1e-4, 1, 3], n_bands), True)
    scorer = Scorer(centres, scaler)
    labels = label_pixels(dn, [scorer])[0]
    np.testing.assert_array_equal(labels, exact_labels(dn, scorer))
    assert_nearest(labels, dn, centres, scaler)


@pytest.mark.parametrize("n_bands", [1, 2, 426])
def test_limbs__carry_from_part_to_part(n_bands: int) -> None:
    """Scores that agree in all but their last bits, or in all of them."""
    rng = np.random.default_rng(6)
    weights = np.ldexp(rng.integers(-99, 99, (n_bands, 9)) + 0.0, -66)
    weights[0] = 1.0
    weights[-1, 3:] += np.ldexp(1.0, -40)
    biases = np.ldexp(rng.integers(-9999, 9999, 9) + 0.0, -66)
    limbs = _Limbs.cut(weights, biases)
    for part, bias in zip(limbs.weights, limbs.biases, strict=True):
        assert (65535 * np.abs(part).sum(axis=0) + np.abs(bias)).max() < 2**53
    pixels = rng.integers(-65535, 65536, (200, n_bands)).astype(np.float64)
    pixels[100:] = rng.integers(-2, 3, (100, n_bands))
    pixels[0] = 0
    unit = 2 ** (2 * limbs.bits)
    shift = Fraction(2) ** int(np.log2(limbs.weights[0][0, 0]))
    cut = [[round(Fraction(w) * shift * unit) for w in row] for row in weights.tolist()]
    cut_biases = [round(Fraction(b) * shift * unit) for b in biases.tolist()]
    expected = []
    for pixel in pixels.astype(int).tolist():
        scores = [sum(x * w[k] for x, w in zip(pixel, cut, strict=True)) + cut_biases[k]
                  for k in range(9)]  # fmt: skip
        expected.append(scores.index(min(scores)))
    assert limbs.label(pixels).tolist() == expected
    assert len(set(expected)) > 1


@pytest.mark.parametrize("mean", [0.0, 11000.5])
@pytest.mark.parametrize("n_bands", [3, 426])
def test_scorer__errors_stay_below_their_bound(n_bands: int, mean: float) -> None:
    """Pixels whose products all have one sign, or cancel; weights that round badly."""
    rng = np.random.default_rng(8)
    dn = rng.integers(20000, 32767, (600, n_bands)).astype(np.int16)
    dn[::2, ::2] *= -1
    dn[::50] = 0  # which leaves the errors of the biases alone
    scaler = Scaler(np.full(n_bands, mean), rng.uniform(1, 2, n_bands), True)
    scorer = Scorer(rng.choice([-1, 1], (6, 1)) * rng.uniform(1e4, 3e4, (6, n_bands)), scaler)
    assert scorer._limbs is not None
    unit = Fraction(1, 1 << (2 * scorer._limbs.bits))
    exact = exact_scores(dn, scorer) * unit
    for offset, biases, bias_error in (
        (scorer.offset, scorer._biases, scorer._bias_error),
        (0, scorer._plain_biases, scorer._plain_error),
    ):
        pixels = dn.astype(np.float32) - offset
        found = (pixels @ scorer.weights).astype(np.float64) + biases
        error = np.array([[float(abs(Fraction(f) - e)) for f, e in zip(*rows, strict=True)]
                          for rows in zip(found.tolist(), exact, strict=True)])  # fmt: skip
        length = np.sqrt(np.square(pixels.astype(np.float64)).sum(axis=1))
        assert (error.max(axis=1) <= scorer._gamma * length + bias_error).all()


@pytest.mark.parametrize(("brighter", "is_plain"), [(0, True), (20000, False)])
def test_scorer__rescores_few_pixels(
    brighter: int, is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where pixels differ by little of what they all have."""
    dn = (land(20000, 358) // (10 if brighter else 1) + brighter).astype(np.int16)
    scorer = Scorer(dn[:8] + 0.3, scaler_of(dn))
    assert scorer.is_plain == is_plain
    asked: list[int] = []
    original = Scorer._label_near
    monkeypatch.setattr(
        Scorer, "_label_near", lambda s, x: (asked.append(len(x)), original(s, x))[1]
    )
    labels = label_pixels(dn, [scorer])[0]
    assert sum(asked) < 0.01 * len(dn)
    np.testing.assert_array_equal(labels[:400], exact_labels(dn[:400], scorer))


def test_scorer__lower_number_wins_a_tie() -> None:
    dn = np.array([[0, 0], [2, 0], [1, 0], [1, 5]], dtype=np.int16)
    scaler = Scaler(np.array([1.0, 0.0]), np.ones(2), True)
    centres = np.array([[0.0, 0.0], [2.0, 0.0]])
    for order in ([0, 1], [1, 0]):
        labels = label_pixels(dn, [Scorer(centres[order], scaler)])[0]
        assert labels[2] == labels[3] == 0
        assert labels[0] == order.index(0)
    same = Scorer(np.tile(dn.mean(axis=0), (255, 1)), scaler)  # all centres equal
    assert not label_pixels(dn, [same]).any()
    sums = sum_clusters(dn, same)
    assert sums.counts[0] == 4
    assert not sums.counts[1:].any()


def test_scorer__constant_bands_change_nothing() -> None:
    dn = land(500, 20)
    wide = np.concatenate([dn, np.full((500, 3), -77, np.int16)], axis=1)
    centres = dn[:4] + 0.0
    labels = label_pixels(dn, [Scorer(centres, scaler_of(dn))])
    again = label_pixels(wide, [Scorer(wide[:4] + 0.0, scaler_of(wide))])
    np.testing.assert_array_equal(labels, again)


@pytest.mark.parametrize("jump", [1, 30000])
def test_scorer__band_of_tiny_scale_among_others(jump: int) -> None:
    """A band constant in all of 1e8 pixels but one, which has a cluster of its own."""
    dn = land(2000, 100)
    dn[:, 50] = 1000
    dn[0, 50] += jump
    scaler = scaler_of(dn)
    mean, scale = scaler.mean.copy(), scaler.scale.copy()
    mean[50], scale[50] = 1000 + jump / 1e8, jump / 1e4
    scaler = Scaler(mean, scale, True)
    centres = dn[:8] + 0.25 * np.arange(8)[:, None]
    centres[1:, 50] = 1000
    scorer = Scorer(centres, scaler)
    labels = label_pixels(dn, [scorer])[0]
    assert assert_nearest(labels, dn, centres, scaler) == 0
    assert len(np.unique(labels)) == 8
    np.testing.assert_array_equal(labels[:300], exact_labels(dn[:300], scorer))


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
@pytest.mark.parametrize("scale", [9000.0, 900.0])
def test_sum_clusters__exact_at_the_corners_of_the_dtype(dtype: str, scale: float) -> None:
    info = np.iinfo(dtype)
    rng = np.random.default_rng(2)
    dn = rng.choice(np.array([info.min, info.max], dtype), (2500, 11), p=[0.02, 0.98])
    scaler = Scaler(np.full(11, float(info.min)), np.full(11, scale), True)  # |x| = 65535
    scorer = Scorer(dn[:3] + 0.0, scaler)
    assert scorer.is_plain == (scale == 9000 or dtype == "uint16")
    sums = sum_clusters(dn, scorer)
    labels = label_pixels(dn, [scorer])[0]
    assert sums.sums.dtype == sums.counts.dtype == np.int64
    for k in range(3):
        wide = dn[labels == k].astype(np.int64) - info.min
        np.testing.assert_array_equal(sums.sums[k], wide.sum(axis=0))
        assert sums.counts[k] == len(wide)
    halves = [sum_clusters(part, scorer) for part in (dn[:700], dn[700:], dn[:0])]
    total = sum(halves[1:], halves[0])
    assert isinstance(total, ClusterSums)
    np.testing.assert_array_equal(total.sums, sums.sums)
