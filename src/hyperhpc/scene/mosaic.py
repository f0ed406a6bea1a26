"""Several scenes on one grid, read as one."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import in_windows
from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import (
    LINE_ARRAY,
    NO_DATA,
    NO_FILE,
    SOURCE_ARRAY,
    Grid,
    Layer,
    Scene,
    Source,
    empty_layer,
    scene_fields,
)
from hyperhpc.scene.fingerprint import MOST_FILES
from hyperhpc.scene.formats import format_by_extension
from hyperhpc.scene.georef import grid_in_pixels, is_same_crs
from hyperhpc.scene.metadata import check_pixels
from hyperhpc.scene.origins import ORIGIN_KINDS, add_dates, origin_names, renumber, source_from_name
from hyperhpc.scene.views import SAME_BAND_NM
from hyperhpc.scene.window import intersect, length, normalise

_Window = tuple[slice, slice]
#: Ranks of a pixel that has data but no zenith angle, and of one without data.
_RANK_NO_ANGLE, _RANK_MISSING = 1e8, 1e9


#: Files of each scene that are looked at to see whether it has changed, however many scenes.
_FEWEST_FILES = 8


@dataclass(frozen=True, kw_only=True, eq=False)
class MosaicScene(Scene):
    """Scenes placed on one grid; what none of them covers reads as no-data.

    Where scenes overlap, a pixel shows the first of them that has data there, the last, or the one
    with the smallest view angle. Three good bands (the first, the middle and the last) decide
    whether a scene has data, so that a few bands can be read without the rest.

    ``members``: The scenes, ordered by name.
    ``corners``: Row and column of the first pixel of each.
    ``overlap``: One of :data:`hyperhpc.config.OVERLAPS`.
    ``gap_value``: The value of gaps: a no-data value, or NaN.
    ``source_numbers``: Per scene, the positions of its sources in ``sources``; of itself if it has
        none.
    ``line_numbers``: Per scene, the positions of its flight lines in ``flight_lines``.
    """

    members: tuple[Scene, ...]
    corners: tuple[tuple[int, int], ...]
    overlap: str
    has_no_overlap: bool
    gap_value: float
    probe_bands: tuple[int, ...]
    source_numbers: tuple[tuple[int, ...], ...]
    line_numbers: tuple[tuple[int, ...], ...]

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        """Read one window; see :meth:`Scene.read`. Only files that it touches are opened."""
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        touched = self._touched(rows, cols)
        if len(touched) == 1 and touched[0][2] == (slice(0, length(rows)), slice(0, length(cols))):
            number, there, _ = touched[0]
            return self.members[number].read(*there, bands).astype(self.dtype, copy=False)
        n_bands = np.arange(self.shape[2])[slice(None) if bands is None else bands].size
        out = np.full((length(rows), length(cols), n_bands), self.gap_value, self.dtype)
        for _, member, there, here, take in self._visible_parts(rows, cols):
            out[here][take] = member.read(*there, bands)[take]
        return out

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """The origins of the scene that each pixel shows; see :meth:`Scene.read_origins`."""
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        shape = length(rows), length(cols)
        kinds = {name: ORIGIN_KINDS[name] for name in origin_names(self)}
        found = {name: np.full(shape, gap, dtype) for name, (dtype, gap) in kinds.items()}
        for number, member, there, here, take in self._visible_parts(rows, cols):
            own = member.read_origins(*there)
            for name, values in found.items():
                part = own.get(name)
                if name == SOURCE_ARRAY:
                    part = np.zeros(values[here].shape, np.uint16) if part is None else part
                    part = renumber(part, self.source_numbers[number])
                elif part is None:
                    part = np.full(values[here].shape, ORIGIN_KINDS[name][1], values.dtype)
                elif name == LINE_ARRAY:
                    part = renumber(part, self.line_numbers[number])
                values[here][take] = part[take]
        return add_dates(found, self.sources, self.flight_lines)

    def layers(self) -> dict[str, Layer]:
        """The layers that all scenes have in one form, with what all say of them."""
        common, *others = (member.layers() for member in self.members)
        for other in others:
            common = {
                name: replace(layer, attributes=_shared(layer.attributes, other[name].attributes))
                for name, layer in common.items()
                if name in other and _form(layer) == _form(other[name])
            }
        return common

    def read_layers(
        self, rows: slice, cols: slice, names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """The layers of the scene that each pixel shows; see :meth:`Scene.read_layers`."""
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        layers = self.layers()
        shape = length(rows), length(cols)
        found = {name: empty_layer(layers[name], shape) for name in names}
        for _, member, there, here, take in self._visible_parts(rows, cols) if names else ():
            for name, values in member.read_layers(*there, names).items():
                found[name][here][take] = values[take]
        return found

    def causes(self) -> tuple[str, ...]:
        """Those of all scenes, and that no scene covers a pixel."""
        own = (cause for member in self.members for cause in member.causes())
        return tuple(dict.fromkeys((NO_DATA, *own, NO_FILE)))

    def read_causes(self, rows: slice, cols: slice) -> np.ndarray:
        """See :meth:`Scene.read_causes`.

        A missing pixel is missing in all scenes that cover it. Where the mask of any of them hides
        it, that is the cause, as in a single scene; of several, it is that of the first scene.
        """
        rows, cols = normalise(rows, self.shape[0]), normalise(cols, self.shape[1])
        names = self.causes()
        no_file = names.index(NO_FILE)
        found = np.full((length(rows), length(cols)), no_file, np.uint8)
        for number, there, here in reversed(self._touched(rows, cols)):
            member = self.members[number]
            numbers = np.array([names.index(cause) for cause in member.causes()], np.uint8)
            own = numbers[member.read_causes(*there)]
            is_known = (own != names.index(NO_DATA)) | (found[here] == no_file)
            found[here][is_known] = own[is_known]
        return found

    def file_names(self) -> tuple[str, ...]:
        """The file names of all scenes."""
        return tuple(name for member in self.members for name in member.file_names())

    def _visible_parts(
        self, rows: slice, cols: slice
    ) -> Iterator[tuple[int, Scene, _Window, _Window, Any]]:
        """The scenes that fill a window, one part each.

        Yields: number of a scene, the scene, the part of it to read, its place in the window, and
        the pixels to copy (bool (y, x), ``...`` for all); later parts replace earlier ones.
        """
        touched = self._touched(rows, cols)
        best = np.full((length(rows), length(cols)), np.inf)
        for number, there, here in touched:
            member = self.members[number]
            others = [other for _, _, other in touched if other is not here]
            if self.has_no_overlap or not any(_share_pixels(here, other) for other in others):
                yield number, member, there, here, ...
                continue
            if self.overlap != "nadir" and (best[here] < _RANK_MISSING).all():
                continue  # all pixels have data
            rank = self._rank(member, there)
            take = rank < best[here]
            best[here][take] = rank[take]
            if take.any():
                yield number, member, there, here, take

    def _touched(self, rows: slice, cols: slice) -> list[tuple[int, _Window, _Window]]:
        """Scenes that a window falls on: number, part of the scene, part of the window."""
        numbers = range(len(self.members))
        found = []
        for number in reversed(numbers) if self.overlap == "last" else numbers:
            (row, col), shape = self.corners[number], self.members[number].shape
            down, across = intersect(rows, row, shape[0]), intersect(cols, col, shape[1])
            if down and across:
                found.append((number, (down[0], across[0]), (down[1], across[1])))
        return found

    def _rank(self, member: Scene, there: _Window) -> np.ndarray:
        """How well a scene shows each pixel, less is better: float (y, x)."""
        dn = member.read(*there, np.array(self.probe_bands))
        missing = np.isnan(dn) if dn.dtype.kind == "f" else np.zeros(dn.shape, bool)
        for mark in self.nodata:
            missing |= dn == mark
        is_missing = missing.any(axis=2)
        if self.overlap != "nadir":
            # The scene that came before keeps the pixel if it has data
            return np.where(is_missing, _RANK_MISSING, 0.0)
        zenith = member.read_zenith(*there)
        assert zenith is not None
        angle = np.where(np.isnan(zenith), _RANK_NO_ANGLE, zenith)
        return np.where(is_missing, _RANK_MISSING, angle)

    def check_files(self) -> list[str]:
        """The findings of all scenes."""
        return [finding for member in self.members for finding in member.check_files()]

    def fingerprint(self, most_files: int = MOST_FILES) -> dict[str, Any]:
        """Shape and rule, and the fingerprints of all scenes in their order."""
        each = max(most_files // len(self.members), _FEWEST_FILES)
        return super().fingerprint() | {
            "overlap": self.overlap,
            "files": [
                [os.path.basename(member.path), list(place), member.fingerprint(each)]
                for member, place in zip(self.members, self.corners, strict=True)
            ],
        }


def _form(layer: Layer) -> tuple[str, int, float]:
    return layer.dtype, layer.planes, layer.missing


def _shared(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The attributes that two layers have in common."""
    return {name: value for name, value in one.items() if other.get(name) == value}


