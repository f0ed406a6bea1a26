"""Formulas: the arithmetic, and everything that is not arithmetic."""

from __future__ import annotations

import pickle
import threading

import numpy as np
import pytest

from hyperhpc.analysis.evaluation import evaluate_formula
from hyperhpc.analysis.formula import Formula, parse_formula
from hyperhpc.errors import ConfigError

A = np.array([0.4, 0.05, 0.0, -0.01, np.nan, 2.5])
B = np.array([0.1, 0.30, 0.0, 0.20, 0.50, np.nan])


def value_of(text: str) -> np.ndarray:
    return evaluate_formula(parse_formula(text), {800.0: A, 680.5: B}).values


@pytest.mark.parametrize(
    ("text", "function"),
    [
        ("(R(800) - R(680.5)) / (R(800) + R(680.5))", lambda a, b: (a - b) / (a + b)),
        ("R(800) - R(680.5) - 1", lambda a, b: (a - b) - 1),
        ("-R(800) ** 2 + +R(680.5)", lambda a, b: -(a**2) + b),
        ("2 ** 3 ** R(800) + 0 * R(680.5)", lambda a, b: 2 ** (3**a) + 0 * b),
        ("ln(1 / R(800)) * exp(R(680.5))", lambda a, b: np.log(1 / a) * np.exp(b)),
        ("sqrt(R(800)) + abs(R(800) - R(680.5))", lambda a, b: np.sqrt(a) + np.abs(a - b)),
        ("R(800) / R(680.5) / .5e1", lambda a, b: a / b / 5),
        ("1 / R(800) - 1 / R(680.5)", lambda a, b: np.where(a > 0, 1 / a, np.nan) - 1 / b),
        ("R(800) ** 0.5 - R(680.5)", lambda a, b: a**0.5 - b),
        ("exp(1e3 * R(800)) + R(680.5)", lambda a, b: np.exp(1000 * a) + b),
        ("R( 800.0 )\n + \tR(\n680.5)", lambda a, b: a + b),
    ],
)
def test_formula__numpy(text: str, function) -> None:
    with np.errstate(all="ignore"):
        expected = function(A, B)
    expected[~np.isfinite(expected)] = np.nan
    found = value_of(text)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float64


def test_formula__division_by_zero_and_logarithm_are_nan() -> None:
    assert np.isnan(value_of("1 / R(800)")).tolist() == [0, 0, 1, 1, 1, 0]
    assert np.isnan(value_of("ln(R(800))")).tolist() == [0, 0, 1, 1, 1, 0]
    assert np.isnan(value_of("sqrt(R(800))")).tolist() == [0, 0, 0, 1, 1, 0]
    assert np.isnan(value_of("R(800) / 0")).all()


def test_formula__missing_stays_missing_in_a_power() -> None:
    """NaN ** 0 and 1 ** NaN are 1 in numpy."""
    for text in ("R(800) ** 0 * 3", "1 ** R(800)", "abs(R(800)) ** 0 + 1"):
        assert np.isnan(value_of(text)).tolist() == [0, 0, 0, 0, 1, 0]
    assert np.isnan(value_of("R(800) ** 0 + 0 * R(680.5)")).tolist() == [0, 0, 0, 0, 1, 1]


