"""The tutorial this project grew from, step by step, on today's libraries and one machine.

    python benchmarks/seed_recipe.py SCENE OUT [--workers 2] [--threads 1] [--memory auto]

SCENE is a Zarr store with the group ``reflectance`` (y, x, wl) of 426 bands. OUT gets the
tutorial's figures (spectrum, indices, clusters, close-up) and ``steps.json``: the seconds of
each step, and the iterations of k-means. The statements are the tutorial's, with its order,
names and style. The only differences are:

- Workers are processes of a LocalCluster, not jobs of Slurm. There is no dashboard.
- ``array.query-planning`` is false: dask-ml's arrays do not work with it.
- Figures go to files; ``%pylab`` and the output of notebook cells are left out.
- ``xr.ufuncs.log``, which was missing from xarray for years, is ``np.log``; ``drop`` is
  ``drop_vars``; chunks are named and whole (``1.`` is refused). ``r(nm)`` stands for
  ``d_all.reflectance.sel(wl=nm, method="nearest")``.
- The point and the close-up had fixed positions in a scene of 13092 x 12050 pixels. Here they
  are in the middle of any scene, the close-up with at most 1000 x 1000 pixels.
- Stores say today how integers become reflectance; ``mask_and_scale=False`` keeps the integers.
- Every step is timed, not only three of them.

No error of the tutorial is corrected: no-data has indices and a cluster, NDLI has the wrong
sign and a neighbouring band, int16 bands are added as int16, starts are drawn without a seed,
and nothing but the figures is kept. As in the tutorial both models are fitted and only ``k1``
labels the scene; ``hyperhpc run`` labels it with both and writes all maps at full resolution.
"""

from __future__ import annotations

import time

START = time.perf_counter()  # imports are a step too

import argparse  # noqa: E402
import json  # noqa: E402
import logging  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import dask  # noqa: E402

dask.config.set({"array.query-planning": False})  # before dask.array is imported

import dask.array as da  # noqa: E402
import dask.dataframe as dd  # noqa: E402
import matplotlib as mpl  # noqa: E402

mpl.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402
from dask.distributed import Client, LocalCluster, wait  # noqa: E402
from dask_ml.cluster import KMeans  # noqa: E402
from dask_ml.preprocessing import StandardScaler  # noqa: E402
from dask_ml.wrappers import Incremental, ParallelPostFit  # noqa: E402
from sklearn.cluster import MiniBatchKMeans  # noqa: E402

#: Seconds of each step, in the order of the tutorial.
STEPS: dict[str, float] = {"imports": time.perf_counter() - START}


@contextmanager
def step(name: str) -> Iterator[None]:
    """Time one step."""
    start = time.perf_counter()
    yield
    STEPS[name] = time.perf_counter() - start
    print(f"{name}: {STEPS[name]:.2f} s", flush=True)


def band_list() -> tuple[np.ndarray, np.ndarray]:
    """Bands to keep and to exclude (H2O or CO2 absorption), by position."""
    good_bands1 = np.linspace(0, 188, 189).astype(int)
    good_bands3 = np.linspace(211, 269, 269 - 211 + 1).astype(int)
    good_bands5 = np.linspace(316, 425, 425 - 316 + 1).astype(int)
    good_bands = np.hstack([good_bands1, good_bands3, good_bands5])
    bad_bands2 = np.linspace(189, 210, 210 - 189 + 1).astype(int)
    bad_bands4 = np.linspace(270, 315, 315 - 270 + 1).astype(int)
    bad_bands = np.hstack([bad_bands2, bad_bands4])
    return (good_bands, bad_bands)


def spectral_indices(d_all: xr.Dataset) -> xr.DataArray:
    """The eight indices (y, x, index), float64, lazy."""

    def r(wl: float) -> xr.DataArray:
        return d_all.reflectance.sel(wl=wl, method="nearest")

    log = np.log
    ndvi = (r(858.6) - r(648.2)) / (r(858.6) + r(648.2))
    cai = (0.5 * (r(2000) / 10000.0 + r(2200) / 10000.0)) - r(2100.0) / 10000.0
    ndli = (log(1.0 / (r(1754.0) / 10000.0)) - log(1.0 / (r(1680.0) / 10000.0))) / (
        log(r(1754.0) / 10000.0) + log(r(1680) / 10000.0)
    )
    mrendvi = (r(750.0) - r(705.0)) / (r(750.0) + r(705.0) - (2.0 * r(445.0)))
    sipi = (r(800.0) - r(445.0)) / (r(800.0) - r(680.0))
    ndni = (log(10000.0 / r(1510.0)) - log(10000.0 / r(1680.0))) / (
        log(10000.0 / r(1510.0)) + log(10000.0 / r(1680.0))
    )
    cri1 = (1.0 / (r(510.0) / 10000.0)) - (1.0 / (r(550.0) / 10000.0))
    cri2 = (1.0 / (r(510.0) / 10000.0)) - (1.0 / (r(700.0) / 10000.0))
    maps = {"ndvi": ndvi, "cai": cai.drop_vars("wl"), "ndli": ndli}
    maps |= {"mrendvi": mrendvi.drop_vars("wl"), "sipi": sipi, "ndni": ndni}
    maps |= {"cri1": cri1, "cri2": cri2}
    chunks = d_all.reflectance.data.chunksize
    return (
        xr.concat(
            [m.assign_coords(index=name).expand_dims("index") for name, m in maps.items()],
            dim="index",
        )
        .chunk({"index": 1, "y": chunks[0], "x": chunks[1]})
        .transpose("y", "x", "index")
        .chunk({"y": "auto", "x": "auto", "index": 1})
    )


