"""Figures as files and as what the page embeds. Each file is written aside, then renamed."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hyperhpc.report import beside, style
from hyperhpc.report.draw import Drawing, Sketch, draw_indices, draw_rest
from hyperhpc.report.png import encode_png
from hyperhpc.results import Outputs

#: Bytes of pictures in the page before base64, which adds a third: the page stays below 15 MB.
BUDGET = 9_500_000
# Below this a picture is embedded as it is on disk, without loss. Lines, letters and few
# colours stay below it; photographs and noise do not.
_SMALL = 1_000_000


@dataclass(frozen=True)
class Picture:
    """A drawn figure as the page shows it."""

    drawing: Drawing
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


def draw_pictures(outputs: Outputs, sketch: Sketch) -> list[Picture]:
    """Draw everything into ``figures/``; gives what the page embeds.

    A second process draws one half, where there is a second core.
    """
    with beside.started(outputs) as other:
        own = save_all(outputs, draw_indices(outputs, sketch))
        rest = other.pictures()
        if rest is None:
            rest = save_all(outputs, draw_rest(outputs))
    return own + rest


def save_all(outputs: Outputs, drawings: Iterable[Drawing]) -> list[Picture]:
    """Render and save each drawing; gives those that have a place in the page."""
    folder = outputs.path / "figures"
    folder.mkdir(exist_ok=True)
    waiting: list[tuple[Drawing, tuple[int, ...], Future[tuple[str, bytes]]]] = []
    # Compressing lets go of the interpreter's lock, so that the next figure is drawn meanwhile.
    with style.use_style(), ThreadPoolExecutor(max_workers=2) as pool:
        for drawing in drawings:
            pixels = _render(drawing.figure)
            path = folder / f"{drawing.name}.png"
            job = pool.submit(_save, pixels, path, bool(drawing.section), drawing.alt)
            waiting.append((drawing, pixels.shape[:2], job))
    return [
        Picture(drawing, job.result()[1], job.result()[0], width, height)
        for drawing, (height, width), job in waiting
        if drawing.section
    ]


def _render(figure: Figure) -> np.ndarray:
    """uint8 (y, x, 4). The paper is white and opaque: its alpha says nothing."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    # Figure and canvas hold each other: what is large in them would wait for the collector
    del canvas.renderer
    figure.clear()
    return pixels


def _save(pixels: np.ndarray, path: Path, is_embedded: bool, alt: str) -> tuple[str, bytes]:
    """Write the PNG; give back what the page embeds: kind and bytes."""
    data = encode_png(pixels, style.DPI, alt)
    write_aside(path, data)
    if not is_embedded:
        return "png", b""
    return ("png", data) if len(data) < _SMALL else _lossy(Image.fromarray(pixels))


def _lossy(image: Image.Image) -> tuple[str, bytes]:
    """Noise does not compress without loss; the PNG beside the page keeps every pixel."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "WEBP", quality=90, method=0)
    return "webp", buffer.getvalue()


def within_budget(pictures: list[Picture]) -> list[Picture]:
    """Shrink the heaviest pictures until all together fit the budget, however many models."""
    pictures = list(pictures)
    while sum(len(p.data) for p in pictures) > BUDGET:
        at = max(range(len(pictures)), key=lambda i: len(pictures[i].data))
        heavy = pictures[at]
        with Image.open(io.BytesIO(heavy.data)) as image:
            if heavy.kind == "png":
                kind, data = _lossy(image)
            if heavy.kind != "png" or len(data) >= len(heavy.data):
                kind, data = _lossy(_three_quarters(image))
        pictures[at] = Picture(heavy.drawing, data, kind, heavy.width, heavy.height)
    return pictures


def _three_quarters(image: Image.Image) -> Image.Image:
    width, height = (max(1, side * 3 // 4) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def write_aside(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
