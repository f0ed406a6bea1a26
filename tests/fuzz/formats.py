"""The formats that are fuzzed.

A new one is a class with these three methods in a file of its own, and an entry below.
"""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Protocol

from direct import Direct
from neon_format import Neon
from raster_format import Envi, GeoTiff
from zarr_format import BY_BAND, SHARDED, SIMULATED, VERSION_2

from hyperhpc.scene.cube import Scene


class Format(Protocol):
    """One kind of scene."""

    def make(self, path: Path) -> None:
        """Write a small undamaged scene; it may have a header of the same name."""

    def damage(self, path: Path, rng: Random) -> tuple[str, bool]:
        """Damage it.

        Returns
        -------
        What was done, and True if a checksum must tell: then pixels that can still be
        read are as they were.
        """

    def read(self, scene: Scene, window: tuple[slice, slice]) -> Direct:
        """Read rows and columns with the format's own library alone."""


FORMATS: dict[str, Format] = {
    "zarr3": SHARDED,
    "zarr3-by-band": BY_BAND,
    "zarr3-thinned": SIMULATED,
    "zarr2": VERSION_2,
    "neon": Neon("old", bidirectional=False),
    "neon-by-band": Neon("band", bidirectional=True),
    "envi": Envi("bil"),
    "envi-bsq": Envi("bsq"),
    "geotiff": GeoTiff(),
    "geotiff-blocks": GeoTiff(
        {
            "tiled": True,
            "blockxsize": 16,
            "blockysize": 16,
            "interleave": "band",
            "compress": "deflate",
        }
    ),
}
