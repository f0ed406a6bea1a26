"""Option files and formulas, written by hypothesis: sound ones, nearly sound ones, and text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from hyperhpc.config import RunConfig

FIELDS = sorted({field.name for field in dataclasses.fields(RunConfig)} - {"scene", "out"})
#: Wavelengths of a formula's R(nm), all among the bands of the scene, and their reflectance.
REFLECTANCE = {
    nm: np.array([0.4, 0.05, 0.0, -0.01, np.nan, 2.5 + i])
    for i, nm in enumerate((450.0, 550.5, 670.0, 860.0))
}
Written = tuple[str, Callable[[], np.ndarray]]

# --- formulas -------------------------------------------------------------------------

_INFIX: dict[str, Callable] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.true_divide,
    "**": np.power,
}
_PREFIX: dict[str, Callable] = {
    "ln": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "-": np.negative,
    "+": np.positive,
}


def _band(nm: float) -> Written:
    return f"R({nm:g})", lambda: REFLECTANCE[nm]


def _constant(value: float) -> Written:
    return f"{value!r}", lambda: np.float64(value)


def _infix(parts: tuple[Written, str, Written]) -> Written:
    (left, of_left), sign, (right, of_right) = parts
    return f"(({left}) {sign} ({right}))", lambda: _INFIX[sign](of_left(), of_right())


def _prefix(parts: tuple[str, Written]) -> Written:
    name, (inner, of_inner) = parts
    return f"{name}({inner})", lambda: _PREFIX[name](of_inner())


_leaves = st.sampled_from(sorted(REFLECTANCE)).map(_band) | st.floats(
    0, 1e6, allow_subnormal=False
).map(_constant)
#: A formula, and a function that computes it without our parser.
FORMULAS: st.SearchStrategy[Written] = st.recursive(
    _leaves,
    lambda inner: (
        st.tuples(inner, st.sampled_from(sorted(_INFIX)), inner).map(_infix)
        | st.tuples(st.sampled_from(sorted(_PREFIX)), inner).map(_prefix)
    ),
    max_leaves=12,
)
_WORDS = "R ( ) R(670) R(860) ln( exp( + - * ** / // 9 1e999 . , = # [ ] % @ ' 0x1f 1j lambda"
_words = st.sampled_from([*_WORDS.split(), "\\", "\n", " ", "__import__"])


def _splice(parts: tuple[Written, float, str]) -> str:
    (text, _), share, inserted = parts
    at = int(len(text) * share)
    return text[:at] + inserted + text[at + len(inserted) :]


#: What looks like a formula.
NEARLY_FORMULAS = (
    st.lists(_words, max_size=12).map("".join)
    | st.text(max_size=40)
    | st.tuples(FORMULAS, st.floats(0, 1), st.text(max_size=3)).map(_splice)
)
NAMES = st.sampled_from(["mine", "ndvi", "a_1"]) | st.text(max_size=40)

# --- option files ---------------------------------------------------------------------

_SOUND = """\
clusters = 6
stride = 2
bbox = [517002, 4525990, 517009, 4525998]
drop = [[1340, 1445], [1790, 1955]]
models = ["lloyd"]
indices = "all"
points = [[517005.5, 4525995.5]]
seed = 3
engine = "hyperhpc"
seed_compat = false
skip_bad_tiles = true
workers = 1
threads_per_worker = 1
memory_per_worker = "2GiB"
launcher = "local"
dashboard = false

[formula]
mine = "R(822) / R(675.1)"
"""
_WRITTEN = r"""
0 -1 1 3 1.5 1e400 nan inf -inf true "" "lloyd" [] {} "4GiB" "ndvi" "all" [[1,2]] [1,2,3,4]
[["a",1]] 1979-05-27 07:32:00 99999999999999999999 "\u0000" "tls://a:1" "local" "external"
"scheduler" [[]] "elastic" "gang" {a="R(822)"} {a=1} [true,false] 0x10 1_000 [1,
"""
_values = st.sampled_from([*_WRITTEN.split(), "9" * 400, f'"{"x" * 3000}"'])
_lines = st.tuples(st.sampled_from([*FIELDS, "clutsers", '""', "scene"]), _values).map(" = ".join)


def _spoil(parts: tuple[int, int, str]) -> str:
    start, length, text = parts
    return _SOUND[:start] + text + _SOUND[start + length :]


#: Lines of options with values of any kind; and a sound file with some of its text replaced.
OPTION_FILES = st.lists(_lines, max_size=4).map("\n".join) | st.tuples(
    st.integers(0, len(_SOUND)),
    st.sampled_from((0, 1, 2, 9, 30)),
    st.text(max_size=8) | _values | _lines,
).map(_spoil)
