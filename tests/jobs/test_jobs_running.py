"""The job scripts at work: the composed script is run by bash, as Slurm would run it.

Slurm and Apptainer are programs that write down their calls (jobs_case); signals, the bridge
and the files in OUT are real. The real Slurm is in tests/slurm.
"""

from __future__ import annotations

import json
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs_case import JOBS, UGLY, Cluster, command_of, mounts_of

#: At the head of each driver: it asks over the bridge as hyperhpc does.
_DRIVER = """
import json, os, pathlib, sys, threading, time
bridge = pathlib.Path(os.environ["HYPERHPC_BRIDGE"])
here = pathlib.Path(__file__).parent

def write(text):
    file = os.open(bridge / "requests", os.O_WRONLY)
    os.write(file, text.encode("utf-8"))
    os.close(file)

def answer(number):
    while not (bridge / f"{number}.rc").exists():
        time.sleep(0.02)
    return [int((bridge / f"{number}.rc").read_text()), (bridge / f"{number}.out").read_text()]

def ask(number, words, script=None):
    if script is not None:
        (bridge / f"{number}.sh").write_text(script)
    write(f"{number} {words}\\n")
    return answer(number)

def tell(value):
    (here / "told").write_text(json.dumps(value))

def wait_for_stop():
    while not os.path.exists(os.environ["HYPERHPC_STOP_FILE"]):
        time.sleep(0.02)
"""


@pytest.fixture(params=["out", UGLY, UGLY.replace("\\", "")], ids=["plain", "ugly", "percent"])
def any_cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Cluster:
    return Cluster(tmp_path / request.param)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / UGLY)


def submitted(cluster: Cluster, mode: str = "elastic", **variables: str) -> Cluster:
    done = cluster.submit(MODE=mode, **variables)
    assert done.returncode == 0, done.stderr
    return cluster


def drive(cluster: Cluster, code: str) -> object:
    """Run an elastic job whose driver is this code; what it told."""
    cluster.drive_by(_DRIVER + code)
    status = submitted(cluster).run_job()
    assert status == 0, cluster.log().read_text("utf-8")
    return json.loads((cluster.folder / "told").read_text("utf-8"))


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "this did not come in 20 s"
        time.sleep(0.05)


# --- paths ----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["gang", "elastic"])
def test_job__runs_plan_and_run_in_the_image_with_exact_words(
    any_cluster: Cluster, mode: str
) -> None:
    cluster = submitted(any_cluster, mode, ARGS="--index 'g=R(550) / R(670)' --clusters 5")
    assert cluster.run_job() == 0, cluster.log().read_text("utf-8")
    plan, run = cluster.calls("apptainer")
    options = ["--launcher", mode, "--workers", "4" if mode == "gang" else "6"]
    options += ["--threads-per-worker", "1", "--memory-per-worker", "1080MiB"]
    options += ["--index", "g=R(550) / R(670)", "--clusters", "5"]
    paths = [str(cluster.scene), str(cluster.out)]
    assert command_of(plan) == ["hyperhpc", "plan", *paths, *options]
    assert command_of(run) == ["hyperhpc", "run", *paths, *options]
    for call in (plan, run):
        assert call[:2] == ["-s", "exec"]
        assert call[call.index("hyperhpc") - 1] == str(cluster.image)
        assert mounts_of(call)[0] == str(cluster.folder)
        assert str(cluster.out) not in mounts_of(call)
    stop_file = cluster.environment_of("apptainer", 2)["HYPERHPC_STOP_FILE"]
    assert stop_file == f"{cluster.out}/slurm/stop-42"
    (sbatch,) = cluster.calls("sbatch")
    (pattern,) = [w.removeprefix("--output=") for w in sbatch if w.startswith("--output=")]
    if "\\" in pattern:  # then Slurm replaces nothing but two of them by one
        assert pattern.replace("\\\\", "\\") == str(cluster.log())
    else:
        assert pattern.replace("%%", "\0").replace("%j", "42").replace("\0", "%") == str(
            cluster.log()
        )
    assert cluster.job_file()["log"] == str(cluster.log())
    assert cluster.job_file()["exit"] == "0"


