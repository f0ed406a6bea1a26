"""The SIF, run by an unprivileged user: whole, closed to the host, signed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from image_case import SIZE, USER_ID, Machine, work_folder

from run_case import assert_same_results

pytestmark = pytest.mark.image

work_folder()
MAX_BYTES = 420_000_000


def test_sif__tests_itself(apptainer: Machine, sif: Path) -> None:
    said = apptainer.check("apptainer", "test", sif)
    assert "FAILED" not in said
    assert said.count("ok  ") == 6


def test_sif__doctor_finds_no_error(apptainer: Machine, sif: Path) -> None:
    said = apptainer.check("apptainer", "run", sif, "doctor")
    assert "another lock" not in said


def test_sif__is_small_and_says_what_it_is(apptainer: Machine, sif: Path) -> None:
    assert sif.stat().st_size <= MAX_BYTES
    shown = json.loads(apptainer.check("apptainer", "inspect", "--json", sif))
    labels = shown["data"]["attributes"]["labels"]
    arguments = dict(
        line.split("=", 1) for line in (sif.parent / "arguments").read_text("utf-8").splitlines()
    )
    assert labels["org.opencontainers.image.revision"] == arguments["REVISION"]
    assert labels["org.opencontainers.image.version"] == arguments["VERSION"]
    assert labels["org.opencontainers.image.created"] == arguments["CREATED"]
    assert labels["hyperhpc.lock.sha256"] == arguments["LOCK_HASH"]
    assert "demo" in apptainer.check("apptainer", "run-help", sif)


def test_sif__holds_the_bill_of_its_lock(apptainer: Machine, sif: Path) -> None:
    command = ["apptainer", "-s", "exec", sif, "cat", "/opt/hyperhpc/sbom.cdx.json"]
    bill = json.loads(apptainer.check(*command))
    pins = {component["purl"].rsplit("?", 1)[0] for component in bill["components"]}
    frozen = apptainer.check(
        *command[:4],
        "python",
        "-c",
        "from importlib.metadata import distributions as d\n"
        "for one in d(): print(one.metadata['Name'].lower().replace('_', '-'), one.version)",
    )
    installed = dict(line.split() for line in frozen.splitlines())
    assert installed.pop("hyperhpc") == bill["metadata"]["component"]["version"]
    assert {f"pkg:pypi/{name}@{version}" for name, version in installed.items()} <= pins
    assert any(pin.startswith("pkg:deb/debian/python3.11@3.11.") for pin in pins)


def test_sif__gives_the_same_bits_as_the_host(
    apptainer: Machine, sif: Path, host_run: Path
) -> None:
    out = apptainer.folder("sif")
    apptainer.check("apptainer", "run", sif, "demo", out, "--size", SIZE)
    assert_same_results(host_run, out)


@pytest.fixture(scope="module")
def bad_home(apptainer: Machine) -> Path:
    """A home that cannot be written and whose ~/.local holds a broken numpy."""
    home = apptainer.folder("bad home")
    for package in ("numpy", "hyperhpc"):
        broken = home / ".local/lib/python3.11/site-packages" / package
        broken.mkdir(parents=True)
        (broken / "__init__.py").write_text("raise ImportError('from the home')\n")
    for path in (home, *home.rglob("*")):
        os.chown(path, USER_ID, USER_ID)
        path.chmod(0o555 if path.is_dir() else 0o444)
    return home


@pytest.mark.parametrize("options", ["", "--cleanenv", "--no-home", "--contain --cleanenv"])
def test_sif__shuts_out_a_bad_host(
    apptainer: Machine, sif: Path, host_run: Path, bad_home: Path, options: str
) -> None:
    folder = apptainer.folder(f"a folder{options}")
    env = {
        "HOME": str(bad_home),
        "PYTHONPATH": str(bad_home / ".local/lib/python3.11/site-packages"),
        "PYTHONHOME": "/nowhere",
        "PYTHONWARNINGS": "error",
        "MPLBACKEND": "module://nowhere",
        "PROJ_DATA": "/nowhere",
        "MATPLOTLIBRC": "/nowhere",
        "LC_ALL": "C",
    }
    scratch = apptainer.folder(f"scratch{options}")
    command = ["apptainer", "run", "--bind", f"{folder}", *options.split()]
    command += ["--home", str(bad_home)] if "--no-home" not in options else []
    command += ["--pwd", str(folder), "--bind", str(scratch), "--env", f"TMPDIR={scratch}"]
    said = apptainer.check(*command, sif, "demo", "out", "--size", SIZE, cwd=folder, env=env)
    assert "from the home" not in said
    assert_same_results(host_run, folder / "out")


def test_sif__needs_no_network(apptainer: Machine, sif: Path) -> None:
    apptainer.check("apptainer", "test", "--net", "--network", "none", sif)


#: Prints the environment a program in the image has.
SHOW = ["python", "-c", "import os\nfor item in os.environ.items(): print(*item, sep='=')"]


def test_sif__keeps_what_the_user_sets(apptainer: Machine, sif: Path) -> None:
    command = ["apptainer", "-s", "exec", sif, *SHOW]
    plain = apptainer.check(*command).splitlines()
    assert {"OMP_NUM_THREADS=1", "PYTHONNOUSERSITE=1", "TMPDIR=/tmp"} <= set(plain)
    assert f"MPLCONFIGDIR=/tmp/hyperhpc-cache-{USER_ID}/matplotlib" in plain
    told = apptainer.check(*command, env={"OMP_NUM_THREADS": "3", "TMPDIR": "/nowhere"})
    assert "OMP_NUM_THREADS=3" in told.splitlines()
    assert "TMPDIR=/nowhere cannot be written" in told
    assert "TMPDIR=/tmp" in told.splitlines()


def test_sif__trusts_no_cache_of_another_user(apptainer: Machine, sif: Path) -> None:
    scratch = apptainer.folder("shared scratch")
    scratch.chmod(0o1777)
    planted = scratch / f"hyperhpc-cache-{USER_ID}"
    planted.mkdir(mode=0o777)
    said = apptainer.check("apptainer", "-s", "exec", sif, *SHOW, env={"TMPDIR": str(scratch)})
    (line,) = (line for line in said.splitlines() if line.startswith("NUMBA_CACHE_DIR="))
    assert str(scratch) in line
    assert str(planted) not in line


# --- signatures -----------------------------------------------------------------------


def test_signature__is_verified_and_a_change_is_noticed(apptainer: Machine, sif: Path) -> None:
    folder = apptainer.folder("signed")
    image, key, public = folder / "hyperhpc.sif", folder / "key.pem", folder / "public.pem"
    apptainer.check("cp", sif, image)
    apptainer.check("openssl", "genpkey", "-algorithm", "ED25519", "-out", key)
    apptainer.check("openssl", "pkey", "-in", key, "-pubout", "-out", public)
    verify = ["apptainer", "verify", "--key", public, image]
    assert apptainer.run(*verify).returncode != 0, "it is not signed yet"
    apptainer.check("apptainer", "sign", "--key", key, image)
    apptainer.check(*verify)
    with image.open("r+b") as file:
        file.seek(image.stat().st_size // 2)
        before = file.read(3)
        file.seek(-3, os.SEEK_CUR)
        file.write(bytes(byte ^ 0xFF for byte in before))
    tampered = apptainer.run(*verify)
    assert tampered.returncode != 0
    assert "integrity" in tampered.stdout


# --- the lock -------------------------------------------------------------------------


def test_build__refuses_a_package_with_another_hash(apptainer: Machine, sif: Path) -> None:
    checkout = apptainer.folder("wrong lock")
    apptainer.check("cp", "-r", f"{sif.parent.parent}/.", checkout)
    apptainer.check("rm", checkout / "build" / "hyperhpc.sif")
    lock = checkout / "container" / "requirements.lock"
    first, rest = lock.read_text("utf-8").split("    # via", 1)
    wrong = "\n".join(
        line[: line.index(":") + 1] + "0" * 64 + " \\" * line.endswith("\\")
        if "--hash=" in line
        else line
        for line in first.split("\n")
    )
    lock.write_text(wrong + "    # via" + rest, "utf-8")
    env = {
        "BOOTSTRAP": "localimage",
        "FROM": str(apptainer.work / "base.sif"),
        "PIP_CERT": str(apptainer.work / "ca.crt"),
        "HYPERHPC_CACHE": str(checkout / "cache"),
    }
    done = apptainer.run("container/build.sh", "sif", cwd=checkout, env=env)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stdout
    assert not (checkout / "build" / "hyperhpc.sif").exists()
