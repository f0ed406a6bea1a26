"""NEON files, damaged in their bytes or by HDF5 itself; read directly by h5py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Literal

import h5py
import numpy as np
from direct import NB, NX, NY, Direct
from mutations import ODD, damage_bytes

from hyperhpc.scene.cube import Scene
from hyperhpc.scene.formats.neon import NeonScene
from hyperhpc.simulate.scene import simulate

#: What an object is replaced by.
_VALUES: tuple[Any, ...] = (
    0, -1, 2**63 - 1, np.nan, np.inf, "", "NaN", "text\n", b"\xff\xfe", np.zeros(0),
    np.zeros((2, 2)), np.zeros((NY, NX, NB), bool),
    np.full(NB, np.nan), np.linspace(400, 2500, NB + 1), np.linspace(0.4, 2.5, NB, dtype="f2"),
    np.zeros((NY, NX, NB), ">i4"), np.full((NY, NX, NB), 70000, "u4"),
    np.zeros((NB, NY, NX), "c8"), np.zeros(3, [("a", "i4"), ("b", "f8")]),
    np.array(["1", "2"], dtype=h5py.string_dtype()), h5py.Empty("f4"), h5py.Empty("i2"),
)  # fmt: skip


@dataclass(frozen=True)
class Neon:
    """A NEON tile, with chunks of one layout or the other."""

    chunks: Literal["old", "band"]
    bidirectional: bool

    def make(self, path: Path) -> None:
        """As the simulation writes it, with all images of a tile."""
        simulate(
            path,
            NY,
            NX,
            bands=NB,
            layout="neon",
            neon_chunks=self.chunks,
            bidirectional=self.bidirectional,
        )

    def damage(self, path: Path, rng: Random) -> tuple[str, bool]:
        """Damage its bytes, or an object that HDF5 then writes well."""
        kind = rng.choice(("bytes", "bytes", "heap", "object", "object"))
        if kind != "object":
            content = path.read_bytes()
            heap = content.find(b"GCOL") if kind == "heap" else 0  # of the texts
            end = heap + 4096 if kind == "heap" else len(content)
            damaged, what = damage_bytes(content[heap:end], rng)
            path.write_bytes(content[:heap] + damaged + content[end:])
            return f"{what}, from {heap} on", False
        with h5py.File(path, "r+") as file:
            names: list[str] = []
            file.visit(names.append)
            wanted = [n for n in names if "Logs" not in n and "Ancillary" not in n]
            return _damage_object(file, rng.choice(wanted), rng), False

    def read(self, scene: Scene, window: tuple[slice, slice]) -> Direct:
        """Read the cube, and every other array of one dimension, with h5py alone."""
        assert isinstance(scene, NeonScene)
        vectors: list[np.ndarray] = []
        with h5py.File(scene.path, "r") as file:
            data = file[scene.dataset]
            spectral = data.parent["Metadata/Spectral_Data"]
            vectors += [np.ravel(spectral["Wavelength"][()])]
            return Direct(data[(*window, slice(None))], vectors)


def _damage_object(file: h5py.File, name: str, rng: Random) -> str:
    item = file[name]
    kind = rng.choice(("attribute", "attribute", "replace", "replace", "delete", "link"))
    if kind == "attribute":
        keys = [*item.attrs, "Scale_Factor", "Data_Ignore_Value", "Units", "add_offset"]
        keys += ["Spatial_Extent_meters", "Band_Window_1_Nanometers"]
        key, value = rng.choice(keys), rng.choice((*_VALUES, *filter(_is_plain, ODD)))
        item.attrs[key] = value
        return f"attribute {key} of {name} is {value!r}"
    del file[name]
    if kind == "replace":
        value = rng.choice(_VALUES)
        file[name] = value
        return f"{name} is {value!r}"
    if kind == "link":
        target = rng.choice(("/", name, "/nowhere", "/CPER/Reflectance"))
        external = rng.random() < 0.3
        file[name] = h5py.ExternalLink("none.h5", target) if external else h5py.SoftLink(target)
        return f"{name} links to {target}"
    return f"{name} is deleted"


def _is_plain(value: Any) -> bool:
    """True if an attribute may hold it."""
    is_text = isinstance(value, str) and "\0" not in value and "\ud800" not in value
    is_integer = isinstance(value, int) and abs(value) < 2**63
    return is_text or is_integer or isinstance(value, float)
