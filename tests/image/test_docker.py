"""The Docker image, run by a real engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from image_case import SIZE, Machine, work_folder

from run_case import assert_same_results

pytestmark = pytest.mark.image

work_folder()
MAX_BYTES = 1_400_000_000
ROOT = 0  # who may speak to the engine
OTHERS = 12345


@pytest.fixture(scope="module")
def facts(docker: Machine) -> dict:
    """What the engine says of the image."""
    (facts,) = json.loads(docker.check("docker", "image", "inspect", "hyperhpc", user=ROOT))
    return facts


def test_docker__is_small_and_says_what_it_is(docker: Machine, facts: dict) -> None:
    assert facts["Size"] <= MAX_BYTES
    arguments = (docker.work / "checkout/build/arguments").read_text("utf-8")
    labels = facts["Config"]["Labels"]
    for label, name in {
        "org.opencontainers.image.version": "VERSION",
        "org.opencontainers.image.revision": "REVISION",
        "org.opencontainers.image.created": "CREATED",
        "hyperhpc.lock.sha256": "LOCK_HASH",
    }.items():
        assert f"{name}={labels[label]}\n" in arguments
    assert facts["Config"]["User"] == "1000:1000"


@pytest.mark.parametrize("user", [1000, OTHERS])
def test_docker__gives_the_same_bits_as_the_host(
    docker: Machine, host_run: Path, user: int
) -> None:
    out = docker.folder(f"docker {user}")
    out.chmod(0o777)
    command = ["docker", "run", "--rm", "--read-only", "--network", "none"]
    command += ["--user", f"{user}:{user}"] if user == OTHERS else []
    command += ["--mount", f"type=bind,source={out},target=/out", "hyperhpc", "demo", "/out"]
    docker.check(*command, "--size", SIZE, user=ROOT)
    assert_same_results(host_run, out)


def test_docker__tests_itself(docker: Machine) -> None:
    command = ["docker", "run", "--rm", "--read-only", "--network", "none", "--entrypoint"]
    command += ["python", "hyperhpc", "/opt/hyperhpc/selftest.py"]
    assert "FAILED" not in docker.check(*command, user=ROOT)


def test_docker__holds_nothing_of_the_builder(docker: Machine, facts: dict) -> None:
    assert not [word for word in facts["Config"]["Env"] if "PIP" in word or "CERT" in word]
    command = ["docker", "run", "--rm", "--network", "none", "--user", "0", "--entrypoint"]
    command += ["/bin/sh", "hyperhpc", "-c", "ls -A /mnt /var/cache/pip /opt/hyperhpc/wheel"]
    said = docker.run(*command, user=ROOT).stdout
    assert "ca.crt" not in said
    assert ".whl" not in said


def test_docker__and_sif_hold_the_same_packages(
    docker: Machine, apptainer: Machine, sif: Path
) -> None:
    file = "/opt/hyperhpc/sbom.cdx.json"
    command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", "hyperhpc"]
    one = json.loads(docker.check(*command, file, user=ROOT))
    two = json.loads(apptainer.check("apptainer", "-s", "exec", sif, "cat", file))
    assert one == two
