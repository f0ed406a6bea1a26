"""ENVI files and GeoTIFFs, damaged in their bytes or their texts; read directly by rasterio."""

from __future__ import annotations

import contextlib
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from direct import BANDS, DN, NODATA, Direct
from mutations import ODD, damage_bytes

from hyperhpc.scene.cube import Scene
from hyperhpc.scene.formats.raster_read import RasterScene
from raster_case import listed, write_envi, write_tiff

_NUMBER = re.compile(r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?")
_MAP_INFO = "{UTM, 1, 1, 517000, 4526000, 1, 1, 13, North, WGS-84, units=Meters}"
#: What a header or a tag may hold, besides what no program is ready for.
_WORDS = (
    "bil", "bip", "bsq", "BSQ ", "Micrometers", "Index", "{}", "{", "}", "{1}", "{a, b}", "-1",
    "{1, 1}", listed([0] * len(BANDS)), listed(BANDS / 1000), listed(BANDS[:-1]),
    listed(["nan"] * len(BANDS)), listed([f"{nm} nm" for nm in BANDS]), "12", "4", "5", "6",
    "{UTM, 1, 1, 517000, 4526000, 1, -1, 13, North, WGS-84}", "{Arbitrary, 1, 1, 0, 0, 1, 1}",
    "{UTM, 1, 1, 1e308, nan, 0, 1, 99, South, }", "30", "99999", "4294967297",
)  # fmt: skip
_FIELDS = (
    "file compression", "reflectance scale factor", "scale factor", "data gain values",
    "data offset values", "coordinate system string", "band names", "file type", "z plot range",
    "major frame offsets", "x start", "wavelength", "default bands", "class names", "classes",
)  # fmt: skip


def _odd(rng: Random) -> str:
    return rng.choice(_WORDS) if rng.random() < 0.6 else str(rng.choice(ODD))


def _read_direct(scene: Scene, window: tuple[slice, slice], texts: list[str]) -> Direct:
    """Read the cube with rasterio alone; centres are among the numbers of these texts."""
    import rasterio

    assert isinstance(scene, RasterScene)
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    rows, cols = window
    if scene.is_south_up:
        rows = slice(scene.shape[0] - rows.stop, scene.shape[0] - rows.start)
    with rasterio.open(Path(scene.path)) as file:
        place = ((rows.start, rows.stop), (cols.start, cols.stop))
        dn = np.stack([file.read(band, window=place) for band in file.indexes], axis=2)
        tags, imagery = (
            [{k.lower(): v for k, v in file.tags(band, ns=ns).items()} for band in file.indexes]
            for ns in (None, "IMAGERY")
        )
        texts += [
            ",".join(tag.get(name, "") for tag in bands)
            for bands in (tags, imagery)
            for name in dict.fromkeys(key for tag in bands for key in tag)
        ]
        texts += file.tags().values()
        texts += [",".join((name or "").rsplit("(", 1)[-1] for name in file.descriptions)]
    numbers = [[float(number) for number in _NUMBER.findall(text)] for text in texts]
    vectors = [np.array(line) for line in numbers if line and max(line) < 1e6]
    return Direct(dn[::-1] if scene.is_south_up else dn, vectors)


@dataclass(frozen=True)
class Envi:
    """Data with a header, in one interleave."""

    interleave: str

    def make(self, path: Path) -> None:
        """With all that a header may say."""
        write_envi(
            path,
            DN,
            self.interleave,
            wavelength=listed(BANDS),
            fwhm=listed([5.5] * len(BANDS)),
            bbl=listed([1] * len(BANDS)),
            map_info=_MAP_INFO,
            data_ignore_value=NODATA,
            reflectance_scale_factor=10000,
        )

    def damage(self, path: Path, rng: Random) -> tuple[str, bool]:
        """Damage the data, the bytes of the header, or a field of it."""
        header = path.with_name(path.name + ".hdr")
        kind = rng.choice(("data", "bytes", "field", "field", "field", "field"))
        if kind == "field":
            text, what = _damage_field(header.read_text("utf-8"), rng)
            header.write_bytes(text.encode("utf-8", "surrogatepass"))
            return what, False
        file = path if kind == "data" else header
        content, what = damage_bytes(file.read_bytes(), rng)
        file.write_bytes(content)
        return f"{kind}: {what}", False

    def read(self, scene: Scene, window: tuple[slice, slice]) -> Direct:
        """Read the cube with rasterio; centres are in one of the lists of the header."""
        assert isinstance(scene, RasterScene)
        assert scene.header is not None
        text = Path(scene.header).read_text("utf-8", "replace")
        return _read_direct(scene, window, re.findall(r"[={]([^={}]*)", text))


def _damage_field(text: str, rng: Random) -> tuple[str, str]:
    lines = text.splitlines()
    at = rng.randrange(1, len(lines))
    name = lines[at].partition("=")[0].strip()
    kind = rng.choice(("value", "value", "value", "delete", "twice", "add", "number"))
    if kind == "delete":
        del lines[at]
    elif kind == "add":
        name = rng.choice(_FIELDS)
        lines.append(f"{name} = {_odd(rng)}")
    elif kind == "number" and (found := list(_NUMBER.finditer(lines[at]))):
        number = rng.choice(found)
        new = str(rng.choice((0, -1, 1, 2, 11, 12, 299, 10**9, 10**30, "nan", "x", "")))
        lines[at] = lines[at][: number.start()] + new + lines[at][number.end() :]
    else:
        lines.insert(at + (kind == "twice"), f"{name} = {_odd(rng)}")
        if kind == "value":
            del lines[at + 1]
    return "\n".join(lines), f"{kind} {name}"


@dataclass(frozen=True)
class GeoTiff:
    """A TIFF with one layout."""

    profile: dict[str, Any] = field(default_factory=dict)

    def make(self, path: Path) -> None:
        """With centres, scale, no-data and a place on Earth."""
        import rasterio

        write_tiff(path, DN, nodata=NODATA, tags=_tags, **self.profile)
        with rasterio.open(path, "r+") as file:
            file.scales = [1e-4] * len(BANDS)

    def damage(self, path: Path, rng: Random) -> tuple[str, bool]:
        """Damage its bytes, or a text that GDAL then writes well."""
        if rng.random() < 0.75:
            content, what = damage_bytes(path.read_bytes(), rng)
            path.write_bytes(content)
            return what, False
        return _damage_tag(path, rng), False

    def read(self, scene: Scene, window: tuple[slice, slice]) -> Direct:
        """Read the cube with rasterio; centres are in the tags or names of the bands."""
        return _read_direct(scene, window, [])


def _tags(band: int) -> dict[str, str]:
    return {"wavelength": str(BANDS[band - 1]), "wavelength_units": "nm", "bbl": "1"}


def _damage_tag(path: Path, rng: Random) -> str:
    import rasterio

    band, value = rng.randrange(1, len(BANDS) + 1), _odd(rng)
    kind = rng.choice(("wavelength", "wavelength_units", "bbl", "name", "scale", "file", "place"))
    number = rng.choice((0.0, -1.0, float("nan"), float("inf"), 1e-300, 1e300, 2.0))
    with contextlib.suppress(ValueError, UnicodeError), rasterio.open(path, "r+") as file:
        if kind == "name":
            file.set_band_description(band, value)
        elif kind == "scale":
            file.scales = [number] * rng.choice((1, len(BANDS)))
        elif kind == "file":
            file.update_tags(**{rng.choice(("Scale_Factor", "add_offset", "wavelength")): value})
        elif kind == "place":
            six = [0.0, number, 0.0, 0.0, 0.0, -number]
            six[rng.randrange(6)] = rng.choice((0.0, -1.0, 1e300, float("nan")))
            file.transform = rasterio.Affine.from_gdal(*six)
        else:
            file.update_tags(band, **{kind: value})
    return f"{kind} of band {band}: {value[:40]!r} or {number}"
