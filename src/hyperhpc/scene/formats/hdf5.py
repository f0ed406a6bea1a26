"""Chunks of HDF5 decoded in place, several times as fast as by HDF5 itself.

HDF5 unpacks with zlib and then moves a few bytes at a time from each chunk to where they are
wanted. Here ISA-L unpacks, and numpy moves (docs/decisions/0013). Only what NEON's files use is
understood; everything else is left to HDF5.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import struct
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene.files import stamp
from hyperhpc.scene.window import intersect, length

if TYPE_CHECKING:
    import h5py

# Checks of damaged files that HDF5 2.0 itself does not make (docs/decisions/0024).
#
# HDF5 goes through the heap of texts from one object to the next by their lengths. Zeros in
# their place, as after a lost block of the file, make an endless loop that only SIGKILL ends.
# An uncompressed chunk that is too short is filled up with bytes from memory.

#: What a dataset holds of a text: length, address of the heap, number in the heap.
_REFERENCE = struct.Struct("<IQI")
#: Signature, version and size of a heap; number, count and length of an object.
_HEAP, _OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HH4xQ")
#: No heap of texts is larger.
_MAX_BYTES = 1 << 24


def check_chunks(data: h5py.Dataset) -> None:
    """Refuse uncompressed chunks that are too short. Reads the index of chunks once.

    Raises OSError: a chunk without filters that is shorter than a chunk.
    """
    if data.chunks is None:
        return
    whole = math.prod(data.chunks) * data.dtype.itemsize
    n_filters = data.id.get_create_plist().get_nfilters()

    def find_short(chunk: Any) -> Any:
        is_plain = n_filters == 0 or chunk.filter_mask % 2**n_filters
        return chunk if is_plain and chunk.size < whole else None

    if found := data.id.chunk_iter(find_short):
        raise OSError(
            f"the chunk of {data.name} at {found.chunk_offset} is not compressed, and has "
            f"{found.size} of {whole} bytes"
        )


def check_text(data: h5py.Dataset) -> None:
    """Refuse a dataset of one text whose heap would be read endlessly.

    Raises OSError: an object without a length.
    """
    place = _place(data)
    heap = b"" if place is None else _read_heap(data.file.filename, place)
    at = 0
    while at + _OBJECT.size <= len(heap):
        number, _, length = _OBJECT.unpack_from(heap, at)
        if number == length == 0:
            raise OSError(f"the heap of {data.name} is damaged: it holds zeros at {at}")
        at += length if number == 0 else _OBJECT.size + -(-length // 8) * 8


def _read_heap(path: str, place: int) -> bytes:
    """The objects of the heap that holds a text; empty if HDF5 itself finds the damage."""
    with open(path, "rb") as file:
        file.seek(place)
        _, address, _ = _REFERENCE.unpack(file.read(_REFERENCE.size).ljust(_REFERENCE.size))
        file.seek(min(address, 2**62))
        signature, _, size = _HEAP.unpack(file.read(_HEAP.size).ljust(_HEAP.size))
        is_heap = signature == b"GCOL" and _HEAP.size < size <= _MAX_BYTES
        return file.read(size - _HEAP.size) if is_heap else b""


def _place(data: h5py.Dataset) -> int | None:
    """Offset in the file of the reference to the text; None if unknown."""
    import h5py

    text = h5py.check_string_dtype(data.dtype)
    if text is None or text.length is not None or data.size != 1 or data.file.userblock_size:
        return None
    if data.chunks is None:
        return data.id.get_offset()
    if data.id.get_create_plist().get_nfilters() or data.id.get_num_chunks() != 1:
        return None
    return data.id.get_chunk_info(0).byte_offset


# Opening.

#: First bytes of an HDF5 file; with a user block they come at 512, 1024, 2048, ...
SIGNATURE = b"\x89HDF\r\n\x1a\n"
#: What h5py raises for a damaged file.
READ_ERRORS: tuple[type[Exception], ...] = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError
)  # fmt: skip


def is_hdf5(path: str) -> bool:
    """True for an HDF5 file, by its signature."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        for offset in (0, *(512 << n for n in range(13))):
            file.seek(offset)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
    return False


def open_file(path: str) -> h5py.File:
    """Open a file read-only. The caller closes it.

    Files are opened for each read, which takes a millisecond: an open handle would hold a lock
    against programs that replace or change the file.

    Raises SceneError: a missing, truncated or damaged file, or one with links to other files.
    """
    try:
        file = _open_unlocked(path)
        try:
            _check_links(path, file)
        except BaseException:
            file.close()
            raise
        return file
    except READ_ERRORS as error:
        size = os.path.getsize(path) if os.path.exists(path) else 0
        raise SceneError(
            f"HDF5 file {path} ({size} bytes) cannot be opened: {cause(error)}",
            "It is truncated, damaged, or being written; download it again",
        ) from error


