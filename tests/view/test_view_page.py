"""The viewer's page in a real browser, its numbers against the stores."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from browser_case import Browser, Served, browser, served, wait_for
from cli_case import call
from hyperhpc.report.style import cluster_colours
from run_case import RunCase

pytestmark = pytest.mark.browser

#: A pixel of the scene of the run, and its centre.
ROW, COL = 80, 100


@pytest.fixture(scope="module")
def page(run_case: RunCase) -> Iterator[Served]:
    # Whatever the environment says, no script comes from elsewhere
    with served(run_case.out, BOKEH_RESOURCES="cdn") as running:
        yield running


@pytest.fixture(scope="module")
def window(page: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        found.open(page.url)
        yield found


@pytest.fixture
def fresh(window: Browser, page: Served) -> Browser:
    window.open(page.url)
    return window


def centre(row: int, col: int) -> tuple[float, float]:
    return 517000 + col + 0.5, 4526000 - row - 0.5


def image(page: Browser, name: str) -> dict[str, list[float]]:
    """Colours and place of a picture on the map."""
    (found,) = page.driver.execute_script(
        """
        const map = Bokeh.documents[0].get_model_by_name("map");
        const sources = map.renderers.map((r) => r.data_source);
        const d = sources.find((s) => s.name == arguments[0]).data;
        return [d.image.length ? {image: Array.from(d.image[0]), rows: d.image[0].shape[0],
                                  x: d.x[0], y: d.y[0], dw: d.dw[0], dh: d.dh[0]} : null];
        """,
        name,
    )
    return found


def test_page__opens_with_the_whole_area_in_true_colour(fresh: Browser) -> None:
    assert fresh.driver.title == "scene.zarr - hyperhpc"
    assert fresh.ask("layer", "m.value") == "rgb"
    picture = image(fresh, "base")
    assert (picture["x"], picture["y"]) == (517000, 4525840)
    assert (picture["dw"], picture["dh"]) == (200, 160)
    start, end = fresh.ask("map", "[m.x_range.start, m.x_range.end]")
    assert start < 517000
    assert end > 517200
    width, height = fresh.ask("map", "[m.inner_width, m.inner_height]")
    low, high = fresh.ask("map", "[m.y_range.start, m.y_range.end]")
    assert (end - start) / width == pytest.approx((high - low) / height)
    assert fresh.errors() == []


def test_page__zoomed_in_shows_the_window_of_the_store(fresh: Browser, run_case: RunCase) -> None:
    fresh.choose("Clusters, lloyd")
    wait_for(lambda: image(fresh, "top"))
    fresh.zoom_in(*centre(ROW, COL), times=6)

    def is_close() -> dict[str, list[float]] | None:
        shown, (start, end) = (
            image(fresh, "top"),
            fresh.ask("map", "[m.x_range.start, m.x_range.end]"),
        )
        return (
            shown
            if shown["dw"] < 60 and shown["x"] <= start and shown["x"] + shown["dw"] >= end
            else None
        )

    shown = wait_for(is_close)
    assert fresh.ask("status", "m.text") == "Shown from results.zarr, every pixel"
    rows, cols = int(shown["rows"]), int(shown["dw"])
    first_row, first_col = round(4526000 - shown["y"] - shown["dh"]), round(shown["x"] - 517000)
    labels = run_case.results["cluster"].sel(model="lloyd").values
    window = labels[first_row : first_row + rows, first_col : first_col + cols]
    table = np.zeros((256, 4), np.uint8)
    table[:8, :3] = np.round(np.array(cluster_colours(8)) * 255)
    table[:8, 3] = 255
    sent = np.array(shown["image"], dtype=np.uint32).view(np.uint8).reshape(rows, cols, 4)
    np.testing.assert_array_equal(sent[::-1], table[window])
    assert rows < 160
    assert len(np.unique(window)) > 1


def edges(page: Browser) -> list[float]:
    """x0, x1, y0, y1 of what the map shows."""
    return page.ask("map", "[m.x_range.start, m.x_range.end, m.y_range.start, m.y_range.end]")


def unit(page: Browser) -> tuple[float, float]:
    """Metres of a pixel of the screen, across and down."""
    x0, x1, y0, y1 = edges(page)
    width, height = page.ask("map", "[m.inner_width, m.inner_height]")
    return (x1 - x0) / width, (y1 - y0) / height


def test_page__pan_resize_and_back_to_the_whole(fresh: Browser) -> None:
    whole = edges(fresh)
    fresh.zoom_in(*centre(ROW, COL), times=3)
    wait_for(lambda: image(fresh, "base")["dw"] < 200)
    before, scale = edges(fresh), unit(fresh)
    fresh.drag(*centre(ROW, COL), right=-120, down=0)
    wait_for(lambda: edges(fresh)[0] > before[0])
    after = edges(fresh)
    assert after[0] - before[0] == pytest.approx(120 * scale[0], rel=0.05)
    assert after[2:] == pytest.approx(before[2:])
    wait_for(lambda: sum(image(fresh, "base")[k] for k in ("x", "dw")) >= min(after[1], 517200))

    fresh.driver.set_window_size(1100, 800)
    try:
        wait_for(lambda: edges(fresh)[1] - edges(fresh)[0] < after[1] - after[0] - 10)
        wait_for(lambda: unit(fresh) == pytest.approx(scale, rel=1e-3))
    finally:
        fresh.driver.set_window_size(1440, 900)
    wait_for(lambda: edges(fresh) == pytest.approx(after, abs=0.5))
    fresh.find("button", "Whole area").click()
    wait_for(lambda: edges(fresh) == pytest.approx(whole, abs=0.5))


@pytest.mark.smoke
def test_page__click_shows_the_spectrum_of_the_scene(fresh: Browser, run_case: RunCase) -> None:
    fresh.click_map(*centre(ROW, COL))
    wait_for(lambda: fresh.ask("spectra", "m.data.name.length"))
    nm, reflectance = (
        np.array(fresh.ask("spectra", f"Array.from(m.data.{name}[0])"), dtype=float)
        for name in ("nm", "reflectance")
    )
    is_band = ~np.isnan(nm)
    (x,), (y,) = fresh.ask("marks", "[m.data.x, m.data.y].map((v) => Array.from(v))")
    row, col = int(4526000 - y), int(x - 517000)
    assert abs(row - ROW) <= 1
    assert abs(col - COL) <= 1
    np.testing.assert_allclose(nm[is_band], run_case.wavelength_nm[run_case.good])
    np.testing.assert_allclose(
        reflectance[is_band], run_case.dn[row, col, run_case.good] / 10000, rtol=1e-12
    )
    assert np.isnan(reflectance[~is_band]).all()
    assert (~is_band).sum() == 3  # where the line breaks: two water windows, and its end

    label = int(run_case.results["cluster"].sel(model="lloyd").values[row, col])
    mean = np.array(fresh.ask("means", "Array.from(m.data.reflectance[0])"), dtype=float)
    expected = run_case.json("clusters")["models"]["lloyd"]["mean"][label]
    np.testing.assert_allclose(mean[~np.isnan(mean)], expected)

    text = " ".join(re.sub("<[^>]*>", " ", fresh.ask("table", "m.text")).split())
    assert f"row, column {row}, {col} " in text
    assert re.search(rf"lloyd C{label}\b", text)
    ndvi = float(run_case.results["indices"].sel(index="ndvi").values[row, col])
    shown = re.search(r"NDVI ([\u2212\d.]+)", text)
    assert shown
    assert float(shown[1].replace("\u2212", "-")) == pytest.approx(ndvi, rel=1e-3)


def test_page__saves_the_spectra_of_all_points_and_clears(
    fresh: Browser, run_case: RunCase
) -> None:
    places = [centre(ROW, COL), centre(60, 60)]
    for count, place in enumerate(places, 1):
        fresh.click_map(*place)
        wait_for(lambda count=count: fresh.ask("spectra", "m.data.name.length") == count)
    fresh.find("button", "Save spectra").click()
    file = fresh.downloads / "spectra.csv"
    wait_for(file.exists)
    xs, ys = fresh.ask("marks", "[m.data.x, m.data.y].map((v) => Array.from(v))")
    words = [w for x, y in zip(xs, ys, strict=True) for w in ("--x", str(x), "--y", str(y))]
    assert file.read_text("utf-8") == call("spectrum", run_case.scene, *words).out
    fresh.find("button", "Clear").click()
    wait_for(lambda: not fresh.ask("spectra", "m.data.name.length"))
    assert fresh.ask("save", "m.disabled")
    assert "Click a pixel" in fresh.ask("table", "m.text")


def test_page__opacity_shows_true_colour_below(fresh: Browser) -> None:
    fresh.choose("NDVI")
    wait_for(lambda: image(fresh, "top") and not image(fresh, "base"))
    assert "Normalized difference vegetation index" in fresh.ask("legend", "m.text")
    slider = fresh.find(".noUi-handle")
    slider.send_keys("\ue012" * 4)  # the arrow to the left
    wait_for(lambda: image(fresh, "base"))
    assert fresh.ask("opacity", "m.value") == pytest.approx(0.8)


def test_page__asks_nobody_but_its_own_server(window: Browser, page: Served) -> None:
    window.requests()
    window.open(page.url)
    window.choose("Colour infrared")
    wait_for(lambda: image(window, "top"))
    asked = [url for url in window.requests() if not url.startswith(("data:", "blob:"))]
    own = page.url.removeprefix("http://")
    assert any(url.startswith("ws://") for url in asked)
    assert any("static/js/bokeh" in url for url in asked)
    assert [url for url in asked if url.partition("://")[2].find(own) != 0] == []


def test_page__without_its_scene_says_so(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    run = json.loads((out / "run.json").read_text("utf-8"))
    run["scene"]["path"] = "gone.zarr"
    (out / "run.json").write_text(json.dumps(run), "utf-8")
    with served(out) as running, browser(tmp_path) as found:
        found.open(running.url)
        assert "gone.zarr does not exist" in found.ask("head", "m.text")
        found.click_map(*centre(ROW, COL))
        wait_for(lambda: "Without the scene" in found.ask("table", "m.text"))
        assert "C" in found.ask("table", "m.text")
        assert found.ask("save", "m.disabled")
        assert running.stop()[:2] == (0, "")  # with a browser at it, too


def test_page__damaged_file_is_named_and_the_rest_is_shown(
    run_case: RunCase, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    for chunk in (out / "results.zarr" / "indices").glob("0.*"):
        chunk.write_bytes(chunk.read_bytes()[:-9])
    with served(out) as running, browser(tmp_path) as found:
        found.open(running.url)
        found.choose("NDVI")
        wait_for(lambda: "cannot be read" in found.ask("status", "m.text"))
        assert f"hyperhpc verify {out}" in found.ask("status", "m.text")
        found.choose("Clusters, minibatch")
        wait_for(lambda: image(found, "top"))
        assert found.ask("status", "m.text") == "Shown from results.zarr, every pixel"
        status, _, err = running.stop()
    assert status == 0
    assert "Traceback" not in err
