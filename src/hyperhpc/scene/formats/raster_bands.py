"""Band centres, widths and bad-band flags of rasters, which their writers store in many places."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene import metadata
from hyperhpc.scene.formats.envi_header import read_header, split_list
from hyperhpc.scene.formats.zarr_layout import NAMES
from hyperhpc.scene.metadata import HINT

_CENTRES = (*NAMES["band"], "central_wavelength")
_UNITS = ("wavelength_units", "wavelength_unit", "units_of_wavelength")
_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_UNIT = r"(nm|nanomet(?:er|re)s?|[uµμ]m|micro(?:n|met(?:er|re))s?)"
#: Words before a number that say it is a wavelength: "wl_400", and "X400.00" of R.
_BEFORE = r"(?:x|wl|wvl|wave|wavelength|lambda|nm|refl|reflectance)"
#: A number with its unit; else one in brackets at the end, after a word, or nothing else.
_IN_NAME = (
    re.compile(rf"(?<![a-zµμ\d.,]){_NUMBER}[\s._]*{_UNIT}(?![a-z])", re.IGNORECASE),
    re.compile(rf"^\s*{_BEFORE}[\s._-]*{_NUMBER}[\s._]*{_UNIT}(?![a-z])", re.IGNORECASE),
    re.compile(rf"\(\s*{_NUMBER}\s*()\)\s*$"),
    re.compile(rf"^\s*{_BEFORE}[\s._-]*{_NUMBER}()$", re.IGNORECASE),
    re.compile(rf"^\s*{_NUMBER}\s*()$"),
)
_COMMA_IN_NAME = re.compile(
    rf"\d+,\d+(?=\s*{_UNIT})|(?<=\()\s*\d+,\d+(?=\s*\))|(?:^|(?<=[a-z_ ]))\d+,\d+$", re.IGNORECASE
)


@dataclass(frozen=True)
class Bands:
    """Centres and widths (band,) of a raster, float64, in stored order, and the bad bands."""

    wavelength_nm: np.ndarray
    fwhm_nm: np.ndarray | None
    bad: tuple[int, ...]
    notes: tuple[str, ...]


class BandTexts:
    """Metadata of a raster by name, lower case: of the file, and of each of ``count`` bands."""

    def __init__(self, dataset: Any, count: int, header: str | None) -> None:
        self.count = count
        numbers = range(1, count + 1)
        try:
            self.file = {**_lower(dataset.tags()), **_lower(dataset.tags(ns="ENVI"))}
            self.bands = [_lower(dataset.tags(i)) for i in numbers]
            self.imagery = [_lower(dataset.tags(i, ns="IMAGERY")) for i in numbers]
            self.names = [name or "" for name in dataset.descriptions[:count]]
        except UnicodeDecodeError:  # software on Windows writes the micro sign as Latin-1
            if header is None:
                raise
            self.file = _lower(read_header(header))
            self.bands = self.imagery = [{} for _ in numbers]
            names = split_list(self.file.get("band_names", ""))
            self.names = names if len(names) == count else [""] * count

    def find(self, names: tuple[str, ...]) -> list[str] | None:
        """One text per band under the first of these names: a list of the file, or tags."""
        for name in names:
            text = self.file.get(name, "")
            if "," in text or (text and self.count == 1):
                return split_list(text)
            if any(name in tags for tags in self.bands):
                return [tags.get(name, "") for tags in self.bands]
        return None

    def units(self) -> str | None:
        """Unit of the centres, as written."""
        places = (self.file, *self.bands[:1])
        return next(
            (tags[name].strip() for tags in places for name in _UNITS if name in tags), None
        )


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.lower().replace(" ", "_"): value for name, value in tags.items()}


def find_bands(path: str, texts: BandTexts, wavelength_nm: np.ndarray | None) -> Bands:
    """Centres and widths, unless centres are given, and flags.

    Centres are looked for in ENVI's header, the tags of the bands, GDAL's IMAGERY domain (rounded
    to 1 nm) and the names of the bands, in this order.

    Raises SceneError: no centres, some for a part of the bands only, or that are no wavelengths.
    """
    notes: list[str] = []
    fwhm = None
    if wavelength_nm is None:
        found = next(_sources(texts), None)
        if found is None:
            names = [name for name in texts.names if name]
            called = f"are called {', '.join(names[:3])}" if names else "have no names either"
            if (units := texts.units()) and not _is_length(units):
                called = f"have numbers of the unit {units}, which are no wavelengths"
            raise SceneError(f"{path} holds no band centres; its bands {called}", HINT)
        source, values, unit = found
        about = f"{source} of {path}"
        numbers = _all_numbers(values, texts, about)
        wavelength_nm, factor, more = metadata.resolve_wavelengths(numbers, unit, about)
        notes += more
        widths = _numbers_or_note(texts, "fwhm", "FWHM", notes)
        fwhm = None if widths is None else widths * factor
    good = _numbers_or_note(texts, "bbl", "bbl", notes)
    bad = () if good is None else tuple(np.flatnonzero(~(good > 0)).tolist())
    return Bands(wavelength_nm, fwhm, bad, tuple(notes))


def _sources(texts: BandTexts) -> Iterator[tuple[str, list[str], str | None]]:
    """Name, texts and unit of the places where centres are found."""
    units = texts.units()
    is_length = _is_length(units)
    if is_length and (centres := texts.find(_CENTRES)) is not None:
        yield "wavelength", centres, units
    rounded = [tags.get("central_wavelength_um", "") for tags in texts.imagery]
    if any(rounded):
        yield "CENTRAL_WAVELENGTH_UM", rounded, "um"
    for band, name in enumerate(texts.names, 1):
        if comma := _COMMA_IN_NAME.search(name):
            raise SceneError(
                f"Band {band} is called {name!r:.60}: {comma[0].strip()!r} has a decimal comma or "
                "is two numbers",
                f"Write the numbers with a decimal point. {HINT}",
            )
    for pattern in _IN_NAME:
        found = [pattern.search(name) for name in texts.names]
        matches = [match for match in found if match and (is_length or match[2])]
        if _are_wavelengths(matches):
            words = [match[1] if match else "" for match in found]
            yield "band names", words, matches[0][2] or units


def _is_length(units: str | None) -> bool:
    return units is None or units.lower() not in ("index", "unknown")


def _are_wavelengths(matches: list[re.Match[str]]) -> bool:
    """False for numbers that count bands, such as those of "1", "X2" and "Band (3)"."""
    if not matches or any(match[2] for match in matches):
        return bool(matches)
    numbers = [float(match[1]) for match in matches]
    low, high = metadata.WAVELENGTH_RANGE_NM
    if all("." in match[1] for match in matches):
        return all(low / 1000 <= n <= high / 1000 for n in numbers) or max(numbers) >= low
    return all(low <= n <= high for n in numbers)


def _all_numbers(values: list[str], texts: BandTexts, about: str) -> np.ndarray:
    """One number per band, or an error."""
    if len(values) != texts.count:
        raise SceneError(
            f"{about}: {len(values)} band centres for {texts.count} bands",
            f"Correct the header. {HINT}",
        )
    numbers = list(map(to_number, values))
    lacking = [band for band, value in enumerate(numbers, 1) if value is None]
    if lacking:
        raise SceneError(
            f"{about}: {len(lacking)} of {texts.count} bands have no centre (first: band "
            f"{lacking[0]}, {values[lacking[0] - 1] or texts.names[lacking[0] - 1]!r:.60})",
            HINT,
        )
    return np.array(numbers, dtype=np.float64)


def _numbers_or_note(
    texts: BandTexts, name: str, title: str, notes: list[str]
) -> np.ndarray | None:
    """One number per band; None if there are none, and with a note if there are not as many."""
    flags = {"true": "1", "false": "0"}
    words = texts.find((name,)) or ()
    numbers = [to_number(flags.get(word.strip().lower(), word)) for word in words]
    if len(numbers) == texts.count and None not in numbers:
        return np.array(numbers, dtype=np.float64)
    if numbers:
        known = len(numbers) - numbers.count(None)
        notes.append(f"{title} has {known} numbers for {texts.count} bands and is ignored.")
    return None


def to_number(text: str) -> float | None:
    """Number in a text; None if it is none."""
    try:
        return None if "_" in text else float(text)  # 1_000 is a number for Python alone
    except ValueError:
        return None
