"""A sheet of paper laid out in inches from its top left corner, and maps placed on it.

matplotlib's own layout engines measure every text several times; a layout worked out
beforehand is faster, and gives the same margins on every figure.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.axis import XAxis, YAxis
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
#: Inches from the left edge of a sheet to its first map.
LEFT = TICKS_LEFT + MARGIN


class Sheet:
    """A figure of a given size in inches, with positions counted from the top left.

    ``has_footer``: Adds room for :meth:`footer` to the height.
    """

    def __init__(self, width: float, height: float, *, has_footer: bool = False) -> None:
        height += FOOTER if has_footer else 0.0
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

    def heading(self, x: float, y: float, text: str) -> None:
        """The title of a map or a chart."""
        self.text(x, y, text, fontsize=9, fontweight="bold")

    def remark(self, x: float, y: float, text: str, **kwargs: Any) -> None:
        """Small grey text."""
        self.text(x, y, text, **{"fontsize": 7, "color": style.MUTED} | kwargs)

    def footer(
        self, crs: MapCrs, view: Extent, width: float, no_data: str = "no data", masked: str = ""
    ) -> None:
        """One scale bar, north arrow, no-data key and the CRS, for all maps of the sheet.

        Outside the maps, so that they never cover data and stay legible on a thin strip.

        ``view``, ``width``: Edges of what each map shows, and its width in inches.
        ``no_data``, ``masked``: What the neutral grey means, and the darker one of pixels that
            are not clustered; empty if no map shows it.
        """
        room = self.width - LEFT - 2 * MARGIN
        ax = self.axes(LEFT, self.height - FOOTER, room, FOOTER)
        ax.set(xlim=(0, room), ylim=(0, FOOTER))  # inches
        ax.axis("off")
        left, right, bottom, top = view
        metres = crs.metres_per_unit((bottom + top) / 2)
        unit = "units" if crs.n_rows is None else "pixels"
        length, label = _bar(width / abs(right - left), metres, min(1.5, 0.3 * room), unit)
        base = 0.2
        for i in range(4):
            face = style.INK if i % 2 == 0 else "white"
            quarter = (i * length / 4, base), length / 4, 0.055
            ax.add_patch(Rectangle(*quarter, facecolor=face, edgecolor=style.INK, lw=0.5))
        ax.text(length + 0.07, base + 0.027, label, va="center", fontsize=7)
        at = length + 0.14 + 0.062 * len(label)
        if crs.kind != "unknown":
            at += 0.12
            for side, face in ((-0.06, style.INK), (0.06, "white")):
                half = [(at, base - 0.05), (at, base + 0.15), (at + side, base - 0.08)]
                ax.add_patch(Polygon(half, facecolor=face, edgecolor=style.INK, lw=0.4))
            ax.text(at + 0.1, base + 0.027, "N", va="center", fontsize=7)
            at += 0.26
        for text, grey in ((no_data, style.NODATA), (masked, style.NOT_CLUSTERED)):
            if text:
                key = (at + 0.1, base - 0.03), 0.14, 0.115
                ax.add_patch(Rectangle(*key, facecolor=grey, edgecolor="#b4bac1", lw=0.4))
                ax.text(at + 0.3, base + 0.027, text, va="center", fontsize=7)
                at += 0.4 + 0.06 * len(text)
        # On a narrow sheet the name of the CRS has its own line under the bar.
        fits = room - at > 0.052 * len(crs.label)
        x, y, ha = (room, base + 0.027, "right") if fits else (0.0, base - 0.15, "left")
        ax.text(x, y, crs.label, ha=ha, va="center", fontsize=6.5, color=style.MUTED)

    def map(
        self, x: float, y: float, w: float, h: float, image: npt.NDArray[Any], extent: Extent,
        crs: MapCrs, *, view: Extent, is_smooth: bool = False, show_x: bool = True,
        show_y: bool = True, is_named: bool = False,
    ) -> Axes:  # fmt: skip
        """An RGBA picture with coordinate ticks, in equal aspect.

        ``image``: (y, x, 4) uint8; alpha 0 lets the neutral no-data colour of the axes through.
        ``extent``: Outer edges of the picture (left, right, bottom, top), bottom > top if y
            grows down.
        ``view``: Edges to show.
        ``is_smooth``: Whether neighbouring pixels may be blended where the picture is shrunk
            (never labels).
        ``is_named``: Say what the coordinates are; once on a sheet is enough.
        """
        ax = self.axes(x, y, w, h)
        ax.set_facecolor(style.NODATA)
        how = "auto" if is_smooth else "nearest"
        ax.imshow(image, extent=extent, interpolation=how, origin="upper", aspect="auto")
        left, right, bottom, top = view
        ax.set(xlim=(left, right), ylim=(bottom, top))
        ax.tick_params(pad=2, length=2.5)
        box = ax.get_position()
        w, h = box.width * self.width, box.height * self.height
        if is_named:
            self._name_axes(x, y, w, h, crs)
        _ticks(ax.xaxis, left, right, w, crs, show=show_x)
        _ticks(ax.yaxis, bottom, top, h, crs, show=show_y)
        _turn_labels(ax.xaxis, left, right, w, ("left", "right"))
        _turn_labels(ax.yaxis, bottom, top, h, ("bottom", "top"))
        return ax

    def _name_axes(self, x: float, y: float, w: float, h: float, crs: MapCrs) -> None:
        """The names of both axes outside the labels of their ticks."""
        x_name, y_name = crs.axis_names
        # Under the middle of a wide map there may be a colour bar.
        is_wide = w > 2.2 * h
        at, ha = (x, "left") if is_wide else (x + w / 2, "center")
        self.remark(at, y + h + 0.19, x_name, ha=ha)
        # A name longer than the side begins at its lower end.
        is_long = 0.06 * len(y_name) > h
        at, va = (y + h, "bottom") if is_long else (y + h / 2, "center")
        self.remark(x - 0.19, at, y_name, rotation=90, ha="right", va=va)


def _bar(
    inches_per_unit: float, metres: float | None, longest: float, unit: str
) -> tuple[float, str]:
    """Length in inches and label of the longest 1-2-5 bar that is at most ``longest``.

    ``unit``: Of the coordinates, where they are not metres.
    """
    inches_per_step = inches_per_unit if metres is None else inches_per_unit / metres
    most = longest / inches_per_step
    power = 10.0 ** math.floor(math.log10(most))
    step = next(f * power for f in (5, 2, 1) if f * power <= most * (1 + 1e-9))
    if metres is None:
        label = f"{step:g}{THIN}{unit}"
    elif step >= 1000:
        label = f"{number(step / 1000)}{THIN}km"
    else:
        label = f"{step:g}{THIN}m"
    return step * inches_per_step, label


def _whole_pixels(inches: float) -> float:
    return max(1, round(inches * style.DPI)) / style.DPI


def aspect_of(extent: Extent, crs: MapCrs) -> float:
    """Width over height on the ground, where a degree of longitude is the shorter one."""
    aspect = abs(extent[1] - extent[0]) / abs(extent[3] - extent[2])
    if crs.is_degrees:
        aspect *= max(math.cos(math.radians((extent[2] + extent[3]) / 2)), 0.05)
    return aspect


def fit(aspect: float, max_w: float, max_h: float, n_pixels: int = 0) -> tuple[float, float]:
    """Inches of the largest box of width/height ``aspect`` inside ``max_w`` x ``max_h``.

    ``n_pixels``: If given, a map of so many pixels across is shrunk until each gets a whole
        number of dots, where that costs little. Labels are drawn without blending: at 1.3 dots
        a pixel every third one would be doubled.
    """
    w = min(max_w, max_h * aspect)
    h = w / aspect
    dots = int(w * style.DPI / n_pixels + 1e-6) if n_pixels else 0
    snapped = dots * n_pixels / style.DPI
    return (snapped, h * snapped / w) if snapped > 0.75 * w else (w, h)


def columns(
    n: int, aspect: float, width: float, height: float, extra_w: float, extra_h: float
) -> tuple[int, float, float]:
    """Columns and map size in inches that show ``n`` maps of that width/height largest."""
    best = (1, 0.0, 0.0)
    for n_cols in range(1, n + 1):
        n_rows = -(-n // n_cols)
        w, h = fit(aspect, width / n_cols - extra_w, height / n_rows - extra_h)
        if w > best[1] * 1.02:
            best = (n_cols, w, h)
    return best


def _turn_labels(
    axis: XAxis | YAxis, low: float, high: float, inches: float, ends: tuple[str, str]
) -> None:
    """Turn a label at a corner inwards, where no title or neighbour stands."""
    room = min(0.3, 0.26 / inches)
    for text, value in zip(axis.get_ticklabels(), axis.get_majorticklocs(), strict=True):
        at = (value - low) / (high - low)
        where = ends[0] if at < room else ends[1] if at > 1 - room else "center"
        if isinstance(axis, XAxis):
            text.set(ha=where)
        else:
            text.set(va=where, rotation=90)


def _ticks(axis: Any, low: float, high: float, inches: float, crs: MapCrs, *, show: bool) -> None:
    factor = 1000.0 / crs.unit_m if crs.kind == "projected" else 1.0
    n_rows = crs.n_rows if isinstance(axis, YAxis) else None

    def turn(value: Any) -> Any:
        """A coordinate as it is shown, and the other way round: rows count from above."""
        return value if n_rows is None else n_rows - value

    start, end = sorted((turn(low / factor), turn(high / factor)))
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
        # The last label, at a corner, stands wholly to one side.
        if step / (end - start) * inches > 1.5 * widest:
            break
    else:
        # Room for one: in the middle, to a tenth of the axis.
        decimals = _decimals((end - start) / 10)
        ticks = [round((start + end) / 2, decimals)]
    places = turn(np.asarray(ticks)) * factor
    axis.set_ticks(np.clip(places, min(low, high), max(low, high)))

    def label(value: float, _: int | None) -> str:
        return number(turn(value / factor), decimals) if show else ""

    axis.set_major_formatter(FuncFormatter(label))


def _decimals(step: float) -> int:
    return min(6, max(0, -math.floor(math.log10(step) + 1e-9)))
