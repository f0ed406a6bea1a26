"""Conditions: what they accept and refuse, and that they equal numpy on any pixels."""

from __future__ import annotations

import pickle
import string
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhpc.analysis.condition import (
    BoundConditions,
    bind_operands,
    index_formulas,
    parse_condition,
)
from hyperhpc.analysis.indices import SEED_NDLI
from hyperhpc.errors import ConfigError

#: Centres of a scene of six bands: NDVI reads the second and the third.
NM = np.array([550.0, 650.0, 860.0, 1000.0, 1680.0, 1754.0])
FORMULAS = index_formulas({"Wet": "R(860) - R(1680)"})


def bind(*texts: str) -> BoundConditions:
    conditions = tuple(parse_condition(text, FORMULAS) for text in texts)
    operands = bind_operands(conditions, NM)
    return BoundConditions(conditions, operands, 10000.0, (-9999.0,), (), np.zeros(6, bool))


def holds(text: str, dn: np.ndarray) -> list[bool]:
    return bind(text).test(dn, np.ones(len(dn), bool))[0].tolist()


DN = np.array([
    [500, 400, 4000, 4000, 2000, 1500],
    [500, 1000, 1500, 1600, 2000, 2100],
    [500, 1000, -9999, 1600, 2000, 2100],
    [500, 0, 0, 1600, 2000, 2100],
], np.int16)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NDVI > 0.2", [True, False, False, False]),
        ("ndvi>=0.19", [True, True, False, False]),
        ("0.1 < Ndvi <= 0.5", [False, True, False, False]),
        ("NDVI < 0.5 or R(550) < 1", [True, True, False, False]),  # a missing value fails
        ("not NDVI > 0.2", [False, True, False, False]),
        ("R(550) <= 0.05", [True, True, True, True]),
        ("wet > 0 and not (NDVI < 0.1 or R(550) > 1)", [True, False, False, False]),
        ("R(550, 650) > 0.05 * (1 + 1e-9)", [False, True, True, False]),
        ("abs(R(860) - R(1000)) + NDVI > 0.25", [True, False, False, False]),
        ("1 / R(650) > 0", [True, True, True, False]),
    ],
)
def test_condition__on_known_pixels(text: str, expected: list[bool]) -> None:
    assert holds(text, DN) == expected


def test_condition__pixels_that_are_not_valid_fail() -> None:
    found = bind("R(550) > 0", "NDVI > 0.3").test(DN, np.array([True, False, True, True]))
    assert found.tolist() == [[True, False, True, True], [True, False, False, False]]
    assert pickle.loads(pickle.dumps(bind("NDVI > 0"))).texts == ["NDVI > 0"]


