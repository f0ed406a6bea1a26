"""The spectral indices: their definitions, the bands they read, their values.

Values are computed in float64 from *all* bands of the scene, because an index may need a
band that the clustering drops; callers store them as float32. The source of each index is in
``indices.toml``.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import TOLERANCE_NM, in_windows, nearest_band
from hyperhpc.analysis.formula import Formula, parse_formula
from hyperhpc.analysis.spectra import to_reflectance
from hyperhpc.errors import ConfigError

#: The tutorial's NDLI, whose denominator has the wrong sign; only for --seed-compat.
SEED_NDLI = "(ln(1 / R(1754)) - ln(1 / R(1680))) / (ln(R(1754)) + ln(R(1680)))"


@dataclass(frozen=True)
class Index:
    """An index by wavelengths.

    ``name``, ``title``: Short name (``ndvi``) and how it is written (``NDVI``).
    ``about``: doi, citation, unit, range, diverging and long_name, for the report.
    """

    name: str
    title: str
    formula: Formula
    about: Mapping[str, Any]


@dataclass(frozen=True)
class BoundIndex:
    """An index, and the band of a scene for each wavelength of ``index.formula.wanted_nm``."""

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
    """An index from a user's formula; ConfigError if it or its name will not do."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", name):
        raise ConfigError(
            f"{name!r} cannot name an index", "Use letters, digits and _, at most 32, e.g. pri"
        )
    about: dict[str, Any] = {"doi": "", "citation": "user's own formula", "unit": ""}
    about |= {"range": None, "diverging": False, "long_name": name}
    return Index(name, name, parse_formula(formula), about)


def choose_indices(
    names: Sequence[str],
    formulas: Mapping[str, str],
    wavelength_nm: np.ndarray,
    *,
    seed_compat_bands: np.ndarray | None = None,
) -> tuple[list[BoundIndex], dict[str, str]]:
    """Bind the indices asked for to the bands of a scene.

    ``names``: Names of built-in indices, in any case; the single name ``all`` takes all those
        whose bands the scene has.
    ``formulas``: The user's own indices, name to formula. Their names keep their case, but must
        differ from all others in more than case.
    ``seed_compat_bands``: If given, reproduce the tutorial: bands are looked up among these
        positions only, however far they are, and NDLI has the tutorial's sign.

    Returns: the bound indices, and for each index left out under ``all`` the reason.
    Raises ConfigError: if a name is unknown or given twice, or an index asked for by name needs
    a band that is further than 5 nm from all bands of the scene.
    """
    known = built_in()
    wanted = [name.lower() for name in names]
    if take_all := wanted == ["all"]:
        wanted = list(known)
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"There is no index {name!r}",
                f"Choose from {' '.join(known)}, or give your own with --formula {name}=EXPR",
            )
    asked = [known[name] for name in wanted]
    asked += [user_index(name, formula) for name, formula in formulas.items()]
    counts = Counter(index.name.lower() for index in asked)
    if repeated := sorted(name for name, n in counts.items() if n > 1):
        raise ConfigError(f"Index given twice: {' '.join(repeated)}", "Rename one of them")
    bound, skipped = [], {}
    for index in asked:
        try:
            bound.append(_bind(index, wavelength_nm, seed_compat_bands))
        except ConfigError as error:
            if not (take_all and index.name in known):
                raise ConfigError(f"Index {index.name}: {error.message}", error.hint) from None
            skipped[index.name] = error.message
    return bound, skipped


def _bind(index: Index, wavelength_nm: np.ndarray, seed_bands: np.ndarray | None) -> BoundIndex:
    wanted_nm = index.formula.wanted_nm
    if seed_bands is None:
        bands = [nearest_band(wavelength_nm, nm, TOLERANCE_NM) for nm in wanted_nm]
        return BoundIndex(index, tuple(bands))
    if index is built_in()["ndli"]:  # but not a user's formula of that name
        index = Index(index.name, index.title, parse_formula(SEED_NDLI), index.about)
        wanted_nm = index.formula.wanted_nm
    kept = wavelength_nm[seed_bands]
    bands = [int(seed_bands[nearest_band(kept, nm, np.inf)]) for nm in wanted_nm]
    return BoundIndex(index, tuple(bands))


def gather_bands(indices: Sequence[BoundIndex]) -> tuple[list[int], list[BoundIndex]]:
    """The bands that indices read, ascending, and the indices bound to these bands alone."""
    bands = sorted({band for bound in indices for band in bound.bands})
    position = {band: i for i, band in enumerate(bands)}
    return bands, [
        BoundIndex(bound.index, tuple(position[band] for band in bound.bands)) for bound in indices
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
    """Values of the indices, float64 (index, ...), from DN (..., band) of all bands.

    A value is NaN at no-data, where a band is missing, and where the formula is not finite.

    ``is_missing``: Bool (...), pixels that are no-data.
    ``scale_factor`` and so on: As in :func:`~hyperhpc.analysis.spectra.to_reflectance`.
    """
    out = np.empty((len(indices), *dn.shape[:-1]), dtype=np.float64)
    reflectance = {
        band: to_reflectance(
            dn[..., band],
            scale_factor,
            nodata,
            window_nodata,
            is_window_band is not None and is_window_band[band],
        )
        for band in gather_bands(indices)[0]
    }
    for i, bound in enumerate(indices):
        wanted_nm = bound.index.formula.wanted_nm
        out[i] = bound.index.formula.evaluate(
            {nm: reflectance[band] for nm, band in zip(wanted_nm, bound.bands, strict=True)}
        )
    if is_missing is not None:
        out[:, is_missing] = np.nan
    return out


def describe_index(
    bound: BoundIndex, wavelength_nm: np.ndarray, dropped_nm: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """What run.json and the report hold on an index: formula, source, bands used."""
    index = bound.index
    centres = wavelength_nm[list(bound.bands)]
    is_dropped = in_windows(centres, dropped_nm)
    return {
        "name": index.name,
        "title": index.title,
        "formula": index.formula.text,
        **index.about,
        "bands": [
            {"wanted_nm": nm, "centre_nm": float(centre), "dropped": bool(dropped)}
            for nm, centre, dropped in zip(
                index.formula.wanted_nm, centres, is_dropped, strict=True
            )
        ],
    }
