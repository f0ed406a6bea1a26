"""--mask: pixels that NEON's own quality layers advise against."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import shapely

from cli_case import call, check_refused
from hyperhpc.config import SceneOptions
from hyperhpc.errors import SceneError
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import LAYERS as LAYER_NAMES
from hyperhpc.scene.mosaic import layers_left_out
from hyperhpc.simulate.scene import simulate
from vector_case import geopackage

LAYERS = "CPER/Reflectance/Metadata/Ancillary_Imagery"
SHAPE = (60, 70)


@pytest.fixture(scope="module")
def weather() -> np.ndarray:
    """Cloud cover of a flight: 1 below 10 %, 2 to 50 %, 3 above."""
    classes = np.ones(SHAPE, dtype=int)
    classes[:, 20:30], classes[40:, 25:45] = 2, 3
    return classes


@pytest.fixture(scope="module", params=[False, True], ids=["001", "002"])
def tile(
    request: pytest.FixtureRequest, weather: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One with bad weather, haze and clouds, as each product stores them."""
    path = tmp_path_factory.mktemp("quality") / "tile.h5"
    simulate(path, *SHAPE, bands=12, seed=4, layout="neon", bidirectional=request.param)
    with h5py.File(path, "r+") as file:
        stored = file[f"{LAYERS}/Weather_Quality_Indicator"]
        if stored.ndim == 3:
            colours = np.array([[0, 0, 0], [0, 255, 0], [255, 255, 0], [255, 0, 0]])
            stored[...] = colours[weather]
        else:
            stored[...] = weather
        classes = file[f"{LAYERS}/Haze_Cloud_Water_Map"]
        classes[...] = 5
        classes[:5], classes[5:9], classes[9:11] = 15, 11, 17  # cloud, haze, water
        file[f"{LAYERS}/Cast_Shadow"][30:35, 5:10] = 1
    return path


def opened(path: Path, *names: str) -> Any:
    return open_scene(path, options=SceneOptions(mask=names))


def layer(path: Path, name: str) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(file[f"{LAYERS}/{name}"])


@pytest.mark.parametrize(
    "names", [("weather",), ("shadow",), ("cloud",), ("weather", "shadow", "cloud")]
)
def test_mask__hides_what_the_layers_advise_against(
    tile: Path, weather: np.ndarray, names: tuple[str, ...]
) -> None:
    hidden = {
        "weather": weather > 1,
        "shadow": layer(tile, "Cast_Shadow") == 1,
        "cloud": np.arange(SHAPE[0])[:, np.newaxis].repeat(SHAPE[1], axis=1) < 9,
    }
    expected = np.logical_or.reduce([hidden[name] for name in names])
    assert expected.any()
    whole, scene = open_scene(tile), opened(tile, *names)
    window = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    before, dn = whole.read(*window), scene.read(*window)
    assert (dn[expected] == -9999).all()
    np.testing.assert_array_equal(dn[~expected], before[~expected])
    some = scene.read(slice(1, 60, 4), slice(2, 69, 3))
    np.testing.assert_array_equal(some, dn[1:60:4, 2:69:3])
    assert f"{int(expected.sum())} pixels" in scene.notes[-1]
    assert scene.fingerprint() != whole.fingerprint()


def test_mask__reads_the_names_of_classes_where_they_are_listed(tile: Path, tmp_path: Path) -> None:
    path = tmp_path / "named.h5"
    path.write_bytes(tile.read_bytes())
    with h5py.File(path, "r+") as file:
        classes = file[f"{LAYERS}/Haze_Cloud_Water_Map"]
        classes[...] = 0
        classes[3, 4], classes[5, 6] = 1, 2
        classes.attrs["Class_Names"] = ["clear", "thick cloud", "water"]
    dn = opened(path, "cloud").read(slice(0, 10), slice(0, 10))
    before = open_scene(path).read(slice(0, 10), slice(0, 10))
    assert (dn[3, 4] == -9999).all()
    np.testing.assert_array_equal(dn[5, 6], before[5, 6])


def changed(tile: Path, path: Path, name: str, **attributes: Any) -> Path:
    """A copy of a tile whose layer has these attributes only."""
    path.write_bytes(tile.read_bytes())
    with h5py.File(path, "r+") as file:
        image = file[f"{LAYERS}/{name}"]
        for known in list(image.attrs):
            del image.attrs[known]
        image.attrs.update(attributes)
    return path


