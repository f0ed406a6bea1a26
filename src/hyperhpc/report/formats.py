"""Numbers as people read them: thousands apart, digits that mean something, real minus."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

#: Narrow no-break space between thousands (SI style): no reader takes it for a decimal sign.
THIN = "\u202f"
MINUS = "\u2212"
NOTHING = "\u2013"
TIMES = "\u00d7"


@cache
def captions() -> dict[str, Any]:
    """Captions of figures and tables, with names in braces to be filled in."""
    return tomllib.loads(Path(__file__).with_name("captions.toml").read_text("utf-8"))


def number(value: float | None, decimals: int = 0) -> str:
    """A number with a fixed count of decimals and its thousands apart; a dash for None."""
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:,.{decimals}f}".replace(",", THIN)
    if text.startswith("-"):
        # "-0.00" is a rounding result, not a negative number.
        text = text[1:] if not re.search("[1-9]", text) else MINUS + text[1:]
    return text


def significant(value: float | None, digits: int = 3) -> str:
    """A number with so many significant digits, without an exponent where that is readable."""
    if not value or not math.isfinite(value):
        return number(value)
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -5 or exponent > 12:
        return f"{number(value / 10.0**exponent, digits - 1)}e{exponent}".replace("-", MINUS)
    return number(value, max(0, digits - 1 - exponent))


def percent(share: float | None, decimals: int = 1) -> str:
    """A share 0-1 as a percentage with its sign, never rounding something to nothing."""
    if share is None or not math.isfinite(share):
        return NOTHING
    least = 10**-decimals
    if 0 < share * 100 < least / 2:
        return f"<{THIN}{number(least, decimals)}{THIN}%"
    return f"{number(share * 100, decimals)}{THIN}%"


def score(value: float | None) -> str:
    """An index of agreement to three decimals; only what is exactly 1 is printed as 1."""
    if value is not None and 0.9995 <= value < 1:
        return f">{THIN}0.999"
    return number(value, 3)


def hectare_decimals(total_ha: float) -> int:
    """Decimals for a column of hectares by its total: five digits, at most four decimals."""
    if total_ha <= 0:
        return 0
    return min(4, max(0, 4 - math.floor(math.log10(total_ha))))


def area(hectares: float | None) -> str:
    """An area in the unit that suits it: m², ha or km²."""
    if hectares is None:
        return NOTHING
    if hectares < 0.1:
        return f"{significant(hectares * 1e4)}{THIN}m²"
    if hectares < 10_000:
        return f"{significant(hectares, 4)}{THIN}ha"
    return f"{significant(hectares / 100, 4)}{THIN}km²"


def duration(seconds: float | None) -> str:
    """Seconds as ``0.42 s``, ``12.3 s``, ``3 min 05 s`` or ``2 h 07 min``."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{number(seconds, 2 if seconds < 10 else 1)}{THIN}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"


def size(n_bytes: float | None) -> str:
    """Bytes in the binary unit that suits them."""
    if n_bytes is None or not math.isfinite(n_bytes):
        return NOTHING
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    power = 0
    while n_bytes >= 1024 and power < len(units) - 1:
        n_bytes, power = n_bytes / 1024, power + 1
    return f"{significant(n_bytes) if power else number(n_bytes)}{THIN}{units[power]}"


def short_count(value: float) -> str:
    """A count that fits a cell of a picture: ``812``, ``12.3 k``, ``4.56 M``."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{significant(value / (1e3 if unit == 'k' else limit))}{THIN}{unit}"
    return number(value)


def coordinate(value: float | None, *, is_degrees: bool = False) -> str:
    """A map coordinate: decimetres in metres, 5 decimals (about a metre) in degrees."""
    return number(value, 5 if is_degrees else 1)


def windows(ranges: Sequence[Sequence[float | None]]) -> str:
    """Wavelength ranges as ``≤ 400, 1340-1445, ≥ 2450 nm``."""
    parts = []
    for low, high in ranges:
        if not low or low <= 0:
            parts.append(f"\u2264{THIN}{_plain(high)}" if high is not None else "all")
        elif high is None:
            parts.append(f"\u2265{THIN}{_plain(low)}")
        else:
            parts.append(f"{_plain(low)}\u2013{_plain(high)}")
    if not parts:
        return "none"
    return f"{', '.join(parts)}{THIN}nm"


def _plain(value: float) -> str:
    """Wavelengths carry no thousands sign; decimals only where there are any."""
    return f"{value:.1f}".removesuffix(".0")


def stored_numbers(values: Sequence[float]) -> str:
    """Numbers as a file stores them, with nothing between their thousands."""
    return ", ".join(f"{v:g}".replace("-", MINUS) for v in values)


def listing(parts: Sequence[str]) -> str:
    """Words joined as in a sentence: ``a, b and c``."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: ``1 model``, ``2 models``."""
    return f"{number(n)} {noun if n == 1 else nouns or noun + 's'}"


def slug(name: str) -> str:
    """A name that is safe in a file name and as an HTML id."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-").lower() or "x"


# The wavelength of ``R(858.6)``; a window, ``R(2021, 2041)``, is left as it is.
_WAVELENGTH = re.compile(r"(?<=R)\(\s*(\d+(?:\.\d+)?)\s*\)")
_LOW = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def plain_text(text: str, most: int) -> str:
    """Text of the user's for matplotlib, which takes dollars for formulas; cut to some letters."""
    if len(text) > most:
        text = f"{text[: most - 1]}\u2026"
    return text.replace("$", r"\$")


def formula_text(formula: str) -> str:
    """A formula for matplotlib: ``R(858.6)`` with its wavelength as an index.

    Whole wavelengths take low digits, which are drawn many times faster than mathtext.
    """
    plain = formula.replace("$", r"\$").replace("-", MINUS).replace("*", "\u00b7")
    if all(nm.isdigit() for nm in _WAVELENGTH.findall(formula)):
        return _WAVELENGTH.sub(lambda m: m[1].translate(_LOW), plain)
    return _WAVELENGTH.sub(r"$_{\1}$", plain)


def formula_parts(formula: str) -> list[tuple[str, bool]]:
    """A formula cut into (text, is_subscript) for HTML."""
    parts = _WAVELENGTH.split(formula.replace("-", MINUS).replace("*", "\u00b7"))
    return [(text, i % 2 == 1) for i, text in enumerate(parts) if text]


def jinja_environment(folder: Path) -> jinja2.Environment:
    """Templates of a folder, with the functions of this module as filters."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        slug, number, significant, percent, windows, listing, score, plural, stored_numbers,
    ):  # fmt: skip
        environment.filters[function.__name__] = function
    return environment
