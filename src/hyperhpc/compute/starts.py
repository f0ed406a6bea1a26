"""The start of the full-batch model: many starts on few pixels, the best on more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import islice, pairwise
from operator import add
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hyperhpc.analysis.kernel import Scaler
from hyperhpc.analysis.kmeans import (
    ClusterMoments,
    Fit,
    Moments,
    fit_in_memory,
    fit_scaler,
    measure_clusters,
    measure_moments,
)
from hyperhpc.analysis.starts import draw_seeds, fit_start, merge_bands
from hyperhpc.compute.models import Labeller, label_all
from hyperhpc.compute.sample import Sample
from hyperhpc.rundir.plan import SUBSAMPLE, starts_at_once
from hyperhpc.rundir.progress import Progress
from hyperhpc.workers import Workers

# Sums over the sample, taken on workers: the only thing the fits ask of all its pixels.
#
# Every sum is taken over fixed blocks of the sample and added in the order of the blocks,
# so neither workers nor tiles change a bit.


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


def measure_models(
    data: SampleOnWorkers, labellers: Sequence[Labeller], scaler: Scaler
) -> list[ClusterMoments]:
    """Pixels, sums and squares of the clusters of each model over the whole sample."""
    total = data.add_up(_measure_block, labellers, scaler)
    edges = np.cumsum([0, *(labeller.n_clusters for labeller in labellers)])
    return [total[start:stop] for start, stop in pairwise(edges.tolist())]


def _measure_block(
    dn: np.ndarray, labellers: Sequence[Labeller], scaler: Scaler
) -> ClusterMoments:
    labels = label_all(labellers, dn, np.arange(dn.shape[1]), np.ones(len(dn), dtype=bool))
    sizes = [labeller.n_clusters for labeller in labellers]
    return measure_clusters(dn, labels, sizes, scaler)


#: Starts of the full-batch model,
STARTS = 10
#: how many of them go on to more pixels,
FINALISTS = 3
#: by how much less inertia two of them are told apart,
SAME = 1e-4
#: how far behind the best one may lie: its pixels are few, but the same for all,
BEHIND = 0.02
#: and the most pixels they begin with.
COARSE = 25_000


@dataclass(frozen=True)
class Subsample:
    """Pixels of the sample drawn once, small enough for the memory of one worker.

    Attributes
    ----------
    path
        Their file: DN (pixel, good band).
    coarse
        That of a part of them.
    merged
        Those of the part in few bands, int8 (pixel, merged band).
    """

    path: Path
    coarse: Path
    merged: Path

    @classmethod
    def at(cls, work: Path) -> Subsample:
        """The files of a run, in the folder ``work``."""
        names = ("subsample.npy", "subsample-coarse.npy", "subsample-merged.npy")
        return cls(*(work / name for name in names))

    def load(self) -> np.ndarray:
        """All of it (pixel, band), in memory."""
        return np.load(self.path, allow_pickle=False)

    def load_coarse(self) -> np.ndarray:
        """At most 25,000 pixels of it (pixel, band), taken evenly, in memory."""
        return np.load(self.coarse, allow_pickle=False)

    def load_merged(self) -> np.ndarray:
        """The same pixels in few bands (pixel, merged band), in memory."""
        return np.load(self.merged, allow_pickle=False)


def write_subsample(sample: Sample, seed: int, subsample: Subsample) -> int:
    """On a worker: at most 200,000 valid pixels, drawn evenly, in pixel order, to files."""
    positions = np.flatnonzero(sample.is_valid())
    if positions.size > SUBSAMPLE:
        rng = np.random.default_rng([seed, 1])
        positions = np.sort(rng.choice(positions, SUBSAMPLE, replace=False))
    step = max(1, -(-positions.size // COARSE))
    with subsample.path.open("wb") as whole, subsample.coarse.open("wb") as part:
        for file, n_pixels in ((whole, positions.size), (part, -(-positions.size // step))):
            _write_header(file, (n_pixels, sample.values.shape[2]), sample.values.dtype)
        for start, rows in _by_block(positions):
            stop = min(start + 4096, sample.n_pixels)
            dn = sample.values.read_pixels(start, stop)[positions[rows] - start]
            whole.write(dn.data)
            part.write(np.ascontiguousarray(dn[-rows.start % step :: step]).data)
    return int(positions.size)


def write_merged(subsample: Subsample, scaler: Scaler) -> None:
    """On a worker: the part of the subsample once more, in few bands."""
    np.save(subsample.merged, merge_bands(subsample.load_coarse(), scaler))


def _write_header(file: BinaryIO, shape: tuple[int, int], dtype: str) -> None:
    """That of an .npy file; its rows follow."""
    about = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)


def _by_block(positions: np.ndarray) -> list[tuple[int, slice]]:
    """Sorted positions in runs that lie in the same 4096 pixels."""
    blocks = positions // 4096
    edges = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), len(positions)]
    return [(int(blocks[a]) * 4096, slice(a, b)) for a, b in pairwise(edges) if b > a]


def seed_start(subsample: Subsample, n_clusters: int, key: list[int]) -> np.ndarray:
    """On a worker: k-means++ centres (cluster, band), DN, from a part of the subsample."""
    seeds = draw_seeds(subsample.load_merged(), n_clusters, np.random.default_rng(key))
    return subsample.load_coarse()[seeds].astype(np.float64)


def try_start(
    subsample: Subsample,
    n_clusters: int,
    scaler: Scaler,
    mean_squares: np.ndarray,
    key: list[int],
) -> Fit:
    """On a worker: one start, run to convergence on a part of the subsample."""
    dn, rng = subsample.load_coarse(), np.random.default_rng(key)
    squares = mean_squares * len(dn)
    return fit_start(dn, subsample.load_merged(), n_clusters, scaler, squares, rng)


def refine_start(
    subsample: Subsample, scaler: Scaler, mean_squares: np.ndarray, centres: np.ndarray
) -> Fit:
    """On a worker: a start that did well, run to convergence on the whole subsample."""
    dn = subsample.load()
    return fit_in_memory(dn, centres, scaler, mean_squares * len(dn))


def find_start(
    data: SampleOnWorkers,
    subsample: Subsample,
    n_clusters: int,
    scaler: Scaler,
    squares: np.ndarray,
    seed: int,
    progress: Progress,
) -> np.ndarray:
    """Centres (cluster, band), DN, to begin with on the whole sample.

    Parameters
    ----------
    squares
        (band) sum of squares of DN minus offset over the sample.
    """
    n_valid = int(data.sample.is_valid().sum())
    mean_squares = squares / n_valid
    keys = [[seed, 2, number] for number in range(STARTS)]
    hands: list[tuple] = [(subsample, n_clusters, scaler, mean_squares, key) for key in keys]
    best = _best_of(_deal(data, try_start, hands, progress))
    if len(best) > 1 and n_valid > COARSE:  # else more pixels have nothing to decide
        hands = [(subsample, scaler, mean_squares, fit.centres) for fit in best]
        best = _best_of(_deal(data, refine_start, hands, progress))
    return best[0].centres


def _best_of(fits: list[Fit]) -> list[Fit]:
    """The best first; of those that have come to the same end only one, and none far behind."""
    best: list[Fit] = []
    for fit in sorted(fits, key=lambda fit: fit.inertia):  # equals stay in their order
        if not best or fit.inertia > best[-1].inertia * (1 + SAME):
            best.append(fit)
    return [fit for fit in best[:FINALISTS] if fit.inertia <= best[0].inertia * (1 + BEHIND)]


def _deal(
    data: SampleOnWorkers, function: Callable[..., Fit], hands: list[tuple], progress: Progress
) -> list[Fit]:
    """``function`` of each hand, as many at a time as the memory of the workers holds."""
    from distributed import as_completed

    client, workers = data.workers.client, data.workers
    each = starts_at_once(
        data.sample.values.pixel_bytes,
        min(SUBSAMPLE, data.sample.n_pixels),
        workers.memory_bytes,
        workers.threads,
    )
    # Dealt out one by one: two on a worker that has room for one would be too much
    places = workers.places() * max(each, 1)
    waiting = iter(enumerate(hands))
    held: dict[Any, tuple[int, str]] = {}
    fits: dict[int, Fit] = {}
    engaged = {future: place for future, place in workers.engaged.items() if place in places}

    def give(place: str) -> list[Any]:
        given = []
        for number, hand in islice(waiting, 1):
            future = client.submit(
                function, *hand, pure=False, workers=[place], allow_other_workers=True
            )
            held[future] = number, place
            given.append(future)
        return given

    for place in engaged.values():  # its turn comes when that is done
        places.remove(place)
    done = as_completed([*engaged, *(future for place in places for future in give(place))])
    for future in done:
        if future in engaged:
            place = engaged[future]
        else:
            number, place = held.pop(future)
            fits[number] = future.result()
            progress.advance(1)
        for following in give(place):
            done.add(following)
    return [fits[number] for number in range(len(hands))]