def test_formula__wanted_wavelengths_and_shape() -> None:
    formula = parse_formula("R(800) / R(550.50) - R(8e2) + R(1_600)")
    assert formula.wanted_nm == (550.5, 800.0, 1600.0)
    bands = {nm: np.full((2, 3), nm) for nm in formula.wanted_nm}
    assert evaluate_formula(formula, bands).values.shape == (2, 3)
    assert pickle.loads(pickle.dumps(formula)) == formula
    assert formula == Formula(formula.text, formula.wanted_nm)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "R(800).__class__",
        "().__class__.__bases__[0]",
        "R(800)[0]",
        "(lambda: 1)() + R(800)",
        "R(800) if R(680) else 1",
        "[R(800) for x in (1,)]",
        "R(800) > 0",
        "R(800) and 1",
        "not R(800)",
        "~R(800)",
        "R(800) // 2",
        "R(800) % 2",
        "R(800) @ 2",
        "R(800) << 2",
        "R(800) & 1",
        "(r := R(800))",
        "f'{R(800)}' + R(800)",
        "f\"{__import__('os')}\" * R(800)",
        "'a' * R(800)",
        "b'a' * R(800)",
        "R('800')",
        "1j * R(800)",
        "R(1j)",
        "True * R(800)",
        "R(True)",
        "None * R(800)",
        "... * R(800)",
        "x * R(800)",
        "R * 2",
        "nan * R(800)",
        "pi * R(800)",
        "log(R(800))",
        "eval('1') + R(800)",
        "R(800, 680)",
        "R()",
        "R(nm=800)",
        "R(800, tolerance=50)",
        "R(*[800])",
        "R(**{})",
        "R(400 + 400)",
        "R(-800)",
        "R(R(800))",
        "R(1e999)",
        "1e999 * R(800)",
        "ln(R(800), 2)",
        "ln(*R(800))",
        "ln + R(800)",
        "ln(x=R(800))",
        "R(800)(680)",
        "(R)(800)(1)",
        "R(800), R(680)",
        "{R(800)}",
        "R(800); R(680)",
        "R(800) = 1",
        "x = R(800)",
        "import os",
        "yield R(800)",
        "await R(800)",
        "R(800) +",
        "R(800",
        "R(800))",
        "2R(800)",
        "R(800) R(680)",
        "1or R(800)",
        "R(800) ² ",
        "R(\uff18\uff10\uff10)",
        "R(800)\u200b",
        "R(800)\0",
        "\0",
        "R(800) \ud800",
        "R(800) # - R(680)",
        "R(800) # first\n - R(680)",
        "1" * 1500 + " * R(800)",
        "R(" + "9" * 400 + ")",
        "007 * R(800)",
        "",
        "   ",
    ],
)
def test_parse_formula__refuses_what_is_not_arithmetic(text: str) -> None:
    with pytest.raises(ConfigError, match="is not arithmetic") as caught:
        parse_formula(text)
    assert caught.value.hint
    assert len(caught.value.message) < 4000


def test_parse_formula__refuses_a_formula_without_bands() -> None:
    for text in ("1", "2 * (3 + 4)", "ln(2)"):
        with pytest.raises(ConfigError, match="reads no band"):
            parse_formula(text)


def test_parse_formula__refuses_the_endless() -> None:
    with pytest.raises(ConfigError, match="2012 characters; at most 2000"):
        parse_formula("+" * 2006 + "R(800)")
    deep = ["(" * 900 + "R(800)" + ")" * 900, "-" * 1900 + "R(800)", "-" * 250 + "R(800)",
            "abs(" * 250 + "R(800)" + ")" * 250, "+".join(["R(1)"] * 300),
            "**".join(["2"] * 500) + "*R(800)",
            "9" + "*(9" * 400 + "*R(8" + ")" * 401]  # fmt: skip
    for text in deep:
        with pytest.raises(ConfigError, match="is not arithmetic"):
            parse_formula(text)


def test_formula__long_but_sane_works_on_a_deep_stack() -> None:
    formula = parse_formula("+".join(["R(800)"] * 150))
    found: list[np.ndarray] = []

    def sink(depth: int) -> None:
        if depth:
            sink(depth - 1)
        else:
            found.append(evaluate_formula(formula, {800.0: A}).values)

    thread = threading.Thread(target=sink, args=(500,))
    thread.start()
    thread.join()
    np.testing.assert_allclose(found[0], 150 * A, rtol=1e-13)


def test_formula__towers_of_powers_do_not_hang() -> None:
    assert np.isnan(value_of("9**9**9**9**9 * R(800)")).all()
    np.testing.assert_array_equal(value_of("9**-9**9**9 + R(800)"), A)
    np.testing.assert_array_equal(value_of("(-8)**(1/3) + R(800)"), A * np.nan)
