"""Commands that are typed wrongly, or meet what they cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_case import call, check_refused, spawn


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("frobnicate", "'frobnicate'"),
        ("run", "'SCENE'"),
        ("run scene.zarr", "'OUT'"),
        ("info ''", "empty"),
        ("simulate OUT", "'--size'"),
        ("simulate OUT --size 10", "ROWSxCOLS"),
        ("simulate OUT --size 0x5", "ROWSxCOLS"),
        ("demo OUT --size x", "ROWSxCOLS"),
        ("spectrum SCENE --x 1 --x 2 --y 3", "2 --x but 1 --y"),
        ("spectrum SCENE --x a --y b", "'a'"),
        ("spectrum SCENE --x 1 --y 1 --method cubic", "'cubic'"),
    ],
)
def test_usage__is_2(words: str, part: str) -> None:
    outcome = call(*[word.strip("'") for word in words.split()])
    check_refused(outcome, 2, part, "--help")


@pytest.mark.parametrize("text", ["517100,4525990,517000,4525910", "0,0,1,1"])
def test_info__bad_box(text: str, small_scene: Path) -> None:
    check_refused(call("info", small_scene, "--bbox", text), 3, text)


@pytest.mark.parametrize(
    ("x", "y"), [("nan", "nan"), ("inf", "1"), ("0", "0"), ("517112", "4525950")]
)
def test_spectrum__point_outside(x: str, y: str, small_scene: Path) -> None:
    outcome = call("spectrum", small_scene, "--x", x, "--y", y)
    check_refused(outcome, 3, f"point {x},{y}", "517000 to 517112", "give a point inside it")


@pytest.mark.parametrize(
    ("name", "code"), [("a.xyz", 3), ("a", 3), (".png", 3), ("folder.png", 3), ("missing/a.png", 3)]
)
def test_spectrum__bad_figure(name: str, code: int, small_scene: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    words = ("--x", "517050.5", "--y", "4525950.5", "--figure", tmp_path / name)
    check_refused(call("spectrum", small_scene, *words), code, name)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_simulate__will_not_overwrite_nor_write_under_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", "utf-8")
    check_refused(call("simulate", tmp_path / "mine", "--size", "4x4"), 3, "exists")
    check_refused(call("simulate", tmp_path / "mine" / "x", "--size", "4x4"), 5, "mine")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("what", ["a folder", "a file", "nothing"])
def test_report__on_what_is_no_run(what: str, tmp_path: Path) -> None:
    path = tmp_path / what
    if what == "a folder":
        path.mkdir()
    elif what == "a file":
        path.touch()
    check_refused(call("report", path), 3, str(path))


def test_disk_and_memory__are_5(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from hyperhpc.tools import inspect

    for error, part in (
        (
            OSError(28, "No space left on device", "file.dat"),
            "file.dat cannot be written: No space left",
        ),
        (MemoryError("Unable to allocate 7 TiB"), "7 TiB"),
    ):

        def fail(*args: object, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(inspect, "inspect_scene", fail)
        check_refused(call("info", tmp_path), 5, part)


@pytest.mark.slow
def test_errors__are_the_same_from_outside(tmp_path: Path) -> None:
    outcome = spawn("run", tmp_path / "missing.zarr", tmp_path / "out")
    check_refused(outcome, 4, "does not exist")
    assert len(outcome.err.splitlines()) == 2


def test_run__takes_the_former_names_of_options(small_scene: Path, tmp_path: Path) -> None:
    words = ("plan", small_scene, tmp_path / "out", "--indices", "", "--json")
    for name in ("--index", "--formula"):
        outcome = call(*words, name, "a=R(550)/R(670)")
        assert (outcome.code, outcome.err) == (0, "")
        assert json.loads(outcome.out)["indices"] == ["a"]
    check_refused(call(*words, "--model", "none.json"), 3, "none.json")
    check_refused(call(*words, "--launcher", "scheduler"), 3, "'external' needs --address")
    shown = call("run", "--help").out
    assert "--formula NAME=EXPR" in shown
    assert "--apply-model FILE" in shown
    assert "external" in shown
    for former_name in ("--index ", "--model ", "|scheduler"):
        assert former_name not in shown


def test_plan__made_before_options_were_renamed_is_continued(
    small_scene: Path, tmp_path: Path, no_workers: None
) -> None:
    """plan.json keeps the options under their former names, so that no run starts again."""
    out = tmp_path / "out"
    run = ("run", small_scene, out, "--memory-per-worker", "1GiB", "--workers", "1")
    assert call(*run, "--index", "a=R(550)/R(670)").code == 77
    options = json.loads((out / "plan.json").read_text("utf-8"))["options"]
    assert options["index"] == ["a=R(550)/R(670)"]
    assert options["model"] is None
    assert not {"formula", "apply_model"} & options.keys()
    assert call(*run, "--formula", "a=R(550)/R(670)").code == 77
    check_refused(call(*run), 3, "formula was ['a=R(550)/R(670)'], is unset")
