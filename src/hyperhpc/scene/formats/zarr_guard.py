"""Which codecs and data types of a Zarr store are read, and the settings of zarr itself.

The metadata of a store choose what decodes its chunks, by a name. zarr and numcodecs look the
name up among all that is installed, which includes ``pickle``, whose data are a program, and
codecs of other packages. :class:`GuardedStore` refuses other names before zarr sees them.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import zarr
from zarr.storage import LocalStore

from hyperhpc.errors import SceneError
from hyperhpc.reading import check_regular

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

#: Names of metadata files.
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")

_COMPRESSORS = frozenset({"blosc", "bz2", "gzip", "lz4", "lzma", "zlib", "zstd"})
_CHECKSUMS = frozenset({"adler32", "crc32", "crc32c", "fletcher32", "jenkins_lookup3"})
_NUMBERS = frozenset({
    "astype", "bitround", "delta", "fixedscaleoffset", "packbits", "pcodec", "quantize", "shuffle",
    "zfpy",
})  # fmt: skip
_TEXTS = frozenset({"vlen-utf8", "vlen-bytes"})
#: All that change numbers or texts into bytes and back, and nothing else.
CODECS = _COMPRESSORS | _CHECKSUMS | _NUMBERS | _TEXTS
#: Codecs that only version 3 has; it knows others of the list as ``numcodecs.NAME`` too.
_CODECS_OF_3 = frozenset({"bytes", "sharding_indexed", "transpose"})
_PREFIX = "numcodecs."

_NUMBER_TYPE = r"[<>=|]?[biufc]\d{1,2}"
_TYPE_OF_2 = re.compile(rf"{_NUMBER_TYPE}|[<>=|]?[SU]\d{{1,4}}|[<>=]?[mM]8(\[\w{{1,8}}\])?")
_TYPE_OF_3 = re.compile(
    r"bool|u?int(8|16|32|64)|(b?float|complex)\d{1,3}|string|variable_length_(bytes|utf8)|"
    r"fixed_length_utf32|null_terminated_bytes|bytes|numpy\.(datetime64|timedelta64)"
)
#: Parameters of codecs that are data types.
_TYPE_PARAMETERS = ("dtype", "astype", "encode_dtype", "decode_dtype")
#: Bytes of a text of fixed length: each value takes as many.
_MAX_TEXT_BYTES = 40_000


def find_foreign(name: str, content: bytes) -> str | None:
    """What a metadata file names that is not read, in words; None if there is nothing.

    ``name``: Of the file, without folders. What is no JSON is left to zarr, which refuses it.
    """
    try:
        document = json.loads(content)
    except RecursionError:
        return "a value that is nested too deep"
    except ValueError:
        return None
    try:
        return next((found for array in _arrays(name, document) if (found := _check(array))), None)
    except (AttributeError, KeyError, TypeError):
        return "a list, a number or a text where another kind of value belongs"


def _arrays(name: str, document: Any) -> Iterator[dict[str, Any]]:
    """The descriptions of arrays in a metadata file, also those of consolidated metadata."""
    if name == ".zarray" or document.get("node_type") == "array":
        yield document
    inner = document if name == ".zmetadata" else document.get("consolidated_metadata") or {}
    for path, node in (inner.get("metadata") or {}).items():
        if path.rpartition("/")[2] == ".zarray" or node.get("node_type") == "array":
            yield node


def _check(array: dict[str, Any]) -> str | None:
    return _check_3(array) if array.get("zarr_format") == 3 else _check_2(array)


def _check_2(array: dict[str, Any]) -> str | None:
    filters = array.get("filters") or []
    steps = [*filters, *([array["compressor"]] if array.get("compressor") else [])]
    for step in steps:
        if found := _check_codec(step.get("id"), step):
            return found
    stored = array.get("dtype")
    is_texts = stored == "|O" and bool(filters) and filters[0]["id"] in _TEXTS
    return None if is_texts or _is_type(stored, _TYPE_OF_2) else f"the data type {stored!r}"


def _check_3(array: dict[str, Any]) -> str | None:
    if found := _check_chain(array.get("codecs") or []):
        return found
    stored = array.get("data_type")
    name: Any = stored
    settings: dict[str, Any] = {}
    if isinstance(stored, dict):
        name, settings = stored.get("name"), stored.get("configuration") or {}
    is_short = settings.get("length_bytes", 0) <= _MAX_TEXT_BYTES
    return None if is_short and _is_type(name, _TYPE_OF_3) else f"the data type {stored!r}"


def _check_chain(codecs: list[Any]) -> str | None:
    """Check codecs of version 3, also those inside shards."""
    for codec in codecs:
        name: Any = codec
        settings: dict[str, Any] = {}
        if isinstance(codec, dict):
            name, settings = codec.get("name"), codec.get("configuration") or {}
        found = _check_codec(name, settings, _CODECS_OF_3)
        for inner in ("codecs", "index_codecs"):
            found = found or _check_chain(settings.get(inner) or [])
        if found:
            return found
    return None


def _check_codec(
    name: Any, settings: dict[str, Any], more: frozenset[str] = frozenset()
) -> str | None:
    bare = name.removeprefix(_PREFIX) if more and isinstance(name, str) else name
    if not isinstance(name, str) or (bare not in CODECS and name not in more):
        return f"the codec {name!r}"
    for key in _TYPE_PARAMETERS:
        if key in settings and not _is_type(settings[key], re.compile(_NUMBER_TYPE)):
            return f"the data type {settings[key]!r} of the codec {name!r}"
    return None


def _is_type(name: Any, known: re.Pattern[str]) -> bool:
    return isinstance(name, str) and known.fullmatch(name) is not None


@contextmanager
def own_settings() -> Iterator[None]:
    """Zarr's own settings, whatever a program or a notebook has set: they change stored bytes."""
    settings: dict[str, Any] = {}
    for defaults in zarr.config.defaults:
        settings |= defaults
    with zarr.config.set(settings):
        yield


class GuardedStore(LocalStore):
    """A local store whose arrays use only codecs and data types that are read."""

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read a file or a range of it; None if there is no such file.

        Raises OSError: it is a FIFO, a socket or a device; SceneError: metadata that name
        another codec or data type.
        """
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            check_regular(self.root / key)
        buffer = await super().get(key, prototype, byte_range)
        name = key.rpartition("/")[2]
        is_metadata = name in METADATA
        if buffer is not None and is_metadata and (found := find_foreign(name, buffer.to_bytes())):
            raise SceneError(
                f"{self.root}/{key} names {found}, which is not read: only known codecs and data "
                "types are, as others could run code",
                "Write the store again with numbers, and with one of the codecs "
                f"{', '.join(sorted(_COMPRESSORS))}",
            )
        return buffer
