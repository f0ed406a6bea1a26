"""The plan: areas, tiles and memory, for chunks of every awkward shape."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hyperhpc.config import RunConfig, load_config
from hyperhpc.errors import ConfigError, ResourceError
from hyperhpc.pipeline.prepare import describe_plan
from hyperhpc.rundir.memory import max_tile_bytes, pixel_bytes
from hyperhpc.rundir.plan import TARGET_TILE_BYTES, Area, Plan, choose_area, make_plan
from hyperhpc.scene.cube import Grid, Scene
from hyperhpc.workers.sizes import BASE_BYTES

GIB = 2**30
Shape = tuple[int, int, int]


class FakeScene(Scene):
    """A scene by its shape alone."""

    def fingerprint(self) -> dict:
        return {"kind": "fake"}

    def read(self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None) -> np.ndarray:
        raise AssertionError("a plan reads no pixels")


def a_scene(
    shape: Shape, chunks: Shape, shards: Shape | None = None, stored: str = "int16"
) -> Scene:
    return FakeScene(
        path="nowhere",
        format="zarr3",
        shape=shape,
        dtype="int16",
        stored_dtype=stored,
        wavelength_nm=np.linspace(400, 2500, shape[2]),
        scale_factor=10000.0,
        nodata=(-9999.0,),
        grid=Grid(1000.0, 9000.0, 1.0, 1.0),
        chunks=chunks,
        shards=shards,
    )


def a_config(**options: object) -> RunConfig:
    return RunConfig(scene=Path("s"), out=Path("o"), **options)  # type: ignore[arg-type]


def check_tiles(plan: Plan) -> None:
    """Each pixel of the area is in exactly one tile, and names are unique."""
    names: list[str] = []
    for side in (1, 2, 4):
        times = np.zeros(plan.area.shape, dtype=np.uint8)
        tiles = list(plan.tiles(side))
        for tile in tiles:
            assert 0 < tile.shape[0] <= plan.tile_shape[0] * side
            assert 0 < tile.shape[1] <= plan.tile_shape[1] * side
            times[tile.y0 : tile.y1, tile.x0 : tile.x1] += 1
        assert (times == 1).all()
        assert len(tiles) == plan.n_tiles(side)
        own = [tile.name for tile in tiles]
        assert own == sorted(own)
        names += own
    assert len(set(names)) == len(names)


# --- tiles ----------------------------------------------------------------------------

SCENES = {
    "tutorial": ((3000, 3000, 426), (776, 241, 30)),
    "neon until 2021": ((1000, 1000, 426), (32, 63, 27)),
    "one row": ((1000, 1300, 426), (1, 1300, 426)),
    "one pixel": ((500, 700, 426), (1, 1, 426)),
    "ours": ((2000, 2100, 426), (64, 64, 426)),
    "a chunk wider than the scene": ((100, 90, 426), (128, 128, 426)),
    "few bands": ((5000, 4000, 5), (512, 512, 5)),
    "a strip": ((3, 9000, 426), (3, 64, 426)),
    "one column": ((9000, 1, 426), (64, 64, 426)),
    "nothing but one pixel": ((1, 1, 2), (1, 1, 2)),
}


@pytest.mark.parametrize("memory", ["900MiB", "1GiB", "4GiB", "64GiB"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", SCENES)
def test_make_plan__whole_chunks_within_the_limit(name: str, threads: int, memory: str) -> None:
    shape, chunks = SCENES[name]
    scene = a_scene(shape, chunks)
    config = a_config(memory_per_worker=memory, threads_per_worker=threads)
    plan = make_plan(scene, config)
    check_tiles(plan)
    largest = max_tile_bytes(config.memory_bytes, threads)
    tile_bytes = plan.tile_shape[0] * plan.tile_shape[1] * pixel_bytes(scene)
    assert tile_bytes <= largest
    unit = tuple(min(c, s) for c, s in zip(chunks[:2], shape, strict=False))
    if not plan.is_transposed:
        for tile, chunk, side in zip(plan.tile_shape, unit, shape, strict=False):
            assert tile % chunk == 0 or tile == side, "a chunk would be decoded twice"
        if tile_bytes > unit[0] * unit[1] * pixel_bytes(scene):  # it grew beyond one chunk
            assert tile_bytes <= TARGET_TILE_BYTES
    assert json.loads(json.dumps(plan.to_json())) == plan.to_json()
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize("chunks", [(3000, 3000, 1), (1500, 3000, 4)])
def test_make_plan__chunks_too_large_are_transposed(chunks: Shape) -> None:
    plan = make_plan(a_scene((3000, 3000, 426), chunks), a_config(memory_per_worker="2GiB"))
    assert plan.is_transposed
    check_tiles(plan)
    assert all(side % 128 == 0 for side in plan.tile_shape)


def test_make_plan__one_chunk_of_all_bands_too_large_is_refused() -> None:
    """Transposed by bands it would be decoded whole, in every task."""
    scene = a_scene((3000, 3000, 426), (1024, 1024, 426))
    with pytest.raises(ResourceError, match="1024 x 1024 pixels of 426 bands") as caught:
        make_plan(scene, a_config(memory_per_worker="2GiB"))
    need = str(caught.value.hint).split()[-1]
    assert not make_plan(scene, a_config(memory_per_worker=need)).is_transposed


def test_make_plan__small_band_chunks_are_not_transposed() -> None:
    assert not make_plan(a_scene((300, 300, 426), (300, 300, 1)), a_config()).is_transposed


def test_make_plan__reads_inner_chunks_not_shards() -> None:
    scene = a_scene((4096, 4096, 426), (64, 64, 426), shards=(2048, 2048, 426))
    plan = make_plan(scene, a_config(memory_per_worker="2GiB"))
    assert not plan.is_transposed
    assert plan.tile_shape[0] % 64 == 0


def test_make_plan__small_scenes_are_shared_among_workers() -> None:
    plan = make_plan(a_scene((1000, 1000, 426), (64, 64, 426)), a_config())
    assert 9 <= len(list(plan.tiles())) <= 64


def test_make_plan__wide_integers_need_twice_the_memory() -> None:
    assert pixel_bytes(a_scene((9, 9, 100), (9, 9, 100), stored="int32")) == 400
    assert pixel_bytes(a_scene((9, 9, 100), (9, 9, 100))) == 200


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("n_bands", [30, 426, 2000])
def test_make_plan__least_memory_it_names_is_enough(n_bands: int, threads: int) -> None:
    scene = a_scene((500, 500, n_bands), (64, 64, n_bands))
    with pytest.raises(ResourceError) as caught:
        make_plan(scene, a_config(memory_per_worker="1MiB", threads_per_worker=threads))
    enough = str(caught.value.hint).split()[2]
    check_tiles(make_plan(scene, a_config(memory_per_worker=enough, threads_per_worker=threads)))
    less = f"{int(enough.removesuffix('MiB')) - 2}MiB"
    with pytest.raises(ResourceError):
        make_plan(scene, a_config(memory_per_worker=less, threads_per_worker=threads))


def test_max_tile_bytes__is_nothing_below_what_a_worker_needs() -> None:
    assert max_tile_bytes(BASE_BYTES, 1) < 0
    assert max_tile_bytes(4 * GIB, 1) == pytest.approx(2 * max_tile_bytes(4 * GIB, 2), abs=2)


# --- areas ----------------------------------------------------------------------------


def test_choose_area__takes_pixels_by_their_centres() -> None:
    scene = a_scene((50, 40, 9), (50, 40, 9))  # x 1000-1040, y 8950-9000
    xs, ys = 1000.5 + np.arange(40), 8999.5 - np.arange(50)
    random = np.random.default_rng(0)
    boxes = [(1003.5, 8960.5, 1009.5, 8970.5), (1003.6, 8960.4, 1009.4, 8970.6)]
    for _ in range(50):
        (x0, x1), (y0, y1) = (
            np.sort(random.uniform(low, high, 2)) for low, high in ((990, 1050), (8940, 9010))
        )
        boxes.append((x0, y0, x1, y1))
    for box in boxes:
        cols = np.flatnonzero((xs >= box[0]) & (xs <= box[2]))
        rows = np.flatnonzero((ys >= box[1]) & (ys <= box[3]))
        if rows.size and cols.size:
            assert choose_area(scene, box) == Area(rows[0], rows[-1] + 1, cols[0], cols[-1] + 1)
        else:
            with pytest.raises(ConfigError, match=r"holds no pixel centre|lies outside"):
                choose_area(scene, box)


def test_choose_area__whole_scene_by_default_or_beyond_its_edges() -> None:
    scene = a_scene((50, 40, 9), (50, 40, 9))
    infinite = float("inf")
    assert choose_area(scene, None) == Area(0, 50, 0, 40)
    assert choose_area(scene, (-infinite, -infinite, infinite, infinite)).shape == (50, 40)


@pytest.mark.parametrize(
    ("box", "part"),
    [
        ((1010, 8960, 1000, 8970), "reversed"),
        ((1003.6, 8960, 1004.4, 8970), "1003.6,8960,1004.4,8970 holds no pixel centre"),
        ((0, 0, 1, 1), "lies outside the scene, which spans 1000,8950,1040,9000"),
    ],
)
def test_choose_area__messages(box: tuple[float, float, float, float], part: str) -> None:
    with pytest.raises(ConfigError, match=part):
        choose_area(a_scene((50, 40, 9), (50, 40, 9)), box)


def test_make_plan__tiles_of_a_box_cover_it() -> None:
    scene = a_scene((1000, 1000, 426), (776, 241, 30))
    plan = make_plan(scene, a_config(bbox=(1013.0, 8101.0, 1904.0, 8977.0)))
    assert plan.area == Area(23, 899, 13, 904)
    check_tiles(plan)


def test_plan__a_small_scene_gets_one_worker_unless_more_are_asked_for(
    small_scene: Path, tmp_path: Path
) -> None:
    given = {"memory_per_worker": "512MiB"}
    for workers, expected in ((None, 1), (2, 2)):
        options = given | ({"workers": workers} if workers else {})
        config = load_config(str(small_scene), str(tmp_path / "out"), options)
        assert describe_plan(config)["workers"] == expected
