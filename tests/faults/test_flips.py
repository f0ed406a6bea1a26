"""One flipped bit in any file of a run, of its work before a resume, or of an ingested store.

Each flip is drawn from a seed that is printed. The file that held the bit is named, or was made
again before it was used; and whatever is read is what it was before.
"""

from __future__ import annotations

import fnmatch
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from tally import Tally

from cli_case import call, kill_in_classify
from hyperhpc.compute.results_store import CHUNK
from hyperhpc.errors import HyperhpcError
from hyperhpc.results import open_results
from hyperhpc.rundir.folder import RunFolder, read_plan
from hyperhpc.rundir.integrity import is_drawn
from hyperhpc.rundir.progress import StopRequest
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.sealed import read_json, read_sums
from hyperhpc.simulate.scene import simulate
from hyperhpc.tools import ingest as ingest_module
from hyperhpc.tools.verify import verify
from run_case import RunCase

pytestmark = [pytest.mark.faults, pytest.mark.usefixtures("no_report")]

OPTIONS = "--models lloyd --workers 1 --memory-per-worker 1GiB".split()
#: Share of the flips that each test makes.
SHARES = {"finished": 0.3, "store": 0.3, "resume": 0.2, "ingest": 0.2}
#: Files of which a flipped bit is not named, and why.
EXCEPTED = {
    "status.txt": "says what the run does, and is replaced every second; no result is in it",
    ".lock": "says who works there; one that cannot be read counts by its age, a minute",
    "work/subsample*.npy": "drawn again from the sample before anything is read from it",
    "work/fit-*.json": "not read any more once model.json is there",
    "work/overview.json": "written again before it is read",
    "spectra.json": "written again at the start",
    "work/sum-of-spectra.json": "written again at the start",
    "results.zarr/.zmetadata": "gathered again at the end from files that are compared",
    "store/*": "metadata and coordinates are written again, shards are compared",
}


def count(request: pytest.FixtureRequest, kind: str) -> int:
    """How many flips a test makes, at least one."""
    return max(1, round(int(request.config.getoption("--flips", default=16)) * SHARES[kind]))


def seeds(request: pytest.FixtureRequest, kind: str) -> range:
    """The seed of each flip; to see one again: -k NAME --flips 1 --flip-seed SEED."""
    first = int(request.config.getoption("--flip-seed", default=0))
    return range(first, first + count(request, kind))


def flip(root: Path, seed: int, under: str = ".") -> tuple[str, int]:
    """Flip one bit of one file, in a folder of ``root``; gives its name and place of its byte."""
    draw = random.Random(seed)
    files = [path for path in (root / under).rglob("*") if path.is_file()]
    names = sorted(str(path.relative_to(root)) for path in files)
    name = draw.choice([name for name in names if (root / name).stat().st_size and name != ".lock"])
    data = bytearray((root / name).read_bytes())
    at = draw.randrange(len(data))
    data[at] ^= 1 << draw.randrange(8)
    (root / name).write_bytes(data)
    print(f"seed {seed}: bit of byte {at} of {name}")
    return name, at


def is_excepted(name: str) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in EXCEPTED)


def compare_parts(parts: dict[str, Callable[[], Any]], right: dict[str, Any]) -> None:
    """Each part is what it was, or is refused."""
    for name, read in parts.items():
        try:
            found = read()
        except HyperhpcError:
            continue
        np.testing.assert_equal(found, right[name], err_msg=name)


def values_of(group: zarr.Group) -> dict[str, Any]:
    """All arrays of a store, and their attributes."""
    return {
        name: (np.asarray(node[...]) if isinstance(node, zarr.Array) else None, dict(node.attrs))
        for name, node in group.members(max_depth=None)
    }


# --- a finished run ---------------------------------------------------------------------


def parts_of_run(out: Path) -> dict[str, Callable[[], Any]]:
    def opened() -> Any:
        return open_results(out, complete=True)

    return {
        "run": lambda: opened().run,
        "model": lambda: opened().model,
        "clusters": lambda: opened().clusters,
        "spectra": lambda: opened().spectra,
        "maps": lambda: values_of(opened().store),
        "overview": lambda: values_of(opened().pyramid.group),
        "plan": lambda: read_plan(RunFolder(out)).to_json(),
    }


def test_flips__of_a_finished_run(
    run_case: RunCase, tmp_path: Path, request: pytest.FixtureRequest, tally: Tally
) -> None:
    right = {name: read() for name, read in parts_of_run(run_case.out).items()}
    for seed in seeds(request, "finished"):
        out = tmp_path / str(seed)
        shutil.copytree(run_case.out, out)
        name, _ = flip(out, seed)
        try:
            named = "; ".join(verify(out).damaged)
        except HyperhpcError as error:
            named = error.message
        assert name in named or name == "status.txt", named
        compare_parts(parts_of_run(out), right)
        tally.flips["named" if name in named else "excepted"] += 1
        shutil.rmtree(out)


# --- an ingested store --------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene with layers and flight lines."""
    path = tmp_path_factory.mktemp("flips") / "scene.h5"
    simulate(path, 150, 130, bands=20, seed=5, layout="neon")
    return path


@pytest.fixture(scope="module")
def store(source: Path, shared_workers: None) -> Path:
    """That scene, ingested."""
    out = source.with_name("store.zarr")
    done = call("ingest", source, out, "--memory-per-worker", "1GiB")
    assert done.code == 0, done.err
    return out


