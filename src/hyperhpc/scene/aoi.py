"""Areas of interest: the pixels inside the polygons of a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.scene.masked import MaskedScene, mask_scene, n_pixels
from hyperhpc.scene.vectors import Features, read_features, to_scene

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class AoiMask:
    """Hides pixels whose centre is outside polygons.

    Attributes
    ----------
    wkb
        The polygons in the scene's CRS, as well-known binary.
    grid
        Of the scene.
    digest
        SHA-256 of the file they come from.
    """

    wkb: bytes
    grid: Grid
    digest: str

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True outside."""
        import shapely

        shape = n_pixels(rows, cols)
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

    def fingerprint(self) -> Any:
        """The file's content."""
        return {"aoi": self.digest}


@lru_cache(maxsize=4)
def _prepared(wkb: bytes) -> BaseGeometry:
    """Polygons, with an index of their edges; kept for the next window."""
    import shapely

    area = shapely.from_wkb(wkb)
    shapely.prepare(area)
    return area


def mask_outside(scene: Scene, path: Path) -> MaskedScene:
    """A scene without the pixels outside the polygons of a file.

    A pixel counts by its centre; one that lies on an edge is inside.

    Raises
    ------
    ConfigError
        The file is missing, is no GeoPackage or GeoJSON, holds no polygon, has no CRS, or
        its polygons miss the scene.
    """
    import shapely

    features = read_features(path, "--aoi")
    geometry = _union(features, path)
    geometry = to_scene(np.array([geometry]), features.crs, scene, f"--aoi {path}")[0]
    box = shapely.box(*scene.bounds)
    inside = geometry.intersection(box)
    if inside.is_empty or not inside.area:
        theirs, own = (",".join(f"{v:.10g}" for v in g.bounds) for g in (geometry, box))
        raise ConfigError(
            f"the polygons of {path} span {theirs} and miss the scene, which spans {own}",
            "see that the file and the scene are of the same place",
        )
    note = f"Pixels outside the polygons of {path.name} are left out."
    mask = AoiMask(shapely.to_wkb(geometry), scene.grid, features.digest)
    return mask_scene(scene, mask, note, interest=inside.bounds)


def _union(features: Features, path: Path) -> BaseGeometry:
    """All polygons as one geometry."""
    import shapely

    parts = [part for one in features.geometries for part in _polygons(one)]
    try:
        area = shapely.union_all(shapely.make_valid(np.array(parts, dtype=object)))
    except shapely.errors.ShapelyError as error:
        raise ConfigError(
            f"--aoi {path} holds polygons that have no area: {error}", "mend them in QGIS"
        ) from None
    if area.is_empty or not area.area:
        raise ConfigError(
            f"--aoi {path} holds no polygon ({len(features.geometries)} features)",
            "points and lines have no inside: give polygons",
        )
    return area


def _polygons(geometry: BaseGeometry | None) -> list[BaseGeometry]:
    if geometry is None or geometry.is_empty:
        return []
    if geometry.geom_type == "Polygon":
        return [geometry]
    return [one for part in getattr(geometry, "geoms", ()) for one in _polygons(part)]
