"""What ``info`` and ``spectrum`` tell of a scene, with the bands a run would use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hyperhpc.errors import ResourceError
from hyperhpc.pipeline.plan import choose_area
from hyperhpc.pipeline.selection import describe_bands, select_bands, spectra_at
from hyperhpc.scene import describe, open_scene


def inspect_scene(
    path: str | Path,
    group: str | None = None,
    bbox: tuple[float, float, float, float] | None = None,
) -> dict[str, Any]:
    """Facts of a scene, or of the area of it inside a bounding box.

    Returns
    -------
    The keys of ``hyperhpc info --json``.
    """
    scene = open_scene(path, group)
    facts = describe(scene)
    if bbox is not None:
        area = choose_area(scene, bbox)
        facts["shape"] = [*area.shape, scene.shape[2]]
        facts["bounds"] = scene.grid.bounds((area.row0, area.row1), (area.col0, area.col1))
    facts["n_good_bands"] = len(select_bands(scene).bands)
    return facts


def read_spectra(
    path: str | Path, group: str | None, points: Sequence[tuple[float, float]], method: str
) -> list[dict[str, Any]]:
    """Spectra at points: see :func:`hyperhpc.pipeline.selection.spectra_at`."""
    scene = open_scene(path, group)
    return spectra_at(scene, points, select_bands(scene).bands, method)


def draw_spectra(
    path: str | Path, group: str | None, spectra: list[dict[str, Any]], figure: Path
) -> None:
    """Draw spectra into a file; its ending says which format."""
    from hyperhpc.report import plot_spectra

    scene = open_scene(path, group)
    good = describe_bands(scene, select_bands(scene))["good_nm"]
    try:
        plot_spectra(spectra, good).savefig(figure, dpi=200)
    except (OSError, ValueError) as error:
        raise ResourceError(
            f"{figure} cannot be written: {error}",
            "name a file that ends in .png, .pdf or .svg",
        ) from None
