"""What HDF5 itself does not check in a damaged file: found with version 2.0.

It goes through the heap of texts from one object to the next by their lengths. Where zeros
were written over them, as in a file of which a block was lost, it never ends, and nothing
but SIGKILL ends it. A chunk that is stored as it is and shorter than it should be, since
its filters were forgotten, is made whole with what lies in memory.
"""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py

#: Length, address of the heap, number in the heap: what a dataset holds of a text.
_REFERENCE = struct.Struct("<IQI")
#: Signature, version and size of a heap; number, count and length of an object.
_HEAP, _OBJECT = struct.Struct("<4sB3xQ"), struct.Struct("<HH4xQ")
#: No heap of texts is larger.
_MAX_BYTES = 1 << 24


def check_chunks(data: h5py.Dataset) -> None:
    """Refuse chunks that would be read with more than they hold. Reads their index, once.

    Raises
    ------
    OSError
        A chunk without filters that is shorter than a chunk.
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
    """Refuse a dataset of one text whose heap would not end; any other passes.

    Raises
    ------
    OSError
        An object without a length.
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
    """The objects of the heap a text lies in; nothing where HDF5 says what is wrong."""
    with open(path, "rb") as file:
        file.seek(place)
        _, address, _ = _REFERENCE.unpack(file.read(_REFERENCE.size).ljust(_REFERENCE.size))
        file.seek(min(address, 2**62))
        signature, _, size = _HEAP.unpack(file.read(_HEAP.size).ljust(_HEAP.size))
        is_heap = signature == b"GCOL" and _HEAP.size < size <= _MAX_BYTES
        return file.read(size - _HEAP.size) if is_heap else b""


def _place(data: h5py.Dataset) -> int | None:
    """Where in the file the reference to the text lies, if that can be said."""
    import h5py

    text = h5py.check_string_dtype(data.dtype)
    if text is None or text.length is not None or data.size != 1 or data.file.userblock_size:
        return None
    if data.chunks is None:
        return data.id.get_offset()
    if data.id.get_create_plist().get_nfilters() or data.id.get_num_chunks() != 1:
        return None
    return data.id.get_chunk_info(0).byte_offset