def test_job__binds_what_a_link_points_to_and_never_hides_the_image(cluster: Cluster) -> None:
    real = cluster.folder / "elsewhere" / "real.zarr"
    real.mkdir(parents=True)
    (cluster.folder / "link.zarr").symlink_to(real)
    (cluster.folder / "disk").mkdir()
    submitted(
        cluster,
        "gang",
        SCENE=str(cluster.folder / "link.zarr"),
        BINDS="/no/such/folder /var/tmp",  # words: a path with a space is none
    ).run_job()
    mounts = mounts_of(cluster.calls("apptainer")[0])
    assert {str(cluster.folder), str(real.parent), "/var/tmp"} == set(mounts)
    functions = f'. "{JOBS}/common.sh"; mounts=(); add_parent /opt/scene; echo "${{mounts[@]}}"'
    done = cluster.bash("-c", functions, out="x", SLURM_JOB_ID="1")
    assert done.stdout == "\n"  # not there, so nothing; /opt itself would hide the image's


def test_job__binds_the_folders_of_files_in_options(cluster: Cluster) -> None:
    places = [cluster.folder / name / "plots.gpkg" for name in ("far away", "near")]
    for path in places:
        path.parent.mkdir()
        path.touch()
    far, near = (shlex.quote(str(path)) for path in places)
    words = f"--points {far} --aoi={near} --clusters 3 --layer plots"
    submitted(cluster, "gang", ARGS=words).run_job()
    mounts = mounts_of(cluster.calls("apptainer")[0])
    assert {str(path.parent) for path in places} <= set(mounts)


def test_job__tmpdir_that_is_not_there_is_replaced(cluster: Cluster) -> None:
    submitted(cluster, "gang").run_job(TMPDIR="/no/such/folder")
    assert cluster.environment_of("apptainer")["TMPDIR"] == "/tmp"


def test_job__loads_modules_and_says_what_is_missing(cluster: Cluster) -> None:
    submitted(cluster, "gang", MODULES="tools apptainer/1.4")
    module = '() {  echo "$@" >\'' + str(cluster.folder / "modules").replace("'", "'\\''") + "'\n}"
    cluster.run_job(**{"BASH_FUNC_module%%": module})
    assert (cluster.folder / "modules").read_text("utf-8") == "load tools apptainer/1.4\n"
    cluster.login_node_only()
    assert cluster.run_job() == 6
    assert "there is no apptainer on " in cluster.job_file()["error"]
    assert "MODULES=" in cluster.log().read_text("utf-8")


# --- gang -----------------------------------------------------------------------------


def test_gang__gives_srun_all_tasks(cluster: Cluster) -> None:
    submitted(cluster, "gang", THREADS="2", WORKERS="2").run_job()
    (words,) = cluster.calls("srun")
    options = [word for word in words if word.startswith("--")][:4]
    assert options == ["--ntasks=4", "--cpus-per-task=2", "--kill-on-bad-exit=1", "--export=ALL"]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_gang__task_is_the_image_on_its_own_node(cluster: Cluster, rank: int) -> None:
    cluster.does(
        "srun",
        "while [[ $1 == --* ]]; do shift; done\n"
        f'exec env TMPDIR="$here/calls" SLURM_PROCID={rank} "$@"',
    )
    submitted(cluster, "gang").run_job()
    assert mounts_of(cluster.calls("apptainer")[1])[-1] == f"{cluster.folder}/bin/../calls"
    assert not list((cluster.out / "slurm").glob(".*"))


@pytest.mark.parametrize("code", [3, 4, 5, 7])
def test_gang__exit_code_is_the_clients(cluster: Cluster, code: int) -> None:
    ends = f'{{ echo {code} >"$HYPERHPC_EXIT_FILE"; exit {code}; }}'
    cluster.does("apptainer", f'[[ " $* " != *" run "* ]] || {ends}')
    cluster.does("srun", 'while [[ $1 == --* ]]; do shift; done\nSLURM_PROCID=1 "$@"; exit 137')
    assert submitted(cluster, "gang").run_job() == code
    assert cluster.job_file()["exit"] == str(code)


@pytest.mark.parametrize("mode", ["gang", "elastic"])
def test_job__ends_with_the_plans_exit_code_and_starts_nothing(cluster: Cluster, mode: str) -> None:
    cluster.does("apptainer", "exit 5")
    assert submitted(cluster, mode).run_job() == 5
    assert len(cluster.calls("apptainer")) == 1
    assert not cluster.calls("srun")
    assert "exit code 5" in cluster.job_file()["error"]


