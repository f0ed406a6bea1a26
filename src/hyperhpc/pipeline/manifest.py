"""The run's folder: where each file lies, and how small files are written whole."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hyperhpc.errors import ConfigError, ResourceError

_PACKAGES = (
    "hyperhpc", "numpy", "scikit-learn", "dask", "distributed", "dask-ml", "dask-jobqueue",
    "xarray", "zarr", "numcodecs", "h5py", "pyproj", "matplotlib",
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """Paths inside OUT. Everything under ``work`` can be made again from the scene."""

    out: Path

    @property
    def plan(self) -> Path:
        """Tiles, options and the scene's fingerprint; its presence makes OUT a run's."""
        return self.out / "plan.json"

    @property
    def model(self) -> Path:
        """Scaling and centres of each model."""
        return self.out / "model.json"

    @property
    def clusters(self) -> Path:
        """Spectra and areas of the clusters, agreement of the models."""
        return self.out / "clusters.json"

    @property
    def spectra(self) -> Path:
        """Spectra at the points asked for."""
        return self.out / "spectra.json"

    @property
    def run(self) -> Path:
        """Input, options, versions, timings, memory, machine; whether it is complete."""
        return self.out / "run.json"

    @property
    def status(self) -> Path:
        """What the run is doing, or how it ended; lines of ``key: value``."""
        return self.out / "status.txt"

    @property
    def logs(self) -> Path:
        """What a job on a cluster writes beside the run."""
        return self.out / "slurm"

    @property
    def results(self) -> Path:
        """Zarr store of indices and clusters."""
        return self.out / "results.zarr"

    @property
    def overview(self) -> Path:
        """Zarr store of the pyramids pictures are drawn from."""
        return self.out / "overview.zarr"

    @property
    def checksums(self) -> Path:
        """Length and checksum of every file of the results."""
        return self.out / "checksums.json"

    @property
    def work(self) -> Path:
        """Files of the steps between."""
        return self.out / "work"

    @property
    def report(self) -> Path:
        """What people look at."""
        return self.out / "report.html"

    def is_whole(self) -> bool:
        """True if every output is there."""
        outputs = (self.model, self.clusters, self.spectra, self.run, self.results)
        return all(path.exists() for path in (*outputs, self.overview, self.report))

    def remove(self) -> None:
        """Remove what a run has written; other files in OUT, and OUT if any, stay."""
        files = (self.plan, self.model, self.clusters, self.spectra, self.run, self.report)
        for path in (*files, self.checksums, self.status):
            path.unlink(missing_ok=True)
        for path in (self.results, self.overview, self.work, self.out / "figures"):
            shutil.rmtree(path, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.out.rmdir()

    def records(self, stage: str) -> Path:
        """Folder of the records of finished tiles of one stage."""
        return self.work / stage


def is_complete(folder: RunFolder) -> bool:
    """True if a run has come to its end there, and every output is there."""
    return folder.is_whole() and bool(read_json(folder.run).get("complete"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all: aside, flushed to disk, then renamed."""
    text = json.dumps(value, indent=1, allow_nan=False, ensure_ascii=False)
    part = path.with_name(f".{path.name}.part-{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def remove_parts(folder: RunFolder) -> None:
    """Remove files that a run which was killed had not renamed yet; under the lock."""
    for place in (folder.out, folder.work, *folder.work.glob("*/")):
        for part in place.glob(".*.part-*"):
            if not part.name.startswith(".lock"):
                part.unlink(missing_ok=True)


def disk_error(error: OSError, where: Path) -> ResourceError:
    """What to say of a disk that is full, or a folder that may not be written any more."""
    return ResourceError(
        f"{error.filename or where} cannot be written: {error.strerror or error}",
        "make room or get the permission, then give the same command again: it goes on",
    )


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises
    ------
    ConfigError
        If the file cannot be read or is damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ConfigError(
            f"{path} is damaged", "give --restart to start the run over"
        ) from None


def read_versions() -> dict[str, str]:
    """Versions of Python and of the packages that make the numbers."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # run from a source tree
            continue
    return versions


def describe_machine() -> dict[str, Any]:
    """Machine, as far as it explains a timing."""
    import psutil

    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "host": platform.node(),
    }
