"""Questions and errors, the kernel for Jupyter, and how to cite: each as a reader would."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import shutil
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml

import hyperhpc
from cli_case import call
from docs_case import DOCS, ROOT, blocks
from run_case import RunCase

FAQ = (DOCS / "faq.md").read_text("utf-8")


# --- questions and errors -------------------------------------------------------------


def faq_errors() -> list[tuple[str, str]]:
    """Each command of the page, and what follows it there."""
    console = "\n".join(blocks("faq.md", "console"))
    return re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n?)*)", console, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(run_case: RunCase, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A reader's folder, with a scene and a run of it."""
    copy = tmp_path_factory.mktemp("faq") / run_case.scene.parent.name
    shutil.copytree(run_case.scene.parent, copy)
    return copy


@pytest.mark.parametrize(("line", "shown"), faq_errors(), ids=lambda text: text[:40])
def test_faq__shows_what_the_command_says(
    line: str, shown: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(os.listdir(folder))
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    outcome = call(*shlex.split(line)[1:])
    said = f"{outcome.err.rstrip()}\nexit code {outcome.code}"
    said = re.sub(rf"'?{re.escape(str(folder))}([^\s']*)'?", r"/data\1", said)  # it has a space
    assert said == shown.strip()
    assert outcome.code != 0
    assert sorted(os.listdir(folder)) == before


def test_faq__has_an_error_of_every_kind_that_needs_no_accident() -> None:
    codes = {int(code) for code in re.findall(r"^exit code (\d+)$", FAQ, re.MULTILINE)}
    assert codes == {2, 3, 4, 5, 6}
    assert len(faq_errors()) > 10


def test_faq__quotes_messages_of_the_program() -> None:
    sources = sorted((ROOT / "src").rglob("*.py"))
    text = re.sub(
        r'"\s*f?"', "", "\n".join(path.read_text("utf-8") for path in sources)
    )  # texts in pieces
    quoted = re.findall(r"\*\*(.+?)\*\*", FAQ, re.DOTALL)
    assert quoted
    assert not [words for words in quoted if " ".join(words.split()) not in text]


# --- Open OnDemand --------------------------------------------------------------------


def kernel_argv() -> list[str]:
    """The words that start the kernel."""
    (text,) = blocks("openondemand.md", "json")
    return json.loads(text)["argv"]


def test_kernelspec__starts_a_command_of_the_image() -> None:
    spec = json.loads(blocks("openondemand.md", "json")[0])
    assert {"display_name", "language", "argv"} <= spec.keys()
    argv = kernel_argv()
    assert argv[:2] == ["apptainer", "exec"]
    image = next(i for i, word in enumerate(argv) if word.endswith(".sif"))
    installed = (ROOT / "container" / "install.sh").read_text("utf-8")
    assert re.search(rf"\$PLACE/bin/{argv[image + 1]}$", installed, re.MULTILINE)
    assert argv[-1] == "{connection_file}"
    lock = (ROOT / "container" / "requirements.lock").read_text("utf-8")
    assert re.search(r"^ipykernel==", lock, re.MULTILINE)


@pytest.mark.docs
def test_kernelspec__its_kernel_runs_the_cells(
    run_case: RunCase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager

    monkeypatch.setenv("MPLBACKEND", "Agg")  # as in the image
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    argv = kernel_argv()
    words = argv[argv.index("python") + 1 :]
    manager = KernelManager(connection_file=str(tmp_path / "kernel.json"))
    manager._kernel_spec = KernelSpec(argv=[sys.executable, *words])  # without the container
    manager.start_kernel(cwd=str(run_case.out.parent))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        first, second = blocks("openondemand.md", "python")
        assert shown(client, first)["text/plain"] == repr(hyperhpc.__version__)
        assert len(shown(client, second)["image/png"]) > 10_000
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def shown(client: object, code: str) -> dict[str, str]:
    """What Jupyter shows below a cell, by kind."""
    asked = client.execute(code)  # type: ignore[attr-defined]
    data: dict[str, str] = {}
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            message = client.get_iopub_msg(timeout=5)  # type: ignore[attr-defined]
        except queue.Empty:
            continue
        if message["parent_header"].get("msg_id") != asked:
            continue
        content = message["content"]
        assert message["msg_type"] != "error", content
        data |= content.get("data", {})
        if content.get("execution_state") == "idle":
            return data
    raise AssertionError("the kernel gave no answer in two minutes")


# --- how to cite ----------------------------------------------------------------------


def test_citation__has_what_its_schema_requires() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"authors", "cff-version", "message", "title"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert all(author.keys() == {"name"} for author in citation["authors"])  # entities


def test_citation__agrees_with_the_project() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["version"] == hyperhpc.__version__
    assert citation["title"] == project["name"]
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
