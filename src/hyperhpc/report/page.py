"""Draw, save and write the page. Each file is written aside and then renamed."""

from __future__ import annotations

import base64
import io
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from . import style, tables
from .draw import Drawing, Sketch, draw
from .formats import NOTHING, THIN, TIMES, listing, number, score, slug, windows
from .methods import methods
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
    def css_width(self) -> int:
        """Width on the page: pictures have two pixels for each of a plain screen's."""
        return self.width // 2


def write(outputs: Outputs) -> Path:
    """Write ``figures/*.png`` and ``report.html`` of an opened run; gives the page's path."""
    folder = outputs.path / "figures"
    folder.mkdir(exist_ok=True)
    sketch = Sketch()
    waiting: list[tuple[Drawing, tuple[int, int], Future[tuple[str, bytes]]]] = []
    # Compressing lets go of the interpreter's lock, so that the next figure is drawn meanwhile.
    with style.use_style(), ThreadPoolExecutor(max_workers=2) as pool:
        for drawing in draw(outputs, sketch):
            image = _render(drawing.figure)
            path = folder / f"{drawing.name}.png"
            job = pool.submit(_save, image, path, bool(drawing.section), drawing.alt)
            waiting.append((drawing, image.size, job))
            drawing.figure = Figure()  # let the drawn one go
    pictures = [
        Picture(drawing, job.result()[1], job.result()[0], *size)
        for drawing, size, job in waiting
        if drawing.section
    ]
    page = outputs.path / "report.html"
    _write_aside(page, render(outputs, _within_budget(pictures), sketch).encode())
    return page


def render(outputs: Outputs, pictures: list[Picture], sketch: Sketch) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        slug=slug, number=number, windows=windows, listing=listing, score=score
    )
    sections: dict[str, list[tuple[int, Picture]]] = {}
    order = [
        "quicklook",
        "spectra",
        "indices",
        *(f"model:{m}" for m in outputs.models),
        "agreement",
    ]
    pictures = sorted(pictures, key=lambda p: order.index(p.drawing.section))
    for n, picture in enumerate(pictures, 1):
        sections.setdefault(picture.drawing.section, []).append((n, picture))
    paragraphs, references = methods(outputs)
    return environment.get_template("template.html.j2").render(
        outputs=outputs,
        run=outputs.run,
        scene=outputs.scene,
        facts=_facts(outputs),
        figures=sections,
        cards=tables.cards(outputs),
        points=tables.point_table(outputs),
        indices=tables.index_table(outputs, sketch),
        models=[(m, tables.cluster_table(outputs, m)) for m in outputs.models],
        fits=tables.model_table(outputs),
        agreement=[
            (p, tables.agreement_table(p)) for p in outputs.clusters.get("agreement") or []
        ],
        stages=tables.stage_table(outputs),
        memory=tables.memory_table(outputs),
        options=tables.pairs(outputs.run.get("options") or {}),
        machine=tables.pairs(outputs.run.get("machine") or {}),
        methods=paragraphs,
        references=references,
        thin=THIN,
        created=_when(outputs.run.get("created")),
    )


def _facts(outputs: Outputs) -> list[tuple[str, str]]:
    """The scene in a definition list."""
    scene, area = outputs.scene, outputs.area
    facts: list[tuple[str, str]] = []

    def add(name: str, value: Any) -> None:
        if value not in (None, "", []):
            facts.append((name, str(value)))

    add("File", scene.get("path"))
    add("Format", scene.get("format"))
    shape = scene.get("shape")
    if shape:
        rows, cols, bands = (number(n) for n in shape)
        kind = f", {scene['dtype']}" if scene.get("dtype") else ""
        add("Size", f"{rows} rows {TIMES} {cols} columns {TIMES} {bands} bands{kind}")
    if area.get("shape") and shape and list(area["shape"]) != list(shape[:2]):
        rows, cols = (number(n) for n in area["shape"])
        start = f"from row {number(area.get('row0'))}, column {number(area.get('col0'))}"
        add("Analysed area", f"{rows} rows {TIMES} {cols} columns, {start}")
    bounds = area.get("bounds") or scene.get("bounds")
    if bounds:
        digits = 5 if outputs.crs.is_degrees else 1
        west, south, east, north = (number(b, digits) for b in bounds)
        add("Bounds", f"x {west} to {east}; y {south} to {north}")
    add("Coordinates", outputs.crs.label)
    if area.get("pixel_area_m2") is not None:
        add("Pixel area", f"{float(area['pixel_area_m2']):.6g}{THIN}m²")
    scale = scene.get("scale_factor")
    if scale:
        add("Scale", "stored as reflectance" if scale == 1 else f"stored numbers ÷ {scale:g}")
    nodata = scene.get("nodata") or []
    add(
        "No data", ", ".join(f"{v:g}".replace("-", "\u2212") for v in nodata) or "none declared"
    )
    wavelength = scene.get("wavelength_nm")
    if wavelength:
        add("Wavelengths", f"{wavelength[0]:.1f}\u2013{wavelength[1]:.1f}{THIN}nm")
    bad = scene.get("bad_band_windows_nm")
    if bad is not None:
        add("Bad-band windows in the file", windows(bad))
    return facts or [("File", NOTHING)]


def _when(iso: Any) -> str:
    """An ISO time to the minute, with its zone where that is UTC."""
    text = str(iso or "")
    zone = " UTC" if text.endswith(("Z", "+00:00")) else ""
    return text[:16].replace("T", " ") + zone


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
    image.save(buffer, "PNG", compress_level=5, dpi=(style.DPI, style.DPI), pnginfo=info)
    data = buffer.getvalue()
    _write_aside(path, data)
    if not is_embedded:
        return "png", b""
    return ("png", data) if len(data) < _SMALL else _lossy(image)


def _lossy(image: Image.Image) -> tuple[str, bytes]:
    """Noise does not compress without loss; the PNG beside the page keeps every pixel."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=90, method=2)
    return "webp", buffer.getvalue()


def _within_budget(pictures: list[Picture]) -> list[Picture]:
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


def _write_aside(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
