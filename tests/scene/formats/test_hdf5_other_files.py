"""HDF5 files whose values lie in other files: refused, or said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from test_scene_neon import CUBE as DN
from test_scene_neon import opened, write

from hyperhpc.errors import SceneError

PLACE = "SERC/Reflectance/Reflectance_Data"
WAVELENGTH = "SERC/Reflectance/Metadata/Spectral_Data/Wavelength"


def _link(file: h5py.File, name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        file.copy(file[name], other, "data")
    del file[name]
    file[name] = h5py.ExternalLink("other.h5", "/data")


def _link_in_two_steps(file: h5py.File, name: str, tmp_path: Path) -> None:
    _link(file, name, tmp_path)
    file.move(name, "elsewhere")
    file[name] = h5py.SoftLink("/elsewhere")


def _store_outside(file: h5py.File, name: str, tmp_path: Path) -> None:
    values = file[name][()]
    raw = tmp_path / "raw.dat"
    values.tofile(raw)
    del file[name]
    file.create_dataset(name, values.shape, values.dtype, external=[(str(raw), 0, values.nbytes)])


def _make_virtual(file: h5py.File, name: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as other:
        file.copy(file[name], other, "data")
    shape, dtype, attributes = file[name].shape, file[name].dtype, dict(file[name].attrs)
    layout = h5py.VirtualLayout(shape, dtype)
    layout[...] = h5py.VirtualSource("other.h5", "data", shape)
    del file[name]
    file.create_virtual_dataset(name, layout).attrs.update(attributes)


Change = Callable[[h5py.File, str, Path], None]


@pytest.mark.parametrize("name", [PLACE, WAVELENGTH])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_link, "is a link to another file"),
        (_link_in_two_steps, "is a link to another file"),
        (_store_outside, r"lies in other files \(external storage\)"),
    ],
)
def test_open__other_files_are_refused(
    tmp_path: Path, name: str, change: Change, message: str
) -> None:
    path = write(tmp_path / "NEON_SERC.h5")
    with h5py.File(path, "r+") as file:
        change(file, name, tmp_path)
    with pytest.raises(SceneError, match=message):
        opened(path)


def test_open__virtual_metadata_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "NEON_SERC.h5")
    with h5py.File(path, "r+") as file:
        _make_virtual(file, WAVELENGTH, tmp_path)
    with pytest.raises(SceneError, match=r"Wavelength .* is made of other datasets \(virtual\)"):
        opened(path)


def test_open__a_virtual_cube_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "NEON_SERC.h5")
    with h5py.File(path, "r+") as file:
        _make_virtual(file, PLACE, tmp_path)
    scene = opened(path)
    (said,) = (note for note in scene.notes if "virtual" in note)
    assert said.endswith("its values lie in other files: other.h5.")
    every = slice(None)
    np.testing.assert_array_equal(scene.read(every, every), DN)
    assert scene.fingerprint_files()["source/0"] == str(tmp_path / "other.h5")


def test_open__a_virtual_cube_without_its_source(tmp_path: Path) -> None:
    path = write(tmp_path / "NEON_SERC.h5")
    with h5py.File(path, "r+") as file:
        _make_virtual(file, PLACE, tmp_path)
    (tmp_path / "other.h5").unlink()
    with pytest.raises(SceneError, match=r"other\.h5 is no HDF5 file that can be read"):
        opened(path)


def test_open__a_virtual_cube_of_a_file_outside(tmp_path: Path) -> None:
    path = write(tmp_path / "NEON_SERC.h5")
    with h5py.File(path, "r+") as file:
        _make_virtual(file, PLACE, tmp_path)
    with h5py.File(tmp_path / "other.h5", "r+") as other:
        _store_outside(other, "data", tmp_path)
    with pytest.raises(SceneError, match="external storage"):
        opened(path)


def test_read__a_layer_that_was_replaced_after_opening(tmp_path: Path) -> None:
    path = write(tmp_path / "NEON_SERC.h5")
    scene = opened(path)
    with h5py.File(path, "r+") as file:
        _link(file, PLACE, tmp_path)
    with pytest.raises(SceneError, match="is a link to another file"):
        scene.read(slice(None), slice(None))
