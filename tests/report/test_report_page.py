"""The page and the PNG files of a run, held against the JSON they come from."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from hyperhpc.errors import ConfigError
from hyperhpc.report import figures, write_report
from hyperhpc.report.draw import ReportFigure
from hyperhpc.report.pictures import save_figures
from hyperhpc.report.style import cluster_colours, model_colours
from hyperhpc.report.tables import index_notes, index_table, index_values
from hyperhpc.results import RunResults, open_results
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.tools.export.geotiff import colour_table
from hyperhpc.tools.preview import report_run
from report_case import write_case

_VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Tables as rows of (text, data-value), every address, ids, alt texts, all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: dict[str, list[list[tuple[str, float | None]]]] = {}
        self.links: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.alts: list[str | None] = []
        self.text = ""
        self._open: list[str] = []
        self._table = self._row = self._cell = None
        self.feed(text)
        self.close()
        assert self._open == [], "tags left open"

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if tag not in _VOID:
            self._open.append(tag)
        if "id" in values:
            self.ids.append(values["id"])
        self.links += [(tag, values[k]) for k in ("src", "href") if k in values]
        if tag == "img":
            self.alts.append(values.get("alt"))
        if tag == "table":
            self._table = self.tables.setdefault(values["id"], [])
        elif tag == "tr" and self._table is not None:
            self._row = []
        elif tag in ("td", "th") and self._row is not None:
            value = values.get("data-value")
            self._cell = ["", None if value is None else float(value)]

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        if tag == "table":
            self._table = None
        elif tag == "tr" and self._table is not None:
            self._table.append(self._row)
            self._row = None
        elif tag in ("td", "th") and self._cell is not None:
            self._row.append((self._cell[0].strip(), self._cell[1]))
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell[0] += data
        if "script" not in self._open and "style" not in self._open:
            self.text += data


def read_page(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def plain(text: str) -> float:
    """A printed number as a float again."""
    return float(text.split("\u202f%")[0].replace("\u202f", "").replace("\u2212", "-"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run with everything, its report, and its JSON files."""
    out = tmp_path_factory.mktemp("report") / "a run & <its> folder"
    write_case(out)
    path = write_report(out, figures="all")
    data = {p.stem: json.loads(p.read_text()) for p in out.glob("*.json")}
    return out, path, read_page(path), data


@pytest.fixture
def quick(monkeypatch):
    """A third of the resolution, for tests that look at the page and not at the pictures."""
    monkeypatch.setattr("hyperhpc.report.style.DPI", 60)


def test_write_report__gives_the_page_and_leaves_nothing_half_written(run):
    out, path, _, _ = run
    assert path == out / "report.html"
    assert not [p for p in out.rglob("*") if ".part" in p.name]


@pytest.mark.slow
def test_write_report__draws_each_index_by_itself_only_if_asked(tmp_path, quick):
    write_case(tmp_path, shape=(12, 12), indices=("ndvi",), points=0, models=("lloyd",))
    write_report(tmp_path)
    page_only = {path.stem for path in (tmp_path / "figures").iterdir()}
    write_report(tmp_path, figures="all")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} - page_only == {"index_ndvi"}


def test_save_figures__removes_what_only_an_earlier_report_drew(tmp_path, quick):
    write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=())
    results, folder = open_results(tmp_path), tmp_path / "figures"

    def figures(*names):
        drawn = (Figure(figsize=(1, 1)) for _ in names)
        return [
            ReportFigure(name, "", figure, "", "")
            for name, figure in zip(names, drawn, strict=True)
        ]

    save_figures(results, figures("quicklook", "index_ndvi", "closeup_lloyd"))
    own = folder / "index_mine.png"
    own.write_bytes((folder / "index_ndvi.png").read_bytes())  # a copy that the user keeps
    Image.new("RGB", (3, 3)).save(folder / "closeup_other.png")
    (folder / "größe.png").write_bytes(b"x")
    (folder / "folder.png").mkdir()
    save_figures(results, figures("quicklook", "closeup_lloyd"))
    kept = {"closeup_lloyd", "closeup_other", "folder", "größe", "index_mine", "quicklook"}
    assert {path.stem for path in folder.iterdir()} == kept


