"""A believable folder of a run, made without running anything.

Land in patches with a river, roads and a mosaic's ragged edge; every number in the JSON
files is counted from the arrays, so that tests can hold the report against them.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from pyproj import CRS

DROPPED = [[0.0, 400.0], [1340.0, 1445.0], [1790.0, 1955.0], [2450.0, None]]
WAVELENGTH = np.round(381.3 + 5.0073 * np.arange(426), 4)
INDICES: dict[str, dict[str, Any]] = {
    "ndvi": {
        "formula": "(R(858.6) - R(648.2)) / (R(858.6) + R(648.2))",
        "doi": "10.1016/0034-4257(79)90013-0",
        "citation": "Tucker C. J. (1979). Red and photographic infrared linear combinations "
        "for monitoring vegetation. Remote Sensing of Environment 8, 127-150.",
        "range": [-1.0, 1.0],
    },
    "cai": {
        "formula": "0.5 * (R(2000) + R(2200)) - R(2100)",
        "doi": "10.1016/S0034-4257(96)00120-2",
        "citation": "Daughtry C. S. T. (2001). Discriminating crop residues from soil.",
        "unit": "reflectance",
        "range": [-0.1, 0.1],
        "diverging": True,
    },
    "ndli": {
        "formula": "(ln(1 / R(1754)) - ln(1 / R(1680))) / (ln(1 / R(1754)) + ln(1 / R(1680)))",
        "doi": "10.1016/S0034-4257(02)00011-1",
        "range": [0.0, 0.1],
    },
    "mrendvi": {
        "formula": "(R(750) - R(705)) / (R(750) + R(705) - 2 * R(445))",
        "doi": "10.1016/S0034-4257(02)00010-X",
        "range": [-1.0, 1.0],
    },
    "sipi": {"formula": "(R(800) - R(445)) / (R(800) - R(680))", "range": [0.0, 2.0]},
    "ndni": {
        "formula": "(ln(1 / R(1510)) - ln(1 / R(1680))) / (ln(1 / R(1510)) + ln(1 / R(1680)))",
        "range": [0.0, 0.4],
    },
    "cri1": {"formula": "1 / R(510) - 1 / R(550)", "range": [0.0, 15.0]},
    "cri2": {"formula": "1 / R(510) - 1 / R(700)", "range": [0.0, 15.0]},
}
_PROPER = {"mrendvi": "mRENDVI"}


def write_case(
    out: Path,
    *,
    shape: tuple[int, int] = (90, 100),
    clusters: int = 8,
    models: tuple[str, ...] = ("lloyd", "minibatch"),
    points: int = 3,
    epsg: int | None = 32613,
    indices: tuple[str, ...] = tuple(INDICES),
    all_nan: tuple[str, ...] = (),
    levels: tuple[int, ...] = (1, 4, 16),
    complete: bool = True,
    pixel: float = 1.0,
    seed: int = 0,
) -> dict[str, Any]:
    """Write OUT as ``hyperhpc run`` leaves it; gives run.json's content."""
    rng = np.random.default_rng(seed)
    out.mkdir(parents=True, exist_ok=True)
    rows, cols = shape
    is_valid, kinds, green = _land(rng, shape)
    left, top = (515_000.0, 4_526_000.0) if epsg != 4326 else (-104.8, 40.9)
    bounds = [left, top - rows * pixel, left + cols * pixel, top]

    spectra_of_kinds = np.stack([_reflectance(WAVELENGTH, *kind) for kind in _KINDS])
    mixed = np.stack(
        [spectra_of_kinds[:, np.argmin(abs(WAVELENGTH - nm))] for nm in (660, 550, 470, 860)]
    )
    shade = 1 + 0.18 * green + 0.05 * rng.standard_normal(shape)
    quicklook = (mixed[:, kinds] * shade).astype(np.float32)
    quicklook[:, ~is_valid] = np.nan

    labels = {}
    order = np.argsort(mixed[3])  # by near infrared
    rank = np.empty(len(order), int)
    rank[order] = np.arange(len(order))
    for i, model in enumerate(models):
        fine = rank[kinds] * clusters / len(_KINDS) + 0.9 * (
            green + 0.35 * (i + 1) * rng.standard_normal(shape)
        )
        label = np.clip(np.round(fine), 0, clusters - 1).astype(np.uint8)
        label[~is_valid] = 255
        labels[model] = label
    cluster = np.stack(list(labels.values())) if labels else np.zeros((0, *shape), np.uint8)

    red, nir = quicklook[0], quicklook[3]
    ndvi = (nir - red) / (nir + red)
    index = np.empty((len(indices), *shape), np.float32)
    for i, name in enumerate(indices):
        low, high = {"ndvi": (0, 1), "cai": (-0.03, 0.05)}.get(name, (0.0, 3.0 * (i + 1)))
        noise = 0.06 * rng.standard_normal(shape)
        index[i] = ndvi if name == "ndvi" else low + (high - low) * (0.2 + 0.6 * ndvi + noise)
        index[i][rng.random(shape) < 0.002] = np.nan
        if name in all_nan:
            index[i] = np.nan

    _write_arrays(
        out, left, top, pixel, list(indices), list(models), index, cluster, quicklook, levels, epsg
    )
    run = _run_json(
        shape, clusters, models, indices, epsg, bounds, pixel, is_valid, complete, points
    )
    _dump(out / "run.json", run)
    _dump_models(out, clusters, labels, rng)
    spectra = []
    for i in range(points):
        row, col = (int(n) for n in rng.choice(np.argwhere(is_valid)))
        values = spectra_of_kinds[kinds[row, col]] * (1 + 0.01 * rng.standard_normal(426))
        reflectance = [round(float(v), 4) for v in values]
        if i == 1:
            reflectance[150:156] = [None] * 6
        spectra.append(
            {
                "x": left + (col + 0.5) * pixel,
                "y": top - (row + 0.5) * pixel,
                "row": row,
                "col": col,
                "wavelength_nm": WAVELENGTH.tolist(),
                "reflectance": reflectance,
            }
        )
    _dump(out / "spectra.json", spectra)
    return run


