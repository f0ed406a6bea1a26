"""What a Zarr store may name: codecs and data types of a list, so that no store runs code."""

from __future__ import annotations

import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from zarr.codecs import numcodecs as numcodecs_of_3
from zarr.registry import get_codec_class

from hyperhpc.errors import IncompleteRunError, SceneError
from hyperhpc.rundir.integrity import open_summed
from hyperhpc.scene.formats.zarr import open_zarr_scene
from hyperhpc.scene.formats.zarr_guard import CODECS, GuardedStore, find_foreign
from zarr_case import CUBE, read_all, write


class _Bomb:
    """What unpickles to a file, as an attack would."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _pickled(store: Path, array: str, mark: Path) -> None:
    """Make an array of a store of version 2 one of pickled objects that touch a file."""
    file = store / array / ".zarray"
    document = json.loads(file.read_text())
    document |= {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 4}], "compressor": None}
    document |= {"fill_value": None}
    file.write_text(json.dumps(document))
    for chunk in (store / array).glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(_Bomb(mark)))


@pytest.mark.parametrize("array", ["reflectance", "wl"])
def test_open__pickle_is_refused_before_it_is_read(
    tmp_path: Path, array: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)  # as before 0.16.6
    store, mark = write(tmp_path / "s.zarr", version=2), tmp_path / "mark"
    _pickled(store, f"reflectance/{array}", mark)
    with pytest.raises(SceneError, match=r"\.zarray names the codec 'pickle'"):
        open_zarr_scene(str(store))
    assert not mark.exists()


def _replace_codecs(codecs: list[dict[str, Any]], wanted: str) -> None:
    for codec in codecs:
        inner = codec.get("configuration", {})
        if "codecs" in inner:
            _replace_codecs(inner["codecs"], wanted)
        elif codec["name"] == "zstd":
            codec["name"] = wanted


@pytest.mark.parametrize("options", [{}, {"shards": CUBE.shape}])
def test_open__unknown_codec_of_version_3(tmp_path: Path, options: dict[str, Any]) -> None:
    store = write(tmp_path / "s.zarr", **options)
    file = store / "reflectance/reflectance/zarr.json"
    document = json.loads(file.read_text())
    _replace_codecs(document["codecs"], "numcodecs.pickle")
    file.write_text(json.dumps(document))
    with pytest.raises(SceneError, match=r"zarr\.json names the codec 'numcodecs\.pickle'"):
        open_zarr_scene(str(store))


@pytest.mark.parametrize(
    ("name", "document", "what"),
    [
        (".zarray", {"dtype": "|O", "filters": [{"id": "json2"}]}, "the codec 'json2'"),
        (".zarray", {"dtype": "|O", "filters": []}, "the data type '|O'"),
        (".zarray", {"dtype": [["a", "<i2"]]}, "the data type [['a', '<i2']]"),
        (".zarray", {"dtype": "<U99999"}, "the data type '<U99999'"),
        (".zarray", {"dtype": "<i2", "compressor": {"id": 5}}, "the codec 5"),
        (
            ".zarray",
            {"dtype": "<i2", "filters": [{"id": "astype", "decode_dtype": "O"}]},
            "the data type 'O' of the codec 'astype'",
        ),
        (".zarray", {"dtype": "<i2", "filters": [5]}, "a list, a number"),
        (
            "zarr.json",
            {"node_type": "array", "zarr_format": 3, "data_type": "structured"},
            "the data type 'structured'",
        ),
        (
            ".zmetadata",
            {"metadata": {"a/.zarray": {"dtype": "<i2", "compressor": {"id": "pickle"}}}},
            "the codec 'pickle'",
        ),
        (
            "zarr.json",
            {
                "node_type": "group",
                "consolidated_metadata": {
                    "metadata": {
                        "a": {"node_type": "array", "zarr_format": 3, "codecs": [{"name": "x"}]}
                    }
                },
            },
            "the codec 'x'",
        ),
    ],
)
def test_find_foreign__each_kind(name: str, document: Any, what: str) -> None:
    found = find_foreign(name, json.dumps(document).encode())
    assert found is not None
    assert found.startswith(what)


def test_find_foreign__too_deep() -> None:
    assert find_foreign("zarr.json", b"[" * 100_000) == "a value that is nested too deep"


def test_codecs__every_one_of_numcodecs_is_known_or_refused_on_purpose() -> None:
    others = {"base64", "categorize", "json2", "msgpack2", "pickle", "vlen-array"}
    assert set(numcodecs.registry.codec_registry) - CODECS == others
    kinds = [getattr(numcodecs_of_3, name) for name in numcodecs_of_3.__all__ if name[0] != "_"]
    assert {kind.codec_name.removeprefix("numcodecs.") for kind in kinds} <= CODECS


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("name", ["blosc", "zlib", "lzma", "bz2", "lz4", "zstd", "gzip"])
def test_open__known_codecs_are_read(tmp_path: Path, version: int, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr warns that they are not in the specification
        of_3 = get_codec_class(f"numcodecs.{name}")()
    codec: Any = numcodecs.get_codec({"id": name}) if version == 2 else of_3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = write(tmp_path / "s.zarr", version=version, compressors=codec)
    np.testing.assert_array_equal(read_all(store), CUBE)


def test_open__texts_and_dates_are_read(tmp_path: Path) -> None:
    root = zarr.open_group(tmp_path, mode="w", zarr_format=2)
    values = {"a": np.array(["x", "yy"], object), "b": np.array(["2020-01-02"], "M8[ns]")}
    root.create_array("a", shape=(2,), dtype=str)[:] = values["a"]
    root.create_array("b", data=values["b"])
    guarded = zarr.open_group(GuardedStore(tmp_path, read_only=True), mode="r", zarr_format=2)
    for name in values:
        assert list(guarded[name][:]) == list(values[name])  # type: ignore[index]


def test_open_summed__a_result_that_names_a_codec(tmp_path: Path) -> None:
    store = write(tmp_path / "OUT" / "results.zarr", version=2)
    file = store / "reflectance/reflectance/.zarray"
    file.write_text(file.read_text().replace('"blosc"', '"pickle"'))
    with pytest.raises(IncompleteRunError, match="the codec 'pickle'"):
        zarr.open_group(open_summed(store), mode="r", zarr_format=2)["reflectance/reflectance"]
