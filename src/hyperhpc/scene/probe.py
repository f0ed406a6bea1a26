"""A look at some pixels: bands without a value, numbers that are no reflectance, days, angles."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import in_windows, nodata_in_dtype
from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import ANGLE_LAYERS, DATE_ARRAY, NO_DATE, Scene
from hyperhpc.scene.metadata import ASSUMED

#: Side of a block, pixels, and how much is read to call a band empty: positions where another
#: band holds a value, bytes, or blocks.
_SIDE, _ENOUGH_PIXELS, _MAX_BYTES, _MAX_BLOCKS = 64, 100_000, 2**30, 2000
#: Blocks with valid values that ``info`` takes a median of, and all that it reads for them.
_N_MEDIAN, _N_LOOKED_AT = 8, 100
#: Valid pixels that the noise of bands is measured in before a run.
_SAMPLE_PIXELS = 20_000
#: Images of angles and days are read at every few pixels of a scene of at most so many, at so many
#: rows and columns of a larger one.
_THIN_PIXELS, _THIN_SIDE, _FEW = 2**20, 64, 6
#: Median reflectance of land, ice and water at these wavelengths (nm) lies within these.
_PLAUSIBLE_NM, _PLAUSIBLE = (400, 1300), (0.002, 1.2)


def leave_out_empty_bands(members: Sequence[Scene]) -> list[Scene]:
    """Flag the bands as bad that hold no valid value in any member, with a note.

    Without this, each pixel would be no-data for the sake of one band. Blocks are read in a random
    order that is always the same, until every band has shown a value: a small scene is read whole,
    a large one up to 100,000 pixels that hold a value in some band.

    ``members``: Scenes with the same bands. Blocks that cannot be read are passed over.
    """
    first = members[0]
    suspects = np.ones(first.shape[2], dtype=bool)
    suspects[list(first.bad_bands)] = False
    n_pixels = n_bytes = 0
    for scene, dn in _blocks(members):
        is_valid = _is_valid(scene, dn)
        n_pixels += int(is_valid.any(axis=-1).sum())
        n_bytes += dn.nbytes
        suspects &= ~is_valid.any(axis=(0, 1))
        if not suspects.any() or n_pixels >= _ENOUGH_PIXELS or n_bytes >= _MAX_BYTES:
            break
    empty = np.flatnonzero(suspects)
    if not n_pixels or not empty.size:
        return list(members)
    note = _describe(first, empty, n_pixels)
    return [
        replace(
            scene,
            bad_bands=tuple(sorted({*scene.bad_bands, *empty.tolist()})),
            notes=(*scene.notes, note),
        )
        for scene in members
    ]


def count_hidden(
    masked: Sequence[tuple[Scene, Callable[[slice, slice], list[np.ndarray]]]],
) -> list[float]:
    """Shares of the valid pixels that masks hide, from 0 to 1.

    Exact for a scene of up to 100,000 valid pixels; for a larger one, of about so many.

    ``masked``: Scenes without their masks, and what each mask hides in a window: bool (y, x) for
        each of its parts.
    """
    hidden, n_valid = np.zeros(0), 0
    band = _middle_band(masked[0][0])
    for number, rows, cols in _windows([scene for scene, _ in masked]):
        scene, hides = masked[number]
        try:
            dn = scene.read(rows, cols, slice(band, band + 1))
        except SceneError:
            continue  # damage is reported by what needs these pixels
        is_valid = _is_valid(scene, dn)[..., 0]
        found = np.array([(is_valid & one).sum() for one in hides(rows, cols)], np.float64)
        hidden = found if not hidden.size else hidden + found
        n_valid += int(is_valid.sum())
        if n_valid >= _ENOUGH_PIXELS:
            break
    return (hidden / max(n_valid, 1)).tolist()


def _middle_band(scene: Scene) -> int:
    """The middle one of the bands that the file calls good."""
    is_good = ~in_windows(scene.wavelength_nm, scene.bad_band_windows_nm)
    is_good[list(scene.bad_bands)] = False
    numbers = np.flatnonzero(is_good) if is_good.any() else np.arange(is_good.size)
    return int(numbers[numbers.size // 2])


def sample_pixels(scene: Scene, bands: np.ndarray) -> np.ndarray:
    """DN (pixel, band) of some thousands of pixels that are valid in all of these bands.

    Blocks are read in a random order that is always the same; of a block with many valid pixels
    every fourth is taken.
    """
    parts, n_pixels = [np.empty((0, len(bands)), scene.dtype)], 0
    for number, (_, dn) in enumerate(_blocks([scene])):
        is_valid = _is_valid(scene, dn)[..., bands].all(axis=-1)
        part = dn[is_valid][:, bands]
        part = part[:: 1 if part.shape[0] < _SAMPLE_PIXELS // 4 else 4]
        parts.append(part)
        n_pixels += len(part)
        if n_pixels >= _SAMPLE_PIXELS or number == _N_LOOKED_AT:
            break
    return np.concatenate(parts)


def check_median(scene: Scene) -> str | None:
    """What :func:`explain_median` finds in a few blocks that hold valid values."""
    wanted, parts = is_bright(scene.wavelength_nm), []
    for number, (_, dn) in enumerate(_blocks([scene])):
        if (values := dn[_is_valid(scene, dn) & wanted][::16]).size:
            parts.append(values)
        if len(parts) == _N_MEDIAN or number == _N_LOOKED_AT:
            break
    if not parts:
        return None
    return explain_median(float(np.median(np.concatenate(parts))) / scene.scale_factor)


def explain_median(median: float) -> str | None:
    """Why a median reflectance at 400-1300 nm cannot be one; None if it can."""
    low, high = _PLAUSIBLE
    if low <= median <= high:
        return None
    return (
        f"The median reflectance at {_PLAUSIBLE_NM[0]}-{_PLAUSIBLE_NM[1]} nm is {median:.4g}; "
        f"{low:g} to {high:g} is plausible: the values may be radiance, per cent or digital "
        "numbers of another scale"
    )


def note_assumptions(scene: Scene, values: Sequence[float] | np.ndarray) -> list[str]:
    """What was assumed about scale and no-data, and whether some values contradict it.

    ``values``: Reflectance at 400-1300 nm that a command is about to give; NaN is passed over.
    """
    notes = [note for note in scene.notes if note.startswith(ASSUMED)]
    known = np.asarray(values, dtype=np.float64)
    known = known[np.isfinite(known)]
    if known.size and (why := explain_median(float(np.median(known)))):
        notes.append(f"{why}. Give --scale VALUE if they are reflectance.")
    return notes


def is_bright(wavelength_nm: np.ndarray) -> np.ndarray:
    """Bool (band): the bands of which the median is plausible or not."""
    return (wavelength_nm >= _PLAUSIBLE_NM[0]) & (wavelength_nm <= _PLAUSIBLE_NM[1])


def _blocks(members: Sequence[Scene]) -> Iterator[tuple[Scene, np.ndarray]]:
    """Blocks of all members, DN (y, x, band), in a random order that is always the same."""
    for which, rows, cols in _windows(members):
        try:
            dn = members[which].read(rows, cols)
        except SceneError:
            continue  # damage is reported by what needs these pixels
        yield members[which], dn


def _windows(members: Sequence[Scene]) -> Iterator[tuple[int, slice, slice]]:
    """Number of a member, rows and columns, in a random order that is always the same."""
    shapes = [(-(-scene.shape[0] // _SIDE), -(-scene.shape[1] // _SIDE)) for scene in members]
    ends = np.cumsum([height * width for height, width in shapes])
    n_read = min(int(ends[-1]), _MAX_BLOCKS)
    for number in np.random.default_rng(0).choice(ends[-1], n_read, replace=False):
        which = int(np.searchsorted(ends, number, side="right"))
        scene, (height, width) = members[which], shapes[which]
        row, col = divmod(int(number - ends[which] + height * width), width)
        rows, cols = (
            slice(at * _SIDE, min((at + 1) * _SIDE, size))
            for at, size in ((row, scene.shape[0]), (col, scene.shape[1]))
        )
        yield which, rows, cols


def _is_valid(scene: Scene, dn: np.ndarray) -> np.ndarray:
    """Bool, shape of ``dn``: finite and not the no-data value."""
    is_valid = np.isfinite(dn) if dn.dtype.kind == "f" else np.ones(dn.shape, dtype=bool)
    for value in nodata_in_dtype(scene.nodata, dn.dtype):
        is_valid &= dn != value
    return is_valid


def _describe(scene: Scene, empty: np.ndarray, n_pixels: int) -> str:
    centres = [f"{scene.wavelength_nm[band]:.1f} nm" for band in empty[:5]]
    more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
    what = "band holds" if len(empty) == 1 else "bands hold"
    return (
        f"{len(empty)} {what} no valid value in the {n_pixels} pixels read for this, and "
        f"{'is' if len(empty) == 1 else 'are'} left out: {', '.join(centres)}{more}."
    )


def describe_acquisition(scene: Scene) -> dict[str, Any]:
    """When the pixels were acquired, and by what light, as far as the scene says.

    Returns: JSON-ready, without what is not known: ``dates`` (YYYY-MM-DD, ascending),
    ``flight_lines`` (names), and for each of ``ANGLE_LAYERS`` the range of its angles in degrees:
    smallest and largest zenith; both ends, clockwise, of the smallest arc that holds all azimuths
    (350 to 10 lies across north). Dates and angles are those of some pixels all over the scene.
    Nothing of a file that is damaged there: a run that needs no angles does not stop for them.
    """
    try:
        return _read_acquisition(scene)
    except SceneError:
        return {}


def _read_acquisition(scene: Scene) -> dict[str, Any]:
    known = [source.acquired for source in (*scene.sources, *scene.flight_lines)]
    dates = {date for date in known if date}
    names = [name for name in ANGLE_LAYERS if name in scene.layers()]
    angles: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for rows, cols in _thin_windows(scene.shape[:2]) if names or scene.has_dates else ():
        for name, values in scene.read_layers(rows, cols, names).items():
            angles[name].append(values[(values >= 0) & (values <= 360)].astype(np.float64))
        if scene.has_dates:
            dates |= _days(scene.read_origins(rows, cols)[DATE_ARRAY])
    found: dict[str, Any] = {}
    if dates:
        found["dates"] = sorted(dates)
    if scene.flight_lines:
        found["flight_lines"] = [line.name for line in scene.flight_lines]
    for name, parts in angles.items():
        if (values := np.concatenate(parts)).size:
            ends = _smallest_arc(values) if "Azimuth" in name else (values.min(), values.max())
            found[name] = [round(float(end), 2) for end in ends]
    return found


def _smallest_arc(azimuths: np.ndarray) -> tuple[float, float]:
    """The two ends, clockwise, of the smallest arc that holds all azimuths (degrees).

    Of several as small, the one that does not lie across north.
    """
    azimuths = np.unique(azimuths % 360)
    before = np.diff(azimuths, prepend=azimuths[-1] - 360)  # the gap before each
    first = int(before.argmax())
    return azimuths[first], azimuths[first - 1]


def _thin_windows(shape: tuple[int, ...]) -> Iterator[tuple[slice, slice]]:
    """Windows of few pixels all over a scene; a large one is not read whole for them."""
    if shape[0] * shape[1] <= _THIN_PIXELS:
        steps = (max(1, side // _THIN_SIDE) for side in shape)
        row_step, col_step = steps
        yield slice(0, shape[0], row_step), slice(0, shape[1], col_step)
        return
    rows, cols = (np.linspace(0, side - 1, _FEW + 2).astype(int)[1:-1] for side in shape)
    for row in rows.tolist():
        for col in cols.tolist():
            yield slice(row, row + 1), slice(col, col + 1)


def _days(image: np.ndarray) -> set[str]:
    """Days as YYYY-MM-DD from YYYYMMDD."""
    days = (str(day) for day in np.unique(image[image != NO_DATE]))
    return {f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in days}
