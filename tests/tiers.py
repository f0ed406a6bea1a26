"""Tiers of tests: which ones ``make test`` runs, and how much an unmarked test may take.

A test that bears no mark of MARKS is fast. ``--tier quick`` runs the fast tests and those
marked ``smoke``; ``--tier rest`` runs all others, so that both together run every test once.

The limit of a fast test is one of CPU time (its own process and the child processes it has
waited for), because the wall time of the same test is many times longer on a busy machine.
A test that only waits uses no CPU: for it there is a limit of wall time, which is so large that
a busy machine does not reach it. Fixtures that several tests share (scope module or larger) do
not count, for which test pays for them depends on the order.
"""

from __future__ import annotations

import importlib
import os
import resource
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import pytest

#: Marks of tests that may take long; pyproject.toml has a sentence on each.
MARKS = (
    "e2e", "workers", "browser", "jobs", "docs", "faults", "data", "slow", "slurm",
    "image",
)  # fmt: skip
#: Imported before the first test where the limit holds: no test pays for an import.
_HEAVY = (
    "bokeh.plotting", "dask_ml.cluster", "distributed", "h5py", "hyperhpc.cli.main",
    "hypothesis", "matplotlib.pyplot", "pyproj", "rasterio", "sklearn.cluster", "xarray",
    "zarr",
)  # fmt: skip

_LEFT_OUT = pytest.StashKey[Counter[str]]()
_SPENT = pytest.StashKey["Spent"]()


@dataclass
class Spent:
    """Seconds that one test has used, without those of shared fixtures."""

    cpu_s: float = 0.0
    wall_s: float = 0.0
    #: Shared fixtures that are being made right now, one within the other.
    depth: int = 0

    def add(self, since: tuple[float, float], sign: int = 1) -> None:
        cpu_s, wall_s = clocks()
        self.cpu_s += sign * (cpu_s - since[0])
        self.wall_s += sign * (wall_s - since[1])


def clocks() -> tuple[float, float]:
    """CPU time of this process and of its ended children, and wall time, in seconds."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = time.process_time() + children.ru_utime + children.ru_stime
    return cpu_s, time.perf_counter()


def marks_of(item: pytest.Item) -> list[str]:
    """Which of MARKS a test bears."""
    return [mark for mark in MARKS if item.get_closest_marker(mark)]


# --- which tests run ------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--tier",
        choices=("all", "quick", "rest"),
        default="all",
        help="quick: the fast tests and the smoke tests; rest: all others (default: all)",
    )
    parser.addini("fast_cpu_s", "CPU time an unmarked test may use, seconds", default="2")
    parser.addini("fast_wall_s", "wall time an unmarked test may take, seconds", default="300")


def pytest_itemcollected(item: pytest.Item) -> None:
    """What needs files from outside the repository says so by its fixture."""
    if "shared_data" in getattr(item, "fixturenames", ()):
        item.add_marker("data")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    tier = config.getoption("--tier")
    if tier == "all":
        return
    kept, dropped, left_out = [], [], Counter[str]()
    for item in items:
        marks = marks_of(item)
        is_quick = not marks or item.get_closest_marker("smoke") is not None
        if is_quick == (tier == "quick"):
            kept.append(item)
        else:
            dropped.append(item)
            left_out[marks[0] if marks else "fast"] += 1
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)
    config.stash[_LEFT_OUT] = left_out
    if hasattr(config, "workeroutput"):
        config.workeroutput["left_out"] = dict(left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take the numbers from a process of pytest-xdist; all have the same."""
    if left_out := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[_LEFT_OUT] = Counter(left_out)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    left_out = config.stash.get(_LEFT_OUT, None)
    if left_out and config.getoption("--tier") == "quick":
        kinds = ", ".join(f"{mark} {n}" for mark, n in left_out.most_common())
        terminalreporter.section("left out")
        terminalreporter.write_line(
            f"{left_out.total()} tests that take longer ({kinds}): make test-all runs them too"
        )


# --- how long they take ---------------------------------------------------------------


def is_limited() -> bool:
    """Whether a fast test that takes too long fails: in CI only."""
    return os.environ.get("CI") == "true"


def pytest_sessionstart(session: pytest.Session) -> None:
    has_workers = bool(session.config.getoption("numprocesses", default=None))
    if is_limited() and not has_workers:
        for name in _HEAVY:
            importlib.import_module(name)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    spent = item.stash[_SPENT] = Spent()
    start = clocks()
    try:
        return (yield)
    finally:
        spent.add(start)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    __tracebackhide__ = True
    spent = request._pyfuncitem.stash.get(_SPENT, None)
    if spent is None or fixturedef.scope == "function":
        return (yield)
    start = clocks()
    spent.depth += 1
    try:
        return (yield)
    finally:
        spent.depth -= 1
        if spent.depth == 0:
            spent.add(start, sign=-1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    __tracebackhide__ = True
    start = clocks()
    try:
        return (yield)
    finally:
        item.stash[_SPENT].add(start)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when != "call" or _SPENT not in item.stash:
        return report
    spent = item.stash[_SPENT]
    report.user_properties.append(("cpu_s", round(spent.cpu_s, 2)))
    if is_limited() and report.passed and not marks_of(item):
        for name, used, ini in (
            ("CPU time", spent.cpu_s, "fast_cpu_s"),
            ("wall time", spent.wall_s, "fast_wall_s"),
        ):
            limit = float(item.config.getini(ini))
            if used > limit:
                report.outcome = "failed"
                report.longrepr = (
                    f"{item.nodeid} used {used:.1f} s of {name}, an unmarked test may use "
                    f"{limit:g} s: make it cheaper, or mark it ({', '.join(MARKS)})"
                )
    return report
