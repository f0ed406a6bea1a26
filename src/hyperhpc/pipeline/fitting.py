"""From the sample to model.json: every model fitted, numbered and measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import nir_bands
from hyperhpc.analysis.kernel import ClusterSums, Scaler
from hyperhpc.analysis.kmeans import ClusterMoments, inertia_of, order_by_nir
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.fit import (
    STARTS,
    SampleOnWorkers,
    fit_dask_ml,
    fit_lloyd,
    load_subsample,
    measure_model,
    measure_scaler,
    squares_about,
    write_subsample,
)
from hyperhpc.pipeline.incremental import fit_estimator, fit_minibatch
from hyperhpc.pipeline.manifest import RunFolder, read_json, write_json
from hyperhpc.pipeline.models import Labeller, load_estimator, own_labels
from hyperhpc.pipeline.progress import Progress


@dataclass(frozen=True)
class FitJob:
    """What the fits need to know.

    Attributes
    ----------
    wavelength_nm
        Centres of the good bands.
    scale_factor
        Divisor from DN to reflectance.
    """

    config: RunConfig
    data: SampleOnWorkers
    folder: RunFolder
    wavelength_nm: np.ndarray
    scale_factor: float

    @property
    def subsample(self) -> Path:
        """The pixels starts are tried on."""
        return self.folder.work / "subsample.npy"

    @property
    def spectra(self) -> Path:
        """Mean and standard deviation of the clusters, kept for clusters.json."""
        return self.folder.work / "cluster-spectra.json"

    @property
    def is_integer(self) -> bool:
        """True if DN are integers."""
        return np.issubdtype(np.dtype(self.data.sample.values.dtype), np.integer)


def model_names(config: RunConfig) -> list[str]:
    """Names of the models of a run, in their order."""
    own = [config.estimator.partition(":")[2]] if config.estimator else []
    return [*config.models, *own]


def fit_models(job: FitJob, progress: Progress) -> list[Labeller]:
    """Fit what model.json does not hold yet, write it, and return the labellers.

    Raises
    ------
    ConfigError
        If there are fewer valid sampled pixels than clusters.
    """
    config = job.config
    is_fitted = job.folder.model.exists() and job.spectra.exists()
    if is_fitted and not config.estimator:
        return read_labellers(read_json(job.folder.model), job.scale_factor, job.is_integer)
    _check_sample(job)
    with progress.stage("scaling the sample"):
        scaler, moments, reference = measure_scaler(job.data, job.scale_factor)
        scaler = _as_stored(scaler, job.scale_factor)
        squares = squares_about(moments, reference, scaler.offset)
        job.data.workers.client.submit(
            write_subsample, job.data.sample, config.seed, job.subsample, pure=False
        ).result()
    fitted: dict[str, tuple[Labeller, dict[str, Any], ClusterMoments]] = {}
    for name in model_names(config):
        with progress.stage(f"fitting {name}", STARTS if name == "lloyd" else None, "steps"):
            labeller, n_iter = _fit_one(job, name, scaler, squares, progress)
            moment = measure_model(job.data, labeller, scaler)
        labeller, moment = _renumber(job, labeller, moment, scaler)
        fitted[name] = labeller, _describe(job, labeller, moment, squares, n_iter), moment
    write_json(
        job.spectra, {name: _spectra(job, m, scaler) for name, (_, _, m) in fitted.items()}
    )
    write_json(
        job.folder.model,
        {
            "wavelength_nm": job.wavelength_nm.tolist(),
            "mean": (scaler.mean / job.scale_factor).tolist(),
            "scale": (scaler.scale / job.scale_factor).tolist(),
            "n_pixels_fit": moments.count,
            "models": {name: entry for name, (_, entry, _) in fitted.items()},
        },
    )
    return [labeller for labeller, _, _ in fitted.values()]


def read_labellers(
    model: dict[str, Any], scale_factor: float, is_integer: bool
) -> list[Labeller]:
    """Labellers of the models of nearest centres in model.json."""
    scaler = Scaler(
        np.array(model["mean"]) * scale_factor,
        np.array(model["scale"]) * scale_factor,
        is_integer,
    )
    return [
        Labeller(scaler, len(entry["centers"]), np.array(entry["centers"]) * scale_factor)
        for entry in model["models"].values()
    ]


def _as_stored(scaler: Scaler, scale_factor: float) -> Scaler:
    """The scaling as it comes back from model.json: what is stored is what is used."""
    return Scaler(
        scaler.mean / scale_factor * scale_factor,
        scaler.scale / scale_factor * scale_factor,
        scaler.is_integer,
    )


def _check_sample(job: FitJob) -> None:
    n_valid = int(job.data.sample.is_valid().sum())
    if n_valid < job.config.clusters:
        raise ConfigError(
            f"{n_valid} valid sampled pixels are fewer than {job.config.clusters} clusters",
            "give a smaller --stride or fewer --clusters",
        )


def _fit_one(
    job: FitJob, name: str, scaler: Scaler, squares: np.ndarray, progress: Progress
) -> tuple[Labeller, int | None]:
    """A fitted model, its clusters numbered as they came, and its iterations."""
    config, data, k = job.config, job.data, job.config.clusters
    n_iter: int | None
    if name == "lloyd" and config.engine == "dask-ml":
        centres, n_iter = fit_dask_ml(data, k, scaler, config.seed)
    elif name == "lloyd":
        fit = fit_lloyd(data, job.subsample, k, scaler, squares, config.seed, progress)
        centres, n_iter = fit.centres, fit.n_iter
    elif name == "minibatch":
        centres, n_iter = fit_minibatch(data, job.subsample, k, scaler, config.seed)
    else:
        estimator = load_estimator(str(config.estimator), k, config.seed)
        estimator = fit_estimator(data, estimator, job.subsample, scaler, config.seed)
        seen = data.workers.client.submit(
            _seen_labels, estimator, job.subsample, scaler, pure=False
        ).result()
        n = own_labels(estimator, seen)
        numbers = np.arange(n, dtype=np.uint8)
        n_iter = getattr(estimator, "n_iter_", None)
        n_iter = int(n_iter) if isinstance(n_iter, int | np.integer) else None
        return Labeller(scaler, n, estimator=estimator, numbers=numbers), n_iter
    return Labeller(scaler, len(centres), centres), n_iter


def _seen_labels(estimator: Any, subsample: Path, scaler: Scaler) -> np.ndarray:
    """On a worker: the labels an estimator gives on the subsample."""
    dn = load_subsample(subsample)
    parts = [
        np.unique(estimator.predict(scaler.transform(dn[start : start + 16384])))
        for start in range(0, len(dn), 16384)
    ]
    return np.unique(np.concatenate(parts))


def _renumber(
    job: FitJob, labeller: Labeller, moments: ClusterMoments, scaler: Scaler
) -> tuple[Labeller, ClusterMoments]:
    """Number the clusters by ascending near-infrared reflectance of their centres."""
    if labeller.centres is None:
        order = order_by_nir(_means(moments, scaler), job.wavelength_nm)
        numbers = np.empty(len(order), dtype=np.uint8)
        numbers[order] = np.arange(len(order), dtype=np.uint8)
        numbered = Labeller(scaler, len(order), estimator=labeller.estimator, numbers=numbers)
        return numbered, ClusterMoments(
            moments.counts[order], moments.sums[order], moments.squares[order]
        )
    order = order_by_nir(labeller.centres, job.wavelength_nm)
    centres = labeller.centres[order] / job.scale_factor * job.scale_factor
    numbered = Labeller(scaler, len(order), centres)
    # Measured again: a tie goes to the lower number, and that has changed
    return numbered, measure_model(job.data, numbered, scaler)


def _means(moments: ClusterMoments, scaler: Scaler) -> np.ndarray:
    """Mean DN (cluster, band); NaN for a cluster without pixels."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return scaler.offset + moments.sums / moments.counts[:, None]