def test_job__says_what_memory_would_do(cluster: Cluster) -> None:
    said = "error: --memory-per-worker 450MiB is too little; at least 489 MiB are needed"
    cluster.does("apptainer", f'echo "{said}" >&2; exit 5')
    assert submitted(cluster, "gang").run_job() == 5
    assert cluster.job_file()["error"] == said.removeprefix("error: ")
    assert "hint: MEMORY=544MiB" in cluster.log().read_text("utf-8")
    assert 544 * 9 // 10 >= 489


@pytest.mark.parametrize(
    ("said", "code", "error"),
    [
        (
            "srun: error: c1: task 3: Out Of Memory",
            5,
            "killed by Slurm for memory (MEMORY=1200MiB)",
        ),
        ("slurmstepd: error: StepId=42.0 exceeded memory limit (9 > 8)", 5, "for memory"),
        ("slurmstepd: error: Detected 1 oom_kill event in StepId=42.0.", 5, "for memory"),
        ("srun: error: Node failure on c2", 6, "a node failed: srun: error: Node failure on c2"),
        ("slurmstepd: error: *** STEP 42.0 CANCELLED DUE TO TIME LIMIT ***", 7, "walltime"),
        ("slurmstepd: error: *** JOB 42 CANCELLED DUE TO PREEMPTION ***", 7, "preempted"),
        ("srun: error: c1: task 3: Killed", 137, "exit code 137"),
    ],
)
def test_gang__says_why_slurm_killed_it(cluster: Cluster, said: str, code: int, error: str) -> None:
    cluster.does("srun", f'echo "{said}" >&2; exit 137')
    submitted(cluster, "gang")
    cluster.log().write_text("srun: error: c9: task 0: Out Of Memory\n")  # of an earlier start
    assert cluster.run_job() == code
    assert error in cluster.job_file()["error"]
    assert cluster.job_file()["exit"] == str(code)


# --- begin and end --------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["gang", "elastic"])
def test_job__removes_connections_that_hard_deaths_have_left(cluster: Cluster, mode: str) -> None:
    cluster.does(
        "squeue",
        'case $3 in 8) echo RUNNING ;; 9) echo "Unable to contact controller" >&2; exit 1 ;;\n'
        '*) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;; esac',
    )
    submitted(cluster, mode)
    for name in ("42-0", "42-1", "7-0", "8-0", "9-0"):
        (cluster.out / f".connection-{name}").mkdir()
    cluster.run_job(SLURM_RESTART_COUNT="1")
    assert {path.name for path in cluster.out.glob(".c*")} == {".connection-8-0", ".connection-9-0"}


@pytest.mark.parametrize(("restarts", "kept"), [("", True), ("1", False)])
def test_job__begins_anew_only_at_its_first_start(
    cluster: Cluster, restarts: str, kept: bool
) -> None:
    variables = {"SLURM_RESTART_COUNT": restarts} if restarts else {}
    submitted(cluster, "gang", ARGS="--restart --clusters 5").run_job(**variables)
    for call in cluster.calls("apptainer"):
        assert ("--restart" in call) == kept
        assert call[-2:] == ["--clusters", "5"]
    assert cluster.job_file()["restarts"] == (restarts or "0")


@pytest.mark.parametrize("mode", ["gang", "elastic"])
def test_job__asked_by_usr1_stops_with_7(cluster: Cluster, mode: str) -> None:
    cluster.drive_by(
        "import os, pathlib, time\n"
        "pathlib.Path(__file__).with_name('up').touch()\n"
        "while not os.path.exists(os.environ['HYPERHPC_STOP_FILE']): time.sleep(0.02)\n"
        "time.sleep(0.5)\n"
        "raise SystemExit(7)\n"
    )
    job = submitted(cluster, mode).start_job()
    wait_until((cluster.folder / "up").exists)
    for number in (signal.SIGCONT, signal.SIGUSR1, signal.SIGCONT, signal.SIGUSR1):
        job.send_signal(number)
        time.sleep(0.05)
    assert job.wait(timeout=20) == 7
    assert not list(cluster.out.glob("slurm/stop-*"))
    assert "asking the run to stop" in cluster.log().read_text("utf-8")
    assert cluster.job_file()["exit"] == "7"


