"""The text of ENVI headers: encodings that GDAL does not know, and numbers that it would cut."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path

import numpy as np

from hyperhpc.errors import ConfigError, SceneError, unreadable
from hyperhpc.reading import open_regular, read_file
from hyperhpc.scene import metadata
from hyperhpc.scene.files import decode_text
from hyperhpc.scene.formats.centres import GivenCentres
from hyperhpc.scratch import scratch_folder

_FIELD = re.compile(r"(?m)^[ \t]*([^=;{}\n]+?)[ \t]*=[ \t]*(\{[^}]*\}|[^\n]*)")
_STARTS = (
    b"ENVI",
    codecs.BOM_UTF8 + b"ENVI",
    codecs.BOM_UTF16_LE + "ENVI".encode("utf-16-le"),
    codecs.BOM_UTF16_BE + "ENVI".encode("utf-16-be"),
)
_COMMA = re.compile(r"(?<![\d.])[+-]?\d+,\d+(?![\d.])")
#: Fields of one number each that the meaning of the values depends on.
_NUMBERS = ("data ignore value", "reflectance scale factor")
#: Files that belong to data, after their name.
_SIDECARS = (".aux.xml", ".msk")


def starts_as_header(path: str) -> bool:
    """True for a file whose text begins with ENVI, in any encoding."""
    with open_regular(path) as file:
        return file.read(16).startswith(_STARTS)


def read_header(path: str) -> dict[str, str]:
    """Fields of an ENVI header, by their names as written, in lower case."""
    text = _read_text(path)
    return {name.lower(): value.strip() for name, value in _FIELD.findall(text)}


def _read_text(path: str) -> str:
    try:
        text = decode_text(read_file(path))[0]
    except UnicodeError:
        raise SceneError(f"{path} is not text", "Save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def split_list(text: str) -> list[str]:
    """Parts of ``{a, b}`` or ``{a, b,}``; the last is nothing where the text breaks off."""
    parts = [part.strip() for part in text.strip().lstrip("{").split(",")]
    if len(parts) > 1 and parts[-1] == "}":
        parts[-2:] = [f"{parts[-2]}}}"]
    is_whole = not text.strip().startswith("{") or parts[-1].endswith("}")
    return [*parts[:-1], parts[-1].rstrip("}").strip() if is_whole else ""]


@contextmanager
def as_gdal_reads_it(path: str, header: str) -> Iterator[str]:
    """Path of the data with a header that GDAL can read: in UTF-8, without a mark at its start.

    Where the header is not such a one, that is a link next to a copy of the header.
    """
    with open(header, "rb") as file:
        start = file.read(4)
    if start == b"ENVI":
        yield path
        return
    with scratch_folder(sweeps=False) as folder:  # for each window that is read
        link = os.path.join(folder, os.path.basename(path))
        for ending in ("", *_SIDECARS):
            if os.path.exists(path + ending):
                os.symlink(path + ending, link + ending)
        Path(f"{link}.hdr").write_text(_read_text(header), "utf-8", "backslashreplace")
        yield link


def check_numbers(header: str, n_bands: int, *, needs_centres: bool) -> None:
    """Refuse decimal commas, which GDAL would cut or take for the end of a number.

    ``needs_centres``: False if the wavelengths of the header do not matter.

    Raises SceneError: naming the line and the number.
    """
    fields = read_header(header)
    for name in _NUMBERS:
        if match := _COMMA.fullmatch(fields.get(name, "")):
            raise _decimal_comma(header, name, match[0])
    info = fields.get("map info", "")
    if _has_too_many_numbers(info) and (match := re.search(_COMMA, info)):
        raise _decimal_comma(header, "map info", match[0])
    if needs_centres:
        name = "wavelength" if "wavelength" in fields else "band names"
        text = fields.get(name, "")
        if len(split_list(text)) != n_bands and (found := _find_comma(text, name)):
            raise _decimal_comma(header, name, found)


def _has_too_many_numbers(map_info: str) -> bool:
    """True if more numbers follow the name of the projection than pixel, corner, size and zone."""
    name, *rest = split_list(map_info)
    n_numbers = len(list(takewhile(lambda part: re.fullmatch(r"[-+.\deE]+", part), rest)))
    return ";" in map_info or n_numbers > (7 if name.lower() in ("utm", "arbitrary") else 6)


def _find_comma(text: str, name: str) -> str | None:
    """A number with a decimal comma in a list with another count than that of the bands."""
    if name == "band names":
        found = re.search(r"\d+,\d+(?=\s*([nuµμ]m|nano|micro))", text, re.IGNORECASE)
    else:
        found = None if "." in text else re.search(_COMMA, text)
    return found[0] if found else None


def _decimal_comma(header: str, name: str, number: str) -> SceneError:
    lines = _read_text(header).split("\n")
    line = next(n for n, text in enumerate(lines, 1) if number in text)
    return SceneError(
        f"{header}: line {line} ({name}) holds {number!r:.60}, which has a decimal comma or is two "
        "numbers",
        "Write the numbers with a decimal point",
    )


def read_header_centres(path: Path) -> GivenCentres:
    """Band centres of an ENVI header, as another scene may take them: ``--wavelengths``.

    Raises ConfigError: it cannot be read, or holds no wavelengths.
    """
    where = f"--wavelengths {path}"
    try:
        fields = read_header(str(path))
        units = fields.get("wavelength units")
        if "wavelength" not in fields or (units or "").lower() in ("index", "unknown"):
            raise SceneError(f"{where} is an ENVI header without wavelengths", "Give another file")
        values = split_list(fields["wavelength"])
        n_bands = int(fields.get("bands", len(values)))
        check_numbers(str(path), n_bands, needs_centres=True)
        numbers = np.array([float(value.replace("_", "?")) for value in values])
        centres, _, notes = metadata.resolve_wavelengths(numbers, units, where)
    except OSError as error:
        raise unreadable(where, error) from None
    except ValueError as error:
        raise ConfigError(f"{where} holds a wavelength that is no number: {error}") from None
    except SceneError as error:
        raise ConfigError(error.message, error.hint) from None
    return GivenCentres(centres, notes, where)