# (greenness, water, brightness, dryness) of meadow, wood, dry grass, soil, water, road, crop.
_KINDS = [
    (0.6, 0, 0.3, 0.3),
    (0.95, 0, 0.22, 0.1),
    (0.15, 0, 0.34, 0.9),
    (0.0, 0, 0.3, 0.5),
    (0.05, 1, 0.05, 0),
    (0.0, 0, 0.18, 0.1),
    (0.85, 0, 0.42, 0.1),
]


def _reflectance(nm: np.ndarray, green: float, water: float, bright: float, dry: float) -> Any:
    """Something with a red edge, chlorophyll and liquid-water absorption, and soil's slope."""
    edge = 1 / (1 + np.exp(-(nm - 715) / 14))
    soil = bright * (0.35 + 0.75 * (1 - np.exp(-(nm - 350) / 700)))
    leaf = 0.05 + 0.05 * np.exp(-(((nm - 555) / 35) ** 2)) + bright * 1.3 * edge
    for centre, width, depth in (
        (970, 40, 0.06),
        (1200, 50, 0.14),
        (1450, 90, 0.6),
        (1940, 110, 0.75),
        (2500, 260, 0.6),
    ):
        leaf = leaf * (1 - depth * np.exp(-(((nm - centre) / width) ** 2)))
    leaf = leaf * (1 - 0.55 * (nm > 1300) * (1 - np.exp(-(nm - 1300) / 500)))
    dead = soil * (1 - 0.16 * dry * np.exp(-(((nm - 2100) / 60) ** 2)))
    value = green * leaf + (1 - green) * dead
    return np.clip(value * np.where(water, np.exp(-(nm - 400) / 350) + 0.05, 1), 0.002, 1)


