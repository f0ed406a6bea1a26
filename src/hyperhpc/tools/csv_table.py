"""Tables in one form, as CSV that R's ``read.csv`` and spreadsheets read, or as Parquet.

CSV: a header line, one row per item, a point as decimal sign, empty cells for missing values.
Parquet: the same columns with their types, null for missing values.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

#: Ending of the files of the other format.
PARQUET = ".parquet"


def write_table(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows of as many values as the head has; None and NaN become empty.

    ``path``: Its ending chooses the format: ``.parquet``, or else CSV.
    """
    if path.suffix.lower() == PARQUET:
        _write_parquet(path, head, rows)
        return
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        for row in rows:
            assert len(row) == len(head)
            writer.writerow([_cell(value) for value in row])


def _write_parquet(path: Path, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    columns: list[list[Any]] = [[] for _ in head]
    for row in rows:
        for column, value in zip(columns, row, strict=True):
            column.append(None if isinstance(value, float) and math.isnan(value) else value)
    arrays = [pa.array(_of_one_type(column)) for column in columns]
    parquet.write_table(pa.Table.from_arrays(arrays, names=list(head)), path)


def _of_one_type(values: list[Any]) -> list[Any]:
    """Numbers as they are; text if a column of a file of the user mixes it with numbers."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} or len(kinds) < 2:
        return values
    return [None if value is None else str(value) for value in values]


def _cell(value: Any) -> Any:
    if isinstance(value, float):  # numpy's float64 is a float; float32 is never passed
        return "" if math.isnan(value) else f"{value:.12g}"
    return value


def attribute_columns(
    attributes: Sequence[Mapping[str, Any]], taken: Iterable[str]
) -> tuple[list[str], list[list[Any]]]:
    """Names and values of the attributes of a file, a row each.

    ``taken``: Names of our columns; ``file_`` precedes an attribute of such a name.
    """
    names = list(dict.fromkeys(name for values in attributes for name in values))
    ours = set(taken)
    columns = [f"file_{name}" if name in ours else name for name in names]
    return columns, [[values.get(name) for name in names] for values in attributes]


def band_columns(prefix: str, wavelength_nm: Iterable[float]) -> list[str]:
    """Column names by band centre in nm, such as ``mean_857.307``; R accepts them unchanged.

    They have three decimals, or as many as keep the names of different centres apart.
    """
    centres = list(wavelength_nm)
    for decimals in (3, 6, 9):
        names = [f"{prefix}_{nm:.{decimals}f}" for nm in centres]
        if len(set(names)) == len(names):
            break
    return names
