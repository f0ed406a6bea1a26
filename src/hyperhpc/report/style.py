"""One look for every picture: inks, type sizes, colours for categories and for values.

Nothing here touches matplotlib's global state: :func:`use_style` is a context manager,
and figures are plain :class:`matplotlib.figure.Figure` objects, never pyplot's.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb

from hyperhpc.results import RunResults

#: Dots per inch of every picture, as printers of journals ask for.
DPI = 300

#: Settings of matplotlib for all figures.
RC: Any = mpl.rc_params_from_file(
    Path(__file__).with_name("report.mplstyle"), use_default_template=False
)
INK, MUTED = RC["text.color"], RC["xtick.color"]
SHADE = "#eceef1"
#: No-data on every map. Light and without hue, so that it is never read as a value.
NODATA = "#dfe1e4"
#: Pixels that have data but no cluster: without hue too, and apart from the first eight clusters
#: for every kind of sight.
NOT_CLUSTERED = "#50555c"
#: Pictures in colour show reflectance to the power of 1 over this.
GAMMA = 1.5
#: Settings that concern the process and no picture, or whose use matplotlib warns about.
_PROCESS_WIDE = ("backend", "backend_fallback", "interactive", "toolbar", "timezone")

# Okabe & Ito (2008) without its black, and an indigo: apart for readers with red-green
# colour blindness too. (Longer published lists have pairs that are not: a wine and an olive.)
_BASE = (
    "#0072B2", "#D55E00", "#009E73", "#F0E442", "#56B4E9", "#CC79A7", "#E69F00", "#332288",
)  # fmt: skip

# What red-green colour blindness makes of linear RGB (Machado et al. 2009, full severity).
_SIGHTS = (
    np.eye(3),
    np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
              [-0.011820, 0.042940, 0.968881]]),
    np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
              [-0.003882, -0.048116, 1.051998]]),
)  # fmt: skip

# Both steps from linear RGB to OKLab (Ottosson 2020).
_CONES_OF_LINEAR = np.array([[0.4122214708, 0.2119034982, 0.0883024619],
                             [0.5363325363, 0.6806995451, 0.2817188376],
                             [0.0514459929, 0.1073969566, 0.6299787005]])  # fmt: skip
_OKLAB_OF_CONES = np.array([[0.2104542553, 1.9779984951, 0.0259040371],
                            [0.7936177850, -2.4285922050, 0.7827717662],
                            [-0.0040720468, 0.4505937099, -0.8086757660]])  # fmt: skip

_COLOUR_MAPS = {
    "ndvi": "YlGn", "mrendvi": "YlGn",
    "cai": "BrBG_r", "cai_2030": "BrBG_r", "ndli": "YlOrBr",  # dry plant matter is brown
    "ndni": "PuBu", "sipi": "BuPu",
    "cri1": "OrRd", "cri2": "OrRd",
}  # fmt: skip


def use_style() -> AbstractContextManager[None]:
    """The settings all figures are drawn *and* saved under, for the length of a ``with``."""
    defaults = {name: v for name, v in mpl.rcParamsDefault.items() if name not in _PROCESS_WIDE}
    return mpl.rc_context(defaults | RC)


def colour_map(index: str, *, diverging: bool) -> Colormap:
    """Colours of one index: by what it stands for, or two-sided where zero has a meaning."""
    name = _COLOUR_MAPS.get(index.lower(), "BrBG" if diverging else "viridis")
    if diverging:
        return mpl.colormaps[name]
    # The palest tints are left out: next to the no-data grey they would look like no data.
    shades = mpl.colormaps[name](np.linspace(0.0 if name == "viridis" else 0.1, 1, 256))
    return LinearSegmentedColormap.from_list(name, shades)


@cache
def cluster_colours(n: int) -> tuple[tuple[float, float, float], ...]:
    """Colours of clusters 0 to n-1 as RGB in 0-1; the same cluster number, the same colour.

    ``n``: Number of clusters, at most 254. The first eight are a published colour-blind-safe
        set, the others are generated to stay as far from it, and from no-data, as they can.
    """
    base = [to_rgb(c) for c in _BASE]
    if n <= len(base):
        return tuple(base[:n])
    # The rest by greedy choice: each time the colour farthest from all those taken, in a
    # perceptual space, for the worst of three kinds of sight. Deterministic.
    steps = np.linspace(0.05, 0.95, 13)
    candidates = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    # Near-black, near-white and neon are far from everything, and shout or say nothing.
    lightness, a, b = _oklab(candidates, _SIGHTS[0]).T
    is_calm = np.hypot(a, b) < 0.2
    candidates = candidates[(lightness > 0.4) & (lightness < 0.9) & is_calm]
    views = [_oklab(candidates, sight) for sight in _SIGHTS]
    nearest = np.full(len(candidates), np.inf)

    def take(colour: npt.ArrayLike) -> None:
        for seen, sight in zip(views, _SIGHTS, strict=True):
            gap = np.linalg.norm(seen - _oklab(np.atleast_2d(colour), sight), axis=1)
            np.minimum(nearest, gap, out=nearest)

    for colour in (*base, to_rgb(NODATA), (1.0, 1.0, 1.0)):
        take(colour)
    while len(base) < n:
        best = candidates[int(nearest.argmax())]
        base.append((float(best[0]), float(best[1]), float(best[2])))
        take(best)
    return tuple(base)


def model_colours(results: RunResults, model: str) -> tuple[tuple[float, float, float], ...]:
    """Colours of the clusters of a model, by label; those of one class have the same.

    A class has the colour that the user gave it, or else that of its first cluster.
    """
    colours = list(_own_colours(results, model))
    for one in results.classes(model):
        colour = to_rgb(one.color) if one.color else colours[one.number]
        for k in one.clusters:
            colours[k] = colour
    return tuple(colours)


def _own_colours(results: RunResults, model: str) -> tuple[tuple[float, float, float], ...]:
    """Colours of the clusters of a model, as ``cluster_colors`` of run.json asks for them.

    Those of the palette too if the mean spectra are not on disk.
    """
    n, means = results.n_clusters(model), results.cluster_entry(model).get("mean") or []
    nm = np.asarray(results.model.get("wavelength_nm") or [], dtype=np.float64)
    if results.run.get("cluster_colors") != "spectral" or not means or not nm.size:
        return cluster_colours(n)
    return spectral_colours(nm, np.array(means, dtype=np.float64))


def spectral_colours(
    nm: npt.NDArray[np.float64], spectra: npt.NDArray[np.float64]
) -> tuple[tuple[float, float, float], ...]:
    """Colours of clusters as RGB in 0-1 by their mean spectra.

    ``nm``: Wavelengths (band,). ``spectra``: Reflectance (cluster, band); NaN of an empty cluster.

    The hue says what a cluster may be: blue for water (NDVI below 0, or near infrared below 5 %),
    green for vegetation (NDVI of 0.3 and more; yellowish where it is low), brown for soil (red 1.4
    times blue or more), grey for all else. The lightness is that of the rank of its mean
    reflectance, in equal steps: who confuses hues can still tell clusters apart.
    """
    blue, red, near = (spectra[:, np.abs(nm - wanted).argmin()] for wanted in (480, 650, 860))
    total = np.where(near + red > 0, near + red, np.nan)
    ndvi = (near - red) / total
    kinds = (
        ((ndvi < 0) | (near < 0.05), 255.0, 0.1),
        (ndvi >= 0.3, 100 + 45 * np.clip((ndvi - 0.3) / 0.5, 0, 1), 0.12),
        (red >= 1.4 * blue, 65.0, 0.08),
    )
    conditions = [condition for condition, _, _ in kinds]
    hue = np.radians(np.select(conditions, [hue for _, hue, _ in kinds], 0.0))
    chroma = np.select(conditions, [chroma for _, _, chroma in kinds], 0.0)
    rank = np.argsort(np.argsort(np.nan_to_num(spectra).mean(axis=1), kind="stable"))
    light = 0.32 + 0.52 * (rank + 0.5) / len(spectra)
    lab = np.stack([light, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1)
    linear = (lab @ np.linalg.inv(_OKLAB_OF_CONES)) ** 3 @ np.linalg.inv(_CONES_OF_LINEAR)
    linear = np.clip(linear, 0, 1)
    rgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return tuple((float(r), float(g), float(b)) for r, g, b in rgb)


def _oklab(rgb: npt.ArrayLike, sight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """OKLab (Ottosson 2020) of sRGB colours as a kind of sight receives them."""
    rgb = np.asarray(rgb, dtype=np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ sight.T, 0, 1)
    return np.asarray(np.cbrt(linear @ _CONES_OF_LINEAR) @ _OKLAB_OF_CONES)


def is_light(colour: tuple[float, float, float]) -> bool:
    """Whether a thin line of this colour would vanish on white paper."""
    r, g, b = colour
    return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.7


def rgba(
    values: npt.NDArray[np.floating[Any]], limits: Sequence[tuple[float, float]]
) -> npt.NDArray[np.uint8]:
    """Stretch (y, x, 3) reflectance to 8 bits between limits; transparent where any is NaN.

    Dark values are brightened (``GAMMA``): screens show half of the number as a fifth of the
    light, and forests, whose reflectance is a tenth of that of sand, would be black.
    """
    out = np.zeros((*values.shape[:2], 4), np.uint8)
    is_valid = np.isfinite(values).all(axis=-1)
    steps = 4095
    table = np.round(255 * np.linspace(0, 1, steps + 1) ** (1 / GAMMA)).astype(np.uint8)
    for band, (low, high) in enumerate(limits):
        scaled = (values[..., band] - low) * (steps / (high - low))
        level = np.clip(np.where(is_valid, scaled, 0), 0, steps).astype(np.int16)
        out[..., band] = np.where(is_valid, table[level], 0)
    out[..., 3] = np.where(is_valid, 255, 0)
    return out
