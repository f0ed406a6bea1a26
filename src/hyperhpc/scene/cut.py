"""Cut a scene into tiles, as NEON delivers one: where each lies, and what it is called."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from hyperhpc.errors import ConfigError
from hyperhpc.scene.cube import Grid


@dataclass(frozen=True)
class Cut:
    """Rows [row, row + height) and columns [col, col + width) of a scene.

    Attributes
    ----------
    number
        Which of the tiles, row by row; None if the scene is not cut.
    """

    row: int
    col: int
    height: int
    width: int
    number: int | None = None

    def grid(self, whole: Grid) -> Grid:
        """The grid of this part of a scene."""
        return whole.part(self.row, self.col)

    def blocks(self, side: tuple[int, int]) -> list[Cut]:
        """Blocks of this part, row by row, counted from its own corner."""
        return [
            Cut(row, col, min(side[0], self.height - row), min(side[1], self.width - col))
            for row in range(0, self.height, side[0])
            for col in range(0, self.width, side[1])
        ]


def cut_tiles(rows: int, cols: int, tiles: tuple[int, int], overlap: int = 0) -> list[Cut]:
    """Tiles of a scene, row by row, as equal as its size divides.

    Parameters
    ----------
    rows, cols
        Pixels of the scene.
    tiles
        How many, down and across.
    overlap
        Rows and columns that neighbours share.

    Raises
    ------
    ConfigError
        More tiles than pixels, or an overlap as wide as the smallest tile.
    """
    if min(tiles) < 1 or tiles[0] > rows or tiles[1] > cols:
        raise ConfigError(
            f"{rows} x {cols} pixels cannot be cut into {tiles[0]} x {tiles[1]} tiles.",
            f"Use --tiles {min(rows, 4)}x{min(cols, 4)}, or a larger --size.",
        )
    smallest = min(rows // tiles[0], cols // tiles[1])
    if not 0 <= overlap < smallest:
        raise ConfigError(
            f"Tiles that overlap by {overlap} pixels; 0 to {smallest - 1} are possible.",
            "Use a smaller --overlap, or fewer --tiles.",
        )
    return [
        Cut(row, col, height, width, number)
        for number, (row, height, col, width) in enumerate(
            (*down, *across)
            for down in _parts(rows, tiles[0], overlap)
            for across in _parts(cols, tiles[1], overlap)
        )
    ]


def _parts(size: int, count: int, overlap: int) -> list[tuple[int, int]]:
    """Start and length of each part of a line."""
    edges = [size * k // count for k in range(count + 1)]
    parts = []
    for first, last in pairwise(edges):
        start = max(0, first - overlap // 2)
        parts.append((start, min(size, last + overlap - overlap // 2) - start))
    return parts
