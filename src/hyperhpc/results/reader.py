"""A run's folder, opened for reading."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import zarr

from hyperhpc.errors import ConfigError, IncompleteRunError, cause
from hyperhpc.results.classes import (
    ClusterClass,
    check_classes,
    class_table,
    plain_classes,
    read_classes,
)
from hyperhpc.results.pyramid import Pyramid
from hyperhpc.rundir.folder import RunFolder, find_run_folder, is_readable_file
from hyperhpc.rundir.integrity import open_summed, read_result
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.georef import MapCrs, describe_crs
from hyperhpc.schema import CLUSTER, FRACTION, INDICES, UNMIXING_RMSE
from hyperhpc.sealed import BrokenSealError, read_json

if TYPE_CHECKING:
    import xarray as xr

JsonDict = dict[str, Any]
T = TypeVar("T")

#: Rows of the maps read at once: a whole number of the blocks of a GeoTIFF.
STRIP_ROWS = 512


class _Part(NamedTuple):
    """Content of a file or store, and what is wrong with it; "" if nothing is."""

    content: Any
    problem: str = ""


def row_strips(height: int) -> Iterator[slice]:
    """Slices of at most ``STRIP_ROWS`` rows that cover a height, from the first."""
    for row in range(0, height, STRIP_ROWS):
        yield slice(row, min(row + STRIP_ROWS, height))


@dataclass(frozen=True, eq=False)
class RunResults:
    """What a run has written.

    Nothing is read before it is asked for: JSON files whole, arrays a window at a time. All
    files are compared with their checksums as they are read, and one that has changed raises
    IncompleteRunError, whatever ``is_strict`` says.

    ``folder``: Paths of the run's files.
    ``run``: Content of run.json: input, options, versions, timings; empty if it is not there.
    ``overview_path``: Store of the overviews.
    ``is_strict``: True: a part that is missing or damaged raises ConfigError when it is asked
        for. False: it is empty or None, and named in :attr:`missing`.
    ``gaps``: What the overviews lack, one sentence each.
    """

    folder: RunFolder
    run: JsonDict
    overview_path: Path
    is_strict: bool = True
    gaps: tuple[str, ...] = ()

    # Parts ---------------------------------------------------------------------------

    @cached_property
    def _model(self) -> _Part:
        return _read_part(self.folder, self.folder.model, "the fitted models", dict)

    @cached_property
    def _clusters(self) -> _Part:
        return _read_part(self.folder, self.folder.clusters, "cluster spectra and areas", dict)

    @cached_property
    def _spectra(self) -> _Part:
        return _read_part(self.folder, self.folder.spectra, "spectra at points", list)

    @cached_property
    def _store(self) -> _Part:
        return _open_group(self.folder.results, "index and cluster maps")

    @cached_property
    def _pyramid(self) -> _Part:
        path = self.overview_path
        part = _open_group(path, "reduced maps, from which all pictures are drawn")
        if part.problem:
            return part
        pyramid = Pyramid.from_group(part.content, self.run)
        return _Part(pyramid, "" if pyramid else f"{path.name} (no level in it can be read)")

    def _checked(self, part: _Part) -> Any:
        if part.problem and self.is_strict:
            raise ConfigError(
                f"{self.folder.out} lacks {part.problem}",
                f"See what is damaged: hyperhpc verify {shlex.quote(str(self.folder.out))}",
            )
        return part.content

    @property
    def model(self) -> JsonDict:
        """Content of model.json: scaling and centres of each model."""
        return self._checked(self._model)

    @property
    def clusters(self) -> JsonDict:
        """Content of clusters.json: spectra and areas of the clusters, agreement."""
        return self._checked(self._clusters)

    @property
    def spectra(self) -> list[JsonDict]:
        """Content of spectra.json: point spectra in the order the points were given."""
        return self._checked(self._spectra)

    @property
    def store(self) -> zarr.Group | None:
        """The maps at full resolution; None if they cannot be read."""
        return self._checked(self._store)

    @property
    def pyramid(self) -> Pyramid | None:
        """The overviews; None if they cannot be read."""
        return self._checked(self._pyramid)

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """One sentence for each part that is not there or cannot be read."""
        parts = (self._model, self._clusters, self._spectra, self._pyramid, self._store)
        found = [] if self.run else [f"{self.folder.run.name} (the run is not finished)"]
        return (*found, *(part.problem for part in parts if part.problem), *self.gaps)

    @property
    def is_complete(self) -> bool:
        """True if run.json says that the run is finished, and all its parts are here."""
        return bool(self.run.get("complete")) and not self.missing

    # For notebooks -------------------------------------------------------------------

    @cached_property
    def results(self) -> xr.Dataset:
        """The maps at full resolution, lazy.

        ``indices`` (index, y, x) float32, NaN is missing; ``cluster`` (model, y, x) uint8,
        255 is no-data, 254 a pixel that ``--where`` leaves out; with ``--unmix`` also ``fraction``
        (endmember, y, x) and ``unmixing_rmse`` (y, x) float32, NaN is missing; coordinates y, x
        (pixel centres), index, model, endmember and spatial_ref.
        """
        return _open_maps(self.folder.results)

    @property
    def levels(self) -> list[int]:
        """Scene pixels on the side of one pixel of each overview, finest first."""
        return list(self.pyramid.levels) if self.pyramid else []

    def overview(self, level: int) -> xr.Dataset:
        """Maps at a coarser level, lazy.

        ``level``: One of :attr:`levels`.

        Returns: ``quicklook`` (color, y, x) float32 reflectance, NaN is no-data; ``indices``
        and ``cluster`` as in :attr:`results`; ``nodata_cause`` (y, x) uint8, why a pixel has no
        data, as its attribute ``flag_meanings`` says (0: it has data; not in older runs).
        Raises ConfigError: there is no such level.
        """
        if level not in self.levels:
            raise ConfigError(
                f"There is no overview level {level}",
                f"The levels of this run are {' '.join(map(str, self.levels))}",
            )
        return _open_maps(self.overview_path, str(level))

    # Maps at full resolution ----------------------------------------------------------

    @cached_property
    def model_names(self) -> tuple[str, ...]:
        """Names along the first dimension of the map of clusters."""
        return self._names("model")

    @cached_property
    def index_names(self) -> tuple[str, ...]:
        """Names along the first dimension of the map of indices."""
        return self._names("index")

    @cached_property
    def endmember_names(self) -> tuple[str, ...]:
        """Names along the first dimension of the map of fractions; none without ``--unmix``."""
        return self._names("endmember")

    @cached_property
    def fraction_groups(self) -> dict[str, tuple[int, ...]]:
        """Groups of endmembers, and the layers of the map of fractions that each sums."""
        entries = self.unmixing.get("endmembers") or []
        group_of = {entry["name"]: entry["group"] for entry in entries}
        groups: dict[str, tuple[int, ...]] = {}
        for layer, name in enumerate(self.endmember_names):
            group = group_of.get(name, name)
            groups[group] = (*groups.get(group, ()), layer)
        return groups

    def fraction_layers(self, name: str) -> tuple[int, ...]:
        """Layers of a group, or of an endmember that is not all of its group."""
        return self.fraction_groups.get(name) or (self.endmember_names.index(name),)

    def _names(self, coordinate: str) -> tuple[str, ...]:
        stored = self.store.get(coordinate) if self.store is not None else None
        return tuple(map(str, np.asarray(stored[:]))) if isinstance(stored, zarr.Array) else ()

    def _map(self, name: str) -> Any:
        assert self.store is not None
        return self.store[name]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of the maps."""
        return self._map(CLUSTER.name).shape[1:]

    @cached_property
    def grid(self) -> Grid:
        """Georeference of the maps."""
        # hyperhpc.scene.georef.grid_mapping_attributes has written these attributes
        attributes = self._map("spatial_ref").attrs
        xmin, px, _, ymax, _, py = map(float, str(attributes["GeoTransform"]).split())
        wkt = attributes.get("crs_wkt")
        return Grid(xmin, ymax, px, -py, str(wkt) if wkt else None, self.scene.get("epsg"))

    def strips(self) -> Iterator[slice]:
        """Slices of ``STRIP_ROWS`` rows, from north to south."""
        return row_strips(self.shape[0])

    def labels(self, model: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """Clusters of one model (y, x), uint8; 255 is no-data, 254 is left out by ``--where``."""
        return np.asarray(self._map(CLUSTER.name)[self.model_names.index(model), rows, cols])

    def values(self, name: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """One index (y, x), float32; NaN is missing."""
        return np.asarray(self._map(INDICES.name)[self.index_names.index(name), rows, cols])

    def fractions(self, name: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """Fraction of a group or an endmember (y, x), float32; NaN is missing."""
        array = self._map(FRACTION.name)
        parts = [array[layer, rows, cols] for layer in self.fraction_layers(name)]
        return np.asarray(np.sum(parts, axis=0, dtype=np.float32))

    def unmixing_rmse(self, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """Residual of the fractions (y, x), float32 reflectance; NaN is missing."""
        return np.asarray(self._map(UNMIXING_RMSE.name)[rows, cols])

    # Facts from run.json and the models -----------------------------------------------

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
        """Contiguous ranges of good band centres in nm; None if not recorded."""
        return (self.run.get("bands") or {}).get("good_nm") or None

    @property
    def interpolated_nm(self) -> list[list[float]]:
        """First and last centre, nm, of each row of bands that were interpolated."""
        return (self.run.get("band_quality") or {}).get("interpolated_nm") or []

    @property
    def computed(self) -> list[JsonDict]:
        """Entries of run.json for the indices that were computed, in order."""
        return (self.run.get("indices") or {}).get("computed") or []

    @property
    def unmixing(self) -> JsonDict:
        """``unmixing`` of run.json: endmembers and mean fractions; empty without ``--unmix``."""
        return self.run.get("unmixing") or {}

    @property
    def conditions(self) -> list[str]:
        """Those of ``--where``: pixels that do not meet them have no cluster."""
        return (self.run.get("options") or {}).get("where") or []

    @property
    def n_not_clustered(self) -> int:
        """Valid pixels that do not meet the conditions, as far as clusters.json counts them."""
        counts = self.clusters.get("where") or {}
        return int(counts["valid"]) - int(counts["clustered"]) if counts else 0

    @property
    def n_bands(self) -> int | None:
        """Number of bands of the scene."""
        return (self.run.get("bands") or {}).get("n_bands") or self.scene.get("n_bands")

    @property
    def n_good(self) -> int | None:
        """Number of bands that were used for clustering."""
        return (self.run.get("bands") or {}).get("n_good") or self.scene.get("n_good_bands")

    @property
    def n_pixels(self) -> int | None:
        """Number of pixels of the area, valid or not."""
        total = (self.run.get("pixels") or {}).get("total")
        shape = self.area.get("shape")
        return total if total is not None else (shape[0] * shape[1] if shape else None)

    @property
    def models(self) -> list[str]:
        """Models with anything to show, in the order of the maps."""
        names = self.pyramid.models if self.pyramid else ()
        more = [*(self.clusters.get("models") or {}), *(self.model.get("models") or {})]
        return list(dict.fromkeys([*names, *more]))

    def cluster_entry(self, model: str) -> JsonDict:
        """What clusters.json says of one model; empty if it says nothing."""
        return (self.clusters.get("models") or {}).get(model) or {}

    def n_clusters(self, model: str) -> int:
        """Number of clusters of a model, from whichever file knows it."""
        if entry := self.cluster_entry(model):
            return len(entry["pixels"])
        if fitted := (self.model.get("models") or {}).get(model):
            return len(fitted["centers"])
        return int((self.run.get("options") or {}).get("clusters") or 0)

    @cached_property
    def _given_classes(self) -> dict[str, tuple[ClusterClass, ...]]:
        return read_classes(self.folder)

    @property
    def named_models(self) -> tuple[str, ...]:
        """Models whose clusters have names, colours or merges of the user."""
        return tuple(self._given_classes)

    def classes(self, model: str) -> tuple[ClusterClass, ...]:
        """Classes of a model by ascending number; without names each cluster is one.

        Raises ConfigError: classes.json is damaged, or names other clusters.
        """
        n = self.n_clusters(model)
        given = self._given_classes.get(model)
        if given is None:
            return plain_classes(n)
        check_classes(self.folder, model, given, n)
        return given

    def class_names(self, model: str) -> list[str]:
        """The name of the class of each cluster of a model, by label."""
        names = {k: one.name for one in self.classes(model) for k in one.clusters}
        return [names[k] for k in sorted(names)]

    def class_map(self, model: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """Numbers of classes of one model (y, x), uint8; 255 where there is no class.

        Without merges these are the labels.
        """
        return class_table(self.classes(model))[self.labels(model, rows, cols)]

    def hectares(self, pixels: float | None) -> float | None:
        """Area of a number of pixels; None if a pixel's size in metres is not known."""
        size = self.area.get("pixel_area_m2")
        return None if size is None or pixels is None else pixels * float(size) / 1e4

    @cached_property
    def crs(self) -> MapCrs:
        """Coordinate reference system of the maps."""
        wkt = None
        if self.store is not None and "spatial_ref" in self.store:
            attrs = self.store["spatial_ref"].attrs
            wkt = str(attrs.get("crs_wkt") or attrs.get("spatial_ref") or "") or None
        crs = describe_crs(self.scene.get("epsg"), wkt)
        rows, cols, *_ = self.scene.get("shape") or (0, 0)
        if crs.kind == "unknown" and self.scene.get("bounds") == [0.0, 0.0, cols, rows]:
            return replace(crs, n_rows=int(rows))
        return crs


def open_results(
    out: str | Path, *, complete: bool = False, overview: Path | None = None
) -> RunResults:
    """Open the folder ``out`` of a run.

    ``complete``: True: only a finished run will do, and a part that cannot be read is an error.
        False: take the run in whatever state it is.
    ``overview``: Store of the overviews; by default the one in the folder.

    Raises ConfigError: the folder holds no run; or, if ``complete``, its maps cannot be read;
    IncompleteRunError: the run is not finished, if ``complete``.
    """
    folder = RunFolder(Path(out))
    run = _read_run(folder) if is_readable_file(folder.run) else {}
    if not run:
        find_run_folder(out)
    found = RunResults(folder, run, overview or folder.overview, is_strict=complete)
    if not complete:
        return found
    if not run.get("complete"):
        command = str(run.get("command") or "")
        again = command if command.startswith("hyperhpc ") else "the command that started it"
        raise IncompleteRunError(
            f"The run in {out} is not finished", f"Resume it: {again.removesuffix(' --restart')}"
        )
    try:
        _ = found.grid, found.shape, found.index_names, found._map(INDICES.name)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{folder.results} cannot be read: {cause(error)}",
            f"See what is damaged: hyperhpc verify {shlex.quote(str(out))}",
        ) from None
    return found


def _read_run(folder: RunFolder) -> JsonDict:
    """Content of run.json.

    Raises ConfigError: it is not what a run writes; IncompleteRunError: it is damaged.
    """
    hint = "Give the folder that `hyperhpc run SCENE OUT` has written"
    try:
        run = read_json(folder.run)
    except BrokenSealError as error:
        raise IncompleteRunError(
            error.message,
            "Copy the folder of the run again, or compute it from the beginning (--restart)",
        ) from None
    except ConfigError as error:
        raise ConfigError(error.message, hint) from None
    if not (isinstance(run, dict) and "hyperhpc" in run):
        raise ConfigError(f"{folder.run} is not the record of a run of hyperhpc", hint)
    return run


def _read_part(folder: RunFolder, path: Path, what: str, kind: type[T]) -> _Part:
    if not path.is_file():
        return _Part(kind(), f"{path.name} ({what})")
    try:
        content = read_result(folder, path)
    except ConfigError as error:
        return _Part(kind(), f"{path.name} ({error.message})")
    if not isinstance(content, kind):
        return _Part(kind(), f"{path.name} (not what a run writes)")
    return _Part(content)


def _open_maps(path: Path, group: str | None = None) -> xr.Dataset:
    """A store of maps, lazy; labels stay integers, which xarray by itself makes floats with NaN."""
    import xarray as xr

    try:
        return xr.open_zarr(open_summed(path), group=group, mask_and_scale=False)
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{path} cannot be read: {cause(error)}",
            f"See what is damaged: hyperhpc verify {shlex.quote(str(path.parent))}",
        ) from None


def _open_group(path: Path, what: str) -> _Part:
    if not path.is_dir():
        return _Part(None, f"{path.name} ({what})")
    try:
        return _Part(zarr.open_group(open_summed(path), mode="r", zarr_format=2))
    except (OSError, KeyError, ValueError) as error:
        return _Part(None, f"{path.name} (cannot be opened: {error})")
