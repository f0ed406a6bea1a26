"""A run for the tests to look at: made once, checked against computations of its own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

#: What ``masked_run`` clusters. The second reads a band that the models do not see: 2470 nm lies
#: at the noisy end.
CONDITIONS = "NDVI > 0.6 and R(860) > 0.2", "not R(2470) > 0.09 or own < 0"
MASKED_OPTIONS = (
    "--where", CONDITIONS[0], "--where", CONDITIONS[1], "--formula", "own=R(1680)-R(860)",
    "--clusters", "4", "--indices", "ndvi", "--memory-per-worker", "1GiB",
)  # fmt: skip


@dataclass(frozen=True)
class RunCase:
    """A scene's true numbers, read with xarray alone, and the run made of it."""

    scene: Path
    out: Path

    @cached_property
    def dn(self) -> np.ndarray:
        """DN (y, x, band), read without our own reader."""
        opened = xr.open_zarr(self.scene, group="reflectance", mask_and_scale=False)
        return opened["reflectance"].transpose("y", "x", "wl").values

    @cached_property
    def wavelength_nm(self) -> np.ndarray:
        opened = xr.open_zarr(self.scene, group="reflectance", mask_and_scale=False)
        return opened["wl"].values

    @cached_property
    def good(self) -> np.ndarray:
        """Bool (band), by the default windows, written out."""
        nm = self.wavelength_nm
        bad = (nm <= 400) | (nm >= 2450)
        bad |= ((nm >= 1340) & (nm <= 1445)) | ((nm >= 1790) & (nm <= 1955))
        return ~bad

    @cached_property
    def is_valid(self) -> np.ndarray:
        return ~(self.dn[:, :, self.good] == -9999).any(axis=2)

    @cached_property
    def truth(self) -> np.ndarray:
        return xr.open_zarr(f"{self.scene}.truth.zarr")["true_class"].values

    @cached_property
    def results(self) -> xr.Dataset:
        return xr.open_zarr(self.out / "results.zarr", mask_and_scale=False).load()

    def json(self, name: str) -> Any:
        return json.loads((self.out / f"{name}.json").read_text("utf-8"))

    @cached_property
    def model(self) -> dict[str, Any]:
        return self.json("model")

    @cached_property
    def every(self) -> tuple[slice, slice]:
        """Rows and columns of the sample: as far apart as 2,000 valid pixels allow."""
        stride = next(n for n in (4, 3, 2, 1) if self.is_valid[::n, ::n].sum() >= 2000 or n == 1)
        return slice(None, None, stride), slice(None, None, stride)

    @cached_property
    def sample(self) -> np.ndarray:
        """Fitted pixels (pixel, good band), float64 DN: those valid of :attr:`every`."""
        picked = self.dn[self.every][:, :, self.good]
        return picked[self.is_valid[self.every]].astype(np.float64)

    def scaled(self, dn: np.ndarray) -> np.ndarray:
        """Scaled values by model.json, of DN with good bands last."""
        mean, scale = (np.array(self.model[name]) for name in ("mean", "scale"))
        return (dn / 10000.0 - mean) / scale

    def distances(self, dn: np.ndarray, model: str) -> np.ndarray:
        """Brute-force squared scaled distances (pixel, cluster), float64."""
        mean, scale = (np.array(self.model[name]) for name in ("mean", "scale"))
        centres = (np.array(self.model["models"][model]["centers"]) - mean) / scale
        pixels = self.scaled(dn)
        return np.stack([((pixels - centre) ** 2).sum(axis=1) for centre in centres], axis=1)


def assert_same_results(one: Path, other: Path) -> None:
    """model.json and every array of results.zarr are the same bits."""
    assert (one / "model.json").read_bytes() == (other / "model.json").read_bytes()
    first, second = (
        xr.open_zarr(out / "results.zarr", mask_and_scale=False).load() for out in (one, other)
    )
    for name in ("indices", "cluster"):
        assert first[name].dtype == second[name].dtype
        np.testing.assert_array_equal(
            first[name].values.view("u4" if name == "indices" else "u1"),
            second[name].values.view("u4" if name == "indices" else "u1"),
            err_msg=name,
        )


def flip(path: Path) -> None:
    """Damage a file, so that it keeps its length."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Damage a file, so that it is shorter."""
    path.write_bytes(path.read_bytes()[:-1])
