"""JSON files of a run are compared with their checksums by whoever reads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import hyperhpc
from hyperhpc.compute.fit.applied import read_applied
from hyperhpc.errors import ConfigError, HyperhpcError, IncompleteRunError
from hyperhpc.rundir.folder import RunFolder, is_complete, read_plan
from hyperhpc.rundir.integrity import read_result
from hyperhpc.scene import open_scene
from hyperhpc.sealed import (
    DamagedJsonError,
    measure_file,
    read_json,
    read_sums,
    write_json,
    write_sealed,
    write_sums,
)
from hyperhpc.tools.compare import compare
from hyperhpc.tools.export import export
from hyperhpc.tools.preview import report_run
from hyperhpc.tools.verify import verify
from hyperhpc.view.viewed_run import open_viewed_run
from run_case import RunCase

VALUE = {"complete": True, "area": {"pixel_area_m2": 1.0}, "name": "ä", "none": None}


def flip_digit(path: Path, after: str) -> None:
    """Change a digit to its neighbour, so that the file stays JSON."""
    text = path.read_text("utf-8")
    at = next(i for i in range(text.index(after) + len(after), len(text)) if text[i] in "2468")
    path.write_text(text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :], "utf-8")


# --- sealed files ----------------------------------------------------------------------


def test_sealed__comes_back_without_its_seal(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_sealed(path, VALUE)
    assert read_json(path) == VALUE
    assert json.loads(path.read_text("utf-8")).pop("crc32c")


def test_sealed__every_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_sealed(path, VALUE)
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        harmed = bytearray(data)
        harmed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(harmed)
        with pytest.raises(DamagedJsonError, match="is damaged"):
            read_json(path)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", '{"crc32c": 1}'])
def test_json__without_a_seal_is_read_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    if text in ("", "{"):
        with pytest.raises(DamagedJsonError):
            read_json(path)
    else:
        assert read_json(path) in ({}, [], None)


def test_json__of_version_0_1_is_read(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", VALUE)
    assert read_json(tmp_path / "run.json") == VALUE


@pytest.mark.parametrize("text", ["{}", "[1]", "null", '{"files": [1]}', '{"files": {"a": [1]}}'])
def test_sums__that_are_none_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "checksums.json").write_text(text)
    with pytest.raises(IncompleteRunError, match=r"checksums\.json is damaged"):
        read_sums(tmp_path / "checksums.json")


def test_sums__are_read_again_when_replaced(tmp_path: Path) -> None:
    path = tmp_path / "checksums.json"
    for crc in ("00000001", "00000002"):
        write_sums(path, {"a": [1, crc], "b": None})
        assert read_sums(path) == {"a": [1, crc], "b": None}


# --- results, before and after the end of a run ------------------------------------------


def test_result__of_an_unfinished_run_is_compared(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_result(folder.spectra, [VALUE])
    assert read_result(folder, folder.spectra) == [VALUE]
    changed = folder.spectra.read_text("utf-8").replace("1.0", "1.1")
    folder.spectra.write_text(changed, "utf-8")
    with pytest.raises(IncompleteRunError, match=r"spectra\.json of .* holds other bytes"):
        read_result(folder, folder.spectra)


def test_result__without_any_checksum_is_read_as_it_is(tmp_path: Path) -> None:
    write_json(tmp_path / "spectra.json", [VALUE])
    assert read_result(RunFolder(tmp_path), tmp_path / "spectra.json") == [VALUE]


def test_complete__is_not_decided_by_a_damaged_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for path in (folder.model, folder.clusters, folder.spectra, folder.report):
        path.touch()
    for path in (folder.results, folder.overview):
        path.mkdir()
    write_sealed(folder.run, VALUE)
    assert is_complete(folder)
    changed = folder.run.read_bytes().replace(b"true", b"trve")
    folder.run.write_bytes(changed)
    with pytest.raises(ConfigError, match=r"run\.json is damaged"):
        is_complete(folder)
    folder.work.mkdir()
    assert not is_complete(folder)


@pytest.fixture
def case(run_case: RunCase, tmp_path: Path) -> RunCase:
    """A copy of a finished run, to be damaged."""
    shutil.copytree(run_case.out, tmp_path / "out")
    return RunCase(run_case.scene, tmp_path / "out")


def _apply(case: RunCase) -> object:
    return read_applied(case.out / "model.json", ["lloyd"], open_scene(case.scene))


def _export(what: str) -> Callable[[RunCase], object]:
    return lambda case: export(case.out, case.out.with_name(f"{what}.csv"), what, "csv")


#: Who reads which file.
READERS: list[tuple[str, str, str, Callable[[RunCase], object]]] = [
    ("clusters.json", '"mean"', "export", _export("clusters")),
    ("clusters.json", '"pixels"', "compare", lambda case: compare(case.out, case.out)),
    ("clusters.json", '"mean"', "report", lambda case: report_run(case.out, print)),
    ("clusters.json", '"mean"', "model", _apply),
    ("clusters.json", '"mean"', "python", lambda case: hyperhpc.open_run(case.out).clusters),
    ("spectra.json", '"reflectance"', "export", _export("points")),
    ("spectra.json", '"reflectance"', "report", lambda case: report_run(case.out, print)),
    ("spectra.json", '"reflectance"', "python", lambda case: hyperhpc.open_run(case.out).spectra),
    ("model.json", '"centers"', "model", _apply),
    ("model.json", '"centers"', "python", lambda case: hyperhpc.open_run(case.out).model),
    ("run.json", '"pixel_area_m2"', "export", _export("clusters")),
    ("run.json", '"bounds"', "compare", lambda case: compare(case.out, case.out)),
    ("run.json", '"bounds"', "report", lambda case: report_run(case.out, print)),
    ("run.json", '"bounds"', "view", lambda case: open_viewed_run(case.out, None, case.out)),
    ("run.json", '"bounds"', "python", lambda case: hyperhpc.open_run(case.out)),
    ("plan.json", '"row1"', "view", lambda case: open_viewed_run(case.out, None, case.out)),
    ("plan.json", '"row1"', "run", lambda case: read_plan(RunFolder(case.out))),
]


@pytest.mark.parametrize(
    ("name", "after", "reader"),
    [
        pytest.param(
            *row[:2],
            row[3],
            id=f"{row[0]}-{row[2]}",
            marks=pytest.mark.slow if row[2] == "report" else (),  # it draws a part of the page
        )
        for row in READERS
    ],
)
def test_json__with_a_flipped_digit_is_named_and_not_used(
    case: RunCase, name: str, after: str, reader: Callable[[RunCase], object]
) -> None:
    flip_digit(case.out / name, after)
    assert name in verify(case.out).damaged
    with pytest.raises(HyperhpcError) as caught:
        reader(case)
    assert name in caught.value.message
    assert not list(case.out.parent.glob("*.csv"))


def test_readers__take_what_is_whole(case: RunCase) -> None:
    assert verify(case.out).damaged == {}
    assert len(_apply(case).model["models"]["lloyd"]["centers"]) == 8  # type: ignore[attr-defined]
    facts, _ = compare(case.out, case.out)
    assert facts["pairs"][0]["share_agreeing"] == 1.0


def test_model__that_was_copied_alone_is_taken_as_it_is(case: RunCase, tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    shutil.copy(case.out / "model.json", tmp_path / "alone" / "model.json")
    flip_digit(tmp_path / "alone" / "model.json", '"centers"')
    read_applied(tmp_path / "alone" / "model.json", ["lloyd"], open_scene(case.scene))
    link = tmp_path / "link.json"
    link.symlink_to(case.out / "model.json")
    flip_digit(case.out / "model.json", '"centers"')
    with pytest.raises(IncompleteRunError, match=r"model\.json"):
        read_applied(link, ["lloyd"], open_scene(case.scene))


def test_report__that_was_changed_is_named_and_drawn_again(case: RunCase) -> None:
    for name in ("report.html", "figures/quicklook.png"):
        data = bytearray((case.out / name).read_bytes())
        data[len(data) // 2] ^= 1
        (case.out / name).write_bytes(data)
        found = verify(case.out)
        assert found.damaged == {name: "holds other bytes than were written"}
        assert "hyperhpc report" in found.hint
        good = read_sums(case.out / "checksums.json")[name]
        sums = {**read_sums(case.out / "checksums.json"), name: measure_file(case.out / name)}
        write_sums(case.out / "checksums.json", sums)
        assert verify(case.out).damaged == {}
        assert good != sums[name]
    shutil.rmtree(case.out / "figures")  # to save room
    assert verify(case.out).damaged == {}
