"""What the documents say: links lead somewhere, commands exist, and work as they are typed."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import h5py
import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from docs_case import PAGES, ROOT, blocks, make_targets, read
from hyperhpc.cli.commands import cli
from hyperhpc.scene import open_scene
from hyperhpc.simulate.scene import simulate
from raster_case import listed, write_envi
from vector_case import geojson, geopackage, write_vectors

assert isinstance(cli, click.Group)


# --- links ----------------------------------------------------------------------------


def headings(page: Path) -> set[str]:
    """Anchors of a page."""
    return {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    }


@pytest.mark.parametrize("page", PAGES)
def test_documents__link_to_files_and_headings_that_exist(page: str) -> None:
    path = ROOT / page
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", read(page)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), target
        assert not anchor or anchor in headings(found), target


def test_readme__is_short_enough_to_be_read() -> None:
    assert len(read("README.md").splitlines()) <= 200


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_documents__name_files_that_exist(page: str) -> None:
    names = re.findall(r"`((?:src|container|jobs|docs|tests|\.ci)/[\w./-]*)`", read(page))
    assert names
    for name in names:
        if "NAME" not in name:
            assert (ROOT / name).exists(), name


# --- commands -------------------------------------------------------------------------


def commands() -> list[tuple[str, str]]:
    """Page and line of each `hyperhpc ...` command of a shell block; continued lines joined."""
    found = []
    for page in PAGES:
        kinds = set(re.findall(r"^```(sh(?: needs-[\w-]+)?)$", read(page), re.MULTILINE))
        for kind in sorted(kinds):
            text = "\n".join(blocks(page, kind)).replace("\\\n", " ")
            found += [(page, line) for line in text.splitlines() if line.startswith("hyperhpc ")]
    return found


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda text: " ".join(text.split()[:3]))
def test_documents__commands_and_options_exist(page: str, line: str) -> None:
    name = line.split()[1]
    assert name in cli.commands
    parameters = cli.commands[name].params
    known = {option for parameter in parameters for option in parameter.opts}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line.split(" # ")[0]))
    assert used <= known, f"{page}: hyperhpc {name} has no {used - known}"


def test_documents__show_every_command() -> None:
    shown = {line.split()[1] for _, line in commands()}
    assert shown >= {name for name, item in cli.commands.items() if not item.hidden} - {
        "completion", "report", "doctor", "demo",
    }  # fmt: skip


def test_run_page__options_table_names_options_of_run() -> None:
    table = read("run.md").split("## Options that matter")[1].split("\n## ")[0]
    used = {
        option
        for cell in re.findall(r"^\| (`--.*?) \|", table, re.MULTILINE)
        for option in re.findall(r"--[a-z-]+", cell)
    }
    assert len(used) > 10
    assert used <= {option for item in cli.commands["run"].params for option in item.opts}


def test_run_page__exit_codes_are_those_of_the_errors() -> None:
    from hyperhpc import errors

    table = read("run.md").split("## Exit codes")[1].split("\n## ")[0]
    listed = {
        int(code)
        for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for code in cell.split(",")
    }
    raised = {kind.exit_code for kind in errors.HyperhpcError.__subclasses__()}
    assert listed == raised | {0, 1, 2, 130, 137, 143}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/performance.md"])
def test_documents__make_targets_exist(page: str) -> None:
    lines = [line for block in blocks(page, "sh make") for line in block.splitlines()]
    used = {shlex.split(line)[1] for line in lines if line.startswith("make ")}
    assert used
    assert used <= set(make_targets())
    if page == "README.md":
        assert {"demo", "test", "setup"} <= used


# --- examples that are run ------------------------------------------------------------


def run_blocks(page: str, kind: str, folder: Path) -> None:
    """Run the blocks one after the other, as a reader would, with this Python's hyperhpc."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    hyperhpc = programs / "hyperhpc"
    hyperhpc.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m hyperhpc "$@"\n')
    hyperhpc.chmod(0o755)
    found = blocks(page, kind)
    assert found, f"{page} has no block {kind!r}"
    path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        ["bash", "-c", "set -eu\n" + "\n".join(found)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


@pytest.mark.smoke
@pytest.mark.docs
def test_readme__first_run_works_and_leaves_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    run_blocks("README.md", "sh", folder)
    assert (folder / "spectrum.png").stat().st_size > 0
    layout = next(block for block in blocks("README.md", "text") if block.startswith("out/\n"))
    promised = re.findall(r"^  ([\w.]+)/?  ", layout, re.MULTILINE)
    assert len(promised) > 8
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(promised)
    run_blocks("export.md", "sh needs-a-run", folder)
    assert (folder / "ndvi.tif").stat().st_size > 0


@pytest.mark.docs
@pytest.mark.parametrize(("page", "out"), [("README.md", "sjer"), ("scenes.md", None)])
def test_documents__work_on_a_neon_file(
    page: str, out: str | None, tmp_path: Path, shared_data: Path
) -> None:
    source = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    (name,) = {
        word
        for block in blocks(page, "sh needs-neon-file")
        for word in block.split()
        if word.endswith(".h5")
    }
    (tmp_path / name).symlink_to(source)
    run_blocks(page, "sh needs-neon-file", tmp_path)
    assert not out or (tmp_path / out / "report.html").exists()


@pytest.mark.docs
def test_scenes_page__works_on_rasters(tmp_path: Path, shared_data: Path) -> None:
    (data,) = (path for path in (shared_data / "emit").iterdir() if not path.suffix)
    crop = shared_data / "neon_sjer_tif" / "SJER_052_hyperspectral.tif"
    for name, source in (("emit", data), ("emit.hdr", f"{data}.hdr"), (crop.name, crop)):
        (tmp_path / name).symlink_to(source)
    tile = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    with h5py.File(tile) as file:
        centres = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][()]
    np.savetxt(tmp_path / "centres.txt", centres)
    run_blocks("scenes.md", "sh needs-raster-files", tmp_path)
    assert (tmp_path / "plot052" / "report.html").exists()


