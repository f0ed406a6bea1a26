"""Parsers of options: values of TOML files, of Python calls and of the command line.

Each takes a value and returns the clean one. It raises ValueError with what is needed instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from numbers import Integral
from pathlib import Path
from typing import Any

from hyperhpc.errors import ConfigError

Parser = Callable[[Any], Any]

#: Word of ``--drop`` that has the bands with most noise left out.
AUTO = "auto"


def parse_text(value: Any) -> str:
    """Text as it is."""
    if not isinstance(value, str):
        raise ValueError("text is needed")
    return value


def parse_texts(value: Any) -> tuple[str, ...]:
    """Texts of a list, or one text; lines and spaces do not matter."""
    texts = [value] if isinstance(value, str) else _items(value, "text is needed")
    return tuple(" ".join(parse_text(text).split()) for text in texts)


def parse_path(value: Any) -> Path:
    """A path that is not empty."""
    if not isinstance(value, str | Path) or not str(value):
        raise ValueError("a path is needed")
    return Path(value)


def parse_flag(value: Any) -> bool:
    """True or False, and nothing that merely counts as one."""
    if not isinstance(value, bool):
        raise ValueError("true or false is needed")
    return value


def parse_integer(value: Any) -> int:
    """A whole number of at most 63 bits, of any type."""
    if isinstance(value, bool) or not isinstance(value, Integral | float) or value % 1 != 0:
        raise ValueError("a whole number is needed")
    number = int(value)
    if abs(number) >= 2**63:  # Python reads longer ones than TOML allows
        raise ValueError("a number of at most 63 bits is needed")
    return number


def parse_words(value: Any) -> tuple[str, ...]:
    """Words of a list, or of one text with commas between; in lower case."""
    words = _items(value.split(",") if isinstance(value, str) else value, "names are needed")
    if not all(isinstance(word, str) for word in words):
        raise ValueError("names are needed")
    return tuple(word.strip().lower() for word in words if word.strip())


def parse_choice(choices: Iterable[str], former: Mapping[str, str]) -> Parser:
    """Make the parser of one word out of several."""

    def parse(value: Any) -> str:
        word = parse_text(value).strip().lower()
        word = former.get(word, word)
        if word not in choices:
            raise ValueError(f"choose from {', '.join(choices)}")
        return word

    return parse


def parse_choices(choices: Iterable[str], former: Mapping[str, str]) -> Parser:
    """Make the parser of a list of such words."""

    def parse(value: Any) -> tuple[str, ...]:
        words = tuple(former.get(word, word) for word in parse_words(value))
        for word in words:
            if word not in choices:
                raise ValueError(f"{word!r} is not one of {', '.join(choices)}")
        return words

    return parse


def parse_masks(masks: Iterable[str], layers: Iterable[str]) -> Parser:
    """Make the parser of masks: names, or ``NAME=CODE`` with more codes after it.

    A number belongs to the name before it: ``weather,cloud=15,16`` are two masks. A layer can be
    named only with codes.
    """

    def parse(value: Any) -> tuple[str, ...]:
        codes: dict[str, list[str]] = {}
        coded = ""
        for word in parse_words(",".join(parse_words(value))):
            name, equals, code = map(str.strip, word.partition("="))
            if not equals and coded and _CODE.fullmatch(name):
                codes[coded].append(name)
                continue
            if name not in (*masks, *(layers if equals else ())):
                raise ValueError(f"{name!r} is not one of {', '.join(masks)}")
            if name in codes:
                raise ValueError(f"{name!r} is given twice")
            if equals and not _CODE.fullmatch(code):
                raise ValueError(f"{word!r}: write {name}=CODE, a whole number")
            codes[name] = [code] if equals else []
            coded = name if equals else ""
        return tuple(
            f"{name}={','.join(found)}" if found else name for name, found in codes.items()
        )

    return parse


def parse_numbers(count: int, between: str = ",", needed: str = "") -> Parser:
    """Make the parser of so many numbers: a list, or one text with a sign between them."""
    needed = needed or f"{count} numbers are needed, with commas between"

    def parse(value: Any) -> tuple[float, ...]:
        items = _items(value.split(between) if isinstance(value, str) else value, needed)
        if len(items) != count or any(isinstance(item, bool) for item in items):
            raise ValueError(needed)
        try:
            numbers = tuple(float(item) for item in items)
        except (TypeError, ValueError):
            raise ValueError(needed) from None
        if any(math.isnan(number) for number in numbers):
            raise ValueError("NaN is not a number")
        return numbers

    return parse


def parse_drop(value: Any) -> tuple[tuple[float, ...], ...] | str:
    """``auto`` alone, or a list of windows LO-HI, nm."""
    if value in (AUTO, [AUTO], (AUTO,)):
        return AUTO
    needed = f"write LO-HI in nm, for example 1340-1445, or {AUTO} alone"
    windows: tuple[tuple[float, ...], ...] = parse_list(parse_numbers(2, "-", needed))(value)
    return windows


def parse_number(value: Any) -> float:
    """One number."""
    return parse_numbers(1, needed="a number is needed")([value])[0]


def parse_positive(value: Any) -> float:
    """One number above 0."""
    number = parse_number(value)
    if not 0 < number < math.inf:
        raise ValueError("a number above 0 is needed")
    return number


def parse_list(parse: Parser) -> Parser:
    """Make the parser of a list of such values."""
    return lambda value: tuple(parse(item) for item in _items(value, "a list is needed"))


def parse_formulas(value: Any) -> dict[str, str]:
    """Name to formula: a table, or a list of ``NAME=EXPR``."""
    if isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
        pairs = [text.partition("=") for text in value]
        if bare := [name for name, equals, _ in pairs if not equals]:
            raise ValueError(f"{bare[0]!r} has no formula; write NAME=EXPR")
        names = [name.strip() for name, _, _ in pairs]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"{twice[0]!r} is given twice")
        value = {name.strip(): formula for name, _, formula in pairs}
    if not isinstance(value, Mapping) or not all(isinstance(v, str) for v in value.values()):
        raise ValueError("a table of name = formula is needed")
    return dict(value)


_CODE = re.compile(r"-?\d{1,9}")
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_memory(text: str) -> int:
    """Bytes in ``4GiB``, ``512MiB``, ``3.5G`` (powers of 1024) or ``4GB`` (of 1000).

    Raises ConfigError: if it is not an amount of memory.
    """
    match = re.fullmatch(
        r"\s*(\d{1,18}(?:\.\d{1,18})?)\s*(?:([KMGT])(i?B?)|B?)\s*", str(text), re.IGNORECASE
    )
    if not match:
        raise ConfigError(f"{text!r} is not an amount of memory", "Write it as 2GiB or 512MiB")
    unit = (match[2] or "").upper()
    base = 1000 if unit and match[3].upper() == "B" else 1024
    return int(Fraction(match[1]) * base ** _UNITS[unit])


def parse_amount(value: Any) -> str:
    """An amount of memory above 0, as text."""
    text = parse_text(value)
    try:
        n_bytes = parse_memory(text)
    except ConfigError:
        raise ValueError("an amount of memory such as 2GiB or 512MiB is needed") from None
    if n_bytes < 1:
        raise ValueError("more than 0 is needed")
    return text


def _items(value: Any, needed: str) -> list[Any]:
    """Elements of a list, tuple or array; letters of a text and keys of a table are none."""
    if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
        raise ValueError(needed)
    return list(value)
