"""Sums over the sample, computed on workers: all that the fits need of all its pixels.

Every sum is taken over fixed blocks of the sample and added in the order of the blocks, so
neither the workers nor the tiles change a bit of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

from hyperhpc.analysis import kmeans
from hyperhpc.analysis.kernel import Scaler
from hyperhpc.analysis.kmeans import ClusterMoments, Moments
from hyperhpc.compute.fit.models import Labeller, label_all
from hyperhpc.compute.sample import Sample
from hyperhpc.files import guard_writes
from hyperhpc.rundir.lock import Claim
from hyperhpc.workers import Workers

if TYPE_CHECKING:
    from distributed import Future


@dataclass(frozen=True)
class SampleOnWorkers:
    """The sample, and the workers that run functions over its blocks.

    ``claim``: That OUT is ours; functions that write there ask it.
    """

    sample: Sample
    workers: Workers
    claim: Claim

    def submit(self, function: Callable[..., Any], *args: Any) -> Future:
        """Start ``function(*args)``, which may write files in OUT, on one worker."""
        arguments = (self.claim, function, *args)
        return self.workers.client.submit(_run_guarded, *arguments, pure=False)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """``function(*args)`` on one worker, as by :meth:`submit`."""
        return self.submit(function, *args).result()

    def add_up(self, function: Callable[..., Any], *args: Any) -> Any:
        """Sum of ``function(dn, *args)`` over all blocks, in the order of the blocks."""
        parts = self.map_parts(_sum_blocks, function, *args)
        return reduce(add, (block for part in parts for block in part))

    def map_parts(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """``function(sample, block numbers, *args)`` for consecutive parts of the sample."""
        n_parts = min(self.sample.n_blocks, 4 * self.workers.count * self.workers.threads)
        edges = np.linspace(0, self.sample.n_blocks, n_parts + 1).astype(int)
        futures = [
            self.workers.client.submit(function, self.sample, range(start, stop), *args, pure=False)
            for start, stop in pairwise(edges.tolist())
        ]
        return list(self.workers.client.gather(futures))


def _run_guarded(claim: Claim, function: Callable[..., Any], *args: Any) -> Any:
    """On a worker: what is written in OUT is written only while it is ours."""
    with guard_writes(claim.path.parent, claim.check):
        return function(*args)


def _sum_blocks(sample: Sample, numbers: range, function: Callable, *args: Any) -> list[Any]:
    """On a worker: one value for a part of integers, one for each block of floats."""
    values = [function(dn, *args) for dn in sample.blocks(numbers)]
    return [reduce(add, values)] if sample.is_integer else values


def measure_scaler(
    data: SampleOnWorkers, scale_factor: float
) -> tuple[Scaler, Moments, np.ndarray]:
    """Scaler of the sample, its moments, and the DN (band) from which these are measured."""
    is_integer = data.sample.is_integer
    reference = np.zeros(data.sample.values.shape[2])
    if not is_integer:  # sums relative to a typical pixel lose fewer digits
        for dn in data.sample.blocks(range(data.sample.n_blocks)):
            if len(dn):
                reference = dn[0].astype(np.float64)
                break
    moments = data.add_up(kmeans.measure_moments, reference)
    scaler = kmeans.fit_scaler(moments, reference, scale_factor, is_integer=is_integer)
    return scaler, moments, reference


def shift_squares(moments: Moments, reference: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Sum of squares (band) relative to another offset; exact, as float64, for integers."""
    if np.issubdtype(moments.sums.dtype, np.integer):
        shift = [int(o) - int(r) for o, r in zip(offset, reference, strict=True)]
        exact = [
            int(q) - 2 * d * int(s) + moments.count * d * d
            for q, s, d in zip(moments.squares, moments.sums, shift, strict=True)
        ]
        return np.array(exact, dtype=np.float64)
    d = offset - reference
    return moments.squares - 2 * d * moments.sums + moments.count * d**2


def measure_models(
    data: SampleOnWorkers, labellers: Sequence[Labeller], scaler: Scaler
) -> list[ClusterMoments]:
    """Moments of the clusters of each model over the whole sample."""
    total = data.add_up(_measure_block, labellers, scaler)
    edges = np.cumsum([0, *(labeller.n_clusters for labeller in labellers)])
    return [total[start:stop] for start, stop in pairwise(edges.tolist())]


def _measure_block(dn: np.ndarray, labellers: Sequence[Labeller], scaler: Scaler) -> ClusterMoments:
    labels = label_all(labellers, dn, np.arange(dn.shape[1]), np.ones(len(dn), dtype=bool))
    sizes = [labeller.n_clusters for labeller in labellers]
    return kmeans.measure_clusters(dn, labels, sizes, scaler)
