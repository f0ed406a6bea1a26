"""The spectral indices: their definitions, the bands they read, their values.

Computed in float64 from *all* bands of the scene (a band dropped from the clustering may
well be the one an index needs), stored as float32 by the callers.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import TOLERANCE_NM, in_windows, nearest_band, stored_marks
from hyperhpc.analysis.formula import Formula, parse_formula
from hyperhpc.errors import ConfigError

#: The tutorial's NDLI, whose denominator has the wrong sign; only for --seed-compat.
SEED_NDLI = "(ln(1 / R(1754)) - ln(1 / R(1680))) / (ln(R(1754)) + ln(R(1680)))"


@dataclass(frozen=True)
class Index:
    """An index by wavelengths.

    Attributes
    ----------
    name, title
        Short name (``ndvi``) and how it is written (``NDVI``).
    formula
        Parsed formula.
    about
        doi, citation, unit, range, diverging, long_name: for the report.
    """

    name: str
    title: str
    formula: Formula
    about: Mapping[str, Any]


@dataclass(frozen=True)
class BoundIndex:
    """An index bound to the bands of one scene.

    Attributes
    ----------
    index
        Its definition.
    bands
        Position in the scene of each wavelength of ``index.formula.wanted_nm``.
    """

    index: Index
    bands: tuple[int, ...]


@cache
def built_in() -> dict[str, Index]:
    """The eight indices of ``indices.toml``, in its order."""
    text = resources.files("hyperhpc.analysis").joinpath("indices.toml").read_text("utf-8")
    return {
        name: Index(name, entry.pop("title"), parse_formula(entry.pop("formula")), entry)
        for name, entry in tomllib.loads(text).items()
    }


def user_index(name: str, formula: str) -> Index:
    """An index of the user's own.

    Raises
    ------
    ConfigError
        If the name is not a plain word, or the formula is not arithmetic.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", name):
        raise ConfigError(
            f"{name!r} cannot name an index", "use letters, digits and _, at most 32, e.g. pri"
        )
    about = {
        "doi": "",
        "citation": "user's own formula",
        "unit": "",
        "range": None,
        "diverging": False,
        "long_name": name,
    }
    return Index(name, name, parse_formula(formula), about)


def choose_indices(
    names: Sequence[str],
    formulas: Mapping[str, str],
    wavelength_nm: np.ndarray,
    *,
    seed_compat_bands: np.ndarray | None = None,
) -> tuple[list[BoundIndex], dict[str, str]]:
    """Bind the indices asked for to the bands of a scene.

    Parameters
    ----------
    names
        Names of built-in indices; the single name ``all`` takes those the bands allow.
    formulas
        The user's own, name to formula; these are always asked for by name.
    wavelength_nm
        Band centres of the whole scene, any order.
    seed_compat_bands
        If given, reproduce the tutorial: bands are looked up among these only, however
        far, and NDLI has the tutorial's sign.

    Returns
    -------
    The bound indices, and for each one left out under ``all`` the reason.

    Raises
    ------
    ConfigError
        A name that is unknown or given twice, or a band further than 5 nm away for an
        index asked for by name.
    """
    known = built_in()
    take_all = list(names) == ["all"]
    wanted = list(known) if take_all else list(names)
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"there is no index {name!r}",
                f"choose of {' '.join(known)}, or give your own with --formula {name}=EXPR",
            )
    asked = [known[name] for name in wanted]
    asked += [user_index(name, formula) for name, formula in formulas.items()]
    repeated = {i.name for i in asked if sum(j.name == i.name for j in asked) > 1}
    if repeated:
        raise ConfigError(
            f"index given twice: {' '.join(sorted(repeated))}", "rename one of them"
        )
    bound, skipped = [], {}
    for index in asked:
        try:
            bound.append(_bind(index, wavelength_nm, seed_compat_bands))
        except ConfigError as error:
            if not (take_all and index.name in known):
                raise ConfigError(f"index {index.name}: {error.message}", error.hint) from None
            skipped[index.name] = error.message
    return bound, skipped


def _bind(index: Index, wavelength_nm: np.ndarray, seed_bands: np.ndarray | None) -> BoundIndex:
    if seed_bands is None:
        bands = [
            nearest_band(wavelength_nm, nm, TOLERANCE_NM) for nm in index.formula.wanted_nm
        ]
        return BoundIndex(index, tuple(bands))
    if index is built_in()["ndli"]:  # not a formula of the user's with that name
        index = Index(index.name, index.title, parse_formula(SEED_NDLI), index.about)
    kept = wavelength_nm[seed_bands]
    bands = [int(seed_bands[nearest_band(kept, nm, np.inf)]) for nm in index.formula.wanted_nm]
    return BoundIndex(index, tuple(bands))


def gather_bands(indices: Sequence[BoundIndex]) -> tuple[list[int], list[BoundIndex]]:
    """The bands that indices read, ascending, and the indices bound to these alone."""
    bands = sorted({band for bound in indices for band in bound.bands})
    place = {band: i for i, band in enumerate(bands)}
    return bands, [
        BoundIndex(bound.index, tuple(place[band] for band in bound.bands)) for bound in indices
    ]


def compute_indices(
    dn: np.ndarray,
    indices: Sequence[BoundIndex],
    *,
    scale_factor: float,
    is_missing: np.ndarray | None = None,
    nodata: Sequence[float] = (),
    window_nodata: Sequence[float] = (),
    is_window_band: np.ndarray | None = None,
) -> np.ndarray:
    """Values of the indices.

    Parameters
    ----------
    dn
        Digital numbers (..., band), all bands of the scene.
    scale_factor
        Divisor from DN to reflectance.
    is_missing
        Bool (...), pixels that are no-data.
    nodata
        DN that stand for a missing value in any band an index reads.
    window_nodata, is_window_band
        DN that do so only in the bands marked True (band), the water windows.

    Returns
    -------
    float64 (index, ...): NaN at no-data, where a band is missing, and where the formula
    is not finite.
    """
    out = np.empty((len(indices), *dn.shape[:-1]), dtype=np.float64)
    bands: dict[int, np.ndarray] = {}
    for band in sorted({band for bound in indices for band in bound.bands}):
        stored = dn[..., band]
        reflectance = stored.astype(np.float64)
        reflectance /= scale_factor
        in_window = is_window_band is not None and is_window_band[band]
        marks = (*nodata, *window_nodata) if in_window else nodata
        for mark in stored_marks(marks, stored.dtype):
            reflectance[stored == mark] = np.nan
        reflectance[~np.isfinite(reflectance)] = np.nan  # 1 / inf would be a value
        bands[band] = reflectance
    for i, bound in enumerate(indices):
        wanted = bound.index.formula.wanted_nm
        out[i] = bound.index.formula.evaluate(
            {nm: bands[band] for nm, band in zip(wanted, bound.bands, strict=True)}
        )
    if is_missing is not None:
        out[:, is_missing] = np.nan
    return out


def describe_index(
    bound: BoundIndex, wavelength_nm: np.ndarray, dropped_nm: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """What run.json and the report say of an index: formula, source, bands used."""
    index = bound.index
    centres = wavelength_nm[list(bound.bands)]
    dropped = in_windows(centres, dropped_nm)
    return {
        "name": index.name,
        "title": index.title,
        "formula": index.formula.text,
        **index.about,
        "bands": [
            {"wanted_nm": nm, "centre_nm": float(centre), "dropped": bool(out)}
            for nm, centre, out in zip(index.formula.wanted_nm, centres, dropped, strict=True)
        ],
    }
