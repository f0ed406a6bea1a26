"""The indices against the papers' formulas, written out here a second time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from hyperhpc.analysis.bands import seed_bands
from hyperhpc.analysis.indices import (
    BoundIndex,
    built_in,
    choose_indices,
    compute_indices,
    describe_index,
    user_index,
)
from hyperhpc.errors import ConfigError

#: NEON's grid: 426 centres about 5 nm apart.
NEON = 383.534 + 5.00791 * np.arange(426)
ALL = list(built_in())
#: What ``--indices all`` means.
NAMES = [name for name in ALL if name != "cai_2030"]

Reflectance = Callable[[float], np.ndarray]


def papers(r: Reflectance) -> dict[str, np.ndarray]:
    """Each built-in index, from the reflectance at a wavelength."""
    a1754, a1680, a1510 = (-np.log(r(nm)) for nm in (1754, 1680, 1510))
    return {
        "ndvi": (r(858.6) - r(648.2)) / (r(858.6) + r(648.2)),
        "cai": (r(2000) + r(2200)) / 2 - r(2100),
        "ndli": (a1754 - a1680) / (a1754 + a1680),
        "mrendvi": (r(750) - r(705)) / (r(750) + r(705) - 2 * r(445)),
        "sipi": (r(800) - r(445)) / (r(800) - r(680)),
        "ndni": (a1510 - a1680) / (a1510 + a1680),
        "cri1": 1 / r(510) - 1 / r(550),
        "cri2": 1 / r(510) - 1 / r(700),
    }


def nearest(dn: np.ndarray, wavelength: np.ndarray) -> Reflectance:
    return lambda nm: dn[..., np.abs(wavelength - nm).argmin()].astype(np.float64) / 10000.0


def scene(n: int = 500, wavelength: np.ndarray = NEON, dtype: str = "int16") -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(1, 32767, (n, len(wavelength))).astype(dtype)


def compute(dn: np.ndarray, bound: list[BoundIndex], **options) -> np.ndarray:
    return compute_indices(dn, bound, scale_factor=10000.0, **options).values


def test_built_in__all_have_their_sources() -> None:
    known = built_in()
    assert {"ndvi", "cai", "ndli", "mrendvi", "sipi", "ndni", "cri1", "cri2"} <= known.keys()
    for index in known.values():
        assert set(index.about) == {
            "long_name", "doi", "citation", "wavelengths", "unit", "range", "diverging"
        }  # fmt: skip
        assert index.about["doi"].startswith("10.") or index.name == "sipi"  # a journal without
        low, high = index.about["range"]
        assert low < high


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_compute_indices__papers(order: str, dtype: str) -> None:
    """Up to 3.2767: int16 sums of such bands would overflow."""
    wavelength = {"ascending": NEON, "descending": NEON[::-1].copy(),
                  "shuffled": np.random.default_rng(3).permutation(NEON)}[order]  # fmt: skip
    dn = scene(wavelength=wavelength, dtype=dtype)
    bound, skipped = choose_indices(["all"], {}, wavelength)
    assert [b.index.name for b in bound] == NAMES
    assert skipped == {}
    with np.errstate(all="ignore"):
        expected = papers(nearest(dn, wavelength))
    for name, found in zip(NAMES, compute(dn, bound), strict=True):
        want = np.where(np.isfinite(expected[name]), expected[name], np.nan)
        np.testing.assert_allclose(found, want, rtol=1e-9, atol=1e-15, err_msg=name)
        assert np.isfinite(found).mean() > 0.99
    cube = compute(dn.reshape(20, 25, -1), bound)
    np.testing.assert_array_equal(cube.reshape(len(NAMES), -1), compute(dn, bound))
    assert compute(dn, []).shape == (0, 500)


def test_compute_indices__means_of_windows() -> None:
    """CAI of Daughtry: means over 20 nm, of all bands that are there."""
    dn = scene()
    bound, _ = choose_indices(["cai_2030"], {"two": "R(400, 410) / R(700)"}, NEON)
    assert [len(window) for window in bound[0].windows] == [4, 4, 4]

    def mean(low: float, high: float) -> np.ndarray:
        return dn[:, (low <= NEON) & (high >= NEON)].mean(axis=1, dtype=np.float64) / 10000

    found = compute(dn, bound)
    np.testing.assert_allclose(
        found[0], (mean(2021, 2041) + mean(2201, 2221)) / 2 - mean(2091, 2111), atol=1e-15
    )
    np.testing.assert_allclose(found[1], mean(400, 410) / nearest(dn, NEON)(700), rtol=1e-12)
    described = describe_index(bound[1], NEON, [(0.0, 405.0)])["bands"]
    assert [band.get("window_nm") for band in described] == [None, [400, 410], [400, 410]]
    assert [band["dropped"] for band in described] == [False, True, False]
    dn[3, bound[0].windows[1][2]] = -9999
    assert np.isnan(compute(dn, bound, nodata=[-9999.0])[0]).nonzero()[0].tolist() == [3]
    with pytest.raises(ConfigError, match="Index far: No band between 3000 and 3010 nm"):
        choose_indices([], {"far": "R(3000, 3010)"}, NEON)


def test_compute_indices__missing_values() -> None:
    bound, _ = choose_indices(["ndvi", "ndli", "cai"], {}, NEON)
    band = dict(zip((858.6, 1754, 2000), (b.bands[-1] for b in bound), strict=True))
    band[2000] = bound[2].bands[0]
    dn = np.full((7, 426), 2000, np.int16)
    dn[:, band[858.6]] = 4000
    dn[:, band[1754]] = 1000
    dn[0, band[858.6]] = -9999
    dn[1, band[1754]] = -100  # inside a window: missing
    dn[2, band[858.6]] = -100  # outside: a value
    dn[3, band[1754]] = 0  # ln(1 / 0)
    dn[4, 5] = -9999  # a band no index reads
    is_missing = np.arange(7) == 6
    found = compute(
        dn, bound, is_missing=is_missing, nodata=[-9999.0], window_nodata=[-100.0],
        is_window_band=(NEON >= 1740) & (NEON <= 1955),
    )  # fmt: skip
    assert np.flatnonzero(np.isnan(found[0])).tolist() == [0, 6]
    assert np.flatnonzero(np.isnan(found[1])).tolist() == [1, 3, 6]
    assert np.flatnonzero(np.isnan(found[2])).tolist() == [6]
    np.testing.assert_allclose(found[0, 2], (-0.01 - 0.2) / (-0.01 + 0.2))
    without = compute(dn, bound, nodata=[-9999.0], window_nodata=[-100.0])
    assert np.flatnonzero(np.isnan(without[1])).tolist() == [1, 3]  # ln of a negative number
    assert without[0, 2] == found[0, 2]


def test_compute_indices__missing_values_of_float_scenes() -> None:
    """An infinity must not pass as 1 / inf = 0; marks are those float32 holds."""
    wavelength = np.array([510.0, 550.0])
    bound, _ = choose_indices(["cri1"], {}, wavelength)
    dn = np.full((5, 2), 0.25, np.float32)
    dn[:4, 0] = [np.inf, np.nan, -9999.1, -3.4e38]
    marks = [np.float64(-9999.1), np.float64(-3.4e38)]
    found = compute_indices(dn, bound, scale_factor=1.0, nodata=marks).values
    np.testing.assert_array_equal(found, [[np.nan] * 4 + [0.0]])


def test_choose_indices__all_leaves_out_what_the_bands_do_not_allow() -> None:
    visible = np.arange(400.0, 1001.0, 5.0)
    bound, skipped = choose_indices(["all"], {"own": "R(998.9) / 2"}, visible)
    taken = [b.index.name for b in bound]
    assert {*taken[:-1], *skipped} == set(NAMES)
    assert {"ndvi", "mrendvi", "sipi", "cri1", "cri2"} <= set(taken)
    assert taken[-1] == "own"
    assert {"cai", "ndli", "ndni"} <= set(skipped)
    assert "No band within 5 nm of 2000 nm" in skipped["cai"]
    with pytest.raises(ConfigError, match="Index cai: No band within 5 nm of 2000 nm"):
        choose_indices(["ndvi", "cai"], {}, visible)
    with pytest.raises(ConfigError, match="Index own: No band within 5 nm of 1700 nm"):
        choose_indices(["all"], {"own": "R(1700)"}, visible)


def test_choose_indices__five_nanometres() -> None:
    exact = np.array([853.6, 653.2])
    bound, _ = choose_indices(["ndvi"], {}, exact)
    assert bound[0].bands == (1, 0)  # as wanted_nm, ascending
    for far in ([853.59, 653.2], [853.6, 653.21]):
        with pytest.raises(ConfigError, match=r"5\.01 nm away"):
            choose_indices(["ndvi"], {}, np.array(far))
        assert "ndvi" in choose_indices(["all"], {}, np.array(far))[1]


def test_choose_indices__users_own() -> None:
    formulas = {"pri": "(R(531) - R(570)) / (R(531) + R(570))", "Water_2": "R(970) / R(900)"}
    bound, _ = choose_indices(["cri2"], formulas, NEON)
    assert [b.index.name for b in bound] == ["cri2", "pri", "Water_2"]
    dn = scene()
    r = nearest(dn, NEON)
    found = compute(dn, bound)
    np.testing.assert_allclose(found[1], (r(531) - r(570)) / (r(531) + r(570)), rtol=1e-12)
    np.testing.assert_allclose(found[2], r(970) / r(900), rtol=1e-12)
    only, _ = choose_indices([], formulas, NEON)
    assert len(only) == 2


def test_choose_indices__refuses() -> None:
    for names, formulas, match in (
        (["nosuch"], {}, "There is no index 'nosuch'"),
        (["all", "ndvi"], {}, "There is no index 'all'"),
        (["ndvi", "cai", "ndvi"], {}, "Index given twice: ndvi"),
        (["all"], {"ndvi": "R(800)"}, "Index given twice: ndvi"),
        (["ndvi"], {"x": "R(800) > 1"}, "not arithmetic"),
    ):
        with pytest.raises(ConfigError, match=match):
            choose_indices(names, formulas, NEON)
    for name in ("", "1a", "a b", "a-b", "_a", "a" * 33, "a\n", "ä", "../a"):
        with pytest.raises(ConfigError, match="cannot name an index"):
            user_index(name, "R(800)")


def test_choose_indices__seed_compat_is_the_tutorials() -> None:
    bound, _ = choose_indices(["all"], {}, NEON, seed_compat_bands=seed_bands(426))
    assert [b.index.name for b in bound] == NAMES
    ndli = bound[2]
    described = describe_index(ndli, NEON, [])
    assert round(described["bands"][1]["centre_nm"]) == 1731  # wanted: 1754
    dn = scene(dtype="int16")
    dn[:, ndli.bands[1]] = dn[:, ndli.bands[0]] // 2 + 1  # stronger absorption, as lignin's
    dn = np.minimum(dn, 9000)
    found = compute(dn, bound)
    r1731, r1680 = (dn[:, b].astype(float) / 10000 for b in ndli.bands[::-1])
    expected = (np.log(1 / r1731) - np.log(1 / r1680)) / (np.log(r1731) + np.log(r1680))
    np.testing.assert_allclose(found[2], expected, rtol=1e-12)
    assert (found[2][r1731 < r1680] < 0).all()
    # The others read the band the tutorial would have read, of its 358
    kept = NEON[seed_bands(426)]
    for index in bound:
        for nm, band in zip(index.index.formula.wanted_nm, index.bands, strict=True):
            assert NEON[band] == kept[np.abs(kept - nm).argmin()]


def test_choose_indices__seed_compat_leaves_a_users_ndli_alone() -> None:
    bound, _ = choose_indices(
        ["ndvi"], {"ndli": "R(1754) / R(1680)"}, NEON, seed_compat_bands=seed_bands(426)
    )
    assert bound[1].index.formula.text == "R(1754) / R(1680)"


def test_describe_index__says_what_was_read() -> None:
    bound, _ = choose_indices(["cai"], {}, NEON)
    about = describe_index(bound[0], NEON, [(1990.0, 2050.0)])
    assert about["formula"] == "0.5 * (R(2000) + R(2200)) - R(2100)"
    assert [b["wanted_nm"] for b in about["bands"]] == [2000, 2100, 2200]
    assert [b["dropped"] for b in about["bands"]] == [True, False, False]
    assert all(abs(b["centre_nm"] - b["wanted_nm"]) < 2.6 for b in about["bands"])


def test_compute_indices__real_neon_scene(shared_data: Path) -> None:
    """Figures printed in the data's own README."""
    path = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    if not path.is_file():
        pytest.skip(f"the real scene is missing: {path}")
    found: dict[str, np.ndarray] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name.rpartition("/")[2]] = item[()]

    with h5py.File(path) as file:
        file.visititems(visit)
    dn, wavelength = found["Reflectance_Data"], found["Wavelength"].astype(np.float64)
    bound, skipped = choose_indices(["all"], {}, wavelength)
    assert not skipped
    values = compute(dn, bound, nodata=[-9999.0])
    printed = {
        "ndvi": 0.740796, "cai": -0.009128, "ndli": 0.042957, "mrendvi": 0.495743,
        "sipi": 1.017041, "ndni": 0.141234, "cri1": 16.677479, "cri2": 21.752271,
    }  # fmt: skip
    # CRI1 was printed from float32: the exact mean, 16.6774796, is half a digit away
    close = 0.51e-6 * np.array([1, 1, 1, 1, 1, 1, 2, 1])
    means = values.mean(axis=(1, 2))
    assert (np.abs(means - [printed[b.index.name] for b in bound]) < close).all()
    assert values[0].min().round(6) == 0.314760
    assert values[0].max().round(6) == 0.925946


def test_choose__ignores_the_case_of_names() -> None:
    names, _ = choose_indices(["NDVI", "Cai"], {"Own": "R(800)"}, NEON)
    assert [bound.index.name for bound in names] == ["ndvi", "cai", "Own"]
    assert len(choose_indices(["ALL"], {}, NEON)[0]) == len(NAMES)
    for asked, formulas in ((["ndvi", "NDVI"], {}), (["all"], {"NDVI": "R(800)"})):
        with pytest.raises(ConfigError, match="Index given twice: ndvi"):
            choose_indices(asked, formulas, NEON)
