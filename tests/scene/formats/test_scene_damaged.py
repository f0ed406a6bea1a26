"""Damaged metadata is refused in words. Each case was once found by tests/fuzz."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import zarr
from zarr.codecs import BloscCodec, ZstdCodec

from hyperhpc.errors import SceneError, cause
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Grid
from hyperhpc.simulate.scene import simulate
from zarr_case import NB, NX, NY, WL, write

ALL = slice(None)


def change(store: Path, node: str, **values: Any) -> None:
    """Put values into the metadata of a node."""
    file = store / "reflectance" / node / "zarr.json"
    document = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(document | values), "utf-8")


def regular(*shape: int) -> dict[str, Any]:
    return {"name": "regular", "configuration": {"chunk_shape": shape}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shape": ["y", NX, NB]}, "is incomplete or damaged"),
        ({"shape": [None, NX, NB]}, "is incomplete or damaged"),
        ({"shape": [[NY], NX, NB]}, "is incomplete or damaged"),
        ({"shape": [{}, NX, NB]}, "is incomplete or damaged"),
        ({"shape": [float("inf"), NX, NB]}, "is incomplete or damaged"),
        ({"shape": [float("nan"), NX, NB]}, "is incomplete or damaged"),
        ({"shape": [11.0, NX, NB]}, "is incomplete or damaged"),
        ({"shape": [True, NX, NB]}, "is incomplete or damaged"),
        ({"shape": [-NY, NX, NB]}, "is incomplete or damaged"),
        ({"shape": [2**64, NX, NB]}, "is incomplete or damaged"),
        ({"shape": [NY + 1, NX, NB]}, "coordinate reflectance/y has 11 values; the cube has 12"),
        (
            {
                "shape": [2**31, NX, NB],
                "dimension_names": ["row", "x", "wl"],
                "chunk_grid": regular(2**17, NX, NB),
            },
            "the longest side possible",
        ),
        ({"chunk_grid": regular(0, NX, NB)}, "declares chunks of"),
        ({"attributes": {"Scale_Factor": 10**400}}, "must be a positive number"),
        ({"data_type": "\0\n\x1b[2J"}, "names the data type"),
    ],
)
def test_open__zarr_metadata(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "s.zarr")
    change(path, "reflectance", **values)
    with pytest.raises(SceneError, match=message) as caught:
        open_scene(path)
    assert caught.value.message.isprintable()


@pytest.mark.parametrize("name", [7, 0.5, [], {}, True])
def test_open__dimension_name_that_is_no_text(tmp_path: Path, name: Any) -> None:
    path = write(tmp_path / "s.zarr")
    change(path, "reflectance", dimension_names=["y", name, "wl"])
    with pytest.raises(SceneError, match="cannot be read"):
        open_scene(path)


def test_open__window_nodata_without_end(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", attrs={"window_nodata": [10**400]})
    with pytest.raises(SceneError, match="is not a list of numbers"):
        open_scene(path)


@pytest.mark.parametrize(
    "transform", [[10**400, 1, 0, 0, 0, -1], "nan 1 0 0 0 -1", "0 inf 0 0 0 -1"], ids=str
)
def test_open__geotransform_of_no_numbers(tmp_path: Path, transform: Any) -> None:
    path = write(tmp_path / "s.zarr", coords={"wl": WL})
    mapping = zarr.open_group(path / "reflectance").create_array("crs", shape=(), dtype="i8")
    mapping.attrs["GeoTransform"] = transform
    assert open_scene(path).bounds == [0, 0, NX, NY]


@pytest.mark.parametrize(
    ("codec", "promise"),
    [(ZstdCodec(), b"\xc0" + b"\x7f" * 8), (BloscCodec(), b"\xff\xff\xff\x7f")],
    ids=["zstd", "blosc"],
)
def test_read__chunk_that_promises_too_much(tmp_path: Path, codec: Any, promise: bytes) -> None:
    """Its header says that it holds far more than fits memory."""
    path = write(tmp_path / "s.zarr", compressors=[codec])
    chunk = path / "reflectance" / "reflectance" / "c" / "0" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    content[4 : 4 + len(promise)] = promise
    chunk.write_bytes(content)
    with pytest.raises(SceneError, match="cannot be read"):
        open_scene(path).read(ALL, ALL)


def test_blocks__of_a_chunk_larger_than_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", compressors=[BloscCodec()])
    change(path, "reflectance", chunk_grid=regular(10**6, 10**6, NB))
    with pytest.raises(SceneError, match="cannot be read"):
        list(open_scene(path).blocks(slice(0, NY), slice(0, NX)))


# --- NEON -----------------------------------------------------------------------------


def spoil_metadata(file: h5py.File) -> None:
    del file["CPER/Reflectance/Metadata"]
    file["CPER/Reflectance/Metadata"] = "text"


def spoil_wavelength(file: h5py.File) -> None:
    del file["CPER/Reflectance/Metadata/Spectral_Data/Wavelength"]
    file.create_group("CPER/Reflectance/Metadata/Spectral_Data/Wavelength")


def spoil_number(file: h5py.File) -> None:
    """More of them than memory holds."""
    del file["CPER/Reflectance/Metadata/Spectral_Data/Wavelength"]
    file["CPER/Reflectance/Metadata/Spectral_Data"].create_dataset(
        "Wavelength", (10**12,), "f8", chunks=(1000,)
    )


def spoil_wavelengths(file: h5py.File) -> None:
    del file["CPER/Reflectance/Metadata/Spectral_Data/Wavelength"]
    file["CPER/Reflectance/Metadata/Spectral_Data/Wavelength"] = np.full(30, 500 + 1j)


def spoil_system(file: h5py.File) -> None:
    del file["CPER/Reflectance/Metadata/Coordinate_System"]
    extent = [517000.0, 517000.0, 4525000.0, 4525000.0]
    file["CPER/Reflectance/Reflectance_Data"].attrs["Spatial_Extent_meters"] = extent


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_metadata, "has no wavelengths"),
        (spoil_wavelength, "has no wavelengths"),
        (spoil_number, "1000000000000 values"),
        (spoil_wavelengths, "is complex128, not numbers"),
        (spoil_system, "pixels of 0 x 0"),
    ],
)
def test_open__neon(tmp_path: Path, spoil: Callable[[h5py.File], None], message: str) -> None:
    simulate(tmp_path / "s.h5", 12, 10, bands=30, layout="neon")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        spoil(file)
    with pytest.raises(SceneError, match=message):
        open_scene(tmp_path / "s.h5")


def test_open__neon_widths_that_are_no_numbers(tmp_path: Path) -> None:
    simulate(tmp_path / "s.h5", 12, 10, bands=30, layout="neon")
    with h5py.File(tmp_path / "s.h5", "r+") as file:
        del file["CPER/Reflectance/Metadata/Spectral_Data/FWHM"]
        file["CPER/Reflectance/Metadata/Spectral_Data/FWHM"] = np.full(30, 5 + 1j)
    scene = open_scene(tmp_path / "s.h5")
    assert scene.fwhm_nm is None
    assert any("FWHM is complex128" in note for note in scene.notes)


def test_open__neon_chunk_whose_filter_was_forgotten(tmp_path: Path) -> None:
    """HDF5 itself would give what lies in memory behind it."""
    path = tmp_path / "s.h5"
    simulate(path, 12, 10, bands=30, layout="neon", nodata_fraction=0.0)
    with h5py.File(path, "r+") as file:
        cube = file["CPER/Reflectance/Reflectance_Data"]
        cube.id.write_direct_chunk((0, 0, 0), b"short", filter_mask=1)
    with pytest.raises(SceneError, match=r"chunk of .* is not compressed, and has 5 of \d+ bytes"):
        open_scene(path)


@pytest.mark.parametrize("chunks", [None, (1,)], ids=["contiguous", "chunked"])
def test_open__neon_texts_overwritten_by_zeros(tmp_path: Path, chunks: tuple[int] | None) -> None:
    """HDF5 itself would never come back."""
    path = tmp_path / "s.h5"
    simulate(path, 12, 10, bands=30, layout="neon")
    with h5py.File(path, "r+") as file:
        system = file["CPER/Reflectance/Metadata/Coordinate_System"]
        text = system["Map_Info"][()]
        del system["Map_Info"]
        shape = () if chunks is None else (1,)
        kind = h5py.string_dtype()
        system.create_dataset("Map_Info", shape, kind, chunks=chunks)[...] = text
    content = path.read_bytes()
    at = content.index(b"GCOL", content.index(text) - 4096)
    path.write_bytes(content[: at + 16] + bytes(4080) + content[at + 4096 :])
    with pytest.raises(SceneError, match=r"(Map_Info|EPSG Code) is damaged: it holds zeros at 0"):
        open_scene(path)


# --- in general -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "numbers", [(0, 0, 0, 1), (0, 0, 1, -1), (np.nan, 0, 1, 1), (0, np.inf, 1, 1)]
)
def test_grid__must_be_one(numbers: tuple[float, ...]) -> None:
    with pytest.raises(SceneError, match="not a valid grid"):
        Grid(*numbers)


def test_error__is_one_line_that_no_terminal_obeys() -> None:
    said = ValueError("bad\n\x1b[2J\0 thing.")
    error = SceneError(cause(said), "\0")
    assert (error.message, error.hint) == ("ValueError: bad ?[2J? thing", "?")
    assert cause(MemoryError()) == "MemoryError"
