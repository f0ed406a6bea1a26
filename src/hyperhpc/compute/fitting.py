"""From the sample to model.json: every model fitted, numbered and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.bands import nir_bands
from hyperhpc.analysis.kernel import ClusterSums, Scaler, Scorer, sum_clusters
from hyperhpc.analysis.kmeans import (
    ClusterMoments,
    Moments,
    Step,
    farthest_pixels,
    inertia_of,
    lloyd,
    order_by_nir,
    variance_of,
)
from hyperhpc.compute import estimators
from hyperhpc.compute.estimators import fit_estimator, fit_minibatch
from hyperhpc.compute.models import Labeller, load_estimator, or_null, own_labels
from hyperhpc.compute.sample import Sample
from hyperhpc.compute.starts import (
    STARTS,
    SampleOnWorkers,
    Subsample,
    find_start,
    measure_models,
    measure_scaler,
    squares_about,
    write_merged,
    write_subsample,
)
from hyperhpc.compute.tiles import shorten
from hyperhpc.config import RunConfig
from hyperhpc.errors import ConfigError
from hyperhpc.rundir.folder import RunFolder, read_json, write_json
from hyperhpc.rundir.progress import Progress

# How far a fit has come, kept so that a run that was stopped goes on from there.

#: Seconds of iterations that may be lost.
EVERY = 5.0


class Checkpoint:
    """The last step of one model, in a file; numbers come back as the same bits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._written = time.monotonic()

    def read(self) -> Step | None:
        """The step that was kept, if any."""
        if not self.path.exists():
            return None
        kept = read_json(self.path)
        return Step(
            np.array(kept["centres"]), kept["n_iter"], kept["limit"], kept["is_settled"]
        )

    def keep(self, step: Step) -> None:
        """Keep a step, unless another was kept just now; the last one always."""
        if not step.is_settled and time.monotonic() - self._written < EVERY:
            return
        write_json(self.path, vars(step) | {"centres": step.centres.tolist()})
        self._written = time.monotonic()


# The full-batch model: Lloyd's iterations over the whole sample, from the best start.
#
# Workers add up, the decisions are taken here.


def fit_lloyd(
    data: SampleOnWorkers,
    subsample: Subsample,
    n_clusters: int,
    scaler: Scaler,
    squares: np.ndarray,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint,
) -> Step:
    """Full-batch k-means of the whole sample; goes on from the last checkpoint.

    Parameters
    ----------
    squares
        (band) sum of squares of DN minus offset over the sample.
    progress
        Told each start and each iteration.
    checkpoint
        Where the last step is kept.
    """
    step = checkpoint.read()
    if step is None:
        step = Step(find_start(data, subsample, n_clusters, scaler, squares, seed, progress))

    def keep(step: Step) -> None:
        progress.advance(1)
        checkpoint.keep(step)

    return lloyd(
        lambda centres: _sums(data, centres, scaler),
        lambda centres, n: _farthest(data, centres, scaler, n),
        squares,
        step,
        scaler,
        on_step=keep,
    )


def _sums(data: SampleOnWorkers, centres: np.ndarray, scaler: Scaler) -> ClusterSums:
    return data.add_up(_sum_by_centres, centres, scaler)


def _sum_by_centres(dn: np.ndarray, centres: np.ndarray, scaler: Scaler) -> ClusterSums:
    return sum_clusters(dn, Scorer(centres, scaler))


def _farthest(data: SampleOnWorkers, centres: np.ndarray, scaler: Scaler, n: int) -> np.ndarray:
    parts = data.map_parts(_farthest_of_part, centres, scaler, n)
    distances = np.concatenate([distance for distance, _ in parts])
    pixels = np.concatenate([pixel for _, pixel in parts])
    return pixels[np.argsort(-distances, kind="stable")[:n]]


def _farthest_of_part(
    sample: Sample, numbers: range, centres: np.ndarray, scaler: Scaler, n: int
) -> tuple[np.ndarray, np.ndarray]:
    found = [farthest_pixels(dn, centres, scaler, n) for dn in sample.blocks(numbers)]
    distances = np.concatenate([distance for distance, _ in found])
    pixels = np.concatenate([pixel for _, pixel in found])
    order = np.argsort(-distances, kind="stable")[:n]
    return distances[order], pixels[order]


#: Sampled pixels per cluster; with fewer it is chance where the centres come to lie.
_FEW = 100