def layers_left_out(scene: Scene) -> list[str]:
    """Names of layers that only some files of a mosaic have, or in several forms."""
    members = scene.members if isinstance(scene, MosaicScene) else ()
    known = {name for member in members for name in member.layers()}
    return sorted(known - scene.layers().keys()) if members else []


def _share_pixels(one: _Window, two: _Window) -> bool:
    return all(a.start < b.stop and b.start < a.stop for a, b in zip(one, two, strict=True))


# Joining: find the files, check that they fit together, and place them on one grid.

#: Limit of the search for files; NEON's downloads nest eight folders deep.
_MAX_FOLDERS = 10_000
_THREADS = 8
#: Corners of two files may deviate from whole pixels by this part of a pixel.
_MAX_OFF_GRID_PX = 0.01
_MAX_SOURCES = 65_000
_WARP = "Bring all to the grid of the first: --resample nearest"


def find_tiles(folder: str) -> list[str]:
    """Scene files of a folder, or of those below it where it holds none itself.

    Raises SceneError: files of several kinds.
    """
    found: list[str] = []
    for parent, folders, names in itertools.islice(os.walk(folder), _MAX_FOLDERS):
        folders[:] = sorted(n for n in folders if not n.startswith(".") and ".zarr" not in n)
        here = [name for name in names if format_by_extension(name) and not name.startswith(".")]
        found += [os.path.join(parent, name) for name in here]
        if parent == folder and found:
            break
    kinds = Counter(format_by_extension(path) for path in found)
    if len(kinds) > 1:
        listed = " and ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise SceneError(
            f"{folder} holds files of several kinds: {listed}",
            "Move those of one kind to a folder of their own",
        )
    return sorted(found, key=lambda path: (os.path.basename(path), path))


