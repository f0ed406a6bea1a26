"""``--engine dask-ml``: its own estimators on the same sample, for comparison."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler
from hyperhpc.analysis.kmeans import Step
from hyperhpc.compute.estimators import MIN_STEPS, draw_batches, read_batch
from hyperhpc.compute.sample import SAMPLE_BLOCK, Sample
from hyperhpc.compute.starts import Subsample, seed_start
from hyperhpc.errors import ResourceError
from hyperhpc.pipeline.sums import SampleOnWorkers

#: Mini-batches handed to it at a time: it reads all it is given at once.
AT_ONCE = 8


def fit_kmeans(data: SampleOnWorkers, n_clusters: int, scaler: Scaler, seed: int) -> Step:
    """``dask_ml.cluster.KMeans`` of the whole sample, in the workers' memory as float64.

    Raises
    ------
    ResourceError
        If it does not fit there.
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
            "leave --engine away: the built-in engine needs no copy of the sample",
        )
    blocks = [
        _lazy(_read_block, n, data.sample, number, scaler)
        for number, n in enumerate(counts)
        if n
    ]
    table = da.concatenate(blocks).persist()
    model = KMeans(n_clusters=n_clusters, random_state=seed, tol=1e-4, max_iter=300).fit(table)
    centres = scaler.mean + np.asarray(model.cluster_centers_) * scaler.scale
    return Step(centres, int(model.n_iter_), is_settled=True)


def fit_incremental(
    data: SampleOnWorkers, subsample: Subsample, n_clusters: int, scaler: Scaler, seed: int
) -> Step:
    """``Incremental(MiniBatchKMeans)``: the batches and steps of the built-in engine."""
    import dask.array as da
    from dask_ml.wrappers import Incremental
    from sklearn.cluster import MiniBatchKMeans

    start = data.workers.client.submit(
        seed_start, subsample, n_clusters, [seed, 4], pure=False
    ).result()
    model = MiniBatchKMeans(
        n_clusters=n_clusters,
        init=(start - scaler.mean) / scaler.scale,
        n_init=1,
        random_state=seed,
        compute_labels=False,
    )
    # The batches are drawn already; their order is part of the result
    model = Incremental(model, shuffle_blocks=False)
    batches = (
        _lazy(read_batch, n, data.sample, runs, scaler)
        for runs, n in draw_batches(data.sample, seed, MIN_STEPS)
    )
    while some := list(islice(batches, AT_ONCE)):
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


def _read_block(sample: Sample, number: int, scaler: Scaler) -> np.ndarray:
    (dn,) = sample.blocks(range(number, number + 1))
    return scaler.transform(dn)
