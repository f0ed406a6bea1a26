"""OUT: made, taken up again, or left as it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli_case import call, check_refused
from hyperhpc.errors import ConfigError, ResourceError
from hyperhpc.rundir import folder as folder_module
from hyperhpc.rundir.folder import RunFolder, claim_folder
from hyperhpc.rundir.plan import Area, Plan
from hyperhpc.simulate.scene import simulate
from run_case import RunCase

STARTED = 77


def a_plan(**options: object) -> Plan:
    given = {"clusters": 8, "seed": 0, **options}
    return Plan(Area(0, 10, 0, 12), (5, 6), False, given, {"kind": "zarr", "files": [1, 2]})


def claim(out: Path, plan: Plan | None = None, **options: object) -> tuple[Plan, bool]:
    settings: dict = {"scene": out.parent / "scene.zarr", "restart": False, **options}
    return claim_folder(RunFolder(out), plan or a_plan(), **settings)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# --- new, or gone on with -------------------------------------------------------------


@pytest.mark.parametrize("prepare", [lambda out: None, lambda out: out.mkdir()])
def test_claim__new_or_empty_folder(prepare: Callable[[Path], None], tmp_path: Path) -> None:
    out = tmp_path / "out"
    prepare(out)
    assert claim(out) == (a_plan(), True)
    assert claim(out) == (a_plan(), False)
    assert [path.name for path in out.iterdir()] == ["plan.json"]


def test_claim__makes_the_folders_above(tmp_path: Path) -> None:
    assert claim(tmp_path / "a" / "b" / "out")[1]


def test_claim__the_first_plan_wins(tmp_path: Path) -> None:
    claim(tmp_path / "out")
    other = Plan(Area(0, 10, 0, 12), (10, 12), False, a_plan().options, a_plan().fingerprint)
    found, is_new = claim(tmp_path / "out", other)
    assert not is_new
    assert found.tile_shape == (5, 6)


def test_claim__of_an_earlier_version_that_lacks_an_option(tmp_path: Path) -> None:
    claim(tmp_path / "out")
    assert not claim(tmp_path / "out", a_plan(where=[], formula=None))[1]
    with pytest.raises(ConfigError, match="where was unset, is"):
        claim(tmp_path / "out", a_plan(where=["NDVI > 0.5"]))


def test_claim__another_run_names_what_differs(tmp_path: Path) -> None:
    claim(tmp_path / "out")
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError) as caught:
        claim(tmp_path / "out", a_plan(clusters=5, seed=3))
    assert "clusters was 8, is 5; seed was 0, is 3" in caught.value.message
    assert "--restart" in str(caught.value.hint)
    assert snapshot(tmp_path) == before


def test_claim__changed_scene(tmp_path: Path) -> None:
    claim(tmp_path / "out")
    changed = Plan(
        a_plan().area, (5, 6), False, a_plan().options, {"kind": "zarr", "files": [1, 3]}
    )
    with pytest.raises(ConfigError, match=r"scene is another one or has changed \(files\)"):
        claim(tmp_path / "out", changed)


# --- restart --------------------------------------------------------------------------


def test_claim__restart_renames_aside_and_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for seed in range(3):
        assert claim(out, a_plan(seed=seed), restart=True) == (a_plan(seed=seed), True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "out.old-1", "out.old-2"]
    old = json.loads((tmp_path / "out.old-2" / "plan.json").read_text("utf-8"))
    assert old["options"]["seed"] == 1


def test_claim__restart_replaces_a_damaged_plan(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim(out)
    (out / "plan.json").write_text('{"area": ', "utf-8")
    with pytest.raises(ConfigError, match="damaged") as caught:
        claim(out)
    assert "--restart" in str(caught.value.hint)
    assert claim(out, restart=True)[1]


def test_claim__restart_leaves_a_foreign_plan(tmp_path: Path) -> None:
    out = tmp_path / "house"
    out.mkdir()
    (out / "plan.json").write_text('{"rooms": 4}', "utf-8")
    for restart in (False, True):
        with pytest.raises(ConfigError, match="not a plan of this version"):
            claim(out, restart=restart)
    assert snapshot(tmp_path) == {"house/plan.json": b'{"rooms": 4}'}


def test_claim__restart_does_not_rename_the_scene_away(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    scene = out / "scene.zarr"
    scene.mkdir(parents=True)
    claim(out, scene=scene, extra_names=["scene.zarr"])
    with pytest.raises(ConfigError, match="holds the scene itself"):
        claim(out, scene=scene, restart=True)
    with pytest.raises(ConfigError) as caught:
        claim(out, a_plan(seed=1), scene=scene)
    assert "--restart" not in str(caught.value.hint)
    assert scene.is_dir()


def test_claim__restart_of_a_folder_without_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(tmp_path / "out")
    monkeypatch.chdir(tmp_path / "out")
    with pytest.raises(ResourceError, match="cannot be renamed aside"):
        claim(Path(), scene=tmp_path / "scene.zarr", restart=True)


# --- not to be touched ----------------------------------------------------------------


def test_claim__file_folder_of_others_or_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("mine", "utf-8")
    before = snapshot(tmp_path)
    for name, part in (("file", "is a file"), ("folder", "nothing in it was touched")):
        for restart in (False, True):
            with pytest.raises(ConfigError, match=part):
                claim(tmp_path / name, restart=restart)
    with pytest.raises(ConfigError, match="under a file"):
        claim(tmp_path / "file" / "out")
    assert snapshot(tmp_path) == before


def test_claim__in_the_scene_or_the_scene_itself(tmp_path: Path) -> None:
    scene = tmp_path / "scene.zarr"
    (scene / "reflectance").mkdir(parents=True)
    (tmp_path / "link").symlink_to(scene)
    for out in (scene, tmp_path / "link"):
        with pytest.raises(ConfigError, match="is the scene itself"):
            claim(out, scene=scene)
    for out in (scene / "out", scene / "reflectance" / "out", tmp_path / "link" / "out"):
        with pytest.raises(ConfigError, match="lies inside the scene"):
            claim(out, scene=scene)
    assert not list(scene.rglob("plan.json"))


def test_claim__unwritable_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folder_module, "write_sealed", fail)
    with pytest.raises(ResourceError, match="cannot be made: No space left"):
        claim(tmp_path / "out")
    assert not (tmp_path / "out").exists()


# --- by the commands ------------------------------------------------------------------


@pytest.mark.usefixtures("no_workers")
def test_run__of_another_run_and_of_a_changed_scene(tmp_path: Path) -> None:
    scene, out = tmp_path / "scene.zarr", tmp_path / "out"
    simulate(scene, 64, 64, bands=30)
    assert call("run", scene, out).code == STARTED
    assert call("run", scene, out, "--workers", "1").code == STARTED  # changes no result
    check_refused(call("run", scene, out, "--stride", "2"), 3, "stride was unset, is 2")
    for path in (scene, tmp_path / "scene.zarr.truth.zarr"):
        path.rename(path.with_name(f"old-{path.name}"))
    simulate(scene, 64, 65, bands=30)
    check_refused(call("run", scene, out), 3, "the scene is another one or has changed")
    assert call("run", scene, out, "--restart").code == STARTED


def test_run__of_a_complete_run_says_so_at_once(run_case: RunCase) -> None:
    words = "--point 517100.5,4525919.5 --memory-per-worker 1GiB".split()
    before = snapshot(run_case.out)
    done = call("run", run_case.scene, run_case.out, *words)
    assert done.code == 0
    assert done.out == f"report: {run_case.out / 'report.html'}\n"
    assert "is complete" in done.err
    assert snapshot(run_case.out) == before


@pytest.mark.usefixtures("no_workers")
def test_demo__looks_before_it_simulates(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "letter").write_text("mine", "utf-8")
    check_refused(call("demo", tmp_path / "folder"), 3, "nothing in it was touched")
    check_refused(call("demo", tmp_path / "folder" / "letter"), 3, "is a file")
    claim(tmp_path / "run")
    check_refused(call("demo", tmp_path / "run"), 3, "not of a demonstration")
    check_refused(call("demo", tmp_path / "tiny", "--size", "5x5"), 3, "--size 64x64")
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert names == ["folder", "folder/letter", "run", "run/plan.json"]


@pytest.mark.usefixtures("no_workers")
def test_demo__resumes_and_refuses_another_size(tmp_path: Path) -> None:
    out = tmp_path / "a demo"
    (out / "scene.zarr.part-1").mkdir(parents=True)  # of a demo that was killed
    assert call("demo", out, "--size", "64x72").code == STARTED
    before = snapshot(out / "scene.zarr")
    assert call("demo", out, "--size", "64x72").code == STARTED
    check_refused(call("demo", out, "--size", "72x64"), 3, "64x72", "--size 64x72")
    assert snapshot(out / "scene.zarr") == before