def test_gang__client_gets_a_term_that_slurm_sends_to_its_shell_alone(cluster: Cluster) -> None:
    cluster.drive_by(
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: os._exit(143))\n"
        "here = pathlib.Path(__file__).parent\n"
        "here.joinpath('up').write_text(str(os.getppid()))\n"
        "time.sleep(30)\n"
    )
    cluster.does(
        "srun",
        'while [[ $1 == --* ]]; do shift; done\nSLURM_PROCID=1 "$@" & task=$!\n'
        'until [ -s "$here/up" ]; do sleep 0.05; done; sleep 0.2\n'
        'kill -CONT "$task"; kill -TERM "$task"; wait "$task"',
    )
    assert submitted(cluster, "gang").run_job() == 143


def test_elastic__lets_the_run_stop_before_it_cancels_its_workers(cluster: Cluster) -> None:
    cluster.drive_by(
        _DRIVER + "ask(1, 'submit', '')\nhere.joinpath('up').touch()\nwait_for_stop()\n"
        "time.sleep(1.5)\nhere.joinpath('ended').touch()\nraise SystemExit(143)\n"
    )
    job = submitted(cluster).start_job()
    wait_until((cluster.folder / "up").exists)
    cluster.does("scancel", '[ -e "$here/ended" ] || touch "$here/early"')
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=20) == 143
    assert ["43"] in cluster.calls("scancel")
    assert not (cluster.folder / "early").exists(), "a run would take it for a fault of theirs"


@pytest.mark.jobs
def test_elastic__cancels_workers_of_a_run_that_does_not_stop(cluster: Cluster) -> None:
    cluster.drive_by(
        _DRIVER + "ask(1, 'submit', '')\nhere.joinpath('up').touch()\nwait_for_stop()\n"
        "time.sleep(300)\n"
    )
    job = submitted(cluster).start_job()
    wait_until((cluster.folder / "up").exists)
    job.send_signal(signal.SIGTERM)
    wait_until(lambda: ["43"] in cluster.calls("scancel"))
    assert job.poll() is None, "the driver has ended"
    job.kill()
    job.wait()


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "os.kill(os.getpid(), 9)"])
def test_elastic__cancels_workers_however_it_ends(cluster: Cluster, end: str) -> None:
    cluster.drive_by(_DRIVER + f"ask(1, 'submit', '')\nwrite('2 sub')\n{end}\n")
    assert submitted(cluster).run_job() == {"": 0, "raise SystemExit(3)": 3}.get(end, 137)
    assert ["43"] in cluster.calls("scancel")
    assert any("--name=hyperhpc-worker-42" in call for call in cluster.calls("scancel"))
    assert not list(cluster.folder.glob("hyperhpc-bridge-*"))


def test_elastic__cancels_workers_that_a_driver_left_and_no_others(cluster: Cluster) -> None:
    submitted(cluster)
    (cluster.out / "slurm" / "worker-jobs").write_text("5\n6\n7\nx; touch stolen\n")
    cluster.does(
        "squeue",
        'me=$(id -un); case $3 in 5) echo "$me hyperhpc-worker-4" ;; 6) echo "$me other" ;;\n'
        '7) echo "stranger hyperhpc-worker-4" ;; *) exit 1 ;; esac',
    )
    cluster.run_job()
    assert [call for call in cluster.calls("scancel") if len(call) == 1] == [["5"]]
    assert not (cluster.folder / "stolen").exists()


# --- the bridge -----------------------------------------------------------------------


def test_bridge__is_closed_to_others_and_gone_after(cluster: Cluster) -> None:
    told = drive(
        cluster,
        "mode = lambda path: oct(path.stat().st_mode)\n"
        "tell([str(bridge), mode(bridge), mode(bridge / 'requests')])",
    )
    assert isinstance(told, list)
    assert Path(told[0]).parent == cluster.folder  # $TMPDIR
    assert told[1:] == ["0o40700", "0o10600"]
    assert not Path(told[0]).exists()
    assert told[0] in mounts_of(cluster.calls("apptainer")[1])


def test_bridge__serves_its_verbs(cluster: Cluster) -> None:
    cluster.does("scontrol", 'echo "JobId=$4 JobState=RUNNING"')
    told = drive(
        cluster,
        "submitted = ask(1, 'submit', '#!/bin/sh\\ntrue\\n')\n"
        "tell([submitted, ask(2, 'state 43'), ask(3, 'cancel 43')])",
    )
    assert told == [[0, "43\n"], [0, "JobId=43 JobState=RUNNING\n"], [0, ""]]
    _, worker = cluster.calls("sbatch")
    assert worker[-2] == "--job-name=hyperhpc-worker-42"
    assert worker[:5] == [
        "--parsable",
        "--nodes=1",
        "--ntasks=1",
        "--cpus-per-task=1",
        "--mem=1200M",
    ]
    assert {"--partition=scavenger", "--no-requeue", "--time=30:00"} <= set(worker)
    assert cluster.script(2) == "#!/bin/sh\ntrue\n"
    assert (cluster.out / "slurm" / "worker-jobs").read_text("utf-8") == "43\n"
    assert cluster.calls("scancel")[1] == ["43"]


