"""What the viewer shows, against the stores read directly."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from cli_case import call, check_refused, kill_in_classify
from hyperhpc.errors import ConfigError, IncompleteRunError
from hyperhpc.report.plots.index_maps import measure_index
from hyperhpc.report.style import cluster_colours
from hyperhpc.view.layers import MapLayers
from hyperhpc.view.levels import OVERSAMPLING, Viewport, choose_level, list_levels
from hyperhpc.view.viewed_run import ViewedRun, open_viewed_run
from run_case import RunCase


@pytest.fixture(scope="module")
def viewed(run_case: RunCase, tmp_path_factory: pytest.TempPathFactory) -> ViewedRun:
    return open_viewed_run(run_case.out, run_case.scene, tmp_path_factory.mktemp("scratch"))


def view_of(viewed: ViewedRun, rows: slice, cols: slice, screen: int = 400) -> Viewport:
    xmin, bottom, right, top = viewed.grid.bounds((rows.start, rows.stop), (cols.start, cols.stop))
    return Viewport(xmin, right, bottom, top, screen, screen)


def coarsened(viewed: ViewedRun, run_case: RunCase, folder: Path) -> ViewedRun:
    """The same run with its finest overview gone, as in a large one."""
    out = folder / "out"
    shutil.copytree(run_case.out, out)
    shutil.rmtree(out / "overview.zarr" / "1")
    (out / "overview.zarr" / ".zmetadata").unlink()
    (out / "checksums.json").unlink()
    return open_viewed_run(out, run_case.scene, folder)


def test_open_run__names_all_layers(viewed: ViewedRun, run_case: RunCase) -> None:
    names = [str(n) for n in run_case.results["index"].values]
    assert list(MapLayers(viewed).all) == [
        "rgb",
        "cir",
        *(f"index:{name}" for name in names),
        "cluster:lloyd",
        "cluster:minibatch",
    ]
    assert viewed.bounds == run_case.json("run")["area"]["bounds"]
    assert viewed.notes == ()


@pytest.mark.parametrize("name", ["indices", "cluster"])
def test_read__close_up_is_the_window_of_the_results(
    name: str, viewed: ViewedRun, run_case: RunCase
) -> None:
    layers = MapLayers(viewed)
    view = view_of(viewed, slice(31, 70), slice(50, 113))
    for layer in (item for item in layers.all.values() if item.variable == name):
        window = layers.read(layer, view)
        assert window is not None
        assert (window.step, window.source) == (1, "results.zarr")
        expected = run_case.results[name].values[layer.positions[0], 31:70, 50:113]
        np.testing.assert_array_equal(window.values[0], expected)
        left, bottom, width, height = window.extent
        assert (left, left + width) == (view.x0, view.x1)
        assert (bottom, bottom + height) == (view.y0, view.y1)


def test_read__far_away_is_an_overview_in_its_place(viewed: ViewedRun, run_case: RunCase) -> None:
    layers = MapLayers(viewed)
    view = view_of(viewed, slice(0, 160), slice(0, 200), screen=60)
    window = layers.read(layers.all["index:ndvi"], view)
    assert window is not None
    assert window.step > 1
    store = xr.open_zarr(
        run_case.out / "overview.zarr", group=str(window.step), mask_and_scale=False
    )
    np.testing.assert_array_equal(window.values[0], store["indices"].sel(index="ndvi").values)
    centres = window.extent[0] + window.extent[2] * (np.arange(store.x.size) + 0.5) / store.x.size
    np.testing.assert_allclose(centres, store.x.values, rtol=0, atol=1e-6)


@pytest.mark.parametrize("screen", [20, 47, 90, 300])
def test_choose_level__stays_within_four_times_the_screen(screen: int, viewed: ViewedRun) -> None:
    levels = list_levels(viewed, "cluster")
    for side in (10, 40, 80, 160):
        view = view_of(viewed, slice(0, side), slice(0, side), screen)
        chosen = choose_level(levels, view)
        assert chosen is not None
        level, rows, cols = chosen
        n_pixels = (rows.stop - rows.start) * (cols.stop - cols.start)
        assert n_pixels <= OVERSAMPLING * screen**2 or level is levels[-1]
        finer = [other for other in levels if other.step < level.step]
        for other in finer:
            y, x = other.slices(view)
            assert (y.stop - y.start) * (x.stop - x.start) > OVERSAMPLING * screen**2


def test_read__outside_is_nothing(viewed: ViewedRun) -> None:
    layers = MapLayers(viewed)
    for layer in layers.all.values():
        assert layers.read(layer, Viewport(0, 50, 0, 50, 100, 100)) is None


def test_read__colours_come_from_the_scene_close_up(
    viewed: ViewedRun, run_case: RunCase, tmp_path: Path
) -> None:
    layers = MapLayers(coarsened(viewed, run_case, tmp_path))
    view = view_of(viewed, slice(20, 60), slice(100, 150))
    nearest = [int(np.abs(run_case.wavelength_nm - nm).argmin()) for nm in (860, 650, 550)]
    expected = run_case.dn[20:60, 100:150, nearest] / 10000.0
    expected[run_case.dn[20:60, 100:150, nearest] == -9999] = np.nan
    cir = layers.all["cir"]
    assert layers.is_slow(cir, view)
    window = layers.read(cir, view)
    assert window is not None
    assert window.source == "the scene"
    np.testing.assert_allclose(np.moveaxis(window.values, 0, -1), expected, rtol=1e-6)
    quick = layers.read(cir, view, skip_scene=True)
    assert quick is not None
    assert (quick.step, quick.source) == (4, "overview.zarr")


def test_paint__has_the_colours_of_the_report(viewed: ViewedRun, run_case: RunCase) -> None:
    layers = MapLayers(viewed)
    view = view_of(viewed, slice(0, 160), slice(0, 200))
    lloyd = layers.all["cluster:lloyd"]
    window = layers.read(lloyd, view)
    assert window is not None
    painted = layers.paint(lloyd, window.values)
    labels = run_case.results["cluster"].sel(model="lloyd").values
    for k, colour in enumerate(cluster_colours(8)):
        np.testing.assert_array_equal(
            np.unique(painted[labels == k], axis=0),
            [[*np.round(np.array(colour) * 255).astype(int), 255]],
        )
    assert (painted[labels == 255] == 0).all()

    ndvi = layers.all["index:ndvi"]
    window = layers.read(ndvi, view)
    assert window is not None
    painted = layers.paint(ndvi, window.values)
    entry = next(e for e in run_case.json("run")["indices"]["computed"] if e["name"] == "ndvi")
    report = measure_index(viewed.results, entry)
    assert report is not None
    assert report.limits == layers.index_map("ndvi").limits
    np.testing.assert_array_equal(painted, report.image)


def test_fitted__keeps_the_middle_and_squares_the_pixels() -> None:
    view = Viewport(10, 20, 100, 110, 800, 400).fitted()
    assert (view.x0, view.x1, view.y0, view.y1) == (5, 25, 100, 110)
    assert view.fitted() == view
    degrees = Viewport(10, 20, 60, 65, 400, 400).fitted(aspect=0.5)
    assert (degrees.x1 - degrees.x0) * 0.5 == degrees.y1 - degrees.y0


# --- runs that are not whole, scenes that are not there ---------------------------------


def test_open_run__without_its_scene_shows_the_overview(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    run = json.loads((out / "run.json").read_text("utf-8"))
    run["scene"]["path"] = str(tmp_path / "gone.zarr")
    (out / "run.json").write_text(json.dumps(run), "utf-8")
    found = open_viewed_run(out, None, tmp_path)
    assert found.scene is None
    (note,) = found.notes
    assert "gone.zarr does not exist" in note
    assert "--scene" in note
    assert "rgb" in MapLayers(found).all


def test_open_run__refuses_another_scene(
    run_case: RunCase, small_scene: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="is not the scene of this run"):
        open_viewed_run(run_case.out, small_scene, tmp_path)


def test_open_run__says_what_has_changed(run_case: RunCase, tmp_path: Path) -> None:
    out, scene = tmp_path / "out", tmp_path / "scene.zarr"
    shutil.copytree(run_case.out, out)
    shutil.copytree(run_case.scene, scene)  # with the times of its files
    run = json.loads((out / "run.json").read_text("utf-8"))
    run["scene"]["path"], run["complete"] = str(scene), False
    (out / "run.json").write_text(json.dumps(run), "utf-8")
    assert open_viewed_run(out, None, tmp_path).notes == (
        f"the run in {out} is not finished; all its maps are there",
    )
    for path in scene.rglob("zarr.json"):
        path.touch()
    found = open_viewed_run(out, None, tmp_path)
    assert found.scene is not None
    assert found.notes[1] == f"{scene} has changed since the run; spectra show what it holds now"


@pytest.mark.e2e
def test_open_run__unfinished_shows_the_tiles_that_are_there(
    small_scene: Path, tmp_path: Path
) -> None:
    options = "--memory-per-worker 1GiB --workers 1 --models lloyd".split()
    out = kill_in_classify(small_scene, tmp_path / "out", options)
    found = open_viewed_run(out, small_scene, tmp_path)
    (note,) = found.notes
    assert "is not finished; missing: " in note
    layers = MapLayers(found)
    labels = xr.open_zarr(out / "results.zarr", mask_and_scale=False)["cluster"].values[0]
    view = view_of(found, slice(0, 96), slice(0, 112))
    window = layers.read(layers.all["cluster:lloyd"], view)
    assert window is not None
    np.testing.assert_array_equal(window.values[0], labels)
    assert 0 < (labels != 255).mean() < 1
    far = layers.read(layers.all["rgb"], view)
    assert far is not None
    is_shown = np.isfinite(far.values).all(axis=0)
    assert 0 < is_shown.mean() < 1
    # A tile may have been written, and killed before it was recorded
    assert not (is_shown & (labels == 255)[:: far.step, :: far.step]).any()
    shutil.rmtree(out / "work" / "classify")
    with pytest.raises(IncompleteRunError, match="Nothing of"):
        open_viewed_run(out, small_scene, tmp_path)


def test_view__no_run_is_one_message(tmp_path: Path) -> None:
    check_refused(call("view", tmp_path), 3, "holds no run", f"hyperhpc run SCENE {tmp_path}")


def test_view__damaged_coordinates_are_one_message(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    (out / "overview.zarr" / "1" / "x" / "0").write_bytes(b"odd")
    check_refused(call("view", out), 7, "cannot be read", f"hyperhpc verify {out}")
