"""Chunks of Zarr arrays: written as shards, read one by one, and checked.

Reading is for the layout of the stores written here and of most others: chunks of Blosc, with
or without crc32c, in shards or not. A chunk is decoded into a buffer that stays in the
processor's caches; zarr's own pipeline allocates a window first, at half the speed
(docs/decisions/0009). Every other layout is read through zarr.
"""

from __future__ import annotations

import math
import os
import stat
import struct
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from itertools import product
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
import zarr
from numcodecs import blosc
from zarr import Array
from zarr.abc.codec import BytesBytesCodec
from zarr.abc.store import ByteRequest, RangeByteRequest
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import Buffer, BufferPrototype

from hyperhpc.files import atomic_write
from hyperhpc.scene.fingerprint import spread
from hyperhpc.scene.formats.zarr_guard import METADATA, GuardedStore
from hyperhpc.scene.formats.zarr_sizes import check_size, codec_name
from hyperhpc.scene.formats.zarr_sums import find_store_sums

# Writing shards, twice as fast as zarr's own pipeline, which copies each chunk several times
# and searches for empty ones in a separate pass (docs/decisions/0014).

#: Compression of chunks.
CODEC: Final = "lz4"
LEVEL: Final = 5
#: Place of a chunk that a shard does not hold.
_NO_CHUNK = 2**64 - 1
_CRC_BYTES = 4


def chunk_codecs() -> list[BytesBytesCodec]:
    """The codecs of zarr that :func:`write_shards` applies to a chunk."""
    return [BloscCodec(cname=CODEC, clevel=LEVEL, shuffle="bitshuffle"), Crc32cCodec()]


