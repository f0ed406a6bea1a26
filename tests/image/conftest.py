"""The two machines that ``make test-image`` has started, as fixtures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from image_case import Machine, run_demo, work_folder


@pytest.fixture(scope="session")
def apptainer() -> Machine:
    """The machine with Apptainer."""
    return Machine("apptainer", work_folder())


@pytest.fixture(scope="session")
def docker() -> Machine:
    """The machine with the Docker engine."""
    return Machine("docker", work_folder())


@pytest.fixture(scope="session")
def sif(apptainer: Machine) -> Path:
    """The image that was built."""
    return apptainer.work / "checkout" / "build" / "hyperhpc.sif"


@pytest.fixture(scope="session")
def host_run() -> Path:
    """The demonstration on the host, with the locked packages of .venv."""
    out = work_folder() / "host"
    run_demo([sys.executable, "-m", "hyperhpc"], out)
    return out
