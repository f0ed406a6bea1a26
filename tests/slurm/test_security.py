"""A stranger on the cluster: mallory tries all doors of a run, on its nodes and beside them."""

from __future__ import annotations

import json
import re
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from slurm_case import LOGIN, NODES, USERS, Cluster, wait_until, work_folder
from submit_case import ENDLESS_FIT, Submitted, submit

work_folder()
PROBE = Path(__file__).with_name("probe.py").read_text("utf-8")
#: What mallory's own Dask would do to a scheduler.
INTRUDE = """
import sys
from distributed import Client
from distributed.security import Security
security = Security.temporary() if sys.argv[1].startswith("tls") else None
try:
    print("IN", Client(sys.argv[1], security=security, timeout=6).run_on_scheduler(id))
except Exception as error:
    print("OUT", type(error).__name__)
"""


@pytest.fixture(scope="module", params=["gang", "elastic"])
def run(request: pytest.FixtureRequest, cluster: Cluster) -> Submitted:
    """A run with a dashboard, under way; ended by the test that asks for it last."""
    out = cluster.folder(f"secret-{request.param}") / "out"
    options = {"MODE": request.param, "NODES": 2, "WORKERS": 3, "DASHBOARD": 1}
    run = submit(cluster, out, *ENDLESS_FIT, **options)
    run.wait_stage("fitting")
    wait_until("three workers are up", lambda: run.status().get("workers") == "3 of 3", 60)
    return run


def alices_ports(cluster: Cluster) -> dict[str, list[tuple[str, int]]]:
    return {
        node: [(p.address, p.port) for p in cluster.listening(node) if p.uid == USERS["alice"]]
        for node in NODES
    }


def test_strangers_are_kept_out(cluster: Cluster, run: Submitted) -> None:
    ports = alices_ports(cluster)
    check_keys(cluster, run)
    check_bridge(cluster, run)
    check_ports(cluster, run, ports)
    check_dask(cluster, run, ports)
    assert run.status()["state"] == "running", "it was over before all was tried"
    cluster.on(LOGIN, "scancel", run.job)
    wait_until("all jobs are gone", lambda: not cluster.jobs(), 30)
    run.must_be_clean()
    wait_until("no port is left", lambda: not any(alices_ports(cluster).values()), 20)


def check_keys(cluster: Cluster, run: Submitted) -> None:
    folder = next(run.out.glob(".connection-*"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for command in (
        ["ls", folder],
        ["cat", folder / "key.pem"],
        ["cat", folder / "scheduler.json"],
    ):
        for host in (LOGIN, *NODES):
            assert cluster.on(host, *command, user="mallory", check=False).returncode != 0
    shown = cluster.on(
        LOGIN, "openssl", "x509", "-noout", "-enddate", "-in", folder / "certificate.pem"
    ).stdout
    end = datetime.strptime(shown.strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z")
    left = end.replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(days=1) < left < timedelta(days=1, hours=2), "walltime and a day"


def check_bridge(cluster: Cluster, run: Submitted) -> None:
    if "mode: elastic" not in (run.out / "slurm" / "job").read_text("utf-8"):
        return
    node = cluster.job(run.job)["NodeList"]
    found = cluster.on(node, "bash", "-c", "ls -d /tmp/hyperhpc-bridge-*").stdout.split()
    assert len(found) == 1
    requests = f"{found[0]}/requests"
    for command in (
        f"ls {found[0]}",
        f"echo 1 submit >{requests}",
        f"cat {found[0]}/prologue.sh",
    ):
        done = cluster.on(node, "bash", "-c", command, user="mallory", check=False)
        assert "Permission denied" in done.stderr


def check_ports(
    cluster: Cluster, run: Submitted, ports: dict[str, list[tuple[str, int]]]
) -> None:
    """All speak TLS and want our certificate, but for srun's own and the dashboard."""
    dashboard = re.search(
        r"dashboard: http://127\.0\.0\.1:(\d+)/([\w-]{20,})/status", run.log()
    )
    assert dashboard, run.log()
    assert re.search(
        rf"ssh -N -L {dashboard[1]}:127\.0\.0\.1:{dashboard[1]} -J \S+ c\d", run.log()
    )
    plain = []
    for node in NODES:
        # srun's, which Slurm protects by its own credentials
        mine = [(a, p) for a, p in ports[node] if not 60001 <= p <= 60200]
        targets = [f"{_reachable(address, node)}:{port}" for address, port in mine]
        for source in (node, "c4" if node != "c4" else "c3"):
            if not targets:
                continue
            # other addresses lead to that node itself, or nowhere
            near = [t for t in targets if source == node or t.startswith("10.77.")]
            done = cluster.on(source, "python3", "-c", PROBE, *near, user="mallory")
            for target, found in json.loads(done.stdout).items():
                if not found["tls"] and found["http"] is not None:
                    plain.append((target, found["http"]))
                else:
                    assert found == {"http": None, "tls": True, "takes strangers": False}, (
                        target
                    )
    assert {target for target, _ in plain} == {f"127.0.0.1:{dashboard[1]}"}
    assert {status for _, status in plain} == {404}, "without the secret there is nothing"


def _reachable(address: str, node: str) -> str:
    return f"10.77.0.1{node[1:]}" if address in ("*", "0.0.0.0", "::") else address


def check_dask(
    cluster: Cluster, run: Submitted, ports: dict[str, list[tuple[str, int]]]
) -> None:
    """Dask's own client, with a key of its own and with none."""
    scheduler = json.loads((next(run.out.glob(".connection-*")) / "scheduler.json").read_text())
    address = next(a for a in scheduler["addresses"] if "10.77." in a)
    command = ["apptainer", "-s", "exec", cluster.sif, "python", "-c", INTRUDE]
    for url in (address, address.replace("tls://", "tcp://")):
        said = cluster.on("c4", *command, url, user="mallory", check=False).stdout
        assert said.startswith("OUT"), said