@pytest.mark.slow
def test_figures__are_decodable_opaque_and_not_blank(run):
    out, _, _, data = run
    names = {p.stem for p in (out / "figures").glob("*.png")}
    indices = {f"index_{i['name']}" for i in data["run"]["indices"]["computed"]}
    assert names == indices | {
        "quicklook", "spectra", "indices", "clusters_lloyd", "clusters_minibatch",
        "cluster_spectra_lloyd", "cluster_spectra_minibatch", "agreement_lloyd_minibatch",
    }  # fmt: skip
    for name in names:
        with Image.open(out / "figures" / f"{name}.png") as image:
            image.load()
            assert image.mode == "RGB"
            assert image.info["dpi"][0] == pytest.approx(300, abs=0.1)
            assert len(image.info["Description"]) > 10
            pixels = np.asarray(image)
        assert pixels.std() > 5, name
        assert max(pixels.shape) <= 4500, name


def test_page__stands_alone(run):
    _, path, page, _ = run
    for tag, address in page.links:
        inner = address.startswith("#") and address[1:] in page.ids
        doi = tag == "a" and address.startswith("https://doi.org/10.")
        picture = tag == "img" and address.startswith(("data:image/png;", "data:image/webp;"))
        assert inner or doi or picture, (tag, address[:80])
    assert "url(" not in path.read_text()
    assert "@import" not in path.read_text()
    assert path.stat().st_size < 15e6
    assert len(page.ids) == len(set(page.ids))
    # The lightbox's own picture is empty until a click; every figure speaks.
    assert page.alts[-1] == ""
    assert all(alt and len(alt) > 10 for alt in page.alts[:-1])
    assert len(page.alts) == 9


def test_page__says_why_pixels_have_no_data(tmp_path, quick):
    case = write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=())
    case["pixels"]["nodata_causes"] = {"outside the area of interest": 3, "hidden by --mask": 1234}
    (tmp_path / "run.json").write_text(json.dumps(case))
    text = read_page(write_report(tmp_path)).text
    assert "pixels: 3 outside the area of interest; 1\u202f234 hidden by --mask" in text


def test_page__says_what_a_run_without_a_sample_has_not_measured(tmp_path, quick):
    case = write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=())
    said = "took no sample: neither the noise of its bands nor the residual of carbon dioxide"
    assert said not in read_page(write_report(tmp_path)).text
    case["applied_model"] = {"path": "model.json", "sha256": "0" * 64}
    (tmp_path / "run.json").write_text(json.dumps(case))
    assert said in read_page(write_report(tmp_path)).text


def test_page__names_days_lines_sun_and_view(tmp_path, quick):
    case = write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=())
    case["scene"]["acquisition"] = {
        "dates": ["2017-06-01", "2017-06-02", "2017-06-05"],
        "flight_lines": [f"L{i}" for i in range(8)],
        "Solar_Zenith_Angle": [29.04, 38.0],
        "Solar_Azimuth_Angle": [120.0, 120.0],
        "to-sensor_Zenith_Angle": [2.0, 17.0],
        "to-sensor_Azimuth_Angle": [350.0, 10.0],
    }
    (tmp_path / "run.json").write_text(json.dumps(case))
    text = read_page(write_report(tmp_path)).text
    assert "2017-06-01 to 2017-06-05" in text
    assert "8 lines: L0, L1, L2, L3, L4, L5 ..." in text
    assert "zenith 29.0 to 38.0°, azimuth 120.0°" in text
    assert "zenith 2.0 to 17.0°, azimuth 350.0 to 10.0° (across north)" in text


@pytest.mark.slow
def test_page__escapes_what_it_shows(tmp_path, quick):
    case = write_case(tmp_path / "out", shape=(20, 20), points=0, indices=(), models=())
    case["scene"]["path"] = "/x/<script>alert(1)</script>.zarr"
    case["choices"] = ['<b>bold</b> & "quoted"']
    (tmp_path / "out" / "run.json").write_text(json.dumps(case))
    text = write_report(tmp_path / "out").read_text()
    assert "<script>alert" not in text
    assert "&lt;b&gt;bold&lt;/b&gt; &amp;" in text


@pytest.mark.parametrize("model", ["lloyd", "minibatch"])
def test_insight__is_recomputed_from_the_spectra(run, model):
    _, _, page, data = run
    entry = data["clusters"]["models"][model]
    nm = np.array(data["model"]["wavelength_nm"])
    mean, sd = np.array(entry["mean"]), np.array(entry["sd"])
    head, *body = page.tables[f"table-cluster-indices-{model}"]
    column = [text for text, _ in head].index("NDVI")
    red, near = (mean[:, np.abs(nm - wanted).argmin()] for wanted in (648.2, 858.6))
    for k, row in enumerate(body):
        assert row[0] == (f"C{k}", k)
        assert row[column][1] == pytest.approx((near - red)[k] / (near + red)[k])
    head, *body = page.tables[f"table-separability-{model}"]
    scale = np.array(data["model"]["scale"])
    width = np.sqrt(((sd / scale) ** 2).mean(axis=1))
    for j, row in enumerate(body):
        assert row[j + 1][1] is None
        for k in {*range(len(body))} - {j}:
            gap = np.sqrt((((mean[j] - mean[k]) / scale) ** 2).mean())
            assert row[k + 1][1] == pytest.approx(gap / (width[j] + width[k]))


