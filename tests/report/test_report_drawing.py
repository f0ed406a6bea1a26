"""What is in the drawings: gaps, colours, the right pixels in the right place."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from hyperhpc.report import formats as f
from hyperhpc.report import plot_spectra
from hyperhpc.report.draw import draw_figures
from hyperhpc.report.pictures import BUDGET, Picture, within_budget
from hyperhpc.report.plots.index_maps import _limits, index_figure, indices_figure, measure_index
from hyperhpc.report.plots.keys import TALL_ROW, _ndvi, class_spectra, draw_key
from hyperhpc.report.plots.maps import (
    CloseUp,
    choose_close_up,
    close_up_figure,
    cluster_figure,
    colour_labels,
    quicklook_figure,
)
from hyperhpc.report.plots.sheet import Sheet
from hyperhpc.report.plots.spectra import cluster_spectra_figure, overlaps, spectra_figure
from hyperhpc.report.png import encode_png, encode_webp
from hyperhpc.report.style import (
    _SIGHTS,
    GAMMA,
    NODATA,
    NOT_CLUSTERED,
    _oklab,
    cluster_colours,
    model_colours,
    rgba,
    spectral_colours,
)
from hyperhpc.report.tables import cluster_table, point_table
from hyperhpc.results import TARGET_PX, open_results, reduce_mean, widen_equal
from hyperhpc.scene.georef import NO_CRS, describe_crs
from report_case import WAVELENGTH, write_case

GOOD = [[401.0, 1337.0], [1447.0, 1788.0], [1958.0, 2449.0]]


def _point(nm, reflectance, x=515000.5, y=4525999.5):
    return {"x": x, "y": y, "row": 0, "col": 0, "wavelength_nm": list(nm),
            "reflectance": list(reflectance)}  # fmt: skip


def _lines(figure):
    """Points of what is drawn in one stroke: a line is cut where it has no wavelength."""
    lines = [line.get_xydata() for line in figure.axes[0].lines]
    pieces = [np.split(line, np.flatnonzero(np.isnan(line[:, 0]))) for line in lines]
    kept = [piece[~np.isnan(piece[:, 0])] for line in pieces for piece in line]
    return [piece for piece in kept if len(piece) > 1]


def test_plot_spectra__draws_no_line_across_a_dropped_window():
    figure = plot_spectra([_point(WAVELENGTH, np.full(426, 0.3))], GOOD)
    for line in _lines(figure):
        low, high = line[:, 0].min(), line[:, 0].max()
        assert any(a <= low and high <= b for a, b in GOOD)
    drawn = np.concatenate([line[:, 0] for line in _lines(figure)])
    expected = [w for w in WAVELENGTH if any(a <= w <= b for a, b in GOOD)]
    np.testing.assert_array_equal(np.sort(drawn), expected)
    # Water windows and both noisy ends are grey.
    assert len(figure.axes[0].patches) == 4


def test_plot_spectra__breaks_where_the_scene_has_no_data():
    values = [0.3] * 426
    values[60:70] = [None] * 10
    figure = plot_spectra([_point(WAVELENGTH, values)], GOOD)
    y = np.concatenate([line[:, 1] for line in _lines(figure)])
    assert np.isnan(y).sum() == 10


def test_plot_spectra__keeps_overlapping_detectors_apart():
    nm = np.r_[np.arange(420, 1000, 7.0), np.arange(902, 2440, 10.0)]
    figure = plot_spectra([_point(nm, np.linspace(0.1, 0.4, len(nm)))])
    assert [len(line) for line in _lines(figure)] == [83, 154]
    assert all((np.diff(line[:, 0]) > 0).all() for line in _lines(figure))


@pytest.mark.parametrize("step", [1, -1])
def test_overlaps__are_what_two_detectors_measure(step):
    nm = np.r_[np.arange(420, 1000, 7.0), np.arange(902, 2440, 10.0)][::step]
    assert overlaps(nm) == [(902.0, 994.0)]
    assert overlaps(WAVELENGTH[::step]) == overlaps(np.empty(0)) == []


def test_captions__name_the_overlap_of_two_detectors(tmp_path):
    write_case(tmp_path, shape=(8, 9), points=1, indices=(), models=("lloyd",))
    results = open_results(tmp_path)
    nm = results.model["wavelength_nm"]
    nm[100:] = [v - 3 * (nm[100] - nm[99]) for v in nm[100:]]  # two bands overlap
    captions = {fig.name: fig.caption for fig in draw_figures(results, [], has_index_maps=False)}
    between = f.windows([[nm[100], nm[99]]])
    assert f"Two detectors measure {between}:" in captions["cluster_spectra_lloyd"]
    assert "detectors" not in captions["spectra"]


def test_plot_spectra__takes_descending_bands_and_no_points_at_all():
    figure = plot_spectra([_point(WAVELENGTH[::-1], np.linspace(0, 1, 426))], GOOD)
    assert len(_lines(figure)) == 3
    assert all((np.diff(line[:, 0]) > 0).all() for line in _lines(figure))
    plot_spectra([]).savefig(io.BytesIO(), format="png")


def test_plot_spectra__names_points_by_their_coordinates_and_says_no_data():
    figure = plot_spectra([_point(WAVELENGTH, [0.2] * 426), _point(WAVELENGTH, [None] * 426)], GOOD)
    words = [t.get_text() for t in figure.legends[0].get_texts()]
    assert words[0] == "P1   515\u202f000.5, 4\u202f525\u202f999.5"
    assert words[1].endswith("(no data)")


def test_plot_spectra__is_not_flattened_by_one_spike():
    values = np.full(426, 0.3)
    values[30] = 12.0
    assert plot_spectra([_point(WAVELENGTH, values)], GOOD).axes[0].get_ylim()[1] < 1


def test_plot_spectra__leaves_matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    plot_spectra([_point(WAVELENGTH, [0.2] * 426)])
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize("n", [1, 8, 20, 254])
def test_cluster_colours__are_distinct_and_none_is_a_grey_without_clusters(n):
    colours = cluster_colours(n)
    assert len(set(colours)) == n
    assert colours == cluster_colours(254)[:n]
    assert not {to_rgb(NODATA), to_rgb(NOT_CLUSTERED)} & set(colours)


def test_cluster_colours__stay_apart_for_every_kind_of_sight():
    colours = np.array(cluster_colours(12))
    with_greys = np.array([*colours[:8], to_rgb(NODATA), to_rgb(NOT_CLUSTERED)])
    for shown in (colours, with_greys):
        for sight in _SIGHTS:
            seen = _oklab(shown, sight)
            gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(len(shown))
            assert gaps.min() > 0.07  # that of Okabe and Ito's own set


def _named_hue(colour):
    red, green, blue = colour
    if max(colour) - min(colour) < 0.02:
        return "grey"
    return {red: "brown", green: "green", blue: "blue"}[max(colour)]


def test_spectral_colours__have_the_hue_of_what_a_cluster_may_be():
    nm = np.array([480.0, 650.0, 860.0, 1650.0, 2200.0])
    spectra = {
        "blue": [[0.06, 0.04, 0.01, 0.0, 0.0], [0.1, 0.12, 0.1, 0.02, 0.01]],
        "green": [[0.03, 0.04, 0.5, 0.2, 0.1], [0.06, 0.12, 0.3, 0.3, 0.2]],
        "brown": [[0.08, 0.2, 0.28, 0.35, 0.3]],
        "grey": [[0.3, 0.33, 0.35, 0.35, 0.33], [np.nan] * 5],
    }
    names = [name for name, group in spectra.items() for _ in group]
    colours = spectral_colours(nm, np.array([one for group in spectra.values() for one in group]))
    assert [_named_hue(colour) for colour in colours] == names


@pytest.mark.parametrize("n", [1, 8, 20])
def test_spectral_colours__differ_in_lightness_and_from_no_data(n):
    rng = np.random.default_rng(n)
    spectra = rng.random((n, 1)) * rng.uniform(0.2, 1.0, (n, 5))
    colours = spectral_colours(np.array([480.0, 650.0, 860.0, 1650.0, 2200.0]), spectra)
    lightness = _oklab(np.array([*colours, to_rgb(NODATA)]), _SIGHTS[0])[:, 0]
    by_mean = lightness[:-1][np.argsort(spectra.mean(axis=1))]
    assert (np.diff(by_mean) > 0.3 / n).all()
    assert by_mean[-1] < lightness[-1] - 0.05
    for sight in _SIGHTS:
        seen = _oklab(np.array(colours), sight)
        gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1) + np.eye(n)
        assert gaps.min() > 0.2 / n


def test_model_colours__are_those_that_run_json_asks_for(tmp_path):
    run = write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=("lloyd",), clusters=5)
    assert model_colours(open_results(tmp_path), "lloyd") == cluster_colours(5)
    (tmp_path / "run.json").write_text(json.dumps(run | {"cluster_colors": "spectral"}))
    results = open_results(tmp_path)
    spectra = np.array(results.cluster_entry("lloyd")["mean"])
    expected = spectral_colours(np.array(results.model["wavelength_nm"]), spectra)
    assert model_colours(results, "lloyd") == expected != cluster_colours(5)
    (swatch, *_) = cluster_table(results, "lloyd").rows[0]
    assert to_rgb(swatch.swatch) == pytest.approx(expected[0], abs=0.003)
    image = cluster_figure(results, "lloyd", None).axes[0].images[0].get_array()
    shown = {tuple(pixel[:3]) for pixel in image.reshape(-1, 4) if pixel[3]}
    assert shown <= {tuple(round(255 * part) for part in colour) for colour in expected}
    (tmp_path / "clusters.json").unlink()
    assert model_colours(open_results(tmp_path), "lloyd") == cluster_colours(5)


def test_colour_labels__no_data_is_transparent_and_not_clustered_grey():
    image = colour_labels(np.array([[0, 1, 255, 7, 254]], np.uint8), cluster_colours(2))
    assert image[0, :, 3].tolist() == [255, 255, 0, 0, 255]
    np.testing.assert_allclose(image[0, 4, :3] / 255, to_rgb(NOT_CLUSTERED), atol=0.003)
    np.testing.assert_allclose(image[0, 1, :3] / 255, cluster_colours(2)[1], atol=0.003)


def test_reduce_mean__is_the_mean_of_valid_pixels():
    rng = np.random.default_rng(0)
    values = rng.random((TARGET_PX * 2 - 1, 6)).astype(np.float32)
    values[:2, :2] = np.nan
    values[2, 0] = np.nan
    small = reduce_mean(values)
    assert small.shape == (TARGET_PX, 3)
    assert np.isnan(small[0, 0])
    assert small[1, 0] == pytest.approx(np.nanmean(values[2:4, :2]))
    assert small[-1, 2] == pytest.approx(values[-1, 4:6].mean())


def test_overview__puts_every_level_on_the_same_ground(tmp_path):
    write_case(tmp_path, shape=(64, 96), points=0, indices=("ndvi",))
    overview = open_results(tmp_path).pyramid
    assert overview.levels == (1, 4, 16)
    for level in overview.levels:
        assert overview.extent(level) == pytest.approx((515000, 515096, 4525936, 4526000))


@pytest.mark.slow
def test_spectra__leave_out_a_row_without_coordinates_and_keep_its_number(tmp_path):
    write_case(tmp_path, shape=(20, 20), points=2, indices=(), models=())
    file = tmp_path / "spectra.json"
    points = json.loads(file.read_text())
    nothing = dict.fromkeys(("x", "y", "row", "col")) | {"state": "no geometry"}
    points.insert(1, points[0] | nothing | {"reflectance": [None] * 426})
    file.write_text(json.dumps(points))
    results = open_results(tmp_path)
    texts = [text.get_text() for text in spectra_figure(results).axes[1].texts]
    assert [text for text in texts if text.startswith("P")] == ["P1", "P3"]
    table = point_table(results)
    assert [row[0].text for row in table.rows] == ["P1", "P2", "P3"]
    assert table.rows[1][1].text == table.rows[1][3].text == "\u2013"


def test_key__of_clusters_has_spectra_to_one_scale_and_their_ndvi(tmp_path):
    write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=("lloyd",), clusters=5)
    results = open_results(tmp_path)
    spectra = class_spectra(results, "lloyd")
    nm = np.array(results.model["wavelength_nm"])
    mean = np.array(results.cluster_entry("lloyd")["mean"])
    near, red = (mean[:, np.abs(nm - wanted).argmin()] for wanted in (858.6, 648.2))
    assert spectra.ndvi == pytest.approx((near - red) / (near + red))
    sheet = Sheet(4.0, 3.0)
    draw_key(sheet, 0.1, 0.1, [[f"C{k}"] for k in range(5)], cluster_colours(5), 3, 0, spectra)
    lines = sheet.figure.axes[0].collections[-1].get_segments()
    heights = [np.nanmax(0.36 - (line[:, 1] % TALL_ROW)) for line in lines]
    assert heights == pytest.approx(0.2 * mean.max(axis=1) / mean.max(), rel=1e-6)
    words = [text.get_text() for text in sheet.figure.texts]
    assert words.count(f"NDVI {f.number(spectra.ndvi[0], 2)}") >= 1


@pytest.mark.parametrize(("away_nm", "is_there"), [(4.0, True), (6.0, False)])
def test_key__of_clusters_has_ndvi_where_the_index_would_be(away_nm, is_there):
    nm = np.array([500.0, 648.2 - away_nm, 858.6, 1000.0])
    spectra = np.array([[0.1, 0.2, 0.6, 0.3], [0.1, 0.0, 0.0, 0.3], [np.nan] * 4])
    expected = [0.5, np.nan, np.nan] if is_there else [np.nan] * 3
    np.testing.assert_allclose(_ndvi(nm, spectra), expected)


def test_key__of_clusters_does_without_spectra(tmp_path):
    write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=("lloyd",), clusters=3)
    (tmp_path / "clusters.json").unlink()
    results = open_results(tmp_path)
    assert class_spectra(results, "lloyd") is None
    assert cluster_figure(results, "lloyd", None) is not None


def test_colour_limits__are_percentiles_of_red_green_and_blue_together(tmp_path):
    write_case(tmp_path, shape=(40, 50), points=0, indices=(), models=())
    pyramid = open_results(tmp_path).pyramid
    values = pyramid.quicklook((0, 1, 2, 3)).astype(np.float64)
    visible, infrared = np.nanpercentile(values[..., :3], (2, 98)), values[..., 3]
    red, green, blue, near = pyramid.colour_limits
    assert red == green == blue == pytest.approx(visible)
    assert near == pytest.approx(np.nanpercentile(infrared, (2, 98)))


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0.1, 0.2), (0.1, 0.2)), ((0.2, 0.2), (0.19, 0.21)), ((-2, -2), (-2.1, -1.9)),
     ((0, 0), (-0.05, 0.05))],
)  # fmt: skip
def test_widen_equal__moves_only_equal_limits(limits, expected):
    assert widen_equal(*limits) == pytest.approx(expected)


def test_rgba__keeps_grey_grey_and_hides_what_has_a_missing_colour():
    values = np.array([[[0.1] * 3, [0.2, 0.1, 0.05], [0.9] * 3, [0.1, np.nan, 0.1]]])
    image = rgba(values, [(0.0, 0.4)] * 3)[0]
    grey = round(255 * 0.25 ** (1 / GAMMA))
    assert image.tolist()[0] == [grey, grey, grey, 255]
    assert image[1, 0] > image[1, 1] > image[1, 2]
    assert image.tolist()[2:] == [[255] * 4, [0] * 4]


def test_closeup__has_the_colours_of_the_map(tmp_path):
    write_case(tmp_path, shape=(40, 50), points=0, indices=(), models=("lloyd",))
    results = open_results(tmp_path)
    window = CloseUp(slice(10, 20), slice(5, 25), (515005, 515025, 4525980, 4525990))
    whole = quicklook_figure(results).axes[0].images[0].get_array()
    part = close_up_figure(results, "lloyd", window).axes[0].images[0].get_array()
    np.testing.assert_array_equal(part, whole[10:20, 5:25])


@pytest.mark.parametrize(("shape", "is_there"), [((8, 9), False), ((10, 20), True)])
def test_closeup__is_not_the_map_once_more(tmp_path, monkeypatch, shape, is_there):
    monkeypatch.setattr("hyperhpc.report.plots.maps.SIDE_PX", 10)
    write_case(tmp_path, shape=shape, points=0, indices=(), models=("lloyd",))
    results = open_results(tmp_path)
    closeup = choose_close_up(results, "lloyd")
    assert (closeup is not None) == is_there
    drawn = [figure.name for figure in draw_figures(results, [], has_index_maps=False)]
    assert ("closeup_lloyd" in drawn) == is_there


@pytest.mark.slow
def test_closeup__is_where_the_variety_is_and_shows_those_pixels(tmp_path):
    write_case(tmp_path, shape=(700, 1300), points=0, indices=("ndvi",), models=("lloyd",))
    results = open_results(tmp_path)
    closeup = choose_close_up(results, "lloyd")
    labels = results.labels("lloyd", closeup.rows, closeup.cols)
    assert labels.shape == (500, 500)
    assert (labels != 255).mean() > 0.95
    left, right, bottom, top = closeup.extent
    assert (left, top) == (515000 + closeup.cols.start, 4526000 - closeup.rows.start)
    assert (right - left, top - bottom) == (500, 500)
    values, extent = closeup.colour(results.pyramid)
    assert values.shape == (500, 500, 3)
    assert extent == pytest.approx(closeup.extent)
    np.testing.assert_array_equal(np.isfinite(values[..., 0]), labels != 255)


def test_measure_index__ranges_are_robust_and_a_diverging_one_is_centred(tmp_path):
    write_case(tmp_path, shape=(60, 60), points=0, indices=("ndvi", "cai"))
    results = open_results(tmp_path)
    ndvi, cai = (measure_index(results, e) for e in results.computed)
    values = results.pyramid.index("ndvi")
    red, _, _, near = np.moveaxis(results.pyramid.quicklook((0, 1, 2, 3)), -1, 0)
    is_land = (near >= 0.05) & (near >= red)
    assert 0 < np.isfinite(near[~is_land]).sum() < is_land.sum()
    assert ndvi.limits == pytest.approx(np.nanpercentile(values[is_land], (2, 98)))
    assert cai.limits[0] == -cai.limits[1]
    assert ndvi.extend == "both"
    np.testing.assert_array_equal(ndvi.image[..., 3] == 0, np.isnan(values))
    assert ndvi.n_missing == np.isnan(values).sum()


@pytest.mark.parametrize(
    ("values", "is_land", "entry", "expected"),
    [
        ([0.2, 0.4, 9.0], None, {"range": [0.0, 1.0]}, (0.208, 1.0)),
        ([5.0, 6.0, 7.0], None, {"range": [0.0, 1.0]}, (5.04, 6.96)),  # the range says nothing
        ([0.2, 0.4, -9.0], [1, 1, 0], {}, (0.204, 0.396)),
        ([0.2, 0.4, 0.6], [0, 0, 0], {}, (0.208, 0.592)),  # no land at all
        ([-0.3, 0.1, 0.1], None, {"range": [-0.1, 0.5], "diverging": True}, (-0.1, 0.1)),
    ],
)
def test_limits__of_an_index_are_those_of_land_within_its_range(values, is_land, entry, expected):
    drawn = np.array([[*values, np.nan]], np.float32)
    land = None if is_land is None else np.array([[*is_land, 0]], bool)
    assert _limits(drawn, land, entry) == pytest.approx(expected, rel=1e-6)


def test_measure_index__takes_the_runs_own_count_of_missing_pixels(tmp_path):
    write_case(tmp_path, shape=(60, 60), points=0, indices=("ndvi",))
    results = open_results(tmp_path)
    results.run["pixels"]["missing"] = {"ndvi": 1234}
    index = measure_index(results, results.computed[0])
    assert index.missing_words == "1\u202f234 pixels without value"
    assert index.share_missing == pytest.approx(1234 / 3600)


@pytest.mark.parametrize("side", [30, 90, 700])
@pytest.mark.slow
def test_maps__have_ticks_in_km_whatever_their_size(tmp_path, side):
    write_case(tmp_path, shape=(side, side), points=0, indices=("cai",), models=("lloyd",))
    results = open_results(tmp_path)
    figure = cluster_figure(results, "lloyd", None)
    axis = figure.axes[0].xaxis
    words = [label.get_text().replace("\u202f", "") for label in axis.get_majorticklabels()]
    assert len(words) >= 2
    names = [text.get_text() for text in figure.texts]
    assert names.count("Easting (km)") == names.count("Northing (km)") == 1
    at = axis.get_majorticklocs()
    shown = [float(word) for word in words]
    np.testing.assert_allclose(shown, at / 1000, atol=1e-9)
    if side == 30:
        assert at.tolist() == [515000, 515010, 515020, 515030]


def test_map__without_georeference_counts_rows_from_above():
    sheet = Sheet(4.0, 4.0)
    crs = replace(NO_CRS, n_rows=50)  # the scene; the map shows its rows 10 to 40
    image, view = np.zeros((30, 20, 4), np.uint8), (0.0, 20.0, 10.0, 40.0)
    ax = sheet.map(1, 1, 2, 3, image, view, crs, view=view, is_named=True)
    rows = [float(label.get_text()) for label in ax.get_yticklabels()]
    assert rows == [50 - y for y in ax.get_yticks()]
    assert {10.0, 40.0} <= set(rows)
    assert [text.get_text() for text in sheet.figure.texts] == ["Column (pixels)", "Row (pixels)"]


@pytest.mark.parametrize(
    ("epsg", "names"),
    [
        (32613, ("Easting (km)", "Northing (km)")),
        (4326, ("Longitude (°)", "Latitude (°)")),
        (None, ("x (unit unknown)", "y (unit unknown)")),
    ],
)
def test_axis_names__say_what_the_coordinates_are(tmp_path, epsg, names):
    write_case(tmp_path, shape=(8, 9), points=0, epsg=epsg, indices=(), models=())
    results = open_results(tmp_path)
    assert results.crs.axis_names == names
    pixels = replace(results, run=results.run | {"scene": {
        "shape": [8, 9, 426], "bounds": [0.0, 0.0, 9.0, 8.0], "epsg": epsg}})  # fmt: skip
    assert pixels.crs.n_rows == (8 if epsg is None else None)


@pytest.mark.slow
def test_maps_of_indices__say_what_values_are_made_of(tmp_path):
    write_case(tmp_path, shape=(30, 30), points=0, indices=("cai",), models=())
    results = open_results(tmp_path)
    index = measure_index(results, results.computed[0])
    for figure in (index_figure(results, index), indices_figure(results, [index])):
        FigureCanvasAgg(figure).draw()
        (unit,) = [text for text in figure.texts if text.get_text() == "reflectance"]
        box, bar = unit.get_window_extent(), figure.axes[1].get_tightbbox()
        assert not box.overlaps(bar)
        assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("clusters", [2, 8, 30])
@pytest.mark.slow
def test_cluster_spectra__no_line_lies_under_the_key(tmp_path, clusters):
    write_case(tmp_path, points=0, indices=("ndvi",), models=("lloyd",), clusters=clusters)
    figure = cluster_spectra_figure(open_results(tmp_path), "lloyd")
    FigureCanvasAgg(figure).draw()
    chart = figure.axes[0]
    key = chart.get_legend().get_window_extent()
    assert len(chart.get_legend().get_texts()) == clusters
    assert not key.overlaps(chart.get_window_extent())
    assert key.x1 <= figure.bbox.x1
    assert key.y0 >= figure.axes[1].get_window_extent().y1


@pytest.mark.parametrize(("width", "bands"), [(1, 3), (40, 3), (257, 4)])
def test_encode_png__is_read_back_as_it_was(width: int, bands: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (30, width, bands), dtype=np.uint8)
    with Image.open(io.BytesIO(encode_png(pixels, 300, "Karte, 5 µm"))) as image:
        image.verify()  # the checksums
    with Image.open(io.BytesIO(encode_png(pixels, 300, "Karte, 5 µm"))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels[..., :3])
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.info["Description"] == "Karte, 5 µm"


def test_page__shrinks_pictures_until_they_fit(monkeypatch):
    monkeypatch.setattr("hyperhpc.report.pictures.BUDGET", 300_000)
    assert BUDGET > 300_000
    noise = np.random.default_rng(0).integers(0, 255, (600, 600, 3), dtype=np.uint8)
    words = ("a", "quicklook", "", "")
    lossy = Picture(*words, encode_webp(Image.fromarray(noise)), "webp", 600, 600)
    exact = Picture(*words, encode_png(noise, 300, ""), "png", 600, 600)
    pictures = [lossy, lossy, exact]
    small = within_budget(pictures)
    assert sum(len(p.data) for p in small) <= 300_000 < sum(len(p.data) for p in pictures)
    assert all(p.width == 600 for p in small)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f.number(1234567.891, 1), "1\u202f234\u202f567.9"),
        (f.number(-0.001, 2), "0.00"),
        (f.number(-12.5, 1), "\u221212.5"),
        (f.number(None), "\u2013"),
        (f.number(float("nan")), "\u2013"),
        (f.significant(0.0073700), "0.00737"),
        (f.significant(1234.5), "1\u202f234"),
        (f.significant(1e-9), "1.00e\u22129"),
        (f.percent(0.00001), "<\u202f0.1\u202f%"),
        (f.score(0.99987), ">\u202f0.999"),
        (f.score(1.0), "1.000"),
        (f.percent(0.5), "50.0\u202f%"),
        (f.area(0.0035), "35.0\u202fm²"),
        (f.area(90), "90.00\u202fha"),
        (f.area(15_776.1), "157.8\u202fkm²"),
        (f.duration(4.021), "4.02\u202fs"),
        (f.duration(185), "3\u202fmin 05\u202fs"),
        (f.duration(7620), "2\u202fh 07\u202fmin"),
        (f.size(1536), "1.50\u202fKiB"),
        (f.windows([[0, 400], [1340, 1445], [2450, None]]),
         "\u2264\u202f400, 1340\u20131445, \u2265\u202f2450\u202fnm"),
        (f.windows([]), "none"),
        (f.slug("My Model/2"), "my-model-2"),
        (f.short_count(12_345), "12.3\u202fk"),
        (f.formula_text("R(858.6) - 2*R(550)"), "R$_{858.6}$ \u2212 2\u00b7R$_{550}$"),
        (f.formula_text("R(859) - 2*R(550)"), "R₈₅₉ \u2212 2\u00b7R₅₅₀"),
    ],
)  # fmt: skip
def test_formats__numbers_as_people_read_them(text, expected):
    assert text == expected


def test_describe_crs__metres_degrees_feet_and_nothing():
    assert describe_crs(32613).kind == "projected"
    assert describe_crs(4326).is_degrees
    assert describe_crs(2227).unit_m == pytest.approx(0.3048, rel=1e-4)
    assert describe_crs(None).kind == "unknown"
    assert describe_crs(999_999).label == "EPSG:999999"
