"""Submitting: what reaches sbatch, what is refused before it, and no quote that is lost.

Whole dry runs are in tests/golden. After a change that is wanted:
HYPERHPC_GOLDEN=write pytest tests/jobs/test_jobs.py
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from jobs_case import JOBS, ROOT, UGLY, Cluster

GOLDEN = ROOT / "tests" / "golden"
SITES = sorted((JOBS / "sites").glob("*.env"))


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / "cluster")


def site_keys() -> list[str]:
    text = (JOBS / "settings.sh").read_text("utf-8")
    match = re.search(r"^readonly site_keys=\((.*?)\)", text, re.MULTILINE | re.DOTALL)
    assert match
    return match[1].split()


def options_of(cluster: Cluster) -> dict[str, str]:
    """Of the only call of sbatch."""
    (words,) = cluster.calls("sbatch")
    return dict(word.partition("=")[::2] for word in words)


# --- sites ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", SITES, ids=lambda path: path.stem)
@pytest.mark.parametrize("mode", ["gang", "elastic"])
def test_site__loads_and_is_complete(cluster: Cluster, path: Path, mode: str) -> None:
    lines = [line for line in path.read_text("utf-8").splitlines() if line[:1] != "#"]
    assert [line.split("=")[0] for line in lines] == site_keys()
    done = cluster.submit("--dry-run", SITE=path.stem, MODE=mode, ACCOUNT="lab")
    assert done.returncode == 0, done.stderr


def test_site__those_of_the_issue_are_there() -> None:
    assert {path.stem for path in SITES} >= {"ceres", "atlas", "generic", "minicluster"}


def test_site__document_explains_every_key() -> None:
    text = (ROOT / "docs" / "sites.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE) == site_keys()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("colour=red", "there is no key colour"),
        ("walltime", "is not KEY=value"),
        ("SLURM_PARTITION=x", "is not KEY=value"),
    ],
)
def test_site__refuses_what_it_does_not_know(cluster: Cluster, line: str, said: str) -> None:
    path = cluster.folder / "my own.env"
    path.write_text(f"# mine\n\n{line}\n", "utf-8")
    done = cluster.submit(SITE=str(path))
    assert done.returncode == 3
    assert said in done.stderr
    assert "line 3" in done.stderr


def test_site__is_read_and_never_run(cluster: Cluster) -> None:
    text = (JOBS / "sites" / "generic.env").read_text("utf-8")
    path = cluster.folder / "mine.env"
    path.write_text(
        text.replace("slurm_partition=", "slurm_partition=$(touch stolen) `touch stolen`"), "utf-8"
    )
    assert cluster.submit(SITE=str(path)).returncode == 0
    assert options_of(cluster)["--partition"] == "$(touch stolen) `touch stolen`"
    assert cluster.run_job() == 0
    assert not (cluster.folder / "stolen").exists()


# --- what reaches sbatch --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        ("gang-ceres", {"SITE": "ceres", "ARGS": "--clusters 12 --index 'g=R(550) / R(670)'"}),
        (
            "gang-minicluster",
            {"SITE": "minicluster", "WORKERS": "5", "NODES": "3", "TIME": "5", "INTERFACE": "mc0"},
        ),
        ("elastic-ceres", {"SITE": "ceres", "MODE": "elastic", "WORKERS": "40"}),
        (
            "elastic-atlas",
            {"SITE": "atlas", "MODE": "elastic", "ACCOUNT": "lab", "SBATCH": "--qos=debug"},
        ),
    ],
)
def test_dry_run__is_the_golden_one(cluster: Cluster, name: str, variables: dict[str, str]) -> None:
    done = cluster.submit("--dry-run", **variables)
    assert done.returncode == 0, done.stderr
    text = done.stdout
    for part in ("common.sh", f"{name.split('-')[0]}.sbatch"):
        whole = (JOBS / part).read_text("utf-8")
        assert text.count(whole.strip()) == 1
        text = text.replace(whole.strip(), f"[jobs/{part}]")
    text = re.sub(r"submitted=\S+", "submitted=NOW", text)
    text = text.replace(str(cluster.folder), "/data")
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("HYPERHPC_GOLDEN") == "write":
        path.write_text(text, "utf-8")
    assert text == path.read_text("utf-8")
    assert not cluster.out.exists()
    assert not cluster.calls("sbatch")


def test_dry_run__is_what_is_submitted(cluster: Cluster) -> None:
    dry = cluster.submit("--dry-run").stdout
    cluster.submit()
    (words,) = cluster.calls("sbatch")
    command, _, rest = dry.partition(" <<'END_OF_JOB'\n")
    assert shlex.split(command) == ["sbatch", *words]
    script = rest.removesuffix("\nEND_OF_JOB\n")
    without_time = re.compile(r"^submitted=.*$", re.MULTILINE)
    assert without_time.sub("", script) == without_time.sub("", cluster.script().rstrip("\n"))


def test_submit__needs_bash_coreutils_and_sbatch_only(cluster: Cluster) -> None:
    cluster.login_node_only()
    done = cluster.submit()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "job:     42 (gang, 4 workers on 2 nodes, 1200MiB each)" in done.stdout
    assert f"log:     {cluster.out}/slurm/42.log" in done.stdout
    assert "cancel:  scancel 42" in done.stdout
    assert cluster.job_file()["job"] == "42"


def test_submit__tells_how_to_follow_in_words_a_shell_takes(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / UGLY)
    done = cluster.submit()
    follow = re.search(r"^follow:  (.*)\n +(.*)$", done.stdout, re.MULTILINE)
    assert follow
    assert shlex.split(follow[1]) == ["tail", "-F", str(cluster.log())]
    assert shlex.split(follow[2]) == [str(JOBS / "status.sh"), str(cluster.out)]


def test_submit__takes_variables_from_the_environment_and_keeps_them(cluster: Cluster) -> None:
    done = cluster.bash(
        str(JOBS / "submit.sh"),
        SITE="minicluster",
        SCENE="scene.zarr",
        OUT="out",
        MAKEFLAGS="s",
        THREADS="2",
    )
    assert done.returncode == 3  # the image is looked for in the checkout and here
    (cluster.folder / "hyperhpc.sif").touch()
    done = cluster.bash(
        str(JOBS / "submit.sh"), SITE="minicluster", SCENE="scene.zarr", OUT="out", THREADS="2"
    )
    if (ROOT / "build" / "hyperhpc.sif").exists():
        pytest.skip("the checkout has an image, so none is looked for here")
    assert done.returncode == 0, done.stderr
    assert options_of(cluster)["--cpus-per-task"] == "2"
    assert not {"SITE", "OUT", "THREADS", "MAKEFLAGS"} & set(cluster.environment_of("sbatch"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"--ntasks": "6", "--ntasks-per-node": "3", "--mem": "3600M"}),
        ({"MEMORY": "500MiB"}, {"--ntasks": "8", "--ntasks-per-node": "4", "--mem": "2000M"}),
        ({"THREADS": "2"}, {"--ntasks": "4", "--cpus-per-task": "2", "--mem": "2400M"}),
        ({"WORKERS": "3", "NODES": "2"}, {"--ntasks": "5", "--ntasks-per-node": "3"}),
        ({"WORKERS": "1", "NODES": "1"}, {"--ntasks": "3", "--nodes": "1"}),
        ({"SITE": "ceres"}, {"--ntasks": "96", "--cpus-per-task": "2", "--mem": "393216M"}),
        ({"SITE": "ceres", "MEMORY": "40GiB"}, {"--ntasks": "34", "--mem": "696320M"}),
        ({"MAX_TASKS_PER_NODE": "2"}, {"--ntasks": "4", "--ntasks-per-node": "2"}),
        ({"THREADS_PER_CORE": "2"}, {"--ntasks": "6", "--cpus-per-task": "2"}),
        ({"MEMORY": "1.25GB"}, {"--mem": "3576M"}),
        ({"TIME": "1-12"}, {"--time": "1-12", "--signal": "B:USR1@180"}),
        ({"TIME": "10"}, {"--signal": "B:USR1@120"}),
        ({"TIME": "1:30"}, {"--signal": "B:USR1@18"}),
        ({"TIME": "0:30:00"}, {"--signal": "B:USR1@180"}),
        ({"PARTITION": "long", "ACCOUNT": "lab"}, {"--partition": "long", "--account": "lab"}),
        ({"MODE": "elastic"}, {"--ntasks": "1", "--cpus-per-task": "2", "--mem": "1500M"}),
        ({"MODE": "elastic", "DRIVER_MEMORY": "2GiB", "DRIVER_CPUS": "1"}, {"--mem": "2048M"}),
        ({"MEMORY_OPTION": "per-cpu"}, {"--mem": None, "--mem-per-cpu": "1200M"}),
        ({"MEMORY_OPTION": "per-cpu", "SITE": "ceres"}, {"--mem-per-cpu": "4096M"}),
        ({"MEMORY_OPTION": "per-cpu", "MODE": "elastic"}, {"--mem-per-cpu": "750M"}),
        ({"MEMORY_OPTION": "none"}, {"--mem": None, "--mem-per-cpu": None}),
        ({"SBATCH": "--mem-per-cpu=2G"}, {"--mem": None, "--mem-per-cpu": "2G"}),
    ],
)
def test_submit__sizes_the_job(
    cluster: Cluster, variables: dict[str, str], expected: dict[str, str]
) -> None:
    done = cluster.submit(**variables)
    assert done.returncode == 0, done.stderr
    options = options_of(cluster)
    assert {name: options.get(name) for name in expected} == expected


def test_submit__puts_the_users_options_last(cluster: Cluster) -> None:
    cluster.submit(SBATCH="--qos=debug --comment='two words' --mail-user a@b")
    (words,) = cluster.calls("sbatch")
    assert words[-4:] == ["--qos=debug", "--comment=two words", "--mail-user", "a@b"]


def test_submit__refused_by_slurm_ends_with_6_and_leaves_nothing(cluster: Cluster) -> None:
    cluster.does("sbatch", "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1")
    done = cluster.submit()
    assert done.returncode == 6
    assert done.stderr.startswith("error: Slurm refused the job: invalid partition specified")
    assert not cluster.out.exists()


def test_submit__names_the_option_for_clusters_that_refuse_mem(cluster: Cluster) -> None:
    refuse = 'for w; do case $w in --mem=*) echo "lua: use --mem-per-cpu" >&2; exit 1; esac; done'
    cluster.does("sbatch", f"{refuse}\necho 42")
    done = cluster.submit()
    assert done.returncode == 6
    assert "hint: MEMORY_OPTION=per-cpu" in done.stderr
    assert cluster.submit(MEMORY_OPTION="per-cpu").returncode == 0


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"MEMORY_OPTION": "cpu"}, "is not per-node, per-cpu or none"),
        ({"SBATCH": "--mem-per-cpu=100M"}, "is less than MEMORY="),
        ({"SBATCH": "--mem-per-cpu=4000"}, "has no unit"),
        ({"SBATCH": "--mem=4G"}, "which submit.sh works out itself"),
    ],
)
def test_submit__refuses_memory_it_cannot_use(
    cluster: Cluster, variables: dict[str, str], said: str
) -> None:
    done = cluster.submit(**variables)
    assert done.returncode == 2
    assert said in done.stderr
    assert not cluster.calls("sbatch")


def test_submit__refused_by_slurm_keeps_what_is_known_of_the_job_before(cluster: Cluster) -> None:
    cluster.submit()
    before = cluster.job_file()
    cluster.does("sbatch", "exit 1")
    assert cluster.submit().returncode == 6
    assert cluster.job_file() == before
    assert [path.name for path in (cluster.out / "slurm").iterdir()] == ["job"]


def test_submit__does_not_overwrite_what_a_quick_job_has_written(cluster: Cluster) -> None:
    cluster.does("sbatch", f"echo 'job: 42, begun' >'{cluster.out}/slurm/job'; echo 42")
    assert cluster.submit().returncode == 0
    assert cluster.job_file()["job"] == "42, begun"


@pytest.mark.parametrize("said", ["42;cluster", "Submitted batch job 42", "a note\n42"])
def test_submit__finds_the_job_in_what_sbatch_says(cluster: Cluster, said: str) -> None:
    cluster.does("sbatch", f"echo '{said}'")
    assert "job:     42 " in cluster.submit().stdout


# --- refusals -------------------------------------------------------------------------

BIG = {"SITE": "atlas", "ACCOUNT": "lab"}


@pytest.mark.parametrize(
    ("variables", "code", "error", "hint"),
    [
        ({"SITE": "mars"}, 2, "There is no site mars", " ".join(p.stem for p in SITES)),
        ({"SITE": ""}, 2, "SITE is not given", "ceres"),
        ({"SCENE": ""}, 2, "SCENE is not given", "SCENE="),
        ({"OUT": ""}, 2, "OUT is not given", "OUT="),
        ({"MODE": "gangs"}, 2, "MODE=gangs", "MODE=gang"),
        ({"NODES": "two"}, 2, "NODES=two", "NODES=2"),
        ({"NODES": "0"}, 2, "NODES=0", "NODES=2"),
        ({"WORKERS": "-1"}, 2, "WORKERS=-1", "NODES=2"),
        ({"THREADS": "1.5"}, 2, "THREADS=1.5", "THREADS=2"),
        ({"MEMORY": "4"}, 2, "MEMORY=4 is not an amount of memory", "4GiB"),
        ({"MEMORY": "much"}, 2, "MEMORY=much", "4GiB"),
        ({"TIME": "2h"}, 2, "TIME=2h", "2:00:00"),
        ({"COLOUR": "red"}, 2, "no variable COLOUR", "--help"),
        ({"ARGS": "--index 'x"}, 2, "leaves a quote open", "Close it"),
        ({"ARGS": "--workers 3"}, 2, "ARGS holds --workers", "WORKERS="),
        ({"SBATCH": "--time=5"}, 2, "SBATCH holds --time=5", "TIME="),
        ({"SBATCH": "-N3"}, 2, "SBATCH holds -N3", "NODES="),
        ({"SBATCH": "--output=x"}, 2, "which the job scripts need", "OUT/slurm"),
        ({"SBATCH": "--outp=x"}, 2, "holds --outp=x, which may stand for --output", "in full"),
        ({"SBATCH": "--err x"}, 2, "holds --err, which may stand for --error", "in full"),
        ({"SBATCH": "--no=3"}, 2, "holds --no=3, which may stand for --nodes", "in full"),
        ({"SBATCH": "--mem-per=4G"}, 2, "may stand for --mem-per-cpu", "in full"),
        ({"SBATCH": "-Qo x"}, 2, "holds -Qo, which the job scripts need", "OUT/slurm"),
        ({"SBATCH": "-HvN4"}, 2, "holds -HvN4, which submit.sh works out", "NODES="),
        ({"SCENE": "/no/scene"}, 4, "/no/scene does not exist", "SCENE="),
        ({"IMAGE": "no.sif"}, 3, "There is no image", "sbatch jobs/build.sbatch"),
        ({"OUT": "no/such/out"}, 3, "is not a folder", "mkdir -p"),
        ({"OUT": "scene.zarr/out"}, 3, "lies inside the scene", "another OUT"),
        ({"OUT": "hyperhpc image.sif"}, 3, "is a file", "another OUT"),
        ({"OUT": "bin"}, 3, "is not a run of hyperhpc", "another OUT"),
        ({"SITE": "atlas"}, 3, "atlas takes no job without an account", "ACCOUNT="),
        ({"MEMORY": "5GiB"}, 5, "MEMORY=5GiB a worker is more than a node has", "MEMORY="),
        ({"THREADS": "5"}, 5, "THREADS=5", "THREADS=1"),
        ({"WORKERS": "9"}, 5, "are 6 a node; 3 fit", "NODES=4"),
        ({"WORKERS": "95", **BIG}, 5, "no more than 48 tasks", "NODES=3"),
        ({"NODES": "1", "MEMORY": "2GiB"}, 5, "at least", "less MEMORY"),
        ({"NODES": "5", "WORKERS": "2"}, 5, "leave a node without one", "NODES=4"),
        ({"MODE": "elastic", "DRIVER_MEMORY": "9GiB"}, 5, "DRIVER_MEMORY=9GiB", "3GiB"),
    ],
)
def test_refusal__is_one_message_and_writes_nothing(
    cluster: Cluster, variables: dict[str, str], code: int, error: str, hint: str
) -> None:
    before = sorted(cluster.folder.iterdir())
    done = cluster.submit(**variables)
    first, second = done.stderr.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("  hint: ")
    assert hint in second
    assert done.returncode == code
    assert done.stdout == ""
    assert {path.name for path in cluster.folder.iterdir()} - {p.name for p in before} <= {"lock"}
    assert not cluster.calls("sbatch")


@pytest.mark.parametrize(
    ("free", "inodes", "error"),
    [
        (1048575, 10000, "1023 MiB free"),
        (1048576, 9999, "room for 9999 files"),
        (1048576, 10000, None),
        (1048576, 0, None),
        (1048576, "-", None),
    ],
)
def test_refusal__by_room(
    cluster: Cluster, free: int, inodes: int | str, error: str | None
) -> None:
    cluster.does(
        "df", f'[[ "$*" == *iavail* ]] && printf "IFree\n{inodes}\n" || printf "Avail\n{free}\n"'
    )
    done = cluster.submit("--dry-run")
    if error:
        assert done.returncode == 5
        assert error in done.stderr
    else:
        assert done.returncode == 0, done.stderr


def test_refusal__without_sbatch(cluster: Cluster) -> None:
    cluster.login_node_only()
    (cluster.folder / "login" / "sbatch").unlink()
    done = cluster.submit()
    assert done.returncode == 6
    assert "There is no sbatch here" in done.stderr
    assert not cluster.out.exists()


def test_refusal__of_an_out_where_a_job_is_at_work(cluster: Cluster) -> None:
    cluster.submit()
    cluster.does("squeue", "echo PENDING")
    done = cluster.submit()
    assert done.returncode == 3
    assert "Job 42 is at work on" in done.stderr
    assert "(PENDING)" in done.stderr
    assert "scancel 42" in done.stderr
    assert len(cluster.calls("sbatch")) == 1


@pytest.mark.parametrize(
    ("modes", "out", "code", "said"),
    [
        ({"out": 0o555}, "out", 3, "out is not writable for you"),
        ({".": 0o555}, "new", 3, "new cannot be made: "),
        ({"image": 0o200}, "out", 3, "image may not be read"),
        ({"scene": 0o200}, "out", 4, "scene may not be read"),
    ],
)
def test_refusal__of_what_the_user_may_not(
    modes: dict[str, int], out: str, code: int, said: str
) -> None:
    user = 65534 if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        shutil.copytree(JOBS, folder / "jobs")
        for file in ("scene", "image"):
            (folder / file).touch()
        (folder / "out").mkdir()
        for one, mode in {".": 0o777, "out": 0o777, **modes}.items():
            (folder / one).chmod(mode)
        words = f"SITE=generic OUT={out} SCENE=scene IMAGE=image --dry-run".split()
        done = subprocess.run(
            ["/bin/bash", "jobs/submit.sh", *words],
            cwd=folder,
            user=user,
            capture_output=True,
            text=True,
        )
        folder.chmod(0o755)
    assert done.returncode == code, done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("names", [[], ["slurm"], ["slurm", "status.txt"], ["plan.json", "x"]])
def test_out__of_a_run_or_of_none_is_accepted(cluster: Cluster, names: list[str]) -> None:
    for name in names:
        (cluster.out / name).mkdir(parents=True)
    assert cluster.submit("--dry-run").returncode == 0


def test_note__says_that_a_folder_is_purged(cluster: Cluster) -> None:
    site = (JOBS / "sites" / "generic.env").read_text("utf-8")
    path = cluster.folder / "mine.env"
    path.write_text(site.replace("purged=", f"purged=/nowhere {cluster.folder}"), "utf-8")
    done = cluster.submit("--dry-run", SITE=str(path))
    assert f"removes old files from {cluster.folder}" in done.stderr
    assert "removes" not in cluster.submit("--dry-run", SITE="generic").stderr


# --- words ----------------------------------------------------------------------------

WORDS = [
    ("", []),
    ("  \t one   two\n three ", ["one", "two", "three"]),
    ("--index 'g=R(550) / R(670)'", ["--index", "g=R(550) / R(670)"]),
    (r"""a\ b 'c \ "d"' e""", ["a b", r'c \ "d"', "e"]),
    (r"""  "a \"b\" \$c \` \\ \x \'"  """, [r"""a "b" $c ` \ \x \'"""]),
    ("""'' "" x''y"z w\"""", ["", "", "xyz w"]),
    ("$HOME `id` $(id) * ~ {a,b} # c", "$HOME `id` $(id) * ~ {a,b} # c".split()),
    (r"it\'s é\\", ["it's", "é\\"]),
    ("""'$x "' "$y `z` '\"""", ['$x "', "$y `z` '"]),
]


@pytest.mark.parametrize(("text", "words"), WORDS)
def test_words__are_those_of_a_shell_and_nothing_is_run(
    cluster: Cluster, text: str, words: list[str]
) -> None:
    code = '. "$1" && split_words "$2" && for x in "${words[@]}"; do printf "%s\\0" "$x"; done'
    done = cluster.bash("-c", code, "bash", str(JOBS / "settings.sh"), text)
    assert done.stdout.split("\0")[:-1] == words, done.stderr


# --- make -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["arguments", "environment"])
def test_make__passes_values_as_they_are(tmp_path: Path, how: str) -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    cluster = Cluster(tmp_path / UGLY)
    variables = {
        "SITE": "minicluster",
        "SCENE": str(cluster.scene),
        "OUT": str(cluster.out),
        "IMAGE": str(cluster.image),
        "ARGS": "--index 'g=R(550) / R(670)' --point 1,2 --config $(shell touch stolen)",
        "SBATCH": '--comment="$$ `touch stolen` $(MAKE)"',
    }
    words = [f"{name}={value}" for name, value in variables.items()]
    done = subprocess.run(
        ["make", "submit", *(words if how == "arguments" else [])],
        cwd=ROOT,
        env=cluster.environment | (variables if how == "environment" else {}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    cluster.submit(ARGS=variables["ARGS"], SBATCH=variables["SBATCH"], OUT=f"{cluster.out} 2")
    by_make, by_hand = cluster.calls("sbatch")
    assert by_make[-1] == "--comment=$$ `touch stolen` $(MAKE)"
    assert [word.replace("/out 2/", "/out/") for word in by_hand] == by_make
    assert not (ROOT / "stolen").exists()
    assert not {name for name in cluster.environment_of("sbatch") if name.startswith("MAKE")} - {
        "MAKE_TERMERR",
        "MAKE_TERMOUT",
    }


# --- style ----------------------------------------------------------------------------


@pytest.mark.jobs
def test_scripts__are_clean() -> None:
    done = subprocess.run(
        ["bash", str(ROOT / ".ci" / "check_scripts.sh")],
        env={name: value for name, value in os.environ.items() if name != "CI"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    text = (ROOT / ".ci" / "check_scripts.sh").read_text("utf-8")
    assert "shellcheck shell=bash" in text
    for path in [*JOBS.glob("*.sh"), *JOBS.glob("*.sbatch")]:
        head = path.read_text("utf-8").splitlines()[:3]
        assert any(line.startswith(("#!", "# shellcheck shell=bash")) for line in head), path
