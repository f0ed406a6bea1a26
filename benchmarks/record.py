"""Results: one JSON file per benchmark in build/bench, and the table made of all of them."""

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
#: Heading of the last part of the table.
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
        One number per repeat.
    unit
        Unit of the numbers; "x" for ratios.
    at_least, at_most
        Limits of the median that are promised, or None.
    """

    what: str
    values: Sequence[float]
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def goal(self) -> str:
        """The promised limit, in words."""
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"

    @property
    def is_met(self) -> bool:
        """True if the median is within the promised limits."""
        middle = statistics.median(self.values)
        low = -float("inf") if self.at_least is None else self.at_least
        high = float("inf") if self.at_most is None else self.at_most
        return low <= middle <= high

    def cells(self, is_judged: bool) -> list[str]:
        """Cells of the table: what, median, spread, repeats, limit (and whether it is met)."""
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
        Name of the file.
    command
        Command that measures the same again.
    repeats
        What was measured, one entry per repeat.
    note
        What a reader must know to understand the rows.
    is_judged
        False for scenes smaller than those that the promised limits are about.
    """

    name: str
    title: str
    command: str
    rows: list[Row]
    repeats: list[dict[str, Any]]
    note: str = ""
    is_judged: bool = True

    def write(self, folder: Path = RESULTS) -> Path:
        """Write the file, with the machine, the versions and the commit."""
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
        """The table, as Markdown."""
        head = ["", "median", "spread", "repeats", "goal"]
        lines = [head, ["---", "---:", "---:", "---:", "---"]]
        lines += [row.cells(self.is_judged) for row in self.rows]
        body = "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
        note = f"{self.note}\n\n" if self.note else ""
        return f"### {self.title}\n\n`{self.command}`\n\n{note}{body}\n"


def stage_rows(runs: list[dict[str, Any]]) -> list[Row]:
    """A row for the seconds of each stage of runs."""
    names = runs[0]["stages"]
    return [Row(f"run, {name}", [r["stages"][name] for r in runs], "s") for name in names]


def read_result(path: Path) -> Result:
    """Read a result from its file."""
    value = json.loads(path.read_text("utf-8"))
    value["rows"] = [Row(**row) for row in value["rows"]]
    return Result(**{name: value[name] for name in Result.__dataclass_fields__})


def whole_table(order: Sequence[str], folder: Path = RESULTS) -> str:
    """Tables of all judged results, in this order, and where they were measured."""
    results = {path: read_result(path) for path in folder.glob("*.json")}
    paths = sorted(
        (path for path, result in results.items() if result.is_judged),
        key=lambda path: (order.index(path.stem.partition("-")[0]), path.stem),
    )
    if not paths:
        raise SystemExit(f"{folder} holds no results yet: make bench ARGS=startup, for example")
    tables = [results[path].table() for path in paths]
    return _join_parts(tables, _describe_machines(paths))


def _join_parts(parts: Iterable[str], machines: Iterable[str]) -> str:
    """All parts of the table, the machines last."""
    return "\n".join([*parts, f"{_WHERE}\n", *machines, ""])


def _describe_machines(paths: Sequence[Path]) -> list[str]:
    """Machine, commit, load and versions of each result."""
    lines = []
    for path in paths:
        about = json.loads(path.read_text("utf-8"))
        m = about["machine"]
        packages = ", ".join(f"{name} {v}" for name, v in about["versions"].items())
        lines.append(
            f"- {path.stem}: {m['processor']}, {m['cores']} cores, {m['memory_gib']} GiB, "
            f"load before {m['load_before']}; {m['system']}, Python {m['python']}; "
            f"commit {about['commit']}; {packages}"
        )
    return lines


def write_page(table: str, page: Path = PAGE) -> None:
    """Write the table between the marker lines of the page; parts not measured again stay."""
    text = page.read_text("utf-8")
    head, _, rest = text.partition(MARKERS[0])
    old, end, tail = rest.partition(MARKERS[1])
    if not end:
        raise SystemExit(f"{page} does not have the two lines {' and '.join(MARKERS)}")
    (kept, known), (parts, machines) = _split_table(old), _split_table(table)
    merged = _join_parts((kept | parts).values(), (known | machines).values())
    page.write_text(f"{head}{MARKERS[0]}\n\n{merged}\n{MARKERS[1]}{tail}", "utf-8")


def _split_table(table: str) -> tuple[dict[str, str], dict[str, str]]:
    """Parts of a table by title, and lines about machines by name of the result."""
    text, _, where = table.strip().partition(_WHERE)
    parts = [part.rstrip() + "\n" for part in re.split(r"^(?=### )", text, flags=re.M) if part]
    lines = [line for line in where.splitlines() if line.startswith("- ")]
    return (
        {part.partition("\n")[0]: part for part in parts},
        {line.partition(":")[0]: line for line in lines},
    )


def number(value: float) -> str:
    """A number with three significant digits and without an exponent."""
    exponent = int(f"{value:.2e}".partition("e")[2])
    return f"{value:.{max(2 - exponent, 0) if value else 0}f}"


def machine() -> dict[str, Any]:
    """Properties of this machine that explain a timing, without its name."""
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
    """Versions of the packages that decide the speed."""
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
