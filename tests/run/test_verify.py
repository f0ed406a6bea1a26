"""Checksums of what was written: damage is named, and on resume computed again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import pytest
import xarray as xr

from cli_case import Outcome, call, check_refused, kill_in_classify, spawn
from hyperhpc.compute.stores import set_attributes
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.integrity import is_drawn
from hyperhpc.rundir.plan import Plan
from hyperhpc.sealed import read_sums
from run_case import RunCase, assert_same_results, cut, flip

OPTIONS = "--memory-per-worker 1GiB --workers 1 --models lloyd".split()
#: A part of results.zarr in each of two tiles.
CHUNK, OTHER = "results.zarr/indices/3.1.0", "results.zarr/cluster/0.0.1"


def check_damaged(outcome: Outcome, name: str, what: str, *hint: str) -> None:
    assert outcome.code == 7, outcome.err
    assert f"{name} {what}" in outcome.out.splitlines()
    assert f"the first is {name}" in outcome.error
    for part in hint:
        assert part in outcome.hint


@pytest.fixture
def case(run_case: RunCase, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    return out


@pytest.fixture(scope="module")
def stopped(small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in pass 2, some of its tiles finished."""
    out = kill_in_classify(small_scene, tmp_path_factory.mktemp("stopped") / "out", OPTIONS)
    records = sorted((out / "work" / "classify").glob("0*.json"))
    records[-1].unlink()  # on a busy machine the signal may have come after the last tile
    return out


def test_checksums__are_those_of_the_files(run_case: RunCase) -> None:
    stored = run_case.json("checksums")
    assert stored["algorithm"] == "crc32c"
    folders = ("results.zarr", "overview.zarr", "figures")
    there = {
        str(path.relative_to(run_case.out))
        for folder in folders
        for path in (run_case.out / folder).rglob("*")
        if path.is_file()
    }
    there |= {f"{name}.json" for name in ("model", "clusters", "spectra", "plan")} | {"report.html"}
    assert {name for name, value in stored["files"].items() if value} == there
    for name in (CHUNK, OTHER, "model.json"):
        data = (run_case.out / name).read_bytes()
        assert stored["files"][name] == [len(data), f"{google_crc32c.value(data):08x}"]


def test_verify__of_a_whole_run(run_case: RunCase) -> None:
    done = call("verify", run_case.out)
    assert done.code == 0
    assert done.out.endswith(": 0 damaged\n")
    facts = json.loads(call("verify", run_case.out, "--json").out)
    assert facts["files"] == len(run_case.json("checksums")["files"])
    assert facts["damaged"] == {}
    assert facts["complete"] is True


@pytest.mark.parametrize(
    ("harm", "what"),
    [(flip, "holds other bytes than were written"), (cut, "has "), (Path.unlink, "is missing")],
)
@pytest.mark.parametrize(
    "name", [CHUNK, "results.zarr/.zmetadata", "model.json", "overview.zarr/4/nodata_cause/0.0"]
)
def test_verify__names_what_is_damaged(
    case: Path, harm: Callable[[Path], None], what: str, name: str
) -> None:
    size = (case / name).stat().st_size
    harm(case / name)
    if what == "has ":
        what = f"has {size - 1} bytes instead of {size}"
    hint = "computes these tiles again" if name == CHUNK else "--restart"
    check_damaged(call("verify", case), name, what, hint)


def test_verify__sees_what_was_put_there(case: Path) -> None:
    (case / "results.zarr" / "indices" / "99.0.0").write_bytes(b"x")
    check_damaged(
        call("verify", case), "results.zarr/indices/99.0.0", "was not written by this run"
    )


def test_verify__where_there_is_no_run(tmp_path: Path) -> None:
    check_refused(call("verify", tmp_path / "no"), 3, "holds no run")


def test_results__say_that_they_are_whole(run_case: RunCase) -> None:
    assert xr.open_zarr(run_case.out / "results.zarr").attrs["complete"] is True


@pytest.mark.e2e
def test_results__of_a_killed_run_say_that_they_are_not(stopped: Path) -> None:
    assert xr.open_zarr(stopped / "results.zarr").attrs["complete"] is False
    found = xr.open_zarr(stopped / "results.zarr", consolidated=False, mask_and_scale=False)
    assert found.attrs["complete"] is False
    assert json.loads((stopped / "run.json").read_text("utf-8"))["complete"] is False


@pytest.mark.parametrize("complete", [True, False])
def test_results__marked_half_are_marked_again(case: Path, complete: bool) -> None:
    """As a kill between the two files of the mark leaves them."""
    results = case / "results.zarr"
    gathered = results / ".zmetadata"
    before = gathered.read_bytes()
    set_attributes(results, complete=not complete)
    half = gathered.read_bytes()
    set_attributes(results, complete=complete)
    gathered.write_bytes(half)
    set_attributes(results, complete=complete)
    assert json.loads((results / ".zattrs").read_text("utf-8"))["complete"] is complete
    attributes = json.loads(gathered.read_text("utf-8"))["metadata"][".zattrs"]
    assert attributes["complete"] is complete
    assert (gathered.read_bytes() == before) is complete


