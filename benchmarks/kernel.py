"""The kernel compared with scikit-learn: the same int16 pixels, one thread each."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from record import Result, Row
from scenes import simulated

N_CLUSTERS = 8
#: How often a call of a fraction of a second is timed.
_TIMES = 5
#: More passes in the longer of two fits; the difference in time is that of the passes.
_PASSES = 5
STARTS = 10


def load_pixels(n_pixels: int) -> np.ndarray:
    """Valid pixels of a simulated scene, good bands (pixel, band), int16."""
    from hyperhpc.analysis.kernel import valid_pixels
    from hyperhpc.config import load_config
    from hyperhpc.pipeline.prepare import prepare

    side = max(int((1.6 * n_pixels) ** 0.5), 96)
    path = simulated(side, side)
    known = prepare(load_config(path, Path("no-run"), {}), is_plan=True)
    dn = known.scene.read(slice(0, side), slice(0, side), known.selection.bands)
    flat = dn.reshape(-1, dn.shape[2])
    return np.ascontiguousarray(flat[valid_pixels(flat, known.scene.nodata)][:n_pixels])


def time_alternately(
    functions: Mapping[str, Callable[[], Any]], times: int = 1
) -> dict[str, float]:
    """Seconds of the fastest call of each; alternately, as the speed of machines varies."""
    best = dict.fromkeys(functions, math.inf)
    for _ in range(times):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def against_sklearn(n_pixels: int, repeats: int) -> Result:
    """Compare labelling, one Lloyd pass, and whole fits with scikit-learn."""
    dn = load_pixels(n_pixels)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fits that are stopped early warn
        found = [_compare(dn, seed) for seed in range(repeats)]

    def column(key: str) -> list[float]:
        return [r[key] for r in found]

    def ratio(theirs: str, ours: str) -> list[float]:
        return [r[theirs] / r[ours] for r in found]

    def rate(key: str) -> list[float]:
        return [len(dn) / r[key] / 1e6 for r in found]

    rows = [
        Row("predict, over float64", ratio("predict64", "label"), "x", at_least=4),
        Row("predict, over float32", ratio("predict32", "label"), "x", at_least=4),
        Row("a Lloyd pass, over float64", ratio("first64", "sum"), "x", at_least=3),
        Row("a Lloyd pass, over float32", ratio("first32", "sum"), "x", at_least=3),
        Row("a further pass, over float64", ratio("pass64", "sum"), "x"),
        Row("a further pass, over float32", ratio("pass32", "sum"), "x"),
        Row(
            f"inertia of {STARTS} starts, over theirs",
            ratio("inertia", "inertia64"),
            "x",
            at_most=1.001,
        ),
        Row(f"fit of {STARTS} starts, over float64", ratio("fit64", "fit"), "x"),
        Row("labels that are theirs (float64)", column("same"), "%"),
        Row("predict, ours", rate("label"), "Mpx/s"),
        Row("predict, float64", rate("predict64"), "Mpx/s"),
        Row("predict, float32", rate("predict32"), "Mpx/s"),
        Row("a Lloyd pass, ours", rate("sum"), "Mpx/s"),
        Row("a further pass, float64", rate("pass64"), "Mpx/s"),
        Row("a further pass, float32", rate("pass32"), "Mpx/s"),
    ]
    return Result(
        "kernel",
        f"Kernel against scikit-learn, {len(dn)} pixels of {dn.shape[1]} bands, one thread",
        f"bench.py kernel --pixels {n_pixels} --repeats {repeats}",
        rows,
        found,
        "Predict starts from int16 on both sides: label_pixels against StandardScaler "
        "and KMeans.predict, in float64 (which StandardScaler makes of int16) and in "
        "float32 (cast before). A Lloyd pass starts from int16 as well: sum_clusters against "
        "the scaling and what one more iteration adds to a KMeans. A further pass is that "
        "iteration alone: KMeans keeps the scaled pixels, two or four times as much as the "
        "int16 that our kernel casts in each pass.",
        is_judged=n_pixels >= 100_000,
    )


def _compare(dn: np.ndarray, seed: int) -> dict[str, float]:
    """One repeat, with its own starts."""
    from hyperhpc.analysis.kernel import Scorer, label_pixels, sum_clusters
    from hyperhpc.analysis.kmeans import fit_scaler, measure_moments
    from hyperhpc.analysis.starts import draw_seeds, merge_bands

    zeros = np.zeros(dn.shape[1])
    scaler = fit_scaler(measure_moments(dn, zeros), zeros, 10000.0, is_integer=True)
    few = merge_bands(dn[:20000], scaler)
    seeds = draw_seeds(few, N_CLUSTERS, np.random.default_rng(seed))
    centres = dn[seeds].astype(np.float64)
    scorer = Scorer(centres, scaler)
    scaled = (centres - scaler.mean) / scaler.scale
    passes: dict[int, int] = {}
    calls: dict[str, Callable[[], Any]] = {
        "label": lambda: label_pixels(dn, [scorer])[0],
        "sum": lambda: sum_clusters(dn, scorer),
    }
    for bits in (32, 64):
        theirs, passes[bits] = _sklearn_calls(dn, scaled, bits)
        calls |= theirs
    found = time_alternately(calls, _TIMES)
    for bits, n_passes in passes.items():
        found[f"pass{bits}"] = (found[f"longer{bits}"] - found[f"once{bits}"]) / n_passes
        found[f"first{bits}"] = found[f"scale{bits}"] + found[f"pass{bits}"]
    same = (calls["predict64"]() == calls["label"]()).mean()
    return found | {"same": 100 * float(same)} | _fits(dn[: max(len(dn) // 4, 1000)], scaler, seed)


def _sklearn_calls(
    dn: np.ndarray, centres: np.ndarray, bits: int
) -> tuple[dict[str, Callable[[], Any]], int]:
    """scikit-learn's predict and passes, in float32 or float64; number of further passes."""
    from sklearn.cluster import KMeans
    from sklearn.preprocessing import StandardScaler

    dtype = np.dtype(f"float{bits}")
    standard = StandardScaler().fit(dn)

    def scaled() -> np.ndarray:
        return standard.transform(dn.astype(dtype) if bits == 32 else dn)

    def fit(passes: int) -> KMeans:
        model = KMeans(N_CLUSTERS, init=centres, n_init=1, max_iter=passes, tol=0.0)
        return model.fit(x)

    x = scaled()
    assert x.dtype == dtype
    model, longer = fit(1), fit(1 + _PASSES)
    model.cluster_centers_ = centres.astype(dtype)
    calls = {
        f"scale{bits}": scaled,
        f"once{bits}": lambda: fit(1),
        f"longer{bits}": lambda: fit(1 + _PASSES),
        f"predict{bits}": lambda: model.predict(scaled()),
    }
    return calls, max(longer.n_iter_ - 1, 1)  # fewer if no centre moves


def _fits(dn: np.ndarray, scaler: Any, seed: int) -> dict[str, float]:
    """Whole fits of several starts: best inertia and seconds of both libraries."""
    from sklearn.cluster import KMeans

    from hyperhpc.analysis.kmeans import measure_moments
    from hyperhpc.analysis.starts import fit_start, merge_bands

    def ours() -> float:
        merged = merge_bands(dn, scaler)
        squares = measure_moments(dn, scaler.offset).squares.astype(float)
        starts = (np.random.default_rng([seed, n]) for n in range(STARTS))
        return min(
            fit_start(dn, merged, N_CLUSTERS, scaler, squares, rng).inertia for rng in starts
        )

    def theirs() -> float:
        model = KMeans(N_CLUSTERS, n_init=STARTS, random_state=seed)
        return float(model.fit(scaler.transform(dn)).inertia_)

    found: dict[str, float] = {}
    taken = time_alternately(
        {
            "fit": lambda: found.update(inertia=ours()),
            "fit64": lambda: found.update(inertia64=theirs()),
        }
    )
    return taken | found
