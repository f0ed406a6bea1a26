"""Indices of every combination of small integers, against fractions that are computed exactly.

A value is missing where, and only where, the sign of a denominator is not known within half
a digital number of each band, or a reflectance that has to be positive is not. ``missing`` of
a case says so by hand, for each formula.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from hyperhpc.analysis.evaluation import NEAR_ZERO, NOT_POSITIVE, IndexValues
from hyperhpc.analysis.indices import built_in, choose_indices, compute_indices

#: Digital numbers of each band.
SMALL = range(-2, 13)
HALF = Fraction(1, 2)

Number = Fraction | float
Case = tuple[str, Callable[..., Number], Callable[..., bool]]


def ln(x: Fraction) -> float:
    return math.log(x)


def ratio_of_ln(a: Fraction, b: Fraction) -> float:
    """NDLI and NDNI, of the band in both logarithms last."""
    return (ln(1 / a) - ln(1 / b)) / (ln(1 / a) + ln(1 / b))


def ln_missing(s: int, a: int, b: int) -> bool:
    if a <= 0 or b <= 0:
        return True
    return abs(math.log(Fraction(s * s, a * b))) <= HALF / a + HALF / b


#: Name, value of reflectance (bands by ascending wavelength), where missing: scale and DN.
BUILT_IN: list[Case] = [
    ("ndvi", lambda r, n: (n - r) / (n + r), lambda s, r, n: abs(n + r) <= 1),
    ("cai", lambda a, b, c: HALF * (a + c) - b, lambda s, *dn: False),
    ("ndli", lambda a, b: ratio_of_ln(b, a), ln_missing),
    ("ndni", ratio_of_ln, ln_missing),
    ("mrendvi", lambda a, b, c: (c - b) / (c + b - 2 * a),
     lambda s, a, b, c: abs(c + b - 2 * a) <= 2),
    ("sipi", lambda a, b, c: (c - a) / (c - b), lambda s, a, b, c: abs(c - b) <= 1),
    ("cri1", lambda a, b: 1 / a - 1 / b, lambda s, a, b: a <= 0 or b <= 0),
    ("cri2", lambda a, b: 1 / a - 1 / b, lambda s, a, b: a <= 0 or b <= 0),
]  # fmt: skip

#: Formulas of users: a, b and c are R(500), R(600) and R(700).
USERS: list[Case] = [
    ("b / a", lambda a, b: b / a, lambda s, a, b: a <= 0),
    ("(c - a) / (c + a)", lambda a, c: (c - a) / (c + a), lambda s, a, c: abs(a + c) <= 1),
    ("2.5 * (c - b) / (c + 6 * b - 7.5 * a + 1)",
     lambda a, b, c: Fraction(5, 2) * (c - b) / (c + 6 * b - Fraction(15, 2) * a + 1),
     lambda s, a, b, c: abs(c + 6 * b - 7.5 * a + s) <= 7.25),
    ("1 / (a * b)", lambda a, b: 1 / (a * b), lambda s, a, b: a == 0 or b == 0),
    ("a ** -1", lambda a: 1 / a, lambda s, a: a <= 0),
    ("1 / (a - b) ** 2", lambda a, b: 1 / (a - b) ** 2, lambda s, a, b: abs(a - b) <= 1),
    ("(b / a - 1) / (b / a + 1)", lambda a, b: (b / a - 1) / (b / a + 1),
     lambda s, a, b: a <= 0 or abs(a + b) * 2 * a <= a + abs(b)),
    ("ln(a)", ln, lambda s, a: a <= 0),
    ("ln(a - b)", lambda a, b: ln(a - b), lambda s, a, b: a - b <= 1),
    ("ln(a / b)", lambda a, b: ln(a / b), lambda s, a, b: a <= 0 or b <= 0),
    ("sqrt(a) / b", lambda a, b: math.sqrt(a) / b, lambda s, a, b: a < 0 or b <= 0),
    ("1 / sqrt(a + b)", lambda a, b: 1 / math.sqrt(a + b), lambda s, a, b: a + b <= 1),
    ("exp(a) / (b - 2 * c)", lambda a, b, c: math.exp(a) / (b - 2 * c),
     lambda s, a, b, c: abs(b - 2 * c) <= 1.5),
    ("(a - b) / (a - b)", lambda a, b: Fraction(1), lambda s, a, b: abs(a - b) <= 1),
    ("a / (b - 0.5 * b)", lambda a, b: 2 * a / b, lambda s, a, b: b <= 0),
    ("1 / abs(a - b)", lambda a, b: 1 / abs(a - b), lambda s, a, b: abs(a - b) <= 1),
    ("a / b / c", lambda a, b, c: a / b / c, lambda s, a, b, c: b <= 0 or c <= 0),
    ("a / (1 / (b - c))", lambda a, b, c: a * (b - c), lambda s, a, b, c: abs(b - c) <= 1),
    ("1 / (a / 3 + b / 7)", lambda a, b: 1 / (a / 3 + b / 7),
     lambda s, a, b: abs(7 * a + 3 * b) <= 5),
    ("1 / (0.1 * a + 0.2 * b - 0.3 * c)", lambda a, b, c: 10 / (a + 2 * b - 3 * c),
     lambda s, a, b, c: abs(a + 2 * b - 3 * c) <= 3),
    ("a / (b - b * c)", lambda a, b, c: a / (b - b * c),
     lambda s, a, b, c: abs(b * s - b * c) <= HALF * s + HALF * (abs(b) + abs(c))),
    ("a * (b - c) ** -(0.5 + 0.5)", lambda a, b, c: a / (b - c),
     lambda s, a, b, c: abs(b - c) <= 1),
    ("2 ** a / (ln(b) + 1)", lambda a, b: 2.0 ** float(a) / (ln(b) + 1),
     lambda s, a, b: b <= 0 or abs(math.log(Fraction(b, s)) + 1) <= HALF / b),
    ("1 / (R(495, 605) - c)", lambda a, b, c: 1 / ((a + b) / 2 - c),
     lambda s, a, b, c: abs(a + b - 2 * c) <= 2),
]  # fmt: skip
CENTRES_NM = {"a": 500, "b": 600, "c": 700}


def compute(name: str, dn: np.ndarray, scale: float) -> IndexValues:
    """A built-in index, or a formula of a, b and c; bands (pixel, band) in ascending order."""
    if name in built_in():
        bound, _ = choose_indices([name], {}, np.array(built_in()[name].formula.wanted_nm))
    else:
        centres = np.array([500.0, 600.0, 700.0])[: dn.shape[1]]
        if "c" in name and dn.shape[1] == 2:
            centres = np.array([500.0, 700.0])
        text = re.sub(r"\b[abc]\b", lambda m: f"R({CENTRES_NM[m[0]]})", name)
        bound, _ = choose_indices([], {"own": text}, centres)
    found = compute_indices(dn, bound, scale_factor=scale)
    return IndexValues(found.values[0], found.causes[0])


@pytest.mark.parametrize("scale", [10000, 4])  # reflectance 1, of which the logarithm is 0
@pytest.mark.parametrize("case", [*BUILT_IN, *USERS], ids=lambda case: case[0])
def test_evaluate__missing_where_a_sign_is_not_known(case: Case, scale: int) -> None:
    name, value, missing = case
    n_bands = 1 if value is ln else value.__code__.co_argcount
    combinations = list(product(SMALL, repeat=n_bands))
    is_missing = np.array([missing(scale, *dn) for dn in combinations])
    for dtype in ("int16", "int32", "float32") if scale == 10000 else ("int16",):
        found, causes = compute(name, np.array(combinations, dtype), scale)
        np.testing.assert_array_equal(np.isnan(found), is_missing)
        assert is_missing[causes > 0].all()
        if "sqrt" not in name:  # of a negative number: not finite, as before
            assert causes[is_missing].all()
    exact = [
        float(value(*(Fraction(n, scale) for n in dn)))
        for dn, is_out in zip(combinations, is_missing, strict=True)
        if not is_out
    ]
    np.testing.assert_allclose(found[~is_missing], exact, rtol=1e-11, atol=1e-10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["ndvi", "mrendvi", "sipi"])
def test_evaluate__floats_that_cancel_exactly(name: str, dtype: str) -> None:
    """Reflectance as floating point: what is left of 0 is rounding, and missing."""
    zero = {"ndvi": lambda r, n: n + r, "mrendvi": lambda a, b, c: c + b - 2 * a,
            "sipi": lambda a, b, c: c - b}[name]  # fmt: skip
    n_bands = 2 if name == "ndvi" else 3
    combinations = np.array(list(product(SMALL, repeat=n_bands)))
    found, causes = compute(name, (combinations / 10000).astype(dtype), 1.0)
    is_zero = zero(*combinations.T) == 0
    np.testing.assert_array_equal(np.isnan(found), is_zero)
    np.testing.assert_array_equal(causes == NEAR_ZERO, is_zero)
    bright = combinations + 3000  # the rounding of large numbers
    found, _ = compute(name, (bright / 10000).astype(dtype), 1.0)
    np.testing.assert_array_equal(np.isnan(found), zero(*bright.T) == 0)


def test_evaluate__causes_of_pixels_that_are_missing_anyway() -> None:
    """A cause is counted only where the pixel and the bands of the index have data."""
    dn = np.array([[5, 5], [0, 5], [-9999, 0], [0, -9999], [0, 0], [3, 2]], np.int16)
    bound, _ = choose_indices(["cri1"], {"own": "1 / (R(510) - R(550))"}, np.array([510.0, 550.0]))
    is_missing = np.arange(6) == 4
    found = compute_indices(
        dn, bound, scale_factor=10000.0, nodata=[-9999.0], is_missing=is_missing
    )
    assert found.causes[0].tolist() == [0, NOT_POSITIVE, 0, 0, 0, 0]
    assert found.causes[1].tolist() == [NEAR_ZERO, 0, 0, 0, 0, NEAR_ZERO]
    assert np.flatnonzero(np.isnan(found.values[0])).tolist() == [1, 2, 3, 4]
