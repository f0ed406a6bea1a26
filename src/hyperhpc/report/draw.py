"""The figures of a report, each with its caption and its text for screen readers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from hyperhpc.analysis.agreement import can_follow
from hyperhpc.report import style
from hyperhpc.report.formats import captions, listing, plural, score, slug, windows
from hyperhpc.report.masked import grey_words
from hyperhpc.report.plots.comparison import agreement_figure
from hyperhpc.report.plots.fractions import fractions_figure
from hyperhpc.report.plots.index_maps import IndexMap, index_figure, indices_figure, measure_index
from hyperhpc.report.plots.maps import (
    choose_close_up,
    close_up_figure,
    cluster_figure,
    nodata_figure,
    quicklook_figure,
)
from hyperhpc.report.plots.noise import noise_figure
from hyperhpc.report.plots.spectra import cluster_spectra_figure, overlaps, spectra_figure
from hyperhpc.results import RunResults


@dataclass
class ReportFigure:
    """A figure and its words.

    ``name``: File name without its ending, unique in a report.
    ``section``: Section of the page that shows it: ``quicklook``, ``spectra``, ``indices``,
        ``fractions``, ``model:NAME`` or ``agreement``; empty if no section does.
    ``figure``: Not rendered yet.
    ``caption``, ``alt``: Text under it, and text for those who cannot see it.
    """

    name: str
    section: str
    figure: Figure
    caption: str
    alt: str


def measure_indices(results: RunResults) -> list[IndexMap]:
    """Measure each index of a run that has an overview, in the order of the run."""
    entries = results.computed
    if not entries and results.pyramid:  # run.json of an unfinished run may not name them yet
        entries = [{"name": n, "title": n.upper()} for n in results.pyramid.indices]
    measured = (measure_index(results, entry) for entry in entries)
    return [index for index in measured if index is not None]


def draw_figures(
    results: RunResults, maps: list[IndexMap], *, has_index_maps: bool
) -> Iterator[ReportFigure]:
    """Draw all figures, one by one, so that only one is in memory.

    ``maps``: What :func:`measure_indices` gives.
    ``has_index_maps``: Draw each index by itself too.
    """
    yield from _draw_indices(results, maps, has_index_maps=has_index_maps)
    yield from _draw_scene(results)
    yield from _draw_fractions(results)
    yield from _draw_models(results)
    yield from _draw_agreement(results)


def _report(name: str, section: str, figure: Figure, kind: str, **values: str) -> ReportFigure:
    """A figure with its words from ``captions.toml``."""
    words = captions()["figures"][kind]
    texts = (words[what].format(**values) for what in ("caption", "alt"))
    return ReportFigure(name, section, figure, *texts)


def _draw_scene(results: RunResults) -> Iterator[ReportFigure]:
    if (figure := quicklook_figure(results)) is not None:
        scene, crs, level = results.scene_name, results.crs.label, _level_words(results)
        words = {"scene": scene, "crs": crs, "level": level}
        yield _report("quicklook", "quicklook", figure, "quicklook", **words)
    if (figure := nodata_figure(results)) is not None:
        words = {"crs": results.crs.label, "level": _level_words(results)}
        yield _report("nodata", "quicklook", figure, "nodata", **words)
    if results.spectra:
        dropped = (results.run.get("bands") or {}).get("dropped_windows_nm") or []
        grey = f" Grey: dropped bands ({windows(dropped)}), not drawn." if dropped else ""
        points = plural(len(results.spectra), "point")
        overlap = _overlap_words(results.spectra[0]["wavelength_nm"])
        figure = spectra_figure(results)
        yield _report(
            "spectra", "spectra", figure, "spectra", points=points, grey=grey, overlap=overlap
        )
    if (figure := noise_figure(results)) is not None:
        straight = results.interpolated_nm
        hatched = f" Hatched: interpolated bands ({windows(straight)})." if straight else ""
        yield _report("noise", "noise", figure, "noise", hatched=hatched)


def _overlap_words(nm: Sequence[float]) -> str:
    """A sentence on wavelengths that two detectors measure; empty if there are none."""
    if not (ranges := overlaps(np.asarray(nm, dtype=np.float64))):
        return ""
    return f" Two detectors measure {windows(ranges)}: there each has a line of its own."


def _draw_indices(
    results: RunResults, maps: list[IndexMap], *, has_index_maps: bool
) -> Iterator[ReportFigure]:
    """Draw the maps of the indices: all on one sheet, then each with its histogram."""
    figure = indices_figure(results, maps)
    if figure is None:
        return
    values = {
        "titles": listing([m.title for m in maps]),
        "count": plural(len(maps), "spectral index", "spectral indices"),
        "level": _level_words(results),
        "crs": results.crs.label,
    }
    yield _report("indices", "indices", figure, "indices", **values)
    for index in maps if has_index_maps else ():
        figure, name = index_figure(results, index), f"index_{slug(index.entry['name'])}"
        yield _report(name, "", figure, "index", title=index.title)


def _draw_fractions(results: RunResults) -> Iterator[ReportFigure]:
    if (figure := fractions_figure(results)) is not None:
        groups = listing(list(results.fraction_groups))
        level, crs = _level_words(results), results.crs.label
        words = {"groups": groups, "level": level, "crs": crs}
        yield _report("fractions", "fractions", figure, "fractions", **words)


def _draw_models(results: RunResults) -> Iterator[ReportFigure]:
    # One window for all models, so that they can be compared.
    found = (choose_close_up(results, model) for model in results.models)
    close_up = next((window for window in found if window is not None), None)
    for model in results.models:
        values = {
            "model": model,
            "clusters": _count_words(results, model),
            "numbers": _numbering(results, model),
            "level": _level_words(results),
            "framed": " The frame marks the close-up." if close_up else "",
            "colours": _colour_words(results),
            "masked": grey_words(results),
            "crs": results.crs.label,
            "overlap": _overlap_words(results.model.get("wavelength_nm") or []),
        }
        for kind, draw in (
            ("clusters", partial(cluster_figure, results, model, close_up)),
            ("closeup", partial(close_up_figure, results, model, close_up)),
            ("cluster_spectra", partial(cluster_spectra_figure, results, model)),
        ):
            if (figure := draw()) is not None:
                yield _report(f"{kind}_{slug(model)}", f"model:{model}", figure, kind, **values)


def _count_words(results: RunResults, model: str) -> str:
    clusters, classes = plural(results.n_clusters(model), "cluster"), results.classes(model)
    if not any(one.is_named for one in classes):
        return clusters
    return f"{plural(len(classes), 'class', 'classes')}, named by hand, of {clusters}"


def _colour_words(results: RunResults) -> str:
    """A sentence on the colours of clusters; empty for the palette, which says nothing of them."""
    if results.run.get("cluster_colors") != "spectral":
        return ""
    return (
        " Colours follow the mean spectra: water is blue, vegetation green, soil brown, all else"
        " grey; the brighter a cluster, the lighter its colour."
    )


def _numbering(results: RunResults, model: str) -> str:
    """How the clusters of a model got their numbers."""
    first = results.models[0]
    if results.run.get("applied_model"):
        return "numbered as in the model that was applied"
    if model == first:
        return "numbered by ascending near-infrared reflectance"
    if not can_follow(results.n_clusters(model), results.n_clusters(first)):
        return f"numbered by ascending near-infrared reflectance, and not like those of {first}"
    return (
        f"with the numbers and colours of the clusters of {first} that share most of their pixels"
    )


def _draw_agreement(results: RunResults) -> Iterator[ReportFigure]:
    for pair in results.clusters.get("agreement") or []:
        names = [str(m) for m in pair["models"]]
        name, figure = "_".join(["agreement", *map(slug, names)]), agreement_figure(pair)
        ari = score(pair.get("adjusted_rand_index"))
        words = {"first": names[0], "second": names[1], "score": ari}
        yield _report(name, "agreement", figure, "agreement", **words)


def _level_words(results: RunResults) -> str:
    level = results.pyramid.level if results.pyramid else 1
    return "" if level == 1 else f" (drawn at 1/{level} of the resolution)"


def figures(results: RunResults) -> dict[str, Figure]:
    """All figures by name, not saved."""
    with style.use_style():
        drawn = draw_figures(results, measure_indices(results), has_index_maps=True)
        return {figure.name: figure.figure for figure in drawn}