@pytest.mark.parametrize("model", ["lloyd", "minibatch"])
def test_cluster_table__repeats_clusters_json_and_recomputed_hectares(run, model):
    _, _, page, data = run
    entry = data["clusters"]["models"][model]
    rows = page.tables[f"table-areas-{model}"]
    body, foot = rows[1:-1], rows[-1]
    total = sum(entry["pixels"])
    assert len(body) == len(entry["pixels"])
    scale = np.array(data["model"]["scale"])
    centres = np.array(data["model"]["models"][model]["centers"]) / scale
    for k, row in enumerate(body):
        hectares = entry["pixels"][k] * data["run"]["area"]["pixel_area_m2"] / 10_000
        assert row[0] == (f"C{k}", k)
        assert row[1][1] == plain(row[1][0]) == entry["pixels"][k]
        assert row[2][1] == pytest.approx(hectares)
        assert plain(row[2][0]) == pytest.approx(hectares, abs=5.01e-5)
        assert row[3][1] == pytest.approx(entry["pixels"][k] / total)
        assert plain(row[3][0]) == pytest.approx(100 * entry["pixels"][k] / total, abs=0.0051)
        assert row[4][1] == pytest.approx(entry["nir"][k])
        assert row[5][1] == entry["counts"][k]
        gaps = np.sqrt(((centres - centres[k]) ** 2).mean(1))
        gaps[k] = np.inf
        assert row[6][1] == pytest.approx(gaps.min())
        assert row[6][0].endswith(f"to C{gaps.argmin()}")
    assert foot[1][1] == total
    assert foot[2][1] == pytest.approx(total / 10_000)
    assert foot[5][1] == sum(entry["counts"])


def test_confusion_table__repeats_clusters_json(run):
    _, _, page, data = run
    table = np.array(data["clusters"]["agreement"][0]["confusion"])
    rows = page.tables["table-confusion-lloyd-minibatch"]
    shown = np.array([[cell[1] for cell in row[1:]] for row in rows[1:]])
    np.testing.assert_array_equal(shown[:-1, :-1], table)
    np.testing.assert_array_equal(shown[-1, :-1], table.sum(0))
    np.testing.assert_array_equal(shown[:-1, -1], table.sum(1))
    assert "0.734" in page.text


def test_index_table__shows_bands_and_statistics_of_the_store(run):
    import zarr

    out, _, page, data = run
    stored = zarr.open_group(out / "overview.zarr", mode="r")["1/indices"]
    entries = data["run"]["indices"]["computed"]
    tables = [page.tables[f"table-{name}"][1:] for name in ("indices", "index-values")]
    for i, (row, spread, entry) in enumerate(zip(*tables, entries, strict=True)):
        assert row[0][0].startswith(entry["title"])
        for band in entry["bands"]:
            assert f"{band['wanted_nm']:.1f} \u2192 {band['centre_nm']:.1f}" in row[2][0]
        values = np.asarray(stored[i])
        finite = values[np.isfinite(values)]
        shown = [cell[1] for cell in spread[1:7]]
        percentiles = np.percentile(finite, (2, 25, 50, 75, 98))
        np.testing.assert_allclose(shown, [*percentiles, finite.mean(dtype=float)], rtol=1e-6)
        assert spread[7][1] == pytest.approx(1 - finite.size / values.size)
    assert "pri" in page.text
    assert "7.2 nm away" in page.text


def test_index_table__says_why_values_are_missing() -> None:
    entry = {
        "name": "cai_2030", "wavelengths": "those of the paper", "note": "Carbon dioxide",
        "bands": [{"wanted_nm": 2026.1, "centre_nm": 2026.1, "dropped": True,
                   "window_nm": [2021.0, 2041.0]}],
    }  # fmt: skip
    undefined = {"near_zero": 1200, "not_positive": 3}
    run = {"indices": {"computed": [entry]}, "pixels": {"undefined": {"cai_2030": undefined}}}
    folder = RunFolder(Path("nowhere"))
    results = RunResults(folder, run, folder.overview, is_strict=False)
    ((row,), (spread,)) = (t.rows for t in (index_table(results), index_values(results, [])))
    assert row[1].note == "Wavelengths: those of the paper"
    assert index_notes(results) == [("cai_2030", "Carbon dioxide")]
    assert row[2].text == "2021\u20132041 \u2192 2026.1*"
    assert spread[7].note == (
        "1\u202f200: a denominator is zero within the rounding of digital numbers; "
        "3: 1 / R or ln(R) of R that is not positive"
    )


