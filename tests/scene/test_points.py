"""Points are given in one way to every command: --point, --points and --point-crs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import pytest
import shapely

import hyperhpc
from cli_case import call, check_refused
from hyperhpc.compute.selection import NO_GEOMETRY
from hyperhpc.config import load_config
from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.prepare import prepare
from hyperhpc.results import open_results
from hyperhpc.scene import open_scene
from hyperhpc.tools.export.tables import write_points
from raster_case import write_envi
from report_case import write_case
from vector_case import geojson, write_vectors

#: Coordinates of the scene, and row and column of the pixel that holds them.
PLACES = [(517050.2, 4525950.9), (517060.7, 4525940.4), (517030.5, 4525930.5)]
PIXELS = [(49, 50), (59, 60), (69, 30)]
CRS = 32613


@pytest.fixture(scope="module")
def spectra(small_scene: Path) -> np.ndarray:
    """Reflectance at the places (point, band), from the array itself."""
    dn = open_scene(small_scene).read(slice(0, 96), slice(0, 112))
    return np.array([dn[row, col] / 10000 for row, col in PIXELS])


def to_crs(epsg: int) -> list[tuple[float, float]]:
    """The places in another CRS, by pyproj."""
    move = pyproj.Transformer.from_crs(CRS, epsg, always_xy=True).transform
    return [move(x, y) for x, y in PLACES]


def texts(places: list[tuple[float, float]]) -> list[str]:
    return [f"{x!r},{y!r}" for x, y in places]


def words_for(places: list[tuple[float, float]]) -> list[str]:
    return [word for text in texts(places) for word in ("--point", text)]


def table(path: Path, places: list[tuple[float, float]], names: str = "x,y") -> Path:
    """A table of plots a, b, c with a row without coordinates after the first."""
    rows = [f"{plot},{text}" for plot, text in zip("acd", texts(places), strict=True)]
    rows.insert(1, "b,NA,NA")
    path.write_text("\n".join([f"plot,{names}", *rows]) + "\n")
    return path


def found_by(command: str, scene: Path, folder: Path, words: list[Any]) -> tuple[list, list]:
    """States and spectra of the points that a command finds."""
    if command == "spectrum":
        done = call("spectrum", scene, *words, "--json")
        assert done.code == 0, done.err
        found = json.loads(done.out)
        return [s.get("state", "ok") for s in found], [s["reflectance"] for s in found]
    done = call("extract", scene, folder / "o.csv", *words)
    assert done.code == 0, done.err
    with (folder / "o.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    values = [[float(v) if v else None for n, v in r.items() if n[:3] == "nm_"] for r in rows]
    return [row["state"] for row in rows], values


WAYS = ["point", "point in degrees", "point in feet", "csv", "csv in degrees", "csv with crs",
        "gpkg", "geojson", "point and csv"]  # fmt: skip


def words_of(way: str, folder: Path) -> tuple[list[Any], list[int | None]]:
    """The options for a way, and the number of the place that each point is at."""
    own, degrees, feet = PLACES, to_crs(4326), to_crs(2232)
    with_gap = [0, None, 1, 2]
    east = table(folder / "east.csv", own, "easting,northing")
    long = table(folder / "long.csv", degrees, "Long,Lat")
    vectors = write_vectors(folder / "p.gpkg", [shapely.Point(*own[1]), None])
    web = geojson(folder / "p.geojson", *map(shapely.Point, degrees))
    return {
        "point": (words_for(own), [0, 1, 2]),
        "point in degrees": ([*words_for(degrees), "--point-crs", "EPSG:4326"], [0, 1, 2]),
        "point in feet": ([*words_for(feet), "--point-crs", "2232"], [0, 1, 2]),
        "csv": (["--points", east], with_gap),
        "csv in degrees": (["--points", long], with_gap),
        "csv with crs": (
            ["--points", table(folder / "feet.csv", feet), "--point-crs", "EPSG:2232"],
            with_gap,
        ),
        "gpkg": (["--points", vectors], [1, None]),
        "geojson": (["--points", web], [0, 1, 2]),
        "point and csv": (["--points", east, *words_for(own[2:])], [2, *with_gap]),
    }[way]


@pytest.mark.parametrize("command", ["spectrum", "extract"])
@pytest.mark.parametrize("way", WAYS)
def test_points__each_way_finds_the_same_pixels(
    way: str, command: str, small_scene: Path, spectra: np.ndarray, tmp_path: Path
) -> None:
    words, numbers = words_of(way, tmp_path)
    states, found = found_by(command, small_scene, tmp_path, words)
    assert states == [NO_GEOMETRY if n is None else "ok" for n in numbers]
    for values, number in zip(found, numbers, strict=True):
        expected = np.full(426, np.nan) if number is None else spectra[number]
        np.testing.assert_allclose(np.array(values, dtype=float), expected, atol=1e-9)


@pytest.mark.parametrize("way", WAYS)
def test_points__of_a_run_and_of_a_call_are_those_of_the_command(
    way: str, small_scene: Path, spectra: np.ndarray, tmp_path: Path
) -> None:
    words, numbers = words_of(way, tmp_path)
    options: dict[str, Any] = {"points": [w.split(",") for w in words if "," in str(w)]}
    options["points"] = [(float(x), float(y)) for x, y in options["points"]]
    for name, flag in (("points_file", "--points"), ("point_crs", "--point-crs")):
        options[name] = words[words.index(flag) + 1] if flag in words else None
    found = hyperhpc.spectrum(small_scene, **options)
    ctx = prepare(load_config(small_scene, tmp_path / "out", options))
    assert ctx.plan.options["points_file"] != (options["points_file"] is None)
    for point, entry, number in zip(found, ctx.spectra, numbers, strict=True):
        if number is None:
            assert (entry["state"], entry["x"], entry["row"]) == (NO_GEOMETRY, None, None)
            assert (point["row"], point["col"], str(point["state"].values)) == (-1, -1, NO_GEOMETRY)
            assert np.isnan(point["x"])
            assert np.isnan(point).all()
        else:
            assert (entry["row"], entry["col"]) == PIXELS[number] == (point["row"], point["col"])
            np.testing.assert_allclose(point, spectra[number])
            assert entry["x"] == float(point["x"]) == pytest.approx(PLACES[number][0], abs=1e-3)
            np.testing.assert_array_equal(entry["reflectance"], point)
    if "csv" in way:
        assert found["plot"].values[-4:].tolist() == list("abcd")
        assert [e.get("attributes") for e in ctx.spectra][-1] == {"plot": "d"}


@pytest.mark.parametrize("command", ["spectrum", "extract", "plan"])
@pytest.mark.parametrize(
    ("text", "words", "code", "parts"),
    [
        ("", [], 2, ["--point X,Y or --points FILE"]),
        ("", ["--point", "1"], 2, ["'1'", "2 numbers"]),
        ("", ["--point-crs", "EPSG:4326"], 2, ["--point X,Y or --points FILE"]),
        ("", ["--point", "1,2", "--point-crs", "EPSG:1"], 3, ["EPSG:1 is not a known", "4326"]),
        ("", ["--point", "1,2", "--point-crs", "EPSG:5703"], 3, ["EPSG:5703 is not a known"]),
        ("", ["--point", "40.8,-104.7", "--point-crs", "EPSG:4326"], 3, ["40.8,-104.7", "longit"]),
        ("x,y\n", ["--points", "FILE"], 3, ["holds no feature"]),
        ("lon,lat\n1,2\n", ["--points", "FILE", "--point-crs", "EPSG:32613"], 3, ["in degrees"]),
        ("a,b\n1,2\n", ["--points", "FILE"], 3, ["its columns are a, b"]),
    ],
)
def test_points__bad_ones_get_the_same_message_from_all_commands(
    command: str, text: str, words: list[str], code: int, parts: list[str],
    small_scene: Path, tmp_path: Path,
) -> None:  # fmt: skip
    file = tmp_path / "p.csv"
    file.write_text(text)
    if command == "plan" and "--point" not in words and "--points" not in words:
        if not words:
            return  # a run needs no points
        code = 3
    dest = {"extract": [tmp_path / "o.csv"], "plan": [tmp_path / "out"], "spectrum": []}[command]
    given = [str(file) if word == "FILE" else word for word in words]
    parts = [part.replace("40.8,-104.7", "outside WGS 84: 40.8, -104.7") for part in parts]
    check_refused(call(command, small_scene, *dest, *given), code, *parts)


def test_points__outside_are_refused_by_spectrum_and_run_and_kept_by_extract(
    small_scene: Path, tmp_path: Path
) -> None:
    file = table(tmp_path / "p.csv", [PLACES[0], (517300.5, 4525950.5), PLACES[1]])
    for words in (["spectrum", small_scene], ["plan", small_scene, tmp_path / "out"]):
        outcome = call(*words, "--points", file)
        check_refused(outcome, 3, "Point 517300.5,4525950.5 lies outside the scene, which spans")
    states, _ = found_by("extract", small_scene, tmp_path, ["--points", file])
    assert states == ["ok", NO_GEOMETRY, "outside", "ok"]


@pytest.mark.parametrize("way", ["--point", "--points"])
def test_points__in_degrees_without_a_crs_get_a_hint_that_works(
    way: str, small_scene: Path, tmp_path: Path
) -> None:
    places = to_crs(4326)
    words = (
        words_for(places) if way == "--point" else ["--points", table(tmp_path / "p.csv", places)]
    )
    outcome = call("spectrum", small_scene, *words)
    check_refused(outcome, 3, "lies outside the scene", "517000 to 517112")
    option, crs = outcome.hint.split()[1:3]
    done = call("spectrum", small_scene, *words, option, crs.rstrip(":"), "--json")
    found = json.loads(done.out)
    assert [(s["row"], s["col"]) for s in found if s["x"] is not None] == PIXELS
    for text in ("10,50", "-15,0", "180,90", "75,-90"):
        far = call("spectrum", small_scene, "--point", text)
        check_refused(far, 3, f"Point {text} lies outside the scene")
        assert far.hint == "Give a point inside it"


def test_points__areas_are_for_extract(small_scene: Path, tmp_path: Path) -> None:
    area = shapely.Point(*PLACES[0]).buffer(5)
    file = write_vectors(tmp_path / "p.gpkg", [area], "Polygon")
    outcome = call("spectrum", small_scene, "--points", file)
    check_refused(outcome, 3, "more than single points", "hyperhpc extract")
    file = table(tmp_path / "none.csv", PLACES)
    file.write_text("x,y\nNA,NA\n")
    check_refused(call("spectrum", small_scene, "--points", file), 3, "no point with coordinates")


def test_points__the_crs_of_a_file_is_its_own(small_scene: Path, tmp_path: Path) -> None:
    points = [shapely.Point(*place) for place in PLACES]
    words = ["--point-crs", "EPSG:32613"]
    file = write_vectors(tmp_path / "declared.gpkg", points)
    outcome = call("spectrum", small_scene, "--points", file, *words)
    check_refused(outcome, 3, "declares its own reference system", "Leave out --point-crs")
    file = write_vectors(tmp_path / "none.shp", points)
    file.with_suffix(".prj").unlink()
    outcome = call("spectrum", small_scene, "--points", file)
    check_refused(outcome, 3, "has no coordinate reference system", "or give --point-crs")
    assert call("spectrum", small_scene, "--points", file, *words).code == 0


def test_points__layer_is_that_of_points_if_they_can_have_one(
    small_scene: Path, tmp_path: Path
) -> None:
    file = write_vectors(tmp_path / "p.gpkg", [shapely.Point(*PLACES[0])], layer="trees")
    write_vectors(file, [shapely.Point(*PLACES[1])], layer="shrubs", append=True)
    done = call("spectrum", small_scene, "--points", file, "--layer", "shrubs", "--json")
    assert [(s["row"], s["col"]) for s in json.loads(done.out)] == PIXELS[1:2]
    found = hyperhpc.spectrum(small_scene, points_file=file, layer="trees")
    assert (found["row"][0], found["col"][0]) == PIXELS[0]
    boxes = [shapely.Point(*place).buffer(5) for place in PLACES]
    areas = write_vectors(tmp_path / "a.gpkg", boxes[:1], "Polygon", layer="one")
    write_vectors(areas, boxes, "Polygon", layer="all", append=True)
    points = table(tmp_path / "p.csv", PLACES)
    words = ["--points", points, "--aoi", areas, "--layer", "all"]
    assert call("spectrum", small_scene, *words).code == 0


def test_spectrum__old_and_new_options_print_the_same(small_scene: Path, tmp_path: Path) -> None:
    xs_ys = [word for x, y in PLACES for word in ("--x", str(x), "--y", str(y))]
    for more in ([], ["--json"], ["--method", "linear"]):
        old = call("spectrum", small_scene, *xs_ys, *more)
        new = call("spectrum", small_scene, *words_for(PLACES), *more)
        assert (old.code, old.out, old.err) == (0, new.out, "")
    shown = call("spectrum", "--help").out
    assert "--point X,Y" in shown
    assert "--x" not in shown
    check_refused(call("spectrum", small_scene, "--x", "1"), 2, "1 --x but 0 --y")


def test_spectrum__table_and_figure_keep_a_row_without_coordinates(
    small_scene: Path, tmp_path: Path
) -> None:
    words = ["--points", table(tmp_path / "p.csv", PLACES), "--figure", tmp_path / "f.svg"]
    head, first, *_ = call("spectrum", small_scene, *words[:2]).out.splitlines()
    assert head == (
        "wavelength_nm,517050.2_4525950.9,no_geometry_2,517060.7_4525940.4,517030.5_4525930.5"
    )
    assert first.split(",")[2] == ""
    assert call("spectrum", small_scene, *words).code == 0
    assert (tmp_path / "f.svg").read_text().count("P2") == 0


def test_points__notes_are_printed(small_scene: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    file.write_bytes("plot;x;y\nbl\u00e5;517050.2;4525950.9\n".encode("latin-1"))
    done = call("spectrum", small_scene, "--points", file)
    assert "note: p.csv is not in UTF-8 and is read as Latin-1." in done.err
    found = hyperhpc.spectrum(small_scene, points_file=file)
    assert "Latin-1" in found.attrs["notes"][0]
    assert found["plot"].values.tolist() == ["bl\u00e5"]
    ctx = prepare(load_config(small_scene, tmp_path / "out", {"points_file": file}))
    assert "Latin-1" in ctx.scene.notes[-1]


def test_run__with_other_points_or_names_is_another_run(small_scene: Path, tmp_path: Path) -> None:
    file = table(tmp_path / "p.csv", PLACES)

    def digest(**more: Any) -> str:
        options = {"points_file": file} | more
        ctx = prepare(load_config(small_scene, tmp_path / "out", options))
        return str(ctx.plan.options["points_file"])

    first = digest()
    copy = tmp_path / "q.csv"
    copy.write_bytes(file.read_bytes())
    assert digest(points_file=copy) == first
    file.write_text(file.read_text().replace("d,", "e,"))
    assert digest() != first
    table(file, [*PLACES[:2], PLACES[0]])
    assert digest() != first


def test_points__of_a_scene_without_a_reference_system(tmp_path: Path) -> None:
    dn = np.random.default_rng(0).integers(1, 9000, (9, 7, 6)).astype(np.int16)
    scene = write_envi(tmp_path / "s.img", dn)
    assert call("spectrum", scene, "--point", "3.5,2.5").code == 0
    outcome = call("spectrum", scene, "--point", "3.5,2.5", "--point-crs", "EPSG:4326")
    check_refused(outcome, 3, "no coordinate reference system, so --point cannot be placed")


def test_extract__point_with_a_buffer_is_an_area(small_scene: Path, tmp_path: Path) -> None:
    words = [*words_for(PLACES[:1]), "--buffer", "3"]
    done = call("extract", small_scene, tmp_path / "o.csv", *words)
    assert done.code == 0, done.err
    with (tmp_path / "o.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    rows, cols = np.indices((96, 112))
    distance = np.hypot(517000.5 + cols - PLACES[0][0], 4525999.5 - rows - PLACES[0][1])
    assert int(row["pixels"]) == (distance <= 3).sum()
    check_refused(
        call("extract", small_scene, tmp_path / "p.csv", "--point", "inf,1"), 3, "not finite"
    )


def test_export__table_of_points_keeps_names_and_rows_without_coordinates(tmp_path: Path) -> None:
    write_case(tmp_path / "out", shape=(20, 20), points=2, indices=("ndvi",), models=("lloyd",))
    file = tmp_path / "out" / "spectra.json"
    points = json.loads(file.read_text())
    nothing = dict.fromkeys(("x", "y", "row", "col")) | {"state": NO_GEOMETRY}
    points.insert(1, points[0] | nothing | {"reflectance": [None] * 426})
    for point, plot in zip(points, "abc", strict=True):
        point["attributes"] = {"plot": plot, "state": "CO"}
    file.write_text(json.dumps(points))
    write_points(tmp_path / "p.csv", open_results(tmp_path / "out"))
    with (tmp_path / "p.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(r["point"], r["plot"], r["file_state"], r["state"]) for r in rows] == [
        ("1", "a", "CO", "ok"), ("2", "b", "CO", NO_GEOMETRY), ("3", "c", "CO", "ok"),
    ]  # fmt: skip
    assert rows[1]["x"] == rows[1]["row"] == rows[1]["cluster_lloyd"] == rows[1]["ndvi"] == ""
    assert rows[2]["cluster_lloyd"] != ""


def test_spectrum__of_nothing_and_of_a_bad_file_from_a_call(
    small_scene: Path, tmp_path: Path
) -> None:
    assert hyperhpc.spectrum(small_scene).shape == (0, 426)
    with pytest.raises(ConfigError, match="cannot be read"):
        hyperhpc.spectrum(small_scene, points_file=tmp_path / "none.csv")
    with pytest.raises(ConfigError, match="given without points"):
        hyperhpc.spectrum(small_scene, point_crs="EPSG:4326")
