"""From the sample to model.json: every model is fitted, numbered and measured.

A model that was fitted before is not fitted again, and a full-batch fit that was stopped
resumes from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis import kmeans
from hyperhpc.analysis.agreement import can_follow, confusion_table, order_by_match
from hyperhpc.analysis.bands import nir_bands
from hyperhpc.analysis.kernel import ClusterSums, Scaler, Scorer, sum_clusters
from hyperhpc.analysis.kmeans import ClusterMoments, Moments, Step, order_by_nir
from hyperhpc.compute.fit import estimators, models
from hyperhpc.compute.fit.models import Labeller, load_estimator, nan_to_none
from hyperhpc.compute.fit.starts import STARTS, Subsample, find_start, write_merged, write_subsample
from hyperhpc.compute.fit.sums import SampleOnWorkers, measure_models, measure_scaler, shift_squares
from hyperhpc.compute.sample import Sample
from hyperhpc.compute.tiles import shorten
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError, IncompleteRunError
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.integrity import read_result
from hyperhpc.rundir.progress import Progress
from hyperhpc.sealed import DamagedJsonError, read_json, write_sealed

#: Seconds of iterations that may be lost when a fit is stopped.
CHECKPOINT_INTERVAL_S = 5.0
#: Fewer pixels per cluster are refused: the inertia is half as much again, or more, as that of a
#: model fitted to all pixels (decision 0036).
FEWEST_PER_CLUSTER = 5
#: With fewer sampled pixels per cluster, chance decides where the centres are.
MIN_PIXELS_PER_CLUSTER = 100
#: Pixels labelled at a time where models are matched: limits memory.
_LABEL_PIXELS = 16384


class Checkpoint:
    """The last step of one model, in a file; numbers come back as the same bits."""

    def __init__(self, path: Path, warn: Callable[[str], None] = print) -> None:
        self.path, self._warn = path, warn
        self._written = time.monotonic()

    def read(self) -> Step | None:
        """The stored step, if there is one; a damaged one is reported, and is none."""
        if not self.path.exists():
            return None
        try:
            stored = read_json(self.path)
        except DamagedJsonError:
            self._warn(f"{self.path} is damaged, so that this model is fitted from its start")
            return None
        return Step(**stored | {"centres": np.array(stored["centres"])})

    def keep(self, step: Step) -> None:
        """Store a step: the last one always, others at most every five seconds."""
        if not step.is_settled and time.monotonic() - self._written < CHECKPOINT_INTERVAL_S:
            return
        write_sealed(self.path, vars(step) | {"centres": step.centres.tolist()})
        self._written = time.monotonic()


@dataclass(frozen=True)
class FitJob:
    """What the fits need.

    ``wavelength_nm``: Centres of the good bands. ``scale_factor``: Divisor from DN to reflectance.
    ``warn``: Receives a sentence on anything odd about the sample or a model.
    """

    config: RunConfig
    data: SampleOnWorkers
    folder: RunFolder
    wavelength_nm: np.ndarray
    scale_factor: float
    warn: Callable[[str], None]

    @property
    def subsample(self) -> Subsample:
        """The pixels on which starts are tried."""
        return Subsample.at(self.folder.work)

    def checkpoint(self, name: str) -> Checkpoint:
        """The checkpoint of one model."""
        return Checkpoint(self.folder.work / f"fit-{name}.json", self.warn)


def check_models(config: RunConfig) -> Sequence[str]:
    """Names of the models, in order; raises ConfigError if the estimator cannot be made."""
    if not config.estimator:
        return list(config.models)
    load_estimator(config.estimator, config.clusters, config.seed)
    return [*config.models, config.estimator.partition(":")[2]]


def fit_models(job: FitJob, progress: Progress) -> list[Labeller]:
    """Fit the models unless model.json holds them, write it, and return the labellers.

    Raises ConfigError: if there are fewer valid sampled pixels than clusters.
    """
    config = job.config
    model = _read_fitted(job)
    if model is not None and not config.estimator:
        return read_labellers(model, job.scale_factor, job.data.sample.is_integer)
    _check_sample(job)
    with progress.stage("scaling the sample"):
        drawn = job.data.submit(write_subsample, job.data.sample, config.seed, job.subsample)
        scaler, moments, reference = measure_scaler(job.data, job.scale_factor)
        # As it comes back from model.json: the stored numbers are the model
        mean, scale = (x / job.scale_factor * job.scale_factor for x in (scaler.mean, scaler.scale))
        scaler = Scaler(mean, scale, scaler.is_integer)
        squares = shift_squares(moments, reference, scaler.offset)
        drawn.result()
        job.data.call(write_merged, job.subsample, scaler)
    _warn_of_constant_bands(job, moments)
    names = check_models(config)
    finishers = [_start_fit(job, name, scaler, squares, progress) for name in names]
    fitted = []
    for name, finish in zip(names, finishers, strict=True):
        with progress.stage(f"fitting {name}", STARTS if name == "lloyd" else None, "steps"):
            fitted.append(finish())
    with progress.stage("measuring clusters"):
        numbered = _number_alike(job, names, [labeller for labeller, _ in fitted])
        measured = measure_models(job.data, numbered, scaler)
    entries, spectra, labellers = {}, {}, []
    for name, labeller, (unnumbered, n_iter), moment in zip(
        names, numbered, fitted, measured, strict=True
    ):
        if labeller is unnumbered and labeller.centres is None:
            order = order_by_nir(_mean_dn(moment, scaler), job.wavelength_nm)
            labeller, moment = _renumber(labeller, order), moment[order]
        _warn_of_empty_clusters(job, name, moment)
        labellers.append(labeller)
        entries[name] = _describe(job, labeller, moment, squares, n_iter)
        spectra[name] = _describe_spectra(job, moment, scaler)
    write_sealed(job.folder.cluster_spectra, spectra)
    model = {
        "wavelength_nm": job.wavelength_nm.tolist(),
        "mean": (scaler.mean / job.scale_factor).tolist(),
        "scale": (scaler.scale / job.scale_factor).tolist(),
        "n_pixels_fit": moments.count,
        "models": entries,
    }
    job.folder.write_result(job.folder.model, model)
    return labellers


def read_labellers(model: dict[str, Any], scale_factor: float, is_integer: bool) -> list[Labeller]:
    """Labellers of the models of nearest centres in model.json, for a scene with these DN."""
    mean, scale = (np.array(model[name]) * scale_factor for name in ("mean", "scale"))
    scaler = Scaler(mean, scale, is_integer)
    return [
        Labeller(scaler, len(entry["centers"]), np.array(entry["centers"]) * scale_factor)
        for entry in model["models"].values()
    ]


def _read_fitted(job: FitJob) -> dict[str, Any] | None:
    """model.json; None if the models are not fitted yet, or a file is damaged."""
    folder, model = job.folder, None
    needed = (folder.model, folder.sum_of(folder.model), folder.cluster_spectra)
    if not all(path.exists() for path in needed):
        return None
    for path in needed:
        try:
            if path == folder.model:
                model = read_result(folder, path)
            else:
                read_json(path)
        except (ConfigError, IncompleteRunError):
            job.warn(f"{path} is damaged, so that the models are fitted again")
            return None
    return model


# --- checks and warnings ---------------------------------------------------------------


def _check_sample(job: FitJob) -> None:
    n_valid, n_clusters = int(job.data.sample.is_valid().sum()), job.config.clusters
    stride = job.config.stride or 1
    check_n_pixels(n_valid, n_clusters, stride, is_masked=bool(job.config.where))
    if n_valid < MIN_PIXELS_PER_CLUSTER * n_clusters and stride > 1:
        job.warn(
            f"{n_valid} sampled pixels are few for {n_clusters} clusters; --stride "
            f"{stride} leaves out the others, --stride 1 would take all"
        )


def check_n_pixels(n_valid: int, n_clusters: int, stride: int, *, is_masked: bool = False) -> None:
    """Refuse more clusters than pixels can carry.

    ``is_masked``: True if only those count that meet the conditions of ``--where``.

    Raises ConfigError: fewer than :data:`FEWEST_PER_CLUSTER` pixels per cluster, or none at all.
    """
    needed = n_clusters * FEWEST_PER_CLUSTER if n_clusters > 1 else 1
    if n_valid >= needed:
        return
    ways = [f"--clusters {n_valid // FEWEST_PER_CLUSTER}"] if n_valid >= FEWEST_PER_CLUSTER else []
    ways += ["--stride 1"] if stride > 1 else []
    ways += ["a --where that more pixels meet"] if is_masked else []
    which = " that meet --where" if is_masked else ""
    raise ConfigError(
        f"{n_valid} valid sampled pixels{which} are too few for {n_clusters} clusters, which need "
        f"{needed}: {FEWEST_PER_CLUSTER} per cluster",
        f"Give {' or '.join(ways)}" if ways else "Give a larger area",
    )


def _warn_of_constant_bands(job: FitJob, moments: Moments) -> None:
    constant = np.flatnonzero(kmeans.compute_variance(moments) == 0)
    if constant.size:
        nm = [f"{wavelength:.1f}" for wavelength in job.wavelength_nm[constant]]
        job.warn(
            f"{constant.size} of {job.wavelength_nm.size} bands have one value in all sampled "
            f"pixels and do not separate clusters: {shorten(nm)} nm"
        )


def _warn_of_empty_clusters(job: FitJob, name: str, moments: ClusterMoments) -> None:
    empty = np.flatnonzero(moments.counts == 0)
    if empty.size:
        job.warn(
            f"{name}: {empty.size} of {moments.counts.size} clusters hold no sampled pixel "
            f"({shorten([str(k) for k in empty])}); give fewer --clusters"
        )


# --- one model -------------------------------------------------------------------------


def _start_fit(
    job: FitJob, name: str, scaler: Scaler, squares: np.ndarray, progress: Progress
) -> Callable[[], tuple[Labeller, int | None]]:
    """Start to fit one model; the function returned waits for it or does the rest."""
    if name == "lloyd":
        return lambda: _number(job, scaler, _fit_lloyd(job, scaler, squares, progress))
    if name == "minibatch":
        finish = _start_minibatch(job, scaler)
        return lambda: _number(job, scaler, finish())
    return lambda: _fit_estimator(job, scaler)


def _start_minibatch(job: FitJob, scaler: Scaler) -> Callable[[], Step]:
    """Its steps depend on each other: one worker takes them while others try starts."""
    config, data, checkpoint = job.config, job.data, job.checkpoint("minibatch")
    arguments = (job.subsample, config.clusters, scaler, config.seed)
    stored = checkpoint.read()
    if stored is not None:
        return lambda: stored
    if config.engine == "dask-ml":
        return lambda: estimators.fit_dask_minibatch(data, *arguments)
    future = data.workers.pin(estimators.fit_minibatch, data.sample, *arguments)

    def wait() -> Step:
        step: Step = future.result()
        checkpoint.keep(step)
        return step

    return wait


def _fit_lloyd(job: FitJob, scaler: Scaler, squares: np.ndarray, progress: Progress) -> Step:
    """Full-batch k-means of the whole sample; resumes from its checkpoint."""
    config, data, checkpoint = job.config, job.data, job.checkpoint("lloyd")
    if config.engine == "dask-ml":
        return estimators.fit_dask_kmeans(data, config.clusters, scaler, config.seed)
    step = checkpoint.read()
    if step is None:
        arguments = (config.clusters, scaler, squares, config.seed, progress)
        step = Step(find_start(data, job.subsample, *arguments))

    def on_step(step: Step) -> None:
        progress.advance(1)
        checkpoint.keep(step)

    def find_farthest(centres: np.ndarray, n: int) -> np.ndarray:
        return _merge_farthest(data.map_parts(_find_farthest_of_part, centres, scaler, n), n)[1]

    return kmeans.run_lloyd(
        lambda centres: data.add_up(_sum_by_centres, centres, scaler),
        find_farthest,
        squares,
        step,
        scaler,
        on_step=on_step,
    )


def _sum_by_centres(dn: np.ndarray, centres: np.ndarray, scaler: Scaler) -> ClusterSums:
    return sum_clusters(dn, Scorer(centres, scaler))


def _find_farthest_of_part(
    sample: Sample, numbers: range, centres: np.ndarray, scaler: Scaler, n: int
) -> tuple[np.ndarray, np.ndarray]:
    blocks = sample.blocks(numbers)
    return _merge_farthest(
        [kmeans.find_farthest_pixels(dn, centres, scaler, n) for dn in blocks], n
    )


def _merge_farthest(
    found: Sequence[tuple[np.ndarray, np.ndarray]], n: int
) -> tuple[np.ndarray, np.ndarray]:
    """The n farthest of pixels found in parts: distances, descending, and pixels."""
    distances = np.concatenate([distance for distance, _ in found])
    pixels = np.concatenate([pixel for _, pixel in found])
    order = np.argsort(-distances, kind="stable")[:n]
    return distances[order], pixels[order]


def _number(job: FitJob, scaler: Scaler, step: Step) -> tuple[Labeller, int]:
    """Number clusters by ascending near-infrared reflectance of their centres."""
    order = order_by_nir(step.centres, job.wavelength_nm)
    centres = step.centres[order] / job.scale_factor * job.scale_factor  # as stored
    return Labeller(scaler, len(order), centres), step.n_iter


def _fit_estimator(job: FitJob, scaler: Scaler) -> tuple[Labeller, int | None]:
    """Fit a model of scikit-learn; its clusters keep their own numbers for now."""
    config, data = job.config, job.data
    estimator = load_estimator(str(config.estimator), config.clusters, config.seed)
    estimator = estimators.fit_estimator(data, estimator, job.subsample, scaler, config.seed)
    seen = data.call(_find_labels, estimator, job.subsample, scaler)
    n = models.count_labels(estimator, seen)
    numbers = np.arange(n, dtype=np.uint8)
    n_iter = getattr(estimator, "n_iter_", None)
    n_iter = int(n_iter) if isinstance(n_iter, int | np.integer) else None
    return Labeller(scaler, n, estimator=estimator, numbers=numbers), n_iter


def _find_labels(estimator: Any, subsample: Subsample, scaler: Scaler) -> np.ndarray:
    """On a worker: the different labels that an estimator gives on the subsample."""
    parts = models.predict_in_parts(estimator, scaler, np.load(subsample.path))
    return np.unique(np.concatenate([np.unique(labels) for _, labels in parts]))


# --- numbers of clusters ---------------------------------------------------------------


def _number_alike(
    job: FitJob, names: Sequence[str], labellers: Sequence[Labeller]
) -> list[Labeller]:
    """Give the clusters of each further model the numbers of the first model's.

    Each takes the number of the cluster with which it shares pixels of the subsample, so that
    numbers and colours mean the same in all maps of a run. A model with fewer clusters than the
    first one is left as it is.
    """
    first, *others = labellers
    numbered = [first]
    for name, labeller in zip(names[1:], others, strict=True):
        if not can_follow(labeller.n_clusters, first.n_clusters):
            job.warn(
                f"{name} has {labeller.n_clusters} clusters and {names[0]} {first.n_clusters}, so "
                "that their numbers and colours do not mean the same"
            )
            numbered.append(labeller)
            continue
        shared = job.data.call(_count_shared, first, labeller, job.subsample)
        numbered.append(_renumber(labeller, order_by_match(shared)))
    return numbered


def _count_shared(first: Labeller, second: Labeller, subsample: Subsample) -> np.ndarray:
    """On a worker: pixels of the subsample with each pair of labels, int64 (first, second)."""
    dn = np.load(subsample.path, mmap_mode="r")
    shared = np.zeros((first.n_clusters, second.n_clusters), np.int64)
    for start in range(0, len(dn), _LABEL_PIXELS):
        block = np.array(dn[start : start + _LABEL_PIXELS])
        shared += confusion_table(first.label(block), second.label(block), *shared.shape)
    return shared


def _renumber(labeller: Labeller, order: np.ndarray) -> Labeller:
    """The same model, whose clusters are numbered in this order."""
    if labeller.centres is not None:
        return replace(labeller, centres=labeller.centres[order])
    return replace(labeller, numbers=np.argsort(order).astype(np.uint8))


# --- what is stored of a model ---------------------------------------------------------


def _mean_dn(moments: ClusterMoments, scaler: Scaler) -> np.ndarray:
    """Mean DN (cluster, band); NaN for a cluster without pixels."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return scaler.offset + moments.sums / moments.counts[:, None]


