"""Figures rendered, saved as PNG files, and encoded for the page.

One process draws them all: a second one would spend more on its imports than it would save.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hyperhpc.files import atomic_write, check_guard, remove_path
from hyperhpc.report import style
from hyperhpc.report.draw import ReportFigure, draw_figures, measure_indices
from hyperhpc.report.plots.index_maps import IndexMap
from hyperhpc.report.png import encode_png, encode_webp, is_drawn_by_report
from hyperhpc.results import RunResults

#: Bytes of pictures in the page before base64, which adds a third: the page stays below 15 MB.
BUDGET = 9_500_000
# A picture smaller than this is embedded without loss. Charts are; photographs are not.
_MAX_LOSSLESS = 1_000_000


@dataclass(frozen=True)
class Picture:
    """A figure as the page shows it.

    ``name``, ``section``, ``caption``, ``alt``: As in :class:`hyperhpc.report.draw.ReportFigure`.
    ``data``, ``kind``: The encoded picture, and its format (``png`` or ``webp``).
    ``width``, ``height``: Size in pixels as it was drawn.
    """

    name: str
    section: str
    caption: str
    alt: str
    data: bytes
    kind: str
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return f"data:image/{self.kind};base64,{base64.b64encode(self.data).decode('ascii')}"

    @property
    def css_size(self) -> tuple[int, int]:
        """Width and height on the page, as if an inch of paper were 100 of its pixels."""
        return round(self.width * 100 / style.DPI), round(self.height * 100 / style.DPI)


def draw_pictures(
    results: RunResults, *, has_index_maps: bool = False
) -> tuple[list[Picture], list[IndexMap]]:
    """Draw all figures into ``figures/``.

    ``has_index_maps``: Draw each index by itself too, which the page does not show.

    Returns the pictures that the page shows, and the measured indices for its tables. Raises
    OSError: a file cannot be written.
    """
    maps = measure_indices(results)
    return save_figures(results, draw_figures(results, maps, has_index_maps=has_index_maps)), maps


def save_figures(results: RunResults, figures: Iterable[ReportFigure]) -> list[Picture]:
    """Render and save each figure; return those that the page shows.

    Figures that an earlier report has saved, and this one does not draw, are removed: they would
    show another state of the run. Other files in the folder stay.
    """
    folder = results.folder.figures
    folder.mkdir(exist_ok=True)
    jobs: list[Future[Picture]] = []
    # Compressing releases the interpreter's lock: meanwhile the next figure is drawn.
    with style.use_style(), ThreadPoolExecutor(max_workers=2) as pool:
        for figure in figures:
            guarded = copy_context().run  # a frozen run must not replace another's pictures
            jobs.append(pool.submit(guarded, _save, _render(figure.figure), folder, figure))
    pictures = [job.result() for job in jobs]
    drawn = {picture.name for picture in pictures}
    for path in folder.glob("*.png"):
        if path.stem not in drawn and is_drawn_by_report(path):
            check_guard(path)
            remove_path(path)
    return [picture for picture in pictures if picture.section]


def _render(figure: Figure) -> np.ndarray:
    """uint8 (y, x, 4). The paper is white and opaque, so that alpha means nothing."""
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():  # a name in letters that the font lacks is drawn as boxes
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    # Figure and canvas refer to each other: without this, large arrays would stay in memory
    # until the garbage collector runs. (Figure.clear would make all axes again first.)
    del canvas.renderer
    for axes in figure.axes:
        for image in list(axes.images):
            image.remove()
    return pixels


def _save(pixels: np.ndarray, folder: Path, figure: ReportFigure) -> Picture:
    """Write the PNG file; encode what the page shows."""
    data, kind = encode_png(pixels, style.DPI, figure.alt, figure.name), "png"
    with atomic_write(folder / f"{figure.name}.png", flush=False) as part:
        part.write_bytes(data)
    if figure.section and len(data) >= _MAX_LOSSLESS:
        data, kind = encode_webp(Image.fromarray(pixels)), "webp"
    height, width, _ = pixels.shape
    words = figure.name, figure.section, figure.caption, figure.alt
    return Picture(*words, data if figure.section else b"", kind, width, height)


def within_budget(pictures: list[Picture]) -> list[Picture]:
    """Shrink the largest pictures until all of them together have at most ``BUDGET`` bytes."""
    pictures = list(pictures)
    while sum(len(p.data) for p in pictures) > BUDGET:
        at = max(range(len(pictures)), key=lambda i: len(pictures[i].data))
        largest = pictures[at]
        with Image.open(io.BytesIO(largest.data)) as image:
            data = encode_webp(image) if largest.kind == "png" else largest.data
            if len(data) >= len(largest.data):
                width, height = (max(1, side * 3 // 4) for side in image.size)
                data = encode_webp(image.resize((width, height), Image.Resampling.LANCZOS))
        pictures[at] = replace(largest, data=data, kind="webp")
    return pictures
