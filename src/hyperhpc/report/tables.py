"""Tables of the report: cells as text, with the plain number next to it to sort by."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np
from matplotlib.colors import to_hex

from hyperhpc.analysis.evaluation import evaluate_formula
from hyperhpc.analysis.formula import Wanted, parse_formula
from hyperhpc.errors import ConfigError
from hyperhpc.report import formats, style
from hyperhpc.report.formats import MINUS, NOTHING, THIN, TIMES, number, percent, significant
from hyperhpc.report.plots.index_maps import IndexMap
from hyperhpc.results import JsonDict, RunResults, cluster_title


@dataclass(frozen=True)
class Cell:
    """One table cell.

    ``text``: What is read; ``value``: What is sorted by: a number, or None for text.
    ``href``, ``swatch``, ``parts``, ``mark``: Target of a link, a colour as ``#rrggbb``, pieces
        of a formula, an emphasis (``warn`` or ``strong``).
    """

    text: str
    value: float | None = None
    href: str | None = None
    swatch: str | None = None
    parts: Sequence[tuple[str, bool]] = ()
    mark: str = ""
    is_number: bool = False
    note: str = ""


@dataclass
class Table:
    """A table with a caption.

    ``foot``: A row that stays at the bottom when rows are sorted.
    ``n_text``: So many columns from the left hold text, the others numbers.
    """

    name: str
    caption: str
    head: list[str]
    rows: list[list[Cell]]
    foot: Sequence[Cell] = ()
    n_text: int = 1


def _caption(table: str, **values: str) -> str:
    return formats.captions()["tables"][table].format(**values)


def _text(text: Any, **kwargs: Any) -> Cell:
    return Cell(str(text), **kwargs)


def _num(value: float | None, form: Callable[..., str] = number, *args: Any, **kwargs: Any) -> Cell:
    known = value if value is not None and math.isfinite(value) else None
    return Cell(form(known, *args), known, is_number=True, **kwargs)


def _name(k: int, **kwargs: Any) -> Cell:
    """The first cell of a cluster's row."""
    return Cell(cluster_title(k), k, mark="strong", **kwargs)


def cluster_table(results: RunResults, model: str) -> Table | None:
    """Areas of one model's clusters over the whole area, and their nearest other centres."""
    entry = results.cluster_entry(model)
    if not entry:
        return None
    pixels = [int(p or 0) for p in entry["pixels"]]
    total, total_ha = sum(pixels), results.hectares(sum(pixels))
    decimals = formats.hectare_decimals(total_ha) if total_ha is not None else 0
    nearest = _nearest_centres(results.model, model)
    colours, names = style.model_colours(results, model), results.class_names(model)
    rows = [
        [
            _name(k, swatch=to_hex(colours[k]), note="" if names[k] == f"C{k}" else names[k]),
            _num(n),
            _num(results.hectares(n), number, decimals),
            _num(n / total if total else None, percent, 2),
            _num(entry["nir"][k], number, 4),
            _num(entry["counts"][k]),
            nearest.get(k, _num(None)),
        ]
        for k, n in enumerate(pixels)
    ]
    foot = [
        _text("All"), _num(total), _num(total_ha, number, decimals),
        _num(1.0 if total else None, percent, 2), _text(""),
        _num(sum(int(c or 0) for c in entry["counts"])), _text(""),
    ]  # fmt: skip
    head = ["Cluster", "Pixels", "Area (ha)", "Share", "Mean NIR", "Fitted pixels"]
    caption = _caption("areas")
    if results.conditions:
        caption += " Pixels that are not clustered are in no row and no share."
    return Table(f"areas-{model}", caption, [*head, "Nearest centre"], rows, foot)


def class_table(results: RunResults, model: str) -> Table | None:
    """Areas of the classes that the user has made of one model's clusters; None without names."""
    entry = results.cluster_entry(model)
    if not entry or model not in results.named_models:
        return None
    total = sum(p or 0 for p in entry["pixels"])
    total_ha = results.hectares(total)
    decimals = formats.hectare_decimals(total_ha) if total_ha is not None else 0
    colours, rows = style.model_colours(results, model), []
    for one in results.classes(model):
        n = one.sum_of(entry["pixels"])
        rows.append([
            _text(one.name, mark="strong", swatch=to_hex(colours[one.number])),
            _text(", ".join(map(cluster_title, one.clusters)), value=one.number),
            _num(n),
            _num(results.hectares(n), number, decimals),
            _num(n / total if total else None, percent, 2),
        ])  # fmt: skip
    foot = [
        _text("All"), _text(""), _num(total), _num(total_ha, number, decimals),
        _num(1.0 if total else None, percent, 2),
    ]  # fmt: skip
    head = ["Class", "Clusters", "Pixels", "Area (ha)", "Share"]
    return Table(f"classes-{model}", _caption("classes"), head, rows, foot, n_text=2)


