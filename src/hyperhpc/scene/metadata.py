"""Metadata of scenes: DN type, divisor to reflectance, no-data values, bands, bad windows.

Pure functions, the same for every format. Every assumption is returned as a note.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError, SceneError

#: Assumed if an integer scene declares nothing: the values of NEON.
DEFAULT_SCALE = 10000.0
DEFAULT_NODATA = -9999.0
#: How notes begin that say what was assumed about the numbers.
ASSUMED = ("No scale factor is declared", "No no-data value is declared")
#: Range of valid band centres after conversion (nm).
WAVELENGTH_RANGE_NM = (300.0, 3000.0)
#: If all centres are below this, they are micrometres, even if the units say otherwise.
MICROMETRES_BELOW = 30.0

#: Longest side of a scene, in pixels: from a pole to the equator in pixels of 1 m.
MAX_SIDE = 10_000_000
#: The smallest scale that numbers survive, and over 1 the largest.
_MIN_SCALE = 1e-30
#: Pixels of the largest scene: at a metre, a million square kilometres.
MAX_PIXELS = 10**12

#: What to do about a scene without band centres.
HINT = "Give them in a file, one per line, as --wavelengths FILE"

_INT16 = np.iinfo(np.int16)
#: NEON and ENVI, CF, then rioxarray, odc-stac and others.
_NODATA_NAMES = (
    "data_ignore_value", "_fillvalue", "missing_value", "fill_value", "fillvalue", "nodata",
    "no_data", "nodatavals", "nodata_value", "no_data_value",
)  # fmt: skip
_PERCENT = ("%", "percent", "per cent", "percentage", "pct")
_SCALE_NAMES = (
    "scale_factor", "reflectance_scale_factor", "scalefactor", "scaling_factor", "scales", "scale",
)  # fmt: skip
#: Names of single numbers that some programs write for each band.
NUMBER_NAMES = {*_NODATA_NAMES, *_SCALE_NAMES, "add_offset", "offset", "offsets"}
#: Names that may also stand for something else: they count if they hold numbers.
_SHARED_NAMES = ("scale", "scales", "offset", "offsets")
#: Names of offsets, and of the scale without which they mean something else.
_OFFSETS = (("add_offset", None), ("offsets", "scales"), ("offset", "scale"))
_MICROMETRE = re.compile(r"^(u|µ|μ)m$|^micro(n|met(er|re))s?$", re.IGNORECASE)
#: Other units of length, with their factor to nm; CF's own is the metre.
_LENGTHS = {
    re.compile(rf"^({pattern})$", re.IGNORECASE): factor
    for pattern, factor in (
        ("m|met(er|re)s?", 1e9), ("cm|centimet(er|re)s?", 1e7), ("mm|millimet(er|re)s?", 1e6),
        ("a|å|[aå]ngstr[oö]ms?", 0.1),
    )
}  # fmt: skip
#: Units of numbers that are no wavelengths, as ENVI and others name them.
_NO_LENGTH = re.compile(
    r"^(wave ?numbers?|(1/cm|cm\^?-1|cm\*\*-1)|[kmgt]?hz|.*hertz|ev|index)$", re.IGNORECASE
)
_BAND_WINDOW = re.compile(r"^band_window_\d+_nanometers$")


def plain(value: Any) -> Any:
    """Turn an attribute as stored (bytes, (1,) array, numpy scalar) into plain Python."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return plain(value[0]) if len(value) == 1 else [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    return value


class Attributes:
    """Attributes of an array, then of its group and the groups above, as one.

    Names are compared without case, a space counts as ``_``; the nearest one wins. Values
    are read on demand, since others may be damaged.
    """

    def __init__(self, *layers: Mapping[str, Any]) -> None:
        self._found: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for layer in layers:
            for name in layer:
                self._found.setdefault(name.lower().replace(" ", "_"), (name, layer))

    def find(self, *names: str) -> tuple[str, Any] | None:
        """Name as written and value as stored of the first of ``names`` there is."""
        for name in names:
            if name in self._found:
                written, layer = self._found[name]
                return written, layer[written]
        return None

    def get(self, *names: str) -> Any:
        """Plain value of the first of ``names`` there is, or None."""
        found = self.find(*names)
        return None if found is None else plain(found[1])

    def forget(self, *names: str) -> None:
        """Leave out attributes that must not be read."""
        for name in names:
            self._found.pop(name, None)

    def names(self) -> list[str]:
        """All names, lower-case, sorted."""
        return sorted(self._found)


