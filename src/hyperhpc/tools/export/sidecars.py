"""Further files of a GeoTIFF: names of categories for GDAL, styles for QGIS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from matplotlib.colors import to_hex

from hyperhpc.report import style
from hyperhpc.report.plots.fractions import measure_fraction
from hyperhpc.report.plots.index_maps import measure_index
from hyperhpc.report.style import model_colours
from hyperhpc.results import RunResults, open_results
from hyperhpc.schema import NOT_CLUSTERED, NOT_CLUSTERED_TITLE, UNMIXING
from hyperhpc.tools.export.bands import Band, index_entry
from hyperhpc.tools.export.geotiff import colour_table

#: Number of colours of an index, between which QGIS interpolates.
_N_STOPS = 17


def sidecar_names(dest: str, bands: Sequence[Band]) -> list[str]:
    """Names of the further files, by which GDAL and QGIS find them."""
    stem = Path(dest).stem
    styles = [f"{stem}.qml", *(f"{stem}.{band.name}.qml" for band in bands[1:])]
    return styles + ([f"{dest}.aux.xml"] if bands[0].classes else [])


def write_sidecars(folder: Path, dest: str, results: RunResults, bands: Sequence[Band]) -> None:
    """Write all files of :func:`sidecar_names`.

    QGIS loads ``DEST.qml``, the style of band 1, by itself; the user loads the style of each
    further band. ``DEST.aux.xml`` holds for GDAL what TIFF has no field for.
    """
    environment = make_environment()

    def write(name: str, template: str, **values: Any) -> None:
        text = environment.get_template(template).render(values)
        (folder / name).write_text(text, "utf-8", "backslashreplace")

    names = sidecar_names(dest, bands)
    for number, (name, band) in enumerate(zip(names, bands, strict=False), 1):
        style = _class_style(results, band) if band.classes else _ramp_style(results, band)
        write(name, "style.qml.j2", number=number, **style)
    if bands[0].classes:
        write(names[-1], "categories.aux.xml.j2", bands=[_categories(results, b) for b in bands])


def make_environment() -> jinja2.Environment:
    """Templates of this folder, which are XML."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _categories(results: RunResults, band: Band) -> dict[int, tuple[str, Any, int]]:
    """Name, colour (red, green, blue) and pixels of each class, by number."""
    table = colour_table(results, band.name)
    pixels = band.pixels
    if pixels is None:
        entry = results.cluster_entry(band.name)["pixels"]
        pixels = {one.number: int(one.sum_of(entry)) for one in band.classes}
    found = {c.number: (c.name, table[c.number][:3], pixels[c.number]) for c in band.classes}
    if results.conditions:
        colour = table[NOT_CLUSTERED][:3]
        found[NOT_CLUSTERED] = NOT_CLUSTERED_TITLE, colour, results.n_not_clustered
    return found


def _class_style(results: RunResults, band: Band) -> dict[str, Any]:
    """Value, colour and name of each class."""
    colours = model_colours(results, band.name)
    entries = [(one.number, to_hex(colours[one.number]), one.name) for one in band.classes]
    if results.conditions:
        entries.append((NOT_CLUSTERED, style.NOT_CLUSTERED, NOT_CLUSTERED_TITLE))
    return {"limits": None, "entries": entries}


def _ramp_style(results: RunResults, band: Band) -> dict[str, Any]:
    """Limits and colours of values, as in the report."""
    opened = open_results(results.folder.out)
    if band.variable in UNMIXING:
        measured = measure_fraction(opened, band.name)
    else:
        measured = measure_index(opened, index_entry(results, band.name))
    low, high = (measured and measured.limits) or (0.0, 1.0)
    entries = []
    if measured:
        shares, values = np.linspace(0, 1, _N_STOPS), np.linspace(low, high, _N_STOPS)
        for share, value in zip(shares, values, strict=True):
            entries.append((f"{value:.9g}", to_hex(measured.colours(share)), f"{value:.4g}"))
    return {"limits": (f"{low:.9g}", f"{high:.9g}"), "entries": entries}