def write_shards(
    array: zarr.Array[Any],
    folder: Path,
    row: int,
    col: int,
    values: np.ndarray,
    threads: int = 1,
    *,
    keep_empty: bool = False,
) -> list[str]:
    """Store values (y, x, ...) in whole shards; each shard is written whole or not at all.

    ``array``: Has chunks and shards of all bands, and :func:`chunk_codecs`; it is in ``folder``.
    ``row``, ``col``: First pixel of the values, which cover whole shards or reach the edge.
    ``threads``: Number of threads that compress chunks.
    ``keep_empty``: Also store chunks and shards that hold only the fill value.

    Returns: names of the files relative to the folder, including those left out as empty.
    """
    assert array.shards is not None
    tall, wide = array.shards[:2]
    names = []
    for y, x in product(range(0, values.shape[0], tall), range(0, values.shape[1], wide)):
        place = ((row + y) // tall, (col + x) // wide, *(0,) * (array.ndim - 2))
        name = array.metadata.encode_chunk_key(place)
        packed = _pack(array, values[y : y + tall, x : x + wide], threads, keep_empty)
        _write_shard(array, folder / name, packed)
        names.append(name)
    return names


def _write_shard(
    array: zarr.Array[Any], path: Path, chunks: Iterable[tuple[tuple[int, int], bytes | None]]
) -> None:
    """One file: the chunks, the index of their places, and the checksum of the index."""
    assert array.shards is not None
    grid = (array.shards[0] // array.chunks[0], array.shards[1] // array.chunks[1])
    index = np.full((*grid, 2), _NO_CHUNK, "<u8")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, flush=False) as part:
        with part.open("wb") as file:
            end = 0
            for place, packed in chunks:
                if packed is None:
                    continue
                file.write(packed)
                file.write(_checksum(packed))
                index[place] = end, len(packed) + _CRC_BYTES
                end += len(packed) + _CRC_BYTES
            table = index.tobytes()
            file.write(table + _checksum(table))
        if not end:  # no chunk holds data: the shard has no file
            part.unlink()
            path.unlink(missing_ok=True)


def _pack(
    array: zarr.Array[Any], values: np.ndarray, threads: int, keep_empty: bool
) -> Iterator[tuple[tuple[int, int], bytes | None]]:
    """Place of each chunk in the shard, and its bytes; None if it is empty."""
    tall, wide = array.chunks[:2]
    n_down, n_across = -(-values.shape[0] // tall), -(-values.shape[1] // wide)
    places = list(product(range(n_down), range(n_across)))

    def pack(place: tuple[int, int]) -> bytes | None:
        top, left = place[0] * tall, place[1] * wide
        part = values[top : top + tall, left : left + wide]
        if not keep_empty and _is_empty(part, array.fill_value):
            return None
        chunk = np.empty(array.chunks, array.dtype)
        if part.shape != chunk.shape:
            chunk[...] = array.fill_value
        chunk[: part.shape[0], : part.shape[1]] = part
        return blosc.compress(chunk, CODEC.encode(), LEVEL, blosc.BITSHUFFLE)

    if threads == 1:
        yield from ((place, pack(place)) for place in places)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from zip(places, pool.map(pack, places), strict=True)


def _checksum(stored: bytes) -> bytes:
    return google_crc32c.value(stored).to_bytes(_CRC_BYTES, "little")


def _is_empty(part: np.ndarray, fill: Any) -> bool:
    if fill != fill:
        return bool(np.isnan(part).all())
    return part.flat[0] == fill and bool((part == fill).all())


# Missing chunk files: those of empty chunks are never written, others were lost. To tell them
# apart, stores written here list the files of empty chunks in an attribute.

#: Attribute of a cube: names of the chunk files that hold no data and were not written, with
#: blanks between them; a list in stores of version 0.1.
EMPTY_CHUNKS = "empty_chunks"


#: Most chunks: all names are looked up, which takes seconds then.
MAX_CHUNKS = 4_000_000
#: Most chunks of fewer bytes than this: each takes as long to read as a large one.
_MAX_SMALL_CHUNKS, _SMALL_BYTES = 20_000, 4096


def check_counts(array: Array) -> None:
    """Refuse an array of more chunks than can be handled.

    Raises OSError: there are more than :data:`MAX_CHUNKS`, or as many small ones.
    """
    sides = zip(array.shape, array.chunks, strict=True)
    count = math.prod(-(-size // max(side, 1)) for size, side in sides)
    is_small = math.prod(array.chunks) * array.dtype.itemsize < _SMALL_BYTES
    most = _MAX_SMALL_CHUNKS if is_small else MAX_CHUNKS
    if count > most:
        raise OSError(
            f"it declares {count:.3g} chunks of {array.chunks}; at most {most:.0e} are read"
            + f" that hold less than {_SMALL_BYTES} bytes" * is_small
        )


def file_names(array: Array) -> list[str]:
    """Names of all chunk files, or shards, that an array has if none is empty."""
    sides = array.shards or array.chunks
    counts = (-(-size // side) for size, side in zip(array.shape, sides, strict=True))
    return [array.metadata.encode_chunk_key(place) for place in product(*map(range, counts))]


def some_file_names(array: Array, most: int) -> list[str]:
    """At most so many of these names, evenly spread, always the same."""
    sides = array.shards or array.chunks
    counts = [-(-size // side) for size, side in zip(array.shape, sides, strict=True)]
    places = (np.unravel_index(number, counts) for number in spread(math.prod(counts), most))
    keys = (tuple(map(int, place)) for place in places) if counts else iter([()])
    return [array.metadata.encode_chunk_key(key) for key in keys]


def absent_files(array: Array, folder: str) -> list[str]:
    """Names of the chunk files of an array in ``folder`` that are not there."""
    return [name for name in file_names(array) if not os.path.exists(os.path.join(folder, name))]


def known_empty(array: Array) -> frozenset[str] | None:
    """The files that may be absent; None if the store has no list of them."""
    names = array.attrs.get(EMPTY_CHUNKS)
    if isinstance(names, str):
        names = names.split()
    if not isinstance(names, list):
        return None
    return frozenset(name for name in names if isinstance(name, str))


def check_may_be_absent(path: str, name: str, may_be_absent: frozenset[str]) -> None:
    """Raise OSError for a chunk file that does not exist and is not known to be empty."""
    if name not in may_be_absent:
        raise OSError(
            f"{path} is missing, and {EMPTY_CHUNKS} in the attributes of the array "
            "does not list it: it held data when the store was written"
        )


# Reading chunk by chunk.

_BLOSC_HEADER = 16
#: Limit of Blosc: a chunk that declares more is damaged, and gets no buffer.
_BLOSC_MAX = 2**31 - 1


class ChunkReader:
    """Finds and decodes the chunks of an array; made by :func:`chunk_reader`."""

    def __init__(self, array: Array, folder: str, has_crc: bool) -> None:
        self._array, self._folder, self._has_crc = array, folder, has_crc
        self._chunk, self._shard = array.chunks, array.shards or array.chunks
        self._may_be_absent = known_empty(array)

    def blocks(self, rows: range, cols: range) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pixels of a window, chunk by chunk.

        Yields: row and column of the first pixel, and DN (y, x, band): a view of the buffer,
        valid until the next one is requested.
        Raises OSError: a file is damaged; the message names it.
        """
        buffer = np.empty(self._chunk, dtype=self._array.dtype)
        tall, wide = self._shard[:2]
        for file_rows, file_cols in product(_cut(rows, tall), _cut(cols, wide)):
            with self._open((file_rows.start // tall, file_cols.start // wide, 0)) as file:
                yield from self._of_file(file, file_rows, file_cols, buffer)

    def _of_file(
        self, file: _File | None, rows: range, cols: range, buffer: np.ndarray
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        places = self._places(file) if file else None
        tall, wide = self._chunk[:2]
        for part_rows, part_cols in product(_cut(rows, tall), _cut(cols, wide)):
            y, x = part_rows.start % self._shard[0], part_cols.start % self._shard[1]
            offset, length = (_NO_CHUNK, 0) if places is None else places[y // tall, x // wide]
            if file is None or offset == _NO_CHUNK:
                buffer[...] = self._array.fill_value
            else:
                self._decode(file, int(offset), int(length), buffer)
            y, x = part_rows.start % tall, part_cols.start % wide
            part = buffer[y : y + len(part_rows), x : x + len(part_cols)]
            yield part_rows.start, part_cols.start, part

    @contextmanager
    def _open(self, key: tuple[int, int, int]) -> Iterator[_File | None]:
        """The file of a chunk or shard; None if it does not exist and may be absent."""
        name = self._array.metadata.encode_chunk_key(key)
        path = os.path.join(self._folder, name)
        try:
            number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            if self._may_be_absent is not None:
                check_may_be_absent(path, name, self._may_be_absent)
            yield None
            return
        with closing(_File(number, path)) as file:
            yield file

    def _places(self, file: _File) -> np.ndarray:
        """Offset and length of each chunk in the file (row, column, 2)."""
        if not self._array.shards:
            return np.array([[[0, file.size]]], dtype=np.uint64)
        grid = (self._shard[0] // self._chunk[0], self._shard[1] // self._chunk[1], 2)
        length = 8 * math.prod(grid)
        index = file.read(file.size - length - _CRC_BYTES, length + _CRC_BYTES)
        file.check(index)
        return np.frombuffer(bytes(index), dtype="<u8", count=length // 8).reshape(grid)

    def _decode(self, file: _File, offset: int, length: int, buffer: np.ndarray) -> None:
        stored = file.read(offset, length)
        if self._has_crc:
            file.check(stored)
            length -= _CRC_BYTES
        if length < _BLOSC_HEADER:
            raise OSError(f"{file.path}: a chunk is truncated: {length} bytes")
        n_bytes, _, n_stored = struct.unpack("<III", stored[4:_BLOSC_HEADER])
        if (n_bytes, n_stored) != (buffer.nbytes, length):
            raise OSError(
                f"{file.path}: a chunk is truncated or damaged: its header says {n_stored} "
                f"bytes for {n_bytes}, and has {length} for {buffer.nbytes}"
            )
        blosc.decompress(stored[:length], buffer)


class _File:
    """An open file of chunks; every read is whole or an error."""

    def __init__(self, number: int, path: str) -> None:
        self._number, self.path = number, path
        status = os.fstat(number)
        if not stat.S_ISREG(status.st_mode):
            os.close(number)
            raise OSError(f"{path} is no file")
        self.size = status.st_size
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
    """A reader of this array; None if its layout is not known here."""
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
    return ChunkReader(array, folder, "Crc32cCodec" in codecs)


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


# Checked reading through zarr.
#
# With zarr 3.1.6 and numcodecs 0.16, an empty shard, or an inner chunk beyond the end of its
# shard, reads as the fill value, and a truncated Blosc chunk is decoded from the memory after
# it: all three would pass as data. Not detected here: damage that keeps the length, in chunks
# without a checksum (hence crc32c in the stores written here), and a shard with its index
# first, truncated within its last chunk and read whole.


class CheckedStore(GuardedStore):
    """Local store of one array, read-only, that raises OSError for damage.

    That is a chunk that is shorter than it should be, one that is lost, and any file read whole
    that differs from the checksum that the store has of it.

    ``may_be_absent``: The chunk files that may be absent, relative to the array; None if all may.
    """

    def __init__(self, root: str) -> None:
        super().__init__(root, read_only=True)
        self.is_blosc = False
        self.codec, self.chunk_bytes, self.file_bytes = "", 0, 0
        self.may_be_absent: frozenset[str] | None = None
        self._sums = find_store_sums(root)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file or a range of it; None if there is no such file.

        Raises OSError: it is lost or has changed; it is empty, or ends within the range or within
        its Blosc block.
        """
        buffer = await super().get(key, prototype, byte_range)
        path = os.path.join(self.root, key)
        if buffer is None or byte_range is None:
            data = None if buffer is None else buffer.to_bytes()
            if what := self._sums.describe(path, data):
                raise OSError(f"{path} {what}")
        is_metadata = key.rpartition("/")[2] in METADATA
        if buffer is None and not is_metadata and self.may_be_absent is not None:
            check_may_be_absent(path, key, self.may_be_absent)
        if buffer is None or is_metadata:
            return buffer
        size = len(buffer)
        if size == 0:
            raise OSError(f"chunk {key} is truncated: no bytes where data should be")
        if self.codec:
            try:
                n_bytes = self.chunk_bytes if byte_range else self.file_bytes
                check_size(self.codec, buffer.to_bytes(), n_bytes)
            except OSError as error:
                raise OSError(f"{path}: {error}") from None
        if isinstance(byte_range, RangeByteRequest):
            wanted = byte_range.end - byte_range.start
        elif byte_range is None and self.is_blosc:
            wanted = _BLOSC_HEADER
            if size >= _BLOSC_HEADER:
                (wanted,) = struct.unpack("<I", buffer[12:_BLOSC_HEADER].to_bytes())
        else:
            return buffer
        if size < wanted:
            raise OSError(f"chunk {key} is truncated: {size} of {wanted} bytes")
        return buffer


def open_checked(folder: str, zarr_format: Any, absent_value: float | None = None) -> Array:
    """Open the array in ``folder``; what zarr raises is passed on.

    ``absent_value``: Replaces the fill value, for reading only.
    """
    store = CheckedStore(folder)
    with warnings.catch_warnings():
        # codecs beyond the v3 specification are warned about, each time; they decode
        warnings.simplefilter("ignore")
        array = zarr.open_array(store, mode="r", zarr_format=zarr_format)
    if absent_value is not None:
        object.__setattr__(array.metadata, "fill_value", array.dtype.type(absent_value))
    check_counts(array)
    # Bytes pass the codecs in order, so the last one is what the file holds. A shard is
    # no Blosc block itself; its inner chunks are read by range.
    last = array.compressors[-1] if array.compressors else None
    name = type(last).__name__
    store.is_blosc = array.shards is None and name in ("Blosc", "BloscCodec")
    if last is not None and array.dtype.kind != "O":
        store.codec = codec_name(last)
        store.chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
        store.file_bytes = math.prod(array.shards or array.chunks) * array.dtype.itemsize
    store.may_be_absent = known_empty(array)
    return array