def open_members(paths: Sequence[str], opener: Callable[[str], Scene]) -> list[Scene]:
    """Open all files, several at a time; the error of the first that fails is raised."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(opener, paths))


def join_scenes(path: str, members: Sequence[Scene], overlap: str) -> Scene:
    """One scene of several, in the order that the rules ``first`` and ``last`` mean.

    ``path``: Name of the mosaic, usually its folder.

    Raises SceneError: two of them do not fit together; the message names both.
    """
    first = members[0]
    for member in members:
        _check_member(member, first, overlap)
    grid, shape, places = _place_members(members)
    check_pixels(shape[0] * shape[1], f"The files of {path} make a mosaic of the shape {shape}")
    seen = _count_covered(members, places)
    gaps, has_no_overlap = shape[0] * shape[1] - seen[0], seen[1] == 0
    gap_value = first.nodata[0] if first.nodata else 0.0 if first.is_integer else float("nan")
    if gaps and first.is_integer and not first.nodata:
        raise SceneError(
            f"The {len(members)} files of {path} do not cover {gaps} pixels of their grid, "
            "and declare no no-data value for these pixels",
            "Declare one in the files: nodata, data ignore value or Data_Ignore_Value",
        )
    bad_bands = tuple(sorted(set().union(*(member.bad_bands for member in members))))
    sources, numbers = _merge_sources([m.sources or (source_from_name(m.path),) for m in members])
    flight_lines, line_numbers = _merge_sources([member.flight_lines for member in members])
    listed = (*sources, *flight_lines)
    fields = scene_fields(first) | {
        "path": path,
        "shape": (*shape, first.shape[2]),
        "grid": grid,
        "chunks": tuple(max(sides) for sides in zip(*(m.chunks for m in members), strict=True)),
        "shards": None,
        "thinned": None,
        "bad_bands": bad_bands,
        "sources": sources,
        "flight_lines": flight_lines,
        "has_dates": any(m.has_dates for m in members) or any(one.acquired for one in listed),
        "notes": _notes(members, shape, seen, overlap, bad_bands),
    }
    return MosaicScene(
        **fields,
        members=tuple(_slim(member, first) for member in members),
        corners=tuple(places),
        overlap=overlap,
        has_no_overlap=has_no_overlap,
        gap_value=gap_value,
        probe_bands=_find_probe_bands(first, bad_bands),
        source_numbers=numbers,
        line_numbers=line_numbers,
    )


def _check_member(scene: Scene, first: Scene, overlap: str) -> None:
    """Refuse a scene that cannot be in a mosaic with the first; its first difference is named."""
    if scene.grid == grid_in_pixels(scene.shape[0]):
        raise SceneError(
            f"{scene.path} has no georeference, so it cannot be part of a mosaic",
            "Give only this file",
        )
    for what, one, two, hint in _differences(first, scene):
        raise SceneError(
            f"{first.path} and {scene.path} cannot be one scene: their {what} are {one} and {two}",
            hint,
        )
    if overlap == "nadir" and scene.read_zenith(slice(0, 1), slice(0, 1)) is None:
        raise SceneError(
            f"--overlap nadir needs the to-sensor zenith angle, which {scene.path} does not "
            "contain",
            "Use --overlap first or last",
        )


def _differences(first: Scene, other: Scene) -> Iterator[tuple[str, Any, Any, str]]:
    """Properties that two scenes must share and do not: name, both values, and a hint."""
    a, b = first.grid, other.grid
    way_out = "use --bands intersect or --resample-bands"
    if first.shape[2] != other.shape[2]:
        yield "numbers of bands", first.shape[2], other.shape[2], f"U{way_out[1:]}"
        return
    off = np.abs(first.wavelength_nm - other.wavelength_nm)
    if off.max() > SAME_BAND_NM:
        band = int(off.argmax())
        one, two = (f"{scene.wavelength_nm[band]:.2f} nm" for scene in (first, other))
        hint = f"They may be {SAME_BAND_NM} nm apart; {way_out}"
        yield f"centres of band {band + 1}", one, two, hint
    if not is_same_crs(a, b):
        hint = _WARP if a.wkt and b.wkt else "Give files of one reference system"
        yield "reference systems", _crs_name(a), _crs_name(b), hint
    if not np.allclose([a.px, a.py], [b.px, b.py], rtol=1e-6, atol=0):
        yield "pixel sizes", f"{a.px:g} x {a.py:g}", f"{b.px:g} x {b.py:g}", _WARP
    for what, name in (
        ("kinds of numbers", "dtype"),
        ("scale factors", "scale_factor"),
        ("no-data values", "nodata"),
        ("no-data values inside water bands", "window_nodata"),
        ("bad band windows", "bad_band_windows_nm"),
    ):
        if getattr(first, name) != getattr(other, name):
            yield what, getattr(first, name), getattr(other, name), "Give files of one product"


def _crs_name(grid: Grid) -> str:
    return f"EPSG:{grid.epsg}" if grid.epsg else grid.wkt[:60] if grid.wkt else "not declared"


def _place_members(members: Sequence[Scene]) -> tuple[Grid, tuple[int, int], list[tuple[int, int]]]:
    """The grid that holds all, its rows and columns, and where each scene begins."""
    first = members[0].grid
    bounds = np.array([member.bounds for member in members])
    xmin, ymax = bounds[:, 0].min(), bounds[:, 3].max()
    off = np.column_stack([(ymax - bounds[:, 3]) / first.py, (bounds[:, 0] - xmin) / first.px])
    places = np.rint(off).astype(int)
    # Compared with the first file: no file is known to be the right one
    for k, member in enumerate(members):
        step = off[k] - off[0]
        if np.abs(step - np.rint(step)).max() > _MAX_OFF_GRID_PX:
            down, across = step
            raise SceneError(
                f"{members[0].path} and {member.path} cannot be one scene: their corners are "
                f"{down:.3f} rows and {across:.3f} columns apart, not whole pixels",
                _WARP,
            )
    ends = places + [member.shape[:2] for member in members]
    height, width = (int(n) for n in ends.max(axis=0))
    grid = dataclasses.replace(first, xmin=float(xmin), ymax=float(ymax))
    return grid, (height, width), [(int(row), int(col)) for row, col in places]


def _count_covered(members: Sequence[Scene], places: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Pixels that a scene covers, and those that more than one does."""
    boxes = [
        (row, row + member.shape[0], col, col + member.shape[1])
        for (row, col), member in zip(places, members, strict=True)
    ]
    rows = np.unique([edge for box in boxes for edge in box[:2]])
    cols = np.unique([edge for box in boxes for edge in box[2:]])
    times = np.zeros((rows.size - 1, cols.size - 1), np.int32)
    for y0, y1, x0, x1 in boxes:
        y, x = np.searchsorted(rows, (y0, y1)), np.searchsorted(cols, (x0, x1))
        times[slice(*y), slice(*x)] += 1
    sizes = np.outer(np.diff(rows), np.diff(cols))
    return int(sizes[times > 0].sum()), int(sizes[times > 1].sum())


