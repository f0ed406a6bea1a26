"""Simulated land: cover, light, the ragged edges of a mosaic, and its tiles.

Every value depends only on (seed, shape of the scene, row, column): random numbers come from
hashing integer coordinates, not from a stream. So any window can be made in any order, and is
the same as in the whole scene. Only additions, products, divisions and square roots are used,
which IEEE 754 defines to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from typing import cast

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.simulate import materials
from hyperhpc.simulate.materials import BRIGHT, DARK, DRY, GREEN, ROAD, SHADOW, SHRUB, WATER

_MASK64 = (1 << 64) - 1
#: Value noise of one octave has about this standard deviation before it is normalised.
_SPLINE_SD = 0.285
#: The mask is decided on a grid of at most this many rows and columns.
_EDGE_GRID = 512
#: Crops and fallow, drawn at random for a field.
_FIELD_CLASSES = np.array([GREEN, DRY, BRIGHT, DARK, GREEN, DRY, BRIGHT, DARK])


@dataclass(frozen=True)
class Cover:
    """The cover of one window of pixels.

    ``abundance``: Share of each class, float32 (class, y, x), sum 1.
    ``variation``: Position of a pixel within the variation of its class, float32 (y, x), -1..1.
    ``light``: Illumination, float32 (y, x), about 1.
    ``line``: Number of the flight line seen, int32 (y, x).
    ``is_valid``: False outside the mosaic, bool (y, x).
    """

    abundance: np.ndarray
    variation: np.ndarray
    light: np.ndarray
    line: np.ndarray
    is_valid: np.ndarray

    @property
    def true_class(self) -> np.ndarray:
        """Class with the largest share, uint8 (y, x); 255 where there is no data."""
        best = self.abundance.argmax(axis=0).astype(np.uint8)
        best[~self.is_valid] = 255
        return best


class Land:
    """A piece of rangeland with fields, woods, water and roads.

    Pixels are of 1 m. Scenes under 1600 m get smaller features, so that they show every class too.
    ``nodata_fraction`` is the share of pixels outside the mosaic, 0 for none.
    """

    def __init__(self, rows: int, cols: int, seed: int, nodata_fraction: float) -> None:
        self.shape = (rows, cols)
        self.seed = seed
        self.unit = float(np.clip(np.sqrt(float(rows) * cols) / 1600.0, 0.3, 1.0))
        self.line_width = max(4, round(min(800.0, cols / 9)))
        self._edge_reach = 0.25 * nodata_fraction * min(rows, cols)
        self._edge = -np.inf
        if nodata_fraction > 0:
            # Pixels with the lowest scores become no-data; a quantile gives their share
            r = np.unique(np.linspace(0, rows - 1, min(rows, _EDGE_GRID)).astype(np.int64))
            c = np.unique(np.linspace(0, cols - 1, min(cols, _EDGE_GRID)).astype(np.int64))
            self._edge = float(np.quantile(self._edge_score(r, c), nodata_fraction))

    def window(self, row: int, col: int, height: int, width: int) -> Cover:
        """Describe the pixels of one window; see :class:`Cover`."""
        r, c = np.arange(row, row + height), np.arange(col, col + width)
        abundance, field_light = self._cover(r, c)
        line = self._line(r, c)
        u = self.unit
        terrain = self._fractal("terrain", r, c, 170 * u, 3)
        texture = self._uniform("texture", r[:, None], c[None, :]) * 2 - 1
        fine = self._noise("fine", r, c, 3.0)
        light = 1 + 0.025 * terrain + 0.022 * texture + 0.020 * fine + field_light
        light += 0.030 * (self._uniform("line light", line, line) - 0.5)
        speckle = self._uniform("speckle", r[:, None], c[None, :]) * 2 - 1
        variation = 0.45 * self._fractal("variation", r, c, 60 * u, 3) + 0.35 * speckle
        return Cover(
            abundance=abundance,
            variation=np.clip(variation, -1, 1).astype(np.float32),
            light=np.clip(light, 0.75, 1.25).astype(np.float32),
            line=line,
            is_valid=self._edge_score(r, c) >= self._edge,
        )

    def elevation(self, row: int, col: int, height: int, width: int) -> np.ndarray:
        """Height above the sea of the pixels of one window, m, float32 (y, x)."""
        r, c = np.arange(row, row + height), np.arange(col, col + width)
        terrain = self._fractal("terrain", r, c, 170 * self.unit, 3)  # the one that shades
        return (1640 + 8 * self.unit * terrain).astype(np.float32)

    # Cover, in layers from the ground up

    def _cover(self, r: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = self.unit
        share = np.zeros((len(materials.CLASS_NAMES), r.size, c.size), dtype=np.float32)
        share[DRY] = 1
        green = self._fractal("green", r, c, 190 * u, 5)
        bare = self._fractal("bare", r, c, 150 * u, 5)
        mottle = self._fractal("mottle", r, c, 14.0, 3)
        _lay(share, GREEN, 0.16 * _ramp(mottle + green, 1.0, 2.5))
        _lay(share, BRIGHT, 0.16 * _ramp(bare - mottle, 1.2, 2.0))
        _lay(share, GREEN, 0.92 * _ramp(green + 0.10 * mottle, 0.75, 0.16))
        _lay(share, BRIGHT, 0.95 * _ramp(bare - 0.12 * mottle, 0.85, 0.14))
        _lay(share, DARK, 0.95 * _ramp(-bare - 0.12 * mottle, 0.90, 0.14))
        field_light = self._lay_fields(share, r, c)

        stream = self._stream_distance(r[:, None], c[None, :])
        bank = stream + 9 * u * self._fractal("bank", r, c, 30 * u, 2)
        _lay(share, GREEN, _ramp(-bank, -30 * u, 3.0) * np.float32(0.95))
        self._lay_trees(share, r, c)
        pond = self._pond_depth(r, c)
        _lay(share, BRIGHT, _ramp(pond, -4 * u, 1.2) * np.float32(0.8))
        _lay(share, WATER, _ramp(pond, 0, 1.2))
        _lay(share, WATER, _ramp(-stream, -max(2.0, 9 * u), 1.2))
        self._lay_roads(share, r, c)
        return share, field_light

    def _lay_fields(self, share: np.ndarray, r: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Parcels of a square land survey, some halved, some sown in strips."""
        size = self._field_size()
        i, j = np.broadcast_arrays((r // size)[:, None], (c // size)[None, :])
        y, x = (r % size + 0.5)[:, None], (c % size + 0.5)[None, :]
        cut = self._uniform("cut", i, j)
        half_y = (cut < 0.45) & (y > size * 0.5)
        half_x = (cut > 0.60) & (x > size * 0.5)
        part = half_y + 2 * half_x
        edge_y = np.where(cut < 0.45, _to_edge(y, size / 2), _to_edge(y, size))
        edge_x = np.where(cut > 0.60, _to_edge(x, size / 2), _to_edge(x, size))
        gap = 1.0 + 5.0 * self.unit * self._uniform("gap", i * 4 + part, j)
        inside = _ramp(np.minimum(edge_y, edge_x), gap, 1.2)
        use = self._uniform("use", i * 4 + part, j)
        is_sown = use < 0.45
        which = (self._uniform("crop", i * 4 + part, j) * 8).astype(np.int64)
        strip = max(6, round(22 * self.unit))
        is_strip = (use > 0.36) & ((np.where(cut < 0.45, x, y) // strip) % 2 == 1)
        crop = np.where(is_strip, DRY, _FIELD_CLASSES[which])
        for k in (GREEN, DRY, BRIGHT, DARK):
            _lay(share, k, inside * (is_sown & (crop == k)) * np.float32(0.94))
        tone = self._uniform("tone", i * 4 + part, j) - 0.5
        return 0.08 * tone * inside * is_sown

    def _lay_trees(self, share: np.ndarray, r: np.ndarray, c: np.ndarray) -> None:
        """Crowns one by one, dense in woods, each with a shadow to its north-west."""
        step = min(10.0, max(7.5, 15 * self.unit))
        i, j = np.floor(r / step).astype(np.int64), np.floor(c / step).astype(np.int64)
        ii = np.arange(i.min() - 1, i.max() + 3)
        jj = np.arange(j.min() - 1, j.max() + 3)
        node_r, node_c = ii[:, None], jj[None, :]
        at_r, at_c = (ii + 0.5) * step, (jj + 0.5) * step
        woods = self._fractal("woods", at_r, at_c, 130 * self.unit, 3)
        stream = self._stream_distance(at_r[:, None], at_c[None, :])
        density = 0.01 + 0.95 * _ramp(woods, 0.95, 0.4)
        density = np.maximum(density, 0.5 * _ramp(-stream, -26 * self.unit, 9 * self.unit))
        alive = self._uniform("tree", node_r, node_c) < density
        radius = step * (0.34 + 0.22 * self._uniform("crown", node_r, node_c))
        radius = np.where(alive, radius, -2.0)
        cy = at_r[:, None] + step * 0.5 * (self._uniform("tree y", node_r, node_c) - 0.5)
        cx = at_c[None, :] + step * 0.5 * (self._uniform("tree x", node_r, node_c) - 0.5)
        y, x = (r + 0.5)[:, None], (c + 0.5)[None, :]
        crown = np.full((r.size, c.size), -9.0)
        shade = np.full((r.size, c.size), -9.0)
        for di, dj in product((-1, 0, 1, 2), repeat=2):
            at = np.ix_(i - ii[0] + di, j - jj[0] + dj)
            rad = radius[at]
            dy, dx = y - cy[at], x - cx[at]
            if di < 2 and dj < 2:
                np.maximum(crown, rad - np.sqrt(dy * dy + dx * dx), out=crown)
            dy += rad
            dx += rad
            np.maximum(shade, 1.05 * rad - np.sqrt(dy * dy + dx * dx), out=shade)
        _lay(share, SHADOW, _ramp(shade, 0, 1.0))
        _lay(share, SHRUB, _ramp(crown, 0, 1.0))

    def _lay_roads(self, share: np.ndarray, r: np.ndarray, c: np.ndarray) -> None:
        """Roads along the survey lines, and one winding highway."""
        size = 2 * self._field_size()
        distance = np.full((r.size, c.size), np.inf)
        for name, at, axis in (("road y", r, 0), ("road x", c, 1)):
            k = np.rint((at + 0.5) / size).astype(np.int64)
            gone = self._uniform(name, k, k) > 0.8
            off = np.abs(at + 0.5 - k * size) + np.where(gone, 1e9, 0.0)
            np.minimum(distance, off[:, None] if axis == 0 else off[None, :], out=distance)
        along, across = 0.8 * c[None, :] - 0.6 * r[:, None], 0.6 * c[None, :] + 0.8 * r[:, None]
        period = 1500 * self.unit
        k = np.floor(across / period).astype(np.int64)
        bend = 60 * self.unit * self._curve("highway", along / (300 * self.unit), k)
        centre = (k + 0.42) * period + bend
        half = max(1.8, 4.5 * self.unit)
        np.minimum(distance, np.abs(across - centre) - 0.4 * half, out=distance)
        _lay(share, BRIGHT, _ramp(-distance, -1.6 * half, 1.0) * np.float32(0.6))
        _lay(share, ROAD, _ramp(-distance, -half, 1.0))

    def _field_size(self) -> int:
        return max(16, round(230 * self.unit))

    def _stream_distance(self, r: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Metres (pixels) to the centre of the nearest meandering stream, about."""
        u = self.unit
        along, across = 0.8 * c + 0.6 * r, 0.8 * r - 0.6 * c
        period = 760 * u
        k = np.floor(across / period).astype(np.int64)
        bend = 75 * u * self._curve("stream", along / (210 * u), k)
        bend = bend + 22 * u * self._curve("meander", along / (50 * u), k)
        return cast(np.ndarray, np.abs(across - (k + 0.5) * period - bend) * 0.85)

    def _pond_depth(self, r: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Pixels inside (positive) or outside the shore of the pond of one's square."""
        size = 210 * self.unit
        i, j = np.floor(r / size).astype(np.int64), np.floor(c / size).astype(np.int64)
        i, j = i[:, None], j[None, :]
        cy = (i + 0.35 + 0.3 * self._uniform("pond y", i, j)) * size
        cx = (j + 0.35 + 0.3 * self._uniform("pond x", i, j)) * size
        radius = size * (0.08 + 0.15 * self._uniform("pond r", i, j))
        radius = np.where(self._uniform("pond", i, j) < 0.36, radius, -1e6)
        dy, dx = (r + 0.5)[:, None] - cy, (c + 0.5)[None, :] - cx
        shore = size * 0.05 * self._fractal("shore", r, c, 45 * self.unit, 2)
        return cast(np.ndarray, radius + shore - np.sqrt(dy * dy + dx * dx))

    # The mosaic

    def _line(self, r: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Number of the flight line of each pixel: strips from north to south."""
        sway = 0.05 * self.line_width * self._noise1("sway", r, 0.6 * self.line_width)
        return np.floor((c[None, :] + sway[:, None]) / self.line_width).astype(np.int32)

    def _edge_score(self, r: np.ndarray, c: np.ndarray) -> np.ndarray:
        """Distance of a pixel from the edge of the mosaic; the lowest become no-data.

        Flight lines start and end at random places, at an angle, and the roll of the aircraft
        makes the ends and sides ragged.
        """
        rows, cols = self.shape
        reach = self._edge_reach
        line = self._line(r, c)
        slant = (c[None, :] % self.line_width) / self.line_width - 0.5
        wobble = self._fractal("roll", r, c, 0.40 * self.line_width, 4)
        score = np.full(line.shape, np.inf)
        for name, depth in (("north", r), ("south", rows - 1 - r)):
            angle = self._uniform(name + " slant", line, line) - 0.5
            end = 2.4 * self._uniform(name, line, line) + 2.6 * slant * angle
            np.minimum(score, depth[:, None] - reach * end, out=score)
        tie = (r > 0.57 * rows) & (r < 0.62 * rows)  # one line flown across the others
        for name, depth in (("west", c), ("east", cols - 1 - c)):
            side = 0.45 * np.abs(self._noise1(name, r, 0.4 * self.line_width)) + 0.9
            side = side + 0.35 * ((r / (0.22 * self.line_width)) % 1.0)  # the aircraft rolls
            side = np.where(tie, 0.0, side)
            np.minimum(score, depth[None, :] - reach * side[:, None], out=score)
        score += 0.30 * reach * wobble
        gap = np.abs(c + 0.5 - 2 * self.line_width) < max(0.6, 0.02 * self.line_width)
        is_gap = gap[None, :] & (r < 0.22 * rows)[:, None]
        return np.where(is_gap, score - 3 * reach, score)

    # Random numbers from coordinates

    def _salt(self, name: str) -> int:
        value = self.seed & _MASK64
        for letter in name.encode():
            value = ((value ^ letter) * 0x9E3779B97F4A7C15 + 0xD1B54A32D192ED03) & _MASK64
            value ^= value >> 29
        return value

    def _uniform(self, name: str, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Return numbers in [0, 1) that depend on the whole numbers (i, j); broadcast."""
        h = np.asarray(i).astype(np.uint64) * np.uint64(0xBF58476D1CE4E5B9)
        h = h + np.asarray(j).astype(np.uint64) * np.uint64(0x94D049BB133111EB)
        h = h + np.uint64(self._salt(name))
        h ^= h >> np.uint64(31)
        h *= np.uint64(0x9E3779B97F4A7C15)
        h ^= h >> np.uint64(29)
        h *= np.uint64(0xBF58476D1CE4E5B9)
        return cast(np.ndarray, (h >> np.uint64(40)).astype(np.float64) * 2.0**-24)

    def _noise(self, name: str, r: np.ndarray, c: np.ndarray, size: float) -> np.ndarray:
        """Smooth noise, mean 0 and sd about 1: a cubic B-spline over a random lattice."""
        i, wi = _spline(r, size)
        j, wj = _spline(c, size)
        ii, jj = np.arange(i.min() - 1, i.max() + 3), np.arange(j.min() - 1, j.max() + 3)
        lattice = self._uniform(name, ii[:, None], jj[None, :]) * 2 - 1
        down = sum(wi[k][:, None] * lattice[i - ii[0] + k - 1] for k in range(4))
        both = sum(wj[k][None, :] * down[:, j - jj[0] + k - 1] for k in range(4))
        return cast(np.ndarray, both / _SPLINE_SD)

    def _fractal(
        self, name: str, r: np.ndarray, c: np.ndarray, size: float, octaves: int
    ) -> np.ndarray:
        """Return a sum of noises, each half as wide as the last; sd about 1."""
        total = np.zeros((r.size, c.size))
        norm = 0.0
        for k in range(octaves):
            total += 0.55**k * self._noise(f"{name}{k}", r, c, max(2.0, size / 2**k))
            norm += 0.55 ** (2 * k)
        return total / np.sqrt(norm)

    def _curve(self, name: str, t: np.ndarray, k: np.ndarray) -> np.ndarray:
        """Smooth noise along a line: position ``t`` in knots, line number ``k``."""
        base, w = _spline(t, 1.0)
        knots = np.arange(base.min() - 1, base.max() + 3)
        lines = np.arange(k.min(), k.max() + 1)
        table = self._uniform(name, lines[:, None], knots[None, :]) * 2 - 1
        parts = (w[n] * table[k - lines[0], base - knots[0] + n - 1] for n in range(4))
        return cast(np.ndarray, sum(parts) / 0.4)

    def _noise1(self, name: str, t: np.ndarray, size: float) -> np.ndarray:
        return self._curve(name, (t + 0.5) / size, np.zeros(t.shape, dtype=np.int64))


def _spline(t: np.ndarray, size: float) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Knot before each position and the weights of the four knots around it."""
    s = np.asarray(t) / size
    base = np.floor(s)
    f = s - base
    g = 1 - f
    weights = (
        g * g * g / 6,
        (3 * f * f * f - 6 * f * f + 4) / 6,
        (3 * g * g * g - 6 * g * g + 4) / 6,
        f * f * f / 6,
    )
    return base.astype(np.int64), weights


def _ramp(value: np.ndarray, threshold: float | np.ndarray, width: float) -> np.ndarray:
    """Coverage 0..1 (float32): one half at the threshold, linear over ``width``."""
    return np.clip((value - threshold) / width + 0.5, 0, 1).astype(np.float32)


def _to_edge(t: np.ndarray, size: float) -> np.ndarray:
    """Return the distance to the nearest multiple of ``size``."""
    m = t % size
    return np.minimum(m, size - m)


def _lay(share: np.ndarray, k: int, alpha: np.ndarray) -> None:
    """Cover what is there by ``alpha`` of class ``k``."""
    if alpha.any():
        share *= 1 - alpha
        share[k] += alpha


# Tiles, into which NEON cuts a scene.


@dataclass(frozen=True)
class Cut:
    """Rows [row, row + height) and columns [col, col + width) of a scene.

    ``number``: Which of the tiles, row by row; None if the scene is not cut.
    """

    row: int
    col: int
    height: int
    width: int
    number: int | None = None

    def blocks(self, side: tuple[int, int]) -> list[Cut]:
        """Blocks of this part, row by row, counted from its own corner."""
        return [
            Cut(row, col, min(side[0], self.height - row), min(side[1], self.width - col))
            for row in range(0, self.height, side[0])
            for col in range(0, self.width, side[1])
        ]


def cut_tiles(rows: int, cols: int, tiles: tuple[int, int], overlap: int = 0) -> list[Cut]:
    """Tiles of a scene, row by row, as equal as its size divides; neighbours share ``overlap``.

    Raises ConfigError: more tiles than pixels, or an overlap as wide as the smallest tile.
    """
    if min(tiles) < 1 or tiles[0] > rows or tiles[1] > cols:
        raise ConfigError(
            f"{rows} x {cols} pixels cannot be cut into {tiles[0]} x {tiles[1]} tiles",
            f"Use --tiles {min(rows, 4)}x{min(cols, 4)}, or a larger --size",
        )
    smallest = min(rows // tiles[0], cols // tiles[1])
    if not 0 <= overlap < smallest:
        raise ConfigError(
            f"An overlap of {overlap} pixels is impossible; it must be 0 to {smallest - 1}",
            "Use a smaller --overlap, or fewer --tiles",
        )
    parts = product(_parts(rows, tiles[0], overlap), _parts(cols, tiles[1], overlap))
    return [
        Cut(row, col, height, width, number)
        for number, ((row, height), (col, width)) in enumerate(parts)
    ]


def _parts(size: int, count: int, overlap: int) -> list[tuple[int, int]]:
    """Start and length of each part of a line."""
    edges = [size * k // count for k in range(count + 1)]
    parts = []
    for first, last in pairwise(edges):
        start = max(0, first - overlap // 2)
        parts.append((start, min(size, last + overlap - overlap // 2) - start))
    return parts