@pytest.mark.parametrize(("codes", "text"), [((0, 1), "0 = no shadow"), ((1, 0), "1 = no shadow")])
def test_mask__takes_the_code_of_shadow_from_the_file(
    tile: Path, tmp_path: Path, codes: tuple[int, int], text: str
) -> None:
    lit, shade = codes
    path = changed(tile, tmp_path / "t.h5", "Cast_Shadow", Units=f"{text}, {shade} = shadow")
    before = layer(tile, "Cast_Shadow")
    with h5py.File(path, "r+") as file:
        file[f"{LAYERS}/Cast_Shadow"][...] = np.where(before == 1, shade, lit)
    scene = opened(path, "shadow")
    window = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    np.testing.assert_array_equal(scene.mask.hides(*window), before == 1)
    assert f"hides code {shade} of Cast_Shadow: shadow." in " ".join(scene.notes)
    assert not scene.warnings


def test_mask__refuses_codes_that_cannot_be_told(tile: Path, tmp_path: Path) -> None:
    silent = changed(tile, tmp_path / "silent.h5", "Cast_Shadow", Description="Cast shadow.")
    with pytest.raises(SceneError, match="does not say which code means shadow") as refused:
        opened(silent, "shadow")
    assert "--mask shadow=1, which NEON documents" in str(refused.value.hint)
    window = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    for code in (0, 1):
        found = opened(silent, f"shadow={code}").mask.hides(*window)
        np.testing.assert_array_equal(found, layer(tile, "Cast_Shadow") == code)
    odd = changed(tile, tmp_path / "odd.h5", "Haze_Cloud_Water_Map", Class_Names=["a", "water"])
    with pytest.raises(SceneError, match="holds 11, 15, 17, 5, which it does not explain"):
        opened(odd, "water")
    assert opened(odd, "water=17").mask.parts[0].codes == (17,)
    if layer(tile, "Weather_Quality_Indicator").ndim == 3:
        with pytest.raises(SceneError, match="is a picture, not codes"):
            opened(tile, "weather=2")
        with h5py.File(odd, "r+") as file:
            file[f"{LAYERS}/Weather_Quality_Indicator"][3, 4] = 0, 0, 255
        with pytest.raises(SceneError, match=r"holds \(0,0,255\), which it does not explain"):
            opened(odd, "weather")


def test_mask__warns_of_a_layer_that_hides_most(tile: Path, tmp_path: Path) -> None:
    """As in NEON's files of 2017 and 2019, where Cast_Shadow is 1 wherever there are data."""
    path = tmp_path / "placeholder.h5"
    path.write_bytes(tile.read_bytes())
    with h5py.File(path, "r+") as file:
        shadow = file[f"{LAYERS}/Cast_Shadow"]
        shadow[...] = np.where(shadow[...] == 241, 241, 1)
    (warning,) = opened(path, "shadow", "haze").warnings
    assert "--mask shadow hides 100% of the valid pixels" in warning
    assert "Cast_Shadow" in warning
    assert not opened(tile, "shadow", "haze").warnings


def test_mask__hides_the_share_of_valid_pixels_that_it_says(tile: Path) -> None:
    window = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    is_valid = (open_scene(tile).read(*window) != -9999).all(axis=2)
    is_land = layer(tile, "Haze_Cloud_Water_Map") == 5
    share = (is_land & is_valid).sum() / is_valid.sum()
    (warning,) = opened(tile, "haze_cloud_water_map=5").warnings
    assert f"hides {share:.0%} of the valid pixels" in warning


