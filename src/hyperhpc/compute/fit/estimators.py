"""Models fitted batch by batch: mini-batch k-means, ``partial_fit`` and dask-ml's models.

Batches are short runs of pixels from all over the sample, in a seeded order: neighbouring
pixels are alike, and a model that sees one place after the other forgets the first ones.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler
from hyperhpc.analysis.kmeans import Step
from hyperhpc.analysis.minibatch import fit_batches
from hyperhpc.compute.fit.starts import Subsample, seed_start
from hyperhpc.compute.fit.sums import SampleOnWorkers
from hyperhpc.compute.sample import SAMPLE_BLOCK, Sample
from hyperhpc.errors import ConfigError, ResourceError

#: Neighbouring grid pixels that stay together when batches are drawn.
RUN_PIXELS = 64
#: Least and most pixels of a batch.
BATCH_LIMITS = (1024, 4096)
#: The model gets at least this many batches.
MIN_STEPS = 100
#: Batches given to dask-ml in one call: it reads them all at once.
BATCHES_PER_CALL = 8


def draw_batches(sample: Sample, seed: int, min_steps: int = 1) -> list[tuple[np.ndarray, int]]:
    """Numbers of the runs that make each batch, and how many valid pixels it has.

    A small sample is used several times, in a new order, to make ``min_steps`` batches.
    """
    counts = sample.counts(RUN_PIXELS)
    runs = np.flatnonzero(counts)
    n_valid = int(counts.sum())
    batch = int(np.clip(n_valid // MIN_STEPS, *BATCH_LIMITS))
    n_batches = max(1, n_valid // batch)
    drawn = []
    for epoch in range(-(-min_steps // n_batches)):
        order = np.random.default_rng([seed, 3, epoch]).permutation(runs)
        # A batch ends with the run that fills it, so the first is never short
        number = (np.cumsum(counts[order]) - counts[order]) // batch
        batches = np.split(order, np.flatnonzero(np.diff(number)) + 1)
        if len(batches) > 1 and counts[batches[-1]].sum() < batch // 2:
            batches[-2:] = [np.concatenate(batches[-2:])]
        drawn += [(np.sort(chosen), int(counts[chosen].sum())) for chosen in batches]
    return drawn


def read_runs(sample: Sample, runs: np.ndarray) -> np.ndarray:
    """Valid pixels (pixel, band), DN, of some runs."""
    starts = (runs * RUN_PIXELS).tolist()
    return np.concatenate([sample.read_valid(start, start + RUN_PIXELS) for start in starts])


def _read_scaled_runs(sample: Sample, runs: np.ndarray, scaler: Scaler) -> np.ndarray:
    return scaler.transform(read_runs(sample, runs))


def _read_scaled_block(sample: Sample, number: int, scaler: Scaler) -> np.ndarray:
    return scaler.transform(next(sample.blocks(range(number, number + 1))))


def fit_minibatch(
    sample: Sample, subsample: Subsample, n_clusters: int, scaler: Scaler, seed: int
) -> Step:
    """On a worker: mini-batch k-means of the whole sample."""
    starts = seed_start(subsample, n_clusters, [seed, 4])
    drawn = draw_batches(sample, seed, MIN_STEPS)
    batches = (read_runs(sample, runs) for runs, _ in drawn)
    return fit_batches(batches, starts, scaler, np.random.default_rng([seed, 5]))


def fit_estimator(
    data: SampleOnWorkers, estimator: Any, subsample: Subsample, scaler: Scaler, seed: int
) -> Any:
    """Fit any scikit-learn estimator, by ``partial_fit`` or else ``fit`` on the subsample.

    Raises ConfigError: if the estimator itself fails.
    """
    try:
        if hasattr(estimator, "partial_fit"):
            return data.call(_fit_by_batches, data.sample, estimator, scaler, seed)
        return data.call(_fit_at_once, subsample, estimator, scaler)
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{type(estimator).__name__} cannot be fitted: {why}",
            "Name a clusterer that is fitted without classes, such as sklearn.cluster:Birch",
        ) from error


def _fit_by_batches(sample: Sample, estimator: Any, scaler: Scaler, seed: int) -> Any:
    for runs, _ in draw_batches(sample, seed):
        estimator.partial_fit(_read_scaled_runs(sample, runs, scaler))
    return estimator


def _fit_at_once(subsample: Subsample, estimator: Any, scaler: Scaler) -> Any:
    return estimator.fit(scaler.transform(np.load(subsample.path)))


# --- dask-ml's own models on the same sample, for comparison: --engine dask-ml ---------


def fit_dask_kmeans(data: SampleOnWorkers, n_clusters: int, scaler: Scaler, seed: int) -> Step:
    """``dask_ml.cluster.KMeans`` of the whole sample, in the workers' memory as float64.

    Raises ResourceError: if the sample does not fit there.
    """
    import dask.array as da
    from dask_ml.cluster import KMeans

    counts = data.sample.counts(SAMPLE_BLOCK).tolist()
    need = 3 * sum(counts) * data.sample.values.shape[2] * 8
    have = data.workers.count * data.workers.memory_bytes
    if need > have:
        raise ResourceError(
            f"--engine dask-ml needs about {need / 2**30:.1f} GiB for this sample; "
            f"the workers have {have / 2**30:.1f} GiB",
            "Omit --engine: the built-in engine needs no copy of the sample",
        )
    blocks = ((number, n) for number, n in enumerate(counts) if n)
    lazy = [_lazy(_read_scaled_block, n, data.sample, number, scaler) for number, n in blocks]
    table = da.concatenate(lazy).persist()
    model = KMeans(n_clusters=n_clusters, random_state=seed, tol=1e-4, max_iter=300).fit(table)
    centres = scaler.mean + np.asarray(model.cluster_centers_) * scaler.scale
    return Step(centres, int(model.n_iter_), is_settled=True)


def fit_dask_minibatch(
    data: SampleOnWorkers, subsample: Subsample, n_clusters: int, scaler: Scaler, seed: int
) -> Step:
    """``Incremental(MiniBatchKMeans)``, with the built-in engine's batches and start."""
    import dask.array as da
    from dask_ml.wrappers import Incremental
    from sklearn.cluster import MiniBatchKMeans

    start = data.call(seed_start, subsample, n_clusters, [seed, 4])
    model = MiniBatchKMeans(
        n_clusters=n_clusters,
        init=(start - scaler.mean) / scaler.scale,
        n_init=1,
        random_state=seed,
        compute_labels=False,
    )
    # The batches are already in random order, and this order is part of the result
    model = Incremental(model, shuffle_blocks=False)
    batches = (
        _lazy(_read_scaled_runs, n, data.sample, runs, scaler)
        for runs, n in draw_batches(data.sample, seed, MIN_STEPS)
    )
    while some := list(islice(batches, BATCHES_PER_CALL)):
        model.partial_fit(da.concatenate(some))
    fitted = model.estimator_
    centres = scaler.mean + fitted.cluster_centers_ * scaler.scale
    return Step(centres, int(fitted.n_steps_), is_settled=True)


def _lazy(function: Callable[..., np.ndarray], n_rows: int, sample: Sample, *args: Any) -> Any:
    """Dask array (pixel, band), float64, of one block."""
    import dask
    import dask.array as da

    delayed = dask.delayed(function, pure=False)(sample, *args)
    return da.from_delayed(delayed, (n_rows, sample.values.shape[2]), np.float64)
