"""Conditions on pixels: comparisons of indices and reflectance, never run as code.

A condition such as ``NDVI > 0.2 and R(860) > 0.05`` compares, with ``< <= > >=``, what a formula
may hold (:mod:`hyperhpc.analysis.formula`) and indices by their names; ``and``, ``or`` and ``not``
join comparisons. What is compared is computed as indices are, in float64. A pixel in which any of
it is missing fails the condition, whatever the rest says: ``not NDVI > 0.2`` does not hold where
NDVI has no value.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import reduce
from typing import Any

import numpy as np

from hyperhpc.analysis.evaluation import evaluate_formula
from hyperhpc.analysis.formula import MAX_DEPTH, MAX_LENGTH, Formula, read_formula
from hyperhpc.analysis.indices import (
    SEED_NDLI,
    BoundIndex,
    Index,
    bind_index,
    built_in,
    compute_indices,
)
from hyperhpc.errors import ConfigError

#: Pixels of which a condition is computed at a time: limits the float64 values of their bands.
_PIXELS = 65536
_HINT = (
    "Write it like NDVI > 0.2 and R(860) > 0.05: comparisons with < <= > >=, joined by and, or, "
    "not; what is compared as in --formula, with indices by their names"
)
_COMPARISONS: dict[type, tuple[str, Callable]] = {
    ast.Lt: ("<", operator.lt), ast.LtE: ("<=", operator.le),
    ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
}  # fmt: skip
_COMPARE = dict(_COMPARISONS.values())
_ARITHMETIC = (
    ast.BinOp, ast.UnaryOp, ast.Constant, ast.Call, ast.Name, ast.expr_context, ast.USub, ast.UAdd,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow,
)  # fmt: skip
_BITWISE = (ast.BitAnd, ast.BitOr, ast.BitXor, ast.Invert)


@dataclass(frozen=True)
class Test:
    """A part of a condition.

    ``kind``: ``and``, ``or``, ``not``, or one of ``< <= > >=``.
    ``parts``: What ``and``, ``or`` and ``not`` apply to.
    ``sides``: What is compared: texts of formulas, or numbers.
    """

    __test__ = False  # pytest takes the name for a test

    kind: str
    parts: tuple[Test, ...] = ()
    sides: tuple[str | float, ...] = ()

    def holds(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Bool (...), from float64 (...) of each formula by its text; NaN compares as False."""
        if self.sides:
            left, right = (values[s] if isinstance(s, str) else s for s in self.sides)
            return np.asarray(_COMPARE[self.kind](left, right))
        parts = [part.holds(values) for part in self.parts]
        if self.kind == "not":
            return ~parts[0]
        return reduce(np.logical_and if self.kind == "and" else np.logical_or, parts)


