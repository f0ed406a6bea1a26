"""Which pixels and values are no-data, for every way a file may declare it."""

from __future__ import annotations

import numpy as np
import pytest

from hyperhpc.analysis.bands import nodata_in_dtype
from hyperhpc.analysis.kernel import SLICE, valid_pixels


def test_nodata_in_dtype__only_what_the_dtype_can_hold() -> None:
    marks = nodata_in_dtype([-9999, -9999.0, -100.5, 65535, np.nan, np.inf], np.dtype("int16"))
    assert marks == [-9999, -9999]
    assert {type(mark) for mark in marks} == {np.int16}
    assert nodata_in_dtype([np.float64(-1), 65535.0], np.dtype("uint16")) == [65535]
    assert nodata_in_dtype([0.1, 1e39, -np.inf], np.dtype("float32")) == [np.float32(0.1)]


def test_valid_pixels__marks() -> None:
    dn = np.array([[1, 2], [-9999, 2], [3, -100], [32767, 0], [5, 6]], dtype=np.int16)
    cases: list[tuple[list[float], list[int]]] = [
        ([-9999], [1]),
        ([-9999.0, -100.0], [1, 2]),
        ([32767], [3]),
        ([-9999, 32767, 6], [1, 3, 4]),
        ([0], [3]),
        ([], []),
        ([70000, -9999.5, 1e20, np.nan, np.inf, -np.inf, 65535], []),
    ]
    for nodata, bad in cases:
        assert np.flatnonzero(~valid_pixels(dn, nodata)).tolist() == bad, nodata
    assert valid_pixels(dn[:0], [-9999]).shape == (0,)
    assert np.flatnonzero(~valid_pixels(dn.astype(np.uint16), [-9999, 32767.0])).tolist() == [3]
    assert not valid_pixels(np.full((3, 2), 65535, np.uint16), [65535]).any()


def test_valid_pixels__only_good_bands_count() -> None:
    dn = np.zeros((4, 6), dtype=np.int16)
    dn[0, 0] = dn[1, 3] = dn[2, 5] = -9999
    assert valid_pixels(dn, [-9999], np.array([0, 1, 4, 5])).tolist() == [0, 1, 0, 1]
    assert valid_pixels(dn, [-9999], np.array([3])).tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("mark", [-9999.0, -9999.1, 1e20, -3.4e38, 3.4028234663852886e38, 0.1])
@pytest.mark.parametrize("kind", [float, np.float64])
def test_valid_pixels__float_marks_as_the_scene_rounds_them(mark: float, kind: type) -> None:
    dn = np.array([[0.5, 0.25], [0.5, mark], [np.nan, 0.5], [0.5, np.inf]], dtype=np.float32)
    assert valid_pixels(dn, [kind(mark)]).tolist() == [True, False, False, False]
    assert valid_pixels(dn, [1e39, np.nan]).tolist() == [True, True, False, False]


def test_valid_pixels__equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    for dtype in ("int16", "uint16", "float32"):
        dn = rng.integers(0, 9, (SLICE + 3, 5)).astype(dtype)
        for nodata in ([0], [8], [3, 4], [0, 8, 5]):
            expected = ~np.isin(dn, nodata).any(axis=1)
            np.testing.assert_array_equal(valid_pixels(dn, nodata), expected)
