"""The full analysis on three nodes, in both modes: the same bits as on one machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from slurm_case import LOGIN, NODES, Cluster, wait_until, work_folder
from submit_case import LONG_FIT, submit

from run_case import assert_same_results

pytestmark = pytest.mark.slurm

work_folder()


# of an elastic run no more than two jobs fit on a node; and it is told the network to use
@pytest.mark.parametrize(
    ("mode", "options"), [("gang", {}), ("elastic", {"MEMORY": "1900MiB", "INTERFACE": "mc0"})]
)
def test_submit__gives_the_bits_of_a_local_run(
    cluster: Cluster, host_run: Path, mode: str, options: dict[str, str]
) -> None:
    # spaces, quotes, a dollar and a comma, which separate things for one tool or another
    out = cluster.folder(f"a '{mode}', $HOME") / "out"
    run = submit(cluster, out, MODE=mode, NODES=3, WORKERS=4, **options)
    assert f"scancel {run.job}" in run.said
    seen: set[str] = set()

    def all_up() -> bool:
        seen.update(node for node in NODES if cluster.processes(node))
        return run.status().get("workers") == "4 of 4"

    wait_until("four workers are up", all_up, 90, saw=seen)
    told = cluster.on(LOGIN, "jobs/status.sh", out, cwd=cluster.shared / "checkout").stdout
    assert run.job in told
    assert "4 of 4" in told
    run.must_complete()
    assert len(seen) == 3
    assert_same_results(out, host_run)
    assert (out / "report.html").stat().st_size > 100_000
    told = cluster.on(LOGIN, "jobs/status.sh", out, cwd=cluster.shared / "checkout").stdout
    assert "complete" in told


def test_run__begun_here_is_finished_there(cluster: Cluster) -> None:
    """A laptop's run goes on as a gang; the other way round is in test_faults."""
    out = cluster.folder("begun-here") / "out"
    program = [sys.executable, "-m", "hyperhpc", "run", cluster.scene]
    with subprocess.Popen([*program, out, *LONG_FIT], stderr=subprocess.PIPE) as local:
        wait_until("it fits", lambda: "fitting" in _text(out / "status.txt"), 60)
        local.terminate()
        assert local.wait() == 143
    cluster.give(out)
    submit(cluster, out, *LONG_FIT, NODES=2, WORKERS=2).must_complete()
    other = cluster.work / "long"
    subprocess.run([*program, other, *LONG_FIT], capture_output=True, check=True)
    assert_same_results(out, other)


def _text(path: Path) -> str:
    return path.read_text("utf-8") if path.exists() else ""
