"""Shards written by ourselves are what zarr itself would read and write."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hyperhpc.scene.formats import zarr_chunks as shards
from hyperhpc.scene.formats.zarr_chunks import chunk_codecs, chunk_reader, write_shards

FILL = -9999


def make(path: Path, shape: tuple[int, ...], dtype: str, fill: float) -> zarr.Array[Any]:
    rest = shape[2:]
    return zarr.create_array(
        str(path),
        shape=shape,
        dtype=dtype,
        chunks=(8, 8, *rest),
        shards=(32, 24, *rest),
        compressors=chunk_codecs(),
        fill_value=fill,
    )


def some(shape: tuple[int, ...], dtype: str, fill: float) -> np.ndarray:
    """Values with an empty chunk, an empty shard, and lone pixels of the fill value."""
    values = np.random.default_rng(3).integers(0, 9000, shape).astype(dtype)
    values[8:16, 8:16] = fill
    values[32:64, 24:48] = fill
    values[::7, ::5] = fill
    values[0, 0] = 1
    return values


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("shape", "dtype", "fill"),
    [
        ((64, 48, 5), "int16", FILL),
        ((71, 53, 5), "int16", FILL),
        ((20, 10, 3), "int16", FILL),
        ((71, 53, 5), "float32", np.nan),
        ((71, 53), "uint16", 65535),
    ],
)
def test_write_shards__is_what_zarr_reads(
    shape: tuple[int, ...], dtype: str, fill: float, threads: int, tmp_path: Path
) -> None:
    values = some(shape, dtype, fill)
    ours, theirs = (make(tmp_path / name, shape, dtype, fill) for name in ("ours", "zarr"))
    theirs[...] = values
    names = write_shards(ours, tmp_path / "ours", 0, 0, values, threads)
    assert len(names) == len(set(names)) == -(-shape[0] // 32) * -(-shape[1] // 24)
    np.testing.assert_array_equal(ours[...], values)
    files = {
        name: sorted(
            path.relative_to(tmp_path / name)
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        )
        for name in ("ours", "zarr")
    }
    assert files["ours"] == files["zarr"]  # empty shards are left out by both
    for file in files["ours"][:-1]:  # and empty chunks
        sizes = [(tmp_path / name / file).stat().st_size for name in files]
        assert sizes[0] == sizes[1]
    reader = chunk_reader(ours, str(tmp_path / "ours"))
    if reader:
        for row, col, dn in reader.blocks(range(shape[0]), range(shape[1])):
            there = values[row : row + dn.shape[0], col : col + dn.shape[1]]
            np.testing.assert_array_equal(dn, there)


def test_write_shards__one_after_the_other(tmp_path: Path) -> None:
    values = some((71, 53, 5), "int16", FILL)
    array = make(tmp_path, values.shape, "int16", FILL)
    for row in range(0, 71, 32):
        for col in range(0, 53, 24):
            part = values[row : row + 32, col : col + 24]
            (name,) = write_shards(array, tmp_path, row, col, part)
            assert (tmp_path / name).exists() == bool((part != FILL).any())
    np.testing.assert_array_equal(array[...], values)


def test_write_shards__keeps_empty_chunks_if_asked(tmp_path: Path) -> None:
    array = make(tmp_path, (64, 48, 5), "int16", FILL)
    names = write_shards(
        array, tmp_path, 0, 0, np.full((64, 48, 5), FILL, "int16"), keep_empty=True
    )
    assert all((tmp_path / name).is_file() for name in names)
    assert (array[...] == FILL).all()


def test_write_shards__replaces_what_was_there(tmp_path: Path) -> None:
    array = make(tmp_path, (32, 24, 5), "int16", FILL)
    for value in (1, 2):
        values = np.full((32, 24, 5), value, "int16")
        (name,) = write_shards(array, tmp_path, 0, 0, values)
        np.testing.assert_array_equal(array[...], values)
    write_shards(array, tmp_path, 0, 0, np.full((32, 24, 5), FILL, "int16"))
    assert not (tmp_path / name).exists()


def test_write_shards__fails_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills up in the middle of a shard."""
    array = make(tmp_path, (32, 24, 5), "int16", FILL)
    (name,) = write_shards(array, tmp_path, 0, 0, np.ones((32, 24, 5), "int16"))
    before = (tmp_path / name).read_bytes()

    def full(packed: bytes) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(shards.google_crc32c, "value", full)
    with pytest.raises(OSError, match="No space left"):
        write_shards(array, tmp_path, 0, 0, np.zeros((32, 24, 5), "int16"))
    assert (tmp_path / name).read_bytes() == before
    assert not list(tmp_path.rglob("*.part-*"))
