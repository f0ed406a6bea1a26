"""Tables of endmembers: read, and matched to the bands of a scene."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.indices import built_in
from hyperhpc.analysis.unmixing.fractions import (
    MAX_CONDITION,
    MAX_ENDMEMBERS,
    Unmixer,
    add_shade,
    measure_dependence,
)
from hyperhpc.config import RESERVED_NAMES, SHAPE
from hyperhpc.errors import ConfigError, unreadable
from hyperhpc.scene.cube import Scene
from hyperhpc.scene.point_table import read_rows

#: A column of reflectance: ``857.307``, ``nm_857.307``, ``X857.3`` (of R), ``857.3 nm``.
_BAND = re.compile(r"(?:nm_|x)?(\d+(?:\.\d+)?)(?: ?nm)?", re.IGNORECASE)
#: A band of the table this near, nm, is that of the scene: its column has three decimals.
_SAME_NM = 0.001
#: Bands of the table farther apart than this, nm, have nothing between them.
_MAX_GAP_NM = 50.0
#: What reflectance 0-1 may be: a little below zero by the correction of the atmosphere, and
#: above one in a glint.
_LIMITS = (-0.1, 2.0)
_MAKE_ONE = "Make a table with hyperhpc endmembers"


@dataclass(frozen=True)
class Endmembers:
    """The endmembers of a run.

    ``names``, ``groups``: One of each for an endmember; fractions of a group are summed.
    ``spectra``: Reflectance 0-1, float64 (endmember, good band of the scene).
    ``is_by_shape``: As in :class:`Unmixer`.
    """

    path: str
    names: tuple[str, ...]
    groups: tuple[str, ...]
    spectra: np.ndarray
    is_by_shape: bool

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all that decides on fractions and groups, however it is written."""
        words = json.dumps([self.names, self.groups, self.is_by_shape])
        return hashlib.sha256(words.encode() + self.spectra.tobytes()).hexdigest()

    @cached_property
    def group_names(self) -> tuple[str, ...]:
        """The groups, in the order of the table."""
        return tuple(dict.fromkeys(self.groups))

    def unmixer(self, scene: Scene) -> Unmixer:
        """What computes the fractions in pixels of a scene."""
        dtype = np.dtype(scene.dtype)
        return Unmixer(self.spectra, scene.scale_factor, dtype, by_shape=self.is_by_shape)

    def describe(self, wavelength_nm: np.ndarray) -> dict[str, Any]:
        """What run.json says of them; ``wavelength_nm``: centres of the good bands."""
        rows = zip(self.names, self.groups, self.spectra.tolist(), strict=True)
        return {
            "path": self.path,
            "sha256": self.digest,
            "by": SHAPE if self.is_by_shape else "reflectance",
            "wavelength_nm": wavelength_nm.tolist(),
            "endmembers": [{"name": n, "group": g, "reflectance": r} for n, g, r in rows],
        }

    def summarise(self, tiles: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """What run.json says of the fractions: means, and where a group is the largest.

        ``tiles``: What :func:`measure_fractions` has found in each.
        """
        n = sum(tile["pixels"] for tile in tiles)
        means = np.sum([tile["fractions"] for tile in tiles], axis=0) / _UNIT / max(n, 1)
        largest = np.sum([tile["largest"] for tile in tiles], axis=0) / max(n, 1)
        by_group = dict.fromkeys(self.groups, 0.0)
        for group, mean in zip(self.groups, means.tolist(), strict=True):
            by_group[group] += mean
        groups = [
            {"name": group, "mean": mean, "share_largest": share}
            for (group, mean), share in zip(by_group.items(), largest.tolist(), strict=True)
        ]
        rmse = sum(tile["rmse"] for tile in tiles) / _UNIT / max(n, 1)
        return {"pixels": n, "groups": groups if n else [], "rmse": rmse if n else None}


#: Sums are counted in this part of one: whole numbers do not depend on the tiles.
_UNIT = 2**30


def measure_fractions(
    fractions: np.ndarray, rmse: np.ndarray, groups: Sequence[str]
) -> dict[str, Any]:
    """Sums over the pixels of a tile, whole numbers, for :meth:`Endmembers.summarise`.

    ``fractions``: float32 (endmember, y, x). ``rmse``: float32 (y, x).
    """
    has_value = ~np.isnan(fractions[0])
    values = fractions[:, has_value].astype(np.float64)
    names = list(dict.fromkeys(groups))
    sums = np.zeros((len(names), values.shape[1]))
    for group, value in zip(groups, values, strict=True):
        sums[names.index(group)] += value
    residual = np.rint(rmse[has_value].astype(np.float64) * _UNIT)
    return {
        "pixels": int(has_value.sum()),
        "fractions": np.rint(values * _UNIT).astype(np.int64).sum(axis=1).tolist(),
        "largest": np.bincount(sums.argmax(axis=0), minlength=len(names)).tolist(),
        "rmse": int(residual.clip(0, 2.0**40).astype(np.int64).sum()),
    }


def read_endmembers(path: Path, wavelength_nm: np.ndarray, *, by_shape: bool) -> Endmembers:
    """Read a table, one row per endmember, for the good bands of a scene.

    Columns: ``name``; ``group``, if any, empty where it is the name; and one per wavelength,
    named by its nm, of reflectance 0-1. Others are passed over.

    ``wavelength_nm``: Centres of the good bands. One that the table lacks is interpolated
        linearly between its neighbours in the table, at most 50 nm apart.

    Raises ConfigError: the table cannot be read, lacks a column, a value or a band, names an
    endmember twice, has too few or too many, or values that are no reflectance; or its
    endmembers are nearly the same.
    """
    what = f"--unmix {path}"
    try:
        head, rows, _ = read_rows(path, what)
    except OSError as error:
        raise unreadable(path, error) from None
    same = [str(name).strip().lower() for name in head]
    columns = dict(zip(same, head, strict=True))
    if twice := [name for name in ("name", "group") if same.count(name) > 1]:
        raise ConfigError(f"{what} has two columns called {twice[0]}", "Delete one of them")
    if "name" not in columns:
        raise ConfigError(f"{what} has no column called name", _MAKE_ONE)
    bands = {c: float(m[1]) for c in head if (m := _BAND.fullmatch(c.strip()))}
    names, groups = [], []
    for line, row in rows:
        name = str(row[columns["name"]] or "").strip()
        group = str(row.get(columns.get("group", "")) or "").strip() or name
        for word in (name, group):
            _check_word(word, f"Line {line} of {what}")
        names.append(name)
        groups.append(group)
    _check_names(names, len(bands), what)
    values = np.array([[_read_value(row[c], line, c, what) for c in bands] for line, row in rows])
    centres = np.array(list(bands.values()))
    spectra = _match_bands(centres, values, wavelength_nm, what)
    _check_spectra(names, spectra, what, by_shape=by_shape)
    return Endmembers(str(path), tuple(names), tuple(groups), spectra, by_shape)


def _check_word(word: str, where: str) -> None:
    """Refuse what cannot name a map, or a file of it."""
    if not word or len(word) > 60 or not word.isprintable() or "/" in word or "\\" in word:
        raise ConfigError(
            f"{where} names an endmember {word!r}",
            "Give each a name or group of at most 60 characters, without / and \\",
        )
    if word.lower() in RESERVED_NAMES or word.lower() in built_in():
        raise ConfigError(
            f"{where} names an endmember {word!r}, which is the name of other maps of a run",
            "Take another name",
        )


def _check_names(names: list[str], n_bands: int, what: str) -> None:
    if not 2 <= len(names) <= MAX_ENDMEMBERS:
        hint = f"Give 2 to {MAX_ENDMEMBERS} of them, one per line"
        raise ConfigError(f"{what} holds {len(names)} endmembers", hint)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(
            f"{what} has two endmembers called {twice[0]!r}",
            "Give each a name of its own, and one group to those whose fractions shall be summed",
        )
    if not n_bands:
        raise ConfigError(
            f"{what} has no column of reflectance",
            f"Name columns by their wavelengths in nm, such as nm_857.307; or: {_MAKE_ONE}",
        )


def _read_value(text: str | None, line: int, column: str, what: str) -> float:
    try:
        value = float(str(text or "").replace("_", "?"))  # 1_000 is a number for Python alone
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ConfigError(
            f"Line {line} of {what} has {text or ''!r} as its reflectance in column {column}",
            "Give a number in each cell, with a decimal point, or delete the column",
        )
    if not _LIMITS[0] <= value <= _LIMITS[1]:
        raise ConfigError(
            f"Line {line} of {what} has {value:g} in column {column}, which is no reflectance "
            f"({_LIMITS[0]:g} to {_LIMITS[1]:g})",
            "Divide percent by 100, and digital numbers by their scale factor",
        )
    return value


def _match_bands(
    centres: np.ndarray, values: np.ndarray, wanted: np.ndarray, what: str
) -> np.ndarray:
    """Spectra (endmember, wanted band) of a table (endmember, band)."""
    order = np.argsort(centres, kind="stable")
    centres, values = centres[order], values[:, order]
    if (np.diff(centres) == 0).any():
        twice = centres[:-1][np.diff(centres) == 0][0]
        raise ConfigError(f"{what} has two columns for {twice:g} nm", "Delete one of them")
    spectra = np.array([np.interp(wanted, centres, row) for row in values])
    right = np.searchsorted(centres, wanted).clip(max=len(centres) - 1)
    left = (right - 1).clip(0)
    nearest = np.where(wanted - centres[left] < np.abs(centres[right] - wanted), left, right)
    is_same = np.abs(centres[nearest] - wanted) <= _SAME_NM
    spectra[:, is_same] = values[:, nearest[is_same]]
    above = np.searchsorted(centres, wanted).clip(1, max(len(centres) - 1, 1))
    gap = np.diff(centres)[above - 1] if len(centres) > 1 else np.full(len(wanted), np.inf)
    is_outside = (wanted < centres[0]) | (wanted > centres[-1])
    for is_missing, why in (
        (is_outside, f"its bands span {centres[0]:g} to {centres[-1]:g} nm"),
        (gap > _MAX_GAP_NM, f"its bands on both sides are more than {_MAX_GAP_NM:g} nm apart"),
    ):
        missing = wanted[is_missing & ~is_same]
        if missing.size:
            raise ConfigError(
                f"{what} says nothing of {missing.size} of the {len(wanted)} good bands, at "
                f"{missing.min():g} to {missing.max():g} nm: {why}",
                f"Add them to the table, or leave the bands from {math.floor(missing.min())} to "
                f"{math.ceil(missing.max())} nm out: --drop, with all other windows that are to be "
                "dropped",
            )
    return spectra


def _check_spectra(names: list[str], spectra: np.ndarray, what: str, *, by_shape: bool) -> None:
    m, n_bands = spectra.shape
    if n_bands < m:
        raise ConfigError(
            f"{what} has {m} endmembers for {n_bands} good bands",
            f"At most {n_bands} differ from each other: delete some",
        )
    if by_shape and (spectra.max(axis=1) <= 0).any():
        dark = names[int(spectra.max(axis=1).argmin())]
        raise ConfigError(
            f"Endmember {dark!r} of {what} has no light, so no shape",
            f"Delete it: --unmix-by {SHAPE} allows for any shade",
        )
    found = measure_dependence(add_shade(spectra) if by_shape else spectra)
    if found.condition > MAX_CONDITION:
        a, b = (repr([*names, "shade"][place]) for place in found.pair)
        raise ConfigError(
            f"Endmembers {a} and {b} of {what} are nearly the same: the condition number of the "
            f"table is {found.condition:.2g}, and {MAX_CONDITION:g} is the most",
            "Delete one of them, or one that is a mixture of others",
        )