def run(scene: str, out: Path) -> None:
    """Load, plot, fit twice, predict, plot."""
    with step("load"):
        d_all = (
            xr.open_zarr(scene, group="reflectance", mask_and_scale=False)
            .isel(wl=band_list()[0])
            .chunk({"x": "auto", "y": "auto", "wl": -1})
            .persist()
        )

    with step("plot spectrum"):
        plt.figure(figsize=(8, 6))
        x, y = (float(d_all[axis].mean()) for axis in "xy")
        d_all.reflectance.interp(x=x, y=y, method="linear").plot.line("b.")
        plt.ylabel("Reflectance * 10000")
        plt.xlabel("Wavelength (nanometers)")
        plt.grid()
        save(out / "spectrum.png")

    with step("indices"):
        d_all["indices"] = spectral_indices(d_all)
        d_all["indices"].data = d_all["indices"].data.persist()
        wait(d_all)

    with step("plot indices"):
        _, axes = plt.subplots(nrows=4, ncols=2, figsize=(24, 30))
        ax = axes.flatten()
        i = -1
        for ind in d_all.coords["index"].values:
            i = i + 1
            d_all.indices.sel(index=ind).where(d_all.reflectance.isel(wl=22) > -10.0).isel(
                x=slice(None, None, 50), y=slice(None, None, 50)
            ).plot(ax=ax[i])
        save(out / "indices.png")

    with step("sample"):
        d_sl = d_all.isel(x=slice(None, None, 4), y=slice(None, None, 4))
        wl_col = d_sl.wl.values
        d_sl = d_sl.reflectance.data.reshape((-1, len(wl_col))).rechunk(("auto", -1))
        d_sl = (
            dd.from_dask_array(
                d_sl[(~da.any(d_sl == -9999, axis=1)) & (~da.any(da.isnan(d_sl), axis=1))],
                columns=wl_col,
            )
            .reset_index(drop=True)
            .to_dask_array(lengths=True)
            .rechunk(("auto", -1))
            .persist()
        )
        print(f"All the data is finite: {da.all(da.isfinite(d_sl)).compute()}")
        print(f"There are NaNs in the data: {da.any(da.isnan(d_sl)).compute()}")

    with step("scale"):
        scaler = StandardScaler().fit(d_sl)
        d_train = scaler.transform(d_sl).rechunk(("auto", -1)).persist()
        print(f"There are {d_train.shape[0]} records in the fit data", flush=True)

    with step("fit k-means"):
        est1 = KMeans()
        k1 = est1.fit(d_train)

    with step("fit mini-batch"):
        est2 = ParallelPostFit(Incremental(MiniBatchKMeans(n_clusters=8, compute_labels=False)))
        est2.fit(d_train)

    with step("predict"):
        d_final = d_all.reflectance.data.reshape((-1, len(band_list()[0]))).rechunk(("auto", -1))
        d_final = scaler.transform(d_final)
        f_shape = xr.open_zarr(scene, group="reflectance", mask_and_scale=False).reflectance.shape
        d_kmeans = k1.predict(d_final).persist().reshape(f_shape[0:2])
        wait(d_kmeans)

    with step("plot clusters"):
        base_dat = xr.open_zarr(scene, group="reflectance", mask_and_scale=False)
        coords = {axis: base_dat.coords[axis].values for axis in "xy"}
        d_final2 = xr.DataArray(data=d_kmeans, coords=coords, dims=("y", "x")).to_dataset(
            name="kmean_clust"
        )
        plt.figure(figsize=(16, 12))
        d_final2.isel(x=slice(None, None, 10), y=slice(None, None, 10)).kmean_clust.plot()
        save(out / "clusters.png")
        plt.figure(figsize=(16, 12))
        middle = {
            axis: slice(max(0, size // 2 - 500), size // 2 + 500)
            for axis, size in d_final2.sizes.items()
        }
        d_final2.isel(middle).kmean_clust.plot()
        save(out / "close-up.png")

    about = {"n_iter": int(k1.n_iter_), "records": int(d_train.shape[0]), "steps": STEPS}
    (out / "steps.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def save(path: Path) -> None:
    """Write the current figure."""
    plt.savefig(path)
    plt.close("all")


def main() -> None:
    """Parse, start the workers, run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene")
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--memory", default="auto", help="of each worker, such as 4GiB")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with step("workers"):
        cluster = LocalCluster(
            n_workers=options.workers,
            threads_per_worker=options.threads,
            memory_limit=options.memory,
            local_directory=str(options.out),
            dashboard_address=None,
            silence_logs=logging.ERROR,
        )
        client = Client(cluster)
    with client, cluster:
        run(options.scene, options.out)


if __name__ == "__main__":
    del __file__  # as in a notebook: workers import what they need, and not this script
    main()