def test_bridge__worker_keeps_its_name_whatever_the_user_calls_the_job(cluster: Cluster) -> None:
    cluster.drive_by(_DRIVER + "ask(1, 'submit', '')")
    assert submitted(cluster, SBATCH="--job-name=mine").run_job() == 0
    driver, worker = cluster.calls("sbatch")
    names = [[w for w in call if w.startswith("--job-name=")][-1] for call in (driver, worker)]
    assert names == ["--job-name=mine", "--job-name=hyperhpc-worker-42"]


def test_bridge__worker_gets_none_of_the_drivers_own_variables(cluster: Cluster) -> None:
    cluster.drive_by(_DRIVER + "ask(1, 'submit', '')")
    variables = {"SLURM_RESTART_COUNT": "2", "SBATCH_PARTITION": "x", "SLURM_CONF": "/etc/x"}
    submitted(cluster).run_job(**variables)
    given = cluster.environment_of("sbatch", 2)
    slurms = {name for name in given if name.startswith(("SLURM_", "SBATCH_", "HYPERHPC_ST"))}
    assert slurms == {"SLURM_CONF"}
    assert "HYPERHPC_BRIDGE" not in given


@pytest.mark.parametrize(
    "words",
    [
        "run rm",
        "submit 1",
        "submit; touch stolen",
        "cancel",
        "cancel 1 2",
        "cancel $(touch stolen)",
        "cancel -a",
        "cancel 4x",
        "state 43 -a",
        "Submit",
        "submit ",
        " submit",
        "cancel 99999999999999999",
    ],
)
def test_bridge__refuses_all_else(cluster: Cluster, words: str) -> None:
    told = drive(cluster, f"tell(ask(1, {words!r}, ''))")
    assert told == [2, "this bridge knows: submit, cancel JOB, state JOB\n"]
    assert len(cluster.calls("sbatch")) == 1
    assert not (cluster.folder / "stolen").exists()


def test_bridge__touches_no_foreign_job(cluster: Cluster) -> None:
    told = drive(
        cluster,
        "ask(1, 'submit', '')\n"
        "tell([ask(2, 'cancel 42'), ask(3, 'state 7'), ask(4, 'cancel 043')])",
    )
    assert told == [[2, f"job {job} is none of this run\n"] for job in ("42", "7", "043")]
    assert not cluster.calls("scontrol")


def test_bridge__submits_no_link_and_nothing_that_is_not_there(cluster: Cluster) -> None:
    told = drive(
        cluster,
        "(bridge / '1.sh').symlink_to('/etc/passwd')\ntell([ask(1, 'submit'), ask(2, 'submit')])",
    )
    assert told == [[2, "there is no script 1.sh\n"], [2, "there is no script 2.sh\n"]]


@pytest.mark.jobs
def test_bridge__reads_lines_that_come_in_parts(cluster: Cluster) -> None:
    told = drive(
        cluster,
        "(bridge / '7.sh').write_text('')\n"
        "for part in ('7 su', 'bm', 'it\\n'): write(part); time.sleep(1.3)\n"
        "write('\\n\\nrubbish\\n\\x00\\xff\\n' + 5000 * 'x' + '\\n')\n"
        "write(300 * 'y'); time.sleep(1.3); write(' 9 submit\\n')\n"
        "tell([answer(7), ask(8, 'state 43')[0]])",
    )
    assert told == [[0, "43\n"], 0]
    assert len(cluster.calls("sbatch")) == 2


@pytest.mark.jobs
def test_bridge__serves_twenty_at_once(cluster: Cluster) -> None:
    told = drive(
        cluster,
        "answers = {}\n"
        "def one(number): answers[number] = ask(number, 'submit', f'# {number}')\n"
        "threads = [threading.Thread(target=one, args=[n]) for n in range(1, 21)]\n"
        "[thread.start() for thread in threads]\n"
        "[thread.join() for thread in threads]\n"
        "tell(sorted(answers.values()))",
    )
    assert told == [[0, f"{job}\n"] for job in range(43, 63)]
    listed = (cluster.out / "slurm" / "worker-jobs").read_text("utf-8").split()
    assert sorted(listed) == [str(job) for job in range(43, 63)]
    assert {cluster.script(n) for n in range(2, 22)} == {f"# {n}" for n in range(1, 21)}


