"""How far two models agree: the confusion table as a picture."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hyperhpc.report import style
from hyperhpc.report.formats import THIN, number, score, short_count
from hyperhpc.report.sheet import MARGIN, Sheet
from hyperhpc.results import JsonDict

# Cells below so many inches carry no numbers, or only the share.
_LEGIBLE, _ROOMY = 0.3, 0.4


def agreement_figure(pair: JsonDict) -> Figure:
    """Where the pixels of each cluster of one model are in the other.

    Parameters
    ----------
    pair
        One entry of ``agreement`` in clusters.json: ``models``, ``confusion`` (pixels),
        ``adjusted_rand_index``.
    """
    table = np.asarray(pair["confusion"], dtype=np.float64)
    first, second = pair["models"]
    totals = table.sum(axis=1, keepdims=True)
    share = np.divide(table, totals, out=np.zeros_like(table), where=totals > 0)
    n_rows, n_cols = table.shape
    cell = min(0.6, 6.6 / max(n_rows, n_cols))
    cell = max(cell, 1.6 / max(n_rows, n_cols, 1))
    left, top, right = 0.6, 0.84, 0.75
    w, h = n_cols * cell, n_rows * cell
    sheet = Sheet(max(left + w + right, 3.6), top + h + 0.25)
    ax = sheet.axes(left, top, w, h)
    image = ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    _name_clusters(ax, n_rows, n_cols, first, second, cell)
    if cell >= _LEGIBLE:
        for i, j in zip(*np.nonzero(table), strict=True):
            value = share[i, j]
            if value < 0.0005:
                continue
            colour = "white" if value > 0.55 else style.INK
            text = f"{number(value * 100, 0 if value >= 0.095 else 1)}{THIN}%"
            if 0.995 <= value < 1:  # nearly all is not all
                text = f">{THIN}99{THIN}%"
            is_roomy = cell >= _ROOMY
            ax.text(j, i - 0.1 * is_roomy, text, ha="center", va="center", color=colour,
                    fontsize=7 if is_roomy else 5.5)  # fmt: skip
            if not is_roomy:
                continue
            ax.text(j, i + 0.24, short_count(table[i, j]), ha="center", va="center",
                    fontsize=5.5, color=colour, alpha=0.9)  # fmt: skip
    for spine in ax.spines.values():
        spine.set_linewidth(0.4)
    ax.set_xticks(np.arange(n_cols + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(n_rows + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=0.8 if cell >= 0.2 else 0.2)
    ax.tick_params(which="minor", length=0)
    cax = sheet.axes(left + w + MARGIN, top, 0.1, min(h, 3.0))
    bar = sheet.figure.colorbar(image, cax=cax)
    bar.set_label(f"share of the {first} cluster", fontsize=7)
    bar.outline.set(linewidth=0.4)
    cax.tick_params(labelsize=6.5, length=2)
    sheet.text(left, 0.1, f"{first} against {second}", fontsize=9, fontweight="bold")
    words = f"adjusted Rand index {score(pair.get('adjusted_rand_index'))}"
    sheet.text(left, 0.28, words, fontsize=7, color=style.MUTED)
    return sheet.figure


def _name_clusters(
    ax: Axes, n_rows: int, n_cols: int, first: str, second: str, cell: float
) -> None:
    step = max(1, math.ceil(0.3 / cell - 0.1))
    ax.set_xticks(range(0, n_cols, step), [f"C{k}" for k in range(0, n_cols, step)])
    ax.set_yticks(range(0, n_rows, step), [f"C{k}" for k in range(0, n_rows, step)])
    ax.xaxis.set_ticks_position("top")
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0, pad=2)
    ax.set_xlabel(second, labelpad=3)
    ax.set_ylabel(first, labelpad=2)
