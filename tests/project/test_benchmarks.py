"""The benchmarks work, on tiny scenes, and report what they measured. No time is asserted."""

from __future__ import annotations

import cProfile
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import costs  # noqa: E402
import kernel  # noqa: E402
import measure  # noqa: E402
import outputs  # noqa: E402
import reading  # noqa: E402
import record  # noqa: E402
import scenes  # noqa: E402
import science  # noqa: E402
import tiles  # noqa: E402
import whole  # noqa: E402


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the files of a test out of the cache and the results."""
    monkeypatch.setenv("HYPERHPC_CACHE", str(tmp_path / "cache"))


# --- the recipe -----------------------------------------------------------------------


@pytest.mark.slow
def test_recipe__takes_every_step_and_draws_the_figures(small_scene: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(whole.RECIPE), str(small_scene), str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    found = json.loads((tmp_path / "out" / "steps.json").read_text("utf-8"))
    assert found["n_iter"] > 0
    assert 0 < found["records"] <= 24 * 28
    work = [name for name in found["steps"] if not name.startswith(whole._NO_STAGE)]
    fits = ["fit k-means", "fit mini-batch"]
    assert work == ["load", "indices", "sample", "scale", *fits, "predict"]
    figures = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert figures == {"spectrum", "indices", "clusters", "close-up"}


# --- measuring ------------------------------------------------------------------------


def test_measure__sees_the_memory_of_children(tmp_path: Path) -> None:
    child = "b = bytearray(2**27); b[::4096] = bytes(2**15 * [1]); import time; time.sleep(0.6)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    taken = measure.measure([sys.executable, "-c", parent], tmp_path / "log")
    assert 128 < taken.peak_mib < 400
    assert taken.seconds >= 0.6


def test_measure__says_why_a_command_failed(tmp_path: Path) -> None:
    with pytest.raises(measure.CommandError, match=r"ended with 3:\s+a reason"):
        measure.measure(
            [sys.executable, "-c", "print('a reason'); raise SystemExit(3)"], tmp_path / "log"
        )
    with pytest.raises(measure.CommandError, match="took more than"):
        measure.measure(["sleep", "60"], tmp_path / "log", timeout=0.2)


@pytest.mark.slow
def test_read_bare__reads_all(small_scene: Path) -> None:
    for reader in reading.readers():
        assert reading.read_bare(small_scene, reader) > 0  # it counts the bytes itself


@pytest.mark.slow
def test_kernel__compares_on_the_same_pixels() -> None:
    result = kernel.against_sklearn(1500, 1)
    (found,) = result.repeats
    assert found["same"] > 99.9
    assert 0.8 < found["inertia"] / found["inertia64"] < 1.2
    assert not result.is_judged


@pytest.mark.slow
def test_tiles__are_counted_and_leave_nothing(tmp_path: Path) -> None:
    result = tiles.empty_tiles(20, 1)
    assert set(result.repeats[0]) == {"2", "20"}
    assert not list((tmp_path / "cache" / "bench" / "runs").iterdir())


def test_costs__add_up() -> None:
    def slow() -> int:
        return sum(len(str(2**n)) for n in range(3000))

    def function() -> int:
        return slow() + 1

    profile = cProfile.Profile()
    profile.runcall(function)
    parts = costs.shares(profile, function)
    assert set(parts) == {"whole", "slow", "the rest"}
    assert parts["whole"] == pytest.approx(parts["slow"] + parts["the rest"])


@pytest.mark.slow
def test_costs__follows_a_run(
    small_scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    from hyperhpc.pipeline import passes

    monkeypatch.setattr(passes, "run_tiles", passes.run_tiles)  # put back at the end
    options = {"workers": 1, "models": "lloyd", "memory_per_worker": "2GiB"}
    costs.main(small_scene, tmp_path / "out", **options)
    found = json.loads(capsys.readouterr().out)
    assert set(found["passes"]) == {"sample_tile", "classify_tile"}
    assert {"fitting lloyd", "drawing the report"} <= set(found["steps"])
    figures = measure.read_run_figures(tmp_path / "out")
    assert set(figures["stages"]) == {"sample", "fit", "classify", "overview", "report"}
    assert 0 < figures["staged_s"] < sum(figures["stages"].values())
    assert figures["worker_mib"] > 0


# --- scenes ---------------------------------------------------------------------------


@pytest.mark.slow
def test_tiled__repeats_the_block(tmp_path: Path) -> None:
    from hyperhpc.scene import open_scene

    block = scenes.simulated(512, 512, bands=8)
    assert scenes.simulated(512, 512, bands=8) == block
    dn = open_scene(block).read(slice(0, 512), slice(0, 512))
    with scenes.tiled(block, 600, 1100) as path:
        scene = open_scene(path)
        assert scene.shape == (600, 1100, 8)
        assert scene.grid.x_centres(1099, 1100)[0] == 517000.0 + 1099.5
        right = scene.read(slice(510, 600), slice(1000, 1100))
        shard = path / scenes.CUBE / "c" / "1" / "2" / "0"
        assert shard.stat().st_nlink > 1
    expected = np.take(np.take(dn, np.arange(510, 600), 0, mode="wrap"), range(1000, 1100), 1,
                       mode="wrap")  # fmt: skip
    np.testing.assert_array_equal(right, expected)
    assert not path.exists()
    assert block.exists()


def test_check_free__names_the_need(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="GiB are needed"):
        scenes.check_free(tmp_path, 2.0**60)


# --- the table ------------------------------------------------------------------------


def test_seed__runs_alternately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    stages = [{"name": name, "seconds": 1.0, "tiles": 4} for name in ("sample", "fit", "report")]
    run_json = {"stages": stages, "peak_memory_mib": {"client": 2.0, "worker-0": 1.0}}

    def pretend(command: list[str], log: Path, **_: Any) -> measure.Taken:
        is_run = "run" in command
        asked.append("run" if is_run else "seed")
        out = Path(command[command.index("run") + 2 if is_run else 3])
        out.mkdir()
        if is_run:
            (out / "run.json").write_text(json.dumps(run_json), "utf-8")
        else:
            about = {"n_iter": 5, "records": 9, "steps": {"imports": 9.0, "predict": 20.0}}
            (out / "steps.json").write_text(json.dumps(about), "utf-8")
        return measure.Taken(10.0 if is_run else 50.0, 100.0 if is_run else 300.0, 0.1)

    for module in (measure, whole):
        monkeypatch.setattr(module, "measure", pretend)
    monkeypatch.setattr(whole, "simulated", lambda *size: tmp_path)
    result = whole.compare_with_recipe(2000, 3)
    assert asked == ["run", "seed", "seed", "run", "run", "seed"]
    rows = {row.what: row for row in result.rows}
    assert list(rows["recipe over run, whole process"].values) == [5.0] * 3
    assert rows["recipe over run, whole process"].is_met
    assert list(rows["recipe over run, stages alone"].values) == [10.0] * 3
    assert not rows["recipe over run, peak memory"].is_met
    assert "| recipe over run, peak memory | 3.00 x | 3.00 - 3.00 | 3 | at least 4: **no** |" in (
        result.table()
    )


def test_table__is_written_between_the_markers(tmp_path: Path) -> None:
    rows = [record.Row("a thing", [1.0, 3.0, 2.0], "s", at_most=2), record.Row("b", [7e3], "")]
    record.Result("startup", "Start-up", "bench.py startup", rows, [], "A note.").write(tmp_path)
    record.Result("seed-20", "Small", "x", rows, [], is_judged=False).write(tmp_path)
    text = record.whole_table(("seed", "startup"), tmp_path)
    assert "| a thing | 2.00 s | 1.00 - 3.00 | 3 | at most 2: yes |" in text
    assert "| b | 7000 |  | 1 |  |" in text
    assert "Small" not in text
    page = tmp_path / "page.md"
    shutil.copy(record.PAGE, page)
    for _ in range(2):
        record.write_page(text, page)
        assert page.read_text("utf-8").count("A note.") == 1
    cut = re.compile("|".join(map(re.escape, record.MARKERS)))
    before, after = (cut.split(path.read_text("utf-8")) for path in (record.PAGE, page))
    assert (before[0], before[2]) == (after[0], after[2])
    assert "- startup: " in after[1]
    head, _, rest = before[1].partition("### Start-up\n")  # all other parts are as they were
    assert after[1].startswith(head)
    assert rest.partition("### ")[2].partition("- startup: ")[0] in after[1]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1, "1.00"), (99.96, "100"), (12345.6, "12346")],
)
def test_number__has_three_digits(value: float, text: str) -> None:
    assert record.number(value) == text


def test_bench__help_lists_all() -> None:
    command = [sys.executable, str(FOLDER / "bench.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    names = {line.split()[0] for line in shown.partition("Commands:")[2].splitlines() if line}
    assert names >= {"quick", "table", "seed", "full-domain", "tiles"}


# --- the maps of a run ----------------------------------------------------------------


@pytest.mark.slow
def test_outputs__fewer_bits_take_less_room() -> None:
    found = outputs.outputs(64, 1)
    sizes = {row.what: row.values[0] for row in found.rows if row.what.endswith("size")}
    assert len(sizes) == len(outputs.KEPT) * 8
    for name in ("lz4 5, shuffle", "zstd 1, bitshuffle"):
        assert sizes[f"11 bits, {name}: size"] < sizes[f"23 bits, {name}: size"] < 1
    assert all(value > 0 for row in found.rows for value in row.values)


# --- what the science page says ---------------------------------------------------------


def test_science__every_table_has_its_place_on_the_page() -> None:
    page = science.PAGE.read_text("utf-8")
    assert re.findall(r"^<!-- ([\w-]+) -->$", page, re.MULTILINE)[::2] == list(science.SECTIONS)
    rows = [["scene", "pixels"], ["a", "1"]]
    assert science.as_markdown(rows) == "| scene | pixels |\n|---|---|\n| a | 1 |"