def parts_of_scene(path: Path) -> dict[str, Callable[[], Any]]:
    def read(function: Callable[[Scene, slice, slice], Any]) -> Callable[[], Any]:
        def read_now() -> Any:
            scene = open_scene(path)
            return function(scene, slice(0, scene.shape[0]), slice(0, scene.shape[1]))

        return read_now

    def read_blocks(scene: Scene, rows: slice, cols: slice) -> list[Any]:
        return [(row, col, dn.copy()) for row, col, dn in scene.blocks(rows, cols)]

    def read_thinned(scene: Scene, *_: slice) -> Any:
        assert scene.thinned is not None
        height, width, _bands = scene.thinned.shape
        return scene.thinned.read(slice(0, height), slice(0, width))

    return {
        "about": read(lambda scene, *_: (scene.wavelength_nm, scene.fwhm_nm, scene.bad_bands)),
        "grid": read(lambda scene, *_: (scene.grid, scene.nodata, scene.scale_factor)),
        "cube": read(lambda scene, *window: scene.read(*window)),
        "blocks": read(read_blocks),
        "thinned": read(read_thinned),
        "origins": read(lambda scene, *window: scene.read_origins(*window)),
        "layers": read(lambda scene, *window: scene.read_layers(*window, list(scene.layers()))),
    }


def test_flips__of_an_ingested_store(
    store: Path, tmp_path: Path, request: pytest.FixtureRequest, tally: Tally
) -> None:
    right = {name: read() for name, read in parts_of_scene(store).items()}
    for seed in seeds(request, "store"):
        copy = tmp_path / f"{seed}.zarr"
        shutil.copytree(store, copy)
        name, _ = flip(copy, seed)
        try:
            named = "; ".join(verify(copy).damaged)
        except HyperhpcError as error:
            named = error.message
        assert name in named, named
        compare_parts(parts_of_scene(copy), right)
        tally.flips["named"] += 1
        shutil.rmtree(copy)


# --- before a resume ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(small_scene: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed in the classify pass, some of its tiles finished."""
    return kill_in_classify(small_scene, tmp_path_factory.mktemp("stopped") / "out", OPTIONS)


def is_unfinished(out: Path, name: str, at: int) -> bool:
    """True for a part of a file that a tile will write which is not finished."""
    folder = RunFolder(out)
    records = [read_json(path) for path in folder.records("classify").glob("*.json")]
    inside = name.removeprefix(f"{folder.results.name}/")
    if CHUNK.fullmatch(inside):
        return not any(inside in record["files"] for record in records)
    if not fnmatch.fnmatch(name, "work/overview-*.dat"):
        return False
    written = [record["windows"].get(Path(name).name) for record in records]
    known = sum(height * width for _, _, height, width, _ in filter(None, written))
    size = (out / name).stat().st_size
    plan = read_plan(folder)
    n_pixels = plan.area.shape[0] * plan.area.shape[1]  # every pixel: a small area
    pixel = at // (size // n_pixels)
    row, col = divmod(pixel, plan.area.shape[1])
    is_known = any(
        y <= row < y + height and x <= col < x + width
        for y, x, height, width, _ in filter(None, written)
    )
    return known < n_pixels and not is_known


@pytest.mark.usefixtures("shared_workers")
def test_flips__before_a_resume(
    small_scene: Path,
    small_run: Path,
    stopped: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    tally: Tally,
) -> None:
    sums = read_sums(small_run / "checksums.json")
    right = {name: sums[name] for name in sums if not is_drawn(RunFolder(small_run), name)}
    for seed in seeds(request, "resume"):
        out = tmp_path / str(seed)
        shutil.copytree(stopped, out)
        name, at = flip(out, seed, "work" if seed % 2 else ".")  # most files are maps
        is_again = is_excepted(name) or is_unfinished(stopped, name, at)
        done = call("run", small_scene, out, *OPTIONS)
        shown = Path(name).name
        is_named = shown in done.err or Path(name).stem in done.err
        assert is_named or is_again, f"{name}: {done.err}"
        if done.code:
            assert done.code in (3, 4, 7), done.err
            assert shown in done.error
        else:
            assert {**read_sums(out / "checksums.json")} == right, f"{name}: {done.err}"
        tally.flips["refused" if done.code else "named" if is_named else "made again"] += 1
        shutil.rmtree(out)


@pytest.fixture(scope="module")
def stopped_ingest(source: Path, shared_workers: None) -> Path:
    """OUT.part of an ingest that was stopped when all shards were written."""

    def stop(*args: object) -> None:
        raise StopRequest

    out = source.with_name("other.zarr")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_module, "remove_partial_files", stop)
        assert call("ingest", source, out, "--memory-per-worker", "1GiB").code == 7
    return out.with_name("other.zarr.part")


@pytest.mark.usefixtures("shared_workers")
def test_flips__before_an_ingest_resumes(
    source: Path,
    store: Path,
    stopped_ingest: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    tally: Tally,
) -> None:
    right = dict(read_sums(store / "checksums.json"))
    for seed in seeds(request, "ingest"):
        out = tmp_path / f"{seed}.zarr"
        part = out.with_name(f"{seed}.zarr.part")
        shutil.copytree(stopped_ingest, part)
        name, _ = flip(part, seed)
        done = call("ingest", source, out, "--memory-per-worker", "1GiB")
        is_named = Path(name).name in done.err
        assert is_named or is_excepted(name), f"{name}: {done.err}"
        if done.code:
            assert done.code in (3, 4, 7), done.err
            assert Path(name).name in done.error
            shutil.rmtree(part)
        else:
            assert dict(read_sums(out / "checksums.json")) == right, name
            assert not verify(out).damaged
            shutil.rmtree(out)
        tally.flips["refused" if done.code else "named" if is_named else "made again"] += 1
