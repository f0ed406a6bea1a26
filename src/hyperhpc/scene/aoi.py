"""Areas of interest (``--aoi``): pixels whose centre is outside polygons are left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.scene.vectors import Features, merge_polygons, read_features, reproject_to_scene
from hyperhpc.scene.views import MaskedScene, mask_scene, window_shape

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

#: Pixels that are tested one by one to say how many are inside; about a second.
_MOST_COUNTED = 2**22


@dataclass(frozen=True)
class AoiMask:
    """Hides pixels whose centre is outside polygons.

    ``wkb``: The polygons in the scene's CRS, as well-known binary.
    ``grid``: Of the scene.
    ``digest``: SHA-256 of the polygons as the file holds them.
    """

    wkb: bytes
    grid: Grid
    digest: str
    causes: ClassVar[tuple[str, ...]] = ("outside the area of interest",)

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True outside."""
        import shapely

        shape = window_shape(rows, cols)
        if 0 in shape:
            return np.zeros(shape, dtype=bool)
        area = _prepared(self.wkb)
        x = self.grid.x_centres(cols.start, cols.stop)[:: cols.step or 1]
        y = self.grid.y_centres(rows.start, rows.stop)[:: rows.step or 1]
        box = shapely.box(x[0], y[-1], x[-1], y[0])
        if not area.intersects(box):
            return np.ones(shape, dtype=bool)
        if area.contains_properly(box):
            return np.zeros(shape, dtype=bool)
        # Pixel by pixel, exactly: what is inside does not depend on the window
        inside = shapely.intersects_xy(area, *np.meshgrid(x, y))
        return ~np.asarray(inside, dtype=bool).reshape(shape)

    def hides_each(self, rows: slice, cols: slice) -> list[np.ndarray]:
        """As :meth:`hides`: there is one cause."""
        return [self.hides(rows, cols)]

    def fingerprint(self) -> Any:
        """The polygons of the file."""
        return {"aoi": self.digest}


@lru_cache(maxsize=4)
def _prepared(wkb: bytes) -> BaseGeometry:
    """Polygons, with an index of their edges; kept for the next window."""
    import shapely

    area = shapely.from_wkb(wkb)
    shapely.prepare(area)
    return area


def mask_outside(scene: Scene, path: Path, layer: str | None = None) -> MaskedScene:
    """A scene without the pixels outside the polygons of a file.

    The centre of a pixel decides; one on an edge is inside.

    Raises ConfigError: what :func:`read_features` raises; the file holds no polygon or has no
    CRS, or no centre of a pixel is inside.
    """
    import shapely

    features = read_features(path, "--aoi", layer)
    geometry = _union(features, path)
    geometry = reproject_to_scene(np.array([geometry]), features.crs, scene, f"--aoi {path}")[0]
    box = shapely.box(*scene.bounds)
    inside = geometry.intersection(box)
    if inside.is_empty or not inside.area:
        theirs, own = (",".join(f"{v:.10g}" for v in g.bounds) for g in (geometry, box))
        raise ConfigError(
            f"The polygons of {path} span {theirs}, which is outside the scene, {own}",
            "Check that the file and the scene show the same place",
        )
    mask = AoiMask(shapely.to_wkb(geometry), scene.grid, features.digest)
    kept = _count_inside(scene, mask, inside)
    if kept == "0":
        raise ConfigError(
            f"The polygons of {path} hold no centre of a pixel",
            f"Give larger polygons: a pixel is {scene.grid.px:g} x {scene.grid.py:g}",
        )
    note = (
        f"Pixels outside the polygons of {path.name} are left out; {kept} of "
        f"{scene.shape[0] * scene.shape[1]} pixels remain."
    )
    masked = mask_scene(scene, mask, note, aoi_bounds=inside.bounds)
    return replace(masked, notes=(*masked.notes, *features.notes))


def _count_inside(scene: Scene, mask: AoiMask, inside: BaseGeometry) -> str:
    """Number of pixels inside; for large areas the number that fits into them."""
    xmin, ymin, xmax, ymax = inside.bounds
    row0, col0 = scene.grid.pixel_of(xmin, ymax)
    row1, col1 = scene.grid.pixel_of(xmax, ymin)
    rows = slice(max(row0, 0), min(row1 + 1, scene.shape[0]))
    cols = slice(max(col0, 0), min(col1 + 1, scene.shape[1]))
    if (rows.stop - rows.start) * (cols.stop - cols.start) > _MOST_COUNTED:
        return f"about {inside.area / (scene.grid.px * scene.grid.py):.0f}"
    return str(np.count_nonzero(~mask.hides(rows, cols)))


def _union(features: Features, path: Path) -> BaseGeometry:
    """All polygons as one geometry."""
    import shapely

    try:
        area = merge_polygons(*features.geometries)
    except shapely.errors.ShapelyError as error:
        raise ConfigError(
            f"--aoi {path} holds polygons that have no area: {error}", "Repair them in QGIS"
        ) from None
    if area.is_empty or not area.area:
        raise ConfigError(
            f"--aoi {path} holds no polygon ({len(features.geometries)} features)",
            "Points and lines enclose no area: give polygons",
        )
    return area