def _find_probe_bands(scene: Scene, bad_bands: Iterable[int]) -> tuple[int, ...]:
    """First, middle and last of the bands that no file calls bad."""
    good = ~in_windows(scene.wavelength_nm, scene.bad_band_windows_nm)
    good[list(bad_bands)] = False
    numbers = np.flatnonzero(good) if good.any() else np.arange(good.size)
    chosen = {numbers[0], numbers[numbers.size // 2], numbers[-1]}
    return tuple(sorted(int(number) for number in chosen))


def _merge_sources(
    of_members: Sequence[tuple[Source, ...]],
) -> tuple[tuple[Source, ...], tuple[tuple[int, ...], ...]]:
    """All sources of all scenes, each once, and the positions of those of each scene."""
    known: dict[Source, int] = {}
    numbers = tuple(
        tuple(known.setdefault(source, len(known)) for source in own) for own in of_members
    )
    if len(known) > _MAX_SOURCES:
        return (), tuple(() for _ in of_members)
    return tuple(known), numbers


def _slim(member: Scene, first: Scene) -> Scene:
    """A scene without what the mosaic holds for all, so that little is sent to workers."""
    return dataclasses.replace(
        member,
        wavelength_nm=first.wavelength_nm,
        fwhm_nm=first.fwhm_nm,
        grid=dataclasses.replace(member.grid, wkt=first.grid.wkt),
        notes=(),
        sources=(),
        flight_lines=(),
        thinned=None,
    )


def _notes(
    members: Sequence[Scene],
    shape: tuple[int, int],
    seen: tuple[int, int],
    overlap: str,
    bad_bands: tuple[int, ...],
) -> tuple[str, ...]:
    whole = shape[0] * shape[1]
    notes = [f"{len(members)} files as one scene of {shape[0]} x {shape[1]} pixels."]
    if seen[0] < whole:
        notes.append(f"{whole - seen[0]} pixels ({1 - seen[0] / whole:.1%}) are in no file.")
    if seen[1]:
        rule = "one with the smallest view angle" if overlap == "nadir" else overlap
        notes.append(f"{seen[1]} pixels are in several files: the {rule} with data counts.")
    times = Counter(note for member in members for note in member.notes)
    notes += [
        note if count == len(members) else f"{note} ({count} of {len(members)} files)"
        for note, count in times.items()
    ]
    if any(member.bad_bands != bad_bands for member in members):
        notes.append(f"{len(bad_bands)} bands are flagged as bad in one of the files at least.")
    return tuple(notes)
