"""Views of scenes: masked, with fewer bands, resampled to other bands; warp: north-up."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import THINNED_STEP, Layer, Mask, Scene, scene_fields
from hyperhpc.scene.fingerprint import MOST_FILES
from hyperhpc.scene.window import length


@dataclass(frozen=True, kw_only=True, eq=False)
class WrappedScene(Scene):
    """A scene on the grid of another one; subclasses change the values."""

    inner: Scene

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """See :meth:`Scene.read_origins`."""
        return self.inner.read_origins(rows, cols)

    def file_names(self) -> tuple[str, ...]:
        """See :meth:`Scene.file_names`."""
        return self.inner.file_names()

    def read_zenith(self, rows: slice, cols: slice) -> np.ndarray | None:
        """See :meth:`Scene.read_zenith`."""
        return self.inner.read_zenith(rows, cols)

    def layers(self) -> dict[str, Layer]:
        """See :meth:`Scene.layers`."""
        return self.inner.layers()

    def read_layers(
        self, rows: slice, cols: slice, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """See :meth:`Scene.read_layers`."""
        return self.inner.read_layers(rows, cols, names)

    def causes(self) -> tuple[str, ...]:
        """See :meth:`Scene.causes`."""
        return self.inner.causes()

    def read_causes(self, rows: slice, cols: slice) -> np.ndarray:
        """See :meth:`Scene.read_causes`."""
        return self.inner.read_causes(rows, cols)

    def check_files(self) -> list[str]:
        """See :meth:`Scene.check_files`."""
        return self.inner.check_files()


# Masks: pixels that are left out read as no-data in every band.


@dataclass(frozen=True)
class _Thinned:
    """The mask of a thinned copy, from the mask of the whole scene."""

    whole: Mask

    @property
    def causes(self) -> tuple[str, ...]:
        return self.whole.causes

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        return self.whole.hides(*map(_thinned_span, (rows, cols)))

    def hides_each(self, rows: slice, cols: slice) -> list[np.ndarray]:
        return self.whole.hides_each(*map(_thinned_span, (rows, cols)))

    def fingerprint(self) -> Any:
        return self.whole.fingerprint()


def _thinned_span(part: slice) -> slice:
    """Rows or columns of a thinned copy, in the whole scene."""
    stop = (part.stop - 1) * THINNED_STEP + 1 if part.stop > part.start else 0
    return slice(part.start * THINNED_STEP, stop, (part.step or 1) * THINNED_STEP)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedScene(WrappedScene):
    """Another scene without the pixels of a mask: they read as a no-data value of it, or NaN."""

    mask: Mask
    hidden_value: float

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window; see :meth:`Scene.read`."""
        dn = self.inner.read(rows, cols, bands)
        if dn.size:
            dn[self.mask.hides(rows, cols)] = self.hidden_value
        return dn

    def blocks(self, rows: slice, cols: slice) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pixels piece by piece; see :meth:`Scene.blocks`."""
        whole = self.mask.hides(rows, cols)  # once: layers in stores are slow to read in parts
        for row, col, dn in self.inner.blocks(rows, cols):
            y, x = row - rows.start, col - cols.start
            hidden = whole[y : y + dn.shape[0], x : x + dn.shape[1]]
            if hidden.any():
                dn[hidden] = self.hidden_value  # may be changed until the next is requested
            yield row, col, dn

    def causes(self) -> tuple[str, ...]:
        """Those of the other scene, then those of the mask."""
        return (*self.inner.causes(), *self.mask.causes)

    def read_causes(self, rows: slice, cols: slice) -> np.ndarray:
        """See :meth:`Scene.read_causes`; of several parts of a mask, the first counts."""
        found, first = self.inner.read_causes(rows, cols), len(self.inner.causes())
        for number, hidden in reversed(list(enumerate(self.mask.hides_each(rows, cols), first))):
            found[hidden] = number
        return found

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """See :meth:`Scene.fingerprint`."""
        return self.inner.fingerprint(most_files) | {"mask": self.mask.fingerprint()}


def mask_scene(scene: Scene, mask: Mask, note: str = "", **changes: Any) -> MaskedScene:
    """A scene without the pixels that a mask hides, with one more note and other ``changes``.

    Raises SceneError: the scene has no no-data value that hidden pixels could read as.
    """
    if not scene.is_integer:
        value = float("nan")
    elif scene.nodata:
        value = scene.nodata[0]
    else:
        raise SceneError(
            f"{scene.path} declares no no-data value, so no pixel of type {scene.stored_dtype} "
            "can be masked",
            "Declare one: Data_Ignore_Value, data ignore value, nodata or _FillValue",
        )
    fields = scene_fields(scene)
    fields["notes"] = (*scene.notes, note) if note else scene.notes
    if scene.thinned is not None:
        fields["thinned"] = mask_scene(scene.thinned, _Thinned(mask))
    return MaskedScene(**fields | changes, inner=scene, mask=mask, hidden_value=value)


def window_shape(rows: slice, cols: slice) -> tuple[int, int]:
    """Shape of what a window with start and stop holds."""
    return length(rows), length(cols)


# Scenes with different bands, brought to the same ones.

#: Largest difference of the centres of one band in two files (nm).
SAME_BAND_NM = 2.5


@dataclass(frozen=True, kw_only=True, eq=False)
class PickedScene(WrappedScene):
    """Some of the bands of another scene, in any order: ``numbers`` (band,)."""

    numbers: np.ndarray

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window; see :meth:`Scene.read`."""
        numbers = self.numbers[slice(None) if bands is None else bands]
        order = np.argsort(numbers)
        dn = self.inner.read(rows, cols, numbers[order])
        return dn if (np.diff(order) > 0).all() else dn[..., np.argsort(order)]

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """See :meth:`Scene.fingerprint`."""
        return self.inner.fingerprint(most_files) | {"picked": self.numbers.tolist()}


