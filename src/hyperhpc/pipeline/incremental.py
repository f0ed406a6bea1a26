"""Models fitted block after block: mini-batch k-means, and any ``partial_fit``.

dask-ml's ``Incremental`` passes the blocks of a Dask array to ``partial_fit`` one after
the other. It takes them as they come, so they are made here of short runs of pixels from
all over the sample, in a seeded order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.fit import SampleOnWorkers, load_subsample, seed_on_worker
from hyperhpc.pipeline.sample import SAMPLE_BLOCK, Sample

#: Neighbouring grid pixels that stay together when blocks are shuffled.
RUN = 64
#: Pixels of a mini-batch, and how many steps the model gets at least.
BATCH_LIMITS = (1024, 4096)
MIN_STEPS = 100
#: Mini-batches handed to dask-ml at a time: it reads all it is given at once.
AT_ONCE = 8


def block_rows(sample: Sample, is_valid: np.ndarray) -> list[tuple[int, int]]:
    """Number and count of valid pixels of each block of the sample."""
    starts = np.arange(0, sample.n_pixels, SAMPLE_BLOCK)
    return list(enumerate(np.add.reduceat(is_valid.astype(np.int64), starts).tolist()))


def scaled_block(sample: Sample, numbers: range, scaler: Scaler, n_rows: int) -> Any:
    """Dask array (pixel, band), float64, scaled: one lazy block of the sample."""
    return _lazy(_read_blocks, n_rows, sample, numbers, scaler)


def shuffled_blocks(sample: Sample, scaler: Scaler, seed: int, min_steps: int = 1) -> list[Any]:
    """Lazy mini-batches (pixel, band), float64, scaled: Dask arrays of one block each.

    At least ``min_steps`` of them: a small sample is gone through several times,
    shuffled anew each time.
    """
    is_valid = sample.is_valid()
    starts = np.arange(0, sample.n_pixels, RUN)
    counts = np.add.reduceat(is_valid.astype(np.int64), starts)
    runs = np.flatnonzero(counts)
    n_valid = int(counts.sum())
    batch = int(np.clip(n_valid // MIN_STEPS, *BATCH_LIMITS))
    n_batches = max(1, n_valid // batch)
    lazy = []
    for epoch in range(-(-min_steps // n_batches)):
        order = np.random.default_rng([seed, 3, epoch]).permutation(runs)
        # A batch ends with the run that fills it, so the first is never short
        number = (np.cumsum(counts[order]) - counts[order]) // batch
        batches = np.split(order, np.flatnonzero(np.diff(number)) + 1)
        if len(batches) > 1 and counts[batches[-1]].sum() < batch // 2:
            batches[-2:] = [np.concatenate(batches[-2:])]
        for chosen in batches:
            n_rows = int(counts[chosen].sum())
            lazy.append(_lazy(_read_runs, n_rows, sample, np.sort(chosen), scaler))
    return lazy


def _lazy(function: Any, n_rows: int, sample: Sample, *args: Any) -> Any:
    import dask
    import dask.array as da

    delayed = dask.delayed(function, pure=False)(sample, *args)
    return da.from_delayed(delayed, (n_rows, sample.values.shape[2]), np.float64)


def _read_blocks(sample: Sample, numbers: range, scaler: Scaler) -> np.ndarray:
    return np.concatenate([scaler.transform(dn) for dn in sample.blocks(numbers)])


def _read_runs(sample: Sample, runs: np.ndarray, scaler: Scaler) -> np.ndarray:
    parts = []
    for run in runs.tolist():
        start, stop = run * RUN, min((run + 1) * RUN, sample.n_pixels)
        mask = sample.mask.read_pixels(start, stop)[:, 0].astype(bool)
        parts.append(sample.values.read_pixels(start, stop)[mask])
    return scaler.transform(np.concatenate(parts))


def fit_minibatch(
    data: SampleOnWorkers, subsample: Path, n_clusters: int, scaler: Scaler, seed: int
) -> tuple[np.ndarray, int]:
    """Centres (DN) and steps of ``Incremental(MiniBatchKMeans)``.

    The start is our own k-means++, whose draws are the same on every machine.
    """
    from sklearn.cluster import MiniBatchKMeans

    starts = data.workers.client.submit(
        seed_on_worker, subsample, n_clusters, scaler, [seed, 4], pure=False
    ).result()
    model = MiniBatchKMeans(
        n_clusters=n_clusters,
        init=(starts - scaler.mean) / scaler.scale,
        n_init=1,
        random_state=seed,
        compute_labels=False,
    )
    batches = shuffled_blocks(data.sample, scaler, seed, MIN_STEPS)
    fitted = fit_incremental(model, batches)
    centres = scaler.mean + fitted.cluster_centers_ * scaler.scale
    return centres, int(fitted.n_steps_)


def fit_incremental(estimator: Any, batches: list[Any]) -> Any:
    """The estimator fitted to mini-batches, one after the other, in their order."""
    import dask.array as da
    from dask_ml.wrappers import Incremental

    # The batches are shuffled already; their order is part of the result
    model = Incremental(estimator, scoring=_no_score, shuffle_blocks=False)
    for first in range(0, len(batches), AT_ONCE):
        model.partial_fit(da.concatenate(batches[first : first + AT_ONCE]))
    return model.estimator_


def _no_score(estimator: Any, table: Any, y: Any = None) -> float:
    """Incremental refuses estimators without a score (Birch), though none is asked for."""
    return 0.0


def fit_estimator(
    data: SampleOnWorkers, estimator: Any, subsample: Path, scaler: Scaler, seed: int
) -> Any:
    """Any scikit-learn estimator, by ``partial_fit`` or else ``fit`` on the subsample.

    Raises
    ------
    ConfigError
        If the estimator itself fails.
    """
    try:
        if hasattr(estimator, "partial_fit"):
            return fit_incremental(estimator, shuffled_blocks(data.sample, scaler, seed))
        return data.workers.client.submit(
            _fit_on_worker, estimator, subsample, scaler, pure=False
        ).result()
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{type(estimator).__name__} cannot be fitted: {why}",
            "name a clusterer that is fitted without classes, such as sklearn.cluster:Birch",
        ) from error


def _fit_on_worker(estimator: Any, subsample: Path, scaler: Scaler) -> Any:
    return estimator.fit(scaler.transform(load_subsample(subsample)))
