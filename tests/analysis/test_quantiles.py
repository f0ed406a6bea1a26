"""Quantiles in groups against numpy's, whatever the parts and their order."""

from __future__ import annotations

import numpy as np
import pytest

from hyperhpc.analysis.quantiles import GroupQuantiles


def quantiles(
    values: np.ndarray, groups: np.ndarray, n_groups: int, edges: list[int]
) -> np.ndarray:
    found = GroupQuantiles(n_groups, (0.0, 0.25, 0.5, 0.75, 0.9, 1.0))
    for _ in range(found.n_passes):
        for part in reversed(np.split(np.arange(len(values)), edges)):
            found.add(values[part], groups[part])
        found.end_pass()
    return found.values()


@pytest.mark.parametrize("kind", ["wide", "narrow", "whole", "signs"])
def test_group_quantiles__are_numpys(kind: str) -> None:
    rng = np.random.default_rng(0)
    n = 20_000
    values = {
        "wide": rng.normal(size=n) * 10.0 ** rng.integers(-30, 30, n),
        "narrow": 0.7 + 1e-6 * rng.normal(size=n),
        "whole": rng.integers(-3, 3, n),
        "signs": rng.choice([-0.0, 0.0, -1e-45, 1e-45, 3.4e38, -3.4e38], n),
    }[kind].astype(np.float32)  # fmt: skip
    groups = rng.choice([0, 1, 1, 3, 3, 3, 3], n).astype(np.uint8)
    values[groups == 1] += np.float32(kind == "narrow")
    single = len(values) // 2
    groups[single] = 4  # a group of one value; group 2 is empty
    found = quantiles(values, groups, 5, [1, 7, n // 3])
    np.testing.assert_array_equal(found, quantiles(values, groups, 5, [n // 2]))
    assert np.isnan(found[:, 2]).all()
    assert (found[:, 4] == values[single]).all()
    for group in (0, 1, 3):
        own = values[groups == group].astype(np.float64)
        expected = np.quantile(own, (0.0, 0.25, 0.5, 0.75, 0.9, 1.0))
        np.testing.assert_allclose(found[:, group], expected, rtol=1e-14)
