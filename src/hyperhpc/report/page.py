"""The page of a report, made from its tables and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hyperhpc.analysis.bands import TOLERANCE_NM
from hyperhpc.files import atomic_write
from hyperhpc.report import formats, tables
from hyperhpc.report.formats import THIN, TIMES, number
from hyperhpc.report.masked import condition_table, conditions_words
from hyperhpc.report.methods import methods
from hyperhpc.report.mixtures import fraction_note, fraction_table
from hyperhpc.report.pictures import Picture, draw_pictures, within_budget
from hyperhpc.report.plots.index_maps import IndexMap
from hyperhpc.results import JsonDict, RunResults


def write(results: RunResults, *, has_index_maps: bool = False) -> Path:
    """Write ``figures/*.png`` and ``report.html`` of an opened run; gives the page's path.

    ``has_index_maps``: Draw each index by itself too, which the page does not show.
    """
    pictures, index_maps = draw_pictures(results, has_index_maps=has_index_maps)
    page = results.folder.report
    with atomic_write(page) as part:
        text = render(results, within_budget(pictures), index_maps)
        part.write_text(text, "utf-8", "backslashreplace")
    return page


def render(results: RunResults, pictures: list[Picture], index_maps: list[IndexMap]) -> str:
    """The page as text."""
    sections: dict[str, list[tuple[int, Picture]]] = {}
    models = [f"model:{model}" for model in results.models]
    order = ["quicklook", "spectra", "noise", "indices", "fractions", *models, "agreement"]
    pictures = sorted(pictures, key=lambda p: order.index(p.section))
    for n, picture in enumerate(pictures, 1):
        sections.setdefault(picture.section, []).append((n, picture))
    template = formats.jinja_environment(Path(__file__).parent).get_template("template.html.j2")
    return template.render(
        results=results,
        run=results.run,
        scene=results.scene,
        facts=_facts(results),
        figures=sections,
        cards=tables.cards(results),
        points=tables.point_table(results),
        indices=tables.index_table(results),
        index_values=tables.index_values(results, index_maps),
        index_notes=tables.index_notes(results),
        fractions=fraction_table(results),
        fraction_note=fraction_note(results),
        models=[
            (
                m,
                tables.class_table(results, m),
                tables.cluster_table(results, m),
                tables.cluster_tables(results, m),
            )
            for m in results.models
        ],
        conditions=condition_table(results),
        conditions_words=conditions_words(results) if results.conditions else "",
        fits=tables.model_table(results),
        agreement=[(p, tables.agreement_table(p)) for p in results.clusters.get("agreement") or []],
        nearest=tables.nearest_bands(results),
        tolerance=TOLERANCE_NM,
        stages=tables.stage_table(results),
        memory=tables.memory_table(results),
        options=tables.pairs(results.run.get("options") or {}),
        machine=tables.pairs(results.run.get("machine") or {}),
        methods=methods(results),
        thin=THIN,
        created=_when(results.run.get("created")),
    )


def _facts(results: RunResults) -> list[tuple[str, str]]:
    """The scene in a definition list."""
    scene, area, crs = results.scene, results.area, results.crs
    shape, part, scale = scene.get("shape"), area.get("shape"), scene.get("scale_factor")
    bounds = area.get("bounds") or scene.get("bounds") or []
    west, south, east, north = (number(b, 5 if crs.is_degrees else 1) for b in bounds or [None] * 4)
    pixel_area, wavelength = area.get("pixel_area_m2"), scene.get("wavelength_nm")
    kind = f", {scene['dtype']}" if scene.get("dtype") else ""
    bad = scene.get("bad_band_windows_nm")
    facts = {
        "File": scene.get("path"),
        "Format": scene.get("format"),
        "Size": shape and f"{_grid(shape)} {TIMES} {number(shape[2])} bands{kind}",
        "Analysed area": shape and part and list(part) != list(shape[:2]) and (
            f"{_grid(part)}, from row {number(area.get('row0'))}, column {number(area.get('col0'))}"
        ),
        "Bounds": bounds and f"x {west} to {east}; y {south} to {north}",
        "Coordinates": crs.label,
        "Pixel area": pixel_area is not None and f"{float(pixel_area):.6g}{THIN}m²",
        "Scale": scale and (
            "stored as reflectance" if scale == 1 else f"stored numbers ÷ {scale:g}"
        ),
        "No data": formats.stored_numbers(scene.get("nodata") or []) or "none declared",
        "Wavelengths": wavelength and f"{wavelength[0]:.1f}\u2013{wavelength[1]:.1f}{THIN}nm",
        "Bad-band windows in the file": bad is not None and formats.windows(bad),
    }  # fmt: skip
    facts |= _acquisition(scene.get("acquisition") or {})
    return [(name, str(value)) for name, value in facts.items() if value]


#: Facts on light and view: name, the layers of zenith and azimuth.
_ANGLES = (
    ("Sun", "Solar_Zenith_Angle", "Solar_Azimuth_Angle"),
    ("View", "to-sensor_Zenith_Angle", "to-sensor_Azimuth_Angle"),
)
# A mosaic of a site may have a hundred flight lines.
_MAX_LINES = 6


def _acquisition(known: JsonDict) -> dict[str, str]:
    """Dates, flight lines, sun and view, as far as the scene says."""
    dates, lines = known.get("dates") or [], known.get("flight_lines") or []
    facts = {
        "Acquired": " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
        "Flight lines": formats.plural(len(lines), "line") + ": " + ", ".join(lines[:_MAX_LINES])
        + (" ..." if len(lines) > _MAX_LINES else "") if lines else "",
    }  # fmt: skip
    for name, *layers in _ANGLES:
        parts = [
            f"{what} {_angle_range(*known[layer])}"
            for what, layer in zip(("zenith", "azimuth"), layers, strict=True)
            if layer in known
        ]
        facts[name] = ", ".join(parts)
    return facts


def _angle_range(low: float, high: float) -> str:
    """A range of angles in degrees; of azimuths across north, the first is the larger one."""
    texts = dict.fromkeys(number(value, 1) for value in (low, high))
    return f"{' to '.join(texts)}°{' (across north)' if high < low else ''}"


def _grid(shape: list[int]) -> str:
    return f"{number(shape[0])} rows {TIMES} {number(shape[1])} columns"


def _when(iso: Any) -> str:
    """An ISO time to the minute, with its zone where that is UTC."""
    text = str(iso or "")
    zone = " UTC" if text.endswith(("Z", "+00:00")) else ""
    return text[:16].replace("T", " ") + zone
