"""Pictures as bytes: PNG without loss, WebP where that would be too large for the page.

Why PNG files are packed by our own code: docs/decisions/0023. Format:
https://www.w3.org/TR/png-3/
"""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from isal import isal_zlib
from PIL import Image

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Filter type "up": each row is stored as its difference from the row above it.
_FILTER_UP = 2
_ROWS_AT_ONCE = 64
_INCH_M = 0.0254
#: Bytes at the start of a file that hold what has drawn it.
_HEAD = 512


def encode_png(pixels: np.ndarray, dpi: float, description: str, name: str = "") -> bytes:
    """A PNG file in memory.

    ``pixels``: uint8 (y, x, 3 or more): red, green, blue; further bands are left out.
    ``dpi``: Dots per inch, for image viewers and printers.
    ``description``: What the picture shows, for those who cannot see it.
    ``name``: File name without its ending, for :func:`is_drawn_by_report`.
    """
    height, width, _ = pixels.shape
    per_metre = round(dpi / _INCH_M)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),  # 8 bits, RGB
        b"tEXt": _author(name),
        b"pHYs": struct.pack(">IIB", per_metre, per_metre, 1),
        b"iTXt": b"Description" + bytes(5) + description.encode("utf-8"),
        b"IDAT": _pack(pixels),
        b"IEND": b"",
    }
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks.items())


def is_drawn_by_report(path: Path) -> bool:
    """True for a picture that a report has saved under this very name; a copy of it is not."""
    if not path.stem.isascii():
        return False
    try:
        with path.open("rb") as file:
            return _chunk(b"tEXt", _author(path.stem)) in file.read(_HEAD)
    except OSError:  # a folder, or a file that may not be read
        return False


def _author(name: str) -> bytes:
    """What has drawn a picture, and the name it was given."""
    return b"Software\0hyperhpc report, " + name.encode("ascii") + b".png"


def _pack(pixels: np.ndarray) -> bytes:
    """All rows, filtered and deflated, some of them at a time."""
    height, width, _ = pixels.shape
    deflate = isal_zlib.compressobj(2)
    above = np.zeros(3 * width, dtype=np.uint8)
    packed = []
    for start in range(0, height, _ROWS_AT_ONCE):
        flat = pixels[start : start + _ROWS_AT_ONCE, :, :3].reshape(-1, 3 * width)
        rows = np.empty((len(flat), 1 + 3 * width), dtype=np.uint8)
        rows[:, 0] = _FILTER_UP
        np.subtract(flat[0], above, out=rows[0, 1:])  # modulo 256
        np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
        packed.append(deflate.compress(rows))
        above = flat[-1]
    return b"".join([*packed, deflate.flush()])


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def encode_webp(image: Image.Image) -> bytes:
    """A WebP file in memory, with some loss; the PNG in ``figures/`` keeps every pixel."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=90, method=0)
    return buffer.getvalue()
