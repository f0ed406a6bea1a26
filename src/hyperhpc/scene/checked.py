"""A read-only Zarr store that notices truncated chunks where zarr does not.

Seen with zarr 3.1.6 and numcodecs 0.16: an empty shard, or an inner chunk beyond the end
of its shard, reads as the fill value; a Blosc chunk cut short is decoded from whatever
lies behind it in memory. All three would pass as data. Not noticed: damage that keeps the
length, in chunks without a checksum (hence crc32c in the stores written here), and a shard
with its index first, cut within its last chunk and read whole.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from zarr.abc.store import RangeByteRequest
from zarr.storage import LocalStore

if TYPE_CHECKING:
    from zarr import Array
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_BLOSC_HEADER = 16


class CheckedStore(LocalStore):
    """Local store, read-only, that raises OSError for a chunk shorter than it should be."""

    def __init__(self, root: str) -> None:
        super().__init__(root, read_only=True)
        self.is_blosc = False

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file or a range of it; None if there is no such file.

        Raises
        ------
        OSError
            The file is empty, ends within the range, or within its Blosc block.
        """
        buffer = await super().get(key, prototype, byte_range)
        if buffer is None or key.rpartition("/")[2] in _METADATA:
            return buffer
        size = len(buffer)
        if size == 0:
            raise OSError(f"chunk {key} is truncated: no bytes where data should be")
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


def open_checked(folder: str, zarr_format: Any) -> Array:
    """Open the array in ``folder``; what zarr raises is passed on."""
    import zarr

    store = CheckedStore(folder)
    array = zarr.open_array(store, mode="r", zarr_format=zarr_format)
    # Bytes pass the codecs in order, so the last one is what the file holds. A shard is
    # no Blosc block itself; its inner chunks are read by range.
    last = array.compressors[-1] if array.compressors else None
    name = type(last).__name__
    store.is_blosc = array.shards is None and name in ("Blosc", "BloscCodec")
    return array
