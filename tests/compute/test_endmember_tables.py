"""Tables of endmembers: as they are found, as people edit them, and as they may not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hyperhpc.compute.endmembers import measure_fractions, read_endmembers
from hyperhpc.errors import ConfigError

NM = np.array([450.0, 550.0, 650.0, 860.0])
TABLE = """name,group,x,nm_450.000,nm_550.000,nm_650.000,nm_860.000
grass,green,1,0.03,0.08,0.04,0.45
wood,green,2,0.02,0.04,0.03,0.3
soil,,3,0.1,0.15,0.2,0.3
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "endmembers.csv"
    path.write_text(text, "utf-8")
    return path


def test_read_endmembers__a_table_of_this_scene(tmp_path: Path) -> None:
    found = read_endmembers(write(tmp_path, TABLE), NM, by_shape=False)
    assert found.names == ("grass", "wood", "soil")
    assert found.groups == ("green", "green", "soil")
    assert found.group_names == ("green", "soil")
    assert found.spectra.tolist()[1] == [0.02, 0.04, 0.03, 0.3]
    # the order of columns, their names and other columns do not count; a group does
    rows = [row.split(",") for row in TABLE.splitlines()]
    other = "\n".join(";".join([r[3], r[0], r[6], r[5], r[4], r[1]]) for r in rows)
    other = other.replace("nm_450.000", "X450").replace("nm_860.000", "860.0 nm")
    again = read_endmembers(write(tmp_path, other), NM, by_shape=False)
    assert again.digest == found.digest
    one_group = read_endmembers(write(tmp_path, TABLE.replace("green", "")), NM, by_shape=False)
    by_shape = read_endmembers(write(tmp_path, TABLE), NM, by_shape=True)
    assert len({found.digest, one_group.digest, by_shape.digest}) == 3


def test_read_endmembers__interpolates_between_near_bands(tmp_path: Path) -> None:
    text = "name,440,470,500,520\na,0.1,0.4,0.1,0.1\nb,0.3,0.3,0.3,0.1\n"
    found = read_endmembers(write(tmp_path, text), np.array([450.0, 519.9995, 500]), by_shape=False)
    np.testing.assert_allclose(found.spectra, [[0.2, 0.1, 0.1], [0.3, 0.1, 0.3]], atol=1e-12)
    with pytest.raises(ConfigError, match="1 of the 2 good bands, at 430 to 430 nm: its "):
        read_endmembers(write(tmp_path, text), np.array([430.0, 450]), by_shape=False)
    with pytest.raises(ConfigError, match="more than 50 nm apart") as error:
        read_endmembers(write(tmp_path, TABLE), np.array([450.0, 700, 720]), by_shape=False)
    assert "leave the bands from 700 to 720 nm out: --drop" in str(error.value.hint)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name,", "label,", "no column called name"),
        ("wood,", "grass,", "two endmembers called 'grass'"),
        ("wood,", ",", "Line 3 of .* names an endmember ''"),
        ("wood,", "NDVI,", "'NDVI', which is the name of other maps"),
        ("wood,", "a/b,", "names an endmember 'a/b'"),
        ("0.04,0.45", ",0.45", "Line 2 .* has '' as its reflectance in column nm_650.000"),
        ("0.04,0.45", "nan,0.45", "has 'nan' as its reflectance"),
        ("0.04,0.45", "4,45", "has 4 in column nm_650.000, which is no reflectance"),
        ("0.04,0.45", "-9999,0.45", "which is no reflectance"),
        ("nm_450.000", "nm_550.000", "two columns for 550 nm|has no column|says nothing"),
        (
            "0.1,0.15,0.2,0.3",
            "0.02,0.04,0.03,0.300001",
            "'wood' and 'soil' of .* are nearly the same",
        ),
        ("nm_", "band", "no column of reflectance"),
        (",group,", ",name,", "two columns called name"),
        (",0.2,0.3\n", "\n", "Line 4 of .* has '' as its reflectance in column nm_650.000"),
        ("soil,,3,0.1,0.15,0.2,0.3\n", "soil,,3,0.1,0.15,0.2,0.3,7\n", "8 fields"),
        (TABLE[TABLE.index("wood") :], "", "holds 1 endmembers"),
    ],
)
def test_read_endmembers__refuses_with_one_message(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read_endmembers(write(tmp_path, TABLE.replace(old, new)), NM, by_shape=False)
    assert error.value.hint


def test_read_endmembers__needs_light_for_a_shape_and_bands_for_all(tmp_path: Path) -> None:
    shade = TABLE.replace("0.1,0.15,0.2,0.3", "0,0,0,0")
    assert len(read_endmembers(write(tmp_path, shade), NM, by_shape=False).names) == 3
    with pytest.raises(ConfigError, match=r"'soil' of .* has no light"):
        read_endmembers(write(tmp_path, shade), NM, by_shape=True)
    with pytest.raises(ConfigError, match="3 endmembers for 2 good bands"):
        read_endmembers(write(tmp_path, TABLE), NM[:2], by_shape=False)
    with pytest.raises(ConfigError, match=r"no-such\.csv"):
        read_endmembers(tmp_path / "no-such.csv", NM, by_shape=False)


def test_summarise__does_not_depend_on_tiles(tmp_path: Path) -> None:
    found = read_endmembers(write(tmp_path, TABLE), NM, by_shape=False)
    rng = np.random.default_rng(0)
    fractions = rng.dirichlet([1, 1, 1], (40, 30)).transpose(2, 0, 1).astype(np.float32)
    rmse = rng.uniform(0, 0.1, (40, 30)).astype(np.float32)
    fractions[:, 3:7, :9] = np.nan
    groups = [found.groups] * 3
    parts = [slice(0, 5), slice(5, 17), slice(17, 40)]
    tiles = [
        measure_fractions(fractions[:, p], rmse[p], g) for p, g in zip(parts, groups, strict=True)
    ]
    whole = found.summarise([measure_fractions(fractions, rmse, found.groups)])
    assert found.summarise(tiles) == whole
    is_known = ~np.isnan(fractions[0])
    green = fractions[:2, is_known].sum(axis=0)
    assert whole["pixels"] == is_known.sum()
    assert [group["name"] for group in whole["groups"]] == ["green", "soil"]
    assert whole["groups"][0]["mean"] == pytest.approx(green.mean(), abs=1e-6)
    assert whole["groups"][0]["share_largest"] == pytest.approx((green > 0.5).mean())
    assert whole["rmse"] == pytest.approx(rmse[is_known].mean(), abs=1e-6)
    nothing = found.summarise([measure_fractions(fractions * np.nan, rmse, found.groups)])
    assert nothing == {"pixels": 0, "groups": [], "rmse": None}
