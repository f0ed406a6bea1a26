"""Values of index formulas, and where there is none because a sign is not known.

A stored integer stands for all numbers within half a digital number (DN) of it. A sum of
bands with the factors c is therefore known to half the sum of \\|c\\| DN. Where a denominator is
not farther from zero than that, even its sign is not known, and a quotient could be
anything: the value is missing. So it is where the argument of a logarithm may be zero, and where
``1 / R`` or ``ln(R)`` has an R that is not positive.

The error of what is not a sum of bands is propagated to first order (JCGM 100:2008, Guide to
the expression of uncertainty in measurement, section 5, here with the largest error of each
band instead of its standard deviation).
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from hyperhpc.analysis.formula import Formula, Node, Wanted, tree_of, walk

#: Causes of a missing value: a denominator is zero within its error, R is not positive.
NEAR_ZERO, NOT_POSITIVE = 1, 2
#: The causes by their names in run.json.
CAUSES = {"near_zero": NEAR_ZERO, "not_positive": NOT_POSITIVE}

_OPERATORS: dict[str, Callable] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": np.true_divide, "**": np.power,
    "neg": operator.neg, "pos": operator.pos,
    "ln": np.log, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs,
}  # fmt: skip
#: A bound and a value that are equal in exact arithmetic may differ by rounding in float64.
_SLACK = 1 + 1e-6
#: Floating-point numbers with such a divisor were integers once.
_DN_SCALE = 1000.0

Values = Any  # an array (pixel), or a number where a part of a formula reads no band


class IndexValues(NamedTuple):
    """Values (...), float64, NaN where missing; and uint8 (...), why, 0 for any other cause."""

    values: np.ndarray
    causes: np.ndarray


@dataclass(frozen=True)
class Precision:
    """How well reflectance is known: to ``step`` plus ``share`` of itself."""

    step: float = 0.0
    share: float = float(np.finfo(np.float64).eps)

    @classmethod
    def of(cls, dtype: np.dtype, scale_factor: float) -> Precision:
        """That of stored numbers: half a DN, or one unit in the last place of a float.

        Floats that are divided by 1000 or more are DN too.
        """
        if np.issubdtype(dtype, np.integer) or scale_factor >= _DN_SCALE:
            return cls(0.5 / scale_factor, 0.0)
        return cls(0.0, float(np.finfo(dtype).eps))


@dataclass(frozen=True, eq=False)
class _Check:
    """A denominator or the argument of a logarithm, whose sign has to be known."""

    node: Node
    is_logarithm: bool
    exponent: Node | None = None

    @property
    def is_band(self) -> bool:
        """True for a band alone: reflectance has to be positive."""
        return not self.exponent and bool(self.node.linear and self.node.linear.single)

    @property
    def key(self) -> str:
        """The same for equal checks of all formulas."""
        exponent = self.exponent.text if self.exponent else ""
        return f"{self.is_logarithm} {self.node.text} {exponent}"


class Evaluation:
    """Computes formulas for the same pixels; what several of them share is computed once."""

    def __init__(
        self,
        formulas: Sequence[Formula],
        reflectance: Mapping[Wanted, np.ndarray],
        precision: Precision,
    ) -> None:
        """``reflectance``: For each of ``wanted`` of the formulas the reflectance 0-1, float64,
        all of one shape; NaN where missing.
        """
        self._reflectance, self._precision = reflectance, precision
        self._kept = _worth_keeping(tuple(formula.text for formula in formulas))
        self._values: dict[str, Values] = {}
        self._errors: dict[str, Values] = {}
        self._masks: dict[str, Values] = {}

    def evaluate(self, formula: Formula) -> IndexValues:
        """Values of one of the formulas; missing where not finite or a sign is not known."""
        with np.errstate(all="ignore"):
            value = self._value(tree_of(formula.text))
            is_value = np.isfinite(value)
            if "**" in formula.text:  # NaN ** 0 and 1 ** NaN are 1: only a power can lose a NaN
                is_value = is_value & self._has_all(formula)
            failed = [
                (mask, NOT_POSITIVE if check.is_logarithm or check.is_band else NEAR_ZERO)
                for check in _checks(formula.text)
                if (mask := self._mask(check)) is not None
            ]
        causes = np.zeros(np.shape(value), np.uint8)
        for mask, why in failed:
            causes[mask] = np.maximum(causes[mask], why)
        if failed:
            is_value = is_value & (causes == 0)
            causes[~self._has_all(formula)] = 0
        return IndexValues(np.where(is_value, value, np.nan), causes)

    def _has_all(self, formula: Formula) -> np.ndarray:
        """Bool: no band of the formula is missing."""
        missing = (np.isnan(self._reflectance[wanted]) for wanted in formula.wanted)
        return ~np.logical_or.reduce(list(missing))

    def _value(self, node: Node) -> Values:
        if node.kind == "band":
            return self._reflectance[node.band]
        if node.kind == "number":
            return np.float64(node.number)
        if node.text in self._values:
            return self._values[node.text]
        value = _OPERATORS[node.kind](*[self._value(part) for part in node.parts])
        if node.text in self._kept:
            self._values[node.text] = value
        return value

    # Where a sign is not known ---------------------------------------------------------

    def _mask(self, check: _Check) -> Values | None:
        """Bool: where a check fails; None if nowhere."""
        if check.key not in self._masks:
            mask = self._compute_mask(check)
            self._masks[check.key] = mask if mask.any() else None
        return self._masks[check.key]

    def _compute_mask(self, check: _Check) -> Values:
        node = check.node
        if check.exponent:  # a denominator where the exponent is negative
            return self._sign_unknown(node) & (self._value(check.exponent) < 0)
        if node.linear and (factor := node.linear.single):
            value = self._value(node) if factor > 0 else -self._value(node)
            return value <= self._precision.step * abs(factor)
        if not check.is_logarithm:
            return self._sign_unknown(node)
        if _is_positive(node):
            return np.False_
        return self._sign_unknown(node) | (self._value(node) <= 0)

    def _sign_unknown(self, node: Node) -> Values:
        """Bool: where the error of a part reaches zero. Factors are judged one by one."""
        if node.kind in ("abs", "sqrt", "neg", "pos", "**"):
            return self._sign_unknown(node.parts[0])
        if not node.linear and node.kind == "*":
            return self._sign_unknown(node.parts[0]) | self._sign_unknown(node.parts[1])
        if not node.linear and node.kind == "/":  # its denominator has a check of its own
            return self._sign_unknown(node.parts[0])
        if node.kind == "exp":
            return np.False_
        return np.abs(self._value(node)) <= self._error(node) * _SLACK

    def _error(self, node: Node) -> Values:
        """The largest error of a part, to first order."""
        if node.kind == "number":
            return 0.0
        if node.linear and not self._precision.share:
            return self._precision.step * sum(map(abs, node.linear.factors.values()))
        if node.text not in self._errors:
            self._errors[node.text] = self._compute_error(node)
        return self._errors[node.text]

    def _compute_error(self, node: Node) -> Values:
        precision, kind, value = self._precision, node.kind, self._value
        if kind == "band":
            return precision.step + precision.share * np.abs(value(node))
        a, b = (*node.parts, None)[:2]
        assert a is not None
        if b is None:
            if kind == "ln":
                return self._relative_error(a)
            of_part = self._error(a)
            if kind == "exp":
                return of_part * value(node)
            return of_part / (2 * value(node)) if kind == "sqrt" else of_part
        if kind in "+-":
            return self._error(a) + self._error(b)
        if kind == "*":
            return np.abs(value(a)) * self._error(b) + np.abs(value(b)) * self._error(a)
        if kind == "/":
            errors = self._error(a) + np.abs(value(node)) * self._error(b)
            return errors / np.abs(value(b))
        by_base = np.abs(value(b) * value(a) ** (value(b) - 1)) * self._error(a)
        if not b.linear or b.linear.factors:
            by_base = by_base + np.abs(value(node) * np.log(value(a))) * self._error(b)
        return by_base

    def _relative_error(self, node: Node) -> Values:
        """The error of a part over its value; simple for quotients, which logarithms have."""
        if node.kind in "*/" and not node.linear:
            return self._relative_error(node.parts[0]) + self._relative_error(node.parts[1])
        if node.kind == "number":
            return 0.0
        return self._error(node) / np.abs(self._value(node))


def evaluate_formula(
    formula: Formula, reflectance: Mapping[Wanted, np.ndarray], precision: Precision | None = None
) -> IndexValues:
    """Values of one formula; arguments as in :class:`Evaluation`, by default for exact numbers."""
    return Evaluation([formula], reflectance, precision or Precision()).evaluate(formula)


def _is_positive(node: Node) -> bool:
    """True if a part is positive wherever no check of its own fails."""
    if node.kind == "/":
        below = node.parts[1].linear
        return _is_positive(node.parts[0]) and below is not None and (below.single or 0) > 0
    return node.kind == "exp" or (node.kind == "number" and node.number > 0)


@cache
def _checks(text: str) -> tuple[_Check, ...]:
    """All denominators and arguments of logarithms of a formula."""
    found = []
    for node in walk(tree_of(text)):
        if node.kind == "/" and not (node.parts[1].kind == "number" and node.parts[1].number):
            found.append(_Check(node.parts[1], is_logarithm=False))
        elif node.kind == "ln":
            found.append(_Check(node.parts[0], is_logarithm=True))
        elif node.kind == "**":
            base, exponent = node.parts
            linear = exponent.linear
            if linear is None or linear.factors:
                found.append(_Check(base, is_logarithm=False, exponent=exponent))
            elif linear.constant < 0:
                found.append(_Check(base, is_logarithm=False))
    return tuple(found)


@cache
def _worth_keeping(texts: tuple[str, ...]) -> frozenset[str]:
    """Parts of formulas that are needed more than once."""
    counts = Counter(node.text for text in texts for node in walk(tree_of(text)))
    kept = {text for text, n in counts.items() if n > 1}
    for text in texts:
        for check in _checks(text):
            if not (check.is_logarithm and _is_positive(check.node)):
                judged = [check.node] if check.node.linear else walk(check.node)
                kept.update(part.text for part in judged)
    return frozenset(kept)