def test_causes__name_masks_from_the_outside_in(tile: Path, tmp_path: Path) -> None:
    rows, cols = slice(3, 50), slice(10, 64)
    grid = open_scene(tile).grid
    box = shapely.box(*grid.bounds((6, 45), (20, 70)))  # no pixel centre is on its edge
    options = SceneOptions(mask=("shadow", "cloud"), aoi=geopackage(tmp_path / "a.gpkg", box))
    scene = open_scene(tile, options=options)

    y, x = np.mgrid[rows, cols]
    codes = layer(tile, "Haze_Cloud_Water_Map")[rows, cols]
    is_shadow = layer(tile, "Cast_Shadow")[rows, cols] == 1
    is_outside = (y < 6) | (y >= 45) | (x < 20)
    wanted = np.full(y.shape, "no data in the file", dtype="U40")
    wanted[(codes == 11) | (codes == 15)] = "hidden by --mask cloud"
    wanted[is_shadow] = "hidden by --mask shadow"  # given before cloud
    wanted[is_outside] = "outside the area of interest"
    found = np.array(scene.causes())[scene.read_causes(rows, cols)]
    np.testing.assert_array_equal(found, wanted)
    thin = slice(3, 50, 4), slice(10, 64, 4)
    np.testing.assert_array_equal(np.array(scene.causes())[scene.read_causes(*thin)],
                                  wanted[::4, ::4])  # fmt: skip


def test_causes__of_a_mosaic_name_the_masks_of_its_files(tmp_path: Path) -> None:
    """Two files that overlap, the second 10 columns to the east and 5 rows to the south."""
    how: dict[str, Any] = {"bands": 8, "layout": "neon", "nodata_fraction": 0.3}
    simulate(tmp_path / "a.h5", 20, 30, seed=1, **how)
    simulate(tmp_path / "b.h5", 20, 30, seed=2, **how)
    with h5py.File(tmp_path / "b.h5", "r+") as file:
        info = file["CPER/Reflectance/Metadata/Coordinate_System/Map_Info"]
        words = info[()].decode().split(",")
        words[3], words[4] = f"{float(words[3]) + 10:.1f}", f"{float(words[4]) - 5:.1f}"
        info[()] = ",".join(words).encode()
    shadow = np.zeros((2, 20, 30), np.uint8)
    shadow[0, 4:12, 20:30], shadow[1, :9, 5:25] = 1, 1
    wanted = np.full((25, 40), "in no file of the mosaic", dtype="U40")
    hidden, values = np.zeros(wanted.shape, bool), np.full(wanted.shape, -9999, np.int16)
    for i, (name, row, col) in enumerate((("b", 5, 10), ("a", 0, 0))):
        with h5py.File(tmp_path / f"{name}.h5", "r+") as file:
            stored = file[f"{LAYERS}/Cast_Shadow"]
            stored[...] = shadow[1 - i]
            dn = file["CPER/Reflectance/Reflectance_Data"][..., 3]
        place = slice(row, row + 20), slice(col, col + 30)
        hidden[place] |= shadow[1 - i] == 1
        wanted[place] = "no data in the file"
        is_seen = (shadow[1 - i] == 0) & (dn != -9999)
        values[place][is_seen] = dn[is_seen]
    wanted[hidden] = "hidden by --mask shadow"

    scene = opened(tmp_path, "shadow")
    whole = slice(0, 25), slice(0, 40)
    is_missing = scene.read(*whole)[..., 3] == -9999
    np.testing.assert_array_equal(is_missing, values == -9999)
    names = np.array(scene.causes())
    assert len(set(wanted[is_missing])) == 3
    np.testing.assert_array_equal(names[scene.read_causes(*whole)][is_missing], wanted[is_missing])
    thin = slice(2, 25, 3), slice(1, 40, 4)
    np.testing.assert_array_equal(
        names[scene.read_causes(*thin)][is_missing[thin]], wanted[thin][is_missing[thin]]
    )


