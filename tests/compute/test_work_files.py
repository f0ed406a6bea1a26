"""Files in OUT/work are compared with their checksums before a resumed run uses them."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from hyperhpc.analysis.kmeans import Step
from hyperhpc.compute.fit.fitting import Checkpoint
from hyperhpc.compute.grid_file import GridFile
from hyperhpc.compute.results_store import create_results, is_store_intact
from hyperhpc.compute.sample import Sample, SampleJob, sample_tile
from hyperhpc.compute.stores import set_attributes
from hyperhpc.compute.tiles import drop_damaged_records, read_record
from hyperhpc.compute.transpose import (
    TransposeJob,
    _read_depth,
    create_transposed,
    cut_slabs,
    transpose_bands,
)
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.rundir.plan import Area, Plan
from hyperhpc.rundir.progress import Progress
from hyperhpc.scene import open_scene
from hyperhpc.scene.formats import zarr_write
from hyperhpc.sealed import write_sealed
from hyperhpc.simulate.scene import simulate
from hyperhpc.tools.ingest import IngestJob, _write_metadata_again, describe_cube, write_shard

SIDE, BANDS = 120, 6


def flip_bit(path: Path, seed: int) -> int:
    """Flip one bit of a file; gives the position of its byte."""
    data = bytearray(path.read_bytes())
    draw = random.Random(seed)
    at = draw.randrange(len(data))
    data[at] ^= 1 << draw.randrange(8)
    path.write_bytes(data)
    return at


@pytest.fixture(scope="module")
def scene_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "scene.zarr"
    simulate(path, SIDE, SIDE, bands=BANDS, seed=2)
    return path


# --- windows of grid files -------------------------------------------------------------


def test_grid_file__knows_a_window_that_has_changed(tmp_path: Path) -> None:
    file = GridFile(tmp_path / "a.dat", (6, 5, 2), "int16")
    file.create()
    window = np.arange(2 * 3 * 2, dtype=np.int16).reshape(2, 3, 2)
    written = file.write(1, 2, window)
    assert written[:4] == [1, 2, 2, 3]
    assert file.is_as_written(written)
    whole = file.path.read_bytes()
    inside = np.zeros((6, 5, 2), bool)
    inside[1:3, 2:5] = True
    for at in range(file.nbytes):
        harmed = bytearray(whole)
        harmed[at] ^= 0x10
        file.path.write_bytes(harmed)
        assert file.is_as_written(written) == (not inside.ravel()[at // 2])


@pytest.mark.parametrize("name", ["sample.dat", "sample-mask.dat"])
@pytest.mark.parametrize("seed", range(4))
def test_sample__a_flipped_bit_is_named_and_its_tile_read_again(
    scene_path: Path, tmp_path: Path, name: str, seed: int
) -> None:
    scene, area, stride = open_scene(scene_path), Area(0, SIDE, 0, SIDE), 3
    tiles = list(Plan(area, (50, 40), False, {}, {}).tiles())
    sample = Sample.at(tmp_path, area, stride, BANDS, scene.dtype)
    job = SampleJob(scene, area, stride, np.arange(BANDS), sample)
    files = (sample.values, sample.mask)
    records = tmp_path / "sample"
    records.mkdir()
    for file in files:
        file.create()
    for tile in tiles:
        write_sealed(records / f"{tile.name}.json", sample_tile(job, tile))
    right = {file.path: file.path.read_bytes() for file in files}
    warnings: list[str] = []
    drop_damaged_records(tmp_path, records, warnings.append, files)
    assert not warnings
    at = flip_bit(tmp_path / name, seed)
    drop_damaged_records(tmp_path, records, warnings.append, files)
    (missing,) = [tile for tile in tiles if not (records / f"{tile.name}.json").exists()]
    file = next(file for file in files if file.path.name == name)
    row, col = divmod(at // file.pixel_bytes, file.shape[1])
    assert missing.y0 <= row * stride < missing.y1
    assert missing.x0 <= col * stride < missing.x1
    assert f"computed again: {missing.name} ({name} holds other bytes" in warnings[0]
    sample_tile(job, missing)
    assert {file.path: file.path.read_bytes() for file in files} == right


# --- records, checkpoints and the empty store --------------------------------------------


def test_record__that_is_damaged_is_none(tmp_path: Path) -> None:
    path = tmp_path / "0000-0000.json"
    for seed in range(20):
        write_sealed(path, {"valid": 12, "bytes_read": 3})
        assert read_record(path) == {"valid": 12, "bytes_read": 3}
        flip_bit(path, seed)
        assert read_record(path) is None


def test_checkpoint__that_is_damaged_is_named_and_not_used(tmp_path: Path) -> None:
    warnings: list[str] = []
    checkpoint = Checkpoint(tmp_path / "fit-lloyd.json", warnings.append)
    step = Step(np.array([[0.1, 2.5]]), 3, is_settled=True)
    checkpoint.keep(step)
    kept = checkpoint.read()
    assert kept is not None
    assert kept.centres.tolist() == step.centres.tolist()
    flip_bit(checkpoint.path, 1)
    assert checkpoint.read() is None
    assert f"{checkpoint.path} is damaged" in warnings[0]


def test_store__is_intact_with_our_attributes_only(tmp_path: Path, scene_path: Path) -> None:
    folder, warnings = RunFolder(tmp_path), list[str]()
    folder.work.mkdir()
    plan = Plan(Area(0, 20, 0, 20), (10, 10), False, {}, {})
    create_results(folder, plan, open_scene(scene_path).grid, ["ndvi"], ["lloyd"])
    attributes = folder.results / ".zattrs"
    for more in ({"complete": False}, {"complete": True}, {"bad_tiles": ["0000-0000"]}):
        set_attributes(folder.results, **more)
        assert is_store_intact(folder, warnings.append)
    whole = attributes.read_text("utf-8")
    attributes.write_text(whole.replace("results", "resuits"), "utf-8")
    assert not is_store_intact(folder, warnings.append)
    assert "results.zarr/.zattrs holds other bytes" in warnings.pop()
    attributes.write_text(whole, "utf-8")
    flip_bit(folder.store_sums, 3)
    assert not is_store_intact(folder, warnings.append)
    assert f"{folder.store_sums} is damaged" in warnings.pop()


# --- the transposed copy, and stores of ingest --------------------------------------------


def test_transposed__every_file_is_compared(scene_path: Path, tmp_path: Path) -> None:
    scene, area, path = open_scene(scene_path), Area(0, SIDE, 0, SIDE), tmp_path / "t.zarr"
    create_transposed(scene, area, 3, path)
    job, records = TransposeJob(scene, area, path), tmp_path / "transpose"
    records.mkdir()
    for slab in cut_slabs(scene, area, 3):
        write_sealed(records / f"{slab.name}.json", transpose_bands(job, slab))
    warnings: list[str] = []
    drop_damaged_records(path, records, warnings.append)
    assert not warnings
    files = [file for file in sorted(path.rglob("*")) if file.is_file()]
    assert {file.name for file in files} == {"zarr.json", "0"}
    for file in files:
        shutil.copytree(records, tmp_path / "again")
        data = file.read_bytes()
        flip_bit(file, 5)
        drop_damaged_records(path, tmp_path / "again", warnings.append)
        assert str(file.relative_to(tmp_path)) in warnings.pop()
        assert len(list((tmp_path / "again").iterdir())) == len(list(records.iterdir())) - 1
        shutil.rmtree(tmp_path / "again")
        file.write_bytes(data)


def test_depth__of_a_damaged_file_is_chosen_again(tmp_path: Path) -> None:
    path = tmp_path / "band-groups.json"
    assert _read_depth(path, Progress()) is None
    write_sealed(path, {"bands": 7})
    assert _read_depth(path, Progress()) == 7
    flip_bit(path, 2)
    assert _read_depth(path, Progress()) is None


def test_ingest__resumes_over_no_flipped_bit(scene_path: Path, tmp_path: Path) -> None:
    """Of the same length, so that only checksums show it; metadata are written again."""
    scene, folder = open_scene(scene_path), RunFolder(tmp_path)
    plan = Plan(Area(0, SIDE, 0, SIDE), (64, 64), False, {}, {})
    about = describe_cube(scene, plan.area)
    zarr_write.create_cube_store(folder.store, about, side=64)
    records = folder.records("ingest")
    records.mkdir(parents=True)
    job = IngestJob(scene, scene, plan.area, folder.store, ())
    for tile in plan.tiles():
        write_sealed(records / f"{tile.name}.json", write_shard(job, tile))
    files = {file: file.read_bytes() for file in folder.store.rglob("*") if file.is_file()}
    warnings: list[str] = []
    shards = [file for file in sorted(files) if file.parts[-5:-3] == ("reflectance", "c")]
    names = ("zarr.json", "reflectance/zarr.json", "reflectance/wl/c/0")
    for number, file in enumerate([shards[0], *(folder.store / name for name in names)]):
        flip_bit(file, number)
        _write_metadata_again(scene, plan, folder)
        drop_damaged_records(folder.store, records, warnings.append)
        for tile in plan.tiles():
            if not (records / f"{tile.name}.json").exists():
                assert str(file.relative_to(tmp_path)) in warnings.pop()
                write_sealed(records / f"{tile.name}.json", write_shard(job, tile))
        assert file.read_bytes() == files[file], file
    assert not warnings
