"""Make a scene that looks like NEON's: of any size, block by block, reproducible from a seed.

The land (:mod:`~hyperhpc.simulate.land`) says which classes a pixel holds, the materials
(:mod:`~hyperhpc.simulate.materials`) what their spectra are. Here they are mixed, noise, filler
and no-data are added, and a writer stores the blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np
from threadpoolctl import threadpool_limits

from hyperhpc.errors import ConfigError
from hyperhpc.files import atomic_outputs, check_absent
from hyperhpc.simulate import materials, write_neon
from hyperhpc.simulate import write_zarr as write
from hyperhpc.simulate.land import Cover, Cut, Land, cut_tiles

# CELL and _STRIP fix the order of the random numbers: to change them changes all scenes.
#: Pixels are made in squares of this side; each has its own stream of noise.
CELL = 128
_STRIP = 8  # rows mixed at a time: their spectra stay in the CPU's cache
_STEPS = 1024  # shares are whole 1/1024, so sums of products with DN are exact in float32
_THREADS = 2
_MAX_BANDS = 1024

Writer = write.ZarrWriter | write_neon.NeonWriter


@dataclass(frozen=True)
class SimulatedScene:
    """What was written.

    ``truth_path``: Map of the true classes: variable ``true_class`` uint8 (y, x), 255 = no-data.
    """

    path: Path
    truth_path: Path


class Painter:
    """Makes windows of one simulated scene; safe to use from several threads."""

    def __init__(
        self, rows: int, cols: int, bands: int = 426, seed: int = 0, nodata_fraction: float = 0.15
    ) -> None:
        self.shape = (rows, cols, bands)
        self.seed = seed
        self.land = Land(rows, cols, seed, nodata_fraction)
        self.wavelength_nm = materials.band_centres(bands)
        self._spectra = materials.endmembers(self.wavelength_nm) / np.float32(_STEPS)
        self._noise_sd = materials.noise_sd(self.wavelength_nm)
        self._window = np.flatnonzero(materials.in_water_window(self.wavelength_nm))
        self._filler = materials.filler_quantiles(self.wavelength_nm[self._window])

    def window(self, row: int, col: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
        """Paint one window.

        Returns: DN int16 (y, x, band), -9999 in all bands where there is no data; and the true
        class uint8 (y, x), 255 there.
        """
        dn = np.empty((height, width, self.shape[2]), dtype=np.int16)
        truth = np.empty((height, width), dtype=np.uint8)
        for cell in self.cells(row, col, height, width):
            self.paint(cell, row, col, dn, truth)
        return dn, truth

    def cells(self, row: int, col: int, height: int, width: int) -> list[tuple[int, int]]:
        """Cells that touch a window."""
        return [
            (i, j)
            for i in range(row // CELL, -(-(row + height) // CELL))
            for j in range(col // CELL, -(-(col + width) // CELL))
        ]

    def paint(
        self, cell: tuple[int, int], row: int, col: int, dn: np.ndarray, truth: np.ndarray
    ) -> None:
        """Paint one cell into the window that starts at (row, col)."""
        top, left = cell[0] * CELL, cell[1] * CELL
        height = min(CELL, self.shape[0] - top)
        width = min(CELL, self.shape[1] - left)
        y0, y1 = max(top, row), min(top + height, row + dn.shape[0])
        x0, x1 = max(left, col), min(left + width, col + dn.shape[1])
        cover = self.land.window(top, left, height, width)
        into = (slice(y0 - row, y1 - row), slice(x0 - col, x1 - col))
        part = (slice(y0 - top, y1 - top), slice(x0 - left, x1 - left))
        truth[into] = cover.true_class[part]
        if not cover.is_valid.any():
            dn[into] = materials.NODATA
            return
        for start, strip in self._strips(cell, cover):
            low, high = max(start, part[0].start), min(start + strip.shape[0], part[0].stop)
            if low < high:
                rows = slice(low + top - row, high + top - row)
                dn[rows, into[1]] = strip[low - start : high - start, part[1]]

    def _strips(self, cell: tuple[int, int], cover: Cover) -> Iterator[tuple[int, np.ndarray]]:
        """DN of a cell, a few rows at a time; the array is used again for the next."""
        _, height, width = cover.abundance.shape
        bands = self.shape[2]
        key = np.random.SeedSequence([abs(self.seed), int(self.seed < 0), *cell])
        random = np.random.SFC64(key)
        share = cover.light * np.concatenate([cover.abundance, cover.abundance * cover.variation])
        share = np.rint(share * np.float32(_STEPS))
        first = np.arange(self._window.size) * self._filler.shape[1]
        # One set of buffers per cell: fresh ones would be fresh pages for every strip.
        signals, noises = (np.empty((_STRIP * width, bands), np.float32) for _ in range(2))
        dns = np.empty((_STRIP * width, bands), np.int16)
        for start in range(0, height, _STRIP):
            stop = min(start + _STRIP, height)
            pixels = (stop - start) * width
            signal, noise, dn = signals[:pixels], noises[:pixels], dns[:pixels]
            weights = share[:, start:stop].reshape(share.shape[0], pixels)
            np.matmul(weights.T, self._spectra, out=signal)
            bits = _random16(random, pixels * bands).reshape(pixels, bands)
            np.take(_normal_quantiles(), bits, out=noise, mode="clip")
            noise *= self._noise_sd
            signal += noise
            np.rint(signal, out=signal)
            np.clip(signal, 1, np.iinfo(np.int16).max, out=dn, casting="unsafe")
            if self._window.size:
                bits = _random16(random, pixels * first.size).reshape(pixels, first.size)
                level = bits % np.uint16(self._filler.shape[1])
                dn[:, self._window] = self._filler.ravel()[level + first]
            dn[~cover.is_valid[start:stop].reshape(pixels)] = materials.NODATA
            yield start, dn.reshape(stop - start, width, bands)


def simulate(
    out: Path,
    rows: int,
    cols: int,
    *,
    bands: int = 426,
    seed: int = 0,
    layout: Literal["zarr", "neon"] = "zarr",
    nodata_fraction: float = 0.15,
    zarr_format: Literal[2, 3] = 3,
    neon_chunks: Literal["old", "band"] = "old",
    bidirectional: bool = False,
    tiles: tuple[int, int] | None = None,
    overlap: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SimulatedScene:
    """Write a simulated scene and, next to it, the map of its true classes.

    Both appear whole or not at all. Peak memory: about three times one block (at most 512 x 512
    pixels of all bands, 223 MB).

    ``out``: New store (Zarr) or file (NEON HDF5). The map goes to ``out`` + ``.truth.zarr``.
    ``rows``, ``cols``: Pixels of 1 m.
    ``bands``: 426 gives NEON's centres; other numbers are spread over the same range.
    ``seed``: The same seed gives the same scene, whatever the layout.
    ``layout``: ``"zarr"``: a store with ``reflectance/reflectance``; ``"neon"``: NEON's HDF5.
    ``nodata_fraction``: Share of pixels without data, at the ragged edges, 0 to 0.9.
    ``zarr_format``: 3 (sharded) or 2.
    ``neon_chunks``: ``"old"``: small blocks (until 2021); ``"band"``: one band each (since 2022).
    ``bidirectional``: Write a DP3.30006.002 file, whose water windows hold -100.
    ``tiles``: Number of tiles, down and across, of the layout ``neon``: ``out`` is a folder of
        files with NEON's names. The pixels are those of the scene in one file.
    ``overlap``: Pixels that neighbouring tiles share. Each tile then has its own to-sensor
        zenith angle, smallest in its middle column.
    ``progress``: Called with (pixels done, pixels in all).

    Raises ConfigError: ``out`` or its map exists, or a number is out of range.
    """
    out = Path(out)
    truth = out.with_name(out.name + ".truth.zarr")
    check_absent(out, [truth.name])
    _check_numbers(rows, cols, bands, nodata_fraction)
    _check_choices(layout, zarr_format, neon_chunks)
    if layout != "neon" and (tiles or overlap or bidirectional):
        raise ConfigError(
            "--tiles, --overlap and --product 002 need the layout neon", "Add --layout neon"
        )
    cuts = cut_tiles(rows, cols, tiles or (1, 1), overlap)
    painter = Painter(rows, cols, bands, seed, nodata_fraction)
    total, done = sum(cut.height * cut.width for cut in cuts), 0

    def advance(pixels: int) -> None:
        nonlocal done
        done += pixels
        if progress is not None:
            progress(done, total)

    out.parent.mkdir(parents=True, exist_ok=True)
    # The scene itself is renamed last: where it is, its map is too
    with atomic_outputs(out, [truth.name]) as folder:
        part = folder / out.name
        truth_map = write.TruthMapWriter(folder / truth.name, rows, cols)
        if tiles:
            part.mkdir()
        for cut in cuts:
            if layout == "zarr":
                writer: Writer = write.ZarrWriter(part, painter.shape, zarr_format)
            else:
                name = write_neon.tile_name(cut, bidirectional)
                writer = write_neon.NeonWriter(
                    part / name if tiles else part,
                    cut,
                    bands,
                    painter.land,
                    neon_chunks,
                    bidirectional,
                    own_flight=overlap > 0,
                )
            _fill(writer, cut, painter, truth_map, advance)
    return SimulatedScene(out, truth)


def _fill(
    writer: Writer,
    cut: Cut,
    painter: Painter,
    truth_map: write.TruthMapWriter,
    advance: Callable[[int], None],
) -> None:
    """Paint a part of the scene into a writer, block by block."""
    blocks = cut.blocks(writer.block)
    bands = painter.shape[2]
    buffer = np.empty(max(b.height * b.width for b in blocks) * bands, dtype=np.int16)
    with writer, threadpool_limits(limits=1, user_api="blas"), ThreadPoolExecutor(_THREADS) as pool:
        for block in blocks:
            row, col, size = cut.row + block.row, cut.col + block.col, block.height * block.width
            dn = buffer[: size * bands].reshape(block.height, block.width, bands)
            classes = np.empty(dn.shape[:2], dtype=np.uint8)
            paint = partial(painter.paint, row=row, col=col, dn=dn, truth=classes)
            for _ in pool.map(paint, painter.cells(row, col, *dn.shape[:2])):
                pass  # brings errors up from the threads
            writer.put(block.row, block.col, dn)
            truth_map.put(row, col, classes)
            advance(size)


@cache
def _normal_quantiles() -> np.ndarray:
    """65536 quantiles of the standard normal, float32: what a random 16-bit number means.

    Three times as fast as numpy's own normal numbers, and the same in all its versions.
    """
    normal = NormalDist()
    upper = np.array([normal.inv_cdf((i + 0.5) / 65536) for i in range(32768, 65536)])
    return np.concatenate([-upper[::-1], upper]).astype(np.float32)


def _random16(random: np.random.BitGenerator, size: int) -> np.ndarray:
    """Return random uint16 from the raw 64-bit stream."""
    raw = np.asarray(random.random_raw(-(-size // 4)), dtype="<u8")
    return raw.view("<u2")[:size]


def _check_numbers(rows: int, cols: int, bands: int, nodata_fraction: float) -> None:
    if rows < 1 or cols < 1:
        raise ConfigError(f"A scene of {rows} x {cols} pixels is empty", "Use --size 1x1 or more")
    if not 2 <= bands <= _MAX_BANDS:
        raise ConfigError(
            f"{bands} bands cannot be simulated; the number must be 2 to {_MAX_BANDS}",
            "Use --bands 426, NEON's number",
        )
    if not 0 <= nodata_fraction <= 0.9:
        raise ConfigError(
            f"The no-data fraction {nodata_fraction:g} is outside 0 to 0.9",
            "Use --nodata-fraction 0.15",
        )


def _check_choices(layout: str, zarr_format: int, neon_chunks: str) -> None:
    for name, value, known in (
        ("layout", layout, ("zarr", "neon")),
        ("Zarr format", zarr_format, (2, 3)),
        ("chunk layout", neon_chunks, ("old", "band")),
    ):
        if value not in known:
            words = " or ".join(str(k) for k in known)
            raise ConfigError(f"Unknown {name} {value!r}", f"Use {words}")
