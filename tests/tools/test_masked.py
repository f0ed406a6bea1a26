"""Pixels that --where leaves out, wherever labels are read: report, exports, viewer, comparison."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
from matplotlib.colors import to_rgb
from rasterio.shutil import copy

from cli_case import call
from hyperhpc.compute.overview import _most_frequent, _split_squares
from hyperhpc.report import style
from hyperhpc.report.draw import draw_figures
from hyperhpc.report.page import render
from hyperhpc.report.plots.comparison import _recoloured
from hyperhpc.report.plots.maps import cluster_figure
from hyperhpc.results import RunResults, open_results
from hyperhpc.results.pyramid import TARGET_PX, _reduce_mode
from hyperhpc.schema import CLUSTER
from hyperhpc.tools.compare import compare
from hyperhpc.view import markup
from hyperhpc.view.layers import MapLayers
from hyperhpc.view.points import cluster_mean_curve, read_point
from hyperhpc.view.viewed_run import open_viewed_run
from run_case import CONDITIONS, RunCase

GREY = np.round(255 * np.array(to_rgb(style.NOT_CLUSTERED))).astype(int)


@pytest.fixture(scope="module")
def results(masked_run: RunCase) -> RunResults:
    return open_results(masked_run.out)


@pytest.fixture(scope="module")
def labels(masked_run: RunCase) -> np.ndarray:
    """uint8 (model, y, x)."""
    return masked_run.results["cluster"].values


@pytest.mark.workers
def test_report__draws_them_dark_and_counts_them(results: RunResults, labels: np.ndarray) -> None:
    figure = cluster_figure(results, "lloyd", None)
    assert figure is not None
    image = np.asarray(figure.axes[0].images[0].get_array())
    assert (image[labels[0] == 254] == [*GREY, 255]).all()
    assert (image[labels[0] == 255] == 0).all()
    masked, clustered = (labels[0] == 254).sum(), (labels[0] < 254).sum()
    said = [text.get_text() for ax in figure.axes for text in ax.texts]
    share = f"{100 * masked / (masked + clustered):.1f}\u202f%"
    assert f"not clustered, {share} of the data" in said
    captions = [drawn.caption for drawn in draw_figures(results, [], has_index_maps=False)]
    (caption,) = [text for text in captions if text.startswith("4 clusters of lloyd")]
    assert "Darker grey: not clustered, since (NDVI > 0.6 and R(860) > 0.2) and (" in caption


@pytest.mark.workers
def test_page__counts_each_condition(results: RunResults) -> None:
    page = render(results, [], [])
    counts = results.clusters["where"]
    for entry in counts["conditions"]:
        assert f"{entry['pixels']:,}".replace(",", "\u202f") in page
    assert "Clustered: all conditions hold" in page
    assert "valid pixels where (NDVI &gt; 0.6 and R(860) &gt; 0.2) and (" in page
    assert "Every valid pixel of the area where this holds was then given" in page
    assert "Pixels that are not clustered are in no row and no share" in page


@pytest.mark.workers
def test_export__names_and_colours_them(
    masked_run: RunCase, labels: np.ndarray, tmp_path: Path
) -> None:
    done = call("export", masked_run.out, tmp_path / "c.tif", "--what", "lloyd")
    path, qml, aux = map(Path, done.out.splitlines())
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), labels[0])
        assert file.colormap(1)[254] == (*GREY, 255)
        assert file.nodata == 255
    copy(path, tmp_path / "c.vrt", driver="VRT")
    names = ET.parse(tmp_path / "c.vrt").findall("VRTRasterBand/CategoryNames/Category")
    assert [names[k].text for k in (0, 3, 4, 254)] == ["C0", "C3", None, "not clustered"]
    *_, last = ET.parse(aux).iterfind(".//GDALRasterAttributeTable/Row")
    n = (labels[0] == 254).sum()
    assert [f.text for f in last.findall("F")] == ["254", "not clustered", *map(str, [*GREY, n])]
    *_, entry = ET.parse(qml).findall(".//paletteEntry")
    found = entry.get("value"), entry.get("color"), entry.get("label")
    assert found == ("254", style.NOT_CLUSTERED, "not clustered")


@pytest.mark.workers
def test_export__table_has_a_row_for_them(
    masked_run: RunCase, labels: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "c.csv"
    assert call("export", masked_run.out, path).code == 0
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["cluster"] for row in rows] == ["0", "1", "2", "3", "254"] * 2
    ndvi = masked_run.results["indices"].values[0].astype(float)
    for row, layer in ((rows[4], labels[0]), (rows[9], labels[1]), (rows[6], labels[1])):
        mine = layer == int(row["cluster"])
        assert int(row["pixels"]) == float(row["area_m2"]) == mine.sum()
        assert float(row["mean_ndvi"]) == pytest.approx(np.nanmean(ndvi[mine]), rel=1e-9)
        assert float(row["median_ndvi"]) == pytest.approx(np.nanmedian(ndvi[mine]), rel=1e-9)
    assert (rows[4]["share"], rows[4]["spectrum_pixels"]) == ("", "")
    assert sum(float(row["share"]) for row in rows[:4]) == pytest.approx(1)


@pytest.mark.workers
def test_view__says_that_a_pixel_is_not_clustered(
    masked_run: RunCase, labels: np.ndarray, tmp_path: Path
) -> None:
    viewed = open_viewed_run(masked_run.out, masked_run.scene, tmp_path)
    row, col = (int(n) for n in np.argwhere(labels[0] == 254)[0])
    xmin, _, _, ymax = viewed.bounds
    point = read_point(viewed, xmin + col + 0.5, ymax - row - 0.5)
    assert point is not None
    assert point.labels == {"lloyd": 254, "minibatch": 254}
    assert not cluster_mean_curve(viewed, "lloyd", 254)[0].size
    assert markup.points_table(viewed.results, [point]).count("not clustered") == 2
    legend = markup.cluster_legend(viewed.results, "lloyd")
    assert (legend.count("swatch"), legend.count("not clustered")) == (5, 1)
    layers = MapLayers(viewed)
    painted = layers.paint(layers.all["cluster:lloyd"], labels[:1])
    assert (painted[labels[0] == 254] == [*GREY, 255]).all()


@pytest.mark.workers
def test_compare__leaves_them_out(masked_run: RunCase, labels: np.ndarray, tmp_path: Path) -> None:
    facts, _ = compare(masked_run.out, masked_run.out)
    assert facts["pixels"]["both"] == (labels[0] < 254).sum()
    assert facts["pixels"]["neither"] == (labels[0] >= 254).sum()
    assert facts["where"] == [list(CONDITIONS)] * 2
    (pair,) = masked_run.json("clusters")["agreement"]
    assert facts["pairs"][1]["confusion"] == pair["confusion"]
    done = call("compare", masked_run.out, masked_run.out, "--figure", tmp_path / "c.png")
    assert done.code == 0, done.err
    assert "clustered in the second: where (NDVI > 0.6 and R(860) > 0.2) and (" in done.out


def test_recoloured__keeps_what_has_no_cluster() -> None:
    pair = {"matched": [[0, 1]], "confusion": [[1, 2], [0, 0]]}
    assert _recoloured(np.array([0, 1, 254, 255], np.uint8), pair).tolist() == [2, 0, 254, 255]


def test_overviews__take_them_for_labels() -> None:
    """Most of the pixels that have data decide; of equally many a cluster comes first."""
    square = np.full((4, 4), 255, np.uint8)
    square[0] = 254
    square[1, :3] = 7
    assert _most_frequent(_split_squares(square, CLUSTER)).tolist() == [[254]]
    square[1, 3] = 7
    assert _most_frequent(_split_squares(square, CLUSTER)).tolist() == [[7]]
    labels = np.full((2 * TARGET_PX, 2), 255, np.uint8)
    labels[0] = 254
    labels[2], labels[3] = (254, 1), (254, 1)
    labels[4:6] = (2, 1)
    found = _reduce_mode(labels, 8)[:4, 0]
    assert found.tolist() == [254, 1, 1, 255]