def test_bridge__hands_on_what_sbatch_says(cluster: Cluster) -> None:
    submitted(cluster)
    cluster.does("sbatch", "echo 'sbatch: error: no room 17' >&2; exit 1")
    cluster.drive_by(_DRIVER + "tell(ask(1, 'submit', ''))")
    assert cluster.run_job() == 0
    assert json.loads((cluster.folder / "told").read_text("utf-8")) == [
        1,
        "sbatch: error: no room 17\n",
    ]


@pytest.mark.parametrize(
    ("sacct", "squeue", "told"),
    [
        ("echo 'OUT_OF_MEMORY|0:125'", "", [0, "JobId=43 JobState=OUT_OF_MEMORY ExitCode=0:125\n"]),
        ("echo 'CANCELLED by 1001|0:15'", "", [0, "JobId=43 JobState=CANCELLED ExitCode=0:15\n"]),
        ("exit 1", "echo Invalid job id specified; exit 1", [0, "JobId=43 JobState=GONE\n"]),
        ("exit 1", "echo no controller; exit 1", [1, "slurm_load_jobs error: x\n"]),
    ],
)
def test_bridge__tells_a_forgotten_job_from_a_silent_slurm(
    cluster: Cluster, sacct: str, squeue: str, told: list[object]
) -> None:
    cluster.program("sacct", f"#!/bin/bash\n{sacct}\n")
    cluster.does("squeue", squeue)
    cluster.does("scontrol", 'echo "slurm_load_jobs error: x" >&2; exit 1')
    answered = drive(cluster, "ask(1, 'submit', '')\ntell(ask(2, 'state 43'))")
    assert isinstance(answered, list)
    assert [answered[0], answered[1].removeprefix("slurm_load_jobs error: x\n")] == [
        told[0],
        str(told[1]).removeprefix("slurm_load_jobs error: x\n"),
    ]


def test_prologue__lets_a_worker_run_in_the_image_on_a_bare_node(cluster: Cluster) -> None:
    told = drive(cluster, "tell((bridge / 'prologue.sh').read_text())")
    line = "in_image hyperhpc worker 'a b' --name \"it's\" --memory 5"
    script = cluster.folder / "worker.sh"
    script.write_text(f"#!/usr/bin/env bash\n#SBATCH -J x\n{told}\n{line}\n", "utf-8")
    done = cluster.bash(str(script), SLURM_JOB_ID="43")
    assert done.returncode == 0, done.stderr
    call = cluster.calls("apptainer")[-1]
    assert command_of(call) == ["hyperhpc", "worker", "a b", "--name", "it's", "--memory", "5"]
    assert str(cluster.folder) in mounts_of(call)
    assert cluster.job_file()["job"] == "42"  # the driver's file is not the worker's to write


# --- the image ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("has_python", "is_prepared", "code", "did"),
    [
        (True, False, 0, "make image"),
        (True, True, 0, "make image"),
        (False, True, 0, "build.sh sif"),
        (False, False, 5, None),
    ],
)
def test_build__uses_what_the_node_has(
    cluster: Cluster, has_python: bool, is_prepared: bool, code: int, did: str | None
) -> None:
    for name in ("container", "build"):
        (cluster.folder / name).mkdir()
    (cluster.folder / "container" / "venv.sh").write_text("echo 3.11\n" if has_python else "")
    cluster.program("make", '#!/bin/bash\necho "make $*, $HYPERHPC_CACHE" >did\n')
    cluster.program("../container/build.sh", '#!/bin/bash\necho "build.sh $*" >did\n')
    if is_prepared:
        (cluster.folder / "build" / "arguments").write_text("VERSION=1\n")
    done = cluster.bash(str(JOBS / "build.sbatch"), TMPDIR=str(cluster.folder))
    assert done.returncode == code, done.stderr
    path = cluster.folder / "did"
    assert (path.read_text("utf-8").split(",")[0].strip() if path.exists() else None) == did
    if did is None:
        assert "neither make with a Python 3.11-3.13" in done.stderr
    assert not list(cluster.folder.glob("hyperhpc-build-*"))