@pytest.mark.e2e
def test_verify__of_a_killed_run_looks_at_its_finished_tiles(stopped: Path) -> None:
    done = call("verify", stopped)
    assert done.code == 0, done.err
    assert "files of the tiles finished so far" in done.out


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_run__computes_damaged_tiles_again(
    small_scene: Path, stopped: Path, small_run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    names = [path.stem for path in sorted((out / "work" / "classify").glob("*.json"))]
    harmed = {}
    for name, harm in zip(names, (flip, cut, Path.unlink), strict=False):
        record = json.loads((out / "work" / "classify" / f"{name}.json").read_text("utf-8"))
        file = next(key for key, value in record["files"].items() if value)
        harm(out / "results.zarr" / file)
        harmed[name] = f"results.zarr/{file}"
    first = min(harmed.values())
    assert call("verify", out).code == 7
    assert first in call("verify", out).out
    (out / "results.zarr" / "indices" / "0.0.abc.partial").touch()
    done = call("run", small_scene, out, *OPTIONS)
    assert done.code == 0, done.err
    assert "warning: finished tiles were found damaged and are computed again" in done.err
    for name in harmed:
        assert name in done.err
    warnings = json.loads((out / "run.json").read_text("utf-8"))["warnings"]
    assert any("found damaged" in warning for warning in warnings)
    assert call("verify", out).code == 0
    assert not list(out.rglob("*.partial"))
    assert_same_results(out, small_run)


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
@pytest.mark.parametrize("name", ["x/0", ".zattrs"])
def test_run__computes_all_maps_again_if_what_they_share_is_damaged(
    small_scene: Path, stopped: Path, small_run: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    (out / "results.zarr" / name).write_bytes(b"")
    (out / "model.json").write_text("{")
    done = call("run", small_scene, out, *OPTIONS)
    assert done.code == 0, done.err
    assert f"warning: results.zarr/{name} " in done.err
    assert "so that the maps of all tiles are computed again" in done.err
    assert "model.json is damaged, so that the models are fitted again" in done.err
    for one in (out, small_run):
        assert call("verify", one).code == 0
    sums = [read_sums(one / "checksums.json") for one in (out, small_run)]
    drawn = [name for name in sums[1] if is_drawn(RunFolder(small_run), name)]
    assert "report.html" in drawn
    assert {**sums[0]} == {name: sums[1][name] for name in sums[1] if name not in drawn}


@pytest.mark.e2e
def test_run__repairs_a_complete_run(run_case: RunCase, case: Path) -> None:
    before = {name: (case / name).read_bytes() for name in (CHUNK, OTHER, "run.json")}
    flip(case / OTHER)
    (case / CHUNK).unlink()
    words = ("run", run_case.scene, case, "--point", "517100.5,4525919.5")
    done = spawn(*words, "--workers", "1", "--memory-per-worker", "2GiB")
    assert done.code == 0, done.err
    assert "finished tiles were found damaged and are computed again: 0000-0001, 0001-0000" in (
        done.err
    )
    assert {name: (case / name).read_bytes() for name in before} == before
    assert call("verify", case).code == 0
    assert not list(case.glob(".*"))
    assert not (case / "work").exists()
    cut(case / "model.json")
    check_refused(call(*words), 7, "model.json has ", "--restart")


@pytest.mark.e2e
def test_report__of_a_killed_run_says_what_is_missing(stopped: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    done = call("report", out)
    assert done.code == 0, done.err
    plan = Plan.from_json(json.loads((out / "plan.json").read_text("utf-8")))
    records = out / "work" / "classify"
    tiles = [tile.name for tile in plan.tiles()]
    missing = [name for name in tiles if not (records / f"{name}.json").exists()]
    assert 0 < len(missing) < len(tiles)
    gap = f"{len(missing)} of {len(tiles)} tiles of the maps, which are left grey: "
    assert f"is not finished; missing: {gap}{', '.join(missing)}" in done.err
    page = (out / "report.html").read_text("utf-8")
    assert "This run is not finished" in page
    assert f"{gap}{', '.join(missing)}" in page
    assert (out / "figures" / "quicklook.png").exists()
    assert not (out / "overview.zarr").exists()


@pytest.mark.e2e
def test_report__where_nothing_can_be_drawn_yet(stopped: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(stopped, out)
    shutil.rmtree(out / "work" / "classify")
    check_refused(call("report", out), 7, "Nothing of", "can be drawn yet", "hyperhpc status")
    assert not (out / "report.html").exists()


@pytest.mark.slow
def test_report__of_damaged_results_names_the_file(run_case: RunCase, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    victim = next(out.glob("overview.zarr/*/x/0"))
    victim.write_bytes(b"rubbish")
    name = str(victim.relative_to(out))
    check_refused(call("report", out), 7, f"{name} of {out} has 7 bytes")
