"""A scene whose files have changed is another scene, whatever its format; a copy is the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from hyperhpc.errors import ConfigError, SceneError
from hyperhpc.rundir.folder import RunFolder, check_same, describe_copied_scene, note_unreadable
from hyperhpc.rundir.plan import Area, Plan
from hyperhpc.scene import open_scene
from hyperhpc.scene.fingerprint import (
    MOST_READ,
    has_other_inodes,
    is_of_older_version,
    list_changes,
    spread,
    stamp_files,
)
from hyperhpc.scene.formats.zarr_chunks import some_file_names
from hyperhpc.simulate.scene import simulate
from raster_case import write_envi
from zarr_case import CUBE, write

#: Files of each kind of scene, by a name: what writes it, and its folder or file.
SCENES: dict[str, Callable[[Path], Path]] = {
    "zarr2": lambda folder: write(folder / "s.zarr", version=2),
    "zarr3": lambda folder: write(folder / "s.zarr", version=3),
    "ours": lambda folder: _simulated(folder / "s.zarr"),
    "neon": lambda folder: _simulated(folder / "s.h5", layout="neon"),
    "envi": lambda folder: write_envi(folder / "s.img", CUBE),
}


def _simulated(path: Path, **options: Any) -> Path:
    simulate(path, 70, 70, bands=6, seed=1, **options)
    return path


def files_of(path: Path) -> list[Path]:
    if path.is_dir():
        return [file for file in sorted(path.rglob("*")) if file.is_file()]
    return [file for file in sorted(path.parent.glob(f"{path.stem}.*")) if file.is_file()]


def changes(old: dict[str, Any], path: Path) -> list[str]:
    return list(list_changes(old, open_scene(path).fingerprint()))


def replace_bytes(file: Path) -> None:
    """Another content of the same size and the same time, in place."""
    status, data = file.stat(), bytearray(file.read_bytes())
    data[0] ^= 255
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def touch(file: Path) -> None:
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))


@pytest.mark.parametrize("kind", SCENES)
def test_fingerprint__of_a_copy_with_its_times_is_the_same(kind: str, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    path = SCENES[kind](tmp_path / "a")
    first = open_scene(path).fingerprint()
    assert str(tmp_path) not in repr(first)
    assert not has_other_inodes(first, open_scene(path).fingerprint())
    shutil.copytree(tmp_path / "a", tmp_path / "b")  # as cp -a
    copied = tmp_path / "b" / path.name
    assert changes(first, copied) == []
    assert has_other_inodes(first, open_scene(copied).fingerprint())


@pytest.mark.parametrize("kind", SCENES)
@pytest.mark.parametrize("harm", [replace_bytes, touch])
def test_fingerprint__knows_each_file_of_a_scene(
    kind: str, harm: Callable[[Path], None], tmp_path: Path
) -> None:
    path = SCENES[kind](tmp_path)
    scene = open_scene(path)
    first = scene.fingerprint()
    stamped = first["files"]
    for file in files_of(path):
        inside = str(file.relative_to(path)) if path.is_dir() else file.name
        if inside in ("zarr.json", ".zgroup", ".zmetadata", ".zattrs"):
            continue  # of the root, which says nothing of the cube
        if "every4th/" in inside and "/reflectance/" not in inside.removeprefix("reflectance/"):
            continue  # coordinates of the copy, which nobody reads
        data, status = file.read_bytes(), file.stat()
        harm(file)
        try:
            found = list(list_changes(first, scene.fingerprint()))
        except SceneError as error:  # metadata that cannot be read any more
            assert str(file) in error.message  # noqa: PT017
        else:
            assert found, inside
            assert all(name in stamped for name in found), found
        file.write_bytes(data)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert list(list_changes(first, scene.fingerprint())) == []


def test_fingerprint__names_a_lost_and_a_new_chunk(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", version=2)
    chunk = path / "reflectance" / "reflectance" / "0.0.0"
    first = open_scene(path).fingerprint()
    chunk.rename(tmp_path / "kept")
    assert changes(first, path) == ["reflectance/0.0.0"]
    lost = open_scene(path).fingerprint()
    (tmp_path / "kept").rename(chunk)
    assert changes(lost, path) == ["reflectance/0.0.0"]


def test_fingerprint__of_a_mosaic_names_file_and_member(tmp_path: Path) -> None:
    paths = [_simulated(tmp_path / f"{number}.zarr") for number in range(2)]
    first = open_scene(paths).fingerprint()
    touch(tmp_path / "1.zarr/reflectance/reflectance/c/0/0/0")
    found = list(list_changes(first, open_scene(paths).fingerprint()))
    assert found == ["1.zarr/reflectance/c/0/0/0"]


# --- a bounded number of looks ---------------------------------------------------------


def test_spread__is_even_and_always_the_same() -> None:
    assert spread(3, 8) == [0, 1, 2]
    assert spread(100_000, 4096) == spread(100_000, 4096)
    assert len(spread(100_000, 4096)) == 4096
    assert spread(10, 4) == [0, 3, 6, 9]


def test_stamps__of_many_files_read_few(tmp_path: Path) -> None:
    paths = {}
    for number in range(300):
        paths[str(number)] = str(tmp_path / str(number))
        (tmp_path / str(number)).write_bytes(bytes([number % 256]) * 20)
    found = stamp_files(paths)["files"]
    assert len(found) == 300
    assert sum(text.count(" ") == 2 for text in found.values()) == MOST_READ
    assert stamp_files({"a": str(tmp_path / "none")})["files"] == {"a": "absent"}


def test_fingerprint__of_very_many_chunks_looks_at_some(tmp_path: Path) -> None:
    """A hundred thousand chunks of which none exists: as many looks as for few."""
    path = write(tmp_path / "s.zarr", version=3)
    scene = open_scene(path)
    few = len(scene.fingerprint(8)["files"])
    assert few < len(scene.fingerprint()["files"]) or few < 40
    zarr.create_array(
        tmp_path / "big.zarr", shape=(100_000, 10, 4), chunks=(1, 10, 4), dtype="int16"
    )
    names = some_file_names(zarr.open_array(tmp_path / "big.zarr"), 4096)
    assert len(names) == 4096
    assert names[0] == "c/0/0/0"
    assert names[-1] == "c/99999/0/0"


# --- what a resumed run says ---------------------------------------------------------------


def plan_of(path: Path) -> Plan:
    return Plan(Area(0, 9, 0, 9), (9, 9), False, {}, open_scene(path).fingerprint())


def check(tmp_path: Path, old: Plan, path: Path) -> None:
    check_same(RunFolder(tmp_path / "out"), old, plan_of(path), "--restart")


def test_resume__names_the_file_that_has_changed(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", version=2)
    old = plan_of(path)
    check(tmp_path, old, path)
    touch(path / "reflectance" / "reflectance" / "0.0.0")
    with pytest.raises(ConfigError, match=r"has changed \(files\): reflectance/0\.0\.0"):
        check(tmp_path, old, path)


def test_resume__takes_a_copy_of_the_file_that_was_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", version=2)
    old, folder = plan_of(path), RunFolder(tmp_path / "out")
    folder.work.mkdir(parents=True)
    chunk = path / "reflectance" / "reflectance" / "0.0.0"
    note_unreadable(folder, f"Tile 0: no (chunk file {chunk})")
    touch(chunk)
    check(tmp_path, old, path)
    other = next(file for file in chunk.parent.iterdir() if file.name not in ("0.0.0", ".zarray"))
    touch(other)
    with pytest.raises(ConfigError, match="has changed"):
        check(tmp_path, old, path)


def test_resume__with_copied_files_is_warned_of(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", version=2)
    old = plan_of(path)
    assert describe_copied_scene(old, plan_of(path)) is None
    shutil.copytree(path, tmp_path / "copy.zarr")
    shutil.rmtree(path)
    (tmp_path / "copy.zarr").rename(path)
    check(tmp_path, old, path)
    assert "give --restart" in str(describe_copied_scene(old, plan_of(path)))


def test_resume__of_what_an_older_version_began_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", version=2)
    new = plan_of(path)
    older = {k: v for k, v in new.fingerprint.items() if k not in ("described", "inodes")}
    old = Plan(new.area, new.tile_shape, False, {}, older | {"files": {"array/.zarray": [1, 2]}})
    assert is_of_older_version(old.fingerprint, new.fingerprint)
    with pytest.raises(ConfigError, match="begun by an earlier version"):
        check(tmp_path, old, path)


def test_description__counts_what_coordinates_say(tmp_path: Path) -> None:
    path = write(tmp_path / "s.zarr", version=2)
    scene = open_scene(path)
    shifted = np.array(scene.wavelength_nm) + 1
    other = replace(scene, wavelength_nm=shifted)
    assert list(list_changes(scene.fingerprint(), other.fingerprint())) == ["described"]