@dataclass(frozen=True)
class Condition:
    """A parsed condition.

    ``operands``: What it compares that reads bands: as it was written, and its formula.
    """

    text: str
    test: Test
    operands: Mapping[str, Formula]

    def holds(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Bool (...), from float64 (...) of each formula by its text; False where one is NaN."""
        known = [np.isfinite(values[formula.text]) for formula in self.operands.values()]
        return self.test.holds(values) & np.logical_and.reduce(known)


def index_formulas(formulas: Mapping[str, str], *, is_seed_compat: bool = False) -> dict[str, str]:
    """Formula of each name that a condition may use: the user's own, and all built-in indices.

    ``is_seed_compat``: As ``--seed-compat`` computes them.
    """
    known = {name: index.formula.text for name, index in built_in().items()}
    if is_seed_compat:
        known["ndli"] = SEED_NDLI
    return known | dict(formulas)


def parse_condition(text: str, formulas: Mapping[str, str]) -> Condition:
    """Check a condition, and put formulas in the place of names.

    ``formulas``: Formula of each name that may be used, in any case.

    Raises ConfigError: it is not made of comparisons, one compares only numbers, or it has an
    unknown name.
    """
    text = " ".join(text.split())
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"Condition of {len(text)} characters; at most {MAX_LENGTH} are allowed")
    parser = _Parser({name.lower(): formula for name, formula in formulas.items()})
    try:
        if "#" in text:  # lines were joined, so that a comment would hide all that follows
            raise ValueError("comments are not allowed")
        with warnings.catch_warnings():  # Python warns of "1or 2"
            warnings.simplefilter("ignore")
            test = parser.read(ast.parse(text, mode="eval").body)
    except SyntaxError as error:
        raise ConfigError(f"Condition {text!r} cannot be read: {error.msg}", _HINT) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"Condition {text!r} cannot be read: {error}", _HINT) from None
    return Condition(text, test, parser.operands)


class _Parser:
    """Reads one condition; ValueError at the first part that is not on the whitelist."""

    def __init__(self, formulas: Mapping[str, str]) -> None:
        self._names = _Names(formulas)
        self.operands: dict[str, Formula] = {}

    def read(self, node: ast.AST, depth: int = 1) -> Test:
        """A comparison, or several that are joined."""
        if depth > MAX_DEPTH:
            raise ValueError(f"more than {MAX_DEPTH} operations are nested in one another")
        if isinstance(node, ast.BoolOp):
            kind = "and" if isinstance(node.op, ast.And) else "or"
            return Test(kind, tuple(self.read(part, depth + 1) for part in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Test("not", (self.read(node.operand, depth + 1),))
        if isinstance(node, ast.Compare):
            return self._read_comparison(node)
        self._check_arithmetic(node)  # which may name what is wrong better
        raise ValueError(f"{_shown(node)} compares nothing")

    def _read_comparison(self, node: ast.Compare) -> Test:
        """One comparison, or a chain such as ``0.2 < NDVI < 0.8``: all of its pairs."""
        written = [node.left, *node.comparators]
        sides = [self._read_side(side) for side in written]
        tests = []
        for i, op in enumerate(node.ops):
            if type(op) not in _COMPARISONS:
                raise ValueError(f"{_shown(node)} does not compare with < <= > or >=")
            pair = sides[i], sides[i + 1]
            kind = _COMPARISONS[type(op)][0]
            if not any(isinstance(side, str) for side in pair):
                both = f"{_shown(written[i])} {kind} {_shown(written[i + 1])}"
                raise ValueError(f"{both} compares two numbers: no band is read")
            tests.append(Test(kind, sides=pair))
        return tests[0] if len(tests) == 1 else Test("and", tuple(tests))

    def _read_side(self, node: ast.expr) -> str | float:
        """Text of a formula, or a number if it reads no band."""
        self._check_arithmetic(node)
        written = ast.unparse(node)
        formula = read_formula(ast.unparse(self._names.visit(node)))
        if formula.wanted:
            self.operands[written] = formula
            return formula.text
        number = float(evaluate_formula(formula, {}).values)
        if not np.isfinite(number):
            raise ValueError(f"{_shown(node)} has no value")
        return number

    def _check_arithmetic(self, node: ast.AST) -> None:
        """Refuse what no formula may hold, before names give way to formulas."""
        for part in ast.walk(node):
            if isinstance(part, _BITWISE):
                raise ValueError(f"in {_shown(node)}: write and, or, not instead of &, |, ~")
            if isinstance(part, ast.Compare | ast.BoolOp | ast.Not):
                raise ValueError(f"{_shown(node)} computes with what a comparison gives")
            if not isinstance(part, _ARITHMETIC):
                raise ValueError(f"{_shown(part) or _shown(node)} is not allowed")


class _Names(ast.NodeTransformer):
    """Puts the formulas of indices in the place of their names."""

    def __init__(self, formulas: Mapping[str, str]) -> None:
        self._formulas = formulas

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """Leave the name of a function alone."""
        arguments: Any = [self.visit(argument) for argument in node.args]
        return ast.Call(node.func, arguments, node.keywords)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """The formula of an index; ConfigError if there is none of this name."""
        name = node.id.lower()
        if name in self._formulas:
            return ast.parse(" ".join(self._formulas[name].split()), mode="eval").body
        near = get_close_matches(name, self._formulas, n=4, cutoff=0.5)
        known = f"Near ones are {' '.join(near)}" if near else " ".join(self._formulas)
        raise ConfigError(
            f"There is no index {node.id!r} to put a condition on",
            f"{known}; a band is R(nm), and --formula {name}=EXPR makes an index of your own",
        )


def _shown(node: ast.AST) -> str:
    """A part as it was written, shortened."""
    text = ast.unparse(node)
    return repr(text if len(text) <= 60 else f"{text[:57]}...") if text else ""


# --- conditions on the pixels of a scene -------------------------------------------------


@dataclass(frozen=True)
class BoundConditions:
    """Conditions, and the bands of a scene that they read; pixels have to meet all of them.

    ``operands``: What they compare, in no particular order, without repeats.
    ``scale_factor`` and so on: As in :func:`~hyperhpc.analysis.spectra.to_reflectance`.
    """

    conditions: tuple[Condition, ...]
    operands: tuple[BoundIndex, ...]
    scale_factor: float
    nodata: tuple[float, ...]
    window_nodata: tuple[float, ...]
    is_window_band: np.ndarray

    def __len__(self) -> int:
        return len(self.conditions)

    @property
    def texts(self) -> list[str]:
        """The conditions as they were given."""
        return [condition.text for condition in self.conditions]

    @property
    def names(self) -> list[str]:
        """What is compared, as it was written, in the order of :meth:`values`."""
        return [bound.index.name for bound in self.operands]

    def values(self, dn: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
        """Float64 (operand, pixel), what is compared; NaN where missing.

        ``dn``: DN (pixel, band), all bands of the scene. ``is_valid``: Bool (pixel).
        """
        found = np.empty((len(self.operands), len(dn)))
        for start in range(0, len(dn) if self.operands else 0, _PIXELS):
            rows = slice(start, start + _PIXELS)
            found[:, rows] = compute_indices(
                dn[rows],
                self.operands,
                scale_factor=self.scale_factor,
                is_missing=~is_valid[rows],
                nodata=self.nodata,
                window_nodata=self.window_nodata,
                is_window_band=self.is_window_band,
            ).values
        return found

    def hold(self, values: np.ndarray) -> np.ndarray:
        """Bool (condition, pixel), from :meth:`values`."""
        texts = [bound.index.formula.text for bound in self.operands]
        by_text = dict(zip(texts, values, strict=True))
        found = [condition.holds(by_text) for condition in self.conditions]
        return np.array(found, bool).reshape(len(found), values.shape[1])

    def test(self, dn: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
        """Bool (condition, pixel): which of them hold; arguments as in :meth:`values`."""
        return self.hold(self.values(dn, is_valid))


#: Every valid pixel meets none.
NO_CONDITIONS = BoundConditions((), (), 1.0, (), (), np.zeros(0, bool))


def bind_operands(
    conditions: Sequence[Condition], wavelength_nm: np.ndarray, seed_bands: np.ndarray | None = None
) -> tuple[BoundIndex, ...]:
    """Find the bands of all that is compared; the arguments are those of ``bind_index``.

    Raises ConfigError: the scene has no band for a wavelength.
    """
    found: dict[str, BoundIndex] = {}
    for condition in conditions:
        for written, formula in condition.operands.items():
            try:
                bound = bind_index(Index(written, written, formula, {}), wavelength_nm, seed_bands)
            except ConfigError as error:
                raise ConfigError(
                    f"Condition {condition.text!r}: {error.message}",
                    error.hint or "Compare bands that the scene has: hyperhpc info lists them",
                ) from None
            found.setdefault(formula.text, bound)
    return tuple(found.values())
