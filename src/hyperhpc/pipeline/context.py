"""What a run is about: fixed before it starts, and the same for all its passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hyperhpc.analysis.condition import BoundConditions
from hyperhpc.analysis.indices import BoundIndex
from hyperhpc.compute.endmembers import Endmembers
from hyperhpc.compute.fit.applied import AppliedModel
from hyperhpc.compute.selection import Selection
from hyperhpc.config import RunConfig
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.plan import Plan, list_strides
from hyperhpc.scene.cube import Grid, Scene


@dataclass(frozen=True)
class RunContext:
    """What was asked for, what the scene was found to be, and what follows from both.

    ``selection``: The bands that decide on validity and clusters.
    ``indices``, ``skipped``: Indices to compute; names of those that lack a band, and which.
    ``conditions``: Those of ``--where``, which pixels have to meet to be clustered.
    ``model_names``: Models of the maps, in the order of their layers.
    ``spectra``: Spectra at the points asked for, as spectra.json holds them.
    ``plan``: Area and tiles: of this call, or those found in OUT.
    ``applied``: A model of another run; None if models are fitted.
    ``endmembers``: Those of ``--unmix``; None without it.
    """

    config: RunConfig
    scene: Scene
    selection: Selection
    indices: list[BoundIndex]
    skipped: dict[str, str]
    conditions: BoundConditions
    model_names: Sequence[str]
    spectra: list[dict[str, Any]]
    plan: Plan
    applied: AppliedModel | None
    endmembers: Endmembers | None = None

    @property
    def folder(self) -> RunFolder:
        """The paths of OUT."""
        return RunFolder(self.config.out)

    @property
    def grid(self) -> Grid:
        """Georeference of the area."""
        return self.scene.grid.part(self.plan.area.row0, self.plan.area.col0)

    @property
    def stride(self) -> int:
        """Rows and columns from one sampled pixel to the next; the first to be tried, if several.

        After the sample was taken, that of the sample.
        """
        return list_strides(self.config.stride, self.plan.area.shape)[0]

    @property
    def n_pixels(self) -> int:
        """Pixels of the area."""
        return self.plan.area.shape[0] * self.plan.area.shape[1]

    @property
    def index_names(self) -> list[str]:
        """Names of the indices, in the order of their layers."""
        return [bound.index.name for bound in self.indices]

    @property
    def endmember_names(self) -> list[str]:
        """Names of the endmembers, in the order of their layers."""
        return list(self.endmembers.names) if self.endmembers else []
