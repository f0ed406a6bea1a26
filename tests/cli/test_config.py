"""Options: cleaned, checked all at once, merged from flags and file."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli_case import call
from hyperhpc.config import RunConfig, load_config
from hyperhpc.errors import ConfigError
from hyperhpc.parsers import parse_memory


def load(text: str | None = None, tmp_path: Path | None = None, **flags: Any) -> RunConfig:
    file = None
    if text is not None:
        assert tmp_path
        file = tmp_path / "options ü.toml"
        file.write_text(text, encoding="utf-8")
    return load_config("scene", "out", flags, file)


def problem_of(**flags: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**flags)
    assert caught.value.hint
    return caught.value.message


def test_load_config__defaults() -> None:
    config = load()
    assert config == RunConfig(scene=Path("scene"), out=Path("out"))
    assert (config.clusters, config.stride, config.seed) == (8, None, 0)
    assert config.models == ("lloyd", "minibatch")
    assert config.indices == ("all",)
    assert config.memory_bytes == 4 * 2**30
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.clusters = 9  # type: ignore[misc]


def test_load_config__every_key_from_a_file(tmp_path: Path) -> None:
    text = """
    group = "SJER/Reflectance"
    wavelengths = "centres.txt"
    overlap = "nadir"
    mask = ["weather", "cloud"]
    aoi = "pastures.gpkg"
    layer = "fields"
    scale = 10000
    nodata = [-9999, 0]
    bands = "intersect"
    resample_bands = true
    resample = "nearest"
    bbox = [257000, 4112000.5, 257030, inf]
    drop = [[0, 400], [2450, inf]]
    clusters = 5
    where = "NDVI > 0.2"
    stride = 2
    models = ["lloyd"]
    indices = ["ndvi", "cai"]
    index_bits = 12
    unmix = "endmembers.csv"
    unmix_by = "shape"
    points = [[257001.5, 4111990], [1, 2]]
    points_file = "plots.csv"
    point_crs = "EPSG:4326"
    seed = 4294967295
    engine = "dask-ml"
    estimator = "sklearn.cluster:Birch"
    seed_compat = true
    skip_bad_tiles = true
    workers = 3
    threads_per_worker = 2
    memory_per_worker = "512MiB"
    launcher = "local"
    dashboard = true
    figures = "all"
    cluster_colors = "spectral"
    restart = false
    [formula]
    pri = "(R(531) - R(570)) / (R(531) + R(570))"
    """
    config = load(text, tmp_path)
    assert config.bbox == (257000.0, 4112000.5, 257030.0, math.inf)
    assert config.drop == ((0.0, 400.0), (2450.0, math.inf))
    assert config.points == ((257001.5, 4111990.0), (1.0, 2.0))
    assert config.models == ("lloyd",)
    assert config.where == ("NDVI > 0.2",)
    assert config.indices == ("ndvi", "cai")
    assert list(config.formula) == ["pri"]
    assert config.seed == 2**32 - 1
    assert config.memory_bytes == 2**29
    assert config.seed_compat is config.dashboard is True
    missing = {f.name for f in dataclasses.fields(RunConfig)} - {"scene", "out", "restart"}
    default = RunConfig(scene=Path("scene"), out=Path("out"))
    same = {n for n in missing if getattr(config, n) == getattr(default, n)}
    assert same == {"launcher", "address", "interface", "insecure", "apply_model"}


def test_load_config__flags_over_file(tmp_path: Path) -> None:
    config = load("clusters = 5\nstride = 2\ndashboard = true", tmp_path, clusters=6, stride=None)
    assert (config.clusters, config.stride, config.dashboard) == (6, 2, True)
    assert load("clusters = 'many'", tmp_path, clusters=6).clusters == 6


def test_load_config__words_and_numbers_as_text() -> None:
    config = load(models=" minibatch , lloyd,", indices="ndvi, cai", bbox="0,1, 2,3e0")
    assert config.models == ("minibatch", "lloyd")
    assert config.indices == ("ndvi", "cai")
    assert config.bbox == (0.0, 1.0, 2.0, 3.0)
    assert load(indices="").indices == ()
    assert load(where=["NDVI >\n  0.2", "EVI < 1"]).where == ("NDVI > 0.2", "EVI < 1")
    assert load(models=[], estimator="a.b:C").models == ()


def test_load_config__what_a_notebook_has() -> None:
    points = np.array([[1.5, 2.0], [3.0, 4.0]])
    config = load(clusters=np.int64(7), stride=2.0, points=points, drop=((1, 2),))
    assert config.points == ((1.5, 2.0), (3.0, 4.0))
    assert type(config.clusters) is type(config.stride) is int
    json.dumps(config.result_options())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("clusters", [0, -1, 256, 1.5, "8", True, math.inf, -math.inf, math.nan, [8], 10**400]),
        ("stride", [0, -4, 0.5, "x", math.inf, 2**63]),
        ("index_bits", [0, 24, 1.5, "11"]),
        ("seed", [-1, 2**32, 1e300, math.nan]),
        ("workers", [0, -1, 1.5, math.inf, 10**400]),
        ("threads_per_worker", [0, False, 10**400]),
        ("models", ["kmeans", "lloyd,lloyd", 3, [1], {"lloyd": 1}, "", []]),
        ("indices", [7, [None], {"ndvi": 1}]),
        ("formula", ["ndvi=1", {"a": 1}, [["a", "b"]], 1]),
        ("bbox", [[0, 1, 2], "0,1,2,x", [0, 1, 2, math.nan],
                  [0, 0, True, 1], 5, "", [0, 0, 1, 10**400], [0, 0, [1], 1], {"a": 1}]),
        ("drop", [[[2, 1]], [[1]], "0,400", [["a", 1]], [[1, math.nan]], 3, [1, 2]]),
        ("points", [[[1]], [1, 2], "1,2", [[math.inf, 0]], [[0, math.nan]], [["x", 0]]]),
        ("overlap", ["mean", 1]),
        ("mask", ["weather,fog", ["rain"], 1]),
        ("bands", ["any", 426]),
        ("resample_bands", ["yes", 1]),
        ("resample", ["cubic", True, ["nearest"]]),
        ("wavelengths", ["", 1]),
        ("aoi", ["", 1]),
        ("engine", ["sklearn", 1]),
        ("launcher", ["slurm", True, "external", "scheduler"]),
        ("address", ["tls://a:1", 1]),
        ("interface", ["eth0", 1]),
        ("insecure", [True, "yes"]),
        ("estimator", ["Birch", "a:b:c", "os;x:y", "sklearn.cluster:", 4]),
        ("group", [1, ["a"]]),
        ("seed_compat", [1, "true", 0.0]),
        ("dashboard", ["no"]),
        ("restart", [0]),
        ("memory_per_worker", ["0", "0GiB", "lots", "-1GiB", "4 PiB", "", 4, 2**32, "inf"]),
    ],
)  # fmt: skip
def test_load_config__refuses(name: str, values: list[Any]) -> None:
    for value in values:
        message = problem_of(**{name: value})
        word = {"models": "model", "points": "point", "memory_per_worker": "memory"}.get(name, name)
        assert word in message.replace("threads-per", "threads_per").replace(
            "per-worker", "per_worker"
        ) or "amount of memory" in message, (value, message)  # fmt: skip


def test_load_config__reports_all_problems_at_once(tmp_path: Path) -> None:
    text = "clusterz = 3\nscene = 'a'\nseed = inf\nstride = 0\nmodels = ['a', 'b']"
    with pytest.raises(ConfigError) as caught:
        load(text, tmp_path, clusters=999, memory_per_worker="much", engine="x")
    for part in ("'clusterz' is not an option", "'scene' is not", "seed = inf", "stride = 0",
                 "'a'", "'b'", "clusters = 999: 1 to 254", "'much'", "'x'"):  # fmt: skip
        assert part in caught.value.message
    assert "The options are address aoi apply_model bands bbox cluster_colors" in str(
        caught.value.hint
    )


@pytest.mark.parametrize(
    "content", [b"clusters = ", b"clusters 5", b"a = 1\na = 2", b"\xff\xfe", b"x = " + b"[" * 5000]
)
def test_load_config__file_is_no_toml(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad.toml is not valid TOML"):
        load_config("scene", "out", {}, file)


def test_load_config__file_cannot_be_read(tmp_path: Path) -> None:
    for file in (tmp_path / "absent.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config("scene", "out", {}, file)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GiB", 4 * 2**30),
        (" 4 gib ", 4 * 2**30),
        ("4Gi", 4 * 2**30),
        ("4G", 4 * 2**30),
        ("4GB", 4 * 10**9),
        ("3.5G", 7 * 2**29),
        ("512MiB", 2**29),
        ("1kB", 1000),
        ("1.1TB", 1_100_000_000_000),
        ("100", 100),
        ("100B", 100),
        ("0.5", 0),
    ],
)
def test_parse_memory__units(text: str, expected: int) -> None:
    assert parse_memory(text) == expected


@pytest.mark.parametrize(
    "text", ["", "GiB", "4PiB", "-4GiB", "4iB", "4i", "4GiBi", "1e9", "4,5GiB", "inf", "nan",
             "4GiB 2", ".5G", "9" * 400 + "T", "None"],
)  # fmt: skip
def test_parse_memory__refuses(text: str) -> None:
    with pytest.raises(ConfigError, match="is not an amount of memory"):
        parse_memory(text)


def test_result_options__json_and_only_what_changes_results() -> None:
    flags = {"drop": [[2450, math.inf]], "bbox": [-math.inf, 0, 1, 1]}
    first = load(**flags, formula={"a": "R(800)", "b": "R(700)"}, workers=1, restart=True)
    other = load(**flags, formula={"a": "R(800)", "b": "R(700)"}, memory_per_worker="9GiB")
    assert first.result_options() == other.result_options()
    options = json.loads(json.dumps(first.result_options(), allow_nan=False))
    assert options == first.result_options()
    turned = load(**flags, formula={"b": "R(700)", "a": "R(800)"})
    assert turned.result_options() != options  # the order of the results
    changes = {"clusters": 9, "stride": 1, "seed": 1, "models": "lloyd", "group": "g",
               "points": [[1, 2]], "point_crs": "EPSG:4326", "index_bits": 11,
               "indices": "ndvi", "engine": "dask-ml", "drop": [], "seed_compat": True,
               "estimator": "a:B", "bbox": "0,0,1,1"}  # fmt: skip
    for name, value in changes.items():
        assert load(**{name: value}).result_options() != load().result_options(), name


# --- names that were changed ----------------------------------------------------------


def test_load_config__takes_the_former_names_from_a_file(tmp_path: Path) -> None:
    text = "model = 'a.json'\nlauncher = 'scheduler'\naddress = 'tls://a:1'\n[index]\na = 'R(8)'"
    config = load(text, tmp_path)
    assert config.apply_model == Path("a.json")
    assert config.formula == {"a": "R(8)"}
    assert config.launcher == "external"


def test_load_config__takes_the_former_names_from_a_call(tmp_path: Path) -> None:
    assert load(index={"a": "R(8)"}, model="a.json") == load(
        formula={"a": "R(8)"}, apply_model="a.json"
    )
    assert load("[index]\na = 'R(8)'", tmp_path, formula={"b": "R(9)"}).formula == {"b": "R(9)"}
    message = problem_of(model="a.json", apply_model="b.json")
    assert message == "model is the former name of apply_model: give apply_model only"


def test_result_options__are_stored_under_the_same_names_as_ever() -> None:
    options = load(formula={"a": "R(8)"}, overlap="last").result_options()
    assert list(options) == [
        "group", "scale", "nodata", "overlap", "mask", "bands", "resample_bands", "resample",
        "bbox", "drop", "clusters", "where", "stride", "models", "indices", "index", "index_bits",
        "points", "point_crs", "seed", "engine", "estimator", "seed_compat", "skip_bad_tiles",
    ]  # fmt: skip
    assert options["index"] == ["a=R(8)"]


@pytest.mark.parametrize("command", ["run", "plan"])
def test_estimator__of_a_file_is_named_in_a_warning(command: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("estimator = 'my_models:Special'")
    words = [command, tmp_path / "no.zarr", tmp_path / "out", "--config", file]
    named = f"{file} names the estimator my_models:Special: the module my_models is imported"
    assert named in call(*words).err
    assert "is imported" not in call(*words, "--estimator", "sklearn.cluster:Birch").err


def test_unmix_by__needs_a_table() -> None:
    assert "needs a table of endmembers" in problem_of(unmix_by="shape")
    assert load(unmix_by="shape", unmix="a.csv").unmix == Path("a.csv")


def test_load__refuses_a_formula_with_the_name_of_maps() -> None:
    with pytest.raises(ConfigError, match="formula = Clusters: this word names maps"):
        load_config("scene", "out", {"formula": {"Clusters": "R(800)"}})