@pytest.mark.docs
def test_scenes_page__works_on_a_rotated_file(tmp_path: Path) -> None:
    scene = open_scene(simulate(tmp_path / "s.zarr", 60, 40, seed=2, nodata_fraction=0).path)
    write_envi(
        tmp_path / "ang20180814t224053_rfl",
        scene.read(slice(None), slice(None)),
        wavelength=listed(scene.wavelength_nm),
        map_info="{UTM, 1, 1, 5e5, 4e6, 5, 5, 13, North, WGS-84, units=Meters, rotation=-25}",
        data_ignore_value=-9999,
    )
    run_blocks("scenes.md", "sh needs-rotated-file", tmp_path)
    assert (tmp_path / "out" / "report.html").exists()


@pytest.mark.docs
def test_scenes_page__works_on_some_of_the_pixels(tmp_path: Path) -> None:
    tile = tmp_path / "tile.h5"
    simulate(tile, 60, 60, layout="neon", seed=2)
    scene = open_scene(tile)
    to_degrees = pyproj.Transformer.from_crs(scene.grid.epsg, 4326, always_xy=True).transform
    xmin, ymin, _, _ = scene.bounds
    ring = [to_degrees(xmin + x, ymin + y) for x, y in ((5, 5), (50, 9), (20, 55), (5, 5))]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    (tmp_path / "pastures.geojson").write_text(json.dumps(polygon))
    run_blocks("scenes.md", "sh needs-polygons", tmp_path)
    valid = {
        name: json.loads((tmp_path / name / "run.json").read_text("utf-8"))["pixels"]["valid"]
        for name in ("pastures", "clear")
    }
    assert valid["pastures"] < valid["clear"] < 3600


@pytest.mark.docs
def test_clusters_page__chooses_a_number_of_clusters(tmp_path: Path) -> None:
    simulate(tmp_path / "tile.h5", 60, 60, layout="neon", seed=2)
    run_blocks("clusters.md", "sh needs-a-tile", tmp_path)
    assert (tmp_path / "choice" / "choose-k.png").stat().st_size > 10_000


