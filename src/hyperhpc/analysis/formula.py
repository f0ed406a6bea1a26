"""Index formulas: arithmetic on ``R(nm)``, checked against a whitelist, never run as code.

A formula such as ``(R(858.6) - R(648.2)) / (R(858.6) + R(648.2))`` may hold numbers,
``R(nm)``, ``+ - * / **``, brackets, and the functions ln, exp, sqrt and abs.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hyperhpc.errors import ConfigError

_OPERATORS: dict[type, Callable] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: np.true_divide,
    ast.Pow: np.power,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable] = {"ln": np.log, "exp": np.exp, "sqrt": np.sqrt, "abs": np.abs}
_MAX_LENGTH = 2000
#: A formula is walked by recursion, in workers whose stack is already deep.
_MAX_DEPTH = 200


@dataclass(frozen=True)
class Formula:
    """A parsed formula, and the wavelengths it reads, nm, ascending, without repeats."""

    text: str
    wanted_nm: tuple[float, ...]

    def evaluate(self, reflectance: Mapping[float, np.ndarray]) -> np.ndarray:
        """Values of the formula, float64; NaN where one is not finite.

        ``reflectance``: For each of ``wanted_nm`` the reflectance 0-1, float64, all of one
            shape; NaN where missing.
        """
        with np.errstate(all="ignore"):
            value = _compute(ast.parse(self.text, mode="eval").body, reflectance)
        is_value = np.isfinite(value)
        if "**" in self.text:  # NaN ** 0 and 1 ** NaN are 1: only a power can lose a NaN
            for nm in self.wanted_nm:
                is_value = is_value & ~np.isnan(reflectance[nm])
        return np.where(is_value, value, np.nan)


def parse_formula(text: str) -> Formula:
    """Check a formula; ConfigError if it is not arithmetic on at least one ``R(nm)``."""
    text = " ".join(text.split())
    if len(text) > _MAX_LENGTH:
        raise ConfigError(f"Formula of {len(text)} characters; at most {_MAX_LENGTH} are allowed")
    wanted: set[float] = set()
    try:
        if "#" in text:  # lines were joined, so that a comment would hide all that follows
            raise ValueError("comments are not allowed")
        with warnings.catch_warnings():  # Python warns of "1or 2"
            warnings.simplefilter("ignore")
            tree = ast.parse(text, mode="eval")
        _check(tree.body, wanted)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"Formula {text!r} is not arithmetic: {error}",
            "Write it with numbers, R(nm), + - * / **, brackets, ln, exp, sqrt and abs",
        ) from None
    if not wanted:
        raise ConfigError(
            f"Formula {text!r} reads no band", "Name a band by its wavelength in nm: R(860)"
        )
    return Formula(text, tuple(sorted(wanted)))


def _check(node: ast.AST, wanted: set[float], depth: int = 1) -> None:
    """Raise ValueError at the first node that is not on the whitelist."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"more than {_MAX_DEPTH} operations are nested in one another")
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        _check(node.left, wanted, depth + 1)
        _check(node.right, wanted, depth + 1)
    elif isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        _check(node.operand, wanted, depth + 1)
    elif isinstance(node, ast.Constant):
        _number(node)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        if len(node.args) != 1 or node.keywords:
            raise ValueError(f"{node.func.id} takes one value")
        if node.func.id == "R":
            wanted.add(_number(node.args[0]))
        elif node.func.id in _FUNCTIONS:
            _check(node.args[0], wanted, depth + 1)
        else:
            raise ValueError(f"there is no function {node.func.id!r}")
    else:
        raise ValueError(f"{ast.unparse(node)[:60]!r} is not allowed")


def _number(node: ast.AST) -> float:
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{ast.unparse(node)[:60]!r} is not a plain number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _compute(node: ast.AST, reflectance: Mapping[float, np.ndarray]) -> np.ndarray:
    """Compute a tree that :func:`_check` has accepted."""
    if isinstance(node, ast.BinOp):
        return _OPERATORS[type(node.op)](
            _compute(node.left, reflectance), _compute(node.right, reflectance)
        )
    if isinstance(node, ast.UnaryOp):
        return _OPERATORS[type(node.op)](_compute(node.operand, reflectance))
    if isinstance(node, ast.Call):
        name = node.func.id  # type: ignore[attr-defined]
        if name == "R":
            return reflectance[_number(node.args[0])]
        return _FUNCTIONS[name](_compute(node.args[0], reflectance))
    return np.float64(_number(node))  # type: ignore[return-value]