def test_condition__all_built_in_names_and_those_of_the_tutorial() -> None:
    for name in FORMULAS:
        assert parse_condition(f"{name.upper()} > 0", FORMULAS).operands
    seed = index_formulas({}, is_seed_compat=True)
    (formula,) = parse_condition("NDLI > 0", seed).operands.values()
    assert formula.text.replace(" ", "") == SEED_NDLI.replace(" ", "")
    (mine,) = parse_condition("ndvi > 0", index_formulas({"NDVI": "R(1)"})).operands.values()
    assert mine.wanted == (1.0,)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("NDVI", "'NDVI' compares nothing"),
        ("NDVI > 0.2 and R(860)", "'R(860)' compares nothing"),
        ("1 < 2", "compares two numbers: no band is read"),
        ("0 < 1 < NDVI", "'0' < '1' compares two numbers"),
        ("NDVI == 1", "'NDVI == 1' does not compare with < <= > or >="),
        ("NDVI > 0.2 & R(860) > 0.05", "write and, or, not instead of &, |, ~"),
        ("(NDVI > 0) + 1 > 0", "computes with what a comparison gives"),
        ("NDVI > 1 / 0", "'1 / 0' has no value"),
        ("NDWI > 0", "There is no index 'NDWI'"),
        ("NDVI = 1", "invalid syntax"),
        ("", "invalid syntax"),
        ("NDVI > 0 # and", "comments are not allowed"),
        ("NDVI > 'a'", "is not a plain number"),
        ("NDVI > True", "is not a plain number"),
        ("R(860).x > 0", "'R(860).x' is not allowed"),
        ("R(lambda: 1) > 0", "is not allowed"),
        ("__import__('os').getpid() > 0", "is not allowed"),
        ("[R(860)] > 0", "is not allowed"),
        ("NDVI(860) > 0", "there is no function 'NDVI'"),
        ("R(860) > 1e999", "a number is too large"),
        ("not " * 300 + "NDVI > 0", "nested"),
        ("-" * 900 + "NDVI > 0", ""),
        ("NDVI > 0 and " * 200 + "NDVI > 0", "at most 2000"),
    ],
)
def test_condition__refused(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_condition(text, FORMULAS)
    assert problem in error.value.message


def test_condition__near_names_and_far_bands() -> None:
    with pytest.raises(ConfigError) as error:
        parse_condition("NDVY > 0", FORMULAS)
    assert "ndvi" in str(error.value.hint)
    with pytest.raises(ConfigError, match=r"'R\(3000\) > 0': No band within 5 nm of 3000 nm"):
        bind("R(3000) > 0")
    with pytest.raises(ConfigError, match="No band between 900 and 950 nm"):
        bind("R(900, 950) > 0")


Made = tuple[str, Callable[[np.ndarray], np.ndarray], frozenset[int]]
#: A side of a comparison: its text, what numpy makes of reflectance (pixel, band), bands read.
SIDES: list[Made] = [
    ("R(550)", lambda r: r[:, 0], frozenset({0})),
    ("NDVI", lambda r: (r[:, 2] - r[:, 1]) / (r[:, 2] + r[:, 1]), frozenset({1, 2})),
    ("wet * 2 - 0.01", lambda r: (r[:, 2] - r[:, 4]) * 2 - 0.01, frozenset({2, 4})),
    ("R(860, 1000)", lambda r: (r[:, 2] + r[:, 3]) / 2, frozenset({2, 3})),
    ("sqrt(R(1680))", lambda r: np.sqrt(r[:, 4]), frozenset({4})),
]
SIGNS = {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal}


@st.composite
def comparisons(draw: st.DrawFn) -> Made:
    text, value, bands = draw(st.sampled_from(SIDES))
    sign, limit = draw(st.sampled_from(sorted(SIGNS))), draw(st.floats(-0.5, 1).map(np.float64))
    if draw(st.booleans()):
        return f"{text} {sign} {limit!s}", lambda r: SIGNS[sign](value(r), limit), bands
    return f"{limit!s} {sign} {text}", lambda r: SIGNS[sign](limit, value(r)), bands


def join(parts: st.SearchStrategy[Made]) -> st.SearchStrategy[Made]:
    def both(word: str, how: Callable) -> st.SearchStrategy[Made]:
        return st.tuples(parts, parts).map(
            lambda p: (
                f"({p[0][0]}) {word} ({p[1][0]})",
                lambda r: how(p[0][1](r), p[1][1](r)),
                p[0][2] | p[1][2],
            )
        )

    negated = parts.map(lambda p: (f"not ({p[0]})", lambda r: ~p[1](r), p[2]))
    return st.one_of(both("and", np.logical_and), both("or", np.logical_or), negated)


@settings(max_examples=60, deadline=None)
@given(made=st.recursive(comparisons(), join, max_leaves=6), seed=st.integers(0, 2**32 - 1))
def test_condition__equals_numpy(made: Made, seed: int) -> None:
    text, compute, bands = made
    dn = np.random.default_rng(seed).integers(1, 10001, (200, 6)).astype(np.int16)
    dn[np.random.default_rng(seed).random(dn.shape) < 0.05] = -9999
    with np.errstate(all="ignore"):
        expected = compute(dn / 10000.0)
    expected &= (dn[:, sorted(bands)] != -9999).all(axis=1)
    np.testing.assert_array_equal(holds(text, dn), expected)


_WORDS = "NDVI R( R(860) ) ( < <= > >= == = and or not if else in is , 0.2 1e999 - ** / [ ' & ~ λ"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(_WORDS.split()), max_size=12).map(" ".join)
    | st.text(string.printable + "λ∧", max_size=30)
)
def test_condition__of_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ConfigError):
        found = bind(text).test(DN, np.ones(len(DN), bool))
        assert (found.dtype, found.shape) == (bool, (1, 4))
