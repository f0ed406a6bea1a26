"""What clusters are like: indices of their mean spectra, and how far apart they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from hyperhpc.analysis.formula import parse_formula
from hyperhpc.errors import ConfigError
from hyperhpc.report.formats import NOTHING, number, significant
from hyperhpc.report.tables import Cell, Table
from hyperhpc.results import JsonDict, Outputs

#: A matrix of more clusters is not read by anybody.
_MOST_CLUSTERS = 20


def insight_tables(outputs: Outputs, model: str) -> list[tuple[str, Table]]:
    """Titles and tables of one model; those that what is on disk allows."""
    entry = (outputs.clusters.get("models") or {}).get(model)
    if not entry:
        return []
    named = (
        ("Indices of the mean spectra", _indices(outputs, entry, model)),
        ("Separability", _separability(outputs.model, entry, model)),
    )
    return [(title, table) for title, table in named if table is not None]


def _indices(outputs: Outputs, entry: JsonDict, model: str) -> Table | None:
    """Each index computed of each cluster's mean spectrum."""
    nm = np.asarray(outputs.model.get("wavelength_nm") or [], dtype=np.float64)
    spectra = np.array(entry["mean"], dtype=np.float64)  # None is nan: an empty cluster
    if not outputs.computed or spectra.shape[1:] != nm.shape:
        return None
    columns = [_index_of(index, nm, spectra) for index in outputs.computed]
    rows = [
        [
            Cell(f"C{k}", k, mark="strong"),
            *(_value(column[k] if column is not None else None) for column in columns),
        ]
        for k in range(len(spectra))
    ]
    head = [("Cluster", False)]
    head += [(str(index.get("title") or index["name"]), True) for index in outputs.computed]
    caption = (
        "Computed of the mean reflectance of each cluster in the fitted sample, which is not "
        f"the mean of the index over its pixels. {NOTHING}: a band of the index was dropped."
    )
    return Table(f"cluster-indices-{model}", caption, head, rows)


def _index_of(index: JsonDict, nm: np.ndarray, spectra: np.ndarray) -> np.ndarray | None:
    """One index of all spectra (cluster, band); None if one of its bands is not among them."""
    reflectance = {}
    for band in index.get("bands") or []:
        place = np.flatnonzero(np.abs(nm - float(band["centre_nm"])) < 1e-3)
        if not place.size:
            return None
        reflectance[float(band["wanted_nm"])] = spectra[:, place[0]]
    try:
        with np.errstate(all="ignore"):
            return np.asarray(parse_formula(str(index["formula"])).evaluate(reflectance))
    except (ConfigError, KeyError):
        return None


def _value(value: Any) -> Cell:
    if value is None or not np.isfinite(value):
        return Cell(NOTHING, None, is_number=True)
    return Cell(significant(float(value)), float(value), is_number=True)


def _separability(model_json: JsonDict, entry: JsonDict, model: str) -> Table | None:
    """Distance of each pair of centres over the sum of the widths of both clusters.

    The inverse of the similarity of two clusters by Davies and Bouldin (1979),
    doi:10.1109/TPAMI.1979.4766909. Distance: root mean square per band between the centres;
    width: root mean square of the standard deviations; both in standard deviations of the
    fitted sample.
    """
    scale = np.asarray(model_json.get("scale") or [], dtype=np.float64)
    mean, sd = (np.array(entry[name], dtype=np.float64) for name in ("mean", "sd"))
    if len(mean) < 2 or len(mean) > _MOST_CLUSTERS or mean.shape[1:] != scale.shape:
        return None
    unit = np.where(scale > 0, scale, 1)
    width = np.sqrt(np.mean((sd / unit) ** 2, axis=1))
    gaps = (mean[:, np.newaxis] - mean[np.newaxis]) / unit
    distance = np.sqrt(np.mean(gaps**2, axis=2))
    with np.errstate(all="ignore"):
        ratio = distance / (width[:, np.newaxis] + width[np.newaxis])
    rows = [
        [
            Cell(f"C{k}", k, mark="strong"),
            *(
                Cell(NOTHING, None, is_number=True)
                if j == k or not np.isfinite(ratio[k, j])
                else Cell(number(ratio[k, j], 2), float(ratio[k, j]), is_number=True,
                          mark="warn" if ratio[k, j] < 1 else "")
                for j in range(len(mean))
            ),
        ]
        for k in range(len(mean))
    ]  # fmt: skip
    head = [("Cluster", False), *((f"C{j}", True) for j in range(len(mean)))]
    caption = (
        "Distance between the mean spectra of two clusters over the sum of their widths, both "
        "in standard deviations of the sample: below 1 (marked !) the two overlap. It is the "
        "inverse of the similarity of Davies and Bouldin (1979)."
    )
    return Table(f"separability-{model}", caption, head, rows)
