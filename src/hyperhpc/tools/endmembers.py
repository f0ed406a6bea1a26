"""Endmembers of a scene, found among its pixels: ``hyperhpc endmembers``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.cover import suggest_cover
from hyperhpc.analysis.indices import choose_indices, compute_indices
from hyperhpc.analysis.unmixing.endmembers import find_atgp, find_nfindr
from hyperhpc.analysis.unmixing.fractions import MAX_ENDMEMBERS, measure_dependence
from hyperhpc.compute.sample import Sample
from hyperhpc.compute.selection import reflectance_converter, usable_centres_nm
from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene.cube import Scene
from hyperhpc.scratch import scratch_folder
from hyperhpc.tools.csv_table import band_columns, write_table
from hyperhpc.tools.sampled import SampledScene, read_sample

#: How endmembers are found; the first is the default.
METHODS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "nfindr": find_nfindr,
    "atgp": find_atgp,
}
#: The most pixels that are searched, in memory as float64.
MAX_PIXELS = 50_000


def find_endmembers(
    sampled: SampledScene, count: int, method: str, progress: Progress
) -> dict[str, Any]:
    """Find ``count`` endmembers among the valid pixels that are looked at.

    ``method``: One of :data:`METHODS`.

    Returns: the keys of ``hyperhpc endmembers --json``.
    Raises ConfigError: more endmembers are asked for than there are bands, or than differ.
    """
    bands, scene = sampled.bands, sampled.scene
    if not 2 <= count <= min(MAX_ENDMEMBERS, len(bands)):
        raise ConfigError(
            f"{count} endmembers are asked for; 2 to {min(MAX_ENDMEMBERS, len(bands))} are "
            f"possible in {len(bands)} bands",
            "Give another --count",
        )
    with scratch_folder() as scratch:
        sample = read_sample(sampled, Path(scratch), progress)
        dn, places = _read_pixels(sample)
    with progress.stage("looking for endmembers", 1, "search"):
        found = METHODS[method](dn / scene.scale_factor, count) if len(dn) else np.empty(0, int)
        progress.advance(1)
    if len(found) < count:
        raise ConfigError(
            f"{len(dn)} valid pixels of {scene.path} hold {len(found)} endmembers, and {count} are "
            "asked for: all other spectra are combinations of these",
            f"Give --count {len(found)}" if len(found) > 1 else "Give a larger area",
        )
    spectra = dn[found] / scene.scale_factor
    rows, cols = np.divmod(places[found], sample.mask.shape[1])
    area, stride = sampled.plan.area, sampled.stride
    rows, cols = area.row0 + rows * stride, area.col0 + cols * stride
    return {
        "scene": scene.path,
        "method": method,
        "stride": stride,
        "pixels": len(dn),
        "condition": measure_dependence(spectra).condition,
        "wavelength_nm": scene.wavelength_nm[bands].tolist(),
        "endmembers": [
            _describe(scene, number, int(row), int(col), spectrum)
            for number, (row, col, spectrum) in enumerate(zip(rows, cols, spectra, strict=True), 1)
        ],
    }


def _read_pixels(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """DN (pixel, band) of the valid pixels of a sample, and their positions in its grid.

    Of more than :data:`MAX_PIXELS` every second is taken, or every third, and so on. Pixels
    that are zero in all bands are no material, and are left out.
    """
    positions = np.flatnonzero(sample.is_valid())
    positions = positions[:: max(1, -(-positions.size // MAX_PIXELS))]
    is_taken = np.zeros(sample.n_pixels, dtype=bool)
    is_taken[positions] = True
    width = sample.mask.shape[1]
    rows = range(0, sample.n_pixels, width)
    parts = [sample.values.read_pixels(i, i + width)[is_taken[i : i + width]] for i in rows]
    dn = np.concatenate(parts)
    has_light = dn.any(axis=1)
    return dn[has_light], positions[has_light]


def _describe(
    scene: Scene, number: int, row: int, col: int, spectrum: np.ndarray
) -> dict[str, Any]:
    """One endmember: where it is, what it may be, and its spectrum in the good bands."""
    dn = scene.read(slice(row, row + 1), slice(col, col + 1))[0]
    everything, centres = reflectance_converter(scene)(dn), usable_centres_nm(scene)
    try:
        index = choose_indices(["ndvi"], {}, centres)[0]
        ndvi = float(compute_indices(dn, index, scale_factor=scene.scale_factor).values[0, 0])
    except ConfigError:  # no red or near-infrared band
        ndvi = np.nan
    return {
        "name": f"endmember-{number}",
        "x": float(scene.grid.x_centres(col, col + 1)[0]),
        "y": float(scene.grid.y_centres(row, row + 1)[0]),
        "row": row,
        "col": col,
        "ndvi": None if np.isnan(ndvi) else ndvi,
        "brightness": float(spectrum.mean()),
        "suggestion": suggest_cover(centres, everything)[0],
        "reflectance": spectrum.tolist(),
    }


def write_endmembers(found: dict[str, Any], dest: Path) -> None:
    """Write one row per endmember as CSV: name, group, place, reflectance in each good band.

    Raises ConfigError: the file exists already; ResourceError: it cannot be written.
    """
    head = ["name", "group", "x", "y", "row", "col", *band_columns("nm", found["wavelength_nm"])]
    places = ("x", "y", "row", "col")
    with atomic_outputs(dest) as folder:
        rows = [
            [entry["name"], "", *(entry[place] for place in places), *entry["reflectance"]]
            for entry in found["endmembers"]
        ]
        write_table(folder / dest.name, head, rows)
