"""Results: one JSON file a benchmark under build/bench, and the table made of all of them."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "build" / "bench"
PAGE = ROOT / "docs" / "performance-tables.md"
#: The table lies between these lines of the page.
MARKERS = ("<!-- table: begin -->", "<!-- table: end -->")
#: The last part of the table.
_WHERE = "### Where this was measured"
#: How busy the machine was before anything was measured.
_LOAD = round(os.getloadavg()[0], 2)
_PACKAGES = (
    "hyperhpc", "numpy", "scikit-learn", "dask", "distributed", "dask-ml", "xarray", "zarr",
    "zarrs", "numcodecs", "matplotlib",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes
    ----------
    what
        What was measured.
    values
        One number a repeat.
    unit
        Of the numbers; "x" for ratios.
    at_least, at_most
        What was promised of the median, if anything was.
    """

    what: str
    values: Sequence[float]
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str:
        """What was promised, in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"

    @property
    def is_met(self) -> bool:
        """Whether the median keeps the promise."""
        middle = statistics.median(self.values)
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= middle <= high

    def cells(self, is_judged: bool) -> list[str]:
        """Cells of the table: what, median, spread, repeats, promise (and whether kept)."""
        middle = f"{number(statistics.median(self.values))} {self.unit}".strip()
        spread = f"{number(min(self.values))} - {number(max(self.values))}"
        kept = f": {'yes' if self.is_met else '**no**'}" if self.goal and is_judged else ""
        count = len(self.values)
        return [self.what, middle, spread if count > 1 else "", str(count), self.goal + kept]


@dataclass
class Result:
    """Outcome of one benchmark, as its file holds it.

    Attributes
    ----------
    name
        Of the file.
    command
        What takes the same numbers again.
    repeats
        What was measured, one entry a repeat.
    note
        What one must know to read the rows.
    is_judged
        False for scenes smaller than those the promises are about.
    """

    name: str
    title: str
    command: str
    rows: list[Row]
    repeats: list[dict[str, Any]]
    note: str = ""
    is_judged: bool = True

    def write(self, folder: Path = RESULTS) -> Path:
        """Write it, with the machine, the versions and the commit."""
        about = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "versions": versions(),
        }
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        text = json.dumps(about | asdict(self), indent=1, allow_nan=False)
        path.write_text(text + "\n", "utf-8")
        return path

    def table(self) -> str:
        """Its lines, as Markdown."""
        head = ["", "median", "spread", "repeats", "goal"]
        lines = [head, ["---", "---:", "---:", "---:", "---"]]
        lines += [row.cells(self.is_judged) for row in self.rows]
        body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        note = f"{self.note}\n\n" if self.note else ""
        return f"### {self.title}\n\n`{self.command}`\n\n{note}{body}\n"


def read_result(path: Path) -> Result:
    """A result from its file."""
    value = json.loads(path.read_text("utf-8"))
    value["rows"] = [Row(**row) for row in value["rows"]]
    return Result(**{name: value[name] for name in Result.__dataclass_fields__})


def whole_table(order: Sequence[str], folder: Path = RESULTS) -> str:
    """The judged results there are, in this order, and where they were measured."""
    results = {path: read_result(path) for path in folder.glob("*.json")}
    paths = sorted(
        (path for path, result in results.items() if result.is_judged),
        key=lambda path: (order.index(path.stem.partition("-")[0]), path.stem),
    )
    if not paths:
        raise SystemExit(f"{folder} holds no results yet: make bench ARGS=startup, for example")
    tables = [results[path].table() for path in paths]
    return _joined(tables, _places(paths))


def _joined(parts: Iterable[str], places: Iterable[str]) -> str:
    """Parts of the table, the machines last."""
    return "\n".join([*parts, f"{_WHERE}\n", *places, ""])


def _places(paths: Sequence[Path]) -> list[str]:
    """Machine, commit, load and versions of each result."""
    lines = []
    for path in paths:
        about = json.loads(path.read_text("utf-8"))
        of = about["machine"]
        packages = ", ".join(f"{name} {v}" for name, v in about["versions"].items())
        lines.append(
            f"- {path.stem}: {of['processor']}, {of['cores']} cores, {of['memory_gib']} GiB, "
            f"load before {of['load_before']}; {of['system']}, Python {of['python']}; "
            f"commit {about['commit']}; {packages}"
        )
    return lines


def write_page(table: str, page: Path = PAGE) -> None:
    """Put the table between the marker lines of the page; what was not measured again stays."""
    text = page.read_text("utf-8")
    head, _, rest = text.partition(MARKERS[0])
    old, end, tail = rest.partition(MARKERS[1])
    if not end:
        raise SystemExit(f"{page} has not the two lines {' and '.join(MARKERS)}")
    (kept, known), (parts, places) = _parts(old), _parts(table)
    merged = _joined((kept | parts).values(), (known | places).values())
    page.write_text(f"{head}{MARKERS[0]}\n\n{merged}\n{MARKERS[1]}{tail}", "utf-8")


def _parts(table: str) -> tuple[dict[str, str], dict[str, str]]:
    """Parts of a table by their titles, and lines about machines by names of results."""
    text, _, where = table.strip().partition(_WHERE)
    parts = [part.rstrip() + "\n" for part in re.split(r"^(?=### )", text, flags=re.M) if part]
    lines = [line for line in where.splitlines() if line.startswith("- ")]
    return (
        {part.partition("\n")[0]: part for part in parts},
        {line.partition(":")[0]: line for line in lines},
    )


def number(value: float) -> str:
    """Three digits that mean something, and never an exponent."""
    exponent = int(f"{value:.2e}".partition("e")[2])
    return f"{value:.{max(2 - exponent, 0) if value else 0}f}"


def machine() -> dict[str, Any]:
    """What explains a timing, without names of machines."""
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        models = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": _LOAD,
    }


def versions() -> dict[str, str]:
    """Versions of what makes the numbers."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit, and whether the sources differ from it; "unknown" without git."""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT)]
    try:
        name, changes = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout
            for words in (["rev-parse", "--short", "HEAD"], ["status", "--short", "--", "src"])
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name.strip() + (" with changes" if changes else "")
