"""Every picture of a report, one after the other, with the words that belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from hyperhpc.report import style
from hyperhpc.report.comparison import agreement_figure
from hyperhpc.report.formats import listing, plural, score, slug, windows
from hyperhpc.report.index_maps import IndexMap, index_figure, indices_figure, measure_index
from hyperhpc.report.maps import (
    Closeup,
    choose_closeup,
    closeup_figure,
    cluster_figure,
    quicklook_figure,
)
from hyperhpc.report.spectra import cluster_spectra_figure, spectra_figure
from hyperhpc.results import RunResults


@dataclass
class Drawing:
    """A picture and its words.

    ``name``: File name without its ending, unique in a report.
    ``section``: Where it goes in the page: ``quicklook``, ``spectra``, ``indices``,
        ``model:NAME``, ``agreement``; empty if it is a file only.
    """

    name: str
    section: str
    figure: Figure
    caption: str
    alt: str


@dataclass
class Sketch:
    """What was measured while drawing, which the tables show too."""

    indices: dict[str, IndexMap] = field(default_factory=dict)


def draw(results: RunResults) -> Iterator[Drawing]:
    """Draw what there is, one figure at a time so that one at a time is in memory."""
    yield from _draw_scene(results)
    yield from draw_indices(results, Sketch())
    yield from _draw_models(results)
    yield from _draw_agreement(results)


def draw_rest(results: RunResults) -> Iterator[Drawing]:
    """All but the indices; about half of the work."""
    yield from _draw_scene(results)
    yield from _draw_models(results)
    yield from _draw_agreement(results)


def _draw_scene(results: RunResults) -> Iterator[Drawing]:
    figure = quicklook_figure(results)
    if figure is not None:
        yield Drawing(
            "quicklook", "quicklook", figure,
            "The scene in true colour and in colour infrared, where vigorous vegetation is "
            f"red. Each colour is stretched from 2 to 98 % of its valid pixels"
            f"{_level_words(results)}. "
            f"Grey is no data. Coordinates: {results.crs.label}.",
            f"Two maps of {results.scene_name}: true colour and colour infrared.",
        )  # fmt: skip
    if results.spectra:
        dropped = (results.run.get("bands") or {}).get("dropped_windows_nm") or []
        grey = f" Grey: dropped bands ({windows(dropped)}), not drawn." if dropped else ""
        yield Drawing(
            "spectra", "spectra", spectra_figure(results),
            f"Reflectance at {plural(len(results.spectra), 'point')}, at the pixel that holds "
            f"it, and where the points are.{grey} A line breaks where the scene has no data.",
            "Reflectance against wavelength at the points of the run, with a map of them.",
        )  # fmt: skip


def draw_indices(results: RunResults, sketch: Sketch) -> Iterator[Drawing]:
    """The maps of the indices; their statistics go into ``sketch``."""
    crs, level = results.crs.label, _level_words(results)
    entries = results.computed
    if not entries and results.pyramid:  # an unfinished run may not have said what they are
        entries = [{"name": n, "title": n.upper()} for n in results.pyramid.indices]
    for entry in entries:
        index = measure_index(results, entry)
        if index is not None:
            sketch.indices[str(entry["name"])] = index
    maps = list(sketch.indices.values())
    figure = indices_figure(results, maps)
    if figure is None:
        return
    yield Drawing(
        "indices", "indices", figure,
        f"{listing([m.title for m in maps])}{level}. Colours run from the 2nd to the 98th "
        "percentile of each index; arrows at a colour bar say that values go on beyond its "
        f"end. Grey has no value. Coordinates: {crs}.",
        f"Maps of {plural(len(maps), 'spectral index', 'spectral indices')}: "
        f"{listing([m.title for m in maps])}.",
    )  # fmt: skip
    for index in maps:
        yield Drawing(
            f"index_{slug(index.entry['name'])}", "", index_figure(results, index),
            f"{index.title}.", f"Map of {index.title} with its histogram.",
        )  # fmt: skip


def _draw_models(results: RunResults) -> Iterator[Drawing]:
    crs, level = results.crs.label, _level_words(results)
    closeup: Closeup | None = None
    for model in results.models:
        section, name = f"model:{model}", slug(model)
        if closeup is None:  # one window for all models, so that they can be compared
            closeup = choose_closeup(results, model)
        n = results.n_clusters(model)
        framed = (
            " The frame is the close-up." if closeup is not None and closeup.is_part else ""
        )
        figure = cluster_figure(results, model, closeup)
        if figure is not None:
            yield Drawing(
                f"clusters_{name}", section, figure,
                f"{plural(n, 'cluster')} of {model}{level}, numbered by ascending "
                "near-infrared reflectance, with their share of the classified area. Grey is "
                f"no data and belongs to no cluster.{framed} Coordinates: {crs}.",
                f"Map of the clusters of {model} with a key of their areas.",
            )  # fmt: skip
        figure = closeup_figure(results, model, closeup) if closeup is not None else None
        if figure is not None:
            yield Drawing(
                f"closeup_{name}", section, figure,
                f"Close-up of {model}, every pixel as it was classified; colours as above.",
                f"Part of the scene in true colour beside its clusters of {model}.",
            )  # fmt: skip
        figure = cluster_spectra_figure(results, model)
        if figure is not None:
            yield Drawing(
                f"cluster_spectra_{name}", section, figure,
                f"Mean reflectance of the clusters of {model} and, below, each with one "
                "standard deviation either side, over the fitted sample. The percentage is "
                "the share of the whole classified area.",
                f"Mean spectra with standard deviations of the clusters of {model}.",
            )  # fmt: skip


def _draw_agreement(results: RunResults) -> Iterator[Drawing]:
    for pair in results.clusters.get("agreement") or []:
        names = [str(m) for m in pair["models"]]
        yield Drawing(
            "_".join(["agreement", *map(slug, names)]), "agreement", agreement_figure(pair),
            f"Pixels of each {names[0]} cluster (rows) by their {names[1]} cluster (columns), "
            "over the whole area: share of the row, and count below it. Both are numbered by "
            "near-infrared reflectance, so that agreement lies near the diagonal.",
            f"Confusion table of {names[0]} and {names[1]} as a heat map; adjusted Rand index "
            f"{score(pair.get('adjusted_rand_index'))}.",
        )  # fmt: skip


def _level_words(results: RunResults) -> str:
    level = results.pyramid.level if results.pyramid else 1
    return "" if level == 1 else f" (drawn at 1/{level} of the resolution)"


def figures(results: RunResults) -> dict[str, Figure]:
    """All figures by name, unsaved."""
    with style.use_style():
        return {drawing.name: drawing.figure for drawing in draw(results)}
