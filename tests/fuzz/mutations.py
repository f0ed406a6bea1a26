"""Ways to damage bytes, JSON and the files of a folder; each says in words what it did."""

from __future__ import annotations

import copy
import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any

#: What programs are seldom ready for, where they expect something else.
ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 255, 2**31, 2**63, 2**64, 10**12, -(10**18), 10**400,
    0.5, -0.0, 1e-300, 1e300, math.inf, -math.inf, math.nan, "", " ", "0", "-1", "NaN",
    "Infinity", "1e400", "AAAAAAAA+H8=", "nm", "um", "y", "x", "wl", "band", "<f4", ">i2",
    "int8", "uint64", "float16", "complex128", "|S8", "EPSG:32613", "EPSG:0", "\ud800",
    "\0\u202e\N{PILE OF POO}", "../..", "%s{0}\n", "x" * 5000, [], [0], [-9999, "a", None], {},
    {"": None}, [[]], [[1445, 1340]], {"name": "blosc"}, {"name": "gzip", "configuration": {}},
)  # fmt: skip
_NUMBERS = (0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_DEPTH = 100_000
#: Kinds of damage; what is there twice is done more often.
_BYTES = ("flip", "flip", "flip", "noise", "zeros", "number", "cut", "extend", "drop")
_VALUES = ("odd", "odd", "odd", "delete", "swap", "wrap", "rename", "nudge", "nudge")
_FILES = ("remove", "swap", "copy", "empty", "folder", "remove node", "copy node")


def damage_bytes(data: bytes, rng: Random) -> tuple[bytes, str]:
    """Damage anywhere, but most often near the beginning, where the metadata lies."""
    out = bytearray(data)
    at = int(len(out) * rng.random() ** rng.choice((1, 2, 8))) if out else 0
    length = min(rng.choice((1, 2, 4, 8, 64, 1024)), len(out) - at)
    kind = rng.choice(_BYTES)
    if kind == "flip":
        for _ in range(rng.choice((1, 1, 1, 2, 8))):
            place = min(at + rng.randrange(16), len(out) - 1)
            if out:
                out[place] ^= 1 << rng.randrange(8)
    elif kind == "noise":
        out[at : at + length] = rng.randbytes(length)
    elif kind == "zeros":
        out[at : at + length] = bytes(length)
    elif kind == "number":
        width = rng.choice((1, 2, 4, 8))
        number = rng.choice(_NUMBERS) % 256**width
        out[at : at + width] = number.to_bytes(width, "little")
    elif kind == "cut":
        del out[at:]
    elif kind == "extend":
        out += rng.randbytes(rng.choice((1, 4, 16, 4096)))
    else:
        del out[at : at + length]
    return bytes(out), f"{kind} at {at} of {len(data)}"


def damage_json(text: str, rng: Random) -> tuple[bytes, str]:
    """Change a value somewhere in a document, or the text of it."""
    if rng.random() < 0.15:
        return _damage_text(text, rng)
    document = json.loads(text)
    what = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        what.append(_damage_value(document, rng))
    return json.dumps(document, ensure_ascii=rng.random() < 0.9).encode(
        "utf-8", errors="surrogatepass"
    ), ", ".join(what)


def _damage_text(text: str, rng: Random) -> tuple[bytes, str]:
    kind = rng.choice(("bytes", "twice", "mark", "deep", "no object"))
    if kind == "bytes":
        return damage_bytes(text.encode(), rng)
    if kind == "twice":  # a key given twice: the first must not count
        key = rng.choice(list(json.loads(text)) or ["shape"])
        text = text.replace("{", "{" + f"{json.dumps(key)}: {json.dumps(rng.choice(ODD))}, ", 1)
        return text.encode(), f"{key} twice"
    if kind == "mark":
        return text.encode("utf-8-sig"), "a byte order mark"
    if kind == "deep":
        key = rng.choice(("attributes", "deep"))
        deep = "[" * _DEPTH + "]" * _DEPTH
        return text.replace("{", '{"' + key + '": ' + deep + ", ", 1).encode(), "deep nesting"
    return json.dumps(rng.choice(ODD)).encode(), "no object"


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key in a document."""
    found: list[tuple[Any, Any]] = []
    if not isinstance(value, dict | list):
        return found
    for key in value if isinstance(value, dict) else range(len(value)):
        found.append((value, key))
        found += _places(value[key])
    return found


def _damage_value(document: Any, rng: Random) -> str:
    places = _places(document)
    if not places:
        return "nothing to change"
    holder, key = rng.choice(places)
    value = holder[key]
    kind = rng.choice(_VALUES)
    if kind == "delete":
        del holder[key]
    elif kind == "swap":
        other, place = rng.choice(places)
        holder[key], other[place] = json.loads(json.dumps([other[place], value]))
    elif kind == "wrap":
        holder[key] = rng.choice(([value], [value, value], {"value": value}, str(value)))
    elif kind == "rename" and isinstance(holder, dict):
        del holder[key]
        holder[rng.choice((key.upper(), key + "\u0301", key[:-1], "shape", "zeros"))] = value
    elif kind == "nudge":
        holder[key] = _nudge(value, rng)
    else:
        holder[key] = copy.deepcopy(rng.choice(ODD))  # the next change must not reach ODD
    return f"{kind} {str(key)[:30]!r}"


def _nudge(value: Any, rng: Random) -> Any:
    """Something near."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        return rng.choice((value + 1, value - 1, -value, value * 2, value * 1000, value // 2))
    if isinstance(value, str):
        return rng.choice((value[:-1], value + value, value.upper(), value[::-1]))
    if isinstance(value, list):
        return rng.choice((value[:-1], value + value, value[::-1], [*value, 1]))
    return {**value, "": value}


def damage_files(folder: Path, files: list[Path], rng: Random) -> str:
    """Remove, swap, copy or replace whole files, or a whole node, of a folder."""
    one, other = rng.choice(files), rng.choice(files)
    kind = rng.choice(_FILES)
    if kind == "remove":
        one.unlink()
    elif kind == "swap":
        first, second = one.read_bytes(), other.read_bytes()
        one.write_bytes(second)
        other.write_bytes(first)
    elif kind == "copy":
        one.write_bytes(other.read_bytes())
    elif kind == "empty":
        one.write_bytes(b"")
    elif kind == "folder":
        one.unlink()
        one.mkdir()
    elif kind == "remove node":
        shutil.rmtree(one.parent)
    else:
        name = rng.choice(("copy", "wavelength", "crs", "easting"))
        copied = folder.with_name(
            "copied"
        )  # first to another name: a folder cannot be moved into itself
        shutil.copytree(one.parent, copied)
        copied.rename(folder / "reflectance" / name)
    return f"{kind} {one.relative_to(folder)} ({other.relative_to(folder)})"
