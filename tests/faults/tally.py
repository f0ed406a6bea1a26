"""What all cases together have seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

#: The run reports that it has stopped before its end and can be resumed.
GO_ON = 7


@dataclass
class Tally:
    """Counted, and in words."""

    kills: Counter[str] = field(default_factory=Counter)
    resumes: int = 0
    stopped: int = 0
    tiles_kept: int = 0
    tiles_again: int = 0
    most_again: int = 0
    differences: int = 0
    flips: Counter[str] = field(default_factory=Counter)
    slowest_end_s: float = 0.0
    fit_kills: int = 0
    iterations_again: int = 0
    most_iterations_again: int = 0

    def __str__(self) -> str:
        flips = ", ".join(f"{what} {n}" for what, n in sorted(self.flips.items())) or "none"
        roles = ", ".join(f"{role} {n}" for role, n in sorted(self.kills.items()))
        return (
            f"kills: {self.kills.total()} ({roles}), starts that went on: {self.resumes}, "
            f"of these after exit code {GO_ON}: {self.stopped}\n"
            f"tiles found finished: {self.tiles_kept}, begun again: {self.tiles_again}, "
            f"at most {self.most_again} after one start\n"
            f"processes gone {self.slowest_end_s:.1f} s after their driver at the latest\n"
            f"{self.fit_kills} kills in the iterations of a fit, taken again: "
            f"{self.iterations_again}, at most {self.most_iterations_again} after one start\n"
            f"differences: {self.differences}\n"
            f"flipped bits: {self.flips.total()} ({flips}), used 0"
        )
