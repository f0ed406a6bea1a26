"""The documents' commands for Apptainer and Docker, typed as a reader would."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_case import Machine, work_folder

from docs_case import blocks

pytestmark = pytest.mark.image

work_folder()


def script(page: str, kind: str) -> str:
    """All blocks of a kind, one after the other, ending at the first error."""
    found = blocks(page, f"sh {kind}")
    assert found
    return "set -eu\n" + "\n".join(found)


def test_readme__apptainer_commands_work(apptainer: Machine, sif: Path) -> None:
    folder = apptainer.folder("readme sif")
    apptainer.check("cp", sif, folder)
    env = {"SLURM_JOB_ID": "17"}
    said = apptainer.check("bash", "-c", script("containers.md", "apptainer"), cwd=folder, env=env)
    assert "SLURM_JOB_ID=17" in said.splitlines()
    assert (folder / "out" / "report.html").exists()


def test_readme__docker_commands_work(docker: Machine) -> None:
    folder = docker.folder("readme docker")
    docker.check("bash", "-c", script("README.md", "docker"), user=0, cwd=folder)
    assert (folder / "out" / "report.html").exists()
