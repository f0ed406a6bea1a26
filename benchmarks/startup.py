"""How long a command needs before it does anything."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

from measure import HYPERHPC, show
from record import Result, Row

#: Modules imported one at a time by a new Python.
IMPORTS = (
    "numpy", "xarray", "zarr", "distributed", "sklearn.cluster", "dask_ml.cluster",
    "matplotlib.pyplot", "hyperhpc", "hyperhpc.cli.main", "hyperhpc.scene",
    "hyperhpc.pipeline.runner", "hyperhpc.report",
)  # fmt: skip


def start_up(repeats: int) -> Result:
    """Measure ``hyperhpc --help`` and imports one by one."""
    commands = {"python, empty": [sys.executable, "-c", "pass"]}
    commands["hyperhpc --help"] = [*HYPERHPC, "--help"]
    commands |= {f"import {name}": [sys.executable, "-c", f"import {name}"] for name in IMPORTS}
    show(commands["hyperhpc --help"])
    for command in commands.values():
        _seconds(command)  # compiles it, and reads it into the page cache
    found: list[dict[str, Any]] = [
        {what: _seconds(command) for what, command in commands.items()} for _ in range(repeats)
    ]
    goals = {"hyperhpc --help": 0.3}
    rows = [Row(what, [r[what] for r in found], "s", at_most=goals.get(what)) for what in commands]
    return Result("startup", "Start-up", f"bench.py startup --repeats {repeats}", rows, found)


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return round(time.perf_counter() - start, 4)
