"""Whatever reads results of a complete run compares them with their checksums."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import hyperhpc
from cli_case import call, check_refused
from hyperhpc.errors import IncompleteRunError
from run_case import RunCase, cut, flip

#: A part of results.zarr in one tile.
CHUNK = "results.zarr/cluster/0.0.1"


@pytest.fixture
def case(run_case: RunCase, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    out = tmp_path / "out"
    shutil.copytree(run_case.out, out)
    return out


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
def test_readers__name_a_file_that_is_damaged(
    case: Path, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    harm(case / CHUNK)
    for words in (("export", case, tmp_path / "map.tif"), ("compare", case, case)):
        check_refused(call(*words), 7, f"{CHUNK} of {case} ", f"hyperhpc verify {case}")
    assert not (tmp_path / "map.tif").exists()
    assert call("export", case, tmp_path / "ndvi.tif", "--what", "ndvi").code == 0
    opened = hyperhpc.open_run(case)
    assert opened.results["indices"].notnull().any()
    with pytest.raises(IncompleteRunError, match="cannot be read"):
        opened.results["cluster"].load()
    again = pickle.loads(pickle.dumps(opened.results["cluster"]))  # as Dask sends it
    with pytest.raises(IncompleteRunError, match="cannot be read"):
        again.load()


def test_readers__want_whole_checksums(case: Path, tmp_path: Path) -> None:
    (case / "checksums.json").write_text("[]")
    check_refused(call("export", case, tmp_path / "map.tif"), 7, "checksums.json is damaged")
