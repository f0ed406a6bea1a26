"""What docs/science.md says was measured: on real scenes, and on simulated ones with known truth.

``python benchmarks/science.py`` prints all tables; with names of sections, only these.
``--write`` puts them into docs/science.md, between ``<!-- NAME -->`` and ``<!-- end -->``.
The real scenes lie in shared/data next to this checkout, or in ``$HYPERHPC_SHARED/data``.
A section is one function and one row of ``SECTIONS``.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy.io import loadmat
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score

import hyperhpc
from hyperhpc.analysis.bands import drop_windows, good_bands
from hyperhpc.analysis.evaluation import CAUSES, IndexValues
from hyperhpc.analysis.indices import choose_indices, compute_indices
from hyperhpc.analysis.kernel import valid_pixels
from hyperhpc.analysis.noise import measure_bands
from hyperhpc.analysis.residuals import measure_carbon_dioxide
from hyperhpc.analysis.unmixing.endmembers import find_atgp, find_nfindr
from hyperhpc.analysis.unmixing.fractions import Unmixer
from hyperhpc.compute.selection import MIN_SIGNAL_TO_NOISE, select_bands
from hyperhpc.scene import open_scene
from hyperhpc.schema import NO_CLUSTER
from hyperhpc.simulate.materials import CLASS_NAMES, endmembers
from hyperhpc.simulate.scene import Painter, simulate

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("HYPERHPC_SHARED", ROOT.parent / "shared")) / "data"
PAGE = ROOT / "docs" / "science.md"
SJER = "neon_sjer_h5/NEON_SJER_2017_subset.h5"
#: NEON's grid of 426 bands without those that the IDTReeS files leave out (0-based).
NEON_BANDS = 426
IDTREES_LEFT_OUT = np.r_[192:210, 283:315, 419:426]

Rows = list[list[str]]


class Pixels(NamedTuple):
    """Valid pixels of a scene: DN (pixel, band), centres (band), divisor, no-data values."""

    dn: np.ndarray
    wavelength_nm: np.ndarray
    scale_factor: float
    nodata: Sequence[float]


def _open(path: Path) -> Pixels:
    scene = open_scene(path)
    height, width, n_bands = scene.shape
    dn = scene.read(slice(0, height), slice(0, width)).reshape(-1, n_bands)
    is_valid = valid_pixels(dn, scene.nodata, select_bands(scene).bands)
    return Pixels(dn[is_valid], scene.wavelength_nm, scene.scale_factor, scene.nodata)


def _open_bare(path: Path, wavelength_nm: np.ndarray) -> Pixels:
    """A NEON GeoTIFF that holds no wavelengths."""
    import rasterio

    with rasterio.open(path) as file:
        dn = np.moveaxis(file.read(), 0, -1).reshape(-1, len(wavelength_nm))
    return Pixels(dn[(dn >= 0).all(axis=1)], wavelength_nm, 10000.0, [-9999.0])


@cache
def scenes() -> dict[str, Pixels]:
    """The scenes by name, real ones first."""
    neon_nm = open_scene(DATA / SJER).wavelength_nm
    tiles = [_open(path) for path in sorted((DATA / "enmap_potsdam/images").glob("*.tif"))]
    idtrees_nm = np.delete(neon_nm, IDTREES_LEFT_OUT)
    idtrees = sorted((DATA / "neon_idtrees").glob("*.tif"))
    return {
        "NEON SJER 2017": _open(DATA / SJER),
        "NEON SJER_052": _open_bare(DATA / "neon_sjer_tif/SJER_052_hyperspectral.tif", neon_nm),
        **{f"NEON {path.stem[:4]}": _open_bare(path, idtrees_nm) for path in idtrees},
        "EnMAP Potsdam": tiles[0]._replace(dn=np.concatenate([tile.dn for tile in tiles])),
        "EMIT": _open(next(p for p in (DATA / "emit").iterdir() if p.suffix != ".hdr")),
        "simulated, 400 x 400": _simulate(),
    }


def _simulate() -> Pixels:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.zarr"
        simulate(path, 400, 400)
        return _open(path)


def _index(pixels: Pixels, names: Sequence[str]) -> IndexValues:
    bound, _ = choose_indices(names, {}, pixels.wavelength_nm)
    how = {"scale_factor": pixels.scale_factor, "nodata": pixels.nodata}
    return compute_indices(pixels.dn, bound, **how)


# --- sections -------------------------------------------------------------------------


def carbon_dioxide() -> Rows:
    """CAI against the index that does not read 2000 nm."""
    rows = [["scene", "pixels", "cai", "cai_2030", "r", "shift by CO2", "sd of cai_2030", "said"]]
    for name, pixels in scenes().items():
        found = measure_carbon_dioxide(pixels.dn, pixels.wavelength_nm, pixels.scale_factor)
        assert found is not None
        cai, other = _index(pixels, ["cai", "cai_2030"]).values
        r = np.corrcoef(cai, other)[0, 1]
        numbers = [f"{np.median(cai):+.4f}", f"{np.median(other):+.4f}", f"{r:+.2f}"]
        numbers += [f"{-found.shift:+.4f}", f"{found.spread:.4f}"]
        said = "yes" if found.exceeds_signal else "no"
        rows.append([name, f"{len(cai):,}", *numbers, said])
    return rows


def carotenoids() -> Rows:
    """Percentiles of CRI1 and CRI2."""
    rows = [["scene", "CRI1: 2 %", "median", "98 %", "CRI2: 2 %", "median", "98 %"]]
    for name, pixels in scenes().items():
        values = _index(pixels, ["cri1", "cri2"]).values
        found = np.nanpercentile(values, (2, 50, 98), axis=1).T
        rows.append([name, *(f"{value:.1f}" for value in found.ravel())])
    return rows


def denominators() -> Rows:
    """Pixels whose denominator is zero within the rounding of digital numbers."""
    names = ["ndvi", "ndli", "mrendvi", "sipi", "ndni", "cri1", "cri2"]
    rows = [["scene", "pixels", *names]]
    for name, pixels in scenes().items():
        causes = _index(pixels, names).causes
        cells = [
            " + ".join(str(int((row == cause).sum())) for cause in CAUSES.values())
            for row in causes
        ]
        rows.append([name, f"{len(pixels.dn):,}", *cells])
    return rows


def noise() -> Rows:
    """Noise of the bands that a run keeps, those that --drop auto leaves out, interpolated ones."""
    rows = [
        ["scene", "bands", "signal over noise: 5 %", "median", "below 10, nm", "interpolated, nm"]
    ]
    for name, pixels in scenes().items():
        bands = good_bands(pixels.wavelength_nm, drop_windows(()), _flagged(pixels))
        nm = pixels.wavelength_nm[bands]
        found = measure_bands(pixels.dn[:, bands], nm, pixels.scale_factor)
        assert found is not None
        ratio = found.signal / found.noise
        low, median = np.nanpercentile(ratio, (5, 50))
        with np.errstate(invalid="ignore"):
            noisy = ", ".join(f"{centre:.0f}" for centre in nm[ratio < MIN_SIGNAL_TO_NOISE])
        runs = ", ".join(f"{first:.0f}-{last:.0f}" for first, last in found.straight_runs(nm))
        words = [f"{low:.0f}", f"{median:.0f}", noisy or "none", runs or "none"]
        rows.append([name, str(len(bands)), *words])
    return rows


def _flagged(pixels: Pixels) -> list[int]:
    """Bands that hold one value in all pixels: no measurement."""
    return np.flatnonzero((pixels.dn == pixels.dn[0]).all(axis=0)).tolist()


def fit() -> Rows:
    """Clusters against the true classes of a simulated scene, by what the models are fitted to."""
    rows = [["options", "fitted pixels", "bands", "lloyd", "minibatch"]]
    kinds: dict[str, dict[str, Any]] = {
        "(default)": {},
        "--stride 1": {"stride": 1},
        "--stride 16": {"stride": 16},
        "--drop 0-1 (all bands)": {"drop": [(0, 1)]},
        "--drop auto": {"drop": "auto"},
        "--clusters 6": {"clusters": 6},
        "--clusters 12": {"clusters": 12},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.zarr"
        simulate(path, 400, 400)
        truth = xr.open_zarr(f"{path}.truth.zarr")["true_class"].values
        for number, (words, options) in enumerate(kinds.items()):
            found = hyperhpc.run(path, Path(folder) / str(number), indices=["ndvi"], **options)
            scores = []
            for model in ("lloyd", "minibatch"):
                labels = found.labels(model, slice(None))
                is_valid = labels != NO_CLUSTER
                scores.append(f"{adjusted_rand_score(truth[is_valid], labels[is_valid]):.3f}")
            rows.append([words, f"{found.model['n_pixels_fit']:,}", str(found.n_good), *scores])
    return rows


def _samson() -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """DN (pixel, band), published endmembers and abundances (pixel, endmember), divisor."""
    known = loadmat(DATA / "samson" / "Samson.mat")
    scene = open_scene(DATA / "samson" / "samson_1.img")
    dn = scene.read(slice(0, 95), slice(0, 95)).reshape(-1, 156)
    return dn, known["GT"], known["S_GT"].reshape(-1, 3), 1402.0


def _mixed() -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """The same of a simulated scene, in its good bands."""
    painter = Painter(200, 200)
    dn, true_class = painter.window(0, 0, 200, 200)
    is_valid = true_class != NO_CLUSTER
    nm = painter.wavelength_nm
    good = good_bands(nm, drop_windows((), None), ())
    cover = painter.land.window(0, 0, 200, 200)
    spectra = endmembers(nm)[: len(CLASS_NAMES), good] / 1e4
    return dn[is_valid][:, good], spectra, cover.abundance[:, is_valid].T, 1e4


def fractions() -> Rows:
    """Fractions against published abundances, and against the truth of a simulated scene."""
    rows = [["scene", "endmembers", "by", "RMSE of fractions", "mean residual"]]
    for name, (dn, known, true, scale) in (("Samson", _samson()), ("simulated", _mixed())):
        n = len(known)
        found = {
            f"{n} published" if name == "Samson" else f"{n} true": known,
            f"{n} by N-FINDR": dn[find_nfindr(dn / scale, n)] / scale,
            f"{n} by ATGP": dn[find_atgp(dn / scale, n)] / scale,
        }
        for what, spectra in found.items():
            for by in ("reflectance", "shape"):
                unmixer = Unmixer(spectra.astype(float), scale, dn.dtype, by_shape=by == "shape")
                mixed, residual = unmixer.unmix(dn)
                # of all orders of the endmembers the one with the least error
                errors = ((mixed[:, None] - true.T[None]) ** 2).mean(axis=2)
                rmse = np.sqrt(errors[linear_sum_assignment(errors)].mean())
                rows.append([name, what, by, f"{rmse:.3f}", f"{residual.mean():.4f}"])
    return rows


SECTIONS: dict[str, Callable[[], Rows]] = {
    "carbon-dioxide": carbon_dioxide,
    "carotenoids": carotenoids,
    "denominators": denominators,
    "noise": noise,
    "fit": fit,
    "fractions": fractions,
}


def as_markdown(rows: Rows) -> str:
    """A table in Markdown; the first row is its head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])


def main(arguments: Sequence[str]) -> None:
    """Print sections, or write them into the page."""
    is_written = "--write" in arguments
    chosen = [name for name in arguments if not name.startswith("-")] or list(SECTIONS)
    page = PAGE.read_text("utf-8") if is_written else ""
    for name in chosen:
        table = as_markdown(SECTIONS[name]())
        print(f"{name}\n\n{table}\n", flush=True)
        place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        page = place.sub(lambda found, table=table: f"{found[1]}\n{table}\n\n{found[2]}", page)
    if is_written:
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
