"""Several scenes on one grid, read as one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.scene.cube import LINE_ARRAY, NO_SOURCE, SOURCE_ARRAY, Scene
from hyperhpc.scene.origins import KINDS, add_dates, origin_names
from hyperhpc.scene.window import length, meet, normalise

#: Ranks of a pixel that has data but no zenith angle, and of one without data.
_LAST, _MISSING = 1e8, 1e9


@dataclass(frozen=True, kw_only=True, eq=False)
class MosaicScene(Scene):
    """Scenes placed on one grid; what none of them covers reads as no-data.

    Where scenes overlap, a pixel shows the first of them that has data there, the last, or
    the one seen most nearly from above. Whether one has data is told by three of its good
    bands (the first, the middle and the last), so that a few bands can be read without the
    rest.

    Attributes
    ----------
    members
        The scenes, ordered by name.
    places
        Row and column of the first pixel of each.
    overlap
        One of :data:`hyperhpc.config.OVERLAPS`.
    is_plain
        No two of them overlap.
    mark
        The value of gaps: a no-data value, or NaN.
    probes
        The three bands.
    numbers
        Per scene, the positions in ``sources`` of its own sources, or of itself if it has
        none.
    line_numbers
        The same for ``flight_lines``; nothing for a scene that has none.
    """

    members: tuple[Scene, ...]
    places: tuple[tuple[int, int], ...]
    overlap: str
    is_plain: bool
    mark: float
    probes: tuple[int, ...]
    numbers: tuple[tuple[int, ...], ...]
    line_numbers: tuple[tuple[int, ...], ...]

    def read(
        self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None
    ) -> np.ndarray:
        """Read one window; see :meth:`Scene.read`. Files it does not touch stay closed."""
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        touched = self._touched(rows, cols)
        if len(touched) == 1 and touched[0][2] == (
            slice(0, length(rows)),
            slice(0, length(cols)),
        ):
            number, there, _ = touched[0]
            return self.members[number].read(*there, bands).astype(self.dtype, copy=False)
        wanted = _band_numbers(bands, self.shape[2])
        out = np.full((length(rows), length(cols), wanted.size), self.mark, self.dtype)
        for _, member, there, here, take in self._shown(rows, cols):
            dn = member.read(*there, bands)
            if take is None:
                out[here] = dn
            else:
                out[here][take] = dn[take]
        return out

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """Each pixel's as its scene tells; see :meth:`Scene.read_origins`."""
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        shape = length(rows), length(cols)
        kinds = {name: KINDS[name] for name in origin_names(self)}
        found = {name: np.full(shape, gap, dtype) for name, (dtype, gap) in kinds.items()}
        for number, member, there, here, take in self._shown(rows, cols):
            own = member.read_origins(*there)
            for name, values in found.items():
                part = own.get(name)
                if name == SOURCE_ARRAY:
                    part = np.zeros(values[here].shape, np.uint16) if part is None else part
                    part = _renumber(part, self.numbers[number])
                elif part is None:
                    part = np.full(values[here].shape, KINDS[name][1], values.dtype)
                elif name == LINE_ARRAY:
                    part = _renumber(part, self.line_numbers[number])
                if take is None:
                    values[here] = part
                else:
                    values[here][take] = part[take]
        return add_dates(found, self.sources, self.flight_lines)

    def file_names(self) -> tuple[str, ...]:
        """Those of all scenes."""
        return tuple(name for member in self.members for name in member.file_names())

    def _shown(
        self, rows: slice, cols: slice
    ) -> Iterator[tuple[int, Scene, tuple[slice, slice], tuple[slice, slice], Any]]:
        """Which scene shows what of a window.

        Yields
        ------
        Number of a scene, the scene, the part of it, where that goes in the window, and of
        which pixels (bool (y, x), None for all); later ones go over earlier ones.
        """
        touched = self._touched(rows, cols)
        best = np.full((length(rows), length(cols)), np.inf) if len(touched) > 1 else None
        for number, there, here in touched:
            member = self.members[number]
            others = (other for _, _, other in touched if other is not here)
            if best is None or self.is_plain or not any(_share_pixels(here, o) for o in others):
                yield number, member, there, here, None
                continue
            if self.overlap != "nadir" and (best[here] < _MISSING).all():
                continue  # decided
            rank = self._rank(member, there)
            take = rank < best[here]
            best[here][take] = rank[take]
            if take.any():
                yield number, member, there, here, take

    def _touched(
        self, rows: slice, cols: slice
    ) -> list[tuple[int, tuple[slice, slice], tuple[slice, slice]]]:
        """Scenes that a window falls on: number, part of the scene, part of the window."""
        numbers = range(len(self.members))
        found = []
        for number in reversed(numbers) if self.overlap == "last" else numbers:
            (row, col), shape = self.places[number], self.members[number].shape
            down, across = meet(rows, row, shape[0]), meet(cols, col, shape[1])
            if down and across:
                found.append((number, (down[0], across[0]), (down[1], across[1])))
        return found

    def _rank(self, member: Scene, there: tuple[slice, slice]) -> np.ndarray:
        """How well a scene shows each pixel, less is better: float (y, x)."""
        dn = member.read(*there, np.array(self.probes))
        missing = np.isnan(dn) if dn.dtype.kind == "f" else np.zeros(dn.shape, bool)
        for mark in self.nodata:
            missing |= dn == mark
        is_missing = missing.any(axis=2)
        if self.overlap != "nadir":
            # Whoever came before has the pixel, if there was anything
            return np.where(is_missing, _MISSING, 0.0)
        zenith = member.read_zenith(*there)
        assert zenith is not None
        return np.where(is_missing, _MISSING, np.where(np.isnan(zenith), _LAST, zenith))

    def check_files(self) -> list[str]:
        """What the scenes' own files tell."""
        return [said for member in self.members for said in member.check_files()]

    def fingerprint(self) -> dict[str, Any]:
        """Shape and rule, and the fingerprints of all scenes in their order."""
        return {
            "kind": self.format,
            "shape": list(self.shape),
            "dtype": self.stored_dtype,
            "overlap": self.overlap,
            "files": [
                [os.path.basename(member.path), list(place), member.fingerprint()]
                for member, place in zip(self.members, self.places, strict=True)
            ],
        }


def _band_numbers(bands: slice | np.ndarray | None, n_bands: int) -> np.ndarray:
    if isinstance(bands, np.ndarray):
        return bands
    return np.arange(n_bands)[slice(None) if bands is None else bands]


def _renumber(own: np.ndarray, numbers: tuple[int, ...]) -> np.ndarray:
    """From a scene's own positions to those of the mosaic."""
    # One more entry, for pixels of which the scene itself cannot tell
    table = np.array([*numbers, NO_SOURCE], np.uint16)
    return table[np.minimum(own, len(numbers))]


def _share_pixels(one: tuple[slice, slice], two: tuple[slice, slice]) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, two, strict=True))
