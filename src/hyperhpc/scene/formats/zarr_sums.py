"""Checksums that ``ingest`` has written into a store: what is read of it is compared with them.

Chunks in shards hold a checksum each. Metadata and coordinates are files of few bytes, compared
whole; and a file that is in the list and not on the disk is lost, not empty.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hyperhpc.errors import IncompleteRunError, SceneError
from hyperhpc.files import SUMS_NAME
from hyperhpc.sealed import Sums, describe_change, measure_bytes, read_sums

#: What marks the folder of a group or an array.
MARKERS = ("zarr.json", ".zarray", ".zgroup")
DAMAGED_STORE = f"Copy the store again; if you changed it yourself, remove its {SUMS_NAME}"


@dataclass(frozen=True)
class StoreSums:
    """The checksums of a store.

    ``root``: Folder of the store. ``sums``: By name, relative to it; empty if it has none.
    """

    root: str
    sums: Sums

    def describe(self, path: str, data: bytes | None) -> str | None:
        """What is wrong with a file; None if nothing is, or if it has no checksum.

        ``data``: All that it holds; None if there is no such file.
        """
        wanted = self.sums.get(os.path.relpath(path, self.root)) if self.sums else None
        if wanted is None:
            return None
        if data is None:
            return "is missing: it held data when the store was written"
        return describe_change(measure_bytes(data), wanted)

    def lost_files(self) -> list[str]:
        """Names of the files that are not there any more; one look for each."""
        return [name for name in self.sums if not os.path.exists(os.path.join(self.root, name))]


def find_store_sums(folder: str) -> StoreSums:
    """The checksums of the store that holds ``folder``, one of its groups or arrays.

    Raises SceneError: the file of checksums is damaged.
    """
    root = os.path.abspath(folder)
    while any(os.path.isfile(os.path.join(root, name)) for name in MARKERS):
        try:
            return StoreSums(root, read_sums(Path(root, SUMS_NAME)))
        except FileNotFoundError:
            root = os.path.dirname(root)
        except IncompleteRunError as error:
            raise SceneError(error.message, "Copy the store again") from None
    return StoreSums(root, {})
