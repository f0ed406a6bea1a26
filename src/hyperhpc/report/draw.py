"""The figures of a report, each with its caption and its text for screen readers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from hyperhpc.report import style
from hyperhpc.report.comparison import agreement_figure
from hyperhpc.report.formats import listing, plural, score, slug, windows
from hyperhpc.report.index_maps import IndexMap, index_figure, indices_figure, measure_index
from hyperhpc.report.maps import choose_close_up, close_up_figure, cluster_figure, quicklook_figure
from hyperhpc.report.spectra import cluster_spectra_figure, spectra_figure
from hyperhpc.results import RunResults


@dataclass
class ReportFigure:
    """A figure and its words.

    ``name``: File name without its ending, unique in a report.
    ``section``: Section of the page that shows it: ``quicklook``, ``spectra``, ``indices``,
        ``model:NAME`` or ``agreement``; empty if no section does.
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


def draw_rest(results: RunResults) -> Iterator[ReportFigure]:
    """Draw all figures but those of the indices, which is about half of the work.

    Figures are made one by one, so that only one is in memory.
    """
    yield from _draw_scene(results)
    yield from _draw_models(results)
    yield from _draw_agreement(results)


def _draw_scene(results: RunResults) -> Iterator[ReportFigure]:
    figure = quicklook_figure(results)
    if figure is not None:
        yield ReportFigure(
            "quicklook", "quicklook", figure,
            "The scene in true colour and in colour infrared, where vigorous vegetation is "
            f"red. Each colour is stretched from 2 to 98 % of its valid pixels"
            f"{_level_words(results)}. "
            f"Grey: no data. Coordinates: {results.crs.label}.",
            f"Two maps of {results.scene_name}: true colour and colour infrared.",
        )  # fmt: skip
    if results.spectra:
        dropped = (results.run.get("bands") or {}).get("dropped_windows_nm") or []
        grey = f" Grey: dropped bands ({windows(dropped)}), not drawn." if dropped else ""
        yield ReportFigure(
            "spectra", "spectra", spectra_figure(results),
            f"Reflectance of the pixels at {plural(len(results.spectra), 'point')}, and a map "
            f"of the points.{grey} A line has a gap where the scene has no data.",
            "Reflectance against wavelength at the points of the run, with a map of them.",
        )  # fmt: skip


def draw_indices(results: RunResults, maps: list[IndexMap]) -> Iterator[ReportFigure]:
    """Draw the maps of the indices: all on one sheet, then each with its histogram."""
    crs, level = results.crs.label, _level_words(results)
    figure = indices_figure(results, maps)
    if figure is None:
        return
    yield ReportFigure(
        "indices", "indices", figure,
        f"{listing([m.title for m in maps])}{level}. Colours run from the 2nd to the 98th "
        "percentile of each index; an arrow at a colour bar means that some values lie beyond "
        f"its end. Grey: no value. Coordinates: {crs}.",
        f"Maps of {plural(len(maps), 'spectral index', 'spectral indices')}: "
        f"{listing([m.title for m in maps])}.",
    )  # fmt: skip
    for index in maps:
        yield ReportFigure(
            f"index_{slug(index.entry['name'])}", "", index_figure(results, index),
            f"{index.title}.", f"Map of {index.title} with its histogram.",
        )  # fmt: skip


def _draw_models(results: RunResults) -> Iterator[ReportFigure]:
    crs, level = results.crs.label, _level_words(results)
    # One window for all models, so that they can be compared.
    found = (choose_close_up(results, model) for model in results.models)
    close_up = next((window for window in found if window is not None), None)
    is_framed = close_up is not None and close_up.is_part
    framed = " The frame marks the close-up." if is_framed else ""
    for model in results.models:
        section, name = f"model:{model}", slug(model)
        n = results.n_clusters(model)
        figure = cluster_figure(results, model, close_up)
        if figure is not None:
            yield ReportFigure(
                f"clusters_{name}", section, figure,
                f"{plural(n, 'cluster')} of {model}{level}, numbered by ascending "
                "near-infrared reflectance, with their share of the classified area. Grey: no "
                f"data, in no cluster.{framed} Coordinates: {crs}.",
                f"Map of the clusters of {model} with a key of their areas.",
            )  # fmt: skip
        figure = close_up_figure(results, model, close_up) if close_up is not None else None
        if figure is not None:
            yield ReportFigure(
                f"closeup_{name}", section, figure,
                f"Close-up of the clusters of {model} at full resolution, in the colours of "
                "the map of the whole area.",
                f"Part of the scene in true colour next to its clusters of {model}.",
            )  # fmt: skip
        figure = cluster_spectra_figure(results, model)
        if figure is not None:
            yield ReportFigure(
                f"cluster_spectra_{name}", section, figure,
                f"Mean reflectance of the clusters of {model} in the fitted sample. Below: "
                "each mean with one standard deviation on either side. The percentage is "
                "the share of the whole classified area.",
                f"Mean spectra with standard deviations of the clusters of {model}.",
            )  # fmt: skip


def _draw_agreement(results: RunResults) -> Iterator[ReportFigure]:
    for pair in results.clusters.get("agreement") or []:
        names = [str(m) for m in pair["models"]]
        yield ReportFigure(
            "_".join(["agreement", *map(slug, names)]), "agreement", agreement_figure(pair),
            f"How the pixels of each {names[0]} cluster (rows) are spread over the clusters of "
            f"{names[1]} (columns), in the whole area: the share of the row, and below it the "
            "number of pixels. Both models number clusters by near-infrared reflectance, so "
            "that agreement lies near the diagonal.",
            f"Confusion table of {names[0]} and {names[1]} as a heat map; adjusted Rand index "
            f"{score(pair.get('adjusted_rand_index'))}.",
        )  # fmt: skip


def _level_words(results: RunResults) -> str:
    level = results.pyramid.level if results.pyramid else 1
    return "" if level == 1 else f" (drawn at 1/{level} of the resolution)"


def figures(results: RunResults) -> dict[str, Figure]:
    """All figures by name, not saved."""
    with style.use_style():
        drawn = (*draw_indices(results, measure_indices(results)), *draw_rest(results))
        return {figure.name: figure.figure for figure in drawn}
