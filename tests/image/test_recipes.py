"""What can be known of the recipes without building them. These run in `make test` too."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONTAINER = ROOT / "container"
LOCK = CONTAINER / "requirements.lock"
DEFINITION = (ROOT / "apptainer.def").read_text("utf-8")
DOCKERFILE = (CONTAINER / "Dockerfile").read_text("utf-8")


def section(name: str) -> list[str]:
    """The lines of a section of apptainer.def."""
    found = re.search(rf"^%{name}\n(.*?)(?=^%|\Z)", DEFINITION, re.MULTILINE | re.DOTALL)
    assert found, name
    return [line.strip() for line in found[1].splitlines() if line.strip()]


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dask's settings by dotted name."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        leaves |= flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return leaves


# --- both recipes say the same --------------------------------------------------------


def test_recipes__copy_the_same_files() -> None:
    copied = {line.split()[0] for line in section("files")}
    lines = re.findall(r"^COPY (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)
    words = {word for line in lines for word in line.split()[:-1]}
    assert words == copied
    assert all((ROOT / name).exists() for name in words if not name.startswith("build/"))


def test_recipes__give_the_same_labels() -> None:
    labels = {line.split()[0] for line in section("labels")}
    text = DOCKERFILE.split("\nLABEL ")[1]
    assert set(re.findall(r"([\w.]+)=", text)) == labels
    for name in "title version revision created source licenses".split():
        assert f"org.opencontainers.image.{name}" in labels


def test_recipes__take_the_same_base_and_arguments() -> None:
    defaults = dict(line.split("=", 1) for line in section("arguments"))
    assert defaults.pop("BOOTSTRAP") == "docker"
    taken = dict(re.findall(r"^ARG (\w+)=(.*)$", DOCKERFILE, re.MULTILINE))
    assert taken == defaults
    given = re.findall(r"^([A-Z_]+)=\$\(?", build_arguments(), re.MULTILINE)
    assert {*given, "FROM"} == set(defaults)


def build_arguments() -> str:
    text = (CONTAINER / "build.sh").read_text("utf-8")
    return text.split("cat >build/arguments <<END\n")[1].split("\nEND\n")[0]


def test_recipes__only_run_install_sh() -> None:
    assert section("post") == [
        "export SOURCE_DATE_EPOCH={{ EPOCH }}",
        "bash /opt/hyperhpc/install.sh packages",
        "bash /opt/hyperhpc/install.sh wheel",
    ]
    runs = re.findall(r"^RUN (.*)$", DOCKERFILE.replace("\\\n", " "), re.MULTILINE)
    assert [line.rsplit(" bash ", 1)[1] for line in runs] == [
        "/opt/hyperhpc/install.sh packages",
        "/opt/hyperhpc/install.sh wheel",
    ]


# --- defaults inside the image --------------------------------------------------------


def test_dask_yaml__agrees_with_what_runs_set() -> None:
    from hyperhpc.workers.dask_setup import dask_settings

    defaults = flat(yaml.safe_load((CONTAINER / "dask.yaml").read_text("utf-8")))
    shared = defaults.keys() & dask_settings().keys()
    assert {name: defaults[name] for name in shared} == {
        name: dask_settings()[name] for name in shared
    }
    assert defaults["array.query-planning"] is False
    assert defaults["distributed.comm.require-encryption"] is True


def test_dask_yaml__uses_names_dask_knows() -> None:
    import dask
    import distributed  # noqa: F401, its settings are added when it is imported

    for name in flat(yaml.safe_load((CONTAINER / "dask.yaml").read_text("utf-8"))):
        if name != "array.query-planning":
            dask.config.get(name)


def test_start__sets_the_threads_of_every_library() -> None:
    from hyperhpc.workers.dask_setup import THREAD_VARIABLES

    text = (CONTAINER / "start.sh").read_text("utf-8")
    assert {name for name in THREAD_VARIABLES if f'{name}="${{{name}:-1}}"' not in text} == set()


@pytest.mark.parametrize("shell", ["dash", "bash", "sh"])
def test_start__is_plain_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    scratch = tmp_path / "a scratch"
    scratch.mkdir()
    lines = (CONTAINER / "start.sh").read_text("utf-8").splitlines()
    assert lines[-1].startswith("exec ")
    lines[-1] = 'printf "%s\\n" "$MPLCONFIGDIR" "${PYTHONPATH-none}" "$OMP_NUM_THREADS"'
    done = subprocess.run(
        [shell, "-c", "\n".join(lines)],
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(scratch), "OMP_NUM_THREADS": "3"}
        | {"PYTHONPATH": "rubbish"},
        capture_output=True,
        text=True,
        check=True,
    )
    folder, python_path, threads = done.stdout.splitlines()
    assert Path(folder).is_dir()
    assert Path(folder).is_relative_to(scratch)
    assert Path(folder).parent.stat().st_mode & 0o777 == 0o700
    assert (python_path, threads) == ("none", "3")


# --- the bill of materials ------------------------------------------------------------


@pytest.fixture(scope="module")
def sbom() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sbom", CONTAINER / "sbom.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_sbom__lists_the_lock_with_hashes(sbom: ModuleType) -> None:
    text = LOCK.read_text("utf-8")
    bill = sbom.document(text, datetime.fromtimestamp(0, UTC))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    assert bill["metadata"]["timestamp"] == "1970-01-01T00:00:00Z"
    pins = dict(re.findall(r"^([a-z0-9][\w.-]*)==([\w.!+]+)", text, re.MULTILINE))
    python = [item for item in bill["components"] if item["purl"].startswith("pkg:pypi/")]
    assert {item["name"]: item["version"] for item in python}.items() <= pins.items()
    assert len(python) >= 0.9 * len(pins)
    assert all(re.fullmatch("[0-9a-f]{64}", item["hashes"][0]["content"]) for item in python)
    assert len({item["bom-ref"] for item in bill["components"]}) == len(bill["components"])


@pytest.mark.slow
def test_sbom__is_the_same_each_time(sbom: ModuleType) -> None:
    text = LOCK.read_text("utf-8")
    one, two = (sbom.document(text, datetime.fromtimestamp(0, UTC)) for _ in range(2))
    assert json.dumps(one) == json.dumps(two)


def test_sbom__refuses_what_is_not_locked(sbom: ModuleType) -> None:
    with pytest.raises(SystemExit, match=r"the lock says 0\.0\.1"):
        sbom.document("click==0.0.1 --hash=sha256:00\n", datetime.fromtimestamp(0, UTC))
