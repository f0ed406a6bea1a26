"""The README's commands for Apptainer and Docker, typed as a reader would."""

from __future__ import annotations

import re
from pathlib import Path

from image_case import Machine, work_folder

work_folder()
README = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")


def script(kind: str) -> str:
    """All blocks of a kind, one after the other, ending at the first error."""
    blocks = re.findall(rf"^```sh {kind}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert blocks
    return "set -eu\n" + "\n".join(blocks)


def test_readme__apptainer_commands_work(apptainer: Machine, sif: Path) -> None:
    folder = apptainer.folder("readme sif")
    apptainer.check("cp", sif, folder)
    env = {"SLURM_JOB_ID": "17"}
    said = apptainer.check("bash", "-c", script("apptainer"), cwd=folder, env=env)
    assert "SLURM_JOB_ID=17" in said.splitlines()
    assert (folder / "out" / "report.html").exists()


def test_readme__docker_commands_work(docker: Machine) -> None:
    folder = docker.folder("readme docker")
    docker.check("bash", "-c", script("docker"), user=0, cwd=folder)
    assert (folder / "out" / "report.html").exists()