def _nearest_centres(model_json: JsonDict, model: str) -> dict[int, Cell]:
    """The closest other centre of each cluster, with its distance."""
    entry = (model_json.get("models") or {}).get(model)
    if not entry:
        return {}
    centres = np.asarray(entry["centers"], dtype=np.float64)
    scale = np.asarray(model_json.get("scale") or np.ones(centres.shape[1]), dtype=np.float64)
    gaps = _distances(centres, scale)
    np.fill_diagonal(gaps, np.inf)
    nearest = [(k, int(j), float(gaps[k, j])) for k, j in enumerate(gaps.argmin(axis=1))]
    return {
        k: Cell(f"{number(gap, 2)} to C{j}", gap, is_number=True)
        for k, j, gap in nearest
        if np.isfinite(gap)
    }


def _distances(spectra: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Root mean square per band between each pair of spectra, in units of ``scale``."""
    unit = np.where(scale > 0, scale, 1)
    return np.array([np.sqrt(np.mean(((spectra - one) / unit) ** 2, axis=1)) for one in spectra])


def index_table(results: RunResults) -> Table | None:
    """What each index is, and which bands it used."""
    rows = []
    for entry in results.computed:
        bands = [_used(band, results.interpolated_nm) for band in entry.get("bands") or []]
        limits = entry.get("range")
        expected = f"{limits[0]:g} to {limits[1]:g}".replace("-", MINUS) if limits else NOTHING
        address, link = doi_link(entry.get("doi")) or (None, None)
        about = [str(entry.get("long_name") or "")]
        if wavelengths := entry.get("wavelengths"):
            about.append(f"Wavelengths: {wavelengths}")
        rows.append([
            _text(entry.get("title") or entry["name"], mark="strong"),
            _text(f"doi:{address}" if address else entry.get("citation") or "", href=link,
                  parts=formats.formula_parts(entry.get("formula") or NOTHING),
                  note=". ".join(part for part in about if part)),
            _text("\n".join(bands)),
            _text(expected, value=limits[0] if limits else None,
                  note=str(entry.get("unit") or "")),
        ])  # fmt: skip
    if not rows:
        return None
    caption = _caption("indices")
    if any("*" in row[2].text for row in rows):
        caption += " * This band lies in a window dropped for clustering."
    if any("†" in row[2].text for row in rows):
        caption += " † This band was interpolated from its neighbours."
    head = ["Index", "Formula and source", "Bands (nm)", "Expected"]
    return Table("indices", caption, head, rows, n_text=4)


def index_values(results: RunResults, maps: list[IndexMap]) -> Table | None:
    """How the values of each index are spread, and why some are missing."""
    measured = {str(index.entry["name"]): index for index in maps}
    undefined = (results.run.get("pixels") or {}).get("undefined") or {}
    rows = [
        _values_row(entry, measured.get(str(entry["name"])), undefined.get(entry["name"]) or {})
        for entry in results.computed
    ]
    if not rows:
        return None
    level = results.pyramid.level if results.pyramid else 1
    where = "all pixels" if level == 1 else f"the overview at 1/{level} of the resolution"
    caption = _caption("index-values", where=where)
    if any(row[3].mark for row in rows):
        caption += " ! The median lies outside the expected range of this index."
    head = ["Index", "2 %", "25 %", "Median", "75 %", "98 %", "Mean", "Missing"]
    return Table("index-values", caption, head, rows)


def _values_row(entry: JsonDict, index: IndexMap | None, undefined: dict[str, int]) -> list[Cell]:
    limits, median = entry.get("range"), index.median if index else None
    is_odd = limits is not None and median is not None and not limits[0] <= median <= limits[1]
    causes = [
        f"{number(n)}: {words}"
        for cause, words in formats.captions()["causes"].items()
        if (n := undefined.get(cause))
    ]
    return [
        _text(entry.get("title") or entry["name"], mark="strong"),
        _num(index.p2 if index else None, significant),
        _num(index.q1 if index else None, significant),
        _num(median, significant, mark="warn" if is_odd else ""),
        _num(index.q3 if index else None, significant),
        _num(index.p98 if index else None, significant),
        _num(index.mean if index else None, significant),
        _num(index.share_missing if index else None, percent, note="; ".join(causes)),
    ]


def index_notes(results: RunResults) -> list[tuple[str, str]]:
    """Title of an index, and what the run has found out about it."""
    return [
        (str(entry.get("title") or entry["name"]), str(entry["note"]))
        for entry in results.computed
        if entry.get("note")
    ]


def _used(band: JsonDict, interpolated_nm: Sequence[Sequence[float]] = ()) -> str:
    """``648.2 to 647.0 (distance)``: a wavelength, the centre taken for it, how far it is.

    A band of a window is shown with the window.
    """
    wanted, centre = float(band["wanted_nm"]), float(band["centre_nm"])
    mark = "*" if band.get("dropped") else ""
    mark += "†" if any(low <= centre <= high for low, high in interpolated_nm) else ""
    if window := band.get("window_nm"):
        return f"{window[0]:g}\u2013{window[1]:g} \u2192 {centre:.1f}{mark}"
    gap = number(centre - wanted, 1)
    sign = "" if gap.startswith(MINUS) or gap == "0.0" else "+"
    return f"{wanted:.1f} \u2192 {centre:.1f} ({sign}{gap}){mark}"


def nearest_bands(results: RunResults) -> list[str]:
    """Every wavelength of an index with the centre that was taken for it, ascending."""
    bands = [band for entry in results.computed for band in entry.get("bands") or []]
    bands.sort(key=lambda band: float(band["wanted_nm"]))
    return list(dict.fromkeys(_used(band).removesuffix("*") for band in bands))


def doi_link(doi: Any) -> tuple[str, str] | None:
    """(text, address) of a DOI given bare, as ``doi:...`` or as an address; else None."""
    text = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)\s*", "", str(doi or "").strip())
    if not text.startswith("10."):
        return None
    return text, f"https://doi.org/{quote(text, safe='/:().;-_')}"


def agreement_table(pair: JsonDict) -> Table:
    """The confusion table of two models in pixels."""
    first, second = (str(m) for m in pair["models"])
    table = [[int(v or 0) for v in row] for row in pair["confusion"]]
    rows = [[_name(i), *map(_num, row), _num(sum(row))] for i, row in enumerate(table)]
    sums = [sum(column) for column in zip(*table, strict=True)]
    foot = [_text("All"), *map(_num, sums), _num(sum(sums))]
    head = [f"{first} \\ {second}", *(f"C{j}" for j in range(len(sums))), "All"]
    caption = _caption("confusion", first=first, second=second)
    return Table(f"confusion-{first}-{second}", caption, head, rows, foot)


def stage_table(results: RunResults) -> Table | None:
    """Seconds, bytes and rates of each stage."""
    stages = results.run.get("stages") or []
    if not stages:
        return None
    rows = []
    for stage in stages:
        seconds, read, tiles = (stage.get(key) for key in ("seconds", "bytes_read", "tiles"))
        written = stage.get("bytes_written")
        rows.append([
            _text(stage.get("name") or NOTHING, mark="strong"),
            _num(seconds, formats.duration),
            _num(read, _size_if_any),
            _num(read / seconds if read and seconds else None, _rate),
            _num(written, _size_if_any),
            _num(tiles, lambda n: number(n or None)),
            _num(stage.get("tiles_resumed") if tiles else None),
        ])  # fmt: skip
    seconds, read, written = (
        sum(s.get(key) or 0 for s in stages) for key in ("seconds", "bytes_read", "bytes_written")
    )
    foot = [_text("All"), _num(seconds, formats.duration), _num(read, formats.size), _text(""),
            _num(written, formats.size), _text(""), _text("")]  # fmt: skip
    head = ["Stage", "Time", "Read", "Read rate", "Written", "Tiles", "of these resumed"]
    return Table("stages", "Time, bytes and tiles of each stage.", head, rows, foot)


def _size_if_any(n_bytes: float | None) -> str:
    return formats.size(n_bytes or None)


def _rate(bytes_per_second: float | None) -> str:
    return f"{formats.size(bytes_per_second)}/s" if bytes_per_second else NOTHING


def memory_table(results: RunResults) -> Table | None:
    """Peak memory of each process; only the largest of many workers."""
    peaks = {k: v for k, v in (results.run.get("peak_memory_mib") or {}).items() if v is not None}
    if not peaks:
        return None
    order = sorted(peaks, key=lambda k: -float(peaks[k]))
    caption = "Peak resident memory of each process."
    if len(order) > 12:
        caption = f"Peak resident memory of the 12 largest of {number(len(order))} processes."
    rows = [
        [_text(k), _num(peaks[k], lambda mib: formats.size(float(mib) * 2**20))] for k in order[:12]
    ]
    return Table("memory", caption, ["Process", "Peak"], rows)


def point_table(results: RunResults) -> Table | None:
    """Where the points are."""
    if not results.spectra:
        return None
    is_degrees = results.crs.is_degrees
    coordinate = partial(formats.coordinate, is_degrees=is_degrees)
    rows = []
    for i, point in enumerate(results.spectra):
        values = point["reflectance"]
        n_valid = sum(v is not None for v in values)
        rows.append([
            _text(f"P{i + 1}", value=i, mark="strong"),
            _num(point["x"], coordinate), _num(point["y"], coordinate),
            _num(point.get("row")), _num(point.get("col")),
            Cell(f"{number(n_valid)} of {number(len(values))}", n_valid, is_number=True),
        ])  # fmt: skip
    names = ("Longitude", "Latitude") if is_degrees else ("x", "y")
    head = ["Point", *names, "Row", "Column", "Bands with data"]
    return Table("points", _caption("points"), head, rows)


def model_table(results: RunResults) -> Table | None:
    """How each fit ended."""
    models = results.model.get("models") or {}
    if not models:
        return None
    n_fit = results.model.get("n_pixels_fit")
    rows = []
    for name, entry in models.items():
        inertia = entry.get("inertia")
        per = inertia / n_fit if inertia is not None and n_fit else None
        rows.append([
            _text(name, mark="strong"), _num(len(entry["centers"])), _num(n_fit),
            _num(inertia, significant, 6), _num(per, significant, 4),
            _num(entry.get("n_iter")),
        ])  # fmt: skip
    head = ["Model", "Clusters", "Fitted pixels", "Inertia", "per pixel", "Iterations"]
    return Table("models", _caption("models"), head, rows)


#: What the last word of a name in run.json may be.
_UNITS = {"gib": "GiB", "nm": "nm"}


def pairs(items: dict[str, Any]) -> list[tuple[str, str]]:
    """Settings as (name, value) in words for a definition list."""
    found = []
    for key, value in items.items():
        if value is None:
            text = "not set"
        elif isinstance(value, bool):
            text = "yes" if value else "no"
        elif isinstance(value, list):
            text = "; ".join(_item(v, "window" in key) for v in value) or "none"
        elif isinstance(value, dict):
            text = ", ".join(f"{k} = {v}" for k, v in value.items()) or "none"
        else:
            text = str(value)
        name, _, unit = key.rpartition("_")
        if unit in _UNITS:
            key = f"{name} ({_UNITS[unit]})"
        found.append((key.replace("_", " "), text))
    return found


def _item(value: Any, is_window: bool) -> str:
    if not isinstance(value, list):
        return str(value)
    ends = [
        "\u221e" if v is None else f"{v:.10g}" if isinstance(v, float) else str(v) for v in value
    ]
    return ("\u2013" if is_window else ", ").join(ends)


def cards(results: RunResults) -> list[tuple[str, str, str]]:
    """Key numbers at the top: (what, value, small print)."""
    found = []
    pixels = results.run.get("pixels") or {}
    total, valid = results.n_pixels, pixels.get("valid")
    if total:
        hectares = results.hectares(total)
        shape = results.area.get("shape") or [0, 0]
        grid = f"{number(shape[0])} {TIMES} {number(shape[1])} pixels"
        if hectares is None:
            found.append(("Area", number(total), f"pixels ({grid})"))
        else:
            found.append(("Area", formats.area(hectares), grid))
    if valid is not None and total:
        found.append(("Valid pixels", percent(valid / total), f"{number(valid)} pixels"))
    if results.n_bands and results.n_good:
        ranges = (results.run.get("bands") or {}).get("good_nm")
        small = f"of {number(results.n_bands)}"
        if ranges:
            small += f"; {ranges[0][0]:.0f}\u2013{ranges[-1][1]:.0f}{THIN}nm"
        found.append(("Bands used", number(results.n_good), small))
    if n_indices := len(results.computed):
        skipped = len((results.run.get("indices") or {}).get("skipped") or [])
        small = f"{skipped} skipped" if skipped else "all computed"
        found.append(("Indices", number(n_indices), small))
    if results.models:
        n = [results.n_clusters(m) for m in results.models]
        same = number(n[0]) if len(set(n)) == 1 else ", ".join(map(number, n))
        found.append(("Clusters", same, f"by {', '.join(results.models)}"))
    for pair in (results.clusters.get("agreement") or [])[:1]:
        ari = formats.score(pair.get("adjusted_rand_index"))
        found.append(("Agreement", ari, "adjusted Rand index"))
    stages = results.run.get("stages") or []
    if stages:
        seconds = sum(s.get("seconds") or 0 for s in stages)
        small = formats.plural(len(stages), "stage")
        if total and seconds:
            small = f"{formats.short_count(total / seconds)} pixel/s overall"
        found.append(("Time", formats.duration(seconds), small))
    return found


# With more clusters than this, the matrix of their distances is left out: it is unreadable.
_MAX_MATRIX_CLUSTERS = 20


def cluster_tables(results: RunResults, model: str) -> list[tuple[str, Table]]:
    """Titles and tables that describe the clusters of one model, as far as files allow."""
    entry = results.cluster_entry(model)
    if not entry:
        return []
    named = (
        ("Indices of the mean spectra", _indices(results, entry, model)),
        ("Separability", _separability(results.model, entry, model)),
    )
    return [(title, table) for title, table in named if table is not None]


def _indices(results: RunResults, entry: JsonDict, model: str) -> Table | None:
    """Each index computed of each cluster's mean spectrum."""
    columns = mean_spectrum_indices(results, model)
    if not columns:
        return None
    rows = [
        [_name(k), *(_num(float(column[k]), significant) for column in columns.values())]
        for k in range(len(entry["mean"]))
    ]
    head = ["Cluster", *(str(index.get("title") or index["name"]) for index in results.computed)]
    caption = _caption("cluster-indices", nothing=NOTHING)
    return Table(f"cluster-indices-{model}", caption, head, rows)


def mean_spectrum_indices(results: RunResults, model: str) -> dict[str, np.ndarray] | None:
    """Each index of the run, by name, computed of each cluster's mean spectrum (cluster,).

    NaN where a band of it was dropped, or the cluster is empty; None if spectra are not on disk.
    """
    nm = np.asarray(results.model.get("wavelength_nm") or [], dtype=np.float64)
    spectra = np.array(results.cluster_entry(model).get("mean") or [], dtype=np.float64)
    if not results.computed or spectra.shape[1:] != nm.shape:
        return None
    return {str(index["name"]): _index_of(index, nm, spectra) for index in results.computed}


def _index_of(index: JsonDict, nm: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """One index of all spectra (cluster, band); NaN if one of its bands is not among them."""
    nothing = np.full(len(spectra), np.nan)
    groups: dict[Wanted, list[np.ndarray]] = {}
    for band in index.get("bands") or []:
        place = np.flatnonzero(np.abs(nm - float(band["centre_nm"])) < 1e-3)
        if not place.size:
            return nothing
        window = band.get("window_nm")
        wanted = (float(window[0]), float(window[1])) if window else float(band["wanted_nm"])
        groups.setdefault(wanted, []).append(spectra[:, place[0]])
    reflectance = {wanted: np.mean(columns, axis=0) for wanted, columns in groups.items()}
    try:
        return evaluate_formula(parse_formula(str(index["formula"])), reflectance).values
    except (ConfigError, KeyError):
        return nothing


def _separability(model_json: JsonDict, entry: JsonDict, model: str) -> Table | None:
    """Distance of each pair of centres over the sum of the widths of both clusters.

    The inverse of the similarity of two clusters by Davies and Bouldin (1979),
    doi:10.1109/TPAMI.1979.4766909. Distance: root mean square per band between the centres;
    width: root mean square of the standard deviations; both in standard deviations of the
    fitted sample.
    """
    scale = np.asarray(model_json.get("scale") or [], dtype=np.float64)
    mean, sd = (np.array(entry[name], dtype=np.float64) for name in ("mean", "sd"))
    if len(mean) < 2 or len(mean) > _MAX_MATRIX_CLUSTERS or mean.shape[1:] != scale.shape:
        return None
    width = np.sqrt(np.mean((sd / np.where(scale > 0, scale, 1)) ** 2, axis=1))
    with np.errstate(all="ignore"):
        ratio = _distances(mean, scale) / (width[:, np.newaxis] + width[np.newaxis])
    np.fill_diagonal(ratio, np.nan)
    rows = [
        [_name(k), *(_num(float(r), number, 2, mark="warn" if r < 1 else "") for r in row)]
        for k, row in enumerate(ratio)
    ]
    head = ["Cluster", *(f"C{j}" for j in range(len(mean)))]
    return Table(f"separability-{model}", _caption("separability"), head, rows)
