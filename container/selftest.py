"""Is this image whole, and does it work here? What ``apptainer test`` runs.

It needs no network, no Slurm and nothing outside the image but a scratch folder, $TMPDIR. One
line for each check; the exit status is 1 if one of them fails.
"""

from __future__ import annotations

import importlib
import json
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

INSIDE = Path("/opt/hyperhpc")
MODULES = "hyperhpc dask_ml.cluster dask_jobqueue distributed h5py matplotlib sklearn zarr"
THREADS = "OMP OPENBLAS MKL NUMBA"
CACHES = "MPLCONFIGDIR NUMBA_CACHE_DIR XDG_CACHE_HOME DASK_TEMPORARY_DIRECTORY"


def imports_come_from_the_image() -> str:
    """Every package is the image's own, whatever lies in ~/.local or PYTHONPATH."""
    for name in MODULES.split():
        path = Path(str(importlib.import_module(name).__file__))
        assert path.is_relative_to(sys.prefix), f"{name} comes from {path}"
    outside = [path for path in sys.path if not path.startswith(("/usr/lib/", str(INSIDE)))]
    assert not outside, f"sys.path holds {outside}"
    return f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}"


def libraries_have_their_threads() -> str:
    """Each library that would start threads is given the number of threads."""
    counts = {name: os.environ[f"{name}_NUM_THREADS"] for name in THREADS.split()}
    assert all(int(count) >= 1 for count in counts.values()), counts
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def caches_can_be_written() -> str:
    """Caches lie below $TMPDIR and can be written; nothing is needed below $HOME."""
    scratch = Path(os.environ["TMPDIR"])
    for name in CACHES.split():
        folder = Path(os.environ[name])
        assert folder.is_relative_to(scratch) or "tmp." in str(folder), f"{name}={folder}"
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    assert list(Path(os.environ["MPLCONFIGDIR"]).glob("fontlist-*.json")), "no list of fonts"
    return str(scratch)


def dask_has_our_defaults() -> str:
    """Dask reads the image's own settings."""
    import dask

    assert dask.config.get("array.query-planning") is False
    assert dask.config.get("distributed.comm.require-encryption") is True
    return str(Path(sys.prefix) / "etc" / "dask")


def bill_of_materials_is_there() -> str:
    """The list of what is inside."""
    bill = json.loads((INSIDE / "sbom.cdx.json").read_text("utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert len(bill["components"]) > 50
    return f"{len(bill['components'])} components"


def small_scene_from_end_to_end() -> str:
    """Simulate, analyse, report; then look at the numbers."""
    import numpy as np
    import xarray as xr

    with tempfile.TemporaryDirectory(prefix="hyperhpc selftest ") as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "hyperhpc", "demo", str(out), "--size", "96x96"]
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, cwd=folder, timeout=600
        )
        assert done.returncode == 0, done.stderr[-2000:]
        results = xr.open_zarr(out / "results.zarr", mask_and_scale=False).load()
        ndvi = results["indices"].sel(index="ndvi").values
        shown = ndvi[np.isfinite(ndvi)]
        assert shown.size > 0.5 * ndvi.size
        assert -1 <= shown.min() < 0.2 < 0.6 < shown.max() <= 1
        labels = np.unique(results["cluster"].sel(model="lloyd").values)
        assert set(range(8)) <= set(labels.tolist()) <= {*range(8), 255}
        size = (out / "report.html").stat().st_size
    return f"8 clusters, a report of {size // 1000} kB"


CHECKS: list[Callable[[], str]] = [
    imports_come_from_the_image,
    libraries_have_their_threads,
    caches_can_be_written,
    dask_has_our_defaults,
    bill_of_materials_is_there,
    small_scene_from_end_to_end,
]


def main() -> int:
    """Run all checks, whatever becomes of each."""
    failed = 0
    for check in CHECKS:
        title = check.__name__.replace("_", " ")
        try:
            print(f"ok      {title}: {check()}", flush=True)
        except Exception as error:  # noqa: BLE001
            failed += 1
            print(f"FAILED  {title}: {type(error).__name__}: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