@pytest.mark.docs
def test_fractions_page__leads_from_a_tile_to_fractions(tmp_path: Path) -> None:
    simulate(tmp_path / "tile.h5", 60, 60, layout="neon", seed=2)
    run_blocks("fractions.md", "sh needs-a-neon-tile", tmp_path)
    assert (tmp_path / "fractions.tif").stat().st_size > 0
    assert (tmp_path / "residual.qml").stat().st_size > 0


@pytest.mark.docs
def test_clusters_page__leads_from_a_tile_to_named_polygons(tmp_path: Path) -> None:
    simulate(tmp_path / "tile.h5", 60, 60, layout="neon", seed=2)
    run_blocks("clusters.md", "sh needs-a-neon-tile", tmp_path)
    names = tmp_path / "classes.toml"
    text = names.read_text("utf-8")
    kinds = re.findall(r"# suggestion: (.*)\nname = ", text)
    for k, kind in enumerate(kinds):  # what the suggestions say
        text = text.replace(f'name = "C{k}"', f'name = "{kind}"')
    names.write_text(text, "utf-8")
    assert len(kinds) == 8
    run_blocks("clusters.md", "sh needs-names", tmp_path)
    meta, _, wkb, columns = pyogrio.raw.read(tmp_path / "landcover.gpkg", layer="lloyd")
    found = dict(zip(meta["fields"].tolist(), columns, strict=True))
    assert set(found["name"]) == set(kinds)
    assert np.sort(found["area_m2"])[0] >= 20
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert all(kind in page for kind in kinds)
    shapes = shapely.from_wkb(wkb)
    write_vectors(tmp_path / "plots.shp", [shapes[0].buffer(2)], "Polygon")
    run_blocks("export.md", "sh needs-plots-and-a-run", tmp_path)
    assert [name for name, _ in pyogrio.list_layers(tmp_path / "plots-mapped.gpkg")] == ["plots"]


@pytest.mark.docs
def test_export_page__extracts_plots(tmp_path: Path) -> None:
    simulate(tmp_path / "tile.h5", 60, 60, layout="neon", seed=2)
    xmin, ymin, _, _ = open_scene(tmp_path / "tile.h5").bounds
    (tmp_path / "plots.csv").write_text(f"x,y\n{xmin + 20.5},{ymin + 30.5}\n")
    geopackage(tmp_path / "plots.gpkg", shapely.Point(xmin + 20.5, ymin + 30.5))
    field = shapely.box(xmin + 9, ymin + 9, xmin + 19, ymin + 29)
    named = {"crs": {"properties": {"name": "EPSG:32613"}}}
    geojson(tmp_path / "fields.geojson", field, **named)
    run_blocks("export.md", "sh needs-plots", tmp_path)
    with (tmp_path / "fields-spectra.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["state"], row["pixels"]) == ("ok", "200")


@pytest.mark.docs
def test_scenes_page__works_on_a_folder_of_tiles(tmp_path: Path) -> None:
    simulate(tmp_path / "tiles", 60, 70, layout="neon", tiles=(2, 2), overlap=6)
    run_blocks("scenes.md", "sh needs-tiles", tmp_path)
    run = json.loads((tmp_path / "mosaic" / "run.json").read_text("utf-8"))
    assert run["area"]["shape"] == [60, 70]


@pytest.mark.docs
def test_run_page__takes_points(tmp_path: Path) -> None:
    simulate(tmp_path / "tile.h5", 60, 60, layout="neon", seed=2)
    (tmp_path / "plots.csv").write_text("plot,x,y\na,517020.5,4525970.5\nb,NA,NA\n")
    run_blocks("run.md", "sh needs-plots", tmp_path)
    with (tmp_path / "points.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["plot"], first["state"]) == ("a", "ok")
    assert first["cluster_lloyd"] != ""
    assert (second["plot"], second["state"], second["ndvi"]) == ("b", "no geometry", "")
    assert "no geometry" not in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.docs
def test_run_page__plans_runs_and_asks(tmp_path: Path) -> None:
    simulate(tmp_path / "scene.zarr", 60, 60, seed=2)
    run_blocks("run.md", "sh needs-a-scene", tmp_path)
    assert (tmp_path / "out" / "report.html").exists()