@dataclass(frozen=True)
class FitJob:
    """What the fits need to know.

    Attributes
    ----------
    wavelength_nm
        Centres of the good bands.
    scale_factor
        Divisor from DN to reflectance.
    warn
        Told what is odd about the sample or a model.
    """

    config: RunConfig
    data: SampleOnWorkers
    folder: RunFolder
    wavelength_nm: np.ndarray
    scale_factor: float
    warn: Callable[[str], None]

    @property
    def subsample(self) -> Subsample:
        """The pixels starts are tried on."""
        return Subsample.at(self.folder.work)

    def checkpoint(self, name: str) -> Checkpoint:
        """How far a model has come."""
        return Checkpoint(self.folder.work / f"fit-{name}.json")

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
    model = _read_fitted(job)
    if model is not None and not config.estimator:
        return read_labellers(model, job.scale_factor, job.is_integer)
    _check_sample(job)
    submit = job.data.workers.client.submit
    with progress.stage("scaling the sample"):
        drawn = submit(write_subsample, job.data.sample, config.seed, job.subsample, pure=False)
        scaler, moments, reference = measure_scaler(job.data, job.scale_factor)
        scaler = _as_stored(scaler, job.scale_factor)
        squares = squares_about(moments, reference, scaler.offset)
        drawn.result()
        submit(write_merged, job.subsample, scaler, pure=False).result()
    _warn_of_constant(job, moments)
    names = model_names(config)
    begun = [_begin(job, name, scaler, squares, progress) for name in names]
    fitted = []
    for name, finish in zip(names, begun, strict=True):
        with progress.stage(f"fitting {name}", STARTS if name == "lloyd" else None, "steps"):
            fitted.append(finish())
    with progress.stage("measuring clusters"):
        measured = measure_models(job.data, [labeller for labeller, _ in fitted], scaler)
    entries, spectra, labellers = {}, {}, []
    for name, (labeller, n_iter), moment in zip(names, fitted, measured, strict=True):
        if labeller.centres is None:
            labeller, moment = _renumber(labeller, moment, job.wavelength_nm)
        _warn_of_empty(job, name, moment)
        labellers.append(labeller)
        entries[name] = _describe(job, labeller, moment, squares, n_iter)
        spectra[name] = _spectra(job, moment, scaler)
    write_json(job.spectra, spectra)
    write_json(
        job.folder.model,
        {
            "wavelength_nm": job.wavelength_nm.tolist(),
            "mean": (scaler.mean / job.scale_factor).tolist(),
            "scale": (scaler.scale / job.scale_factor).tolist(),
            "n_pixels_fit": moments.count,
            "models": entries,
        },
    )
    return labellers


def _read_fitted(job: FitJob) -> dict[str, Any] | None:
    """model.json; None if the models are not fitted yet, or what was kept is damaged."""
    if not (job.folder.model.exists() and job.spectra.exists()):
        return None
    try:
        read_json(job.spectra)
        model: dict[str, Any] = read_json(job.folder.model)
    except ConfigError as error:
        job.warn(f"{error.message}, so that the models are fitted again")
        return None
    return model


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
    n_valid, n_clusters = int(job.data.sample.is_valid().sum()), job.config.clusters
    if n_valid < n_clusters:
        raise ConfigError(
            f"{n_valid} valid sampled pixels are fewer than {n_clusters} clusters",
            "give a smaller --stride or fewer --clusters",
        )
    if n_valid < _FEW * n_clusters and job.config.stride > 1:
        job.warn(
            f"{n_valid} sampled pixels are few for {n_clusters} clusters; --stride "
            f"{job.config.stride} leaves out the others, --stride 1 would take all"
        )


def _warn_of_constant(job: FitJob, moments: Moments) -> None:
    constant = np.flatnonzero(variance_of(moments) == 0)
    if constant.size:
        nm = [f"{wavelength:.1f}" for wavelength in job.wavelength_nm[constant]]
        job.warn(
            f"{constant.size} of {job.wavelength_nm.size} bands have one value in all sampled "
            f"pixels and tell no clusters apart: {shorten(nm)} nm"
        )


def _warn_of_empty(job: FitJob, name: str, moments: ClusterMoments) -> None:
    empty = np.flatnonzero(moments.counts == 0)
    if empty.size:
        job.warn(
            f"{name}: {empty.size} of {moments.counts.size} clusters hold no sampled pixel "
            f"({shorten([str(k) for k in empty])}); give fewer --clusters"
        )


