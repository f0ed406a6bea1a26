"""The map of pixels without data: where it is drawn, and that each pixel has its cause's colour."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from hyperhpc.report.draw import draw_figures
from hyperhpc.report.plots.maps import nodata_figure
from hyperhpc.results import RunResults, open_results
from report_case import write_case

FILE, MASK, AREA = "no data in the file", "hidden by --mask cloud", "outside the area of interest"
MEANINGS = ["has data", FILE, MASK, "in no file of the mosaic", AREA]


def write_run(out: Path, shape: tuple[int, int], *, has_map: bool = True) -> np.ndarray:
    """A run with two levels, of which the first is drawn; its codes (y, x)."""
    case = write_case(out, shape=shape, points=0, indices=(), models=(), levels=(1, 4))
    group = zarr.open_group(out / "overview.zarr", mode="r+", zarr_format=2)
    codes = np.isnan(group["1/quicklook"][0]).astype(np.uint8)
    codes[2:9, 3:20], codes[:, :2] = 2, 4
    for level in ("1", "4") if has_map else ():
        stored = group[level].create_array("nodata_cause", data=codes[:: int(level), :: int(level)])
        meanings = " ".join(name.replace(" ", "_") for name in MEANINGS)
        stored.attrs.update({"flag_values": list(range(5)), "flag_meanings": meanings})
    counts = {name: int((codes == i).sum()) for i, name in enumerate(MEANINGS)}
    case["pixels"]["nodata_causes"] = {name: counts[name] for name in (FILE, MASK, AREA)}
    (out / "run.json").write_text(json.dumps(case))
    return codes


@pytest.mark.parametrize("shape", [(60, 70), (30, 200)], ids=["key at the right", "key below"])
def test_nodata_figure__gives_each_pixel_the_colour_of_its_cause(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    codes = write_run(tmp_path, shape)
    figure = nodata_figure(open_results(tmp_path))
    assert figure is not None
    image = figure.axes[0].images[0].get_array()
    colours = {}
    for name in (FILE, MASK, AREA):
        (colours[name],) = np.unique(image[codes == MEANINGS.index(name)], axis=0)
    is_grey = image[..., :3].max(axis=2) == image[..., :3].min(axis=2)
    assert (is_grey | (codes > 0)).all()
    assert image[codes == 0][:, :3].min() > max(colours[FILE][:3])
    swatches = [artist for artist in figure.artists if hasattr(artist, "get_facecolor")]
    drawn = [np.round(np.multiply(one.get_facecolor(), 255)) for one in swatches]
    np.testing.assert_array_equal(drawn, [colours[name] for name in (FILE, MASK, AREA)])
    words = [text.get_text().replace("\u202f", "") for text in figure.texts]
    for name in (FILE, MASK, AREA):
        n = (codes == MEANINGS.index(name)).sum()
        share = f"{100 * n / codes.size:.1f}%"
        assert words[words.index(name) + 1] == f"{n} pixels, {share}"


def results_with(out: Path, *causes: str) -> RunResults:
    run = json.loads((out / "run.json").read_text())
    run["pixels"]["nodata_causes"] = dict.fromkeys(causes, 7)
    (out / "run.json").write_text(json.dumps(run))
    return open_results(out)


def test_nodata_figure__is_drawn_where_it_says_more_than_the_grey_of_all_maps(
    tmp_path: Path,
) -> None:
    write_run(tmp_path, (30, 40))
    assert nodata_figure(results_with(tmp_path, FILE)) is None
    assert nodata_figure(results_with(tmp_path)) is None
    assert nodata_figure(results_with(tmp_path, MASK)) is not None
    names = [
        figure.name
        for figure in draw_figures(results_with(tmp_path, FILE, AREA), [], has_index_maps=False)
    ]
    assert names == ["quicklook", "nodata"]


def test_nodata_figure__is_left_out_of_runs_of_older_versions(tmp_path: Path) -> None:
    write_run(tmp_path, (30, 40), has_map=False)
    assert nodata_figure(results_with(tmp_path, FILE, MASK)) is None
