"""ENVI files and GeoTIFFs for tests: ENVI by numpy alone, GeoTIFF by rasterio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

#: ENVI's code of each type.
CODES = {"uint8": 1, "int16": 2, "int32": 3, "float32": 4, "float64": 5, "uint16": 12,
         "uint32": 13, "int64": 14, "uint64": 15}  # fmt: skip
_ORDERS = {"bil": (0, 2, 1), "bip": (0, 1, 2), "bsq": (2, 0, 1)}
MAP_INFO = "{UTM, 1.000, 1.000, 500000.0, 4000100.0, 2.0, 2.0, 13, North, WGS-84, units=Meters}"


def cube(rows: int = 5, cols: int = 7, bands: int = 6, dtype: str = "int16") -> np.ndarray:
    """Numbers (y, x, band) that are all different while the type has so many."""
    return np.arange(rows * cols * bands).reshape(rows, cols, bands).astype(dtype)


def centres(bands: int) -> list[float]:
    """Band centres, nm."""
    return [round(450.5 + 10 * band, 3) for band in range(bands)]


def listed(values: Any) -> str:
    """A list as ENVI writes it."""
    return "{" + ", ".join(map(str, values)) + "}"


def write_envi(
    path: Path,
    dn: np.ndarray,
    interleave: str = "bil",
    *,
    big_endian: bool = False,
    offset: int = 0,
    header: Path | None = None,
    **fields: Any,
) -> Path:
    """Write data and header; a field that is None is left away, ``_`` stands for a space."""
    order = ">" if big_endian else "<"
    stored = dn.transpose(_ORDERS[interleave]).astype(dn.dtype.newbyteorder(order))
    path.write_bytes(bytes(offset) + stored.tobytes())
    rows, cols, bands = dn.shape
    lines = {
        "samples": cols,
        "lines": rows,
        "bands": bands,
        "header offset": offset,
        "data type": CODES[dn.dtype.name],
        "interleave": interleave,
        "byte order": int(big_endian),
        "wavelength": listed(centres(bands)),
        "wavelength units": "Nanometers",
    } | {name.replace("_", " "): value for name, value in fields.items()}
    text = "".join(f"{name} = {value}\n" for name, value in lines.items() if value is not None)
    (header or path.with_name(path.name + ".hdr")).write_text(f"ENVI\n{text}", "utf-8")
    return path


def write_tiff(path: Path, dn: np.ndarray, *, tags: Any = None, **profile: Any) -> Path:
    """Write a GeoTIFF; ``tags`` gives those of each band, by default its centre."""
    import rasterio
    from rasterio import Affine

    rows, cols, bands = dn.shape
    profile = {"crs": "EPSG:32613", "transform": Affine(2, 0, 500000, 0, -2, 4000100), **profile}
    with rasterio.open(
        path, "w", driver="GTiff", height=rows, width=cols, count=bands, dtype=dn.dtype,
        **profile,
    ) as file:  # fmt: skip
        file.write(dn.transpose(2, 0, 1))
        for band, nm in enumerate(centres(bands), 1):
            file.update_tags(band, **(tags(band) if tags else {"wavelength": str(nm)}))
    return path