def _open_unlocked(path: str) -> h5py.File:
    import h5py

    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "lock" not in str(error) or f"errno = {errno.EAGAIN}" in str(error):
            raise  # not about locks, or a program is writing the file
        # Parallel file systems may refuse locks; reading needs none
        return h5py.File(path, "r", locking=False)


# What lies in other files.
#
# HDF5 follows links and lists of raw bytes to any file that the user may read, whatever it
# holds. Virtual datasets, which are made of datasets of other HDF5 files, are common: the
# reflectance may be one, and the scene says so.

#: Most files that a virtual dataset is made of.
_MAX_SOURCES = 1000
_NOT_FOLLOWED = "Use a file that holds the data itself, such as the one its provider offers"
#: Files whose links are known to stay in the file, with size and time of change.
_checked: dict[str, tuple[int, int]] = {}


def _check_links(path: str, file: h5py.File) -> None:
    """Refuse links to other files; once for each file and process, as it takes milliseconds."""
    from h5py import h5l

    found = stamp(path)
    if _checked.get(path) == found:
        return

    def find_foreign(name: bytes, link: Any) -> bytes | None:
        return None if link.type in (h5l.TYPE_HARD, h5l.TYPE_SOFT) else name

    if name := file.id.links.visit(find_foreign, info=True):
        raise SceneError(
            f"{name.decode('utf-8', 'replace')} of {path} is a link to another file, which is "
            "not followed",
            _NOT_FOLLOWED,
        )
    _checked[path] = found


def check_own(data: h5py.Dataset, *, may_be_virtual: bool = False) -> None:
    """Refuse a dataset whose values lie in other files.

    ``may_be_virtual``: Allow a virtual dataset; see :func:`virtual_sources`.

    Raises SceneError: its bytes are in external files, or it is virtual.
    """
    what = None
    if data.id.get_create_plist().get_external_count():
        what = "lies in other files (external storage)"
    elif data.is_virtual and not may_be_virtual:
        what = "is made of other datasets (virtual)"
    if what:
        raise SceneError(
            f"{data.name} of {data.file.filename} {what}, which is not read", _NOT_FOLLOWED
        )


def virtual_sources(data: h5py.Dataset) -> tuple[str, ...]:
    """Paths of the other files that a virtual dataset is made of; empty for any other dataset.

    HDF5 reads a source that is missing as the fill value.

    Raises SceneError: one is missing, is not HDF5, or lies itself in other files.
    """
    if not data.is_virtual:
        return ()
    what, folder = f"{data.name} of {data.file.filename}", os.path.dirname(data.file.filename)
    sources = sorted({(source.file_name, source.dset_name) for source in data.virtual_sources()})
    if len(sources) > _MAX_SOURCES:
        raise SceneError(
            f"{what} is made of {len(sources)} datasets; {_MAX_SOURCES} are read", _NOT_FOLLOWED
        )
    paths = [os.path.join(folder, name) if name != "." else "" for name, _ in sources]
    for path, (_, name) in zip(paths, sources, strict=True):
        if not path:
            check_own(data.file[name])
            continue
        if not is_hdf5(path):
            raise SceneError(
                f"{what} is made of other files, and {path} is no HDF5 file that can be read",
                "Copy all its files together",
            )
        with open_file(path) as file:
            check_own(file[name])
    return tuple(sorted({path for path in paths if path}))


# Reading chunks.

#: HDF5's numbers of the two filters.
_DEFLATE, _SHUFFLE = 1, 2
_BANDS_AT_ONCE = 16


