"""What a case finds in its folder, and what its command gives when nothing disturbs it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from attack import Case, Result, run_case

#: Commands that read something and print or write the same bytes whenever they are called.
COMMANDS: dict[str, tuple[str, ...]] = {
    "info": ("info", "scene.zarr", "--json"),
    "plan": ("plan", "scene.zarr", "new", "--workers", "1", "--memory-per-worker", "1GiB",
    "--json"),
    "spectrum": ("spectrum", "scene.zarr", "--x", "517020", "--y", "4525980"),
    "extract": ("extract", "scene.zarr", "spectra.csv", "--points", "points.csv"),
    "extract-polygons": ("extract", "scene.zarr", "means.csv", "--points", "area.geojson"),
    "verify": ("verify", "out"),
    "export-tables": ("export", "out", "clusters.csv"),
    "export-maps": ("export", "out", "maps.tif"),
    "compare": ("compare", "out", "other"),
}  # fmt: skip
READS_SCENE = ("info", "plan", "spectrum", "extract", "extract-polygons")
READS_OUT = ("verify", "export-tables", "export-maps", "compare")


class World:
    """A scene and a finished run, which cases copy."""

    def __init__(self, scene: Path, out: Path, folder: Path) -> None:
        self._scene, self._out, self._folder = scene, out, folder
        self._results: dict[tuple[str, ...], Result] = {}

    def lay_out(self, folder: Path) -> Path:
        """Fill the folder of a case."""
        folder.mkdir(parents=True)
        # links: what changes a file puts another in its place
        shutil.copytree(self._scene, folder / "scene.zarr", copy_function=os.link)
        shutil.copytree(self._out, folder / "out", copy_function=os.link)
        (folder / "other").symlink_to(self._out)
        (folder / "points.csv").write_text("name,x,y\na,517020,4525980\nb,517030,4525970\n")
        ring = [[517010, 4525990], [517040, 4525990], [517040, 4525960], [517010, 4525990]]
        polygon = {"type": "Polygon", "coordinates": [ring]}
        feature = {"type": "Feature", "properties": {"plot": 1}, "geometry": polygon}
        crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32613"}}
        layer = {"type": "FeatureCollection", "crs": crs, "features": [feature]}
        (folder / "area.geojson").write_text(json.dumps(layer))
        return folder

    def alone(self, words: tuple[str, ...]) -> Result:
        """What a command gives in a folder that nobody has touched; computed once."""
        if words not in self._results:
            folder = self.lay_out(self._folder / f"alone-{len(self._results)}")
            self._results[words] = run_case(Case("nothing", words), folder)
            shutil.rmtree(folder)
        return self._results[words]
