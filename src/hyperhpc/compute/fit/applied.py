"""A model of another run, applied to this scene: another year, another site.

Its clusters keep their numbers and colours, so that maps can be compared. Nothing is
fitted, so the scene is read once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.compute.fit.fitting import read_labellers
from hyperhpc.compute.fit.models import Labeller, nan_to_none
from hyperhpc.compute.selection import Selection, usable_centres_nm
from hyperhpc.config import MAX_CLUSTERS, MODELS
from hyperhpc.errors import ConfigError
from hyperhpc.reading import read_file
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.integrity import read_result
from hyperhpc.scene.cube import Scene
from hyperhpc.sealed import DamagedJsonError, write_sealed

#: The farthest a band of the scene may be from the model's, nm: half a band of NEON's.
TOLERANCE_NM = 2.5
#: What reading numbers raises where JSON holds something else.
_VALUE_ERRORS = (AttributeError, KeyError, OverflowError, TypeError, ValueError)


@dataclass(frozen=True)
class AppliedModel:
    """A model.json, with its bands in the order of this scene.

    ``digest``: SHA-256 of the file. ``model``: What model.json of the new run holds.
    ``spectra``: Spectra of the clusters of each model, in the scene it was fitted to.
    ``bands``: Positions of its bands in this scene, ascending.
    """

    digest: str
    model: dict[str, Any]
    spectra: dict[str, Any]
    bands: np.ndarray

    def select(self, selection: Selection) -> Selection:
        """A selection of the model's bands instead of those the run would have chosen."""
        return Selection((), self.bands, selection.is_window_band)

    def labellers(self, scene: Scene) -> list[Labeller]:
        """Labellers for the pixels of this scene."""
        is_integer = np.issubdtype(np.dtype(scene.dtype), np.integer)
        return read_labellers(self.model, scene.scale_factor, is_integer)

    def write(self, folder: RunFolder) -> None:
        """Write the model and its clusters' spectra to the files that a fit would write."""
        write_sealed(folder.cluster_spectra, self.spectra)
        folder.write_result(folder.model, self.model)


def read_applied(path: Path, names: Sequence[str], scene: Scene) -> AppliedModel:
    """Read those of the named models that ``path``, a model.json, has, for this scene.

    Raises ConfigError: if it is not such a file, holds none of the models, or one of its bands
    is more than 2.5 nm from every band of the scene; IncompleteRunError: it is not as its run has
    written it.
    """
    folder = RunFolder(path.resolve().parent)  # whose checksums lie there, if it is that of a run
    model = read_result(folder, path.resolve())
    try:
        wavelength_nm = _to_finite(model["wavelength_nm"], 1)
        n_bands = wavelength_nm.size
        mean, scale = (_to_finite(model[name], 1, n_bands) for name in ("mean", "scale"))
        wanted = {
            name: entry | {"centers": _to_finite(entry["centers"], 2, n_bands)}
            for name, entry in model["models"].items()
            if name in names and name in MODELS
        }
        most = max((len(entry["centers"]) for entry in wanted.values()), default=0)
        is_model = scale.min() > 0 and most <= MAX_CLUSTERS
    except _VALUE_ERRORS:
        is_model = False
    if not is_model:
        raise ConfigError(f"{path} is not a model of hyperhpc", "Give OUT/model.json of a run")
    if not wanted:
        raise ConfigError(
            f"{path} holds none of the models {', '.join(names)}; it holds "
            f"{', '.join(model['models']) or 'none'}",
            "A model of an --estimator cannot be applied: only its means are stored",
        )
    bands = _match_bands(wavelength_nm, usable_centres_nm(scene), path)
    order = np.argsort(bands)
    applied = {
        "wavelength_nm": wavelength_nm[order].tolist(),
        "mean": mean[order].tolist(),
        "scale": scale[order].tolist(),
        "n_pixels_fit": model.get("n_pixels_fit"),
        "models": {
            name: entry | {"centers": entry["centers"][:, order].tolist()}
            for name, entry in wanted.items()
        },
    }
    digest = hashlib.sha256(read_file(path)).hexdigest()
    return AppliedModel(digest, applied, _read_spectra(path, wanted, order), bands[order])


def _match_bands(model_nm: np.ndarray, scene_nm: np.ndarray, path: Path) -> np.ndarray:
    """Position of the nearest band of the scene for each band of the model."""
    hint = "fit a model to this scene: omit --apply-model"
    distances = np.abs(scene_nm[None, :] - model_nm[:, None])
    bands = distances.argmin(axis=1)
    nearest = distances[np.arange(len(bands)), bands]
    if nearest.max() > TOLERANCE_NM:
        worst = int(nearest.argmax())
        raise ConfigError(
            f"The band of {path} at {model_nm[worst]:.1f} nm is {nearest[worst]:.1f} nm from "
            f"the scene's nearest, {scene_nm[bands[worst]]:.1f} nm; {TOLERANCE_NM} nm are "
            "allowed",
            hint,
        )
    if len(np.unique(bands)) < len(bands):
        raise ConfigError(f"Two bands of {path} have the same nearest band in the scene", hint)
    return bands


def _to_finite(values: Any, ndim: int, n_bands: int | None = None) -> np.ndarray:
    """Finite float64 values, ``n_bands`` in the last dimension; else one of _VALUE_ERRORS."""
    found = np.array(values, dtype=float)
    if found.ndim != ndim or found.shape[-1] != (n_bands or found.shape[-1]) or not found.size:
        raise ValueError(f"shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError("not finite")
    return found


def _read_spectra(path: Path, models: dict[str, Any], order: np.ndarray) -> dict[str, Any]:
    """From clusters.json next to the model; without it the centres, with no deviations."""
    folder = RunFolder(path.resolve().parent)
    clusters = folder.clusters
    try:
        known = read_result(folder, clusters) if clusters.is_file() else {"models": {}}
        return {
            name: _select_spectra(known["models"].get(name), entry, order)
            for name, entry in models.items()
        }
    except (*_VALUE_ERRORS, DamagedJsonError):
        raise ConfigError(
            f"{path} and {clusters.name} next to it do not match, or one of them is damaged",
            f"Copy both again; without {clusters.name} only standard deviations are lost",
        ) from None


def _select_spectra(rows: Any, entry: dict[str, Any], order: np.ndarray) -> dict[str, Any]:
    centres, n_clusters = entry["centers"], len(entry["centers"])
    unknown = np.full(centres.shape, np.nan)
    rows = rows or {"mean": centres, "sd": unknown, "counts": entry["counts"], "nir": unknown[:, 0]}
    tables = {name: np.array(rows[name], dtype=float) for name in ("mean", "sd", "counts", "nir")}
    for name, table in tables.items():
        bands = (order.size,) if name in ("mean", "sd") else ()
        if table.shape != (n_clusters, *bands):
            raise ValueError(f"{name} of shape {table.shape}")
    return {
        "mean": nan_to_none(tables["mean"][:, order]),
        "sd": nan_to_none(tables["sd"][:, order]),
        "counts": [int(count) for count in tables["counts"]],
        "nir": nan_to_none(tables["nir"]),
    }
