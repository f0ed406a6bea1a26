"""Pixels, and independent computations of what the kernel promises."""

from __future__ import annotations

import numpy as np

from hyperhpc.analysis.kernel import Scaler, Scorer


def scaler_of(dn: np.ndarray) -> Scaler:
    scale = dn.std(axis=0, dtype=np.float64)
    scale[scale == 0] = 10000.0
    is_integer = np.issubdtype(dn.dtype, np.integer)
    return Scaler(dn.mean(axis=0, dtype=np.float64), scale, is_integer)


def distances(dn: np.ndarray, centres: np.ndarray, scaler: Scaler) -> np.ndarray:
    """Squared scaled distances (pixel, cluster), difference by difference."""
    scaled = dn.astype(np.float64) / scaler.scale
    return np.stack([np.square(scaled - c / scaler.scale).sum(axis=1) for c in centres], axis=1)


def assert_nearest(labels: np.ndarray, dn: np.ndarray, centres: np.ndarray, s: Scaler) -> float:
    """Labels are nearest but for ties below 1e-5; returns the share of other labels."""
    d = distances(dn, centres, s)
    chosen = d[np.arange(len(dn)), labels]
    assert (chosen <= d.min(axis=1) * (1 + 1e-5) + 1e-12).all()
    return float((labels != d.argmin(axis=1)).mean())


def exact_scores(dn: np.ndarray, scorer: Scorer) -> np.ndarray:
    """The definition in Python's own integers (pixel, cluster), in 2**-(2 bits)."""
    limbs = scorer._limbs
    assert limbs is not None
    units = [1 << (2 * limbs.bits), 1 << limbs.bits, 1]

    def whole(parts: list[np.ndarray]) -> np.ndarray:
        cut = (np.frompyfunc(int, 1, 1)(part) for part in parts)
        return sum(part * unit for part, unit in zip(cut, units, strict=True))

    centred = np.frompyfunc(int, 1, 1)(dn.astype(np.int64) - scorer.offset.astype(np.int64))
    return centred.dot(whole(limbs.weights)) + whole(limbs.biases)


def exact_labels(dn: np.ndarray, scorer: Scorer) -> np.ndarray:
    scores = exact_scores(dn, scorer).tolist()
    return np.array([min(range(len(row)), key=row.__getitem__) for row in scores])


def land(n: int, n_bands: int, seed: int = 0, dtype: str = "int16") -> np.ndarray:
    """Pixels of a dozen materials with brightness and noise."""
    rng = np.random.default_rng(seed)
    spectra = np.abs(np.cumsum(rng.normal(0, 150, (12, n_bands)), axis=1)) + 200
    pixels = spectra[rng.integers(12, size=n)] * rng.normal(1, 0.2, (n, 1))
    return (pixels + rng.normal(0, 40, pixels.shape)).clip(0, 30000).astype(dtype)