def test_stage_table__adds_up(run):
    _, _, page, data = run
    rows = page.tables["table-stages"]
    for row, stage in zip(rows[1:-1], data["run"]["stages"], strict=True):
        assert row[0][0] == stage["name"]
        assert row[1][1] == stage["seconds"]
        assert row[2][1] == stage["bytes_read"]
        assert row[3][1] == pytest.approx(stage["bytes_read"] / stage["seconds"])
    assert rows[-1][1][1] == pytest.approx(sum(s["seconds"] for s in data["run"]["stages"]))
    peaks = {row[0][0]: row[1][1] for row in page.tables["table-memory"][1:]}
    assert peaks == data["run"]["peak_memory_mib"]


def test_page__names_points_choices_command_versions_and_methods(run):
    _, _, page, data = run
    assert data["run"]["command"] in page.text
    for choice in data["run"]["choices"]:
        assert choice in page.text
    decisions = page.text.split("What was decided, and why")[1].split("Time and resources")[0]
    for band in data["run"]["indices"]["computed"][0]["bands"]:
        assert f"{band['wanted_nm']:.1f} \u2192 {band['centre_nm']:.1f} (" in decisions
    assert "farther than 5\u202fnm" in decisions
    assert "reflectance" in page.tables["table-indices"][2][3][0]
    for name, version in data["run"]["versions"].items():
        assert f"{name} {version}" in page.text
    for row, point in zip(page.tables["table-points"][1:], data["spectra"], strict=True):
        assert [cell[1] for cell in row[1:5]] == [point[k] for k in ("x", "y", "row", "col")]
    assert "k-means++" in page.text
    assert "Hubert" in page.text
    assert ("a", "https://doi.org/10.1016/0034-4257(79)90013-0") in page.links
    assert "not finished" not in page.text


@pytest.mark.slow
@pytest.mark.slow
def test_report__keeps_the_colours_of_clusters_for_what_is_drawn_later(tmp_path, quick):
    write_case(tmp_path, shape=(8, 9), points=0, indices=(), models=("lloyd",))
    (tmp_path / "plan.json").write_text("{}")
    report_run(tmp_path, print, cluster_colors="spectral")
    report_run(tmp_path, print)
    results = open_results(tmp_path)
    assert results.run["cluster_colors"] == "spectral"
    spectral = [tuple(round(255 * v) for v in c) for c in model_colours(results, "lloyd")]
    assert spectral != [tuple(round(255 * v) for v in c) for c in cluster_colours(8)]
    table = colour_table(results, "lloyd")
    assert [table[k][:3] for k in range(8)] == spectral
    assert "Colours follow the mean spectra" in read_page(tmp_path / "report.html").text


@pytest.mark.slow
def test_report__again_gives_the_same_page(tmp_path, quick):
    write_case(tmp_path, shape=(12, 12), indices=("ndvi",), points=1, models=())
    before = write_report(tmp_path).read_bytes()
    assert write_report(tmp_path).read_bytes() == before


@pytest.mark.slow
def test_report__of_an_unfinished_run_says_so_and_shows_what_there_is(tmp_path, quick):
    out = tmp_path / "out"
    write_case(out, complete=False, shape=(40, 50), indices=("ndvi",), models=("lloyd",))
    shutil.rmtree(out / "results.zarr")
    (out / "model.json").unlink()
    (out / "clusters.json").write_text('{"models": ')
    page = read_page(write_report(out))
    start = page.text.index("This run is not finished")
    assert 0 < start < page.text.index("Spectra")
    for part in ("model.json", "clusters.json", "results.zarr"):
        assert part in page.text
    assert {"figure-quicklook", "figure-indices", "figure-clusters_lloyd"} <= set(page.ids)
    assert "figure-closeup_lloyd" not in page.ids


@pytest.mark.slow
def test_report__of_a_run_that_only_planned_says_so(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    page = read_page(write_report(tmp_path))
    assert "This run is not finished" in page.text


def test_report__says_unfinished_if_run_json_says_so_though_all_is_there(tmp_path, quick):
    write_case(tmp_path, shape=(12, 12), complete=False, indices=(), models=(), points=0)
    assert "This run is not finished" in read_page(write_report(tmp_path)).text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (None, "holds no run"),
        ({}, "holds no run"),
        ({"run.json": "{"}, "is damaged"),
        ({"run.json": '{"other": 1}'}, "not the record"),
    ],
)
def test_report__of_what_is_no_run_is_a_config_error(tmp_path, files, words):
    out = tmp_path / "out"
    if files is not None:
        out.mkdir()
        for name, text in files.items():
            (out / name).write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        write_report(out)
    assert caught.value.exit_code == 3
    assert "hyperhpc run" in (caught.value.hint or "")
    assert not (out / "report.html").exists()


