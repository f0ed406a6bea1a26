"""Maps as NetCDF, read with GDAL's own reader and with HDF5."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio

from cli_case import call, check_refused
from hyperhpc.results import open_results
from hyperhpc.tools.export.netcdf import _flag_words
from report_case import write_case


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("netcdf") / "out"
    write_case(out, shape=(30, 42), clusters=3, points=0, indices=("ndvi", "cai"), pixel=2.0)
    about = json.loads((out / "run.json").read_text())
    about["options"]["where"] = ["NDVI > 0.1"]
    (out / "run.json").write_text(json.dumps(about))
    classes = [
        {"name": "bare: sand & clay", "clusters": [0, 2], "color": None},
        {"name": "wood", "clusters": [1], "color": None},
    ]
    (out / "classes.json").write_text(json.dumps({"models": {"lloyd": classes}}))
    return out


@pytest.mark.parametrize("what", ["indices", "clusters", "ndvi", "lloyd"])
def test_export__netcdf_has_the_maps_and_their_place(run: Path, tmp_path: Path, what: str) -> None:
    path = tmp_path / "maps.nc"
    done = call("export", run, path, "--what", what)
    assert (done.code, done.out, done.err) == (0, f"{path}\n", "")
    results = open_results(run)
    groups = {"indices": ["ndvi", "cai"], "clusters": ["lloyd", "minibatch"]}
    for name in groups.get(what, [what]):
        is_index = name in results.index_names
        read = results.values if is_index else results.class_map
        with rasterio.open(f"netcdf:{path}:{name}") as file:
            np.testing.assert_array_equal(file.read(1), read(name, slice(None)))
            assert file.crs.to_epsg() == 32613
            assert file.transform.to_gdal() == (515_000, 2, 0, 4_526_000, 0, -2)
            assert np.isnan(file.nodata) if is_index else file.nodata == 255
            assert file.tags(1)["long_name"]
    with h5py.File(path) as file:
        assert file.attrs["Conventions"] == b"CF-1.11"
        variable = file[groups.get(what, [what])[0]]
        assert [dim[0].name for dim in variable.dims] == ["/y", "/x"]
        assert variable.attrs["grid_mapping"] == b"spatial_ref"
        if what in ("clusters", "lloyd"):
            assert variable.attrs["flag_values"].tolist() == [0, 1, 254]
            assert variable.attrs["flag_meanings"] == b"bare_sand_clay wood not_clustered"


def test_export__netcdf_replaces_no_file_and_has_no_points(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "maps.nc"
    path.write_text("mine")
    check_refused(call("export", run, path), 3, "exists already")
    check_refused(call("export", run, tmp_path / "p.nc", "--what", "points"), 3, "no map 'points'")
    assert [one.name for one in tmp_path.iterdir()] == ["maps.nc"]


def test_flags__are_ascii_words_that_differ() -> None:
    flags = {0: "水田", 1: "森林", 2: "a b", 3: "a_b", 4: "wet meadow"}
    assert _flag_words(flags) == ["class_0", "class_1", "a_b", "a_b_3", "wet_meadow"]
