"""Pixels of a Zarr array chunk by chunk, decoded straight into one buffer.

For the layout of the stores written here and of most others: chunks of Blosc, with or
without crc32c, in shards or not. A chunk is decoded into a buffer that stays in the
processor's caches, worked on there, and overwritten by the next; zarr's own pipeline
makes a window of fresh memory first, at half the speed (docs/decisions/0009). Every
other layout is read through zarr.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.scene.absent import EMPTY, known_empty

if TYPE_CHECKING:
    from zarr import Array

_MISSING = 2**64 - 1
_CRC_BYTES = 4
_BLOSC_HEADER = 16
#: Blosc holds no more: a chunk that claims to be larger is none, and gets no buffer.
_BLOSC_MAX = 2**31 - 1


@dataclass(frozen=True)
class ChunkReader:
    """Where the chunks of an array lie, and how they are decoded.

    Attributes
    ----------
    array
        Gives the names of chunk files.
    folder
        Of the array.
    chunk
        (rows, columns, bands) of a chunk, which has all bands.
    shard
        Of a shard; that of the chunk if there are none.
    has_crc
        True if each chunk ends with its crc32c.
    empty
        Names of the files that may be absent; None if any may.
    """

    array: Array
    folder: str
    chunk: tuple[int, ...]
    shard: tuple[int, ...]
    is_sharded: bool
    has_crc: bool
    dtype: np.dtype
    fill_value: Any
    empty: frozenset[str] | None

    def blocks(self, rows: range, cols: range) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pixels of a window, chunk by chunk.

        Yields
        ------
        Row and column of the first pixel, and DN (y, x, band): a view of the buffer,
        valid until the next is asked for.

        Raises
        ------
        OSError
            A file is damaged, and which.
        """
        buffer = np.empty(self.chunk, dtype=self.dtype)
        for file_rows in _cut(rows, self.shard[0]):
            for file_cols in _cut(cols, self.shard[1]):
                key = (file_rows.start // self.shard[0], file_cols.start // self.shard[1], 0)
                with self._open(key) as file:
                    yield from self._of_file(file, file_rows, file_cols, buffer)

    def _of_file(
        self, file: _File | None, rows: range, cols: range, buffer: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        places = self._places(file) if file else None
        for part_rows in _cut(rows, self.chunk[0]):
            for part_cols in _cut(cols, self.chunk[1]):
                y, x = part_rows.start % self.shard[0], part_cols.start % self.shard[1]
                y, x = y // self.chunk[0], x // self.chunk[1]
                offset, length = places[y, x].tolist() if places is not None else (_MISSING, 0)
                if file is None or offset == _MISSING:
                    buffer[...] = self.fill_value
                else:
                    self._decode(file, offset, length, buffer)
                y, x = part_rows.start % self.chunk[0], part_cols.start % self.chunk[1]
                part = buffer[y : y + len(part_rows), x : x + len(part_cols)]
                yield part_rows.start, part_cols.start, part

    @contextmanager
    def _open(self, key: tuple[int, int, int]) -> Iterator[_File | None]:
        """The file of a chunk or shard; None if there is none: all of it is missing."""
        name = self.array.metadata.encode_chunk_key(key)
        path = os.path.join(self.folder, name)
        try:
            number = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            if self.empty is not None and name not in self.empty:
                raise OSError(
                    f"{path} is missing, and {EMPTY} in the attributes of the array does not "
                    "list it: it held data when the store was written"
                ) from None
            yield None
            return
        with closing(_File(number, path)) as file:
            yield file

    def _places(self, file: _File) -> np.ndarray:
        """Offset and length of each chunk in the file (row, column, 2)."""
        if not self.is_sharded:
            return np.array([[[0, file.size]]], dtype=np.uint64)
        grid = (self.shard[0] // self.chunk[0], self.shard[1] // self.chunk[1], 2)
        length = 8 * grid[0] * grid[1] * 2
        index = file.read(file.size - length - _CRC_BYTES, length + _CRC_BYTES)
        file.check(index)
        return np.frombuffer(bytes(index), dtype="<u8", count=length // 8).reshape(grid)

    def _decode(self, file: _File, offset: int, length: int, buffer: np.ndarray) -> None:
        from numcodecs import blosc

        stored = file.read(offset, length)
        if self.has_crc:
            file.check(stored)
            length -= _CRC_BYTES
        if length < _BLOSC_HEADER:
            raise OSError(f"{file.path}: a chunk is truncated: {length} bytes")
        n_bytes, _, n_stored = struct.unpack("<III", stored[4:_BLOSC_HEADER])
        if (n_bytes, n_stored) != (buffer.nbytes, length):
            raise OSError(
                f"{file.path}: a chunk is truncated or damaged: it says {n_stored} bytes for "
                f"{n_bytes}, and has {length} for {buffer.nbytes}"
            )
        blosc.decompress(stored[:length], buffer)


class _File:
    """An open file of chunks; every read is whole or an error."""

    def __init__(self, number: int, path: str) -> None:
        self._number, self.path = number, path
        self.size = os.fstat(number).st_size
        self._buffer = bytearray()

    def read(self, offset: int, length: int) -> memoryview:
        """Bytes of the file, valid until the next are read."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise OSError(
                f"{self.path} is truncated: {self.size} bytes, and bytes {offset} to "
                f"{offset + length} are wanted"
            )
        if length > len(self._buffer):  # fresh memory costs as much as decoding into it
            self._buffer = bytearray(length + length // 4)
        found = memoryview(self._buffer)[:length]
        n_read = os.preadv(self._number, [found], offset)
        if n_read < length:
            raise OSError(f"{self.path} is truncated: {n_read} of {length} bytes at {offset}")
        return found.toreadonly()

    def check(self, stored: memoryview) -> None:
        """The last four bytes are the crc32c of the others."""
        import google_crc32c

        wanted = int.from_bytes(stored[-_CRC_BYTES:], "little")
        content = np.frombuffer(stored[:-_CRC_BYTES], dtype=np.uint8)  # it takes no memoryview
        if google_crc32c.value(content) != wanted:
            raise OSError(f"{self.path}: a checksum (crc32c) is wrong")

    def close(self) -> None:
        os.close(self._number)


def _cut(span: range, size: int) -> Iterator[range]:
    """A span of rows or columns, cut where chunks of a size meet."""
    start = span.start
    while start < span.stop:
        stop = min((start // size + 1) * size, span.stop)
        yield range(start, stop)
        start = stop


def chunk_reader(array: Array, folder: str) -> ChunkReader | None:
    """A reader of this array, or None if its layout is none of those known here."""
    if array.ndim != 3 or array.dtype.byteorder == ">":
        return None
    inner = array.chunks
    outer = array.shards or inner
    codecs = _codecs(array)
    whole = all(o % i == 0 for o, i in zip(outer, inner, strict=True))
    if codecs is None or not whole or not inner[2] == outer[2] >= array.shape[2]:
        return None
    if inner[2] != array.shape[2] or array.fill_value is None:
        return None
    if math.prod(inner) * array.dtype.itemsize > _BLOSC_MAX:
        return None
    return ChunkReader(
        array,
        folder,
        inner,
        outer,
        array.shards is not None,
        "Crc32cCodec" in codecs,
        array.dtype,
        array.fill_value,
        known_empty(array),
    )


def _codecs(array: Array) -> list[str] | None:
    """Names of the codecs of a chunk, if they are those known here."""
    metadata: Any = array.metadata
    if metadata.zarr_format == 2:
        compressor = type(metadata.compressor).__name__
        plain = metadata.order == "C" and not metadata.filters
        return [compressor] if plain and compressor == "Blosc" else None
    codecs = metadata.codecs
    if type(codecs[0]).__name__ == "ShardingCodec":
        sharding = codecs[0]
        index = [type(codec).__name__ for codec in sharding.index_codecs]
        at_end = getattr(sharding.index_location, "value", sharding.index_location) == "end"
        if len(codecs) > 1 or index != ["BytesCodec", "Crc32cCodec"] or not at_end:
            return None
        codecs = sharding.codecs
    names = [type(codec).__name__ for codec in codecs]
    known = (["BytesCodec", "BloscCodec"], ["BytesCodec", "BloscCodec", "Crc32cCodec"])
    endian = getattr(codecs[0], "endian", None)
    is_little = getattr(endian, "value", endian) in ("little", None)
    return names if names in known and is_little else None
