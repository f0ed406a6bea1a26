"""Origins of pixels: source, flight line and day of acquisition."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np

from hyperhpc.scene import cube
from hyperhpc.scene.cube import DATE_ARRAY, LINE_ARRAY, NO_DATE, NO_SOURCE, SOURCE_ARRAY, Source

#: dtype and missing value of each kind of origin.
ORIGIN_KINDS = {
    SOURCE_ARRAY: ("uint16", NO_SOURCE),
    LINE_ARRAY: ("uint16", NO_SOURCE),
    DATE_ARRAY: ("int32", NO_DATE),
}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


def source_from_name(name: str) -> Source:
    """The source that a file is, with the date in its name (YYYYMMDD) if there is one."""
    name = os.path.basename(name)
    date = re.search(r"(?<!\d)(20\d\d)(0[1-9]|1[0-2])([0-2]\d|3[01])(?!\d)", name)
    return Source(name, "-".join(date.groups()) if date else None)


def origin_names(scene: cube.Scene) -> tuple[str, ...]:
    """The :data:`ORIGIN_KINDS` that are known of a scene."""
    known = (scene.sources, scene.flight_lines, scene.has_dates)
    return tuple(name for name, has in zip(ORIGIN_KINDS, known, strict=True) if has)


def to_numbers(image: np.ndarray) -> np.ndarray:
    """Positions (y, x) as uint16; :data:`NO_SOURCE` for other values, as NEON's -1."""
    return np.where((image >= 0) & (image < NO_SOURCE), image, NO_SOURCE).astype(np.uint16)


def renumber(own: np.ndarray, numbers: tuple[int, ...]) -> np.ndarray:
    """From a scene's own positions to those of the mosaic."""
    # One more entry, for pixels whose origin the scene does not know
    table = np.array([*numbers, NO_SOURCE], np.uint16)
    return table[np.minimum(own, len(numbers))]


def to_dates(image: np.ndarray) -> np.ndarray:
    """Days (y, x) as YYYYMMDD, int32; :data:`NO_DATE` for values that are not days.

    NEON's documents say YYMMDD, its files hold YYYYMMDD: both are read.
    """
    years = np.where((image > 100_000) & (image < 1_000_000), image + 20_000_000, image)
    is_day = (years >= 1900_01_01) & (years <= 2999_12_31)
    return np.where(is_day, years, NO_DATE).astype(np.int32)


def add_dates(
    found: dict[str, np.ndarray], sources: Sequence[Source], lines: Sequence[Source]
) -> dict[str, np.ndarray]:
    """Add the days of flight lines, then of sources, to pixels without a known day."""
    dates = found.get(DATE_ARRAY)
    for name, listed in ((LINE_ARRAY, lines), (SOURCE_ARRAY, sources)):
        if name in found and any(source.acquired for source in listed):
            days = np.array([*map(_day, listed), NO_DATE], np.int32)
            known = days[np.minimum(found[name], len(listed))]
            dates = known if dates is None else np.where(dates == NO_DATE, known, dates)
    return found if dates is None else {**found, DATE_ARRAY: dates}


def _day(source: Source) -> int:
    """The day of a source as a number."""
    text = str(source.acquired)
    return int(text.replace("-", "")) if _DATE.fullmatch(text) else NO_DATE
