"""Figures as files and as what the page embeds. Each file is written aside, then renamed."""

from __future__ import annotations

import base64
import io
import os
import zlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from . import beside, style
from .draw import Drawing, Sketch, draw_indices, draw_rest
from .outputs import Outputs

#: Bytes of pictures in the page before base64, which adds a third: the page stays below 15 MB.
BUDGET = 9_500_000
# Below this a picture is embedded as it is on disk, without loss.
_SMALL = 350_000


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
    waiting: list[tuple[Drawing, tuple[int, int], Future[tuple[str, bytes]]]] = []
    # Compressing lets go of the interpreter's lock, so that the next figure is drawn meanwhile.
    with style.use_style(), ThreadPoolExecutor(max_workers=2) as pool:
        for drawing in drawings:
            image = _render(drawing.figure)
            path = folder / f"{drawing.name}.png"
            job = pool.submit(_save, image, path, bool(drawing.section), drawing.alt)
            waiting.append((drawing, image.size, job))
            drawing.figure = Figure()  # let the drawn one go
    return [
        Picture(drawing, job.result()[1], job.result()[0], *size)
        for drawing, size, job in waiting
        if drawing.section
    ]


def _render(figure: Figure) -> Image.Image:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # The paper is white and opaque: no alpha, a quarter less to compress.
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert(
        "RGB"
    )


def _save(image: Image.Image, path: Path, is_embedded: bool, alt: str) -> tuple[str, bytes]:
    """Write the PNG; give back what the page embeds: kind and bytes."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_itxt("Description", alt)
    buffer = io.BytesIO()
    # Runs are all there is to find in noise, and found quickest
    options = {"compress_level": 1, "compress_type": zlib.Z_RLE, "pnginfo": info}
    image.save(buffer, "PNG", dpi=(style.DPI, style.DPI), **options)
    data = buffer.getvalue()
    write_aside(path, data)
    if not is_embedded:
        return "png", b""
    return ("png", data) if len(data) < _SMALL else _lossy(image)


def _lossy(image: Image.Image) -> tuple[str, bytes]:
    """Noise does not compress without loss; the PNG beside the page keeps every pixel."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=0)
    return "webp", buffer.getvalue()


def within_budget(pictures: list[Picture]) -> list[Picture]:
    """Shrink the heaviest pictures until all together fit the budget, however many models."""
    pictures = list(pictures)
    while sum(len(p.data) for p in pictures) > BUDGET:
        at = max(range(len(pictures)), key=lambda i: len(pictures[i].data))
        heavy = pictures[at]
        with Image.open(io.BytesIO(heavy.data)) as image:
            small = image.convert("RGB")
        small = small.resize(
            (max(1, small.width * 3 // 4), max(1, small.height * 3 // 4)),
            Image.Resampling.LANCZOS,
        )
        kind, data = _lossy(small)
        pictures[at] = Picture(heavy.drawing, data, kind, heavy.width, heavy.height)
    return pictures


def write_aside(path: Path, data: bytes) -> None:
    """Write a file so that it is whole or not there."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