def _describe(
    job: FitJob,
    labeller: Labeller,
    moments: ClusterMoments,
    squares: np.ndarray,
    n_iter: int | None,
) -> dict[str, Any]:
    """Entry of one model in model.json."""
    scaler = labeller.scaler
    centres = labeller.centres
    if centres is None:  # an estimator without centres is described by its means
        means = _means(moments, scaler)
        centres = np.where(np.isnan(means), scaler.mean, means)
    sums = ClusterSums(moments.counts, moments.sums)
    return {
        "centers": (centres / job.scale_factor).tolist(),
        "inertia": inertia_of(sums, squares, centres, scaler),
        "n_iter": n_iter,
        "counts": moments.counts.tolist(),
    }


def _spectra(job: FitJob, moments: ClusterMoments, scaler: Scaler) -> dict[str, Any]:
    """Mean and population standard deviation of each cluster; null where it is empty."""
    mean = _means(moments, scaler)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = moments.sums / moments.counts[:, None]
        variance = moments.squares / moments.counts[:, None] - spread**2
    sd = np.sqrt(np.maximum(variance, 0.0))
    nir = mean[:, nir_bands(job.wavelength_nm)].mean(axis=1)
    return {
        "mean": _or_null(mean / job.scale_factor),
        "sd": _or_null(sd / job.scale_factor),
        "counts": moments.counts.tolist(),
        "nir": _or_null(nir / job.scale_factor),
    }


def _or_null(values: np.ndarray) -> list[Any]:
    """Nested lists with null for NaN."""
    if values.ndim == 1:
        return [None if np.isnan(v) else float(v) for v in values]
    return [_or_null(row) for row in values]


def check_models(config: RunConfig) -> Sequence[str]:
    """Names of the models; raises ConfigError if the estimator cannot be made."""
    if config.estimator:
        load_estimator(config.estimator, config.clusters, config.seed)
    return model_names(config)
