"""Further files of a GeoTIFF: names of categories for GDAL, styles for QGIS."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from hyperhpc.results import RunResults
from hyperhpc.tools.export.bands import Band, index_entry
from hyperhpc.tools.export.geotiff import colour_table

#: Number of colours of an index, between which QGIS interpolates.
_N_STOPS = 17
#: Codes of GDAL's attribute tables (GDALRATFieldType, GDALRATFieldUsage).
_INTEGER, _TEXT = "0", "2"
_FIELDS = (
    ("Value", _INTEGER, "5"), ("Class", _TEXT, "2"), ("Red", _INTEGER, "6"),
    ("Green", _INTEGER, "7"), ("Blue", _INTEGER, "8"), ("Pixels", _INTEGER, "1"),
)  # fmt: skip


def sidecar_names(dest: str, bands: Sequence[Band]) -> list[str]:
    """Names of the further files, by which GDAL and QGIS find them."""
    stem = Path(dest).stem
    styles = [f"{stem}.qml", *(f"{stem}.{band.name}.qml" for band in bands[1:])]
    return styles + ([f"{dest}.aux.xml"] if bands[0].n_clusters else [])


def write_sidecars(folder: Path, dest: str, results: RunResults, bands: Sequence[Band]) -> None:
    """Write all files of :func:`sidecar_names`.

    QGIS loads ``DEST.qml``, the style of band 1, by itself; the user loads the style of each
    further band. ``DEST.aux.xml`` holds for GDAL what TIFF has no field for.
    """
    names = sidecar_names(dest, bands)
    for number, (name, band) in enumerate(zip(names, bands, strict=False), 1):
        render = _paletted(band, number) if band.n_clusters else _ramp(results, band, number)
        root = ET.Element("qgis", version="3.22", styleCategories="Symbology")
        ET.SubElement(root, "pipe").append(render)
        _write(folder / name, root, "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n")
    if bands[0].n_clusters:
        _write(folder / names[-1], _categories(results, bands))


def _write(path: Path, root: ET.Element, head: str = "") -> None:
    ET.indent(root)
    path.write_text(head + ET.tostring(root, encoding="unicode") + "\n", "utf-8")


def _paletted(band: Band, number: int) -> ET.Element:
    """The renderer of QGIS for classes."""
    render = ET.Element(
        "rasterrenderer", type="paletted", band=str(number), opacity="1", alphaBand="-1"
    )
    palette = ET.SubElement(render, "colorPalette")
    colours = colour_table(band.n_clusters)
    for k, name in enumerate(band.categories):
        ET.SubElement(
            palette, "paletteEntry", value=str(k), color=_hex(colours[k]), alpha="255",
            label=name,
        )  # fmt: skip
    return render


def _ramp(results: RunResults, band: Band, number: int) -> ET.Element:
    """The renderer of QGIS for values, in the colours and limits of the report."""
    import numpy as np

    from hyperhpc.report.index_maps import measure_index
    from hyperhpc.results import open_results

    measured = measure_index(open_results(results.folder.out), index_entry(results, band.name))
    low, high = (measured and measured.limits) or (0.0, 1.0)
    render = ET.Element(
        "rasterrenderer", type="singlebandpseudocolor", band=str(number), opacity="1",
        alphaBand="-1", classificationMin=f"{low:.9g}", classificationMax=f"{high:.9g}",
    )  # fmt: skip
    shader = ET.SubElement(
        ET.SubElement(render, "rastershader"), "colorrampshader", colorRampType="INTERPOLATED",
        classificationMode="1", clip="0", minimumValue=f"{low:.9g}", maximumValue=f"{high:.9g}",
    )  # fmt: skip
    if measured:
        for value, part in zip(
            np.linspace(low, high, _N_STOPS), np.linspace(0, 1, _N_STOPS), strict=True
        ):
            red, green, blue, _ = (round(255 * v) for v in measured.colours(part))
            ET.SubElement(
                shader, "item", value=f"{value:.9g}", label=f"{value:.4g}", alpha="255",
                color=_hex((red, green, blue)),
            )  # fmt: skip
    return render


def _categories(results: RunResults, bands: Sequence[Band]) -> ET.Element:
    """GDAL's auxiliary metadata: names, and a table with colours and pixels, per band."""
    root = ET.Element("PAMDataset")
    for number, band in enumerate(bands, 1):
        colours = colour_table(band.n_clusters)
        node = ET.SubElement(root, "PAMRasterBand", band=str(number))
        ET.SubElement(node, "ColorInterp").text = "Palette"
        table = ET.SubElement(node, "ColorTable")
        for k in range(band.n_clusters):
            entry = {f"c{i}": str(part) for i, part in enumerate(colours[k], 1)}
            ET.SubElement(table, "Entry", entry)
        names = ET.SubElement(node, "CategoryNames")
        for name in band.categories:
            ET.SubElement(names, "Category").text = name
        rat = ET.SubElement(node, "GDALRasterAttributeTable", tableType="thematic")
        for i, (name, kind, usage) in enumerate(_FIELDS):
            field = ET.SubElement(rat, "FieldDefn", index=str(i))
            for key, text in (("Name", name), ("Type", kind), ("Usage", usage)):
                ET.SubElement(field, key).text = text
        pixels = results.cluster_entry(band.name)["pixels"]
        for k, name in enumerate(band.categories):
            row = ET.SubElement(rat, "Row", index=str(k))
            for cell in (k, name, *colours[k][:3], pixels[k]):
                ET.SubElement(row, "F").text = str(cell)
    return root


def _hex(colour: Sequence[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
