"""Which file GDAL opens: TIFF by its first bytes, ENVI by the header that lies beside it."""

from __future__ import annotations

import os

from hyperhpc.errors import SceneError

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Endings of ENVI data, best first, where several files have the header's name.
_DATA = ("", ".img", ".dat", ".bil", ".bip", ".bsq", ".raw", ".bin", ".envi", ".sli")
#: Beside the data, and never the data itself.
_BESIDE = (
    ".hdr",
    ".xml",
    ".ovr",
    ".txt",
    ".csv",
    ".prj",
    ".pdf",
    ".png",
    ".jpg",
    ".sta",
    ".enp",
)


def is_raster(path: str) -> bool:
    """True for a TIFF, an ENVI header, and any file that has one beside it."""
    return _is_tiff(path) or _is_header(path) or _find_header(path) is not None


def find_raster(path: str) -> tuple[str, str | None]:
    """Data file of a raster, and its ENVI header; None for a TIFF.

    Parameters
    ----------
    path
        For ENVI the header or the data file.

    Raises
    ------
    SceneError
        Neither of both kinds, a header that is not ENVI's, or no single data file to it.
    """
    if _is_tiff(path):
        return path, None
    header = path if _is_header(path) else _find_header(path)
    if header is None:
        raise SceneError(
            f"{path} is no TIFF, and no ENVI header (.hdr) lies beside it.",
            "ENVI data need their header, of the same name.",
        )
    with open(header, "rb") as file:
        start = file.read(4)
    if start != b"ENVI":
        raise SceneError(
            f"{header} is no ENVI header: it begins with {start!r}, not ENVI (headers of ESRI "
            "also end in .hdr).",
            "Write it as ENVI or GeoTIFF, for example: gdal_translate -of ENVI IN OUT.img",
        )
    return (_find_data(header) if header == path else path), header


def _is_tiff(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in _TIFF


def _is_header(path: str) -> bool:
    return path.lower().endswith(".hdr")


def _find_header(path: str) -> str | None:
    """``scene.img.hdr`` or ``scene.hdr`` of ``scene.img``."""
    for stem in (path, os.path.splitext(path)[0]):
        for ending in (".hdr", ".HDR"):
            if os.path.isfile(stem + ending):
                return stem + ending
    return None


def _find_data(header: str) -> str:
    folder, name = os.path.split(header)
    stem = name[: -len(".hdr")]
    there = [
        other
        for other in sorted(os.listdir(folder))
        if (other == stem or os.path.splitext(other)[0] == stem)
        and not other.lower().endswith(_BESIDE)
        and os.path.isfile(os.path.join(folder, other))
    ]
    known = [stem + ending for ending in _DATA if stem + ending in there]
    if not known and len(there) > 1:
        raise SceneError(
            f"{header} may be the header of any of {', '.join(there[:8])}.",
            "Name the data file instead.",
        )
    if not there:
        raise SceneError(
            f"{header} has no data beside it: a file called {stem}, with any ending.",
            "Copy the data file to the same folder.",
        )
    return os.path.join(folder, (known or there)[0])
