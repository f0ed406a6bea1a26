"""Files appear whole or not at all, and what killed writers left is found everywhere in OUT."""

from __future__ import annotations

from pathlib import Path

import pytest

from hyperhpc.files import atomic_write, remove_partial_files


def test_atomic_write__file_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_write(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == tmp_path
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write__failure_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write__folder_and_nothing(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "store") as part:
        part.mkdir()
        (part / "x").touch()
    with atomic_write(tmp_path / "none"):
        pass
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["store", "x"]


def test_remove_partial_files__goes_through_all_folders(tmp_path: Path) -> None:
    kept = [".lock", ".lock.part-0a1b", "results.zarr/.zattrs", "figures/map.png", "a.part-1"]
    left = [
        ".report.html.part-0a1b2c3d",
        "figures/.map.png.part-0a1b2c3d",
        "work/sample/.0000-0000.json.part-77",
        "results.zarr/indices/0.0.0.0c4b55fa3b9b40b1.partial",
        ".overview.zarr.part-0a1b2c3d/indices/0.0.0",
    ]
    for name in (*kept, *left):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    remove_partial_files(tmp_path)
    files = [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()]
    assert sorted(files) == sorted(kept)
    assert not list(tmp_path.glob(".overview*"))
    remove_partial_files(tmp_path / "absent")
