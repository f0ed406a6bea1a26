"""jobs/status.sh: what it makes of the files in OUT and of what Slurm says."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs_case import JOBS, UGLY, Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path / UGLY)


RUNNING = {
    "state": "running",
    "stage": "classify",
    "tiles": "37 of 120",
    "pixels_per_second": "81000",
    "seconds_left": "95",
    "workers": "4 of 4",
    "job": "42",
    "message": "worker job 44 on c2 ended: NODE_FAIL; another is submitted",
    "updated": "2020-01-01T00:00:00+00:00",
}


def write_status(cluster: Cluster, values: dict[str, str]) -> None:
    text = "".join(f"{key}: {value}\n" for key, value in values.items())
    (cluster.out / "status.txt").write_text(text, "utf-8")


def shown(cluster: Cluster, **variables: str) -> dict[str, str]:
    done = cluster.bash(str(JOBS / "status.sh"), str(cluster.out), **variables)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return {line[:11].strip(): line[12:] for line in done.stdout.splitlines()}


def test_status__of_nothing_of_ours_ends_with_3(cluster: Cluster) -> None:
    done = cluster.bash(str(JOBS / "status.sh"), str(cluster.folder))
    assert done.returncode == 3
    assert "holds no run of hyperhpc" in done.stderr
    assert cluster.bash(str(JOBS / "status.sh")).returncode == 2


def test_status__of_a_queued_job_tells_slurms_reason(cluster: Cluster) -> None:
    cluster.submit()
    cluster.does("squeue", "echo 'PENDING|Resources||30:00'")
    lines = shown(cluster)
    assert lines["job"] == "42 (gang, minicluster): PENDING (Resources)"
    assert lines["run"] == "has not begun"
    assert lines["log"] == str(cluster.log())


def test_status__of_a_running_job(cluster: Cluster) -> None:
    cluster.submit()
    write_status(cluster, RUNNING)
    cluster.does("squeue", "echo 'RUNNING|None|c[1-2]|12:31'")
    lines = shown(cluster)
    assert lines["job"] == "42 (gang, minicluster): RUNNING on c[1-2], 12:31 left"
    assert lines["run"] == "running (classify)"
    assert lines["workers"] == "4 of 4"
    assert lines["tiles"] == "37 of 120"
    assert lines["rate"] == "81000 pixels a second"
    assert lines["left"] == "about 95 s"
    assert lines["message"].startswith("worker job 44 on c2 ended: NODE_FAIL")
    assert "note" not in lines


def test_status__says_when_there_is_no_sign_of_life(cluster: Cluster) -> None:
    cluster.submit()
    write_status(cluster, RUNNING)
    lines = shown(cluster)
    assert lines["job"].endswith("ended hard, with no time to say why")
    assert lines["note"].startswith("no sign of life since 2020-01-01T00:00:00+00:00")


def test_status__tells_how_a_job_ended(cluster: Cluster) -> None:
    cluster.does("srun", 'echo "srun: error: c1: task 3: Out Of Memory" >&2; exit 137')
    cluster.submit()
    cluster.run_job(SLURM_RESTART_COUNT="1")
    lines = shown(cluster)
    assert lines["job"] == "42 (gang, minicluster): ended with exit code 5"
    assert lines["job error"].startswith("a task was killed by Slurm for memory")
    assert lines["restarts"] == "1, by Slurm"


def test_status__of_a_job_that_slurm_starts_again_is_not_that_it_ended(cluster: Cluster) -> None:
    cluster.submit()
    cluster.run_job()
    cluster.does("squeue", "echo 'PENDING|BeginTime||30:00'")
    assert shown(cluster)["job"].endswith(": PENDING (BeginTime)")
    cluster.does("squeue", "echo 'COMPLETING|None|c1|30:00'")
    assert shown(cluster)["job"].endswith(": ended with exit code 0")


def test_status__counts_worker_jobs(cluster: Cluster) -> None:
    cluster.submit(MODE="elastic")
    cluster.does(
        "squeue",
        '[[ "$*" == *--name=* ]] || { echo "RUNNING|None|c1|9:00"; exit; }\n'
        'printf "RUNNING|None\nPENDING|Resources\nRUNNING|None\n"',
    )
    jobs = shown(cluster)["worker jobs"].split(", ")
    assert sorted(jobs) == ["1 PENDING (Resources)", "2 RUNNING"]
    assert "--name=hyperhpc-worker-42" in cluster.calls("squeue")[-1]


def test_status__does_not_take_an_earlier_jobs_words_for_this_ones(cluster: Cluster) -> None:
    cluster.submit()
    write_status(cluster, {**RUNNING, "job": "41", "state": "stopped"})
    lines = shown(cluster)
    assert lines["before"] == "job 41: stopped (classify)"
    assert "tiles" not in lines


def test_status__tells_why_a_worker_died(cluster: Cluster) -> None:
    cluster.submit(MODE="elastic")
    (cluster.out / "slurm" / "worker-jobs").write_text("43\n44\n45\n")
    cluster.does(
        "scontrol",
        'case $4 in 43) s="RUNNING Reason=None" ;;\n'
        '44) s="OUT_OF_MEMORY Reason=OutOfMemory" ;; *) exit 1 ;; esac\n'
        'echo "JobId=$4 JobState=$s ExitCode=0:125 X=y"',
    )
    assert shown(cluster)["lost worker"] == "job 44: OUT_OF_MEMORY, reason OutOfMemory, exit 0:125"


def test_status__tells_who_may_read_it_where_the_dashboard_is(cluster: Cluster) -> None:
    cluster.submit()
    assert "dashboard" not in shown(cluster)
    for job in ("41", "42"):
        (cluster.out / f".connection-{job}-0").mkdir()
        link = f"http://127.0.0.1:8787/secret-of-{job}/status"
        (cluster.out / f".connection-{job}-0" / "dashboard").write_text(f"{link}\n")
    assert shown(cluster)["dashboard"] == "http://127.0.0.1:8787/secret-of-42/status"


def test_status__works_without_slurm(cluster: Cluster) -> None:
    cluster.submit()
    cluster.login_node_only()
    write_status(cluster, RUNNING)
    lines = shown(cluster)
    assert lines["job"].endswith("unknown: there is no squeue here")
    assert lines["tiles"] == "37 of 120"
