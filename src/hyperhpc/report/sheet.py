"""A sheet of paper laid out in inches from its top left corner, and maps placed on it.

matplotlib's own layout engines measure every text several times; a layout worked out
beforehand is faster, and gives the same margins on every figure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from hyperhpc.report import style
from hyperhpc.report.formats import THIN, number
from hyperhpc.results import Extent
from hyperhpc.scene.georef import MapCrs

#: Width of a full-page figure in inches.
PAGE = 9.6
#: Room in inches left of a map for its northings, and below it for its eastings.
TICKS_LEFT, TICKS_BELOW = 0.42, 0.34
FOOTER = 0.46
MARGIN = 0.12


class Sheet:
    """A figure of a given size in inches, with positions counted from the top left."""

    def __init__(self, width: float, height: float) -> None:
        # Whole pixels everywhere, so that a map drawn 1:1 or 2:1 keeps each pixel square.
        self.width, self.height = _whole_pixels(width), _whole_pixels(height)
        self.figure = Figure(figsize=(self.width, self.height), dpi=style.DPI)

    def axes(self, x: float, y: float, w: float, h: float, **kwargs: Any) -> Axes:
        """Axes whose box starts ``x`` from the left and ``y`` from the top."""
        x, y, w, h = (_whole_pixels(v) for v in (x, y, w, h))
        top = 1 - (y + h) / self.height
        rect = (x / self.width, top, w / self.width, h / self.height)
        return self.figure.add_axes(rect, **kwargs)

    def text(self, x: float, y: float, text: str, **kwargs: Any) -> None:
        """Text whose top left corner (by default) is at ``x``, ``y``."""
        kwargs = {"va": "top", "ha": "left"} | kwargs
        self.figure.text(x / self.width, 1 - y / self.height, text, **kwargs)

    def canvas(self, x: float, y: float, w: float, h: float) -> Axes:
        """Invisible axes in inches (upwards from the bottom left) for small drawings."""
        ax = self.axes(x, y, w, h)
        ax.set(xlim=(0, w), ylim=(0, h))
        ax.axis("off")
        return ax

    def footer(
        self,
        crs: MapCrs,
        inches_per_unit: float,
        y_mid: float,
        *,
        note: str = "",
        no_data: str | None = "no data",
        x: float = TICKS_LEFT + MARGIN,
    ) -> None:
        """One scale bar, north arrow, no-data key and the CRS, for all maps of the sheet.

        Outside the maps, so that they never cover data and stay legible on a thin strip.
        """
        room = self.width - x - 2 * MARGIN
        ax = self.canvas(x, self.height - FOOTER, room, FOOTER)
        metres = crs.metres_per_unit(y_mid)
        length, label = _bar(inches_per_unit, metres, min(1.5, 0.3 * room))
        base = 0.2
        for i in range(4):
            face = style.INK if i % 2 == 0 else "white"
            quarter = (i * length / 4, base), length / 4, 0.055
            ax.add_patch(Rectangle(*quarter, facecolor=face, edgecolor=style.INK, lw=0.5))
        ax.text(length + 0.07, base + 0.027, label, va="center", fontsize=7)
        at = length + 0.14 + 0.062 * len(label)
        if crs.kind != "unknown":
            at += 0.12
            half = [(at, base - 0.05), (at, base + 0.15), (at - 0.06, base - 0.08)]
            ax.add_patch(Polygon(half, facecolor=style.INK, edgecolor=style.INK, lw=0.4))
            other = [(at, base - 0.05), (at, base + 0.15), (at + 0.06, base - 0.08)]
            ax.add_patch(Polygon(other, facecolor="white", edgecolor=style.INK, lw=0.4))
            ax.text(at + 0.1, base + 0.027, "N", va="center", fontsize=7)
            at += 0.26
        if no_data:
            at += 0.1
            key = (at, base - 0.03), 0.14, 0.115
            ax.add_patch(Rectangle(*key, facecolor=style.NODATA, edgecolor="#b4bac1", lw=0.4))
            ax.text(at + 0.2, base + 0.027, no_data, va="center", fontsize=7)
            at += 0.3 + 0.06 * len(no_data)
        caption = f"{crs.label}{'; ' + note if note else ''}"
        fits = room - at > 0.052 * len(caption)
        # On a narrow sheet the caption has its own line under the bar.
        where = (room, base + 0.027, "right") if fits else (0.0, base - 0.15, "left")
        ax.text(
            where[0], where[1], caption, ha=where[2], va="center", fontsize=6.5,
            color=style.MUTED,
        )  # fmt: skip


def _bar(inches_per_unit: float, metres: float | None, longest: float) -> tuple[float, str]:
    """Length in inches and label of the longest 1-2-5 bar that is at most ``longest``."""
    inches_per_step = inches_per_unit if metres is None else inches_per_unit / metres
    most = longest / inches_per_step
    power = 10.0 ** math.floor(math.log10(most))
    step = next(f * power for f in (5, 2, 1) if f * power <= most * (1 + 1e-9))
    if metres is None:
        label = f"{step:g}{THIN}units"
    elif step >= 1000:
        label = f"{number(step / 1000)}{THIN}km"
    else:
        label = f"{step:g}{THIN}m"
    return step * inches_per_step, label


def _whole_pixels(inches: float) -> float:
    return max(1, round(inches * style.DPI)) / style.DPI


def crisp(w: float, h: float, n_pixels: int) -> tuple[float, float]:
    """Shrink a map so that each pixel gets a whole number of dots, if that costs little.

    Labels are drawn without blending; at 1.3 dots a pixel every third one would be doubled.
    """
    dots = int(w * style.DPI / n_pixels + 1e-6)
    snapped = dots * n_pixels / style.DPI
    return (snapped, h * snapped / w) if dots and snapped > 0.75 * w else (w, h)


def aspect_of(extent: Extent, crs: MapCrs) -> float:
    """Width over height on the ground, where a degree of longitude is the shorter one."""
    aspect = abs(extent[1] - extent[0]) / abs(extent[3] - extent[2])
    if crs.is_degrees:
        aspect *= max(math.cos(math.radians((extent[2] + extent[3]) / 2)), 0.05)
    return aspect


def fit(aspect: float, max_w: float, max_h: float) -> tuple[float, float]:
    """Inches of the largest box of width/height ``aspect`` inside ``max_w`` x ``max_h``."""
    w = min(max_w, max_h * aspect)
    return w, w / aspect


def columns(
    n: int, aspect: float, width: float, height: float, extra_w: float, extra_h: float
) -> tuple[int, float, float]:
    """Columns and map size in inches that show ``n`` maps of that width/height largest."""
    best = (1, 0.0, 0.0)
    for n_cols in range(1, n + 1):
        n_rows = -(-n // n_cols)
        w = min(width / n_cols - extra_w, (height / n_rows - extra_h) * aspect)
        if w > best[1] * 1.02:
            best = (n_cols, w, w / aspect)
    return best


def draw_map(
    ax: Axes,
    image: npt.NDArray[Any],
    extent: Extent,
    crs: MapCrs,
    *,
    view: Extent | None = None,
    is_smooth: bool = False,
    show_x: bool = True,
    show_y: bool = True,
) -> None:
    """Put an RGBA picture on axes with coordinate ticks, in equal aspect.

    ``image``: (y, x, 4) uint8; alpha 0 lets the neutral no-data colour of the axes through.
    ``extent``: Outer edges of the picture (left, right, bottom, top), bottom > top if y grows
        down.
    ``view``: Edges to show if not the whole picture.
    ``is_smooth``: Whether neighbouring pixels may be blended where the picture is shrunk (never
        labels).
    """
    ax.set_facecolor(style.NODATA)
    how = "auto" if is_smooth else "nearest"
    ax.imshow(image, extent=extent, interpolation=how, origin="upper", aspect="auto")
    left, right, bottom, top = view or extent
    ax.set(xlim=(left, right), ylim=(bottom, top))
    box = ax.get_position()
    size = ax.figure.get_figwidth(), ax.figure.get_figheight()  # type: ignore[union-attr]
    for axis, low, high, inches, show in (
        (ax.xaxis, left, right, box.width * size[0], show_x),
        (ax.yaxis, bottom, top, box.height * size[1], show_y),
    ):
        _ticks(axis, low, high, inches, crs, show=show)
    ax.tick_params(pad=2, length=2.5)
    # A label at a corner is turned inwards, where no title or neighbour stands.
    for axis, low, high, inches, key, ends in (
        (ax.xaxis, left, right, box.width * size[0], "ha", ("left", "right")),
        (ax.yaxis, bottom, top, box.height * size[1], "va", ("bottom", "top")),
    ):
        for text, value in zip(axis.get_ticklabels(), axis.get_majorticklocs(), strict=True):
            at = (value - low) / (high - low)
            room = min(0.3, 0.26 / inches)
            where = ends[0] if at < room else ends[1] if at > 1 - room else "center"
            text.set(**{key: where})
            if key == "va":
                text.set(rotation=90)


def _ticks(axis: Any, low: float, high: float, inches: float, crs: MapCrs, *, show: bool) -> None:
    factor = 1000.0 / crs.unit_m if crs.kind == "projected" else 1.0
    unit = {"geographic": "°", "projected": "km"}.get(crs.kind, "")
    start, end = sorted((low / factor, high / factor))
    # As many labels as stand side by side; the first that fits is taken.
    for n_bins in (5, 4, 3, 2, 1):
        ticks = MaxNLocator(nbins=n_bins, steps=[1, 2, 5, 10]).tick_values(start, end)
        near = 1e-6 * (end - start)  # 517.4 km is not quite 517400 m / 1000
        ticks = [t for t in ticks if start - near <= t <= end + near]
        if len(ticks) < 2:
            continue
        step = ticks[1] - ticks[0]
        decimals = _decimals(step)
        widest = 0.056 * max(len(number(t, decimals)) for t in ticks) + 0.12
        # The last label carries the unit and, at a corner, stands wholly to one side.
        if step / (end - start) * inches > 1.5 * widest + 0.2 * bool(unit):
            break
    else:
        # Room for one: in the middle, to a tenth of the axis.
        decimals = _decimals((end - start) / 10)
        ticks = [round((start + end) / 2, decimals)]
    axis.set_ticks(np.clip(np.asarray(ticks) * factor, min(low, high), max(low, high)))
    last = len(ticks) - 1

    def label(value: float, at: int | None) -> str:
        # The unit once, on the last tick: an axis title would cost a line per map.
        text = number(value / factor, decimals)
        return f"{text}{THIN}{unit}" if unit and at == last else text

    axis.set_major_formatter(FuncFormatter(label) if show else FuncFormatter(lambda *_: ""))


def _decimals(step: float) -> int:
    return min(6, max(0, -math.floor(math.log10(step) + 1e-9)))


def rgba(
    values: npt.NDArray[np.floating[Any]], limits: Sequence[tuple[float, float]]
) -> npt.NDArray[np.uint8]:
    """Stretch (y, x, 3) reflectance to 8 bits between limits; transparent where any is NaN."""
    out = np.zeros((*values.shape[:2], 4), np.uint8)
    is_valid = np.isfinite(values).all(axis=-1)
    for band, (low, high) in enumerate(limits):
        scaled = (values[..., band] - low) * (255 / (high - low))
        out[..., band] = np.where(is_valid, np.clip(np.nan_to_num(scaled), 0, 255), 0)
    out[..., 3] = np.where(is_valid, 255, 0)
    return out


def robust_limits(
    values: npt.NDArray[np.floating[Any]], low: float = 2, high: float = 98
) -> tuple[float, float] | None:
    """Percentiles of the finite values, never equal; None if there is no finite value."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return None
    if finite.size > 2_000_000:
        finite = finite[:: finite.size // 1_000_000]
    return apart(*(float(v) for v in np.percentile(finite, (low, high))))


def apart(a: float, b: float) -> tuple[float, float]:
    """Limits that are not equal."""
    if not b > a:
        pad = abs(a) * 0.05 or 0.05
        a, b = a - pad, b + pad
    return a, b


def stretch(values: npt.NDArray[np.float32]) -> list[tuple[float, float]]:
    """Limits of each colour: 2 and 98 % of its valid pixels."""
    return [robust_limits(values[..., c]) or (0.0, 1.0) for c in range(values.shape[-1])]
