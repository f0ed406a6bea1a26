"""Band centres from a text file of their own, for scenes without them: ``--wavelengths``."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hyperhpc.errors import ConfigError, SceneError, unreadable
from hyperhpc.reading import open_regular
from hyperhpc.scene.files import decode_text
from hyperhpc.scene.metadata import WAVELENGTH_RANGE_NM, resolve_wavelengths

#: At most so many bytes of a list of centres are read.
_MAX_BYTES = 10_000_000
_MICROMETRE_HEADING = re.compile(r"(^|[^a-z])(um|µm|μm|micro)", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_UNITS = {"nm", "um", "µm", "μm", "nanometers", "nanometres", "micrometers", "micrometres"}
_CENTRE_WORDS = {"centre", "center", "centres", "centers", "cwl"}
_WAVELENGTH_WORDS = {"wl", "wvl", "wave", "waves", "lambda", *_UNITS, *_CENTRE_WORDS}
#: A column with one of these in its name holds something else.
_OTHER_WORDS = {"fwhm", "width", "bandwidth", "min", "max", "start", "end", "lower", "upper"}
_POINT = "Write the numbers with a decimal point: a comma may mean two things"


class GivenCentres(NamedTuple):
    """Band centres (band,), float64, nm, that a file of their own gives: ``--wavelengths``."""

    wavelength_nm: np.ndarray
    notes: tuple[str, ...]
    where: str


@dataclass(frozen=True)
class _Table:
    """Fields of the lines with data: their numbers in the file, and the names of the columns."""

    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    where: str

    @property
    def width(self) -> int:
        return min(map(len, self.rows))

    def column(self, index: int) -> list[float | None]:
        """Numbers of a column; None where it holds none."""
        return [_number(row[index]) for row in self.rows]


def read_wavelengths(path: Path) -> GivenCentres:
    """Read band centres from a text file: one per line, nm or micrometres, or a column of a table.

    A column is taken by its name in a first line, else the first one that does not merely count.
    Empty lines and those with ``#`` are skipped.

    Raises ConfigError: the file cannot be read, several columns may be meant, or a line holds
    no number, a decimal comma or no wavelength.
    """
    where = f"--wavelengths {path}"
    try:
        with open_regular(path) as file:
            text = decode_text(file.read(_MAX_BYTES))[0]
        table = _parse(text, where)
        index, notes = _choose_column(table)
        values = np.array(_numbers_of(table, index))
        is_micrometre = _MICROMETRE_HEADING.search(table.names[index] if table.names else "")
        unit = "um" if is_micrometre else None
        centres, _, more = resolve_wavelengths(values, unit, where)
    except OSError as error:
        raise unreadable(where, error) from None
    except UnicodeError:
        raise ConfigError(f"{where} is not text", "Save it as UTF-8") from None
    except SceneError as error:
        raise ConfigError(error.message, error.hint) from None
    return GivenCentres(centres, (*notes, *more), where)


def _parse(text: str, where: str) -> _Table:
    """Split a text into its fields."""
    if "\0" in text:
        raise ConfigError(
            f"{where} holds zero bytes: it is UTF-16 without its mark, or no text",
            "Save it as UTF-8",
        )
    lines = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    lines = [(n, line) for n, line in lines if line and not line.startswith("#")]
    if not lines:
        raise ConfigError(f"{where} holds no band centres", "Write one (nm) per line")
    between = next((c for c in ";\t," if any(c in line for _, line in lines)), None)
    fields = [_split(line, between) for _, line in lines]
    names: list[str] = []
    if _is_heading(fields):
        names, fields, lines = fields[0], fields[1:], lines[1:]
    if not fields:
        raise ConfigError(f"{where} holds no band centres", "Write one (nm) per line")
    if len(names) == 2 and names[1].lower() in _UNITS and _is_wavelength(names[0]):
        names = [" ".join(names)]  # "Wavelength, nm"
    _refuse_decimal_commas(names, fields, lines, between, where)
    first = [_number(row[0]) for row in fields]
    if names and len(fields[0]) == len(names) + 1 and (None in first or _counts(first)):
        names = ["", *names]  # R gives the names of rows no heading
    if len(names) != len(fields[0]):
        names = [] if len(names) != 1 else names * len(fields[0])
    return _Table(names, fields, [number for number, _ in lines], where)


def _split(line: str, between: str | None) -> list[str]:
    """Fields of a line, without quotes; units in brackets belong to the word before."""
    if between is None:
        return [word.strip("\"'") for word in re.sub(r"\s+(?=[(\[])", "", line).split()]
    try:
        (fields,) = csv.reader([line], delimiter=between, skipinitialspace=True)
    except (csv.Error, ValueError):
        fields = line.split(between)
    fields = [field.strip().strip("'") for field in fields]
    while len(fields) > 1 and not fields[-1]:
        fields.pop()
    return fields


def _is_heading(fields: list[list[str]]) -> bool:
    """True if the first line names columns."""
    first, rest = [_number(field) for field in fields[0]], fields[1:]
    if first[0] is not None:
        return False
    return not any(n is not None for n in first) or (bool(rest) and _number(rest[0][0]) is not None)


def _refuse_decimal_commas(
    names: list[str],
    fields: list[list[str]],
    lines: list[tuple[int, str]],
    between: str | None,
    where: str,
) -> None:
    """Raise ConfigError where a comma may be the sign in a number."""
    # With a point in some number, or as many names as fields, commas are between the fields
    is_clear = any("." in field for row in fields for field in row if _number(field) is not None)
    for row, (number, line) in zip(fields, lines, strict=True):
        doubtful = [field for field in row if _DECIMAL_COMMA.fullmatch(field)]
        if between == "," and not doubtful and not is_clear and len(row) != max(len(names), 1):
            doubtful = _DECIMAL_COMMA.findall(line)
        if between == "," and not doubtful:
            doubtful = [f"{field},..." for field in row if re.fullmatch(r"\d+\s+\d+", field)]
        if doubtful:
            raise ConfigError(
                f"{where}: line {number} holds {doubtful[0]!r:.60}, which has a decimal comma or "
                "is two numbers",
                _POINT,
            )


def _choose_column(table: _Table) -> tuple[int, list[str]]:
    """The column with band centres, and a note which one that is where there are several.

    Raises ConfigError: several may be meant.
    """
    columns = range(table.width)
    if len(columns) == 1:
        return 0, []
    named = [i for i in columns if table.names[i:] and _is_wavelength(table.names[i])]
    if len(set(table.names)) < len(table.names):
        named = []
    if len(named) > 1:
        centred = [i for i in named if _CENTRE_WORDS & set(_words(table.names[i]))]
        named = centred if len(centred) == 1 else named
    likely = named or [i for i in columns if _may_be_centres(table.column(i))]
    if not named and likely[:1] == [0] and not _counts(table.column(0)):
        likely = [0]
    if len(likely) > 1:
        which = " and ".join(_column_name(table, i) for i in likely)
        raise ConfigError(
            f"{table.where}: {which} may both hold the band centres",
            "Delete the other columns, or name one of them wavelength in the first line",
        )
    index = likely[0] if likely else 0
    return index, [f"Band centres are {_column_name(table, index)} of {len(columns)}."]


def _column_name(table: _Table, index: int) -> str:
    name = table.names[index] if table.names else ""
    return f"column {index + 1} ({name})" if name else f"column {index + 1}"


def _words(name: str) -> list[str]:
    return re.findall(r"[a-zµμ]+", name.lower())


def _is_wavelength(name: str) -> bool:
    """True if a column of this name holds wavelengths."""
    words = set(_words(name))
    is_named = bool(words & _WAVELENGTH_WORDS) or "wavelength" in name.lower()
    return is_named and not words & _OTHER_WORDS


def _may_be_centres(values: list[float | None]) -> bool:
    """True for wavelengths in nm or micrometres; not for numbers of bands, or one width for all."""
    numbers = np.array([np.nan if value is None else value for value in values])
    low, high = WAVELENGTH_RANGE_NM
    is_length = any(((numbers >= low * f) & (numbers <= high * f)).all() for f in (1, 0.001))
    if numbers.size > 1 and np.unique(numbers).size <= numbers.size / 2:
        return False
    return is_length and not (_counts(values) and values[0] in (0, 1))


def _counts(values: list[float | None]) -> bool:
    """True for whole numbers that ascend by 1."""
    numbers = np.array([np.nan if value is None else value for value in values])
    is_whole = bool((numbers == np.rint(numbers)).all())
    return is_whole and bool((np.diff(numbers) == 1).all())


def _numbers_of(table: _Table, index: int) -> list[float]:
    """Numbers of a column; ConfigError where there is none."""
    found = []
    for value, row, line in zip(table.column(index), table.rows, table.lines, strict=True):
        if value is None:
            begins = "begins with" if index == 0 else f"has in column {index + 1}"
            raise ConfigError(
                f"{table.where}: line {line} {begins} {row[index]!r:.60}, which is not a number",
                "Write one band centre (nm) per line",
            )
        found.append(value)
    return found


def _number(text: str) -> float | None:
    try:
        return float(text.replace("_", "?"))  # 1_000 is a number for Python alone
    except ValueError:
        return None
