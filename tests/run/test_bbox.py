"""Bounding boxes beyond the scene, and in the order of other programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window, from_bounds

import hyperhpc
from cli_case import call, check_refused
from hyperhpc.errors import ConfigError
from hyperhpc.rundir.bbox import check_order
from raster_case import write_envi

#: The small scene is 96 x 112 pixels of 1 m.
BOUNDS = "517000,4525904,517112,4526000"
BOX, R_ORDER = "517010,4525910,517050,4525950", "517010,517050,4525910,4525950"
CORNER = "516990,4525910,517050,4525950"


def words_of(command: str, scene: Path, out: Path) -> list[str | Path]:
    """A command that reads a scene, without its box."""
    return {
        "info": ["info", scene, "--json"],
        "plan": ["plan", scene, out, "--json"],
        "run": ["run", scene, out],
        "spectrum": ["spectrum", scene, "--x", "517030.5", "--y", "4525930.5", "--json"],
        "ingest": ["ingest", scene, out.with_suffix(".zarr")],
        "choose-k": ["choose-k", scene, "--k", "2..3"],
    }[command]


def box_in(hint: str) -> list[str]:
    (found,) = re.findall(r"(--bbox) (\S+)", hint)
    return list(found)


COMMANDS = ["info", "plan", "run", "spectrum", "ingest", "choose-k"]


@pytest.mark.parametrize("command", COMMANDS)
def test_bbox__in_the_order_of_r_is_refused_with_the_right_one(
    command: str, small_scene: Path, tmp_path: Path
) -> None:
    words = words_of(command, small_scene, tmp_path / "out")
    outcome = call(*words, "--bbox", R_ORDER)
    check_refused(outcome, 3, R_ORDER, BOUNDS, "only in the order xmin,xmax,ymin,ymax")
    assert box_in(outcome.hint) == ["--bbox", BOX]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["info", "plan", "spectrum"])
def test_bbox__the_hint_is_what_was_meant(command: str, small_scene: Path, tmp_path: Path) -> None:
    words = words_of(command, small_scene, tmp_path / "out")
    hint = call(*words, "--bbox", R_ORDER).hint
    done = call(*words, *box_in(hint))
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    if command != "spectrum":
        assert facts["shape"][:2] == [40, 40]


@pytest.mark.parametrize("command", COMMANDS)
def test_bbox__wholly_outside_names_the_extent(
    command: str, small_scene: Path, tmp_path: Path
) -> None:
    words = words_of(command, small_scene, tmp_path / "out")
    outcome = call(*words, "--bbox", "-117.2,40.5,-117.1,40.6")
    check_refused(outcome, 3, "-117.2,40.5,-117.1,40.6 lies outside the scene", BOUNDS, "EPSG:326")
    assert not list(tmp_path.iterdir())


def test_bbox__partly_outside_says_what_remains(small_scene: Path, tmp_path: Path) -> None:
    note = (
        f"The bounding box {CORNER} reaches beyond the scene, which spans {BOUNDS}; 40 x 50 pixels "
        "remain, which span 517000,4525910,517050,4525950."
    )
    for command in ("info", "plan"):
        words = words_of(command, small_scene, tmp_path / "out")
        facts = json.loads(call(*words, "--bbox", CORNER).out)
        assert note in facts["notes"]
        assert facts["shape"][:2] == [40, 50]
        within = json.loads(call(*words, "--bbox", BOX).out)["notes"]
        assert not [text for text in within if "bounding box" in text]
    done = call(*words_of("spectrum", small_scene, tmp_path), "--bbox", CORNER)
    assert done.code == 0
    assert f"note: {note}" in done.err


@pytest.mark.parametrize(
    "box", [BOUNDS, "516999.6,4525904,517112.4,4526000", "-inf,4525910,517050,inf"]
)
def test_bbox__of_the_whole_scene_has_no_note(box: str, small_scene: Path) -> None:
    done = call("info", small_scene, "--json", "--bbox", box)
    assert done.code == 0, done.err
    assert "bounding box" not in done.out


def test_bbox__reversed_corners_get_the_box_that_they_span(small_scene: Path) -> None:
    outcome = call("info", small_scene, "--bbox", "517050,4525950,517010,4525910")
    check_refused(outcome, 3, "reversed", "XMIN < XMAX")
    assert box_in(outcome.hint) == ["--bbox", BOX]
    outcome = call("info", small_scene, "--bbox", "517010,4525910,517010,4525950")
    check_refused(outcome, 3, "or empty", BOUNDS)


def test_bbox__from_a_call_and_a_file_is_checked_too(small_scene: Path, tmp_path: Path) -> None:
    numbers = [float(number) for number in R_ORDER.split(",")]
    with pytest.raises(ConfigError, match="xmin,xmax,ymin,ymax") as caught:
        hyperhpc.run(small_scene, tmp_path / "out", bbox=numbers)
    assert box_in(str(caught.value.hint)) == ["--bbox", BOX]
    (tmp_path / "run.toml").write_text(f"bbox = {numbers}\n")
    words = ("plan", small_scene, tmp_path / "out", "--config", tmp_path / "run.toml")
    check_refused(call(*words), 3, f"Give --bbox {BOX}")


@pytest.mark.parametrize(
    ("bounds", "box"),
    [
        ((140, -35, 141, -34), (140.2, 140.6, -34.8, -34.1)),  # degrees, southern: XMIN > XMAX
        ((-117, 40, -116, 41), (-116.9, -116.2, 40.1, 40.4)),
        ((-117, 40, -116, 41), (-117.4, -116.2, 40.1, 41.4)),  # partly outside
        ((10, 10.5, 11, 11.5), (10.1, 10.4, 11.1, 11.4)),  # degrees that are almost the same
    ],
)
def test_check_order__finds_the_order_of_r(
    bounds: tuple[float, ...], box: tuple[float, float, float, float]
) -> None:
    turned = ",".join(map(str, (box[0], box[2], box[1], box[3])))
    with pytest.raises(ConfigError) as caught:
        check_order(box, bounds)
    assert caught.value.hint == f"Give --bbox {turned}"


def test_check_order__takes_every_box_that_may_be_meant() -> None:
    random = np.random.default_rng(0)
    for _ in range(500):  # numbers of pixels, of degrees, of metres; boxes that overlap the scene
        x, y = random.uniform(0, random.choice([1, 100, 1e6, 5e6]), 2)
        wide, high = random.uniform(1, 1000, 2)
        inside = [
            *np.sort(random.uniform(x, x + wide, 2)),
            *np.sort(random.uniform(y, y + high, 2)),
        ]
        check_order((inside[0], inside[2], inside[1], inside[3]), (x, y, x + wide, y + high))
    check_order((500000, 4500000, 600000, 4600000), (517000, 4525904, 517112, 4526000))
    check_order((0, 0, 1e7, 1e7), (517000, 4525904, 517112, 4526000))


def test_bbox__gives_the_pixels_that_rasterio_gives(tmp_path: Path) -> None:
    dn = np.random.default_rng(1).integers(1, 9000, (40, 50, 6)).astype(np.int16)
    scene = write_envi(tmp_path / "s.img", dn)
    box = (-5.0, 10.0, 20.0, 30.0)  # without a reference system: x 0-50, y 0-40
    facts = json.loads(call("info", scene, "--json", "--bbox", ",".join(map(str, box))).out)
    window = from_bounds(*box, rasterio.Affine(1, 0, 0, 0, -1, 40))
    window = window.intersection(Window(0, 0, 50, 40))
    assert facts["shape"][:2] == [window.height, window.width]
    assert "20 x 20 pixels remain" in facts["notes"][-1]


def test_outcome__of_a_run_beyond_the_scene_is_in_its_record(
    small_scene: Path, tmp_path: Path
) -> None:
    from hyperhpc.config import load_config
    from hyperhpc.pipeline.header import run_header
    from hyperhpc.pipeline.prepare import prepare

    ctx = prepare(load_config(small_scene, tmp_path / "out", {"bbox": CORNER}))
    assert any("40 x 50 pixels remain" in text for text in run_header(ctx, "")["choices"])


@pytest.mark.parametrize("command", ["run", "plan", "spectrum"])
@pytest.mark.parametrize("how", ["option", "file"])
def test_bbox__refuses_a_point_outside(
    command: str, how: str, small_scene: Path, tmp_path: Path
) -> None:
    words = [command, small_scene, *([] if command == "spectrum" else [tmp_path / "out"])]
    outside = ["--point", "517100,4525990"]
    if how == "file":
        (tmp_path / "points.csv").write_text("x,y\n517030,4525930\n517100,4525990\n")
        outside = ["--points", str(tmp_path / "points.csv")]
    done = call(*words, "--bbox", BOX, "--point", "517030,4525930", *outside)
    check_refused(done, 3, "Point 517100,4525990", f"outside --bbox {BOX}")
    assert "leave --bbox out" in done.hint
    assert not (tmp_path / "out").exists()


def test_bbox__refuses_a_point_of_a_toml_outside(small_scene: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    box = "[517010, 4525910, 517050, 4525950]"
    config.write_text(f"bbox = {box}\npoints = [[517100, 4525990]]\n")
    done = call("run", small_scene, tmp_path / "out", "--config", config)
    check_refused(done, 3, "Point 517100,4525990", f"outside --bbox {BOX}")
