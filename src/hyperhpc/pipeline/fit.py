"""The full-batch model: Lloyd's iterations over the whole sample, from the best start.

Workers add up, the decisions are taken here.
"""

from __future__ import annotations

import numpy as np

from hyperhpc.analysis.kernel import ClusterSums, Scaler, Scorer, sum_clusters
from hyperhpc.analysis.kmeans import Step, farthest_pixels, lloyd
from hyperhpc.compute.sample import Sample
from hyperhpc.compute.starts import Subsample, find_start
from hyperhpc.pipeline.checkpoint import Checkpoint
from hyperhpc.pipeline.progress import Progress
from hyperhpc.pipeline.sums import SampleOnWorkers


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
