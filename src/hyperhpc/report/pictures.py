"""Figures as files and as what the page embeds. Each file is written aside, then renamed."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from isal import isal_zlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from hyperhpc.files import atomic_write
from hyperhpc.report import style
from hyperhpc.report.draw import Drawing, Sketch, draw_indices, draw_rest
from hyperhpc.results import RunResults, open_results

# One half of the pictures, drawn by a second process while this one draws the other.
#
# Drawing holds the interpreter's lock, so threads are no use. The process is asked in JSON on
# its standard input and answers on its standard output; whatever goes wrong there, the
# pictures are drawn here.


class Other:
    """The other process, if there is one."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process

    def pictures(self) -> list[Picture] | None:
        """Wait for its pictures; None if there are none from there."""
        from matplotlib.figure import Figure

        from hyperhpc.report.draw import Drawing

        pass

        if self._process is None:
            return None
        answer = self._process.communicate()[0]
        if self._process.returncode:
            return None
        return [
            Picture(Drawing(**words, figure=Figure()), base64.b64decode(data), kind, *size)
            for words, data, kind, size in json.loads(answer)
        ]


@contextmanager
def started(results: RunResults) -> Iterator[Other]:
    """Let another process draw ``draw_rest`` of an opened run, if a core is free for it."""
    question = {
        "out": str(results.folder.out),
        "overview": str(results.overview_path),
        "run": results.run,
    }
    try:
        process = _start() if len(os.sched_getaffinity(0)) > 1 else None
    except OSError:  # no process to be had
        process = None
    if process is None:
        yield Other(None)
        return
    with process:
        try:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError), process.stdin as file:
                file.write(json.dumps(question).encode())
            process.stdin = None  # communicate would flush it
            yield Other(process)
        finally:
            process.kill()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # this very module
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def main() -> None:
    """In the other process."""
    from hyperhpc.report.draw import draw_rest

    pass

    question = json.load(sys.stdin)
    results = open_results(question["out"], overview=Path(question["overview"]))
    results = replace(results, run=question["run"])
    json.dump([_told(p) for p in save_all(results, draw_rest(results))], sys.stdout)


def _told(picture: Picture) -> tuple[dict[str, str], str, str, tuple[int, int]]:
    """A picture in JSON: words, data, kind, size."""
    d = picture.drawing
    words = {"name": d.name, "section": d.section, "caption": d.caption, "alt": d.alt}
    data = base64.b64encode(picture.data).decode("ascii")
    return words, data, picture.kind, (picture.width, picture.height)


if __name__ == "__main__":
    main()

# PNG files, as fast as they can be packed: docs/decisions/0023.
#
# Format: https://www.w3.org/TR/png-3/

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
#: Each row is kept as its difference from the row above it.
_UP = 2
#: So many at a time.
_ROWS = 64
_INCH = 0.0254


def encode_png(pixels: np.ndarray, dpi: float, description: str) -> bytes:
    """A PNG file in memory.

    ``pixels``: uint8 (y, x, 3 or more): red, green, blue; what follows is left out.
    ``dpi``: Dots per inch, as image viewers and printers read it.
    ``description``: What is to be seen, for those who cannot.
    """
    height, width, _ = pixels.shape
    per_metre = round(dpi / _INCH)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0),  # 8 bits, RGB
        b"pHYs": struct.pack(">IIB", per_metre, per_metre, 1),
        b"iTXt": b"Description" + bytes(5) + description.encode("utf-8"),
        b"IDAT": _pack(pixels),
        b"IEND": b"",
    }
    return _SIGNATURE + b"".join(_chunk(kind, data) for kind, data in chunks.items())


def _pack(pixels: np.ndarray) -> bytes:
    """All rows, filtered and deflated, some of them at a time."""
    height, width, _ = pixels.shape
    deflate = isal_zlib.compressobj(2)
    above = np.zeros(3 * width, dtype=np.uint8)
    packed = []
    for start in range(0, height, _ROWS):
        flat = pixels[start : start + _ROWS, :, :3].reshape(-1, 3 * width)
        rows = np.empty((len(flat), 1 + 3 * width), dtype=np.uint8)
        rows[:, 0] = _UP
        np.subtract(flat[0], above, out=rows[0, 1:])  # modulo 256
        np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
        packed.append(deflate.compress(rows))
        above = flat[-1]
    return b"".join([*packed, deflate.flush()])


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data)
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


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


def draw_pictures(results: RunResults, sketch: Sketch) -> list[Picture]:
    """Draw everything into ``figures/``; gives what the page embeds.

    A second process draws one half, where there is a second core.
    """
    with started(results) as other:
        own = save_all(results, draw_indices(results, sketch))
        rest = other.pictures()
        if rest is None:
            rest = save_all(results, draw_rest(results))
    return own + rest


def save_all(results: RunResults, drawings: Iterable[Drawing]) -> list[Picture]:
    """Render and save each drawing; gives those that have a place in the page."""
    folder = results.folder.figures
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
    with atomic_write(path) as part:
        part.write_bytes(data)
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