def _begin(
    job: FitJob, name: str, scaler: Scaler, squares: np.ndarray, progress: Progress
) -> Callable[[], tuple[Labeller, int | None]]:
    """Begin one model; what is returned finishes it."""
    if name == "lloyd":
        return lambda: _numbered(job, scaler, _fit_lloyd(job, scaler, squares, progress))
    if name == "minibatch":
        step = _begin_minibatch(job, scaler)
        return lambda: _numbered(job, scaler, step())
    return lambda: _fit_estimator(job, scaler)


def _begin_minibatch(job: FitJob, scaler: Scaler) -> Callable[[], Step]:
    """Its steps follow one another, on one worker: the others try starts meanwhile."""
    config, data, checkpoint = job.config, job.data, job.checkpoint("minibatch")
    arguments = (job.subsample, config.clusters, scaler, config.seed)
    kept = checkpoint.read()
    if kept is not None:
        return lambda: kept
    if config.engine == "dask-ml":
        return lambda: estimators.fit_incremental(data, *arguments)
    future = data.workers.engage(fit_minibatch, data.sample, *arguments)

    def wait() -> Step:
        step: Step = future.result()
        checkpoint.keep(step)
        return step

    return wait


def _fit_lloyd(job: FitJob, scaler: Scaler, squares: np.ndarray, progress: Progress) -> Step:
    config, data, checkpoint = job.config, job.data, job.checkpoint("lloyd")
    if config.engine == "dask-ml":
        return estimators.fit_kmeans(data, config.clusters, scaler, config.seed)
    return fit_lloyd(
        data, job.subsample, config.clusters, scaler, squares, config.seed, progress, checkpoint
    )


def _numbered(job: FitJob, scaler: Scaler, step: Step) -> tuple[Labeller, int]:
    """Clusters numbered by ascending near-infrared reflectance of their centres."""
    order = order_by_nir(step.centres, job.wavelength_nm)
    centres = step.centres[order] / job.scale_factor * job.scale_factor  # as stored
    return Labeller(scaler, len(order), centres), step.n_iter


def _fit_estimator(job: FitJob, scaler: Scaler) -> tuple[Labeller, int | None]:
    """A model of scikit-learn, its clusters numbered as they came."""
    config, data = job.config, job.data
    estimator = load_estimator(str(config.estimator), config.clusters, config.seed)
    estimator = fit_estimator(data, estimator, job.subsample, scaler, config.seed)
    seen = data.workers.client.submit(
        _seen_labels, estimator, job.subsample, scaler, pure=False
    ).result()
    n = own_labels(estimator, seen)
    numbers = np.arange(n, dtype=np.uint8)
    n_iter = getattr(estimator, "n_iter_", None)
    n_iter = int(n_iter) if isinstance(n_iter, int | np.integer) else None
    return Labeller(scaler, n, estimator=estimator, numbers=numbers), n_iter


def _seen_labels(estimator: Any, subsample: Subsample, scaler: Scaler) -> np.ndarray:
    """On a worker: the labels an estimator gives on the subsample."""
    dn = subsample.load()
    parts = [
        np.unique(estimator.predict(scaler.transform(dn[start : start + 16384])))
        for start in range(0, len(dn), 16384)
    ]
    return np.unique(np.concatenate(parts))


def _renumber(
    labeller: Labeller, moments: ClusterMoments, wavelength_nm: np.ndarray
) -> tuple[Labeller, ClusterMoments]:
    """Number the clusters of an estimator by ascending near-infrared reflectance."""
    order = order_by_nir(_means(moments, labeller.scaler), wavelength_nm)
    numbers = np.empty(len(order), dtype=np.uint8)
    numbers[order] = np.arange(len(order), dtype=np.uint8)
    numbered = Labeller(
        labeller.scaler, len(order), estimator=labeller.estimator, numbers=numbers
    )
    return numbered, moments[order]


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
        "mean": or_null(mean / job.scale_factor),
        "sd": or_null(sd / job.scale_factor),
        "counts": moments.counts.tolist(),
        "nir": or_null(nir / job.scale_factor),
    }


def check_models(config: RunConfig) -> Sequence[str]:
    """Names of the models; raises ConfigError if the estimator cannot be made."""
    if config.estimator:
        load_estimator(config.estimator, config.clusters, config.seed)
    return model_names(config)
