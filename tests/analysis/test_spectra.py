"""Spectra at points: reflectance, neighbours, no-data."""

from __future__ import annotations

import numpy as np
import pytest

from hyperhpc.analysis.spectra import linear_spectrum, to_reflectance

SHAPE = (3, 4)
#: Linear in rows and columns, other slopes in each band.
VALUES = (
    np.arange(3)[:, None, None] * np.array([10.0, 1.0])
    + np.arange(4)[None, :, None] * np.array([1.0, -5.0])
    + 100.0
)


def reader(asked: list[tuple[int, ...]], values: np.ndarray = VALUES):
    def read(row0: int, row1: int, col0: int, col1: int) -> np.ndarray:
        assert 0 <= row0 < row1 <= SHAPE[0]
        assert 0 <= col0 < col1 <= SHAPE[1]
        asked.append((row0, row1, col0, col1))
        return values[row0:row1, col0:col1]

    return read


def same(values: np.ndarray) -> np.ndarray:
    return values


def test_to_reflectance__divides_and_masks() -> None:
    dn = np.array([[-9999, 5000, -100], [-100, 0, 32767]], dtype=np.int16)
    in_window = np.array([False, False, True])
    found = to_reflectance(dn, 10000.0, [-9999.0], [-100.0], in_window)
    expected = [[np.nan, 0.5, np.nan], [-0.01, 0.0, 3.2767]]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64
    plain = to_reflectance(dn, 10000.0, [])
    np.testing.assert_array_equal(plain, dn / 10000.0)
    np.testing.assert_array_equal(to_reflectance(dn, 10000.0, [], [-100.0]), plain)


def test_to_reflectance__float_scenes() -> None:
    dn = np.array([0.25, np.inf, np.nan, -9999.1, -3.4e38, 1e20], dtype=np.float32)
    marks = [np.float64(-9999.1), -3.4e38, 1e20, np.nan, 1e39]
    np.testing.assert_array_equal(to_reflectance(dn, 1.0, marks), [0.25] + 5 * [np.nan])


def test_linear_spectrum__reads_one_pixel_at_its_centre() -> None:
    asked: list[tuple[int, ...]] = []
    found = linear_spectrum(reader(asked), 2, 1, SHAPE, same)
    assert found is not None
    np.testing.assert_array_equal(found, VALUES[2, 1])
    assert asked == [(2, 3, 1, 2)]


@pytest.mark.parametrize(
    ("row", "col"), [(0.5, 0.5), (1.25, 2.75), (0.0, 0.0), (2.0, 3.0), (2.0, 1.5), (0.75, 3.0)]
)
def test_linear_spectrum__exact_on_a_plane(row: float, col: float) -> None:
    found = linear_spectrum(reader([]), row, col, SHAPE, same)
    expected = row * np.array([10.0, 1.0]) + col * np.array([1.0, -5.0]) + 100.0
    assert found is not None
    np.testing.assert_allclose(found, expected, rtol=1e-14)


@pytest.mark.parametrize("point", [(-0.01, 1.0), (1.0, -0.5), (2.1, 1.0), (0.0, 3.4), (9, 9)])
def test_linear_spectrum__none_beyond_the_outer_centres(point: tuple[float, float]) -> None:
    assert linear_spectrum(reader([]), *point, SHAPE, same) is None


def test_linear_spectrum__rounding_is_no_neighbour() -> None:
    """257000.1 m is pixel 0.9999999999 of a 0.1 m grid."""
    asked: list[tuple[int, ...]] = []
    for point in ((-1e-9, 3 + 1e-9), (2.0000000001, 0.99999999995)):
        found = linear_spectrum(reader(asked), *point, SHAPE, same)
        np.testing.assert_array_equal(found, VALUES[round(point[0]), round(point[1])])
    assert asked == [(0, 1, 3, 4), (2, 3, 1, 2)]


def test_linear_spectrum__no_data_of_a_neighbour_counts_if_it_has_weight() -> None:
    values = VALUES.copy()
    values[1, 1, 0] = np.nan
    read = reader([], values)
    found = linear_spectrum(read, 0.5, 0.5, SHAPE, same)
    assert found is not None
    assert np.isnan(found).tolist() == [True, False]
    for row, col in ((0.0, 0.5), (0.5, 0.0), (0.5, 2.0), (2.0, 1.0)):
        found = linear_spectrum(read, row, col, SHAPE, same)
        assert found is not None
        assert np.isfinite(found).all()
