"""How many attacks, from which seed, and their tally.

    .venv/bin/python -m pytest tests/attacks --attacks 1000 [--attack-seed 1]

The same seed gives the same attacks. A finding names its case; to see it again:

    .venv/bin/python -m pytest tests/attacks --attack-case "files: in a run: 17"
"""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from attack import FEW

_TALLY = pytest.StashKey[dict[str, Counter[str]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--attacks", type=int, default=FEW, help=f"attacks in all (default: {FEW})")
    parser.addoption("--attack-seed", type=int, default=0, help="other attacks")
    parser.addoption("--attack-case", default="", help="only this one, as a finding names it")


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> dict[str, Counter[str]]:
    """How the attacks of each row have ended."""
    return pytestconfig.stash.setdefault(_TALLY, defaultdict(Counter))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not (tally := config.stash.get(_TALLY, None)):
        return
    terminalreporter.section("attacks")
    total: Counter[str] = Counter()
    for row, ends in sorted(tally.items()):
        total.update(ends)
        counts = ", ".join(f"{end} {count}" for end, count in sorted(ends.items()))
        terminalreporter.write_line(f"{row}: {counts}")
    refused = sum(n for end, n in total.items() if end.startswith("refused"))
    terminalreporter.write_line(
        f"{total.total()} tried, {refused} refused, {total['unchanged']} unchanged, "
        f"findings {total['finding']}"
    )
