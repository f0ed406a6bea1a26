"""A chunk that holds far more than it should is refused before it is decoded."""

from __future__ import annotations

import gzip
import resource
import zlib
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr

from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.formats.zarr_sizes import check_size, codec_name, holds_more
from hyperhpc.simulate.scene import simulate

CODECS = [
    numcodecs.GZip(), numcodecs.Zlib(), numcodecs.BZ2(), numcodecs.LZMA(), numcodecs.Zstd(),
    numcodecs.LZ4(), numcodecs.Blosc(),
]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS, ids=codec_name)
@pytest.mark.parametrize("n_bytes", [1, 200, 300, 70_000])
def test_holds_more__is_what_the_codec_gives(codec: numcodecs.abc.Codec, n_bytes: int) -> None:
    content = np.random.default_rng(1).integers(0, 4, n_bytes, np.uint8).tobytes()
    stored = bytes(codec.encode(content))
    assert len(codec.decode(stored)) == n_bytes
    name = codec_name(codec)
    assert not holds_more(name, stored, n_bytes)
    if name not in ("gzip", "zlib"):  # which are looked at only if they may be large
        assert holds_more(name, stored, n_bytes - 1)
    assert not holds_more(name, stored[: len(stored) // 2], n_bytes)  # damage is left to the codec
    assert not holds_more(name, b"\0" * 7, n_bytes)


def test_check_size__counts_all_streams_of_a_bomb_and_keeps_none() -> None:
    bomb = gzip.compress(bytes(2**23), 1) * 9
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert holds_more("gzip", bomb, 9 * 2**23 - 1)
    assert not holds_more("gzip", bomb[: len(bomb) // 9 * 8], 8 * 2**23)
    with pytest.raises(OSError, match="a chunk of 1000 bytes holds more than"):
        check_size("gzip", bomb, 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 2**10  # KiB


@pytest.mark.parametrize("codec", ["gzip", "zlib"])
def test_open_scene__refuses_a_bomb_of_a_chunk(codec: str, tmp_path: Path) -> None:
    scene = simulate(tmp_path / "s.zarr", 40, 40, bands=20, zarr_format=2).path
    group = zarr.open_group(scene, mode="r+")
    array = group["reflectance/reflectance"]
    values, attributes = np.asarray(array[:]), dict(array.attrs)
    group.create_array(
        "reflectance/reflectance", data=values, chunks=values.shape, overwrite=True,
        compressors=numcodecs.get_codec({"id": codec}), attributes=attributes,
    )  # fmt: skip
    (chunk,) = Path(scene, "reflectance/reflectance").glob("0*")
    wbits = 31 if codec == "gzip" else 15
    packer = zlib.compressobj(1, zlib.DEFLATED, wbits)
    zeros = bytes(2**24)
    with chunk.open("wb") as file:
        for _ in range(5):
            file.write(packer.compress(zeros))
        file.write(packer.flush())
    opened = open_scene(scene)
    with pytest.raises(SceneError, match="a chunk of 64000 bytes holds more than"):
        opened.read(slice(0, 40), slice(0, 40))