@dataclass(frozen=True, kw_only=True, eq=False)
class ResampledScene(WrappedScene):
    """Another scene at other band centres, by linear interpolation of DN.

    Integers are rounded half to even. A value is no-data if one of its two neighbours is: the bands
    ``lower`` and ``upper`` of the other scene (band,). ``weight`` is the share of the upper one.
    """

    lower: np.ndarray
    upper: np.ndarray
    weight: np.ndarray

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window; see :meth:`Scene.read`."""
        chosen = slice(None) if bands is None else bands
        lower, upper, weight = self.lower[chosen], self.upper[chosen], self.weight[chosen]
        needed = np.unique(np.concatenate([lower, upper]))
        dn = self.inner.read(rows, cols, needed)
        out = np.empty((*dn.shape[:2], weight.size), self.dtype)
        # Band by band: the float64 of all bands would be four times the window
        for band, share in enumerate(weight):
            below = dn[..., np.searchsorted(needed, lower[band])]
            above = dn[..., np.searchsorted(needed, upper[band])]
            value = below + share * (above.astype(np.float64) - below)
            out[..., band] = np.rint(value) if self.is_integer else value
            for mark in (*self.window_nodata, *self.nodata):
                out[..., band][(below == mark) | (above == mark)] = mark
        return out

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """See :meth:`Scene.fingerprint`."""
        return self.inner.fingerprint(most_files) | {"resampled": self.wavelength_nm.tolist()}


def pick_common(scenes: Sequence[Scene]) -> list[Scene]:
    """The bands that all scenes have within 2.5 nm, in the order of the first.

    Raises SceneError: there is none; the message names a scene without.
    """
    first = scenes[0].wavelength_nm
    off = [np.abs(scene.wavelength_nm - first[:, np.newaxis]) for scene in scenes]
    nearest = [distance.argmin(axis=1) for distance in off]
    common = np.logical_and.reduce([distance.min(axis=1) <= SAME_BAND_NM for distance in off])
    for numbers in nearest:
        # A coarser file may have one band for two of the first: only one of them is shared
        _, once = np.unique(numbers[common], return_index=True)
        keep = np.zeros(first.size, bool)
        keep[np.flatnonzero(common)[once]] = True
        common &= keep
    if not common.any():
        other = scenes[int(np.argmax([distance.min() for distance in off]))]
        raise SceneError(
            f"{scenes[0].path} and {other.path} have no band in common within {SAME_BAND_NM} nm",
            "Use --resample-bands",
        )
    return [
        _pick(scene, numbers[common], first[common])
        for scene, numbers in zip(scenes, nearest, strict=True)
    ]


def _pick(scene: Scene, numbers: np.ndarray, centres: np.ndarray) -> Scene:
    if np.array_equal(numbers, np.arange(scene.shape[2])):
        return scene
    fwhm_nm = None if scene.fwhm_nm is None else scene.fwhm_nm[numbers]
    fields = _fields_with_bands(scene, centres, fwhm_nm, np.isin(numbers, scene.bad_bands))
    return PickedScene(**fields, inner=scene, numbers=numbers)


def resample(scenes: Sequence[Scene]) -> list[Scene]:
    """All scenes at the band centres of the first.

    Raises SceneError: a centre is outside the bands of another scene by more than half their
    distance.
    """
    first = scenes[0]
    return [first, *(_resample(scene, first) for scene in scenes[1:])]


def _resample(scene: Scene, first: Scene) -> Scene:
    centres, wanted = scene.wavelength_nm, first.wavelength_nm
    if np.array_equal(centres, wanted):
        return scene
    order = np.argsort(centres)
    ascending = centres[order]
    reach = np.diff(ascending)[[0, -1]] / 2 if centres.size > 1 else np.zeros(2)
    outside = (wanted < ascending[0] - reach[0]) | (wanted > ascending[-1] + reach[1])
    if outside.any():
        raise SceneError(
            f"{scene.path} has bands from {ascending[0]:.2f} to {ascending[-1]:.2f} nm and "
            f"cannot be resampled to {wanted[outside][0]:.2f} nm of {first.path}",
            "Use --bands intersect",
        )
    position = np.interp(wanted, ascending, np.arange(centres.size, dtype=np.float64))
    lower, upper = np.floor(position).astype(int), np.ceil(position).astype(int)
    weight = position - lower
    lower, upper = order[lower], order[upper]
    bad = np.isin(lower, scene.bad_bands) | np.isin(upper, scene.bad_bands)
    fields = _fields_with_bands(scene, wanted, None, bad)
    return ResampledScene(**fields, inner=scene, lower=lower, upper=upper, weight=weight)


def _fields_with_bands(
    scene: Scene, centres: np.ndarray, fwhm_nm: np.ndarray | None, is_bad: np.ndarray
) -> dict[str, Any]:
    """The fields of a scene, with other bands."""
    return scene_fields(scene) | {
        "shape": (*scene.shape[:2], centres.size),
        "wavelength_nm": centres,
        "fwhm_nm": fwhm_nm,
        "bad_bands": tuple(np.flatnonzero(is_bad).tolist()),
        "chunks": (*scene.chunks[:2], min(scene.chunks[2], centres.size)),
        "shards": None,
        "thinned": None,
    }
