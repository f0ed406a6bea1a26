"""The page of a report, made from its tables and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperhpc.analysis.bands import TOLERANCE_NM
from hyperhpc.files import atomic_write
from hyperhpc.report import tables
from hyperhpc.report.formats import NOTHING, THIN, TIMES, jinja_environment, number, windows
from hyperhpc.report.index_maps import IndexMap
from hyperhpc.report.methods import methods
from hyperhpc.report.pictures import Picture, draw_pictures, within_budget
from hyperhpc.report.tables import cluster_tables
from hyperhpc.results import RunResults


def write(results: RunResults) -> Path:
    """Write ``figures/*.png`` and ``report.html`` of an opened run; gives the page's path."""
    pictures, index_maps = draw_pictures(results)
    page = results.folder.report
    with atomic_write(page) as part:
        text = render(results, within_budget(pictures), index_maps)
        part.write_text(text, encoding="utf-8")
    return page


def render(results: RunResults, pictures: list[Picture], index_maps: list[IndexMap]) -> str:
    """The page as text."""
    sections: dict[str, list[tuple[int, Picture]]] = {}
    order = [
        "quicklook",
        "spectra",
        "indices",
        *(f"model:{m}" for m in results.models),
        "agreement",
    ]
    pictures = sorted(pictures, key=lambda p: order.index(p.section))
    for n, picture in enumerate(pictures, 1):
        sections.setdefault(picture.section, []).append((n, picture))
    paragraphs, references = methods(results)
    return (
        jinja_environment(Path(__file__).parent)
        .get_template("template.html.j2")
        .render(
            results=results,
            run=results.run,
            scene=results.scene,
            facts=_facts(results),
            figures=sections,
            cards=tables.cards(results),
            points=tables.point_table(results),
            indices=tables.index_table(results, index_maps),
            models=[
                (m, tables.cluster_table(results, m), cluster_tables(results, m))
                for m in results.models
            ],
            fits=tables.model_table(results),
            agreement=[
                (p, tables.agreement_table(p)) for p in results.clusters.get("agreement") or []
            ],
            nearest=tables.nearest_bands(results),
            tolerance=TOLERANCE_NM,
            stages=tables.stage_table(results),
            memory=tables.memory_table(results),
            options=tables.pairs(results.run.get("options") or {}),
            machine=tables.pairs(results.run.get("machine") or {}),
            methods=paragraphs,
            references=references,
            thin=THIN,
            created=_when(results.run.get("created")),
        )
    )


def _facts(results: RunResults) -> list[tuple[str, str]]:
    """The scene in a definition list."""
    scene, area = results.scene, results.area
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
        digits = 5 if results.crs.is_degrees else 1
        west, south, east, north = (number(b, digits) for b in bounds)
        add("Bounds", f"x {west} to {east}; y {south} to {north}")
    add("Coordinates", results.crs.label)
    if area.get("pixel_area_m2") is not None:
        add("Pixel area", f"{float(area['pixel_area_m2']):.6g}{THIN}m²")
    scale = scene.get("scale_factor")
    if scale:
        add("Scale", "stored as reflectance" if scale == 1 else f"stored numbers ÷ {scale:g}")
    nodata = scene.get("nodata") or []
    add("No data", ", ".join(f"{v:g}".replace("-", "\u2212") for v in nodata) or "none declared")
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
