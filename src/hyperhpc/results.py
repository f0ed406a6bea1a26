"""A run's folder, read for drawing: the JSON files whole, the Zarr stores a window at a time.

Everything except ``run.json`` may be missing or cut short, because a report of an
unfinished run is wanted too. What is not there is listed in ``Outputs.missing`` in words.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import zarr

from hyperhpc.errors import ConfigError
from hyperhpc.report.crs import MapCrs, describe_crs
from hyperhpc.report.overview import Overview
from hyperhpc.scene.summed import open_summed

JsonDict = dict[str, Any]
T = TypeVar("T")

#: ``cluster`` of a pixel that has none.
NO_CLUSTER = 255

_HINT = "give the folder that `hyperhpc run SCENE OUT` wrote"


@dataclass
class Outputs:
    """What a run left in its folder.

    Parameters
    ----------
    path
        The folder.
    run, model, clusters
        Contents of the JSON files; empty where the file is not there.
    spectra
        Point spectra in the order the points were given.
    missing
        One sentence for each part that is not there or cannot be read.
    """

    path: Path
    run: JsonDict
    model: JsonDict = field(default_factory=dict)
    clusters: JsonDict = field(default_factory=dict)
    spectra: list[JsonDict] = field(default_factory=list)
    overview: Overview | None = None
    overview_path: Path | None = None
    results: zarr.Group | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether the run says it ended and all its parts are here."""
        return bool(self.run.get("complete")) and not self.missing

    @property
    def scene(self) -> JsonDict:
        """``scene`` of run.json."""
        return self.run.get("scene") or {}

    @property
    def scene_name(self) -> str:
        """File name of the scene, for titles."""
        path = str(self.scene.get("path") or "")
        return path.rstrip("/").rsplit("/", 1)[-1] or "unnamed scene"

    @property
    def area(self) -> JsonDict:
        """``area`` of run.json: bounds and shape of what was analysed."""
        return self.run.get("area") or {}

    @property
    def good_ranges(self) -> list[list[float]] | None:
        """Contiguous ranges of good band centres in nm; None where not recorded."""
        return (self.run.get("bands") or {}).get("good_nm") or None

    @property
    def computed(self) -> list[JsonDict]:
        """The indices that were computed, in order."""
        return (self.run.get("indices") or {}).get("computed") or []

    @property
    def n_bands(self) -> int | None:
        """Bands of the scene."""
        return (self.run.get("bands") or {}).get("n_bands") or self.scene.get("n_bands")

    @property
    def n_good(self) -> int | None:
        """Bands that were used for clustering."""
        return (self.run.get("bands") or {}).get("n_good") or self.scene.get("n_good_bands")

    @property
    def n_pixels(self) -> int | None:
        """Pixels of the area, valid or not."""
        total = (self.run.get("pixels") or {}).get("total")
        shape = self.area.get("shape")
        return total if total is not None else (shape[0] * shape[1] if shape else None)

    @property
    def models(self) -> list[str]:
        """Models with anything to show, in the order of the maps."""
        names = self.overview.names("cluster") if self.overview else []
        more = [*(self.clusters.get("models") or {}), *(self.model.get("models") or {})]
        return list(dict.fromkeys([*names, *more]))

    def n_clusters(self, model: str) -> int:
        """Number of clusters of a model, from whichever file tells."""
        entry = (self.clusters.get("models") or {}).get(model)
        if entry:
            return len(entry["pixels"])
        entry = (self.model.get("models") or {}).get(model)
        if entry:
            return len(entry["centers"])
        return int((self.run.get("options") or {}).get("clusters") or 0)

    def hectares(self, pixels: float | None) -> float | None:
        """Area of so many pixels; None where a pixel's size in metres is not known."""
        size = self.area.get("pixel_area_m2")
        return None if size is None or pixels is None else pixels * float(size) / 1e4

    @cached_property
    def crs(self) -> MapCrs:
        """The maps' coordinate reference system."""
        wkt = None
        if self.results is not None and "spatial_ref" in self.results:
            attrs = self.results["spatial_ref"].attrs
            wkt = str(attrs.get("crs_wkt") or attrs.get("spatial_ref") or "") or None
        return describe_crs(self.scene.get("epsg"), wkt)

    def cluster_window(
        self, model: str, rows: slice, cols: slice
    ) -> npt.NDArray[np.uint8] | None:
        """Labels of a small window at full resolution, or None where there are none."""
        names = self.overview.names("cluster") if self.overview else []
        if self.results is None or model not in names or "cluster" not in self.results:
            return None
        labels = self.results["cluster"]
        assert isinstance(labels, zarr.Array)
        return np.asarray(labels[names.index(model), rows, cols], dtype=np.uint8)


def open_outputs(out: Path, overview_path: Path | None = None) -> Outputs:
    """Read a run's folder, whatever state it is in.

    Parameters
    ----------
    out
        Folder given to ``hyperhpc run``.
    overview_path
        Of the reduced maps; by default ``OUT/overview.zarr``.

    Raises
    ------
    ConfigError
        If the folder does not exist or is not a run's.
    """
    out = Path(out)
    if not out.is_dir():
        raise ConfigError(f"{out} is not a folder, so there is no run to report on", _HINT)
    run_file = out / "run.json"
    if not run_file.is_file():
        if not (out / "plan.json").is_file():
            raise ConfigError(f"{out} holds no run.json: it is not the folder of a run", _HINT)
        found = Outputs(out, {}, missing=["run.json (the run has not come to its end)"])
    else:
        try:
            run = json.loads(run_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{run_file} cannot be read: {error}", _HINT) from error
        if not isinstance(run, dict) or "hyperhpc" not in run:
            raise ConfigError(f"{run_file} is not the record of a hyperhpc run", _HINT)
        found = Outputs(out, run)

    found.model = _part(found, "model.json", "the fitted models", dict)
    found.clusters = _part(found, "clusters.json", "cluster spectra and areas", dict)
    found.spectra = _part(found, "spectra.json", "spectra at points", list)
    found.overview_path = overview_path or out / "overview.zarr"
    overview = _group(
        found,
        found.overview_path,
        "reduced maps, from which all pictures are drawn",
    )
    if overview is not None:
        found.overview = Overview.of(overview, found.run)
        if found.overview is None:
            found.missing.append("overview.zarr (no level in it can be read)")
    found.results = _group(found, out / "results.zarr", "index and cluster maps")
    return found


def _part(found: Outputs, name: str, what: str, kind: type[T]) -> T:
    path = found.path / name
    if not path.is_file():
        found.missing.append(f"{name} ({what})")
        return kind()
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        found.missing.append(f"{name} (cannot be read: {error})")
        return kind()
    if not isinstance(content, kind):
        found.missing.append(f"{name} (not what a run writes)")
        return kind()
    return content


def _group(found: Outputs, path: Path, what: str) -> zarr.Group | None:
    name = path.name
    if not path.is_dir():
        found.missing.append(f"{name} ({what})")
        return None
    try:
        return zarr.open_group(open_summed(path), mode="r", zarr_format=2)
    except (OSError, KeyError, ValueError) as error:
        found.missing.append(f"{name} (cannot be opened: {error})")
        return None
