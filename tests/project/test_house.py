"""The promises of the house itself: locks, make targets, documents, and what must not leak."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections import Counter
from graphlib import TopologicalSorter
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


def test_imports__are_of_declared_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[^\w.-]", item, maxsplit=1)[0] for item in project["dependencies"]}
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        lines = re.findall(
            r"^ *(?:from|import) (\w+)[\w.]*(?: import | as |$)", path.read_text("utf-8"), re.M
        )
        found |= set(lines)
    assert {"numpy", "zarr"} <= found
    packages = {"PIL": "pillow", "sklearn": "scikit-learn"}
    found -= {*sys.stdlib_module_names, "hyperhpc"}
    assert {packages.get(name, name.replace("_", "-")) for name in found} <= names


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
        assert re.search(r"^set -[eu]*uo pipefail$", path.read_text("utf-8"), re.MULTILINE), path
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


# --- imports --------------------------------------------------------------------------


def test_benchmarks__import_each_other_without_a_circle() -> None:
    names = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    imports: dict[str, set[str]] = {}
    for name in names:
        tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text("utf-8"))
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import)
            for alias in node.names
        } | {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        imports[name] = imported & names
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle


# --- files of OUT ---------------------------------------------------------------------

#: Names that only these modules may spell; others ask RunFolder for the path.
OUT_NAMES = {
    *(f"{name}.json" for name in "run plan model clusters spectra checksums".split()),
    "status.txt", "report.html", "results.zarr", "overview.zarr", ".lock",
    "cluster-spectra.json",
}  # fmt: skip
OUT_FOLDERS = {"figures", "work", "slurm", "store"}
MAY_NAME_FILES = ("rundir/", "results/", "files.py", "forms.py")


def names_of_out(source: str) -> list[str]:
    """Literals that name a file of OUT, and folders of OUT that a path is joined with."""
    found: list[str] = []
    if not any(name in source for name in (*OUT_NAMES, *(f'"{name}"' for name in OUT_FOLDERS))):
        return found  # most modules; parsing takes two seconds in all
    for node in ast.walk(ast.parse(source)):
        parts: list[ast.expr] = []
        if isinstance(node, ast.Constant) and node.value in OUT_NAMES:
            found.append(str(node.value))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            parts = [node.right]
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("with_name", "joinpath", "join")
        ):
            parts = node.args
        found += [
            str(part.value)
            for part in parts
            if isinstance(part, ast.Constant) and part.value in OUT_FOLDERS
        ]
    return found


def test_names_of_out__are_found() -> None:
    assert names_of_out('a = out / "figures"\nb = out.with_name("run.json")') == [
        "figures",
        "run.json",
    ]
    assert names_of_out('__all__ = ["figures"]\n"""See run.json."""') == []


def test_out__its_files_are_named_in_one_place() -> None:
    package = ROOT / "src" / "hyperhpc"
    found = {
        path.relative_to(package).as_posix(): names
        for path in package.rglob("*.py")
        if not path.relative_to(package).as_posix().startswith(MAY_NAME_FILES)
        and (names := names_of_out(path.read_text("utf-8")))
    }
    assert found == {}
