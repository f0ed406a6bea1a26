"""The Dask side of the models: sums over the sample on workers, decisions here.

Each model ends as a :class:`FittedModel`. Every sum is taken over fixed blocks of the
sample and added in the order of the blocks, so neither workers nor tiles change a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import ClusterSums, Scaler, Scorer, sum_clusters
from hyperhpc.analysis.kmeans import (
    ClusterMoments,
    Fit,
    Moments,
    farthest_pixels,
    fit_in_memory,
    fit_scaler,
    lloyd,
    measure_clusters,
    measure_moments,
    seed_centres,
)
from hyperhpc.errors import ResourceError
from hyperhpc.pipeline.models import Labeller
from hyperhpc.pipeline.plan import SUBSAMPLE, starts_at_once
from hyperhpc.pipeline.progress import Progress
from hyperhpc.pipeline.sample import Sample
from hyperhpc.workers import Workers

#: Starts of the full-batch model.
STARTS = 10


@dataclass(frozen=True)
class SampleOnWorkers:
    """The sample, and workers to run functions over its blocks.

    Attributes
    ----------
    sample
        Where it lies.
    workers
        Who reads it.
    """

    sample: Sample
    workers: Workers

    def add_up(self, function: Callable[..., Any], *args: Any) -> Any:
        """Sum of ``function(dn, *args)`` over all blocks, in the order of the blocks."""
        parts = self.map_parts(_sum_blocks, function, *args)
        return reduce(add, (block for part in parts for block in part))

    def map_parts(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """``function(sample, block numbers, *args)`` for consecutive parts of the sample."""
        n_parts = min(self.sample.n_blocks, 4 * self.workers.count * self.workers.threads)
        edges = np.linspace(0, self.sample.n_blocks, n_parts + 1).astype(int)
        futures = [
            self.workers.client.submit(
                function, self.sample, range(start, stop), *args, pure=False
            )
            for start, stop in pairwise(edges.tolist())
        ]
        return list(self.workers.client.gather(futures))


def _sum_blocks(sample: Sample, numbers: range, function: Callable, *args: Any) -> list[Any]:
    """On a worker: one value for a part of integers, one for each block of floats."""
    values = [function(dn, *args) for dn in sample.blocks(numbers)]
    is_exact = np.issubdtype(np.dtype(sample.values.dtype), np.integer)
    return [reduce(add, values)] if is_exact else values


def measure_scaler(
    data: SampleOnWorkers, scale_factor: float
) -> tuple[Scaler, Moments, np.ndarray]:
    """Scaler of the sample, its moments, and the reference they are about."""
    n_bands = data.sample.values.shape[2]
    is_integer = np.issubdtype(np.dtype(data.sample.values.dtype), np.integer)
    reference = np.zeros(n_bands)
    if not is_integer:  # sums about a typical pixel lose fewer digits
        for dn in data.sample.blocks(range(data.sample.n_blocks)):
            if len(dn):
                reference = dn[0].astype(np.float64)
                break
    moments = data.add_up(measure_moments, reference)
    return (
        fit_scaler(moments, reference, scale_factor, is_integer=is_integer),
        moments,
        reference,
    )


def squares_about(moments: Moments, reference: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(band) sum of squares about another offset; exact, as float64, for integers."""
    if np.issubdtype(moments.sums.dtype, np.integer):
        shift = [int(o) - int(r) for o, r in zip(offset, reference, strict=True)]
        exact = [
            int(q) - 2 * d * int(s) + moments.count * d * d
            for q, s, d in zip(moments.squares, moments.sums, shift, strict=True)
        ]
        return np.array(exact, dtype=np.float64)
    d = offset - reference
    return moments.squares - 2 * d * moments.sums + moments.count * d**2


def write_subsample(sample: Sample, seed: int, path: Path) -> int:
    """On a worker: at most 200,000 valid pixels, drawn evenly, in pixel order, to a file."""
    positions = np.flatnonzero(sample.is_valid())
    if positions.size > SUBSAMPLE:
        rng = np.random.default_rng([seed, 1])
        positions = np.sort(rng.choice(positions, SUBSAMPLE, replace=False))
    shape = (positions.size, sample.values.shape[2])
    out = np.lib.format.open_memmap(
        path, mode="w+", dtype=np.dtype(sample.values.dtype), shape=shape
    )
    for start, rows in _by_block(positions):
        stop = min(start + 4096, sample.n_pixels)
        out[rows] = sample.values.read_pixels(start, stop)[positions[rows] - start]
    out.flush()
    return int(positions.size)


