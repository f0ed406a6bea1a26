"""Figures rendered, saved as PNG files, and encoded for the page.

Drawing holds the interpreter's lock, so that threads would not help: where there is a second
core, a second process draws one half of the figures (:func:`_drawn_elsewhere`).
"""

from __future__ import annotations

import base64
import io
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hyperhpc.files import atomic_write
from hyperhpc.report import style
from hyperhpc.report.draw import ReportFigure, draw_indices, draw_rest, measure_indices
from hyperhpc.report.index_maps import IndexMap
from hyperhpc.report.png import encode_png, encode_webp
from hyperhpc.results import RunResults

#: Bytes of pictures in the page before base64, which adds a third: the page stays below 15 MB.
BUDGET = 9_500_000
# A picture smaller than this is embedded without loss. Charts are; photographs are not.
_MAX_LOSSLESS = 1_000_000
# Signals that the second process ignores: it stops when this process closes its pipe.
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGUSR1}
# Seconds in which the second process must finish its current figure once it shall stop.
_GRACE_S = 5.0


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


def draw_pictures(results: RunResults) -> tuple[list[Picture], list[IndexMap]]:
    """Draw all figures into ``figures/``.

    Returns the pictures that the page shows, and the measured indices for its tables. Raises
    OSError: a file cannot be written.
    """
    with _drawn_elsewhere(results) as wait_for_rest:
        index_maps = measure_indices(results)
        pictures = save_figures(results, draw_indices(results, index_maps))
        rest = wait_for_rest()
    if rest is None:
        rest = save_figures(results, draw_rest(results))
    return pictures + rest, index_maps


@contextmanager
def _drawn_elsewhere(results: RunResults) -> Iterator[Callable[[], list[Picture] | None]]:
    """Let a second process draw ``draw_rest``.

    Yields a function that waits for the pictures. It returns None if there is no second core,
    or if anything went wrong there: they are then drawn here, where an error is reported.
    """
    if len(os.sched_getaffinity(0)) < 2 or multiprocessing.current_process().daemon:
        yield lambda: None
        return
    from hyperhpc.workers.processes import hide_main_module

    # Spawned, because this process may have threads, which a fork would not survive.
    context = multiprocessing.get_context("spawn")
    job: Future[list[Picture]] | None = None

    def wait() -> list[Picture] | None:
        with suppress(Exception):
            return job.result() if job else None
        return None

    with ExitStack() as stack:
        with suppress(OSError, ImportError, NotImplementedError):  # no process or semaphore
            stop_reader, stop_writer = context.Pipe(duplex=False)
            stack.enter_context(stop_reader)
            pool = ProcessPoolExecutor(1, context, _stop_with, (stop_reader,))
            stack.enter_context(pool)
            stack.enter_context(stop_writer)  # closed before the pool is
            with _signals_blocked(), hide_main_module():
                job = pool.submit(_draw_rest, replace(results))  # without what it has cached
        yield wait


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Block signals in this thread, so that a process which is started here inherits that."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_is_stopping = threading.Event()


def _stop_with(pipe: Connection) -> None:
    """In the second process: stop when the first one closes the pipe, also by being killed."""

    def watch() -> None:
        with suppress(EOFError, OSError):
            pipe.recv()
        _is_stopping.set()
        time.sleep(_GRACE_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _draw_rest(results: RunResults) -> list[Picture]:
    """In the second process: draw its half, and stop after a figure if it shall."""

    def figures() -> Iterator[ReportFigure]:
        for figure in draw_rest(results):
            if _is_stopping.is_set():
                return
            yield figure

    return save_figures(results, figures())


def save_figures(results: RunResults, figures: Iterable[ReportFigure]) -> list[Picture]:
    """Render and save each figure; return those that the page shows."""
    folder = results.folder.figures
    folder.mkdir(exist_ok=True)
    jobs: list[Future[Picture]] = []
    # Compressing releases the interpreter's lock: meanwhile the next figure is drawn.
    with style.use_style(), ThreadPoolExecutor(max_workers=2) as pool:
        for figure in figures:
            jobs.append(pool.submit(_save, _render(figure.figure), folder, figure))
    pictures = [job.result() for job in jobs]
    return [picture for picture in pictures if picture.section]


def _render(figure: Figure) -> np.ndarray:
    """uint8 (y, x, 4). The paper is white and opaque, so that alpha means nothing."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    # Figure and canvas refer to each other: without this, large arrays would stay in memory
    # until the garbage collector runs.
    del canvas.renderer
    figure.clear()
    return pixels


def _save(pixels: np.ndarray, folder: Path, figure: ReportFigure) -> Picture:
    """Write the PNG file; encode what the page shows."""
    data, kind = encode_png(pixels, style.DPI, figure.alt), "png"
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
