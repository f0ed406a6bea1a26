"""Models fitted batch after batch: mini-batch k-means, and any ``partial_fit``.

Batches are short runs of pixels from all over the sample, in a seeded order: what lies
side by side in a scene is alike, and a model that sees one place after the other forgets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler
from hyperhpc.analysis.kmeans import Step
from hyperhpc.analysis.minibatch import fit_batches
from hyperhpc.compute.sample import Sample
from hyperhpc.compute.starts import Subsample, seed_start
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.sums import SampleOnWorkers

#: Neighbouring grid pixels that stay together when batches are drawn.
RUN = 64
#: Pixels of a batch, and how many steps the model gets at least.
BATCH_LIMITS = (1024, 4096)
MIN_STEPS = 100


def draw_batches(sample: Sample, seed: int, min_steps: int = 1) -> list[tuple[np.ndarray, int]]:
    """Runs of pixels that make each batch, and how many valid pixels it has.

    At least ``min_steps`` batches: a small sample is gone through several times, drawn
    anew each time.
    """
    counts = sample.counts(RUN)
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
    """Valid pixels of some runs (pixel, band), DN."""
    parts = []
    for run in runs.tolist():
        start, stop = run * RUN, min((run + 1) * RUN, sample.n_pixels)
        mask = sample.mask.read_pixels(start, stop)[:, 0].astype(bool)
        parts.append(sample.values.read_pixels(start, stop)[mask])
    return np.concatenate(parts)


def read_batch(sample: Sample, runs: np.ndarray, scaler: Scaler) -> np.ndarray:
    """Valid pixels of some runs (pixel, band), float64, scaled."""
    return scaler.transform(read_runs(sample, runs))


def _fit_by_parts(sample: Sample, estimator: Any, scaler: Scaler, seed: int) -> Any:
    """On a worker: an estimator after ``partial_fit`` of every batch, in their order."""
    for runs, _ in draw_batches(sample, seed):
        estimator.partial_fit(read_batch(sample, runs, scaler))
    return estimator


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
    """Any scikit-learn estimator, by ``partial_fit`` or else ``fit`` on the subsample.

    Raises
    ------
    ConfigError
        If the estimator itself fails.
    """
    submit = data.workers.client.submit
    try:
        if hasattr(estimator, "partial_fit"):
            arguments = (data.sample, estimator, scaler, seed)
            return submit(_fit_by_parts, *arguments, pure=False).result()
        return submit(_fit_at_once, subsample, estimator, scaler, pure=False).result()
    except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"{type(estimator).__name__} cannot be fitted: {why}",
            "name a clusterer that is fitted without classes, such as sklearn.cluster:Birch",
        ) from error


def _fit_at_once(subsample: Subsample, estimator: Any, scaler: Scaler) -> Any:
    return estimator.fit(scaler.transform(subsample.load()))
