"""The doctor: real faults of an environment, made in subprocesses; limits, by fake files."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hyperhpc.doctor import CHECKS, examine, show_json, show_lines
from hyperhpc.doctor.files import check_caches, check_tmpdir, is_network, mount_type
from hyperhpc.doctor.finding import Finding, Line
from hyperhpc.doctor.machine import (
    check_allocation,
    check_cgroup,
    check_commands,
    check_container,
    check_core_files,
    read_limits,
)
from hyperhpc.doctor.network import check_interfaces, check_openssl
from hyperhpc.doctor.packages import check_blas, check_threads, check_versions, find_lock, read_lock

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "container" / "requirements.lock"
GIB = 2**30
#: Of the machine, not of the environment: anything may be found where the tests run.
OF_THE_MACHINE = {"cores", "memory", "cgroup", "openssl", "interfaces", "slurm", "slurm job"}
#: Variables that a test must not inherit.
_FOREIGN = (
    "SLURM_",
    "CONDA_",
    "PYTHON",
    "XDG_",
    "LC_",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "NUM",
    "ZARR_",
)


def environment(home: Path, **changes: str) -> dict[str, str]:
    clean = {name: text for name, text in os.environ.items() if not name.startswith(_FOREIGN)}
    clean.pop("MPLCONFIGDIR", None)
    clean.pop("TMPDIR", None)
    home.mkdir(exist_ok=True)
    return clean | {"LANG": "C.UTF-8", "HOME": str(home)} | changes


def ask(
    env: Mapping[str, str],
    cwd: Path,
    *options: str,
    command: tuple[str, ...] = (sys.executable, "-m", "hyperhpc"),
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*command, "doctor", *options],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


def by_name(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    lines = json.loads(done.stdout)
    assert [line["check"] for line in lines] == list(CHECKS)
    for line in lines:
        assert list(line) == ["check", "status", "value", "remedy"]
        assert line["value"]
        assert (line["remedy"] is None) == (line["status"] == "ok"), line
    return {line["check"]: SimpleNamespace(**line) for line in lines}


# --- the whole, in environments that are right and wrong ---------------------------------


@pytest.mark.slow
def test_doctor__finds_nothing_wrong_in_the_locked_environment(tmp_path: Path) -> None:
    done = ask(environment(tmp_path / "home"), tmp_path, "--json")
    lines = by_name(done)
    assert done.returncode == 0, done.stdout
    odd = {name for name, line in lines.items() if line.status != "ok"}
    assert odd <= OF_THE_MACHINE, [lines[name] for name in odd]
    assert "TLSv1" in lines["tls"].value
    assert done.stderr == ""
    assert [path.name for path in tmp_path.iterdir()] == ["home"], "it left something"


@pytest.mark.slow
def test_doctor__names_everything_that_is_wrong_and_ends_with_5(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.mkdir()
    (rubbish / "xarray.py").write_text("raise RuntimeError('not me')\n")
    (rubbish / "sitecustomize.py").write_text("")
    env = environment(
        tmp_path / "home",
        PYTHONPATH=str(rubbish),
        CONDA_PREFIX=str(tmp_path),
        TMPDIR=str(tmp_path / "is not there"),
        OMP_NUM_THREADS="64",
        LANG="C",
        XDG_CACHE_HOME=os.devnull,
        SLURM_CONF=str(tmp_path / "none.conf"),
    )
    few = ("sh", "-c", 'ulimit -S -n 100 && exec "$@"', "sh", sys.executable, "-m", "hyperhpc")
    done = ask(env, tmp_path, "--json", command=few)
    lines = by_name(done)
    assert done.returncode == 5
    found = {name: line.status for name, line in lines.items() if line.status != "ok"}
    expected = {
        "PYTHONPATH": "warning",
        "conda": "warning",
        "origins": "error",
        "threads": "warning",
        "TMPDIR": "error",
        "caches": "warning",
        "locale": "warning",
        "open files": "error",
    }
    assert {name: s for name, s in found.items() if name not in OF_THE_MACHINE} == expected
    assert lines["origins"].value == f"from {rubbish}: sitecustomize, xarray"
    assert "export OMP_NUM_THREADS=1" in lines["threads"].remedy
    assert lines["open files"].remedy.startswith("ulimit -n ")
    assert lines["PYTHONPATH"].remedy == "unset PYTHONPATH PYTHONHOME"
    errors = [name for name, status in found.items() if status == "error"]
    assert done.stderr.startswith("error: The environment is not fit for a run: ")
    assert all(name in done.stderr for name in errors)


@pytest.mark.slow
def test_doctor__survives_a_broken_numpy_in_the_home_folder(tmp_path: Path) -> None:
    # An environment made by venv looks at no user site, so the interpreter below it is asked
    base = sys._base_executable  # type: ignore[attr-defined]
    asked = "import site; print(site.getusersitepackages())"
    env = environment(tmp_path / "home")
    site = subprocess.run([base, "-c", asked], env=env, capture_output=True, text=True)
    numpy = Path(site.stdout.strip()) / "numpy"
    numpy.mkdir(parents=True)
    (numpy / "__init__.py").write_text("raise SystemError('built for another Python')\n")
    start = f"import sys; sys.path += {sys.path!r}; from hyperhpc.cli.main import main; main()"
    lines = by_name(done := ask(env, tmp_path, "--json", command=(base, "-c", start)))
    assert done.returncode == 5
    assert lines["user site"].status == "warning"
    assert lines["user site"].remedy == "export PYTHONNOUSERSITE=1"
    assert "numpy: SystemError: built for another Python" in lines["imports"].value
    assert f"from {numpy.parent}: numpy" in lines["origins"].value
    assert lines["blas"].value.startswith("the check itself failed: SystemError")

    # The environment itself does not see it
    quiet = subprocess.run(
        [sys.executable, "-c", "from hyperhpc.doctor.packages import *; print(check_user_site())"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "is not used" in quiet.stdout
    assert "status='ok'" in quiet.stdout


@pytest.mark.slow
def test_doctor__is_plain_where_text_is_ascii(tmp_path: Path) -> None:
    env = environment(
        tmp_path / "home", LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", TMPDIR="/ü\n"
    )
    done = ask(env, tmp_path)
    assert done.returncode == 5
    assert "\x1b" not in done.stdout
    rows = [row for row in done.stdout.splitlines() if not row.startswith(" ")]
    assert {row.split()[0] for row in rows[:-1]} == {"ok", "warning", "error"} - (
        {"warning"} if " 0 warnings" in rows[-1] else set()
    )
    assert len(rows) == len(CHECKS) + 1
    assert rows[-1].startswith(f"{len(CHECKS)} checks: ")
    (row,) = (row for row in rows if " locale " in row)
    assert row.startswith("error")
    assert "LC_ALL=C" in row


def test_examine__turns_a_failing_check_into_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def noisy() -> Finding:
        print("hello")
        raise KeyError("of a library\nof two lines")

    def leaving() -> Finding:
        sys.exit("bye")

    lines = examine({"noisy": noisy, "leaving": leaving, "good": lambda: Finding("ok", "x")})
    assert [line.status for line in lines] == ["error", "error", "ok"]
    assert "KeyError" in lines[0].value
    assert "\n" not in lines[0].value
    assert capsys.readouterr().out == "", "it would be in the middle of the JSON"


# --- how it is shown ---------------------------------------------------------------------

LINES = [Line("one", "ok", "fine\udcff", None), Line("two", "error", "bad [red]", "do this")]


def test_show_lines__plain_into_a_file() -> None:
    file = io.StringIO()
    show_lines(LINES, file)
    assert file.getvalue().splitlines() == [
        "ok       one  fine\\udcff",
        "error    two  bad [red]",
        "              -> do this",
        "2 checks: 1 ok, 0 warnings, 1 error",
    ]


def test_show_lines__coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    show_lines(LINES, file := Terminal())
    assert "\x1b[" in file.getvalue()
    assert "bad [red]" in file.getvalue()
    monkeypatch.setitem(sys.modules, "rich.table", None)
    show_lines(LINES, file := Terminal())
    assert file.getvalue().startswith("ok       one"), "rich is broken"


def test_show_json__is_ascii() -> None:
    assert show_json(LINES).isascii()


# --- the lock ----------------------------------------------------------------------------


def test_versions__agree_with_the_lock() -> None:
    pins = read_lock(LOCK)
    assert "numpy" in pins
    assert "colorama" not in pins, "its marker is for Windows"
    assert ("zipp" in pins) == (sys.version_info < (3, 12))
    assert check_versions().status == "ok"


@pytest.mark.parametrize(
    ("entry", "status", "said"),
    [
        ("click==8.1.0", "warning", "is not 8.1.0"),
        ("click==8.1.0 ; sys_platform == 'win32'", "ok", "0 packages"),
        ("pytest==1.0", "warning", "is not 1.0"),
        ("no-such-package==1.0", "ok", "0 packages"),
    ],
)
def test_versions__compare_each_entry(tmp_path: Path, entry: str, status: str, said: str) -> None:
    lock = tmp_path / "other.lock"
    lock.write_text(f"# comment\n{entry} \\\n    --hash=sha256:{'0' * 64}\n    # via x\n")
    found = check_versions(lock)
    assert (found.status, said in found.value) == (status, True), found
    if status != "ok":
        assert f"pip install --require-hashes -r {lock}" in (found.remedy or "")


@pytest.mark.parametrize(
    ("version", "said"), [(None, r"numpy \S+ is missing"), ("1.26.4", r"numpy 1.26.4 is not \S+")]
)
def test_versions__what_hyperhpc_cannot_use_is_an_error(
    monkeypatch: pytest.MonkeyPatch, version: str | None, said: str
) -> None:
    from hyperhpc.doctor import packages

    real = packages._version
    monkeypatch.setattr(packages, "_version", lambda n: version if n == "numpy" else real(n))
    found = check_versions()
    assert found.status == "error"
    assert re.fullmatch(said, found.value)


def test_wheel__carries_the_lock(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    shipped = tmp_path / "site" / "hyperhpc" / "requirements.lock"
    assert shipped.read_bytes() == LOCK.read_bytes()
    asked = "from hyperhpc.doctor.packages import *; print(find_lock())"
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(shipped)
    assert find_lock() == LOCK


# --- limits ------------------------------------------------------------------------------


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


V1_GROUPS = "4:memory:/slurm/uid_1/job_7/step_0\n3:cpu,cpuacct:/slurm/uid_1\n0::/"
V2_GROUPS = "0::/system.slice/slurmstepd.scope/job_7/step_0"
V2 = "sys/fs/cgroup/system.slice/slurmstepd.scope/job_7"


def test_cgroup__v1_takes_the_smallest_on_the_way_up(tmp_path: Path) -> None:
    memory, cpu = "sys/fs/cgroup/memory", "sys/fs/cgroup/cpu,cpuacct"
    files = {
        "proc/self/cgroup": V1_GROUPS,
        f"{memory}/memory.limit_in_bytes": "9223372036854771712",
        f"{memory}/slurm/uid_1/job_7/memory.limit_in_bytes": str(6 * GIB),
        f"{memory}/slurm/uid_1/job_7/step_0/memory.limit_in_bytes": str(8 * GIB),
        f"{cpu}/slurm/uid_1/cpu.cfs_quota_us": "250000",
        f"{cpu}/slurm/uid_1/cpu.cfs_period_us": "100000",
        f"{cpu}/cpu.cfs_quota_us": "-1",
    }
    limits = read_limits(write(tmp_path, files))
    assert (limits.version, limits.cpus, limits.memory_bytes) == ("v1", 2.5, 6 * GIB)


def test_cgroup__v2_warns_of_what_dask_does_not_see(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": V2_GROUPS,
        f"{V2}/memory.max": str(8 * GIB),
        f"{V2}/step_0/memory.max": "max",
        f"{V2}/step_0/cpu.max": "max 100000",
        f"{V2}/cpu.max": "300000 100000",
    }
    root = write(tmp_path, files)
    assert read_limits(root).cpus == 3
    found = check_cgroup(root, seen=(64, 256 * GIB))
    assert found.status == "warning"
    assert found.value.startswith("v2: 3 cores, 8.0 GiB;")
    assert found.remedy == "hyperhpc run SCENE OUT --workers 1"
    assert check_cgroup(root, seen=(3, 8 * GIB)).status == "ok"
    (root / V2 / "memory.max").write_text(f"{2 * GIB}\n")
    found = check_cgroup(root, seen=(2, 8 * GIB))
    assert found.remedy == "hyperhpc run SCENE OUT --workers 1 --memory-per-worker 1843MiB"


def test_cgroup__none_and_foreign_groups(tmp_path: Path) -> None:
    assert check_cgroup(tmp_path).status == "ok"
    # A container sees its own group as the root, but may be told the host's name for it
    files = {"proc/self/cgroup": "0::/../../docker/x", "sys/fs/cgroup/memory.max": str(GIB)}
    assert read_limits(write(tmp_path, files)).memory_bytes == GIB


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    for name, text in {"JOB_ID": 7, "CPUS_ON_NODE": 4, "NTASKS": 2, "NNODES": 2}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(text))
    return monkeypatch


def test_allocation__is_compared_with_what_a_run_would_take(job: pytest.MonkeyPatch) -> None:
    job.setenv("SLURM_MEM_PER_CPU", "2500")
    found = check_allocation(seen=(4, 4 * GIB))
    assert found == Finding("ok", "job 7: 2 nodes, 2 tasks; here 4 cores, 9.8 GiB")
    found = check_allocation(seen=(64, 256 * GIB))
    assert (found.status, found.remedy) == ("warning", "hyperhpc run SCENE OUT --workers 2")
    job.setenv("SLURM_CPUS_PER_TASK", "4")
    job.setenv("SLURM_STEP_ID", "0")
    found = check_allocation(seen=(1, 4 * GIB))
    assert (found.status, found.remedy) == ("warning", "srun --cpus-per-task=4 ...")


def test_allocation__notices_variables_lost_by_cleanenv(
    job: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    job.delenv("SLURM_JOB_ID")
    assert check_allocation(tmp_path).status == "ok"
    for groups in (V1_GROUPS, V2_GROUPS):
        found = check_allocation(write(tmp_path, {"proc/self/cgroup": groups}))
        assert found.status == "warning"
        assert "--cleanenv" in (found.remedy or "")


def test_commands__and_what_they_need(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_commands(tmp_path).status == "ok"
    (tmp_path / "sbatch").touch(0o755)
    found = check_commands(tmp_path)
    assert found.status == "warning"
    assert "--bind /etc/slurm,/run/munge" in (found.remedy or "")
    write(tmp_path, {"etc/slurm/slurm.conf": "", "run/munge/munge.socket.2": ""})
    assert check_commands(tmp_path) == Finding("ok", "sbatch; /etc/slurm/slurm.conf, munge")


def test_core_files__matter_in_jobs(job: pytest.MonkeyPatch) -> None:
    job.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY,) * 2)
    assert check_core_files().remedy == "ulimit -c 0"
    job.delenv("SLURM_JOB_ID")
    assert check_core_files().status == "ok"


# --- threads, folders, network, container ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "status"), [("1", "ok"), ("4,1", "ok"), ("5", "warning"), ("many", "warning")]
)
def test_threads__fit_the_cores(monkeypatch: pytest.MonkeyPatch, text: str, status: str) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", text)
    assert check_threads(cores=4).status == status


def test_blas__threads_fit_the_cores() -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, "blas"):
        assert check_blas(cores=1).status == "ok"
    with threadpool_limits(2, "blas"):
        assert check_blas(cores=1).status == "warning"


MOUNTS = """\
1 0 0:1 / / rw - ext4 /dev/a rw
2 1 0:2 / {0} rw shared:1 - nfs4 server:/x rw
3 2 0:3 / {0}/my\\040scratch rw - tmpfs none rw
"""


def test_tmpdir__on_the_network_or_in_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.format(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=9 * GIB))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    found = check_tmpdir(mounts)
    assert (found.status, "nfs4" in found.value) == ("warning", True)
    (tmp_path / "my scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "my scratch"))
    found = check_tmpdir(mounts)
    assert (found.status, "count as memory" in found.value) == ("ok", True)
    assert mount_type(Path("/usr"), mounts) == "ext4"
    for free, status in ((2**20, "error"), (64 * 2**20, "warning")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert check_tmpdir(mounts).status == status


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "fuse.sshfs"])
def test_network__file_systems(kind: str) -> None:
    assert is_network(kind)
    assert not any(map(is_network, ("ext4", "xfs", "overlay", "tmpfs", "fuse.squashfuse_ll")))


def test_caches__are_not_made_by_looking(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "a" / "b"))
    assert check_caches().status == "ok"
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/proc/numba")
    found = check_caches()
    assert found.status == "warning"
    assert found.remedy == 'export NUMBA_CACHE_DIR="${TMPDIR:-/tmp}/numba_cache_dir"'


def test_openssl__the_pair_that_breaks_dask() -> None:
    assert check_openssl((3, 13), (3, 5, 7)).status == "warning"
    assert check_openssl((3, 13), (3, 0, 19)).status == "ok"
    assert check_openssl((3, 11), (3, 5, 7)).status == "ok"


def test_interfaces__lead_to_other_nodes_or_not(job: pytest.MonkeyPatch) -> None:
    import socket

    import psutil

    def address(ip: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(family=socket.AF_INET, address=ip)]

    found = {"lo": address("127.0.0.1"), "docker0": address("172.17.0.1")}
    job.setattr(psutil, "net_if_addrs", lambda: found)
    job.setattr(
        psutil, "net_if_stats", lambda: dict.fromkeys([*found, "ib0"], SimpleNamespace(isup=True))
    )
    assert check_interfaces().status == "error", "a job of two nodes"
    found["ib0"] = address("10.1.0.7")
    assert check_interfaces().status == "ok"
    assert "between nodes: ib0 10.1.0.7; this node only: docker0" in check_interfaces().value
    del found["lo"]
    assert check_interfaces().status == "error", "workers on this machine use loopback"


def test_container__and_its_labels(tmp_path: Path) -> None:
    assert check_container(tmp_path) == Finding("ok", "none")
    labels = {"org.opencontainers.image.version": "1.2", "hyperhpc.lock.sha256": "unknown"}
    file = ".singularity.d/labels.json"
    write(tmp_path, {file: json.dumps(labels), ".dockerenv": ""})
    found = check_container(tmp_path)
    assert (found.status, "version 1.2" in found.value) == ("ok", True)
    assert found.value.startswith("apptainer")
    write(tmp_path, {file: json.dumps(labels | {"hyperhpc.lock.sha256": "0" * 64})})
    assert check_container(tmp_path).status == "warning"