class ChunkReader:
    """Reads windows of one dataset; made by :func:`chunk_reader`."""

    def __init__(
        self, data: h5py.Dataset, filters: tuple[int, ...], absent_value: float | None
    ) -> None:
        self._data, self._filters, self._dtype = data, filters, data.dtype
        self._chunk: tuple[int, int, int] = data.chunks
        self._n_bytes = math.prod(self._chunk) * data.dtype.itemsize
        self._fill = data.fillvalue if absent_value is None else absent_value
        self._file: int = data.file.id.get_vfd_handle()
        self._places: dict[tuple[int, ...], h5py.h5d.StoreInfo] | None = None

    def read(self, rows: slice, cols: slice, bands: slice) -> np.ndarray:
        """One window (y, x, band) of normalised slices, in the machine's byte order.

        Raises OSError: a chunk is damaged.
        """
        native = self._dtype.newbyteorder("=")
        out = np.empty((length(rows), length(cols), length(bands)), native)
        spans = list(map(_touched, (rows, cols, bands), self._chunk, self._data.shape))
        if self._chunk[2] > 1 or self._data.shape[2] == 1:
            for touched in itertools.product(*spans):
                start, there, here = zip(*touched, strict=True)
                out[here] = self._decode(start)[there]
            return out
        for down, across in itertools.product(*spans[:2]):
            part = out[down[2], across[2]]
            for first in range(0, len(spans[2]), _BANDS_AT_ONCE):
                some = spans[2][first : first + _BANDS_AT_ONCE]
                planes = [
                    self._decode((down[0], across[0], deep[0]))[down[1], across[1], 0]
                    for deep in some
                ]
                # Row by row, so that what is turned stays in the cache
                for y in range(part.shape[0]):
                    turned = np.array([plane[y] for plane in planes]).T
                    part[y, :, first : first + len(some)] = turned
        return out

    def _decode(self, start: tuple[int, int, int]) -> np.ndarray:
        """A whole chunk, (y, x, band), as it is stored."""
        found = self._place(start)
        if found is None or found.byte_offset is None:
            return np.full(self._chunk, self._fill, self._dtype)  # never written
        raw: Any = os.pread(self._file, found.size, found.byte_offset)
        for number, kind in reversed(list(enumerate(self._filters))):
            if found.filter_mask >> number & 1:
                continue
            raw = self._inflate(raw) if kind == _DEFLATE else _gather(raw, self._dtype)
        if len(raw) != self._n_bytes:
            raise OSError(f"the chunk at {start} has {len(raw)} bytes, not {self._n_bytes}")
        return np.frombuffer(raw, self._dtype).reshape(self._chunk)

    def _place(self, start: tuple[int, int, int]) -> h5py.h5d.StoreInfo | None:
        """Place of a chunk in the file; None if it was never written."""
        if self._places is None:
            places: dict[tuple[int, ...], h5py.h5d.StoreInfo] = {}
            # All at once: HDF5 takes as long to look up one as to unpack it
            try:
                self._data.id.chunk_iter(lambda info: places.update({info.chunk_offset: info}))
            except READ_ERRORS:  # a damaged list: single chunks may still be found
                return self._data.id.get_chunk_info_by_coord(start)
            self._places = places
        return self._places.get(start)

    def _inflate(self, raw: bytes) -> bytes:
        from isal import igzip_lib, isal_zlib

        decoder = isal_zlib.decompressobj()
        try:
            found = decoder.decompress(raw, self._n_bytes + 1)  # and no more than that
        except igzip_lib.IsalError as error:  # type: ignore[misc] # its stub has no base
            raise OSError(f"a chunk cannot be unpacked: {error}") from None
        if not decoder.eof:
            raise OSError("a chunk cannot be unpacked: it is truncated or too long")
        return found


def count_absent(data: h5py.Dataset) -> int:
    """How many chunks were never written, of a dataset that says nothing of what they hold.

    HDF5 would read them as zeros. 0 if there is a fill value, or a damaged list of chunks.
    """
    if data.chunks is None or data.fillvalue:
        return 0
    n_chunks = math.prod(
        -(-size // side) for size, side in zip(data.shape, data.chunks, strict=True)
    )
    try:
        return max(0, n_chunks - int(data.id.get_num_chunks()))
    except READ_ERRORS:
        return 0


def fill_absent(
    data: h5py.Dataset, out: np.ndarray, window: tuple[slice, slice, slice], value: float
) -> None:
    """Put a value where a window of a dataset, read by HDF5, touches chunks never written."""
    written: set[tuple[int, ...]] = set()
    data.id.chunk_iter(lambda info: written.add(info.chunk_offset))
    for touched in itertools.product(*map(_touched, window, data.chunks, data.shape)):
        start, _, here = zip(*touched, strict=True)
        if start not in written:
            out[here] = value


def chunk_reader(data: h5py.Dataset, absent_value: float | None = None) -> ChunkReader | None:
    """A reader of a cube, or None where HDF5 itself has to read it.

    ``absent_value``: What chunks that were never written hold, instead of the fill value.
    """
    if data.chunks is None or data.ndim != 3 or data.dtype.kind not in "iuf":
        return None
    if data.file.driver != "sec2" or data.file.userblock_size:
        return None  # offsets of chunks are not those in the file
    creation = data.id.get_create_plist()
    filters = tuple(creation.get_filter(k)[0] for k in range(creation.get_nfilters()))
    if not set(filters) <= {_DEFLATE, _SHUFFLE} or len(set(filters)) < len(filters):
        return None
    return ChunkReader(data, filters, absent_value)


def _touched(window: slice, side: int, size: int) -> list[tuple[int, slice, slice]]:
    """Start of each chunk that a window falls on, what of it, and where that goes."""
    starts = range(window.start // side * side, window.stop, side)
    parts = ((start, intersect(window, start, min(side, size - start))) for start in starts)
    return [(start, *part) for start, part in parts if part]


def _gather(raw: bytes, dtype: np.dtype) -> memoryview | bytes:
    """Undo HDF5's shuffle: the first bytes of all numbers, then the second ones."""
    planes = np.frombuffer(raw, np.uint8).reshape(dtype.itemsize, -1)
    if dtype.itemsize != 2 or sys.byteorder == "big":
        return planes.T.tobytes()
    low, high = planes if dtype.isnative else planes[::-1]
    # Shifting is twenty times as fast as moving bytes
    numbers = high.astype(np.uint16)
    numbers <<= 8
    numbers |= low
    return (numbers if dtype.isnative else numbers.byteswap()).data.cast("B")
