"""Maps of the scene in colour and of its clusters, and a close-up of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hyperhpc.report import style
from hyperhpc.report.formats import TIMES, percent, plural
from hyperhpc.report.plots.keys import (
    CAUSE_ROW,
    KEY_WIDTH,
    class_keys,
    class_spectra,
    draw_cause_key,
    draw_key,
    key_pitch,
)
from hyperhpc.report.plots.sheet import (
    LEFT,
    MARGIN,
    PAGE,
    TICKS_BELOW,
    Sheet,
    aspect_of,
    columns,
    fit,
)
from hyperhpc.results import Extent, FloatMap, Pyramid, RunResults
from hyperhpc.scene.cube import NO_DATA, NO_FILE
from hyperhpc.schema import NO_CLUSTER, NOT_CLUSTERED, NOT_CLUSTERED_TITLE, flag_meaning

#: Longest side of the close-up, in pixels of the scene.
SIDE_PX = 500
# Pixels along the longer side that the search for a close-up looks at; more of them would not
# find a better one.
_SEARCH_PX = 256


@dataclass(frozen=True)
class CloseUp:
    """A window of the area, in its rows and columns and in map coordinates."""

    rows: slice
    cols: slice
    extent: Extent

    def colour(self, pyramid: Pyramid) -> tuple[FloatMap, Extent] | None:
        """True colour of the window from the finest level, with that piece's outer edges."""
        level = pyramid.levels[0]
        first = self.rows.start // level, self.cols.start // level
        last = -(-self.rows.stop // level), -(-self.cols.stop // level)
        values = pyramid.window(level, slice(first[0], last[0]), slice(first[1], last[1]))
        if values is None or not values.size:
            return None
        left, right, bottom, top = pyramid.extent(level)
        n_rows, n_cols = pyramid.shape(level)
        dx, dy = (right - left) / n_cols, (bottom - top) / n_rows
        rows, cols = values.shape[:2]
        x0, y0 = left + first[1] * dx, top + first[0] * dy
        return values, (x0, x0 + cols * dx, y0 + rows * dy, y0)


def choose_close_up(results: RunResults, model: str) -> CloseUp | None:
    """The window of up to ``SIDE_PX`` pixels a side with most valid pixels and variety.

    None if it would be more than half of the area: then it would be the map once more.
    The score of a window is its share of valid pixels times the entropy of its labels,
    from a thinned overview. Of equal scores the first one wins, so that the window is the same
    in every report.
    """
    pyramid, shape = results.pyramid, results.area.get("shape")
    if pyramid is None or not shape:
        return None
    n = results.n_clusters(model)
    labels = pyramid.cluster(model, n)
    if labels is None or n == 0:
        return None
    rows, cols = int(shape[0]), int(shape[1])
    height, width = min(SIDE_PX, rows), min(SIDE_PX, cols)
    if height * width > rows * cols / 2:
        return None
    step = max(1, -(-max(labels.shape) // _SEARCH_PX))
    thin = labels[step // 2 :: step, step // 2 :: step]
    # Window size in thinned pixels; the scene may be so large that it is one of them.
    box = tuple(
        max(1, min(t, round(t * s / full)))
        for t, s, full in zip(thin.shape, (height, width), (rows, cols), strict=True)
    )
    score = _score(thin, n, (box[0], box[1]))
    i, j = np.unravel_index(int(score.argmax()), score.shape)
    row = min(int(i * rows / thin.shape[0]), rows - height)
    col = min(int(j * cols / thin.shape[1]), cols - width)
    left, right, bottom, top = pyramid.extent(pyramid.levels[0])
    if (bounds := results.area.get("bounds")) and top > bottom:
        left, bottom, right, top = bounds
    dx, dy = (right - left) / cols, (bottom - top) / rows
    x_edges = left + col * dx, left + (col + width) * dx
    extent = *x_edges, top + (row + height) * dy, top + row * dy
    return CloseUp(slice(row, row + height), slice(col, col + width), extent)


def _score(labels: npt.NDArray[np.uint8], n: int, box: tuple[int, int]) -> npt.NDArray[np.float64]:
    """Share of valid pixels times (1 + entropy) for every position of a window."""
    total = entropy = np.zeros(())
    for label in range(n):
        count = _window_sums(labels == label, box)
        share = count / (box[0] * box[1])
        # Entropy over the whole window, so that holes lower it too.
        entropy = entropy - np.where(share > 0, share * np.log(np.maximum(share, 1e-12)), 0)
        total = total + share
    return np.asarray(total * (0.2 + entropy) * np.where(total > 0.98, 1.5, 1.0))


def _window_sums(mask: npt.NDArray[np.bool_], box: tuple[int, int]) -> npt.NDArray[np.int64]:
    table = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1), np.int64)
    table[1:, 1:] = mask.cumsum(0).cumsum(1)
    h, w = box
    return table[h:, w:] - table[:-h, w:] - table[h:, :-w] + table[:-h, :-w]


#: Title and remark of a map, its RGBA picture, the edges of that, whether it may be smoothed.
Panel = tuple[str, str, npt.NDArray[np.uint8], Extent, bool]

TITLE = 0.3
# What no option hides is grey, and darker than the scene, which is lightened to this share of its
# darkness.
_GREYS, _PALE = {NO_DATA: to_rgb("#3d4249"), NO_FILE: to_rgb("#7d838b")}, 0.45
_MAX_KEYS = 60


def quicklook_figure(results: RunResults) -> Figure | None:
    """True colour and colour infrared side by side."""
    pyramid = results.pyramid
    if pyramid is None:
        return None
    colours = [("True colour", (0, 1, 2), "red, green, blue")]
    if (values := pyramid.quicklook((0, 1, 2, 3))) is not None:
        colours.append(("Colour infrared", (3, 0, 1), "near infrared, red, green"))
    elif (values := pyramid.quicklook((0, 1, 2))) is None:
        return None
    limits = pyramid.colour_limits
    names = dict(zip((0, 1, 2, 3), pyramid.quicklook_nm, strict=False))
    panels = []
    for title, bands, words in colours:
        image = style.rgba(values[..., list(bands)], [limits[b] for b in bands])
        if all(b in names for b in bands):
            words = f"{words}: {', '.join(f'{names[b]:.0f}' for b in bands)} nm"
        panels.append((title, words, image, pyramid.drawn_extent(values), True))
    return _map_sheet(results, panels, whole_view(results))


def nodata_figure(results: RunResults) -> Figure | None:
    """Where pixels have no data, and why, over the scene in pale grey.

    None if they only lack data in the file, which is the grey of all maps, and for runs of older
    versions, which do not say where the others are.
    """
    pyramid = results.pyramid
    counts = (results.run.get("pixels") or {}).get("nodata_causes") or {}
    if pyramid is None or pyramid.nodata_causes is None or not counts.keys() - {NO_DATA}:
        return None
    codes, meanings = pyramid.nodata_causes
    table = np.zeros((256, 4), np.uint8)  # nothing is drawn where there are data
    palette = iter(style.cluster_colours(len(counts)))
    colours = [_GREYS[name] if name in _GREYS else next(palette) for name in counts]
    for name, colour in zip(counts, colours, strict=True):
        if (meaning := flag_meaning(name)) in meanings:
            table[meanings.index(meaning)] = (*np.round(np.multiply(colour, 255)), 255)
    image = table[codes]
    if (values := pyramid.quicklook((0, 1, 2))) is not None:
        scene = style.rgba(values, pyramid.colour_limits[:3])
        scene[..., :3] = 255 - (255 - scene[..., :3].mean(axis=2, keepdims=True)) * _PALE
        image = np.where(image[..., 3:] > 0, image, scene)

    total = results.n_pixels or sum(counts.values())
    keys = [(name, f"{plural(n, 'pixel')}, {percent(n / total)}") for name, n in counts.items()]
    key_width = 0.34 + 0.054 * max(len(text) for key in keys for text in key)
    view = whole_view(results)
    aspect = aspect_of(view, results.crs)
    # The key stands right of the map, or below a map much wider than high.
    is_wide = aspect >= 2.2
    room = PAGE - LEFT - (MARGIN if is_wide else key_width + 0.2)
    w, h = fit(aspect, room, 7.6, codes.shape[1])
    n_cols = max(1, int((PAGE - LEFT) // key_width)) if is_wide else 1
    key_height = -(-len(keys) // n_cols) * CAUSE_ROW
    if is_wide:
        x, y, width, height = LEFT, TITLE + h + TICKS_BELOW + 0.1, PAGE, key_height + 0.1
    else:
        x, y, width, height = LEFT + w + 0.2, TITLE, LEFT + w + 0.2 + key_width, 0.0
    height += max(TITLE + h + TICKS_BELOW, 0.0 if is_wide else TITLE + key_height)
    sheet = Sheet(max(5.0, width), height, has_footer=True)
    sheet.heading(LEFT, 0.1, "Pixels without data, by cause")
    extent = pyramid.drawn_extent(codes)
    sheet.map(LEFT, TITLE, w, h, image, extent, results.crs, view=view, is_named=True)
    draw_cause_key(sheet, x, y, keys, colours, n_cols, key_width)
    sheet.footer(results.crs, view, w, no_data="")
    return sheet.figure


def cluster_figure(results: RunResults, model: str, close_up: CloseUp | None) -> Figure | None:
    """Classes of the whole area with areas in the key and the close-up's frame."""
    pyramid, n = results.pyramid, results.n_clusters(model)
    labels = pyramid.cluster(model, n) if pyramid else None
    if labels is None or pyramid is None:
        return None
    view = whole_view(results)
    pixels = results.cluster_entry(model).get("pixels") or []
    total = sum(p for p in pixels if p)
    classes = shown = results.classes(model)
    if len(classes) > _MAX_KEYS:  # the largest, still by number
        by_size = sorted(classes, key=lambda one: -one.sum_of(pixels) if total else 0)
        shown = tuple(one for one in classes if one in by_size[:_MAX_KEYS])
    keys, spectra = class_keys(results, pixels, total, shown), class_spectra(results, model)
    pitch = key_pitch(keys, has_spectra=spectra is not None)

    aspect = aspect_of(view, results.crs)
    # The key stands right of the map, or below a map much wider than high.
    if aspect < 2.2:
        w, h = fit(aspect, PAGE - LEFT - KEY_WIDTH - 0.2, 7.6, labels.shape[1])
        key_rows = max(10, int(h / pitch)) if spectra is None else max(4, int(h / pitch))
        key_cols = -(-len(keys) // key_rows)
        width = max(5.0, LEFT + w + 0.2 + key_cols * KEY_WIDTH)
        height = TITLE + max(h + TICKS_BELOW, min(len(keys), key_rows) * pitch + 0.25)
        key_x, key_y = LEFT + w + 0.2, TITLE
    else:
        w, h = fit(aspect, PAGE - LEFT - MARGIN, 7.6, labels.shape[1])
        width, key_cols = PAGE, int((PAGE - LEFT) // KEY_WIDTH)
        key_rows = -(-len(keys) // key_cols)
        key_x, key_y = LEFT, TITLE + h + TICKS_BELOW + 0.05
        height = key_y + key_rows * pitch + 0.2
    sheet = Sheet(width, height, has_footer=True)
    sheet.heading(LEFT, 0.1, f"Clusters, {model}")
    colours = style.model_colours(results, model)
    image, extent = colour_labels(labels, colours), pyramid.drawn_extent(labels)
    ax = sheet.map(LEFT, TITLE, w, h, image, extent, results.crs, view=view, is_named=True)
    if close_up is not None:
        x0, x1, y0, y1 = close_up.extent
        # White under black is seen on every colour of the palette.
        for colour, lw in (("white", 2.6), (style.INK, 1.1)):
            frame = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, lw=lw)
            ax.add_patch(frame).set_clip_on(False)
    key_colours = [colours[one.number] for one in shown]
    more = len(classes) - len(shown)
    draw_key(sheet, key_x, key_y, keys, key_colours, key_rows, more, spectra)
    share = results.n_not_clustered / max(total + results.n_not_clustered, 1)
    words = f"{NOT_CLUSTERED_TITLE}, {percent(share)} of the data" if share else ""
    sheet.footer(results.crs, view, w, masked=words or masked_words(results))
    return sheet.figure


def masked_words(results: RunResults) -> str:
    """What the darker grey of a map of clusters means; empty if there is none."""
    return NOT_CLUSTERED_TITLE if results.conditions else ""


def close_up_figure(results: RunResults, model: str, close_up: CloseUp | None) -> Figure | None:
    """A window at full resolution: true colour where there is one, and clusters."""
    if close_up is None or model not in results.model_names or results.pyramid is None:
        return None
    labels = results.labels(model, close_up.rows, close_up.cols)
    size = f"{labels.shape[1]} {TIMES} {labels.shape[0]} pixels"
    panels: list[Panel] = []
    finest = results.pyramid.levels[0]
    if colour := close_up.colour(results.pyramid):
        values, extent = colour
        detail = "full resolution" if finest == 1 else f"1/{finest} resolution"
        image = style.rgba(values, results.pyramid.colour_limits[:3])
        panels.append(("True colour", detail, image, extent, finest == 1))
    image = colour_labels(labels, style.model_colours(results, model))
    panels.append((f"Clusters, {model}", size, image, close_up.extent, False))
    masked = masked_words(results) if (labels == NOT_CLUSTERED).any() else ""
    return _map_sheet(results, panels, close_up.extent, labels.shape[1], masked)


def colour_labels(
    labels: npt.NDArray[np.uint8], colours: Sequence[tuple[float, float, float]]
) -> npt.NDArray[np.uint8]:
    """RGBA of labels; no-data is transparent, and what is not clustered grey.

    ``colours``: RGB in 0-1 of clusters 0, 1 ...
    """
    table = np.zeros((256, 4), np.uint8)
    table[: len(colours), :3] = np.round(np.reshape(colours, (-1, 3)) * 255)
    table[: len(colours), 3] = 255
    table[NOT_CLUSTERED] = (*np.round(np.multiply(to_rgb(style.NOT_CLUSTERED), 255)), 255)
    table[NO_CLUSTER] = 0
    return table[labels]


def whole_view(results: RunResults) -> Extent:
    """Edges of the analysed area on a map (left, right, bottom, top)."""
    assert results.pyramid is not None
    # The last row of a reduced level may stick out of the area; the area is what counts.
    bounds = results.pyramid.bounds
    left, right, bottom, top = results.pyramid.extent(results.pyramid.level)
    if bounds is not None and results.pyramid.level > 1:
        left, right = max(left, bounds[0]), min(right, bounds[2])
        if top > bottom:
            bottom, top = max(bottom, bounds[1]), min(top, bounds[3])
    return left, right, bottom, top


def _map_sheet(
    results: RunResults, panels: list[Panel], view: Extent, n_pixels: int | None = None,
    masked: str = "",
) -> Figure:  # fmt: skip
    """Maps of equal size under a title each, with one footer.

    ``n_pixels`` across, where it is given, are drawn with a whole number of dots each.
    ``masked``: What the darker grey means, if there is any.
    """
    gap = 0.16
    room = (11.0 if n_pixels else PAGE) + MARGIN - LEFT
    n_cols, w, h = columns(
        len(panels), aspect_of(view, results.crs), room, 7.0, gap + 0.02, TITLE + TICKS_BELOW
    )
    if n_pixels:
        w, h = fit(w / h, w, h, n_pixels)
    n_rows = -(-len(panels) // n_cols)
    pitch = max(w + gap, 1.35)  # maps may be narrower than their titles
    width, height = LEFT + n_cols * pitch + 0.1, n_rows * (TITLE + h + TICKS_BELOW)
    sheet = Sheet(max(5.0, width), height, has_footer=True)
    for i, (title, words, image, extent, is_smooth) in enumerate(panels):
        row, col = divmod(i, n_cols)
        x, y = LEFT + col * pitch, row * (TITLE + h + TICKS_BELOW)
        sheet.heading(x, y + 0.1, title)
        if w > 0.075 * len(title) + 0.055 * len(words) + 0.2:
            sheet.remark(x + w, y + 0.12, words, ha="right")
        sheet.map(
            x, y + TITLE, w, h, image, extent, results.crs,
            view=view, is_smooth=is_smooth, show_y=col == 0, is_named=i == (n_rows - 1) * n_cols,
        )  # fmt: skip
    sheet.footer(results.crs, view, w, masked=masked)
    return sheet.figure
