"""A session of fuzzing: how many inputs, from which seed, and what came of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis.strategies import SearchStrategy


@dataclass
class Campaign:
    """What is fuzzed, and what came of it.

    Attributes
    ----------
    cases
        Inputs in all.
    tally
        For each kind of input, how often it ended in which way.
    """

    cases: int
    seed: int
    tally: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def share(self, part: float) -> range:
        """Numbers of so many of the cases."""
        return range(max(1, round(self.cases * part)))

    def draw(self, kind: str, part: float, strategy: SearchStrategy, look: Callable) -> None:
        """Let hypothesis write inputs; ``look`` gives the label of each."""
        rules = settings(
            max_examples=len(self.share(part)),
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        )

        @with_seed(self.seed)
        @rules
        @given(strategy)
        def look_at(drawn: object) -> None:
            self.tally[kind][look(drawn)] += 1

        try:
            look_at()
        except Exception:
            self.tally[kind]["finding"] = 1  # hypothesis shows the smallest
            raise

    def lines(self) -> Iterator[str]:
        """The tally in words."""
        total = sum(ways.total() for ways in self.tally.values())
        found = sum(ways["finding"] for ways in self.tally.values())
        for kind, ways in sorted(self.tally.items()):
            yield f"{kind}: " + ", ".join(f"{way} {n}" for way, n in sorted(ways.items()))
        yield f"{total} damaged inputs of seed {self.seed}, findings: {found}"
