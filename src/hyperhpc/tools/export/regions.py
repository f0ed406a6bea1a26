"""Connected regions of a map of classes: small ones merged, each with a number.

They are made of the whole map in memory, so that no seam of tiles shows: a byte a pixel for the
map, and eight more while regions are numbered.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.results import ClusterClass, RunResults

#: Pixels that share a side are connected; those that share a corner are not.
CONNECTIVITY = 4


@dataclass(frozen=True)
class Regions:
    """Regions of one class each.

    ``numbers``: int32 (y, x): number of the region from 1; 0 where there is no class.
    ``classes``: uint8 (region,): number of the class; the first entry stands for no region.
    ``pixels``: int64 (region,): pixels of each region, and of what is in none.
    """

    numbers: np.ndarray
    classes: np.ndarray
    pixels: np.ndarray

    @property
    def count(self) -> int:
        """Number of regions."""
        return len(self.classes) - 1


def read_class_map(results: RunResults, model: str) -> np.ndarray:
    """Numbers of classes of the whole area (y, x), uint8."""
    values = np.empty(results.shape, np.uint8)
    for rows in results.strips():
        values[rows] = results.class_map(model, rows)
    return values


def has_class(values: np.ndarray, classes: Sequence[ClusterClass]) -> np.ndarray:
    """Bool (y, x): False for no-data and all else that is in no class."""
    table = np.zeros(256, bool)
    table[[one.number for one in classes]] = True
    return table[values]


def smallest_region(results: RunResults, min_area_m2: float) -> int:
    """Pixels that a region needs, to be no smaller than an area.

    Raises ConfigError: the area is not positive, or the size of a pixel in metres is not known.
    """
    if not 0 < min_area_m2 < math.inf:
        raise ConfigError(f"--min-area {min_area_m2:g} is not an area", "Give more than 0, in m2")
    pixel_area = results.area.get("pixel_area_m2")
    if pixel_area is None:
        raise ConfigError(
            f"The size of a pixel of {results.folder.out} in metres is not known, so --min-area "
            f"{min_area_m2:g} cannot be used",
            "Leave out --min-area",
        )
    return math.ceil(min_area_m2 / float(pixel_area))


def merge_small_regions(
    values: np.ndarray, classes: Sequence[ClusterClass], min_pixels: int
) -> np.ndarray:
    """Give regions of fewer pixels to the largest region next to each; uint8 (y, x).

    GDAL's sieve (``rasterio.features.sieve``) on the whole map, for regions below 2, 4, 8 ... and
    at last ``min_pixels`` pixels: one step alone leaves every region next to which there are only
    small ones, which is most of them where pixels are noisy (docs/decisions/0044). Pixels in no
    class neither change nor grow. A region stays if no larger one is next to it.
    """
    from rasterio.features import sieve

    min_pixels = min(min_pixels, values.size)
    mask = has_class(values, classes)
    for size in sieve_sizes(min_pixels):
        values = sieve(values, size, mask=mask, connectivity=CONNECTIVITY)
    return values


def sieve_sizes(min_pixels: int) -> list[int]:
    """Powers of 2 below a size, and the size; nothing for one pixel."""
    return [*(2**n for n in range(1, (min_pixels - 1).bit_length())), min_pixels][min_pixels < 2 :]


def number_regions(values: np.ndarray, classes: Sequence[ClusterClass]) -> Regions:
    """Number the connected regions of each class."""
    from scipy import ndimage

    numbers, kinds = np.zeros(values.shape, np.int32), [np.zeros(1, np.uint8)]
    n = 0
    for one in classes:
        found, count = ndimage.label(values == one.number)
        np.add(found, n, out=numbers, where=found > 0)
        kinds.append(np.full(count, one.number, np.uint8))
        n += count
    pixels = np.bincount(numbers.ravel(), minlength=n + 1)
    return Regions(numbers, np.concatenate(kinds), pixels)


def mean_indices(results: RunResults, regions: Regions) -> dict[str, np.ndarray]:
    """Mean of each index over each region, float64 (region,); NaN where no pixel has a value."""
    means = {}
    for name in results.index_names:
        sums, counts = np.zeros(len(regions.classes)), np.zeros(len(regions.classes), np.int64)
        for rows in results.strips():
            values, where = results.values(name, rows), regions.numbers[rows]
            is_used = np.isfinite(values) & (where > 0)
            used = where[is_used]
            sums += np.bincount(used, values[is_used], len(sums))
            counts += np.bincount(used, minlength=len(sums))
        means[name] = sums / np.where(counts, counts, np.nan)
    return means