@dataclass(frozen=True)
class Values:
    """The meaning of the numbers of a cube: fields of :class:`hyperhpc.scene.files.FileScene`.

    ``nodata``: No-data values as they look in ``dtype``; NaN is never listed.
    ``linear``: Factor and offset from stored values to reflectance, None without an offset.
    ``valid_range``: Stored values outside these two are no-data; None if there is no limit.
    ``notes``: What was assumed or changed.
    """

    dtype: str
    stored_dtype: str
    scale_factor: float
    nodata: tuple[float, ...]
    wide_nodata: tuple[float, ...]
    linear: tuple[float, float] | None
    valid_range: tuple[float, float] | None
    notes: tuple[str, ...]


def check_cube(
    dtype: np.dtype, shape: tuple[int, ...], chunks: tuple[int, ...] | None, where: str
) -> None:
    """Refuse an array that cannot be a cube of digital numbers, before it is read.

    Raises SceneError: not integers or floats, not three dimensions, or sides that are too short
    or long.
    """
    is_number = dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize <= 8)
    if not is_number or len(shape) != 3:
        raise SceneError(
            f"{where} has dtype {dtype} and shape {shape}; a cube of integers or floats with "
            "three dimensions is needed"
        )
    if 0 in shape:
        raise SceneError(f"{where} is empty: its shape is {shape}")
    if max(shape) > MAX_SIDE:
        raise SceneError(
            f"{where} declares the shape {shape}; the longest side possible is {MAX_SIDE}",
            "It is damaged; copy it again",
        )
    check_pixels(math.prod(shape) // min(shape), f"{where} declares the shape {shape}")
    if chunks is not None and min(chunks) < 1:
        raise SceneError(f"{where} declares chunks of {chunks}", "It is damaged; copy it again")


def check_pixels(count: int, what: str) -> None:
    """Refuse a scene that no run would ever finish; ``what`` begins the message."""
    if count > MAX_PIXELS:
        raise SceneError(
            f"{what}: {count:.3g} pixels are more than {MAX_PIXELS:.0e}, the most that is read",
            "A file of it is damaged, or lies far away from the others",
        )


def resolve_values(
    stored: np.dtype, attributes: Attributes, where: str, fill_value: Any = None
) -> Values:
    """Resolve dtype, scale and no-data.

    ``stored``: Dtype on disk: integer or floating, any width and byte order.
    ``fill_value``: The array's own fill value; counts as no-data unless it is None, 0 or NaN.

    Raises SceneError: a scale that is no positive number, an offset or a valid range that are no
    numbers.
    """
    notes: list[str] = []
    _check_sign(stored, attributes, where)
    offset = _find_offset(attributes, where)
    integers = "uint16" if stored.name == "uint16" else "int16"
    dtype = "float32" if stored.kind == "f" or offset else integers
    if stored.name != dtype:
        notes.append(f"Values are stored as {stored.name} and read as {dtype}.")
    scale = _resolve_scale(stored, attributes, where, notes)
    limits = _resolve_range(attributes, where, notes)
    numbers = [attributes.get(name) for name in _NODATA_NAMES]
    declared = [*(_number(one) for one in _flatten(numbers)), _number(plain(fill_value)) or None]
    # [0, -9999] lists 0 on purpose, also in the stores that ingest writes
    listed = any(isinstance(value, list) and 0 in value for value in numbers)
    nodata, wide = resolve_nodata(
        stored, np.dtype(dtype), declared, limits is not None, notes, is_given=listed
    )
    if not offset:
        return Values(dtype, stored.name, scale, nodata, wide, None, limits, tuple(notes))
    linear = (1 / scale, offset)
    notes.append(f"add_offset {offset:g} is added: values are read as reflectance.")
    return Values(dtype, stored.name, 1.0, (), (*nodata, *wide), linear, limits, tuple(notes))


def _check_sign(stored: np.dtype, attributes: Attributes, where: str) -> None:
    """Refuse integers that NetCDF's attribute ``_Unsigned`` gives another meaning."""
    meant = {"true": "u", "false": "i"}.get(str(attributes.get("_unsigned")).lower(), stored.kind)
    if stored.kind in "iu" and meant != stored.kind:
        raise SceneError(
            f"{where} has {stored.name}, and _Unsigned {attributes.get('_unsigned')}: the numbers "
            "have another sign than they are stored with",
            "Open it with xarray, which decodes them, and store it again with to_zarr",
        )


def _find_offset(attributes: Attributes, where: str) -> float:
    """What is added to scaled values; SceneError if it is no number, or not one for all bands."""
    # rioxarray writes scales and offsets; STAC, and what reads it, scale and offset
    names = [n for n, other in _OFFSETS if other is None or attributes.find(other)]
    for name in names:
        found = attributes.get(name)
        if name in _SHARED_NAMES and not _is_numeric(found):
            continue
        if found is not None:
            value = one_for_all_bands(found, name, where)
            return _declared(Attributes({name: value}), name, where, 0.0)
    return 0.0


def _is_numeric(value: Any) -> bool:
    """True for a number, a text of one, or a list of them."""
    parts = list(_flatten(value))
    return bool(parts) and None not in map(_number, parts)


def one_for_all_bands(value: Any, name: str, where: str) -> Any:
    """The number that a list holds for each band; anything else as it is.

    Raises SceneError: the bands differ.
    """
    numbers = number_list(value) if isinstance(value, list) else None
    if not numbers:
        return value
    if min(numbers) != max(numbers):
        raise SceneError(
            f"{where}: bands differ in {name}, {min(numbers):g} to {max(numbers):g}",
            "Store all bands with one scale",
        )
    return numbers[0]


def _declared(attributes: Attributes, name: str, where: str, usual: float) -> float:
    """A number that the file declares, or the usual one; SceneError if it is no number."""
    found = attributes.get(name)
    value = usual if found is None else _number(found)
    if value is None or not (math.isfinite(value) or value == usual):
        raise SceneError(
            f"{where} has {name} {found!r:.60}, which is not a number", "Correct the attribute"
        )
    return value


def _resolve_range(
    attributes: Attributes, where: str, notes: list[str]
) -> tuple[float, float] | None:
    """Limits of valid stored values, as CF declares them."""
    pair = attributes.get("valid_range")
    if isinstance(pair, list) and len(pair) == 2:
        attributes = Attributes({"valid_min": pair[0], "valid_max": pair[1]})
    low = _declared(attributes, "valid_min", where, -math.inf)
    high = _declared(attributes, "valid_max", where, math.inf)
    if math.isinf(low) and math.isinf(high):
        return None
    notes.append(f"Values outside {low:g} to {high:g} (valid_range) are no-data.")
    return low, high


def _resolve_scale(stored: np.dtype, attributes: Attributes, where: str, notes: list[str]) -> float:
    units = attributes.get("units", "unit")
    is_percent = isinstance(units, str) and units.strip().lower() in _PERCENT
    for name in _SCALE_NAMES:
        found = attributes.find(name)
        if found is None:
            continue
        written, declared = found[0], one_for_all_bands(plain(found[1]), found[0], where)
        if name in _SHARED_NAMES and not _is_numeric(declared):
            continue
        value = _number(declared)
        if value is None or not math.isfinite(value) or value <= 0:
            raise SceneError(
                f"{where} has {written} {declared!r:.60}; it must be a positive number",
                "Correct the attribute",
            )
        if value != 1:  # xarray and rioxarray write 1 with everything
            # CF says that its own attribute multiplies, so that this is not worth a note
            divisor = to_divisor(value, written, [] if written == "scale_factor" else notes)
            return divisor * (100 if is_percent and value < 1 else 1)
    if is_percent:
        notes.append("Values are in per cent: they are divided by 100.")
        return 100.0
    part = _number(units) if isinstance(units, str) else None
    if part is not None and 0 < part < 1:  # "1e-4", as UDUNITS allows
        return to_divisor(part, "The unit", notes)
    if stored.kind == "f":
        notes.append("No scale factor is declared: the values are taken as reflectance 0-1.")
        return 1.0
    notes.append(f"No scale factor is declared: {DEFAULT_SCALE:.0f} is assumed for integers.")
    return DEFAULT_SCALE


def to_divisor(value: float, name: str, notes: list[str]) -> float:
    """The divisor to reflectance: CF multiplies, NEON divides; below 1 only CF makes sense.

    Raises SceneError, or ConfigError for an option: a scale beyond all that is used.
    """
    if not _MIN_SCALE <= value <= 1 / _MIN_SCALE:
        kind = ConfigError if name.startswith("--") else SceneError
        raise kind(
            f"{name} is {value:g}; a scale lies between {_MIN_SCALE:g} and {1 / _MIN_SCALE:g}",
            "NEON's is 10000: give --scale 10000",
        )
    if value >= 1:
        return value
    divisor = float(f"{1 / value:.12g}")
    if abs(divisor - round(divisor)) < 1e-6 * divisor:  # 0.0001 kept as float32
        divisor = float(round(divisor))
    notes.append(f"{name} {value:g} multiplies: digital numbers are divided by {divisor:g}.")
    return divisor


def resolve_nodata(
    stored: np.dtype,
    dtype: np.dtype,
    numbers: Sequence[float | None],
    needs_stand_in: bool,
    notes: list[str],
    *,
    is_given: bool = False,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """No-data values as they look in ``dtype``, and those that it cannot hold.

    ``needs_stand_in``: True if other values will be replaced by no-data while reading.
    ``is_given``: True if they are named on purpose, so that 0 is no default.
    """
    declared = dict.fromkeys(n for n in numbers if n is not None and not math.isnan(n))
    kept = [number for number in declared if can_hold(stored, number)]
    for number in declared:
        if number not in kept:
            notes.append(f"No-data value {number:g} cannot occur in {stored.name}: ignored.")
    # An untouched chunk's 0 next to a real ignore value is a default, and 0 is a legal DN.
    if 0.0 in kept and len(kept) > 1 and not is_given:
        kept.remove(0.0)
        notes.append("Fill value 0 is not taken as no-data: another value is declared.")
    narrow = [value for value in kept if can_hold(dtype, value)]
    wide = tuple(value for value in kept if value not in narrow)
    if dtype.kind == "f":
        # -9999 is -10000 in float16
        narrow = [float(np.float32(np.array(value).astype(stored))) for value in narrow]
    elif (wide or needs_stand_in) and float(_stand_in(dtype)) not in narrow:
        narrow.append(float(_stand_in(dtype)))
    for value in wide:
        notes.append(f"No-data value {value:g} is read as {_stand_in(dtype)}.")
    if not kept and not needs_stand_in and dtype.kind == "i":
        narrow = [DEFAULT_NODATA]
        notes.append(f"No no-data value is declared: {DEFAULT_NODATA:.0f} is assumed.")
    return tuple(narrow), wide


def mark_hidden(values: Values) -> tuple[Values, float]:
    """A stored value that marks pixels which something else than their value hides.

    Returns: the values, with one more no-data value where none could be stored; the mark.
    """
    stored = np.dtype(values.stored_dtype)
    if stored.kind == "f":
        return values, math.nan
    if known := [n for n in (*values.wide_nodata, *values.nodata) if can_hold(stored, n)]:
        return values, known[0]
    mark = float(np.iinfo(stored).max if stored.kind == "u" else np.iinfo(stored).min)
    if values.linear or not can_hold(np.dtype(values.dtype), mark):
        return replace(values, wide_nodata=(*values.wide_nodata, mark)), mark
    return replace(values, nodata=(*values.nodata, mark)), mark


def _stand_in(dtype: np.dtype) -> float | int:
    """Replacement of a no-data value that ``dtype`` cannot hold."""
    if dtype.kind == "f":
        return math.nan
    return int(_INT16.min) if dtype.kind == "i" else int(np.iinfo(dtype).max)


def can_hold(dtype: np.dtype, value: float) -> bool:
    """True if a number can be stored with this dtype, if not with all its digits."""
    if dtype.kind == "f":
        return not math.isfinite(value) or abs(value) <= float(np.finfo(dtype).max)
    info = np.iinfo(dtype)
    return float(value).is_integer() and info.min <= value <= info.max


def _number(value: Any) -> float | None:
    """Read a number from an attribute; floats may be text or base64 (xarray, Zarr v3)."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            return float(value)
        except OverflowError:  # JSON's integers have no end
            return math.inf if value > 0 else -math.inf
    if not isinstance(value, str):
        return None
    try:
        return float(value)
    except ValueError:
        pass
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(raw) not in (4, 8):
        return None
    return float(np.frombuffer(raw, dtype=f"<f{len(raw)}")[0])


def canonicalise(
    block: np.ndarray,
    dtype: str,
    wide_nodata: tuple[float, ...],
    where: str,
    linear: tuple[float, float] | None = None,
    valid_range: tuple[float, float] | None = None,
) -> np.ndarray:
    """Cast a block as read to the canonical dtype; a view if nothing must change.

    ``wide_nodata``, ``linear``, ``valid_range``: See :class:`Values`.

    Raises SceneError: an integer beyond int16 that is not a declared no-data value.
    """
    target = np.dtype(dtype)
    low, high = valid_range or (-math.inf, math.inf)
    if linear is not None:
        is_out = np.isin(block, wide_nodata) | (block < low) | (block > high)
        return np.where(is_out, np.nan, block * linear[0] + linear[1]).astype(target)
    if valid_range is not None:
        is_out = (block < low) | (block > high)
        block = block.astype(np.promote_types(block.dtype, target))
        block[is_out] = _stand_in(target)
    if block.dtype == target:
        return block
    hidden = np.isin(block, wide_nodata) if wide_nodata and block.size else None
    if hidden is not None:
        block = np.where(hidden, block.dtype.type(0), block)
    if target == np.int16 and block.size and not np.can_cast(block.dtype, target):
        for value in (block.min(), block.max()):
            if not _INT16.min <= value <= _INT16.max:
                raise SceneError(
                    f"{where} holds the value {value}; digital numbers are read as int16, "
                    f"{_INT16.min} to {_INT16.max}",
                    "Rescale the cube, or declare the value as no-data (Data_Ignore_Value)",
                )
    with np.errstate(over="ignore"):  # beyond float32 becomes inf, never a plausible DN
        out = block.astype(target)
    if hidden is not None:  # only now: the stored type may lack the stand-in
        out[hidden] = _stand_in(target)
    return out


def resolve_wavelengths(
    values: np.ndarray, units: Any, where: str
) -> tuple[np.ndarray, float, tuple[str, ...]]:
    """Band centres in nm, from those stored (band,) in nm, micrometres or what ``units`` say.

    Returns: centres (float64, nm), the factor they were multiplied by, notes.
    Raises SceneError: a centre that is no number, not finite, or outside
    :data:`WAVELENGTH_RANGE_NM`.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iuf":
        raise SceneError(f"{where} is {values.dtype}, not numbers")
    centres = values.astype(np.float64).ravel()
    bad = np.flatnonzero(~np.isfinite(centres))
    if bad.size:
        raise SceneError(
            f"{where}: {bad.size} of {centres.size} wavelengths are not finite "
            f"(first: band {bad[0]})",
            "Every band needs its centre wavelength",
        )
    notes: tuple[str, ...] = ()
    units = str(plain(units)).strip()
    if _NO_LENGTH.match(units):
        raise SceneError(f"{where}: the unit is {units}, so that the numbers are no lengths", HINT)
    factor = next((nm for unit, nm in _LENGTHS.items() if unit.match(units)), 1.0)
    says_micrometre = bool(_MICROMETRE.match(units))
    if factor != 1:
        centres = np.round(centres * factor, 9)
        notes = (f"Wavelengths are stored in {units} and converted to nanometres.",)
    elif says_micrometre or (centres.size and centres.max() < MICROMETRES_BELOW):
        factor = 1000.0
        centres = np.round(centres * factor, 9)  # 0.6567 um is 656.7 nm, not 656.6999999999999
        notes = ("Wavelengths are stored in micrometres and converted to nanometres.",)
    low, high = WAVELENGTH_RANGE_NM
    outside = centres[(centres < low) | (centres > high)]
    if outside.size:
        raise SceneError(
            f"{where}: wavelength {outside[0]:g} nm is outside {low:g}-{high:g} nm",
            "Centres must be in nanometres, or in micrometres if the units attribute says so",
        )
    return centres, factor, notes


def number_list(value: Any) -> list[float] | None:
    """Numbers of a list, or of a text such as ``{1, 0}``; None if one of them is none.

    True and false are 1 and 0; a single number is a list of one.
    """
    if isinstance(value, str):
        value = re.split(r"[,\s]+", value.strip("{}[]() \t\r\n,"))
    flags = {"true": 1.0, "false": 0.0}
    found = [flags.get(str(part).strip().lower(), _number(part)) for part in _flatten(value)]
    numbers = [number for number in found if number is not None]
    return numbers if numbers and len(numbers) == len(found) else None


def unpack(values: np.ndarray, attributes: Mapping[str, Any], where: str) -> np.ndarray:
    """Values of a coordinate that may be packed as CF allows: scale_factor and add_offset.

    Raises SceneError: one of the two is not a number.
    """
    known = Attributes(attributes)
    scale = _declared(known, "scale_factor", where, 1.0)
    offset = _declared(known, "add_offset", where, 0.0)
    return values if (scale, offset) == (1, 0) else values * scale + offset


def resolve_windows(attributes: Attributes, where: str) -> tuple[tuple[float, float], ...]:
    """Closed intervals (nm) declared unusable; empty if none are.

    Raises SceneError: a window that is not a pair of ascending numbers.
    """
    names = [name for name in attributes.names() if name == "bad_band_windows_nm"]
    names = names or [name for name in attributes.names() if _BAND_WINDOW.match(name)]
    edges = [_number(edge) for name in names for edge in _flatten(attributes.get(name))]
    windows = []
    for first, last in zip_longest(edges[::2], edges[1::2]):
        if first is None or last is None or not first <= last:
            raise SceneError(
                f"{where}: bad-band window [{first}, {last}] is not an ascending pair [first, "
                "last] in nm",
                "Correct Band_Window_*_Nanometers or bad_band_windows_nm",
            )
        windows.append((first, last))
    return tuple(windows)


def _flatten(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _flatten(item)
    else:
        yield value
