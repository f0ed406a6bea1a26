"""Size and speed of the maps of a run by codec and by rounding."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from measure import HYPERHPC, measure, scratch
from record import Result, Row

#: How many fraction bits of a float32 are kept; 23 are all of them.
KEPT = (23, 15, 11)
_CODECS = (("lz4", 1), ("lz4", 5), ("zstd", 1), ("zstd", 3))


def outputs(size: int, repeats: int) -> Result:
    """Each codec on the index maps of one run, unchanged and with fewer fraction bits."""
    import zarr
    from numcodecs import BitRound, Blosc

    from scenes import simulated

    with scratch("outputs") as out:
        command = [*HYPERHPC, "run", str(simulated(size, size)), str(out), "--workers=2"]
        measure(command, out.with_name("log"))
        group: Any = zarr.open_group(str(out / "results.zarr"), mode="r", use_consolidated=False)
        maps, chunk = group["indices"][:], group["indices"].chunks[1:]
    tiles = [
        np.ascontiguousarray(layer[y : y + chunk[0], x : x + chunk[1]])
        for layer in maps
        for y in range(0, maps.shape[1], chunk[0])
        for x in range(0, maps.shape[2], chunk[1])
    ]
    whole = sum(tile.nbytes for tile in tiles)
    codecs = {
        f"{name} {level}, {filter_name}": Blosc(name, level, shuffle)
        for name, level in _CODECS
        for filter_name, shuffle in (("shuffle", Blosc.SHUFFLE), ("bitshuffle", Blosc.BITSHUFFLE))
    }
    rows = []
    for bits in KEPT:
        rounded = tiles if bits == 23 else [BitRound(bits).encode(tile) for tile in tiles]
        for name, codec in codecs.items():
            packed = [codec.encode(tile) for tile in rounded]
            share = sum(map(len, packed)) / whole
            written = [_rate(codec.encode, rounded, whole) for _ in range(repeats)]
            read = [_rate(codec.decode, packed, whole) for _ in range(repeats)]
            what = f"{bits} bits, {name}"
            rows += [
                Row(f"{what}: size", [share], "x"),
                Row(f"{what}: encode", written, "MB/s"),
                Row(f"{what}: decode", read, "MB/s"),
            ]
    return Result(
        f"outputs-{size}",
        f"Index maps by codec and rounding, {size} x {size}",
        f"bench.py outputs --size {size} --repeats {repeats}",
        rows,
        [{"tiles": len(tiles), "bytes": whole}],
        "One thread, MB of float32 per second of CPU time; numcodecs.BitRound keeps that many "
        "bits of the fraction.",
    )


def _rate(function: Callable[[Any], Any], parts: list[Any], nbytes: int) -> float:
    """MB per second of CPU time of this process."""
    start = time.process_time()
    for part in parts:
        function(part)
    return nbytes / 1e6 / (time.process_time() - start)
