"""A run's folder, read for drawing: the JSON files whole, the Zarr stores a window at a time.

Everything except ``run.json`` may be missing or cut short, because a report of an
unfinished run is wanted too. What is not there is listed in ``Outputs.missing`` in words.
"""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import zarr

from hyperhpc.errors import ConfigError, IncompleteRunError, cause
from hyperhpc.rundir.folder import RunFolder, out_of, read_json
from hyperhpc.rundir.integrity import open_summed
from hyperhpc.scene.cube import Grid
from hyperhpc.scene.georef import MapCrs, describe_crs
from hyperhpc.schema import CLUSTER, INDICES

# Reduced maps from ``overview.zarr``, at the size a picture can show.

#: Longest side, in pixels, of an array handed to a drawing.
TARGET = 1300
# A level with a longer side below this is too coarse if there is a finer one.
_COARSE = 1000
# Mode by counting costs one pass per cluster; beyond this the nearest pixel is taken.
_MODE_CLUSTERS = 32

Extent = tuple[float, float, float, float]
FloatMap = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Overview:
    """The pyramid a run writes beside its results.

    Parameters
    ----------
    group
        Store with one group per level.
    levels
        Reduction factors, finest first.
    indices, models
        Names along the first dimension of ``indices`` and ``cluster``.
    """

    group: zarr.Group
    levels: tuple[int, ...]
    indices: tuple[str, ...]
    models: tuple[str, ...]
    bounds: Extent | None
    quicklook_nm: tuple[float, ...]

    @classmethod
    def of(cls, group: zarr.Group, run: dict[str, Any]) -> Overview | None:
        """The pyramid in a store, or None if it holds no level with coordinates."""
        levels = sorted(int(k) for k in group.group_keys() if k.isdigit())
        levels = [n for n in levels if f"{n}/x" in group and f"{n}/y" in group]
        if not levels:
            return None
        # Names come from the store, whose order they describe; run.json is the second source.
        level = group[str(levels[0])]
        assert isinstance(level, zarr.Group)
        asked = [str(i.get("name")) for i in (run.get("indices") or {}).get("computed") or []]
        indices = _names(level, "index", "indices", asked)
        models = _names(
            level, "model", "cluster", (run.get("options") or {}).get("models") or []
        )
        bounds = (run.get("area") or {}).get("bounds")
        wavelengths: Any = group.attrs.get("quicklook_wavelength_nm") or ()
        return cls(
            group,
            tuple(levels),
            tuple(indices),
            tuple(models),
            tuple(bounds) if bounds else None,
            tuple(float(w) for w in wavelengths if w is not None),
        )

    def names(self, kind: str) -> list[str]:
        """Names along the first dimension of ``indices`` or ``cluster``."""
        return list(self.indices if kind == "indices" else self.models)

    def _array(self, level: int, name: str) -> zarr.Array[Any] | None:
        group = self.group[str(level)]
        assert isinstance(group, zarr.Group)
        array = group.get(name)
        return array if isinstance(array, zarr.Array) else None

    def shape(self, level: int) -> tuple[int, int]:
        """Rows and columns of a level."""
        y, x = self._centres[level]
        return len(y), len(x)

    @cached_property
    def _centres(self) -> dict[int, tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        found = {}
        for level in self.levels:
            y, x = self._array(level, "y"), self._array(level, "x")
            assert y is not None
            assert x is not None
            found[level] = np.asarray(y[:]), np.asarray(x[:])
        return found

    @cached_property
    def level(self) -> int:
        """The level to draw whole maps from: coarsest that still fills a picture."""
        fine = [n for n in self.levels if max(self.shape(n)) >= _COARSE]
        return fine[-1] if fine else self.levels[0]

    def extent(self, level: int) -> Extent:
        """Outer pixel edges (left, right, bottom, top) of a level's whole array."""
        rows, cols = self.shape(level)
        return self._extent(level, rows, cols)

    def drawn_extent(self, drawn: npt.NDArray[Any]) -> Extent:
        """Outer edges of an array reduced for drawing, whose last blocks may stick out."""
        k = _factor(self.shape(self.level))
        return self._extent(self.level, drawn.shape[0] * k, drawn.shape[1] * k)

    def _extent(self, level: int, rows: int, cols: int) -> Extent:
        y, x = self._centres[level]
        left, right = _edges(x[:2], cols, self.bounds and self.bounds[::2], level)
        # A north-up map falls from its first row, so the second bound comes first.
        known = self.bounds and (self.bounds[3], self.bounds[1])
        top, bottom = _edges(y[:2], rows, known, level)
        return left, right, bottom, top

    def quicklook(self, colours: Sequence[int], level: int | None = None) -> FloatMap | None:
        """Reflectance of some of red, green, blue, nir as (y, x, colour); NaN is no-data."""
        level = level or self.level
        array = self._array(level, "quicklook")
        if array is None or array.shape[0] <= max(colours):
            return None
        return np.stack([_mean(np.asarray(array[c])) for c in colours], axis=-1)

    def index(self, name: str) -> FloatMap | None:
        """One index as stored at the drawing level, not reduced further; NaN is missing."""
        array = self._array(self.level, "indices")
        if array is None or name not in self.indices:
            return None
        return np.asarray(array[self.indices.index(name)], dtype=np.float32)

    def cluster(self, model: str, n_clusters: int) -> npt.NDArray[np.uint8] | None:
        """Labels of one model (y, x); 255 is no cluster. Reduced by the most frequent label."""
        array = self._array(self.level, "cluster")
        if array is None or model not in self.models:
            return None
        labels = np.asarray(array[self.models.index(model)], dtype=np.uint8)
        return _mode(labels, n_clusters)

    def window(self, level: int, rows: slice, cols: slice) -> FloatMap | None:
        """Red, green, blue of a small window of one level as (y, x, colour)."""
        array = self._array(level, "quicklook")
        if array is None or array.shape[0] < 3:
            return None
        return np.moveaxis(np.asarray(array[0:3, rows, cols], dtype=np.float32), 0, -1)


def reduce_mean(values: FloatMap) -> FloatMap:
    """Mean of whole blocks so that the longer side is at most ``TARGET``; NaN is left out."""
    return _mean(values)


def _names(level: zarr.Group, coord: str, array: str, known: Sequence[str]) -> list[str]:
    if array not in level:
        return []
    data = level[array]
    assert isinstance(data, zarr.Array)
    stored = level.get(coord)
    names = [str(n) for n in np.asarray(stored[:])] if isinstance(stored, zarr.Array) else []
    for candidate in (names, [str(n) for n in known]):
        if len(candidate) == data.shape[0]:
            return candidate
    return [f"{coord} {i + 1}" for i in range(data.shape[0])]


def _edges(
    centres: npt.NDArray[Any], n: int, known: Sequence[float] | None, level: int
) -> tuple[float, float]:
    if len(centres) > 1:
        step = float(centres[1] - centres[0])
        first = float(centres[0]) - step / 2
        return first, first + n * step
    if known:  # one pixel only: its size is not in its centre
        return float(known[0]), float(known[1])
    return float(centres[0]) - level / 2, float(centres[0]) + level / 2


def _factor(shape: tuple[int, ...]) -> int:
    return -(-max(shape[:2]) // TARGET)


def _blocks(values: npt.NDArray[Any], k: int, fill: float) -> npt.NDArray[Any]:
    """View of (rows, k, cols, k) blocks, the last ones filled up."""
    rows, cols = (-(-n // k) * k for n in values.shape)
    if (rows, cols) != values.shape:
        pad = ((0, rows - values.shape[0]), (0, cols - values.shape[1]))
        values = np.pad(values, pad, constant_values=fill)
    return values.reshape(rows // k, k, cols // k, k)


def _mean(values: npt.NDArray[Any]) -> FloatMap:
    k = _factor(values.shape)
    values = values.astype(np.float32, copy=False)
    if k == 1:
        return values
    blocks = _blocks(values, k, np.nan)
    total = np.zeros((blocks.shape[0], blocks.shape[2]), np.float32)
    count = np.zeros_like(total)
    for i, j in itertools.product(range(k), repeat=2):  # strided passes beat a 4-d nanmean
        part = blocks[:, i, :, j]
        is_valid = np.isfinite(part)
        total += np.where(is_valid, part, 0)
        count += is_valid
    total[count == 0] = np.nan
    return np.divide(total, count, out=total, where=count > 0)


def _mode(labels: npt.NDArray[np.uint8], n_clusters: int) -> npt.NDArray[np.uint8]:
    k = _factor(labels.shape)
    if k == 1:
        return labels
    if n_clusters > _MODE_CLUSTERS:
        return np.ascontiguousarray(labels[k // 2 :: k, k // 2 :: k])
    blocks = _blocks(labels, k, 255)
    best = np.full((blocks.shape[0], blocks.shape[2]), 255, np.uint8)
    most = np.zeros(best.shape, np.uint16)
    for label in (255, *range(n_clusters)):  # a tie between data and no-data shows data
        count = np.zeros(best.shape, np.uint16)
        for i, j in itertools.product(range(k), repeat=2):  # as in _mean
            count += blocks[:, i, :, j] == label
        is_more = count >= most if label == 0 else count > most
        np.copyto(best, np.uint8(label), where=is_more & (count > 0))
        np.maximum(most, count, out=most)
    return best


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


# The full-resolution maps of a finished run, read a window at a time.

#: Rows that are read at once: a whole number of the blocks of a GeoTIFF.
STRIP = 512


@dataclass(frozen=True, eq=False)
class Maps:
    """What a finished run holds.

    Attributes
    ----------
    folder
        Where it lies.
    run
        run.json.
    grid
        Georeference of the maps.
    models, indices
        Names along the first dimension of ``cluster`` and ``indices``.
    cluster, index
        These arrays (name, y, x), lazy.
    """

    folder: RunFolder
    run: dict[str, Any]
    grid: Grid
    models: tuple[str, ...]
    indices: tuple[str, ...]
    cluster: Any
    index: Any

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.cluster.shape[1:]

    def strips(self) -> Iterator[slice]:
        """Rows from north to south, so many at a time as memory should hold."""
        height = self.shape[0]
        for row in range(0, height, STRIP):
            yield slice(row, min(row + STRIP, height))

    def labels(self, model: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """Clusters of one model (y, x), uint8; 255 is no-data."""
        return np.asarray(self.cluster[self.models.index(model), rows, cols])

    def values(self, name: str, rows: slice, cols: slice = slice(None)) -> np.ndarray:
        """One index (y, x), float32; NaN is missing."""
        return np.asarray(self.index[self.indices.index(name), rows, cols])

    def n_clusters(self, model: str) -> int:
        """Number of clusters of a model."""
        return len(read_json(self.folder.clusters)["models"][model]["pixels"])


def open_maps(out: Path) -> Maps:
    """Open the results of a finished run.

    Raises
    ------
    ConfigError
        There is no run, or its results cannot be read.
    IncompleteRunError
        It has not come to its end.
    """
    folder = out_of(out)
    run = read_json(folder.run) if folder.run.exists() else {}
    if not run.get("complete"):
        command = str(run.get("command") or "")
        again = command if command.startswith("hyperhpc ") else "the command it was started by"
        raise IncompleteRunError(
            f"the run in {out} has not come to its end",
            f"go on with it: {again.removesuffix(' --restart')}",
        )
    try:
        group: Any = zarr.open_group(open_summed(folder.results), mode="r", zarr_format=2)
        names = {name: tuple(map(str, group[name][:])) for name in ("model", "index")}
        grid = _grid_of(group, run)
        return Maps(
            folder, run, grid, names["model"], names["index"],
            group[CLUSTER.name], group[INDICES.name],
        )  # fmt: skip
    except (OSError, KeyError, ValueError) as error:
        raise ConfigError(
            f"{folder.results} cannot be read: {cause(error)}",
            f"see what is damaged: hyperhpc verify {shlex.quote(str(out))}",
        ) from None


def _grid_of(group: Any, run: dict[str, Any]) -> Grid:
    """As :func:`hyperhpc.scene.georef.grid_mapping_attributes` has written it."""
    attributes = group["spatial_ref"].attrs
    xmin, px, _, ymax, _, py = map(float, str(attributes["GeoTransform"]).split())
    wkt = attributes.get("crs_wkt")
    return Grid(xmin, ymax, px, -py, str(wkt) if wkt else None, run["scene"].get("epsg"))
