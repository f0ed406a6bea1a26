"""Band centres, widths and bad-band flags of a raster, wherever its writer put them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene.axes import NAMES
from hyperhpc.scene.metadata import resolve_wavelengths
from hyperhpc.scene.wavelengths import HINT

_CENTRES = (*NAMES["band"], "central_wavelength")
_UNITS = ("wavelength_units", "wavelength_unit", "units_of_wavelength")
_NUMBER = r"(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)"
_UNIT = r"(nm|nanomet(?:er|re)s?|[uµμ]m|micro(?:n|met(?:er|re))s?)"
#: A number with its unit; else one in brackets at the end, or nothing but a number.
_IN_NAME = (
    re.compile(rf"(?<![\w.]){_NUMBER}\s*{_UNIT}\b", re.IGNORECASE),
    re.compile(rf"\(\s*{_NUMBER}\s*()\)\s*$"),
    re.compile(rf"^\s*{_NUMBER}\s*()$"),
)


@dataclass(frozen=True)
class Bands:
    """What a raster says of its bands.

    Attributes
    ----------
    wavelength_nm
        Centres (band,), float64, in stored order; None if there are none.
    fwhm_nm
        Widths, as the centres; None if there are none.
    bad
        Positions of the bands flagged as bad.
    """

    wavelength_nm: np.ndarray | None
    fwhm_nm: np.ndarray | None
    bad: tuple[int, ...]
    notes: tuple[str, ...]


class BandTexts:
    """Metadata of a raster by name, lower case: of the file, and of each band.

    Parameters
    ----------
    dataset
        Open, of rasterio.
    """

    def __init__(self, dataset: Any) -> None:
        self.count: int = dataset.count
        self.file = {**_lower(dataset.tags()), **_lower(dataset.tags(ns="ENVI"))}
        numbers = range(1, dataset.count + 1)
        self.bands = [_lower(dataset.tags(i)) for i in numbers]
        self.imagery = [_lower(dataset.tags(i, ns="IMAGERY")) for i in numbers]
        self.names = [name or "" for name in dataset.descriptions]

    def find(self, names: tuple[str, ...]) -> list[str] | None:
        """One text per band under the first of these names: a list of the file, or tags."""
        for name in names:
            text = self.file.get(name, "")
            if "," in text or (text and self.count == 1):
                return _split(text)
            if any(name in tags for tags in self.bands):
                return [tags.get(name, "") for tags in self.bands]
        return None

    def units(self) -> str | None:
        """Unit of the centres, as written."""
        for tags in (self.file, *self.bands[:1]):
            for name in _UNITS:
                if name in tags:
                    return tags[name].strip()
        return None


def _split(text: str) -> list[str]:
    """Parts of ``{a, b}``; the last is nothing where the text breaks off."""
    parts = [part.strip() for part in text.strip().lstrip("{").split(",")]
    is_whole = not text.strip().startswith("{") or parts[-1].endswith("}")
    return [*parts[:-1], parts[-1].rstrip("}").strip() if is_whole else ""]


def _lower(tags: Mapping[str, str]) -> dict[str, str]:
    return {name.lower().replace(" ", "_"): value for name, value in tags.items()}


def find_bands(texts: BandTexts, where: str, *, centres: bool = True) -> Bands:
    """Centres and widths, unless they are not wanted, and flags.

    Centres are looked for in ENVI's header, the tags of the bands, GDAL's IMAGERY domain
    (rounded to 1 nm) and the names of the bands, in this order.

    Raises
    ------
    SceneError
        Centres for some of the bands only, or that are no wavelengths.
    """
    notes: list[str] = []
    wavelength_nm = fwhm = None
    for source, values, unit in _sources(texts) if centres else ():
        if values is None:
            continue
        about = f"{source} of {where}"
        numbers = _all_numbers(values, texts, about)
        wavelength_nm, factor, more = resolve_wavelengths(numbers, unit, about)
        notes += more
        widths = texts.find(("fwhm",))
        if widths is not None:
            fwhm = _numbers_or_note(widths, texts.count, "FWHM", notes)
            fwhm = None if fwhm is None else fwhm * factor
        break
    flags = texts.find(("bbl",))
    good = None if flags is None else _numbers_or_note(flags, texts.count, "bbl", notes)
    bad = () if good is None else tuple(int(band) for band in np.flatnonzero(good == 0))
    return Bands(wavelength_nm, fwhm, bad, tuple(notes))


def _sources(texts: BandTexts) -> Iterator[tuple[str, list[str] | None, str | None]]:
    """Name, texts and unit of the places where centres may be found."""
    units = texts.units()
    if units is None or units.lower() not in ("index", "unknown"):
        yield "wavelength", texts.find(_CENTRES), units
    rounded = [tags.get("central_wavelength_um", "") for tags in texts.imagery]
    yield "CENTRAL_WAVELENGTH_UM", rounded if any(rounded) else None, "um"
    for pattern in _IN_NAME:
        found = [pattern.search(name) for name in texts.names]
        matches = [match for match in found if match]
        # "1", "2" and "Band (3)" count bands
        if any(match[2] or "." in match[1] or float(match[1]) >= 300 for match in matches):
            words = [match[1] if match else "" for match in found]
            yield "band names", words, matches[0][2] or units


def _all_numbers(values: list[str], texts: BandTexts, about: str) -> np.ndarray:
    """One number per band, or an error."""
    if len(values) != texts.count:
        raise SceneError(
            f"{about}: {len(values)} band centres for {texts.count} bands.",
            f"Correct the header. {HINT}",
        )
    numbers = list(map(_number, values))
    lacking = [band for band, value in enumerate(numbers, 1) if value is None]
    if lacking:
        raise SceneError(
            f"{about}: {len(lacking)} of {texts.count} bands have no centre (first: band "
            f"{lacking[0]}, {values[lacking[0] - 1] or texts.names[lacking[0] - 1]!r:.60}).",
            HINT,
        )
    return np.array(numbers, dtype=np.float64)


def _numbers_or_note(
    values: list[str], count: int, name: str, notes: list[str]
) -> np.ndarray | None:
    """The same for what can be done without."""
    numbers = list(map(_number, values))
    if len(values) == count and None not in numbers:
        return np.array(numbers, dtype=np.float64)
    known = sum(value is not None for value in numbers)
    notes.append(f"{name} has {known} numbers for {count} bands and is ignored.")
    return None


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)  # 1_000 is a number for Python alone
    except ValueError:
        return None
