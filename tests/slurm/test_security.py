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

pytestmark = pytest.mark.slurm

work_folder()
PROBE = Path(__file__).with_name("probe.py").read_text("utf-8")
#: Does Dask get an answer at these addresses? With the keys of a folder, or with its own
#: if none is named.
INTRUDE = """
import asyncio, json, ssl, sys
from pathlib import Path
from distributed.comm import connect
from distributed.security import Security
from hyperhpc.workers.security import read_security

folder, *urls = sys.argv[1:]
security = read_security(Path(folder)) if folder else Security.temporary()

async def answers(url):
    arguments = {"require_encryption": False}
    if url.startswith("tls"):
        arguments = security.get_connection_args("client")
        arguments["ssl_context"].verify_mode = ssl.CERT_NONE
    try:
        comm = await connect(url, timeout=6, **arguments)
        await comm.write({"op": "identity", "reply": True})
        return "id" in await asyncio.wait_for(comm.read(), 6)
    except OSError:
        return False

async def ask():
    return dict(zip(urls, await asyncio.gather(*map(answers, urls))))

print(json.dumps(asyncio.run(ask())))
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


def test_strangers_are_kept_out_and_scancel_leaves_nothing_behind(
    cluster: Cluster, run: Submitted
) -> None:
    ports = alices_ports(cluster)
    folder = next(run.out.glob(".connection-*"))
    check_keys(cluster, folder)
    check_bridge(cluster, run)
    port = check_dashboard(cluster, run, folder)
    check_ports(cluster, ports, port)
    check_dask(cluster, folder, ports, port)
    assert run.status()["state"] == "running", "it was over before all was tried"
    cluster.on(LOGIN, "scancel", run.job)
    wait_until("all jobs are gone", lambda: not cluster.jobs(), 30)
    run.must_be_clean()
    assert run.status()["state"] == "stopped"
    wait_until("no port is left", lambda: not any(alices_ports(cluster).values()), 20)


def check_keys(cluster: Cluster, folder: Path) -> None:
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.glob("*.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for command in (
        ["ls", folder],
        ["cat", folder / "key.pem"],
        ["cat", folder / "scheduler.json"],
        ["cat", folder / "dashboard"],
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
    for command in (f"ls {found[0]}", f"echo 1 submit >{requests}", f"cat {found[0]}/prologue.sh"):
        done = cluster.on(node, "bash", "-c", command, user="mallory", check=False)
        assert "Permission denied" in done.stderr


def check_dashboard(cluster: Cluster, run: Submitted, folder: Path) -> int:
    """Its owner finds and sees it; nobody else finds its secret. The port."""
    told = cluster.on(LOGIN, "jobs/status.sh", run.out, cwd=cluster.shared / "checkout").stdout
    link = cluster.on(LOGIN, "cat", folder / "dashboard").stdout.strip()
    assert f"dashboard   {link}\n" in told
    found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{20,})/status", link)
    assert found, link
    way = re.search(rf"ssh -N -L {found[1]}:127\.0\.0\.1:{found[1]} -J \S+ (c\d)", run.log())
    assert way, run.log()
    look = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=90).status)"
    assert cluster.on(way[1], "python3", "-c", look, link).stdout == "200\n"
    for words in (["grep", "-rlF", found[2], run.out], ["ps", "-efww"]):
        said = cluster.on(way[1], *words, user="mallory", check=False).stdout
        assert found[2] not in said
        assert not said.startswith(str(run.out))
    return int(found[1])


def check_ports(cluster: Cluster, ports: dict[str, list[tuple[str, int]]], dashboard: int) -> None:
    """All speak TLS and want our certificate, but for srun's own and the dashboard."""
    plain = []
    for node in NODES:
        for source in (node, "c4" if node != "c4" else "c3"):
            targets = _reachable(ports, source, node)
            if not targets:
                continue
            done = cluster.on(source, "python3", "-c", PROBE, *targets, user="mallory")
            for target, found in json.loads(done.stdout).items():
                if not found["tls"] and found["http"] is not None:
                    plain.append((target, found["http"]))
                else:
                    assert found == {"http": None, "tls": True, "takes strangers": False}, target
    assert {target for target, _ in plain} == {f"127.0.0.1:{dashboard}"}
    assert {status for _, status in plain} == {403}, "without the secret all is refused"


def _reachable(ports: dict[str, list[tuple[str, int]]], source: str, node: str) -> list[str]:
    """Of the ports of a node those that a way leads to from another, or from itself."""
    targets = []
    for address, port in ports[node]:
        if 60001 <= port <= 60200:  # srun's, which Slurm protects by its own credentials
            continue
        place = f"10.77.0.1{node[1:]}" if address in ("*", "0.0.0.0", "::") else address
        if source == node or place.startswith("10.77."):
            targets.append(f"{place}:{port}")
    return targets


def check_dask(
    cluster: Cluster, folder: Path, ports: dict[str, list[tuple[str, int]]], dashboard: int
) -> None:
    """Scheduler, workers and nannies answer alice's key, and no other, from everywhere."""
    scheduler = json.loads((folder / "scheduler.json").read_text("utf-8"))
    address = next(a for a in scheduler["addresses"] if "10.77." in a)
    home = next(node for node in NODES if f"10.77.0.1{node[1:]}:" in address)
    command = ["apptainer", "-s", "exec", "--bind", cluster.shared, cluster.sif]
    command += ["python", "-c", INTRUDE]
    for source in (home, "c4"):
        found = [t for node in NODES for t in _reachable(ports, source, node)]
        urls = [f"tls://{t}" for t in found if not t.endswith(f":{dashboard}")]
        assert address in urls
        assert len(urls) >= 7, "a scheduler, three workers with their nannies"
        said = cluster.on(source, *command, folder, *urls).stdout
        assert json.loads(said) == dict.fromkeys(urls, True)
        urls += [url.replace("tls://", "tcp://") for url in urls]
        said = cluster.on(source, *command, "", *urls, user="mallory").stdout
        assert json.loads(said) == dict.fromkeys(urls, False)