def check_map_of_causes(out: Path, codes: np.ndarray, names: list[str]) -> None:
    """All levels of the overview: each code is the most frequent one of 4 x 4 of the level before.

    ``codes``: Of all pixels (y, x).
    """
    import xarray as xr

    for level in (1, 4):
        stored = xr.open_zarr(out / "overview.zarr", group=str(level), mask_and_scale=False)
        found = stored["nodata_cause"]
        assert found.dims == ("y", "x")
        meanings = found.attrs["flag_meanings"].split()
        assert [word.replace("_", " ") for word in meanings[: len(names)]] == [
            name.replace("_", " ") for name in names
        ]
        assert found.attrs["flag_values"] == list(range(len(meanings)))
        if level == 4:
            height, width = codes.shape
            squares = (codes[y : y + 4, x : x + 4] for y in range(0, height, 4)
                       for x in range(0, width, 4))  # fmt: skip
            modes = [np.bincount(square.ravel()).argmax() for square in squares]
            codes = np.reshape(modes, (-(-height // 4), -(-width // 4)))
        np.testing.assert_array_equal(found.values, codes)


@pytest.mark.e2e
@pytest.mark.usefixtures("no_report")
def test_mask__of_a_run(tile: Path, weather: np.ndarray, tmp_path: Path) -> None:
    """Hidden pixels get no cluster, and the run says how many there are."""
    out = tmp_path / "out"
    index = ["--indices", "", "--formula", "x=R(400)/R(2300)"]
    words = ["--models", "lloyd", "--clusters", "2", *index, "--memory-per-worker", "1GiB"]
    land = "haze_cloud_water_map=5"
    with h5py.File(tile) as file:
        centres = np.asarray(file["CPER/Reflectance/Metadata/Spectral_Data/Wavelength"])
    words[words.index("x=R(400)/R(2300)")] = f"x=R({centres[1]:.1f})/R({centres[2]:.1f})"
    done = call("run", tile, out, *words, "--mask", f"weather,{land}")
    assert done.code == 0, done.err
    import zarr

    cluster = zarr.open_group(out / "results.zarr", mode="r")["cluster"][0]
    hidden = (weather > 1) | (layer(tile, "Haze_Cloud_Water_Map") == 5)
    assert (cluster[hidden] == 255).all()
    run = json.loads((out / "run.json").read_text("utf-8"))
    assert run["pixels"]["valid"] == int((cluster != 255).sum())
    assert f"{int(hidden.sum())} pixels are left out" in json.dumps(run)
    causes = run["pixels"]["nodata_causes"]
    codes = np.zeros(SHAPE, int)  # as the layers say, by another way
    codes[cluster == 255] = 1
    codes[layer(tile, "Haze_Cloud_Water_Map") == 5] = 3
    codes[weather > 1] = 2
    names = ["no data in the file", "hidden by --mask weather"]
    names += ["hidden by --mask haze_cloud_water_map"]
    counts = {name: int((codes == i).sum()) for i, name in enumerate(names, 1)}
    assert causes == {name: n for name, n in counts.items() if n}
    check_map_of_causes(out, codes, ["has data", *names])
    warning, *_ = run["warnings"]
    assert f"--mask {land.partition('=')[0]} hides" in warning
    assert f"warning: {warning}" in done.err.splitlines()
    assert any("hides code 5 of Haze_Cloud_Water_Map" in choice for choice in run["choices"])
    check_refused(call("run", tile, out, *words), 3, "mask")


def test_mask__refuses_what_it_cannot_do(tile: Path, tmp_path: Path) -> None:
    path = tmp_path / "bare.h5"
    path.write_bytes(tile.read_bytes())
    with h5py.File(path, "r+") as file:
        del file[f"{LAYERS}/Cast_Shadow"]
    with pytest.raises(SceneError, match=r"needs Cast_Shadow in .*bare\.h5: it is missing"):
        opened(path, "weather", "shadow")
    store = tmp_path / "scene.zarr"
    simulate(store, 20, 20, bands=12)
    with pytest.raises(SceneError, match=r"Haze_Cloud_Water_Map in .*scene\.zarr: it is miss"):
        opened(store, "cloud")


def test_mask__of_a_mosaic_tells_one_number(tmp_path: Path) -> None:
    folder = simulate(tmp_path / "tiles", 40, 50, bands=8, layout="neon", tiles=(2, 2)).path
    for tile in folder.iterdir():
        with h5py.File(tile, "r+") as file:
            file[f"{LAYERS}/Cast_Shadow"][...] = 0
            file[f"{LAYERS}/Cast_Shadow"][3:6, 2:9] = 1
    assert opened(folder, "shadow").notes[-1].startswith("84 pixels are left out")
    first, *_ = sorted(folder.iterdir())
    with h5py.File(first, "r+") as file:
        del file[f"{LAYERS}/Cast_Shadow"]
        file[f"{LAYERS}/Haze_Cloud_Water_Map"].attrs["Description"] = "another text"
    mosaic = open_scene(folder)
    assert layers_left_out(mosaic) == ["Cast_Shadow"]
    assert set(LAYER_NAMES) - mosaic.layers().keys() == {"Cast_Shadow"}
    attributes = mosaic.layers()["Haze_Cloud_Water_Map"].attributes
    assert "Description" not in attributes
    assert len(attributes["Class_Names"]) == 23
