"""How much a compressed chunk holds, found out before it is decoded.

A chunk of 10 MB can be one of 10 GB of zeros: codecs return what a chunk holds, not what it should
hold, and memory would be gone before anybody compares. Some codecs write the size first; others are
read piece by piece, and nothing of that is kept.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from typing import Any

_PIECE = 2**20
#: So much more than its array a chunk may hold: filters may make numbers wider.
_FACTOR, _MORE = 16, 2**20
#: Deflate makes data at most so much smaller; what cannot be larger than this is not looked at.
_DEFLATE_RATIO, _HARMLESS = 1032, 2**28
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def codec_name(codec: Any) -> str:
    """Name of a codec of zarr or numcodecs: ``gzip``, ``zstd`` ..."""
    return type(codec).__name__.lower().removesuffix("codec")


def check_size(name: str, stored: bytes, n_bytes: int) -> None:
    """Refuse a chunk that holds far more than it should; damage is left to the codec.

    ``name``: Of the codec. ``stored``: The chunk as it is stored. ``n_bytes``: Of the array in it.

    Raises OSError: it is such a chunk.
    """
    most = _FACTOR * n_bytes + _MORE
    if holds_more(name, stored, most):
        raise OSError(f"a chunk of {n_bytes} bytes holds more than {most} bytes when it is decoded")


def holds_more(name: str, stored: bytes, most: int) -> bool:
    """True if a chunk has more bytes when it is decoded."""
    if name in ("gzip", "zlib") and len(stored) * _DEFLATE_RATIO <= max(most, _HARMLESS):
        return False
    try:
        if name in ("gzip", "zlib", "bz2", "lzma"):
            return _streams_more(name, stored, most)
        return _written_size(name, stored) > most
    except (EOFError, IndexError, OSError, lzma.LZMAError, struct.error, zlib.error):
        return False


def _streams_more(name: str, stored: bytes, most: int) -> bool:
    """Decode piece by piece, and stop at ``most``; several streams may follow each other."""
    n_bytes = 0
    while stored:
        stream = _new_stream(name)
        while not stream.eof:
            n_before = n_bytes
            n_bytes += len(stream.decompress(stored, _PIECE))
            if n_bytes > most:
                return True
            stored = getattr(stream, "unconsumed_tail", b"")
            if n_bytes == n_before and not stored:
                return False  # it ends too early
        stored = stream.unused_data
    return False


def _new_stream(name: str) -> Any:
    if name == "bz2":
        return bz2.BZ2Decompressor()
    if name == "lzma":
        return lzma.LZMADecompressor()
    return zlib.decompressobj(31 if name == "gzip" else 15)


def _written_size(name: str, stored: bytes) -> int:
    """The size that a chunk says it has; 0 if it does not."""
    if name == "blosc":
        return struct.unpack_from("<I", stored, 4)[0]
    if name == "lz4":
        return struct.unpack_from("<I", stored)[0]
    if name != "zstd" or not stored.startswith(_ZSTD_MAGIC):
        return 0
    # RFC 8878, section 3.1.1.1: descriptor, window, dictionary, size of the content
    descriptor = stored[4]
    is_single = bool(descriptor & 32)
    start = 5 + (not is_single) + (0, 1, 2, 4)[descriptor & 3]
    kind = descriptor >> 6
    if kind == 0:
        return stored[start] if is_single else 0
    size = struct.unpack_from({1: "<H", 2: "<I", 3: "<Q"}[kind], stored, start)[0]
    return size + 256 if kind == 1 else size