_ONE = {"models": ("lloyd",), "indices": ("ndvi",), "points": 1, "shape": (40, 50)}
# Oddities that do not meet in the code share a run: each run draws half a dozen figures.
CASES = {
    "one model, no points, five by seven": _ONE
    | {"points": 0, "shape": (5, 7), "clusters": 3, "levels": (1, 4)},
    "no coordinate system, nothing in an index": _ONE
    | {"epsg": None, "all_nan": ("cai",), "indices": ("ndvi", "cai")},
    "a strip in degrees, two models": _ONE
    | {"epsg": 4326, "pixel": 1e-5, "shape": (10, 200), "clusters": 2}
    | {"models": ("lloyd", "Birch"), "indices": ()},
    "a column of twenty clusters": _ONE | {"shape": (200, 10), "clusters": 20},
    "no index, no model": _ONE | {"indices": (), "models": ()},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.slow
def test_report__of_odd_runs(tmp_path, quick, case):
    options = CASES[case]
    run = write_case(tmp_path, **options)
    page = read_page(write_report(tmp_path))
    assert "not finished" not in page.text
    for model in options["models"]:
        assert len(page.tables[f"table-areas-{model.lower()}"]) == options.get("clusters", 8) + 2
    assert ("figure-spectra" in page.ids) == bool(options["points"])
    is_compared = len(options["models"]) > 1
    assert ("table-confusion-lloyd-birch" in page.tables) == is_compared
    assert ("table-indices" in page.tables) == bool(run["indices"]["computed"])
    if options.get("epsg", 1) is None:
        area = page.tables["table-areas-lloyd"][1][2]
        assert area == ("\u2013", None)
        assert "no coordinate reference system" in page.text
    if "all_nan" in options:
        row = page.tables["table-index-values"][2]
        assert row[3] == ("\u2013", None)
        assert row[7][1] == 1.0


@pytest.mark.slow
def test_report__shows_the_noise_of_the_bands_and_marks_interpolated_ones(tmp_path, quick):
    run = write_case(tmp_path, shape=(12, 12), indices=("ndvi", "sipi"), points=0, models=())
    nm = np.arange(500.0, 1000.0, 5.0)
    noise = [None, *np.linspace(1e-3, 2e-3, len(nm) - 2).tolist(), None]
    run["band_quality"] = {"wavelength_nm": nm.tolist(), "noise": noise}
    run["band_quality"] |= {"signal": [0.2] * len(nm), "interpolated_nm": [[795.0, 840.0]]}
    (tmp_path / "run.json").write_text(json.dumps(run))
    page = read_page(write_report(tmp_path))
    assert "figure-noise" in page.ids
    assert (tmp_path / "figures" / "noise.png").exists()
    assert "Hatched: interpolated bands (795\u2013840\u202fnm)." in page.text
    assert "\u2020 This band was interpolated from its neighbours." in page.text
    marked = {row[0][0]: "\u2020" in row[2][0] for row in page.tables["table-indices"][1:]}
    used = {e["title"]: [b["centre_nm"] for b in e["bands"]] for e in run["indices"]["computed"]}
    assert marked == {name: any(795 <= at <= 840 for at in b) for name, b in used.items()}


@pytest.mark.slow
def test_report__without_agreement_in_clusters_json(tmp_path, quick):
    write_case(tmp_path, shape=(12, 12), indices=(), points=0, clusters=2)
    clusters = json.loads((tmp_path / "clusters.json").read_text())
    del clusters["agreement"]
    (tmp_path / "clusters.json").write_text(json.dumps(clusters))
    page = read_page(write_report(tmp_path))
    assert "comparison of the models is not on disk" in page.text


@pytest.mark.slow
def test_figures__come_unsaved_by_name(tmp_path, quick):
    write_case(tmp_path, shape=(12, 12), indices=("ndvi",), points=1, models=("lloyd",))
    drawn = figures(tmp_path)
    assert {"quicklook", "spectra", "indices", "index_ndvi", "clusters_lloyd"} <= set(drawn)
    assert not (tmp_path / "figures").exists()
    drawn["quicklook"].savefig(tmp_path / "again.png")