def _describe(
    job: FitJob, fitted: Labeller, moments: ClusterMoments, squares: np.ndarray, n_iter: int | None
) -> dict[str, Any]:
    """Entry of one model in model.json."""
    scaler, centres = fitted.scaler, fitted.centres
    if centres is None:  # an estimator without centres is described by its means
        means = _mean_dn(moments, scaler)
        centres = np.where(np.isnan(means), scaler.mean, means)
    sums = ClusterSums(moments.counts, moments.sums)
    return {
        "centers": (centres / job.scale_factor).tolist(),
        "inertia": kmeans.compute_inertia(sums, squares, centres, scaler),
        "n_iter": n_iter,
        "counts": moments.counts.tolist(),
    }


def _describe_spectra(job: FitJob, moments: ClusterMoments, scaler: Scaler) -> dict[str, Any]:
    """Mean and population standard deviation of each cluster; null where it is empty."""
    mean = _mean_dn(moments, scaler)
    with np.errstate(invalid="ignore", divide="ignore"):
        centred_mean = moments.sums / moments.counts[:, None]
        variance = moments.squares / moments.counts[:, None] - centred_mean**2
    sd = np.sqrt(np.maximum(variance, 0.0))
    nir = mean[:, nir_bands(job.wavelength_nm)].mean(axis=1)
    return {
        "mean": nan_to_none(mean / job.scale_factor),
        "sd": nan_to_none(sd / job.scale_factor),
        "counts": moments.counts.tolist(),
        "nir": nan_to_none(nir / job.scale_factor),
    }
