"""The documents: the reference is the commands', the site needs no network, examples work."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import click
import pytest

import hyperhpc
from cli_case import call
from docs_case import DOCS, PAGES, ROOT, blocks, read
from hyperhpc.cli.commands import cli

REFERENCE = (DOCS / "reference.md").read_text("utf-8")
COMMANDS = {name: command for name, command in cli.commands.items() if not command.hidden}


# --- the reference of the commands ----------------------------------------------------


@pytest.mark.parametrize("name", ["reference", "api"])
@pytest.mark.docs
def test_generated_pages__are_what_the_code_says_now(name: str, tmp_path: Path) -> None:
    copy = tmp_path / f"make_{name}.py"
    copy.write_text((DOCS / copy.name).read_text("utf-8"), "utf-8")
    subprocess.run([sys.executable, str(copy)], check=True)
    made = (tmp_path / f"{name}.md").read_text("utf-8")
    page = (DOCS / f"{name}.md").read_text("utf-8")
    assert made == page, "the code has changed: run make reference"


def test_reference__tells_every_command_and_option_sorted() -> None:
    parts = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## )", REFERENCE, re.MULTILINE | re.DOTALL))
    commands = [name for name in parts if name.islower()]
    assert commands == sorted(COMMANDS)
    for name, command in COMMANDS.items():
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
        assert all(f"`{option.opts[0]}" in parts[name] for option in options), name


def test_reference__explains_every_option() -> None:
    rows = re.findall(r"^\| `-.*$", REFERENCE, re.MULTILINE)
    assert len(rows) > 50
    for row in rows:
        _, _, meaning, default, _ = re.split(r"(?<!\\)\|", row)
        assert len(meaning.strip()) > 5, row
        assert default.strip(), row


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help__ends_with_an_example_that_can_be_parsed(name: str) -> None:
    epilog = COMMANDS[name].epilog or ""
    assert epilog.startswith(f"Example: hyperhpc {name}")
    words = shlex.split(epilog.split(" > ")[0])[3:]
    parent = click.Context(cli, **cli.context_settings)
    COMMANDS[name].make_context(name, words, parent)  # an error of usage if a word is wrong


# --- the site -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents, built where no proxy and no other host can be reached."""
    if importlib.util.find_spec("material") is None:
        pytest.skip("mkdocs-material is not installed: bash container/venv.sh setup-dev")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https")}
    done = subprocess.run(
        [*command, "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **nowhere, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class Loaded(HTMLParser):
    """Addresses a page loads by itself, as against links one may follow."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.addresses += [v for k, v in attrs if k in ("src", "href", "srcset") and v]


@pytest.mark.docs
def test_site__has_every_document(site: Path) -> None:
    pages = {path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")}
    assert pages
    assert not [page for page in pages if not (site / page).is_file()]
    assert "A first run" in (site / "index.html").read_text("utf-8")
    assert not list(site.rglob("*.py"))


@pytest.mark.docs
def test_site__loads_nothing_from_another_host(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loaded = Loaded(page).addresses
        assert any(address.endswith(".css") for address in loaded), page
        assert any(address.endswith(".js") for address in loaded), page
        assert not [a for a in loaded if re.match(r"([a-z]+:)?//", a)], page
    styles = list(site.rglob("*.css"))
    assert styles
    for style in styles:
        css = style.read_text("utf-8")
        assert not re.findall(r"@import|url\(['\"]?(?:[a-z]+:)?//[^)]*\)", css), style


@pytest.mark.docs
def test_site__files_that_pages_load_are_there(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name != "404.html":  # it may be shown for any folder, so it names them from /
            for address in Loaded(page).addresses:
                path = address.split("#")[0].split("?")[0]
                assert address.startswith("data:") or (page.parent / path).exists(), address


# --- the tutorial ---------------------------------------------------------------------


@pytest.mark.docs
def test_tutorial__its_code_runs_and_shows_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, _ = blocks("tutorial.md", "sh")
    assert call(*shlex.split(first)[1:]).code == 0
    names: dict[str, Any] = {}
    for block in blocks("tutorial.md", "python"):
        exec(block, names)
    assert names["is_water"].sum() > 10
    ours, theirs = names["medians"].values
    assert ours > 0 > theirs
    assert names["agreement"]["adjusted_rand_index"] > 0.9
    assert names["same"].all()
    n_land = int(names["is_land"].sum())
    assert n_land == names["run"].run["pixels"]["valid"] < 400 * 400
    assert sum(names["areas_ha"]) == pytest.approx(n_land / 1e4)
    assert (tmp_path / "clusters.png").stat().st_size > 10_000


def test_tutorial__uses_every_public_function() -> None:
    code = "\n".join(blocks("tutorial.md", "python"))
    assert set(re.findall(r"hyperhpc\.(\w+)\(", code)) == set(hyperhpc.__all__)


def test_tutorial__commands_can_be_parsed() -> None:
    parent = click.Context(cli, **cli.context_settings)
    for block in blocks("tutorial.md", "sh"):
        _, name, *words = shlex.split(block)
        COMMANDS[name].make_context(name, words, parent)


def test_security__each_promise_names_tests_that_are_there() -> None:
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    promises = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert len(promises) >= 20
    for line in promises:
        named = re.findall(r"`((?:tests|container)/[^`]+)`", line.split("|")[2])
        assert named, line
        assert all((ROOT / name).exists() for name in named), line


def test_images__are_small_and_used() -> None:
    text = "\n".join(map(read, PAGES))
    for image in (DOCS / "images").iterdir():
        assert f"images/{image.name}" in text
        assert image.stat().st_size < 256_000, image.name
