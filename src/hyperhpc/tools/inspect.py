"""Facts and spectra of a scene, with the bands a run would use: ``info``, ``spectrum``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.compute.selection import describe_bands, place_spectra, select_bands
from hyperhpc.config import SceneOptions
from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs, check_parent
from hyperhpc.rundir.bbox import Box, check_points
from hyperhpc.rundir.plan import choose_area, note_bbox
from hyperhpc.scene import describe, open_scene
from hyperhpc.scene.points import GivenPoints, place_points, split_layer
from hyperhpc.scene.probe import check_median, is_bright, note_assumptions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Formats of figures.
FIGURE_FORMATS = (".png", ".pdf", ".svg", ".jpg")


def inspect_scene(
    path: Path, options: SceneOptions | None = None, bbox: Box | None = None
) -> dict[str, Any]:
    """Facts about a scene, or about its area inside a bounding box.

    Returns: the keys of ``hyperhpc info --json``.
    """
    scene = note_bbox(open_scene(path, options=options), bbox)
    facts = describe(scene)
    if bbox or scene.aoi_bounds:
        area = choose_area(scene, bbox)
        facts["shape"] = [*area.shape, scene.shape[2]]
        facts["bounds"] = scene.grid.bounds((area.row0, area.row1), (area.col0, area.col1))
    if why := check_median(scene):
        facts["notes"] = [*facts["notes"], f"{why}. Give --scale VALUE if they are reflectance."]
    facts["n_good_bands"] = len(select_bands(scene).bands)
    return facts


def check_figure(figure: Path) -> None:
    """Refuse a file name for a figure that cannot be written, before anything is read."""
    if figure.suffix.lower() not in FIGURE_FORMATS:
        raise ConfigError(
            f"--figure {figure}: {figure.suffix!r} is not a format of figures",
            f"Name a file that ends in {', '.join(FIGURE_FORMATS)}",
        )
    if figure.is_dir():
        raise ConfigError(f"--figure {figure} is a folder", "Name a file")
    check_parent(figure)


def read_spectra(
    path: Path, options: SceneOptions, given: GivenPoints, method: str, bbox: Box | None
) -> tuple[list[dict[str, Any]], list[str]]:
    """As :func:`hyperhpc.compute.selection.spectra_at`, and notes on box and points.

    All points must lie in the box.
    """
    options, given = split_layer(options, given)
    opened = open_scene(path, options=options)
    scene = note_bbox(opened, bbox)  # refuses a box outside the scene
    points = place_points(scene, given)
    check_points(bbox, points.places)
    spectra = place_spectra(scene, points, select_bands(scene).bands, method)
    bright = np.flatnonzero(is_bright(scene.wavelength_nm))
    table = np.array([s["reflectance"] for s in spectra], dtype=np.float64)  # None is NaN
    assumed = note_assumptions(scene, table[:, bright].ravel())
    more = scene.notes[len(opened.notes) :]
    return spectra, [*assumed, *more, *scene.warnings, *points.notes]


def draw_spectra(
    path: Path, options: SceneOptions, spectra: list[dict[str, Any]], figure: Path
) -> None:
    """Draw spectra into a file; the ending of its name gives the format."""
    from hyperhpc.report import plot_spectra

    scene = open_scene(path, options=options)
    good = describe_bands(scene, select_bands(scene))["good_nm"]
    save_figure(plot_spectra(spectra, good), figure)


def save_figure(drawn: Figure, figure: Path) -> None:
    """Save a figure, whole or not at all; ResourceError if it cannot be written."""
    kind = figure.suffix.lower().removeprefix(".")
    with atomic_outputs(figure, replaces=True) as folder:
        drawn.savefig(folder / figure.name, dpi=drawn.dpi, format=kind)
