"""The start of the full-batch model: many starts on few pixels, the best ones on more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler
from hyperhpc.analysis.kmeans import Fit, fit_in_memory
from hyperhpc.analysis.noise import BandQuality, measure_bands
from hyperhpc.analysis.starts import draw_seeds, fit_start, merge_bands
from hyperhpc.compute.fit.sums import SampleOnWorkers
from hyperhpc.compute.sample import Sample
from hyperhpc.files import atomic_write
from hyperhpc.rundir.memory import SUBSAMPLE, starts_at_once
from hyperhpc.rundir.progress import Progress

#: Starts of the full-batch model.
STARTS = 10
#: How many of them are refined on more pixels.
FINALISTS = 3
#: Two fits whose inertia differs by less than this share are the same fit.
DUPLICATE_RTOL = 1e-4
#: The share by which a finalist's inertia may exceed the best: both are from few pixels.
MAX_GAP = 0.02
#: The most pixels a start is first tried on.
MAX_COARSE_PIXELS = 25_000
#: Pixels of the sample read at a time.
_READ_PIXELS = 4096


@dataclass(frozen=True)
class Subsample:
    """Files of pixels of the sample drawn once, few enough for the memory of one worker.

    ``path``: DN (pixel, good band). ``coarse``: At most 25,000 of these, taken evenly.
    ``merged``: The coarse pixels in few bands, int8 (pixel, merged band).
    """

    path: Path
    coarse: Path
    merged: Path

    @classmethod
    def at(cls, work: Path) -> Subsample:
        """The files of a run, in the folder ``work``."""
        names = ("subsample.npy", "subsample-coarse.npy", "subsample-merged.npy")
        return cls(*(work / name for name in names))


def write_subsample(sample: Sample, seed: int, subsample: Subsample) -> None:
    """On a worker: draw at most 200,000 valid pixels evenly and write them in pixel order."""
    positions = np.flatnonzero(sample.is_valid())
    if positions.size > SUBSAMPLE:
        rng = np.random.default_rng([seed, 1])
        positions = np.sort(rng.choice(positions, SUBSAMPLE, replace=False))
    step = max(1, -(-positions.size // MAX_COARSE_PIXELS))
    with (
        atomic_write(subsample.path, flush=False) as all_pixels,
        atomic_write(subsample.coarse, flush=False) as coarse,
        all_pixels.open("wb") as all_file,
        coarse.open("wb") as coarse_file,
    ):
        descr, n_bands = np.dtype(sample.values.dtype).str, sample.values.shape[2]
        for file, n in ((all_file, positions.size), (coarse_file, -(-positions.size // step))):
            header = {"descr": descr, "fortran_order": False, "shape": (n, n_bands)}
            np.lib.format.write_array_header_1_0(file, header)
        for start, rows in _split_by_read(positions):
            stop = min(start + _READ_PIXELS, sample.n_pixels)
            dn = sample.values.read_pixels(start, stop)[positions[rows] - start]
            all_file.write(dn.data)
            coarse_file.write(np.ascontiguousarray(dn[-rows.start % step :: step]).data)


def measure_subsample(
    subsample: Subsample, wavelength_nm: np.ndarray, scale_factor: float
) -> BandQuality | None:
    """On a worker: noise of the bands, and which were interpolated; None without the file."""
    if not subsample.coarse.exists():
        return None
    return measure_bands(np.load(subsample.coarse), wavelength_nm, scale_factor)


def write_merged(subsample: Subsample, scaler: Scaler) -> None:
    """On a worker: write the coarse pixels in few bands."""
    merged = merge_bands(np.load(subsample.coarse), scaler)
    with atomic_write(subsample.merged, flush=False) as part, part.open("wb") as file:
        np.save(file, merged)


def _split_by_read(positions: np.ndarray) -> list[tuple[int, slice]]:
    """First pixel of each read, and the slice of the sorted positions that it covers."""
    reads = positions // _READ_PIXELS
    edges = [0, *(np.flatnonzero(np.diff(reads)) + 1).tolist(), len(positions)]
    return [(int(reads[a]) * _READ_PIXELS, slice(a, b)) for a, b in pairwise(edges) if b > a]


def seed_start(subsample: Subsample, n_clusters: int, key: list[int]) -> np.ndarray:
    """On a worker: k-means++ centres (cluster, band), DN, from the coarse pixels."""
    seeds = draw_seeds(np.load(subsample.merged), n_clusters, np.random.default_rng(key))
    return np.load(subsample.coarse)[seeds].astype(np.float64)


def try_start(
    subsample: Subsample, n_clusters: int, scaler: Scaler, mean_squares: np.ndarray, key: list[int]
) -> Fit:
    """On a worker: run one start to convergence on the coarse pixels."""
    dn, rng = np.load(subsample.coarse), np.random.default_rng(key)
    squares = mean_squares * len(dn)
    return fit_start(dn, np.load(subsample.merged), n_clusters, scaler, squares, rng)


def refine_start(
    subsample: Subsample, scaler: Scaler, mean_squares: np.ndarray, centres: np.ndarray
) -> Fit:
    """On a worker: run one of the best starts to convergence on the whole subsample."""
    dn = np.load(subsample.path)
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
    """Centres (cluster, band), DN, from which the fit of the whole sample begins.

    ``squares``: (band) sum of squares of DN minus offset over the sample.
    """
    n_valid = int(data.sample.is_valid().sum())
    mean_squares = squares / n_valid
    keys = [[seed, 2, number] for number in range(STARTS)]
    tasks: list[tuple] = [(subsample, n_clusters, scaler, mean_squares, key) for key in keys]
    best = _choose_best(_schedule(data, try_start, tasks, progress))
    if len(best) > 1 and n_valid > MAX_COARSE_PIXELS:  # else there are no more pixels
        tasks = [(subsample, scaler, mean_squares, fit.centres) for fit in best]
        best = _choose_best(_schedule(data, refine_start, tasks, progress))
    return best[0].centres


def _choose_best(fits: list[Fit]) -> list[Fit]:
    """The best first, without duplicates and without those far behind it."""
    best: list[Fit] = []
    for fit in sorted(fits, key=lambda fit: fit.inertia):  # equal ones keep their order
        if not best or fit.inertia > best[-1].inertia * (1 + DUPLICATE_RTOL):
            best.append(fit)
    return [fit for fit in best[:FINALISTS] if fit.inertia <= best[0].inertia * (1 + MAX_GAP)]


def _schedule(
    data: SampleOnWorkers, function: Callable[..., Fit], tasks: list[tuple], progress: Progress
) -> list[Fit]:
    """``function(*task)`` of each task, as many at a time as fit the workers' memory."""
    from distributed import as_completed

    client, workers = data.workers.client, data.workers
    n_pixels, pixel_bytes = min(SUBSAMPLE, data.sample.n_pixels), data.sample.values.pixel_bytes
    per_worker = starts_at_once(pixel_bytes, n_pixels, workers.memory_bytes, workers.threads)
    # Submitted one by one: two on a worker with room for one would take too much memory
    free = workers.addresses() * max(per_worker, 1)
    waiting = iter(enumerate(tasks))
    running: dict[Any, tuple[int, str]] = {}
    fits: dict[int, Fit] = {}
    pinned = {future: address for future, address in workers.pinned.items() if address in free}

    done = as_completed(list(pinned))

    def submit_next(address: str) -> None:
        """Submit the next task, if there is one, preferably to a worker."""
        for number, task in islice(waiting, 1):
            future = client.submit(
                function, *task, pure=False, workers=[address], allow_other_workers=True
            )
            running[future] = number, address
            done.add(future)

    for address in pinned.values():  # free again when its pinned task is done
        free.remove(address)
    for address in free:
        submit_next(address)
    for future in done:
        if future in pinned:
            address = pinned[future]
        else:
            number, address = running.pop(future)
            fits[number] = future.result()
            progress.advance(1)
        submit_next(address)
    return [fits[number] for number in range(len(tasks))]
