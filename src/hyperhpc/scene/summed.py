"""A read-only Zarr store that compares each file with its checksum as it is read.

The checksums of a run's results lie beside them (docs/decisions/0008). Without a look at
them most flipped bits decode to other numbers, and a chunk that is not there reads as
missing values, or as cluster 0. Computing them takes less time than reading.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import google_crc32c
from zarr.storage import LocalStore

from hyperhpc.errors import IncompleteRunError

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

#: Beside the stores: of each of their files its length and its CRC-32C.
CHECKSUMS = "checksums.json"


class SummedStore(LocalStore):
    """Local store, read-only, that raises IncompleteRunError for a file that has changed.

    Parameters
    ----------
    root
        The store.
    sums
        [bytes, CRC-32C in hexadecimal] by the name of the file in the store; None for one
        that must not be there. Files that are not named are read as they are.
    """

    def __init__(
        self, root: Path, sums: Mapping[str, list[Any] | None], *, read_only: bool = True
    ) -> None:
        super().__init__(root, read_only=read_only)
        self.sums = sums

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file; None if there is no such file, and there was none.

        Raises
        ------
        IncompleteRunError
            The file is not as it was written.
        """
        buffer = await super().get(key, prototype, byte_range)
        if key in self.sums and byte_range is None:
            found = None
            if buffer is not None:
                data = buffer.to_bytes()
                found = [len(data), f"{google_crc32c.value(data):08x}"]
            if found != self.sums[key]:
                raise _changed(Path(self.root), key, found, self.sums[key])
        return buffer


def open_summed(path: Path) -> LocalStore:
    """The store at ``path``; its files are compared if their checksums lie beside it.

    Raises
    ------
    IncompleteRunError
        The file of the checksums is damaged itself.
    """
    beside = path.parent / CHECKSUMS
    try:
        files = json.loads(beside.read_text("utf-8"))["files"]
        start = f"{path.name}/"
        sums = {name[len(start) :]: files[name] for name in files if name.startswith(start)}
    except FileNotFoundError:  # a run that has not come to its end
        return LocalStore(path, read_only=True)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        raise IncompleteRunError(
            f"{beside} is damaged", "copy the folder of the run again, or begin it anew"
        ) from None
    return SummedStore(path, sums)


def _changed(root: Path, key: str, found: Any, wanted: Any) -> IncompleteRunError:
    if not found:
        what = "is missing"
    elif not wanted:
        what = "was not written by this run"
    elif found[0] != wanted[0]:
        what = f"has {found[0]} bytes instead of {wanted[0]}"
    else:
        what = "holds other bytes than were written"
    return IncompleteRunError(
        f"{root.name}/{key} of {root.parent} {what}, so it cannot be read",
        f"see all that is damaged: hyperhpc verify {shlex.quote(str(root.parent))}",
    )
