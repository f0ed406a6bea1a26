"""Names, colours and merges of clusters: the file to edit, its checks, and what follows from it."""

from __future__ import annotations

import csv
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import rasterio
from matplotlib.text import Text
from rasterio.shutil import copy

from cli_case import call, check_refused
from hyperhpc.analysis.cover import suggest_cover
from hyperhpc.report.formats import percent
from hyperhpc.report.page import render
from hyperhpc.report.plots.maps import cluster_figure
from hyperhpc.report.plots.spectra import cluster_spectra_figure
from hyperhpc.report.style import cluster_colours, model_colours, use_style
from hyperhpc.results import open_results
from hyperhpc.rundir.integrity import files_of
from hyperhpc.sealed import measure_file, write_sealed, write_sums
from hyperhpc.tools.verify import verify
from hyperhpc.view.markup import cluster_legend
from report_case import write_case

#: Two classes of several clusters, one of a single one, and a cluster without a name.
NAMES = ["water", "forest", "dry grass", "forest", "C4", "dry grass"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run of two models with six clusters each."""
    folder = tmp_path / "a run"
    write_case(folder, shape=(20, 24), clusters=6, points=1, indices=("ndvi", "cai"))
    (folder / "plan.json").write_text("{}")
    return folder


def edit(file: Path, names: list[str], **colors: str) -> Path:
    """Write a file of names as a user does; a colour for a cluster, by its title."""
    file.write_text(
        "\n".join(
            f"[lloyd.C{k}]\nname = {json.dumps(name)}\n"
            + (f'color = "{colors[f"C{k}"]}"\n' if f"C{k}" in colors else "")
            for k, name in enumerate(names)
        )
    )
    return file


def test_classes__template_describes_each_cluster_and_changes_nothing(
    out: Path, tmp_path: Path, no_report: None
) -> None:
    file = tmp_path / "names.toml"
    done = call("classes", out, file)
    assert (done.code, done.out) == (0, f"{file}\n")
    text = file.read_text("utf-8")
    assert text == call("classes", out).out
    assert tomllib.loads(text) == {"lloyd": {f"C{k}": {"name": f"C{k}"} for k in range(6)}}
    entry = open_results(out).cluster_entry("lloyd")
    for k, pixels in enumerate(entry["pixels"]):
        (part,) = (p for p in text.split("\n[lloyd.") if p.startswith(f"C{k}]"))
        assert f"# {100 * pixels / sum(entry['pixels']):.1f} % of" in part
        assert f"brightness {np.mean(entry['mean'][k]):.3g}" in part
        assert "# ndvi " in part
        assert "# suggestion: " in part
    assert not (out / "classes.json").exists()
    assert call("classes", out, file).code == 0
    results = open_results(out)
    assert not any(one.is_named for one in results.classes("lloyd"))
    other = tomllib.loads(call("classes", out, "--model", "minibatch").out)
    assert list(other) == ["minibatch"]


def test_classes__names_are_kept_shown_in_the_template_and_removed(
    out: Path, tmp_path: Path, no_report: None
) -> None:
    file = edit(tmp_path / "names.toml", NAMES, C1="#1B7837")
    assert call("classes", out, file).code == 0
    lloyd = open_results(out).classes("lloyd")
    assert [(one.number, one.name, one.clusters) for one in lloyd] == [
        (0, "water", (0,)),
        (1, "forest", (1, 3)),
        (2, "dry grass", (2, 5)),
        (4, "C4", (4,)),
    ]
    assert [one.color for one in lloyd] == [None, "#1b7837", None, None]
    assert open_results(out).class_names("lloyd") == NAMES
    again = tomllib.loads(call("classes", out).out)["lloyd"]
    assert [again[f"C{k}"]["name"] for k in range(6)] == NAMES
    assert again["C3"]["color"] == "#1b7837"
    assert call("classes", out, "--remove").code == 0
    assert not open_results(out).named_models
    check_refused(call("classes", out, "--remove"), 3, "have no names")
    check_refused(call("classes", out, file, "--remove"), 2, "--remove takes no file")


def test_classes__a_file_of_one_model_keeps_the_names_of_the_other(
    out: Path, tmp_path: Path, no_report: None
) -> None:
    assert call("classes", out, edit(tmp_path / "a.toml", NAMES)).code == 0
    other = tmp_path / "b.toml"
    other.write_text((tmp_path / "a.toml").read_text().replace("[lloyd.", "[minibatch."))
    check_refused(call("classes", out, other, "--model", "lloyd"), 3, "only of minibatch")
    assert call("classes", out, other).code == 0
    assert open_results(out).named_models == ("lloyd", "minibatch")
    assert call("classes", out, "--remove", "--model", "lloyd").code == 0
    assert open_results(out).named_models == ("minibatch",)


BAD_FILES = [
    ("", "names no cluster"),
    ("[lloyd", "not a readable TOML file"),
    ("[kmeans.C0]\nname = 'a'", "names the model kmeans"),
    ("lloyd = 3", "lloyd is not a table"),
    ("[lloyd.C9]\nname = 'a'", "has no cluster C9"),
    ("[lloyd.C0]\nname = 'a'", "cluster C1 of lloyd is missing"),
    ("C0 = 'water'", "lloyd.C0 has no name"),
    ("C0 = {name = ''}", "a name that cannot be shown: ''"),
    ('C0 = {name = "a\\nb"}', "a name that cannot be shown"),
    (f"C0 = {{name = '{'x' * 61}'}}", "a name that cannot be shown"),
    ("C0 = {name = 'a', colour = '#000000'}", "unknown key colour"),
    ("C0 = {name = 'a', color = 'red'}", "the color 'red', which is none"),
    ("C0 = {name = 'a', color = 7}", "the color 7, which is none"),
    ("C0 = {name = 'x', color = '#000000'}", "'x' has two colours, #000000 and #ffffff"),
    ("C0 = {name = 'X'}", "C0 is named 'X' and C1 'x', which differ in case only"),
    ("C0 = {name = 'C2'}", "C0 is named C2, which is another cluster"),
]


def test_classes__bad_files_are_refused_and_nothing_is_changed(out: Path, tmp_path: Path) -> None:
    file, before = tmp_path / "names.toml", sorted(out.rglob("*"))
    for text, says in BAD_FILES:
        if text.startswith("C0"):
            rest = [f"C{k} = {{name = 'x', color = '#ffffff'}}" for k in range(1, 6)]
            text = "\n".join(["[lloyd]", text, *rest])
        file.write_text(text)
        check_refused(call("classes", out, file), 3, says)
    assert sorted(out.rglob("*")) == before


def test_classes__runs_and_models_that_are_not_there_are_refused(out: Path, tmp_path: Path) -> None:
    check_refused(call("classes", tmp_path / "none"), 3, "holds no run")
    check_refused(call("classes", out, "--model", "kmeans"), 3, "no model 'kmeans'")


def test_classes__damage_is_found_and_said(out: Path, tmp_path: Path, no_report: None) -> None:
    assert call("classes", out, edit(tmp_path / "names.toml", NAMES)).code == 0
    kept = out / "classes.json"
    kept.write_text(kept.read_text().replace("forest", "fOrest"))
    with pytest.raises(Exception, match="damaged") as found:
        open_results(out).classes("lloyd")
    assert "--remove" in (found.value.hint or "")  # type: ignore[attr-defined]
    sums = {name: measure_file(out / name) for name in files_of(out) if ".zarr/" in name}
    write_sums(out / "checksums.json", sums)
    assert "classes.json" in verify(out).damaged
    assert "--remove" in verify(out).hint
    assert call("classes", out, "--remove").code == 0
    other = tmp_path / "other"
    write_case(other, shape=(8, 9), clusters=3, points=0, indices=(), models=("lloyd",))
    assert call("classes", out, tmp_path / "names.toml").code == 0
    shutil.copy(kept, other)
    with pytest.raises(Exception, match="other clusters than the 3 of lloyd"):
        open_results(other).classes("lloyd")


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "a", "clusters": [0, 1, 2, 3, 4, 5], "color": "red; } body {"},
        {"name": "a\x1b[2J", "clusters": [0, 1, 2, 3, 4, 5]},
        {"name": "a", "clusters": "012345"},
        {"name": "a"},
        {"name": "a", "clusters": [0, 1, 2, 3, 4, 5, 5]},
        {"name": "a", "clusters": [-1, 0, 1, 2, 3, 4, 5]},
    ],
)
def test_classes__of_another_program_are_refused(out: Path, entry: dict[str, object]) -> None:
    write_sealed(out / "classes.json", {"models": {"lloyd": [entry]}})
    check_refused(call("classes", out), 3, "classes.json")


def test_classes__colours_and_legend_follow(out: Path, tmp_path: Path, no_report: None) -> None:
    assert call("classes", out, edit(tmp_path / "n.toml", NAMES, C3="#102030")).code == 0
    results, own = open_results(out), cluster_colours(6)
    green = (0x10 / 255, 0x20 / 255, 0x30 / 255)
    expected = [own[0], green, own[2], green, own[4], own[2]]
    assert model_colours(results, "lloyd") == tuple(expected)
    assert model_colours(results, "minibatch") == own
    legend = cluster_legend(results, "lloyd")
    assert [legend.count(name) for name in dict.fromkeys(NAMES)] == [1] * 4


def test_classes__exports_have_names_and_merged_values(
    out: Path, tmp_path: Path, no_report: None
) -> None:
    assert call("classes", out, edit(tmp_path / "n.toml", NAMES, C1="#102030")).code == 0
    labels = open_results(out).labels("lloyd", slice(None))
    true = np.where(labels == 3, 1, np.where(labels == 5, 2, labels))
    path = tmp_path / "lloyd.tif"
    assert call("export", out, path, "--what", "lloyd").code == 0
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(file.read(1), true)
        assert file.tags(1)["long_name"] == "Classes, lloyd"
        assert file.tags(1)["description"] == "0 = water; 1 = forest; 2 = dry grass; 4 = C4"
        assert file.colormap(1)[1] == (0x10, 0x20, 0x30, 255)
    copy(path, tmp_path / "lloyd.vrt", driver="VRT")
    seen = (tmp_path / "lloyd.vrt").read_text()
    names = [part.split("<")[0] for part in seen.split("<Category>")[1:]]
    assert names == ["water", "forest", "dry grass", "", "C4"]  # the place is the value
    style = (tmp_path / "lloyd.qml").read_text()
    assert 'value="1" color="#102030" alpha="255" label="forest"' in style
    assert style.count("<paletteEntry") == 4
    assert call("export", out, tmp_path / "c.csv").code == 0
    with (tmp_path / "c.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["class"] for row in rows] == [*NAMES, *(f"C{k}" for k in range(6))]
    assert call("export", out, tmp_path / "p.csv", "--what", "points").code == 0
    with (tmp_path / "p.csv").open(newline="") as table:
        (point,) = csv.DictReader(table)
    assert point["class_lloyd"] == NAMES[int(point["cluster_lloyd"])]


def test_classes__report_shows_names(out: Path, tmp_path: Path, no_report: None) -> None:
    names = [name.replace("forest", "forest & <wood> $1$") for name in NAMES]
    assert call("classes", out, edit(tmp_path / "names.toml", names)).code == 0
    results = open_results(out)
    page = render(results, [], [])
    table = page.split('id="table-classes-lloyd"')[1].split("</table>")[0]
    pixels = results.cluster_entry("lloyd")["pixels"]
    assert f'data-value="{pixels[1] + pixels[3]}"' in table
    assert "forest &amp; &lt;wood&gt; $1$" in table
    assert "C1, C3" in table
    assert "The clusters of lloyd were named by hand, which gave 4 classes." in page
    assert 'id="table-classes-minibatch"' not in page
    with use_style():
        key, spectra = (
            {text.get_text() for text in figure.findobj(Text)}
            for figure in (
                cluster_figure(results, "lloyd", None),
                cluster_spectra_figure(results, "lloyd"),
            )
            if figure is not None
        )
    share = percent((pixels[1] + pixels[3]) / sum(pixels))
    assert {"water", "forest & <wood> \\$1\\$", "dry grass", "C4", share} <= key
    assert {"C0 water", "C2 dry grass", "C4"} <= spectra


def spectrum(nm: np.ndarray, blue: float, red: float, near: float, litter: float) -> np.ndarray:
    """Reflectance with a step at 700 nm, and a dip at 2100 nm of so much."""
    values = np.where(nm < 600, blue, np.where(nm < 700, red, near))
    return values - np.where((nm > 2085) & (nm < 2117), litter, 0)


def test_suggest_cover__reads_indices_and_brightness() -> None:
    nm = np.arange(400.0, 2450.0, 5.0)
    spectra = [
        spectrum(nm, 0.04, 0.03, 0.02, 0),
        spectrum(nm, 0.04, 0.04, 0.4, 0),
        spectrum(nm, 0.06, 0.08, 0.2, 0),
        spectrum(nm, 0.1, 0.2, 0.3, 0.03),
        spectrum(nm, 0.2, 0.3, 0.4, -0.03),
        spectrum(nm, 0.05, 0.08, 0.12, -0.01),
        np.full(len(nm), np.nan),
    ]
    words = [
        "water or shade", "green vegetation", "sparse vegetation", "dry vegetation",
        "bright soil", "dark soil or built-up", "",
    ]  # fmt: skip
    assert suggest_cover(nm, np.array(spectra)) == words
    is_visible = nm < 1000
    found = suggest_cover(nm[is_visible], np.array(spectra)[:, is_visible])
    assert found == [*words[:3], *["dry vegetation or bare ground"] * 3, ""]
    assert suggest_cover(nm[:20], np.array(spectra)[:, :20]) == [""] * 7