def _by_block(positions: np.ndarray) -> list[tuple[int, slice]]:
    """Sorted positions in runs that lie in the same 4096 pixels."""
    blocks = positions // 4096
    edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(positions)]
    return [(int(blocks[a]) * 4096, slice(a, b)) for a, b in pairwise(edges) if b > a]


def load_subsample(path: Path) -> np.ndarray:
    """The subsample (pixel, band), in memory."""
    return np.load(path, allow_pickle=False)


def seed_on_worker(path: Path, n_clusters: int, scaler: Scaler, key: list[int]) -> np.ndarray:
    """On a worker: k-means++ centres from the subsample."""
    return seed_centres(load_subsample(path), n_clusters, scaler, np.random.default_rng(key))


def try_start(path: Path, n_clusters: int, scaler: Scaler, key: list[int]) -> Fit:
    """On a worker: one start, run to convergence on the subsample."""
    dn = load_subsample(path)
    squares = measure_moments(dn, scaler.offset).squares.astype(np.float64)
    centres = seed_centres(dn, n_clusters, scaler, np.random.default_rng(key))
    return fit_in_memory(dn, centres, scaler, squares)


def fit_lloyd(
    data: SampleOnWorkers,
    subsample: Path,
    n_clusters: int,
    scaler: Scaler,
    squares: np.ndarray,
    seed: int,
    progress: Progress,
) -> Fit:
    """Several starts on the subsample; the best refined on the whole sample."""
    client = data.workers.client
    workers, values = data.workers, data.sample.values
    each = starts_at_once(
        values.pixel_bytes,
        min(SUBSAMPLE, data.sample.n_pixels),
        workers.memory_bytes,
        workers.threads,
    )
    # Dealt out one by one: two on a worker that has room for one would be too much
    hands = list(client.scheduler_info(n_workers=-1)["workers"]) * max(each, 1)
    fits = []
    for first in range(0, STARTS, len(hands)):
        starts = [
            client.submit(
                try_start,
                subsample,
                n_clusters,
                scaler,
                [seed, 2, number],
                pure=False,
                workers=[hand],
                allow_other_workers=True,
            )
            for number, hand in zip(range(first, STARTS), hands, strict=False)
        ]
        for start in starts:
            fits.append(start.result())
            progress.advance(1)
    best = min(fits, key=lambda fit: fit.inertia)  # the first of equals
    return lloyd(
        lambda centres: _sums(data, centres, scaler),
        lambda centres, n: _farthest(data, centres, scaler, n),
        squares,
        best.centres,
        scaler,
        on_iteration=lambda n, shift: progress.advance(1),
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


def fit_dask_ml(
    data: SampleOnWorkers, n_clusters: int, scaler: Scaler, seed: int
) -> tuple[np.ndarray, int]:
    """Centres (DN) and iterations of ``dask_ml.cluster.KMeans`` on the whole sample.

    It keeps the scaled sample in the workers' memory, in float64.

    Raises
    ------
    ResourceError
        If it does not fit there.
    """
    import dask.array as da
    from dask_ml.cluster import KMeans

    is_valid = data.sample.is_valid()
    need = 3 * int(is_valid.sum()) * data.sample.values.shape[2] * 8
    have = data.workers.count * data.workers.memory_bytes
    if need > have:
        raise ResourceError(
            f"--engine dask-ml needs about {need / 2**30:.1f} GiB for this sample; "
            f"the workers have {have / 2**30:.1f} GiB",
            "leave --engine away: the built-in engine needs no copy of the sample",
        )
    from hyperhpc.pipeline.incremental import block_rows, scaled_block

    rows = block_rows(data.sample, is_valid)
    table = da.concatenate(
        [
            scaled_block(data.sample, range(number, number + 1), scaler, n)
            for number, n in rows
            if n
        ]
    )
    table = table.persist()
    model = KMeans(n_clusters=n_clusters, random_state=seed, tol=1e-4, max_iter=300).fit(table)
    return scaler.mean + np.asarray(model.cluster_centers_) * scaler.scale, int(model.n_iter_)


def measure_model(data: SampleOnWorkers, labeller: Labeller, scaler: Scaler) -> ClusterMoments:
    """Pixels, sums and squares of each cluster over the whole sample."""
    return data.add_up(_measure_block, labeller, scaler)


def _measure_block(dn: np.ndarray, labeller: Labeller, scaler: Scaler) -> ClusterMoments:
    return measure_clusters(dn, labeller.label(dn), labeller.n_clusters, scaler)
