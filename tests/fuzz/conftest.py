"""How many inputs are damaged, from which seed, and the tally at the end.

    .venv/bin/python -m pytest tests/fuzz --fuzz-cases 10000 [--fuzz-seed 1]

The same seed gives the same inputs. A finding names its case, for ``replay.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from campaign import Campaign
from formats import FORMATS
from scene_case import look_at

from child_case import Child

#: So many in ``make test``, where tests/fuzz is not named and its options are not known.
_FEW = 300

_CAMPAIGN = pytest.StashKey[Campaign]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fuzz-cases", type=int, default=_FEW, help="damaged inputs in all")
    parser.addoption("--fuzz-seed", type=int, default=0, help="other inputs")


@pytest.fixture(scope="session")
def campaign(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """What is fuzzed in this session."""
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = str(tmp_path_factory.mktemp("hypothesis"))
    cases = pytestconfig.getoption("--fuzz-cases", default=_FEW)
    made = Campaign(cases, pytestconfig.getoption("--fuzz-seed", default=0))
    return pytestconfig.stash.setdefault(_CAMPAIGN, made)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if campaign := config.stash.get(_CAMPAIGN, None):
        terminalreporter.section("fuzz")
        for line in campaign.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """Looks at damaged scenes."""
    child = Child(look_at, tmp_path_factory.mktemp("fuzz"), memory_bytes=2 << 30)
    yield child
    child.close()


@pytest.fixture(scope="session")
def whole_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a scene of each format that is whole."""
    folder = tmp_path_factory.mktemp("whole")
    for kind, made in FORMATS.items():
        made.make(folder / kind)
    return folder
