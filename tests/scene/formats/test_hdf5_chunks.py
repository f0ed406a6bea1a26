"""Chunks decoded without HDF5: the numbers HDF5 gives, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyperhpc.scene.formats.hdf5 import chunk_reader
from hyperhpc.scene.window import normalise

SHAPE = (50, 44, 21)
DTYPES = ("<i2", ">i2", "<u2", "<i4", ">f4")
KINDS: dict[str, dict[str, Any]] = {
    "gzip": {"chunks": (16, 15, 4), "compression": "gzip"},
    "gzip and shuffle": {"chunks": (16, 15, 4), "compression": "gzip", "shuffle": True},
    "shuffle alone": {"chunks": (16, 15, 4), "shuffle": True},
    "plain": {"chunks": (7, 44, 21)},
    "one band": {"chunks": (50, 44, 1), "compression": "gzip"},
    "one band, small": {"chunks": (20, 20, 1), "compression": "gzip", "shuffle": True},
}


@pytest.fixture(scope="module", params=KINDS)
def cube(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With some chunks that were never written."""
    path = tmp_path_factory.mktemp("chunks") / "cube.h5"
    values = np.random.default_rng(3).integers(-9, 9000, SHAPE)
    with h5py.File(path, "w") as file:
        for dtype in ("<i2", ">i2", "<u2", "<i4", ">f4"):
            data = file.create_dataset(
                dtype, SHAPE, dtype, fillvalue=-9 if dtype != "<u2" else 9, **KINDS[request.param]
            )
            data[:20, :, :9] = values[:20, :, :9]
            data[33:, 17:, 10:] = values[33:, 17:, 10:]
    return path


spans = st.tuples(st.integers(0, 49), st.integers(1, 50), st.integers(1, 20))


@settings(max_examples=80, deadline=None)
@given(
    dtype=st.sampled_from(["<i2", ">i2", "<u2", "<i4", ">f4"]), rows=spans, cols=spans, bands=spans
)
def test_read__any_window_is_that_of_hdf5(
    cube: Path, dtype: str, rows: Any, cols: Any, bands: Any
) -> None:
    window = [
        normalise(slice(start, start + count, step), size)
        for (start, count, step), size in zip((rows, cols, bands), SHAPE, strict=True)
    ]
    with h5py.File(cube) as file:
        reader = chunk_reader(file[dtype])
        assert reader is not None
        found = reader.read(*window)
        expected = file[dtype][tuple(window)]
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, expected)


def test_read__of_chunks_whose_filter_was_skipped(tmp_path: Path) -> None:
    """HDF5 stores a chunk as it is where a filter fails, and marks it."""
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        data = file.create_dataset(
            "a", (4, 4, 4), "<i2", chunks=(4, 4, 4), compression="gzip", shuffle=True
        )
        plain = np.arange(64, dtype="<i2")
        data.id.write_direct_chunk((0, 0, 0), plain.tobytes(), filter_mask=0b11)
        reader = chunk_reader(data)
        assert reader is not None
        whole = (slice(0, 4, 1),) * 3
        np.testing.assert_array_equal(reader.read(*whole), plain.reshape(4, 4, 4))


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), "checksum"),
        (lambda raw: raw[: len(raw) // 2], "truncated"),
        (lambda raw: b"rubbish" * 20, "cannot be unpacked"),
    ],
)
def test_read__refuses_damaged_chunks(tmp_path: Path, how: Any, words: str) -> None:
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        data = file.create_dataset("a", (8, 8, 8), "<i2", chunks=(8, 8, 8), compression="gzip")
        data[...] = np.arange(512).reshape(8, 8, 8)
        _, raw = data.id.read_direct_chunk((0, 0, 0))
        data.id.write_direct_chunk((0, 0, 0), how(raw))
        file.flush()
        reader = chunk_reader(data)
        assert reader is not None
        with pytest.raises(OSError, match=f"(?i){words}"):
            reader.read(*(slice(0, 8, 1),) * 3)


def test_chunk_reader__leaves_what_it_does_not_know_to_hdf5(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        whole = file.create_dataset("whole", SHAPE, "<i2")
        summed = file.create_dataset("sums", SHAPE, "<i2", chunks=True, fletcher32=True)
        packed = file.create_dataset("lzf", SHAPE, "<i2", chunks=True, compression="lzf")
        assert not any(map(chunk_reader, (whole, summed, packed)))
    with h5py.File(tmp_path / "block.h5", "w", userblock_size=512) as file:
        data = file.create_dataset("a", SHAPE, "<i2", chunks=True, compression="gzip")
        assert chunk_reader(data) is None
