"""Make the pictures of the documentation again: `make pictures`.

It runs the program itself, in a temporary folder, and photographs the report and the viewer in
Debian's Chromium (packages chromium and chromium-driver). The chart of docs/performance.md is
drawn from the tables of docs/performance-tables.md.
"""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from browser_case import Browser, browser, served, wait_for  # noqa: E402 - from tests/

#: Pictures of the tutorial: name, figure of the report, width in pixels.
TUTORIAL = (
    ("tutorial-spectrum", "spectra", 900),
    ("tutorial-indices", "indices", 600),
    ("tutorial-clusters", "clusters_lloyd", 800),
    ("tutorial-quicklook", "quicklook", 900),
)
#: Points of the picture of the viewer: water, grass, trees (m, in the simulated scene).
POINTS = ((517117.0, 4525823.0), (517200.5, 4525800.5), (517290.0, 4525690.0))


def hyperhpc(*words: object) -> None:
    """Run one command."""
    subprocess.run([sys.executable, "-m", "hyperhpc", *map(str, words)], check=True)


def save(picture: Image.Image, name: str, width: int | None = None) -> None:
    """Write a picture in few colours, which keeps the repository small."""
    if width and picture.width != width:
        height = round(picture.height * width / picture.width)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    picture.convert("RGB").quantize(256).save(IMAGES / f"{name}.png", optimize=True)
    print(f"docs/images/{name}.png: {picture.width} x {picture.height}")


def photograph(page: Browser, path: Path, size: tuple[int, int]) -> Image.Image:
    """What the browser shows, as a picture of this size."""
    page.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False},
    )
    data = page.driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    path.write_bytes(base64.b64decode(data))
    return Image.open(path)


def draw_chart(path: Path) -> None:
    """Draw time by stage, and memory, of the recipe and of a run, from the tables."""
    from matplotlib.figure import Figure

    text = (ROOT / "docs" / "performance-tables.md").read_text("utf-8")
    table = text.split("### Against the tutorial's recipe")[1].split("\n### ")[0]
    rows = re.findall(r"^\| ((?:run|recipe), [^|]+?) \| ([\d.]+)", table, re.MULTILINE)
    value = {name: float(number) for name, number in rows}
    figure = Figure(figsize=(9.0, 2.9), layout="constrained")
    time_axes, memory_axes = figure.subplots(1, 2, width_ratios=(3, 1))
    names = ("tutorial's recipe", "hyperhpc run")
    stages = {
        "read, sample": (("recipe, load", "recipe, sample", "recipe, scale"), ("run, sample",)),
        "fit": (("recipe, fit k-means", "recipe, fit mini-batch"), ("run, fit",)),
        "indices, labels": (
            ("recipe, indices", "recipe, predict"),
            ("run, classify", "run, overview"),
        ),
        "pictures, report": (
            ("recipe, plot spectrum", "recipe, plot indices", "recipe, plot clusters"),
            ("run, report",),
        ),
        "start-up": (("recipe, imports", "recipe, workers"), ("run, outside its stages",)),
    }
    colors = ("#0b5563", "#3a86a8", "#8ab6c1", "#d9a441", "#b8b8b8")
    left = [0.0, 0.0]
    for (stage, parts), color in zip(stages.items(), colors, strict=True):
        widths = [sum(value[name] for name in part) for part in parts]
        time_axes.barh(names, widths, left=left, color=color, label=stage)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    totals = [value["recipe, whole process"], value["run, whole process"]]
    for row, (end, total) in enumerate(zip(left, totals, strict=True)):
        time_axes.text(end + 0.8, row, f"{total:.3g} s", va="center")
    time_axes.set(xlabel="seconds, 2000 x 2000 pixels, 426 bands, 2 cores", xlim=(0, 82))
    place = {"loc": "lower center", "bbox_to_anchor": (0.45, 1.0)}
    time_axes.legend(ncols=5, fontsize=8, frameon=False, **place)
    memory = [value["recipe, peak memory"] / 1024, value["run, peak memory"] / 1024]
    memory_axes.barh(names, memory, color="#0b5563")
    for row, size in enumerate(memory):
        memory_axes.text(size + 0.15, row, f"{size:.1f} GiB", va="center")
    memory_axes.set(xlabel="peak memory, GiB", xlim=(0, 14), yticks=[])
    for axes in (time_axes, memory_axes):
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw_chart(folder / "chart.png")
        save(Image.open(folder / "chart.png"), "performance")
        if "chart" in sys.argv[1:]:
            return
        scene, out = folder / "scene.zarr", folder / "out"
        hyperhpc("simulate", scene, "--size", "400x400", "--quiet")
        hyperhpc("run", scene, out, "--point", "517200.3,4525800.6", "--quiet")
        for picture, figure, width in TUTORIAL:
            save(Image.open(out / "figures" / f"{figure}.png"), picture, width)
        hyperhpc("demo", folder / "demo", "--quiet")
        with browser(folder) as page:
            page.driver.get((folder / "demo" / "report.html").as_uri())
            save(photograph(page, folder / "report.png", (915, 1545)), "report")
            with served(out) as view:
                page.open(view.url)
                page.choose("clusters (lloyd)")
                for count, (x, y) in enumerate(POINTS, 1):
                    page.click_map(x, y)
                    wait_for(lambda n=count: page.ask("points", "m.source.data.x.length") == n)
                save(photograph(page, folder / "viewer.png", (1380, 867)), "viewer")


if __name__ == "__main__":
    main()
