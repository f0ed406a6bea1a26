"""What each number of clusters is judged by, as four small charts."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from hyperhpc.report import style
from hyperhpc.report.formats import number
from hyperhpc.report.sheet import MARGIN, PAGE, Sheet

# Key of the table, title, which way is good.
_CHARTS = (
    ("unexplained", "Variance left unexplained", "the elbow counts"),
    ("silhouette", "Silhouette", "high is good"),
    ("davies_bouldin", "Davies-Bouldin index", "low is good"),
    ("stability", "Stability over seeds", "mean adjusted Rand index; high is good"),
)


def choice_figure(found: dict[str, Any]) -> Figure:
    """Four charts over k with the recommended number marked.

    Parameters
    ----------
    found
        As ``hyperhpc choose-k --json`` prints it.
    """
    with style.use_style():
        left, top, gap, h = 0.5, 0.95, 0.62, 1.75
        w = (PAGE - left - gap - MARGIN) / 2
        sheet = Sheet(PAGE, top + 2 * (h + 0.78))
        best = found["recommended"]
        sheet.text(left, 0.1, f"{best} clusters are recommended", fontsize=9, fontweight="bold")
        words = f"{found['reason'][0].upper()}{found['reason'][1:]}"
        sheet.text(left, 0.29, words, fontsize=6.5, color=style.MUTED)
        about = (
            f"{number(found['pixels'])} pixels, {found['bands']} bands, {found['seeds']} seeds;"
            f" silhouette of {number(found['silhouette_pixels'])} pixels"
        )
        sheet.text(left, 0.45, about, fontsize=6.5, color=style.MUTED)
        for i, (key, title, good) in enumerate(_CHARTS):
            row, col = divmod(i, 2)
            x, y = left + col * (w + gap), top + row * (h + 0.78)
            sheet.text(x, y - 0.24, title, fontsize=8.5, fontweight="bold")
            sheet.text(x + w, y - 0.22, good, fontsize=7, color=style.MUTED, ha="right")
            ax = sheet.axes(x, y, w, h)
            points = [(e["k"], e[key]) for e in found["table"] if e[key] is not None]
            ax.axvline(best, color="#D55E00", lw=1.0, zorder=1)
            ax.plot(*zip(*points, strict=True), color="#0072B2", marker="o", ms=3.2, zorder=2)
            ax.grid(visible=True)
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            ax.spines[["top", "right"]].set_visible(False)
            if key == "unexplained":
                ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
            if key == "stability":
                ax.set_ylim(min(0.0, *(v for _, v in points)), 1.03)
            if row:
                ax.set_xlabel("number of clusters k")
        return sheet.figure
