"""The promises of the house itself: locks, make targets, documents, and what must not leak."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from docs_case import make_targets

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "container" / "requirements.lock"
DEV_LOCK = ROOT / "container" / "requirements-dev.lock"

#: Written in two halves, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a package registry": "|".join(
        (r"py" r"pi\.org", r"python" r"hosted\.org", r"anaconda" r"\.org", r"npm" r"js\.org")
    ),
    "a Debian mirror": r"(deb|security|snapshot|ftp)\.debian" r"\.org",
    "a setting of a mirror": r"(?<![\w-])--((extra-)?index"
    r"-url|find"
    r"-links|trusted"
    r"-host)",
    "a path of one machine": "|".join(
        (r"(?<![\w.}\")*])/wo" r"rk/", r"/fa" r"rm/", r"(?<!\w)/ro" r"ot/", r"/ho" r"me/\w")
    ),
}


def project_files() -> list[Path]:
    """Files git knows or would add; a release archive has no git, then all are taken."""
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files", "-z"]
    command += ["--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout, or git is not installed")
    paths = (ROOT / name for name in listed.decode().split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


# --- locks ----------------------------------------------------------------------------


def lock_entries(lock: Path) -> dict[str, str]:
    """Name to the whole entry, backslash-continued lines joined, comments removed."""
    text = re.sub(r"^\s*#.*\n", "", lock.read_text("utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0]: line for line in lines}


@pytest.mark.parametrize("lock", [LOCK, DEV_LOCK], ids=lambda path: path.name)
def test_lock__pins_and_hashes_every_entry(lock: Path) -> None:
    entries = lock_entries(lock)
    assert len(entries) > 50
    for name, entry in entries.items():
        assert re.match(rf"{re.escape(name)}==[\w.!+]+( ;[^\\]*?)? +--hash=", entry), entry[:80]
        assert all(
            re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", word)
            for word in entry.split()
            if word.startswith("-")
        ), entry[:80]


@pytest.mark.parametrize("lock", [LOCK, DEV_LOCK], ids=lambda path: path.name)
def test_lock__names_no_index_and_no_host(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert not re.search(r"^\s*-(?!-hash=)", text, re.MULTILINE), "an option line"
    assert "://" not in text
    assert not re.search(r"\b[\w-]+\.(org|com|net|io|dev|local|internal)\b", text)
    assert not re.search(r"(?<![\w.])/\w", text), "an absolute path"


def test_lock__dev_lock_has_the_same_pins() -> None:
    def pins(lock: Path) -> dict[str, str]:
        """Versions and hashes; what one lock needs on Windows only, the other may always."""
        entries = lock_entries(lock)
        return {name: re.sub(r" ;.*? +(?=--hash)", " ", entries[name]) for name in entries}

    dev_entries = {name: entry.split() for name, entry in pins(DEV_LOCK).items()}
    entries = {name: entry.split() for name, entry in pins(LOCK).items()}
    assert {name: dev_entries.get(name) for name in entries} == entries
    assert {"ruff", "mypy", "import-linter", "mkdocs-material"} <= set(dev_entries)


def test_lock__holds_all_declared_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = project["project"]["optional-dependencies"]
    wanted = [*project["project"]["dependencies"], *extras["build"], *extras["test"]]
    wanted += project["build-system"]["requires"]
    names = {re.split(r"[^\w.-]", item, maxsplit=1)[0].lower() for item in wanted}
    assert names <= set(lock_entries(LOCK)), "run make lock"


# --- files ----------------------------------------------------------------------------


def test_files__name_no_registry_and_no_machine() -> None:
    found = []
    for path in project_files():
        try:
            lines = path.read_text("utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            found += [
                f"{path.relative_to(ROOT)}:{number} holds {what}"
                for what, pattern in FORBIDDEN.items()
                if re.search(pattern, line)
            ]
    assert not found, "\n".join(found)


def code_lines() -> dict[Path, int]:
    """Path of each Python file and shell script, from the top, to its number of lines."""
    return {
        path.relative_to(ROOT): len(path.read_text("utf-8").splitlines())
        for path in project_files()
        if path.suffix in (".py", ".sh")
    }


def test_files__are_at_most_600_lines_long() -> None:
    lengths = code_lines()
    assert lengths
    assert not {str(path): n for path, n in lengths.items() if n > 600}


def test_folders__hold_at_most_16_modules() -> None:
    counts = Counter(str(path.parent) for path in code_lines() if path.suffix == ".py")
    assert counts["src/hyperhpc"] > 3
    assert not {folder: n for folder, n in counts.items() if n > 16}


def test_files__scripts_can_be_run_and_stop_at_errors() -> None:
    scripts = [path for path in project_files() if is_bash(path)]
    assert ROOT / ".ci" / "run" in scripts
    for path in scripts:
        assert os.access(path, os.X_OK), f"{path} is not executable"
        assert re.search(r"^set -[eu]*uo pipefail$", path.read_text("utf-8"), re.MULTILINE), (
            path
        )
        subprocess.run(["bash", "-n", str(path)], check=True)


def is_bash(path: Path) -> bool:
    with path.open("rb") as file:
        return file.readline().rstrip() == b"#!/usr/bin/env bash"


# --- make -----------------------------------------------------------------------------


def test_make__help_lists_every_target() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    targets = make_targets()
    assert {"help", "setup", "demo", "test", "lint", "lock", "clean"} <= set(targets)
    for command in (["make"], ["make", "help"]):
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        listed = dict(re.findall(r"^  ([a-z-]+) +(.*)$", shown.stdout, re.MULTILINE))
        assert listed == targets


def test_make__targets_are_no_files() -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(" ".join(phony).split()) == set(make_targets())


# --- documents ------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["jobs", "container"])
def test_folders__say_what_lives_in_them(folder: str) -> None:
    assert (ROOT / folder / "README.md").read_text("utf-8").startswith(f"# {folder}/\n")


def test_decisions__follow_the_template() -> None:
    paths = sorted((ROOT / "docs" / "decisions").glob("*"))
    numbers = []
    for path in paths:
        match = re.fullmatch(r"(\d{4})-[a-z0-9-]+\.md", path.name)
        assert match, f"{path.name}: the form is NNNN-title.md"
        numbers.append(match[1])
        text = path.read_text("utf-8")
        assert text.startswith(f"# {match[1]}: ")
        headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
        assert headings == ["Status", "Context", "Decision", "Consequences"], path.name
        assert len(text.splitlines()) <= 70, f"{path.name} is longer than a page"
    assert numbers[0] == "0000"
    assert len(set(numbers)) == len(numbers), "a number was taken twice"
<<<<<<< HEAD
=======


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", "jobs/README.md", "container/README.md"]
)
def test_documents__link_to_files_and_headings_that_exist(page: str) -> None:
    path = ROOT / page
    text = path.read_text("utf-8")
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"(?<!!)\[[^\]]+\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        elif "://" not in target:
            assert (path.parent / target).exists(), target


def test_readme__names_files_that_exist() -> None:
    table = README.split("## To change X, go to Y")[1]
    for name in re.findall(r"`((?:src|container|jobs|docs|\.ci)/[\w./-]*)`", table):
        assert (ROOT / name).exists(), name


# --- the commands in the README -------------------------------------------------------


def blocks(kind: str) -> list[str]:
    """Fenced blocks of the README whose opening line is exactly this."""
    return re.findall(rf"^```{re.escape(kind)}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def readme_commands() -> list[str]:
    """Each `hyperhpc ...` command, examples and synopsis; continued lines joined."""
    needs = re.findall(r"^```(sh needs-(?!slurm).*)$", README, re.MULTILINE)
    kinds = ("sh", "text", *needs)
    text = "\n".join(block for kind in kinds for block in blocks(kind))
    text = re.sub(r"\n {3,}(?=[-\[])", " ", text)
    return [line for line in text.splitlines() if line.startswith("hyperhpc ")]


@pytest.fixture(scope="module")
def cli() -> click.Group:
    from hyperhpc.cli.commands import cli

    assert isinstance(cli, click.Group)
    return cli


@pytest.mark.parametrize(
    "line", readme_commands(), ids=lambda line: " ".join(line.split()[1:3])
)
def test_readme__commands_and_options_exist(cli: click.Group, line: str) -> None:
    name = line.split()[1]
    assert name in cli.commands
    parameters = cli.commands[name].params
    known = {option for parameter in parameters for option in parameter.opts}
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", line.split(" # ")[0]))
    assert used <= known, f"hyperhpc {name} has no {used - known}"


def test_readme__options_table_names_options_of_run(cli: click.Group) -> None:
    table = README.split("## Options that matter")[1].split("\n## ")[0]
    used = {
        option
        for cell in re.findall(r"^\| (`--.*?) \|", table, re.MULTILINE)
        for option in re.findall(r"--[a-z-]+", cell)
    }
    assert len(used) > 10
    assert used <= {option for item in cli.commands["run"].params for option in item.opts}


def test_readme__exit_codes_are_those_of_the_errors() -> None:
    from hyperhpc import errors

    table = README.split("## Exit codes")[1].split("\n## ")[0]
    listed = {
        int(code)
        for cell in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE)
        for code in cell.split(",")
    }
    raised = {kind.exit_code for kind in errors.HyperhpcError.__subclasses__()}
    assert listed == raised | {0, 2, 130, 143}


def test_readme__make_targets_exist() -> None:
    lines = [line for block in blocks("sh make") for line in block.splitlines()]
    used = {shlex.split(line)[1] for line in lines if line.startswith("make ")}
    assert {"demo", "test", "setup"} <= used <= set(make_targets())


def run_blocks(kind: str, folder: Path) -> None:
    """Run the blocks one after the other, as a reader would, with this Python's hyperhpc."""
    programs = folder / "programs"
    programs.mkdir()
    hyperhpc = programs / "hyperhpc"
    hyperhpc.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m hyperhpc "$@"\n')
    hyperhpc.chmod(0o755)
    script = "set -eu\n" + "\n".join(blocks(kind))
    path = os.pathsep.join([str(programs), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_readme__first_run_works_and_leaves_what_it_says(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    run_blocks("sh", folder)
    assert (folder / "spectrum.png").stat().st_size > 0
    layout = next(block for block in blocks("text") if block.startswith("out/\n"))
    promised = re.findall(r"^  ([\w.]+)/?  ", layout, re.MULTILINE)
    assert len(promised) > 8
    assert sorted(path.name for path in (folder / "out").iterdir()) == sorted(promised)


def test_readme__works_on_a_neon_file(tmp_path: Path) -> None:
    source = ROOT.parent / "shared" / "data" / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    if not source.exists():
        pytest.skip("no NEON file beside the checkout: ../shared/data/neon_sjer_h5")
    (name,) = {
        word
        for block in blocks("sh needs-neon-file")
        for word in block.split()
        if word.endswith(".h5")
    }
    (tmp_path / name).symlink_to(source)
    run_blocks("sh needs-neon-file", tmp_path)
    assert (tmp_path / "sjer" / "report.html").exists()


def test_readme__works_on_rasters(tmp_path: Path, shared_data: Path) -> None:
    (data,) = (path for path in (shared_data / "emit").iterdir() if not path.suffix)
    crop = shared_data / "neon_sjer_tif" / "SJER_052_hyperspectral.tif"
    for name, source in (("emit", data), ("emit.hdr", f"{data}.hdr"), (crop.name, crop)):
        (tmp_path / name).symlink_to(source)
    tile = shared_data / "neon_sjer_h5" / "NEON_SJER_2017_subset.h5"
    with h5py.File(tile) as file:
        centres = file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][()]
    np.savetxt(tmp_path / "centres.txt", centres)
    run_blocks("sh needs-raster-files", tmp_path)
    assert (tmp_path / "plot052" / "report.html").exists()


def test_readme__works_on_some_of_the_pixels(tmp_path: Path) -> None:
    tile = tmp_path / "tile.h5"
    simulate(tile, 60, 60, layout="neon", seed=2)
    scene = open_scene(tile)
    to_degrees = pyproj.Transformer.from_crs(scene.grid.epsg, 4326, always_xy=True).transform
    xmin, ymin, _, _ = scene.bounds
    ring = [to_degrees(xmin + x, ymin + y) for x, y in ((5, 5), (50, 9), (20, 55), (5, 5))]
    polygon = {"type": "Polygon", "coordinates": [ring]}
    (tmp_path / "pastures.geojson").write_text(json.dumps(polygon))
    run_blocks("sh needs-polygons", tmp_path)
    valid = {
        name: json.loads((tmp_path / name / "run.json").read_text("utf-8"))["pixels"]["valid"]
        for name in ("pastures", "clear")
    }
    assert valid["pastures"] < valid["clear"] < 3600


def test_readme__chooses_a_number_of_clusters(tmp_path: Path) -> None:
    simulate(tmp_path / "tile.h5", 60, 60, layout="neon", seed=2)
    run_blocks("sh needs-a-tile", tmp_path)
    assert (tmp_path / "choice" / "choose-k.png").stat().st_size > 10_000


def test_readme__extracts_plots(tmp_path: Path) -> None:
    simulate(tmp_path / "tile.h5", 60, 60, layout="neon", seed=2)
    xmin, ymin, _, _ = open_scene(tmp_path / "tile.h5").bounds
    (tmp_path / "plots.csv").write_text(f"x,y\n{xmin + 20.5},{ymin + 30.5}\n")
    geopackage(tmp_path / "plots.gpkg", shapely.Point(xmin + 20.5, ymin + 30.5))
    field = shapely.box(xmin + 9, ymin + 9, xmin + 19, ymin + 29)
    named = {"crs": {"properties": {"name": "EPSG:32613"}}}
    geojson(tmp_path / "fields.geojson", field, **named)
    run_blocks("sh needs-plots", tmp_path)
    with (tmp_path / "fields-spectra.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["state"], row["pixels"]) == ("ok", "200")


def test_readme__works_on_a_folder_of_tiles(tmp_path: Path) -> None:
    simulate(tmp_path / "tiles", 60, 70, layout="neon", tiles=(2, 2), overlap=6)
    run_blocks("sh needs-tiles", tmp_path)
    run = json.loads((tmp_path / "mosaic" / "run.json").read_text("utf-8"))
    assert run["area"]["shape"] == [60, 70]
>>>>>>> 879581b (Make options, help and checks from one table)
