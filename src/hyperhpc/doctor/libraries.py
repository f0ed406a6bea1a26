"""What the libraries will do: threads, BLAS, Zarr's codecs."""

from __future__ import annotations

import importlib.util
import os

from hyperhpc.doctor.finding import Finding


def check_threads(cores: int | None = None) -> Finding:
    """Variables that say how many threads libraries start."""
    from hyperhpc.workers.settings import THREAD_VARIABLES

    cores = cores or len(os.sched_getaffinity(0))
    given = {name: os.environ[name] for name in THREAD_VARIABLES if os.environ.get(name)}
    if not given:
        return Finding("ok", "not set; hyperhpc gives each worker 1")
    values = list(given.values())
    if len(given) == len(THREAD_VARIABLES) and len(set(values)) == 1:
        value = f"{values[0]} in all {len(given)} variables"
    else:
        value = ", ".join(f"{name}={text}" for name, text in given.items())
    bad = [name for name, text in given.items() if not _fits(text, cores)]
    if bad:
        remedy = "export " + " ".join(f"{name}=1" for name in bad)
        return Finding("warning", f"{value}, on {cores} core{'s' * (cores > 1)}", remedy)
    return Finding("ok", value)


def _fits(text: str, cores: int) -> bool:
    first = text.split(",")[0].strip()  # OpenMP takes a list, one number per level
    return first.isdecimal() and 1 <= int(first) <= cores


def check_blas(cores: int | None = None) -> Finding:
    """Threads of the BLAS that numpy has loaded."""
    import numpy as np
    from threadpoolctl import threadpool_info

    cores = cores or len(os.sched_getaffinity(0))
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return Finding("ok", f"numpy {np.__version__} has one threadpoolctl does not know")
    value = ", ".join(
        f"{pool['internal_api']} {pool['version']} ({pool.get('architecture', '?')}), "
        f"{pool['num_threads']} thread{'s' * (pool['num_threads'] > 1)}"
        for pool in pools
    )
    if any(pool["num_threads"] > cores for pool in pools):
        return Finding("warning", f"{value}, on {cores} cores", "export OPENBLAS_NUM_THREADS=1")
    return Finding("ok", value)


def check_codecs() -> Finding:
    """The pipeline through which Zarr reads chunks; it must give back what was written."""
    import zarr

    path = zarr.config.get("codec_pipeline.path")
    value = f"{path.rpartition('.')[2]} of zarr {zarr.__version__}"
    if importlib.util.find_spec("zarrs") is None:
        value += "; zarrs is not installed"
    try:
        _write_and_read()
    except Exception as error:  # noqa: BLE001 - whatever a foreign pipeline raises
        what = " ".join(str(error).split())[:120]
        return Finding(
            "error",
            f"{path} fails: {type(error).__name__}: {what}",
            "unset ZARR_CODEC_PIPELINE__PATH",
        )
    return Finding("ok", value)


def _write_and_read() -> None:
    import numpy as np
    import zarr

    written = np.arange(24, dtype="int16").reshape(4, 6)
    array = zarr.create_array({}, shape=(4, 6), chunks=(2, 6), dtype="int16")
    array[:] = written
    if not np.array_equal(array[:], written):
        raise ValueError("what was read is not what was written")
