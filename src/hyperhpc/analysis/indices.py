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
from functools import cache, reduce
from importlib import resources
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import TOLERANCE_NM, Window, in_windows, nearest_band
from hyperhpc.analysis.evaluation import Evaluation, IndexValues, Precision
from hyperhpc.analysis.formula import Formula, Wanted, parse_formula
from hyperhpc.analysis.spectra import to_reflectance
from hyperhpc.errors import ConfigError

#: The tutorial's NDLI, whose denominator has the wrong sign; only for --seed-compat.
SEED_NDLI = "(ln(1 / R(1754)) - ln(1 / R(1680))) / (ln(R(1754)) + ln(R(1680)))"


@dataclass(frozen=True)
class Index:
    """An index by wavelengths.

    ``name``, ``title``: Short name (``ndvi``) and how it is written (``NDVI``).
    ``about``: doi, citation, wavelengths, unit, range, diverging and long_name, for the report.
    ``is_default``: True if ``all`` means it too.
    """

    name: str
    title: str
    formula: Formula
    about: Mapping[str, Any]
    is_default: bool = True


@dataclass(frozen=True)
class BoundIndex:
    """An index, and the bands of a scene that it reads.

    ``bands``: The band of each wavelength of ``index.formula.wanted_nm``.
    ``windows``: The bands of each window of ``index.formula.windows_nm``.
    """

    index: Index
    bands: tuple[int, ...]
    windows: tuple[tuple[int, ...], ...] = ()

    @property
    def groups(self) -> dict[Wanted, tuple[int, ...]]:
        """The bands whose mean stands for each wavelength and window of the formula."""
        singles = [(band,) for band in self.bands]
        return dict(zip(self.index.formula.wanted, [*singles, *self.windows], strict=True))


@cache
def built_in() -> dict[str, Index]:
    """The indices of ``indices.toml``, in its order."""
    text = resources.files("hyperhpc.analysis").joinpath("indices.toml").read_text("utf-8")
    found = {}
    for name, entry in tomllib.loads(text).items():
        title, formula = entry.pop("title"), parse_formula(entry.pop("formula"))
        found[name] = Index(name, title, formula, entry, entry.pop("default", True))
    return found


def user_index(name: str, formula: str) -> Index:
    """An index from a user's formula; ConfigError if it or its name will not do."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,31}", name):
        raise ConfigError(
            f"{name!r} cannot name an index", "Use letters, digits and _, at most 32, e.g. pri"
        )
    about: dict[str, Any] = {"doi": "", "citation": "user's own formula", "unit": ""}
    about |= {"wavelengths": "", "range": None, "diverging": False, "long_name": name}
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
        of the default whose bands the scene has.
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
        wanted = [name for name, index in known.items() if index.is_default]
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
            bound.append(bind_index(index, wavelength_nm, seed_compat_bands))
        except ConfigError as error:
            if not (take_all and index.name in known):
                raise ConfigError(f"Index {index.name}: {error.message}", error.hint) from None
            skipped[index.name] = error.message
    return bound, skipped


def bind_index(
    index: Index, wavelength_nm: np.ndarray, seed_bands: np.ndarray | None = None
) -> BoundIndex:
    """Find the bands of an index; ConfigError if one is further than 5 nm from all of the scene.

    ``seed_bands``: As in :func:`choose_indices`.
    """
    if seed_bands is not None and index is built_in()["ndli"]:  # but not a user's of that name
        index = Index(index.name, index.title, parse_formula(SEED_NDLI), index.about)
    formula, tolerance_nm = index.formula, TOLERANCE_NM
    positions = np.arange(len(wavelength_nm))
    if seed_bands is not None:
        positions, tolerance_nm = seed_bands, np.inf
    centres = wavelength_nm[positions]
    bands = [positions[nearest_band(centres, nm, tolerance_nm)] for nm in formula.wanted_nm]
    windows = [positions[_find_window(centres, window)] for window in formula.windows_nm]
    return BoundIndex(
        index, tuple(map(int, bands)), tuple(tuple(map(int, window)) for window in windows)
    )


def _find_window(centres_nm: np.ndarray, window_nm: Window) -> np.ndarray:
    found = np.flatnonzero(in_windows(centres_nm, [window_nm]))
    if not found.size:
        raise ConfigError(f"No band between {window_nm[0]:g} and {window_nm[1]:g} nm")
    return found


def gather_bands(indices: Sequence[BoundIndex]) -> tuple[list[int], list[BoundIndex]]:
    """The bands that indices read, ascending, and the indices bound to these bands alone."""
    bands = sorted({b for bound in indices for group in bound.groups.values() for b in group})
    position = {band: i for i, band in enumerate(bands)}
    return bands, [
        BoundIndex(
            bound.index,
            tuple(position[band] for band in bound.bands),
            tuple(tuple(position[band] for band in window) for window in bound.windows),
        )
        for bound in indices
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
) -> IndexValues:
    """Values of the indices, float64 (index, ...), from DN (..., band) of all bands.

    A value is NaN at no-data, where a band is missing, where the formula is not finite, and
    where a denominator or the argument of a logarithm is zero or negative within the rounding of
    DN (:mod:`hyperhpc.analysis.evaluation`). ``causes`` (index, ...) marks the last kind.

    ``indices``: All bound to the same scene, so that a wavelength means one band.
    ``is_missing``: Bool (...), pixels that are no-data.
    ``scale_factor`` and so on: As in :func:`~hyperhpc.analysis.spectra.to_reflectance`.
    """
    shape = (len(indices), *dn.shape[:-1])
    found = IndexValues(np.empty(shape, np.float64), np.empty(shape, np.uint8))
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
    groups = {wanted: bands for bound in indices for wanted, bands in bound.groups.items()}
    means = {
        wanted: reduce(np.add, (reflectance[band] for band in bands)) / len(bands)
        if len(bands) > 1
        else reflectance[bands[0]]
        for wanted, bands in groups.items()
    }
    formulas = [bound.index.formula for bound in indices]
    evaluation = Evaluation(formulas, means, Precision.of(dn.dtype, scale_factor))
    for i, formula in enumerate(formulas):
        found.values[i], found.causes[i] = evaluation.evaluate(formula)
    if is_missing is not None:
        found.values[:, is_missing] = np.nan
        found.causes[:, is_missing] = 0
    return found


def describe_index(
    bound: BoundIndex, wavelength_nm: np.ndarray, dropped_nm: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """What run.json and the report hold on an index: formula, source, bands used.

    A band of a window has the key ``window_nm``, and its own centre as the wanted wavelength.
    """
    index = bound.index
    bands = []
    for wanted, group in bound.groups.items():
        window = {"window_nm": list(wanted)} if isinstance(wanted, tuple) else {}
        for centre in wavelength_nm[list(group)]:
            wanted_nm = float(centre) if window else wanted
            dropped = bool(in_windows(np.array([centre]), dropped_nm)[0])
            entry = {"wanted_nm": wanted_nm, "centre_nm": float(centre), "dropped": dropped}
            bands.append(entry | window)
    return {
        "name": index.name,
        "title": index.title,
        "formula": index.formula.text,
        **index.about,
        "bands": bands,
    }
