"""Index formulas: arithmetic on ``R(nm)``, checked against a whitelist, never run as code.

A formula such as ``(R(858.6) - R(648.2)) / (R(858.6) + R(648.2))`` may hold numbers,
``R(nm)``, ``R(low, high)``, ``+ - * / **``, brackets, and the functions ln, exp, sqrt and abs.
:mod:`hyperhpc.analysis.evaluation` computes what is parsed here.
"""

from __future__ import annotations

import ast
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from hyperhpc.analysis.bands import Window
from hyperhpc.errors import ConfigError

#: What ``R(nm)`` or ``R(low, high)`` asks for.
Wanted = float | Window

_OPERATORS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**",
    ast.USub: "neg", ast.UAdd: "pos",
}  # fmt: skip
_FUNCTIONS = frozenset({"ln", "exp", "sqrt", "abs"})
MAX_LENGTH = 2000
#: A formula is walked by recursion, in workers whose stack is already deep.
MAX_DEPTH = 200


@dataclass(frozen=True)
class Formula:
    """A parsed formula.

    ``wanted_nm``: Wavelengths that it reads, nm, ascending, without repeats.
    ``windows_nm``: Windows (low, high) of which it reads the mean of all bands, likewise.
    """

    text: str
    wanted_nm: tuple[float, ...]
    windows_nm: tuple[Window, ...] = ()

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """Everything that it reads: wavelengths, then windows."""
        return (*self.wanted_nm, *self.windows_nm)


@dataclass(frozen=True)
class Linear:
    """A sum of bands with constant factors, plus a constant."""

    factors: Mapping[Wanted, float]
    constant: float

    @property
    def single(self) -> float | None:
        """The factor of the only band, if nothing else is in the sum."""
        if len(self.factors) == 1 and not self.constant:
            return next(iter(self.factors.values()))
        return None

    def times(self, factor: float) -> Linear:
        """All of it multiplied by a number."""
        factors = {wanted: c * factor for wanted, c in self.factors.items()}
        return Linear(factors, self.constant * factor)

    def plus(self, other: Linear) -> Linear:
        """The sum of both; a band of both has one factor."""
        factors = dict(self.factors)
        for wanted, c in other.factors.items():
            factors[wanted] = factors.get(wanted, 0.0) + c
        return Linear(factors, self.constant + other.constant)


@dataclass(frozen=True, eq=False)
class Node:
    """A part of a formula.

    ``kind``: ``number``, ``band``, an operator, ``neg``, ``pos``, or a function.
    ``text``: The same for equal parts of all formulas.
    ``linear``: The part as a sum of bands; None if it is more than that.
    """

    kind: str
    text: str
    parts: tuple[Node, ...] = ()
    number: float = math.nan
    band: Wanted = math.nan
    linear: Linear | None = None


def parse_formula(text: str) -> Formula:
    """Check a formula; ConfigError if it is not arithmetic on at least one ``R(nm)``."""
    text = " ".join(text.split())
    if len(text) > MAX_LENGTH:
        raise ConfigError(f"Formula of {len(text)} characters; at most {MAX_LENGTH} are allowed")
    try:
        if "#" in text:  # lines were joined, so that a comment would hide all that follows
            raise ValueError("comments are not allowed")
        formula = read_formula(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"Formula {text!r} is not arithmetic: {error}",
            "Write it with numbers, R(nm), R(low, high), + - * / **, brackets, ln, exp, sqrt and "
            "abs",
        ) from None
    if not formula.wanted:
        raise ConfigError(
            f"Formula {text!r} reads no band", "Name a band by its wavelength in nm: R(860)"
        )
    return formula


def read_formula(text: str) -> Formula:
    """What a formula reads, which may be nothing; ValueError as :func:`tree_of`."""
    bands = {node.band for node in walk(tree_of(text)) if node.kind == "band"}
    singles = sorted(band for band in bands if isinstance(band, float))
    windows = sorted(band for band in bands if isinstance(band, tuple))
    return Formula(text, tuple(singles), tuple(windows))


@cache
def tree_of(text: str) -> Node:
    """The parts of a formula; ValueError at the first one that is not on the whitelist."""
    with warnings.catch_warnings():  # Python warns of "1or 2"
        warnings.simplefilter("ignore")
        tree = ast.parse(text, mode="eval")
    return _build(tree.body)


def walk(node: Node) -> list[Node]:
    """A part of a formula and all that it is made of."""
    found = [node]
    for one in found:  # which grows
        found += one.parts
    return found


def _build(node: ast.AST, depth: int = 1) -> Node:
    if depth > MAX_DEPTH:
        raise ValueError(f"more than {MAX_DEPTH} operations are nested in one another")
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        parts = _build(node.left, depth + 1), _build(node.right, depth + 1)
        kind = _OPERATORS[type(node.op)]
        text = f"({parts[0].text} {kind} {parts[1].text})"
        return Node(kind, text, parts, linear=_combine(kind, *(p.linear for p in parts)))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        part, kind = _build(node.operand, depth + 1), _OPERATORS[type(node.op)]
        linear = part.linear and part.linear.times(-1.0 if kind == "neg" else 1.0)
        return Node(kind, f"{kind}({part.text})", (part,), linear=linear)
    if isinstance(node, ast.Constant):
        number = _number(node)
        return Node("number", repr(number), number=number, linear=Linear({}, number))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _build_call(node, node.func.id, depth)
    raise ValueError(f"{ast.unparse(node)[:60]!r} is not allowed")


def _build_call(node: ast.Call, name: str, depth: int) -> Node:
    if node.keywords or len(node.args) not in ((1, 2) if name == "R" else (1,)):
        raise ValueError(f"{name} takes one value{', or two' if name == 'R' else ''}")
    if name == "R":
        ends = tuple(_number(argument) for argument in node.args)
        if len(ends) == 2 and not ends[0] < ends[1]:
            raise ValueError(f"R({ends[0]:g}, {ends[1]:g}) is no window from low to high")
        band: Wanted = (ends[0], ends[1]) if len(ends) == 2 else ends[0]
        return Node("band", f"R{ends}", band=band, linear=Linear({band: 1.0}, 0.0))
    if name not in _FUNCTIONS:
        raise ValueError(f"there is no function {name!r}")
    part = _build(node.args[0], depth + 1)
    return Node(name, f"{name}({part.text})", (part,))


def _combine(kind: str, left: Linear | None, right: Linear | None) -> Linear | None:
    """The linear form of two parts under an operator; None if there is none."""
    if left is None or right is None:
        return None
    if kind in "+-":
        return left.plus(right.times(-1.0 if kind == "-" else 1.0))
    if kind == "*" and not (left.factors and right.factors):
        return left.times(right.constant) if left.factors else right.times(left.constant)
    if kind == "/" and not right.factors and right.constant:
        return left.times(1 / right.constant)
    return None


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
