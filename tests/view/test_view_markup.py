"""The words on the viewer's page."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from cli_case import call
from hyperhpc.results import open_results
from hyperhpc.view import markup
from hyperhpc.view.layers import MapLayers
from hyperhpc.view.points import Point, read_point, spectra_csv
from hyperhpc.view.viewed_run import ViewedRun, open_viewed_run
from run_case import RunCase


@pytest.fixture(scope="module")
def viewed(run_case: RunCase, tmp_path_factory: pytest.TempPathFactory) -> ViewedRun:
    return open_viewed_run(run_case.out, run_case.scene, tmp_path_factory.mktemp("scratch"))


def point(**values: object) -> Point:
    known: dict = {
        "x": 1.5, "y": 2.5, "row": 0, "col": 1, "labels": {}, "values": {},
        "wavelength_nm": np.array([500.0, 600.0]), "reflectance": np.array([0.25, np.nan]),
    }  # fmt: skip
    return Point(**known | values)


def test_heading__a_name_is_text_whatever_is_in_it(run_case: RunCase) -> None:
    results = open_results(run_case.out)
    results.run["scene"] = {"path": "/data/<script>alert(1)</script>", "epsg": 32613}
    shown = markup.heading(results, ["<b>odd</b> note"])
    assert "<script>" not in shown
    assert "<b>" not in shown
    assert "160 &times; 200 pixels" in shown
    assert "EPSG:32613" in shown


def test_index_legend__has_the_limits_of_the_report(viewed: ViewedRun) -> None:
    measured = MapLayers(viewed).index_map("cai")
    assert measured.limits
    assert measured.limits[0] == -measured.limits[1]  # zero divides two meanings
    shown = markup.index_legend(measured)
    assert "linear-gradient" in shown
    assert ">0<" in shown
    assert "R(2100)" in shown


def test_cluster_legend__names_each_cluster_once(viewed: ViewedRun, run_case: RunCase) -> None:
    shown = markup.cluster_legend(viewed.results, "lloyd")
    pixels = run_case.json("clusters")["models"]["lloyd"]["pixels"]
    assert shown.count("swatch") == len(pixels) == 8
    assert f"{100 * pixels[0] / sum(pixels):.1f}" in shown


def test_point_colours__are_apart_and_show_on_paper() -> None:
    colours = markup.point_colours()
    assert len(set(colours)) == len(colours) == 10


def test_read_point__outside_is_none_and_no_data_says_so(
    viewed: ViewedRun, run_case: RunCase
) -> None:
    xmin, ymin, xmax, ymax = viewed.bounds
    for x, y in ((xmin - 0.1, ymin + 1), (xmax + 0.1, ymin + 1), (xmin + 1, ymax + 0.1)):
        assert read_point(viewed, x, y) is None
    row, col = (int(n) for n in np.argwhere(~run_case.is_valid)[0])
    found = read_point(viewed, xmin + col + 0.3, ymax - row - 0.7)
    assert found is not None
    assert (found.row, found.col) == (row, col)
    assert (found.x, found.y) == (xmin + col + 0.5, ymax - row - 0.5)
    assert set(found.labels.values()) == {None}
    assert np.isnan(list(found.values.values())).all()
    assert found.reflectance.size == 0
    assert "is no-data" in found.problem
    assert "is no-data" in markup.points_table(viewed.results, [found])


def test_spectra_csv__leaves_out_what_has_none(viewed: ViewedRun) -> None:
    bare = point(wavelength_nm=np.empty(0), reflectance=np.empty(0))
    assert spectra_csv([bare]) == spectra_csv([]) == ""
    expected = "wavelength_nm,1.5_2.5\n500.000,0.25\n600.000,\n"
    assert spectra_csv([bare, point()]) == expected


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_read_point__of_a_neon_tile_is_what_the_file_holds(
    shared_data: Path, tmp_path: Path
) -> None:
    scene = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    if not scene.exists():
        pytest.skip(f"a real scene is missing: {scene}")
    words = "--workers 1 --models lloyd --clusters 3".split()
    assert call("run", scene, tmp_path / "out", *words).code == 0
    found = read_point(open_viewed_run(tmp_path / "out", None, tmp_path), 257012.2, 4111985.9)
    assert found is not None
    with h5py.File(scene) as file:
        stored = file["SJER/Reflectance/Reflectance_Data"][found.row, found.col] / 10000
        nm = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][()]
    assert (found.x, found.y) == (257012.5, 4111985.5)
    is_there = ~np.isnan(found.reflectance)
    np.testing.assert_allclose(found.wavelength_nm, nm)
    np.testing.assert_allclose(found.reflectance[is_there], stored[is_there])
    assert is_there.mean() > 0.8