def _fractal(rng: np.random.Generator, shape: tuple[int, int], power: float) -> np.ndarray:
    fy, fx = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None]
    radius = np.hypot(fy, fx)
    radius[0, 0] = np.inf
    noise = rng.standard_normal(radius.shape) + 1j * rng.standard_normal(radius.shape)
    field = np.fft.irfft2(noise * radius**-power, shape)
    return (field - field.mean()) / (field.std() or 1)


def _land(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Any, Any, Any]:
    rows, cols = shape
    y, x = np.mgrid[0:rows, 0:cols].astype(float)
    height, wet, green = (_fractal(rng, shape, p) for p in (1.9, 1.7, 1.3))
    kinds = np.where(height > 0.4, 2, np.where(wet > 0.5, 1, 0))
    kinds[(height < -0.9) & (wet < 0)] = 3
    for _ in range(6):  # fields
        r, c = int(rng.integers(rows)), int(rng.integers(cols))
        kinds[r : r + rows // 6, c : c + cols // 7] = rng.choice([6, 3, 2, 1])
    bed = cols * (0.55 + 0.2 * np.sin(y / rows * 5)) + 0.02 * cols * height
    kinds[abs(x - bed) < 0.012 * cols] = 4
    kinds[abs(y - 0.37 * rows - 0.06 * x) < max(0.004 * rows, 0.5)] = 5
    if min(shape) < 30:
        return np.ones(shape, bool), kinds, green
    # Flight lines end at different places, and the strips lie at a slight angle.
    strip = ((x + 0.06 * y) / cols * 14).astype(int)
    start = 0.03 + 0.05 * rng.random(40)
    stop = 0.97 - 0.07 * rng.random(40)
    is_valid = (y > start[strip] * rows) & (y < stop[strip] * rows)
    is_valid &= (x > 0.03 * cols - 0.02 * y) & (x < 0.97 * cols + 0.02 * (y - rows))
    return is_valid, kinds, green


def _reduce(array: np.ndarray, k: int) -> np.ndarray:
    """Centre pixel of every block: what an overview holds is not what is tested here."""
    return array[..., k // 2 :: k, k // 2 :: k] if k > 1 else array


def _write_arrays(
    out: Path,
    left: float,
    top: float,
    pixel: float,
    index_names: list[str],
    model_names: list[str],
    index: Any,
    cluster: Any,
    quicklook: Any,
    levels: tuple[int, ...],
    epsg: int | None,
) -> None:
    results = zarr.open_group(out / "results.zarr", mode="w", zarr_format=2)
    _put_maps(results, left, top, pixel, 1, index_names, model_names, index, cluster)
    ref = results.create_array("spatial_ref", data=np.array(0, np.int64))
    ref.attrs["_ARRAY_DIMENSIONS"] = []
    ref.attrs["GeoTransform"] = f"{left} {pixel} 0 {top} 0 {-pixel}"
    if epsg is not None:
        ref.attrs["crs_wkt"] = CRS.from_epsg(epsg).to_wkt()
    overview = zarr.open_group(out / "overview.zarr", mode="w", zarr_format=2)
    overview.attrs.update(levels=list(levels), quicklook_wavelength_nm=[660.0, 550.0, 470.0, 860.0])
    for k in levels:
        if min(_reduce(cluster, k).shape[-2:]) == 0:
            continue
        group = overview.create_group(str(k))
        _put_maps(group, left, top, pixel, k, index_names, model_names, index, cluster)
        _put(group, "quicklook", _reduce(quicklook, k), ["color", "y", "x"], np.nan)


def _put_maps(
    group: Any,
    left: float,
    top: float,
    pixel: float,
    k: int,
    index_names: list[str],
    model_names: list[str],
    index: Any,
    cluster: Any,
) -> None:
    rows, cols = _reduce(cluster, k).shape[-2:]
    _put(group, "y", top - pixel * k * (np.arange(rows) + 0.5), ["y"], None)
    _put(group, "x", left + pixel * k * (np.arange(cols) + 0.5), ["x"], None)
    _put(group, "index", np.array(index_names or ["-"])[: len(index_names)], ["index"], None)
    _put(group, "model", np.array(model_names), ["model"], None)
    _put(group, "indices", _reduce(index, k), ["index", "y", "x"], np.nan)
    _put(group, "cluster", _reduce(cluster, k), ["model", "y", "x"], 255)


def _put(group: Any, name: str, data: Any, dims: list[str], fill: Any) -> None:
    if 0 in data.shape:
        return
    chunks = (1, *data.shape[1:]) if data.ndim == 3 else data.shape
    array = group.create_array(
        name, shape=data.shape, dtype=data.dtype, chunks=chunks, fill_value=fill
    )
    array[:] = data
    array.attrs["_ARRAY_DIMENSIONS"] = dims


def _run_json(
    shape: tuple[int, int],
    clusters: int,
    models: tuple[str, ...],
    indices: tuple[str, ...],
    epsg: int | None,
    bounds: list[float],
    pixel: float,
    is_valid: Any,
    complete: bool,
    points: int,
) -> dict[str, Any]:
    good = _good()
    n_good = sum(len(_between(a, b)) for a, b in good)
    total, valid = int(is_valid.size), int(is_valid.sum())
    computed = []
    for name in indices:
        entry = {
            "name": name,
            "title": _PROPER.get(name, name.upper()),
            "doi": None,
            "citation": None,
            "diverging": False,
            "note": None,
        } | INDICES[name]
        wanted = [float(w) for w in re.findall(r"R\(([\d.]+)\)", entry["formula"])]
        entry["bands"] = []
        for nm in dict.fromkeys(wanted):
            centre = float(WAVELENGTH[np.argmin(abs(WAVELENGTH - nm))])
            dropped = not any(a <= centre <= b for a, b in good)
            entry["bands"].append({"wanted_nm": nm, "centre_nm": centre, "dropped": dropped})
        computed.append(entry)
    return {
        "hyperhpc": "0.1.0",
        "complete": complete,
        "command": "hyperhpc run NEON_CPER_2017_mosaic.zarr out --clusters 8",
        "created": "2025-03-04T10:11:12+00:00",
        "scene": {
            "path": "/data/NEON_CPER_2017_mosaic.zarr",
            "format": "zarr v2",
            "shape": [*shape, 426],
            "dtype": "int16",
            "scale_factor": 10000.0,
            "nodata": [-9999.0, -100.0],
            "epsg": epsg,
            "bounds": bounds,
            "wavelength_nm": [float(WAVELENGTH[0]), float(WAVELENGTH[-1])],
            "bad_band_windows_nm": [[1340, 1445], [1790, 1955]],
            "n_bands": 426,
            "n_good_bands": n_good,
            "notes": ["the fill value 15000 of the water bands was not declared"],
        },
        "area": {
            "bounds": bounds,
            "shape": list(shape),
            "row0": 0,
            "col0": 0,
            "pixel_area_m2": None if epsg is None else pixel**2,
        },
        "options": {
            "clusters": clusters,
            "stride": 4,
            "models": list(models),
            "indices": ["all"],
            "seed": 0,
            "engine": "hyperhpc",
            "estimator": None,
            "seed_compat": False,
            "drop_windows_nm": DROPPED,
        },
        "bands": {
            "n_bands": 426,
            "n_good": int(sum(((a <= WAVELENGTH) & (b >= WAVELENGTH)).sum() for a, b in good)),
            "dropped_windows_nm": DROPPED,
            "good_nm": good,
        },
        "indices": {
            "computed": computed,
            "skipped": [
                {"name": "pri", "why": "the band nearest to 531.0 nm lies 7.2 nm away (limit 5 nm)"}
            ],
        },
        "pixels": {"total": total, "valid": valid, "nodata": total - valid},
        "stages": [
            {
                "name": "sample",
                "seconds": 3.21,
                "bytes_read": total * 852,
                "bytes_written": total * 42,
                "tiles": 4,
                "tiles_resumed": 0,
            },
            {
                "name": "fit",
                "seconds": 1.734,
                "bytes_read": total * 42,
                "bytes_written": 20_000,
                "tiles": 0,
                "tiles_resumed": 0,
            },
            {
                "name": "classify",
                "seconds": 4.02,
                "bytes_read": total * 852,
                "bytes_written": total * 34,
                "tiles": 4,
                "tiles_resumed": 1,
            },
        ],
        "peak_memory_mib": {"client": 412.5, "worker-1": 1033.2, "worker-2": 998.0},
        "machine": {"cpu": "16 x86-64 cores", "memory": "64 GiB", "system": "Linux 6.1"},
        "versions": {
            "python": "3.11.9",
            "numpy": "2.4.6",
            "dask": "2026.8.0",
            "scikit-learn": "1.9.1",
            "xarray": "2026.9.0",
            "zarr": "3.1.6",
        },
        "choices": [
            "Bands in 1340-1445 and 1790-1955 nm are dropped: the file names these windows.",
            "Pixels that hold -9999 in a kept band are no data.",
        ],
        "warnings": [],
    }


def _between(low: float, high: float) -> Any:
    return np.flatnonzero((low <= WAVELENGTH) & (high >= WAVELENGTH))


def _good() -> list[list[float]]:
    is_good = np.ones(len(WAVELENGTH), bool)
    for low, high in DROPPED:
        is_good[_between(low, np.inf if high is None else high)] = False
    edges = np.flatnonzero(np.diff(np.r_[0, is_good.astype(int), 0]))
    return [[float(WAVELENGTH[a]), float(WAVELENGTH[b - 1])] for a, b in edges.reshape(-1, 2)]


def _dump_models(out: Path, n: int, labels: dict[str, Any], rng: np.random.Generator) -> None:
    good = np.concatenate([_between(a, b) for a, b in _good()])
    nm = WAVELENGTH[good]
    model: dict[str, Any] = {"wavelength_nm": nm.tolist(), "models": {}}
    clusters: dict[str, Any] = {"models": {}, "agreement": []}
    for name, label in labels.items():
        t = np.linspace(0, 1, n)
        means = np.stack(
            [
                _reflectance(
                    nm,
                    0.1 + 0.8 * abs(np.sin(7 * a)),
                    float(k == 0 and n > 1),
                    0.08 + 0.34 * a,
                    0.6 * (1 - a),
                )
                for k, a in enumerate(t)
            ]
        )
        sds = means * (0.06 + 0.1 * rng.random((n, 1)))
        pixels = np.bincount(label[label != 255], minlength=n)[:n]
        counts = np.bincount(label[::4, ::4][label[::4, ::4] != 255], minlength=n)[:n]
        nir = means[:, (nm >= 780) & (nm <= 900)].mean(1)
        model["models"][name] = {
            "centers": means.tolist(),
            "inertia": 123456.789,
            "n_iter": 23,
            "counts": counts.tolist(),
        }
        model["mean"], model["scale"] = means.mean(0).tolist(), (means.std(0) + 1e-3).tolist()
        model["n_pixels_fit"] = int(counts.sum())
        clusters["models"][name] = {
            "mean": means.tolist(),
            "sd": sds.tolist(),
            "counts": counts.tolist(),
            "pixels": pixels.tolist(),
            "nir": nir.tolist(),
        }
    names = list(labels)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            both = (labels[a] != 255) & (labels[b] != 255)
            table = np.zeros((n, n), int)
            np.add.at(table, (labels[a][both], labels[b][both]), 1)
            clusters["agreement"].append(
                {"models": [a, b], "adjusted_rand_index": 0.734, "confusion": table.tolist()}
            )
    _dump(out / "model.json", model)
    _dump(out / "clusters.json", clusters)


def _dump(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, allow_nan=False), encoding="utf-8")
