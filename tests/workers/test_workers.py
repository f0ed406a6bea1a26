"""Workers: as many as fit, TLS on every socket, nothing served to strangers."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from distributed.comm import CommClosedError

from cli_case import command_of
from hyperhpc.compute.fit import starts
from hyperhpc.compute.fit.sums import SampleOnWorkers
from hyperhpc.compute.sample import Sample
from hyperhpc.config import RunConfig
from hyperhpc.errors import IncompleteRunError, ResourceError
from hyperhpc.rundir.lock import Claim
from hyperhpc.rundir.plan import Area
from hyperhpc.rundir.progress import Progress
from hyperhpc.workers import (
    Workers,
    check_workers,
    dask_setup,
    launch_workers,
    report_worker_losses,
    sizes,
)
from hyperhpc.workers import workers as workers_module
from hyperhpc.workers.limits import read_limits

GIB = 2**30
PATHS = (
    "/", "/status", "/workers", "/metrics", "/health", "/sitemap.json", "/json/counts.json",
    "/json/identity.json", "/info/main/workers.html", "/individual-plots.json", "/proxy/1/x",
    "/statics/css/base.css", "/eventstream",
)  # fmt: skip


def config(**options: Any) -> RunConfig:
    """Options of a run on small workers."""
    small: dict[str, Any] = {"memory_per_worker": "1GiB"}
    return RunConfig(scene=Path("scene"), out=Path("out"), **(small | options))


# --- how many -------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine of 8 cores and 20 GiB."""
    monkeypatch.setattr(sizes, "usable_cores", lambda: 8)
    monkeypatch.setattr(sizes, "usable_memory", lambda: 20 * GIB)


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("count", "threads", "memory_gib", "expected"),
    [
        (None, 1, 1, 8),  # cores
        (None, 3, 1, 2),
        (None, 16, 1, 1),  # threads than cores: one worker all the same
        (None, 1, 4, 5),  # memory
        (None, 1, 20, 1),
        (20, 1, 1, 20),  # as asked for
        (1, 1, 20, 1),
    ],
)
def test_count_local_workers(
    count: int | None, threads: int, memory_gib: int, expected: int
) -> None:
    each: dict[str, Any] = {"threads_per_worker": threads, "memory_per_worker": f"{memory_gib}GiB"}
    assert sizes.count_local_workers(config(workers=count, **each)) == expected


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("count", "memory_gib", "message", "hint"),
    [
        (6, 4, "6 workers of 4.0 GiB need 24.0 GiB; this machine has 20.0 GiB", "--workers 5"),
        (None, 21, "1 worker of 21.0 GiB", "--workers 1 --memory-per-worker 20480MiB"),
        (3, 30, "3 workers of 30.0 GiB", "--workers 1 --memory-per-worker 20480MiB"),
    ],
)
def test_count_local_workers__too_much(
    count: int | None, memory_gib: int, message: str, hint: str
) -> None:
    with pytest.raises(ResourceError) as caught:
        check_workers(config(workers=count, memory_per_worker=f"{memory_gib}GiB"))
    assert caught.value.message.startswith(message)
    assert caught.value.hint == f"Give {hint}"


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_usable_memory__is_what_a_cgroup_leaves(
    tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a job's own group, which Dask does not look at."""
    group, folder, name = {
        "v1": ("3:memory:/job", "memory/job", "memory.limit_in_bytes"),
        "v2": ("0::/job", "job", "memory.max"),
    }[version]
    for file, text in (
        ("proc/self/cgroup", group), (f"sys/fs/cgroup/{folder}/{name}", str(GIB))
    ):  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(f"{text}\n")
    monkeypatch.setattr(sizes, "read_limits", lambda: read_limits(tmp_path))
    assert sizes.usable_memory() == GIB - sizes.DRIVER_BYTES
    with pytest.raises(ResourceError, match=r"1 worker of 1\.0 GiB need") as caught:
        sizes.count_local_workers(config())
    assert caught.value.hint == "Give --workers 1 --memory-per-worker 424MiB"
    (tmp_path / f"sys/fs/cgroup/{folder}/{name}").write_text(f"{450 * 2**20}\n")
    with pytest.raises(ResourceError, match="leaves 0 MiB for workers: scheduler and report need"):
        sizes.count_local_workers(config())


def test_count_local_workers__with_few_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes.resource, "getrlimit", lambda kind: (900 * 2**20, -1))
    with pytest.raises(ResourceError, match="may use 900 MiB of addresses") as caught:
        sizes.count_local_workers(config())
    assert caught.value.hint == "Type: ulimit -v unlimited"


def test_usable__is_what_this_process_has() -> None:
    assert 1 <= sizes.usable_cores() <= (os.cpu_count() or 1)
    assert GIB / 4 < sizes.usable_memory() <= psutil.virtual_memory().total


# --- what they open -------------------------------------------------------------------


def listening() -> set[tuple[str, int]]:
    """Address and port of every listening socket of this process and its children."""
    me, found = psutil.Process(), set()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            found |= {
                (connection.laddr.ip, connection.laddr.port)
                for connection in process.net_connections("inet")
                if connection.status == psutil.CONN_LISTEN
            }
    return found


def speaks_tls(port: int) -> bool:
    """True if it shows a certificate; a Dask port that does not would take plain TCP."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=2) as plain,
            context.wrap_socket(plain) as secure,
        ):
            return bool(secure.getpeercert(binary_form=True))
    except OSError:
        return False


def http_status(port: int, path: str) -> int | None:
    """Status of a plain HTTP request; None if the port does not speak HTTP."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "dashboard"])
def workers(request: pytest.FixtureRequest) -> Iterator[tuple[Workers, set[tuple[str, int]]]]:
    """Two workers, and the sockets that were opened for them."""
    before = listening()
    with launch_workers(config(workers=2, dashboard=request.param)) as started:
        assert started.client.submit(abs, -2).result() == 2
        yield started, listening() - before
    assert not listening() - before
    assert not [
        child
        for child in psutil.Process().children(recursive=True)
        if "spawn_main" in command_of(child)
    ]


@pytest.mark.workers
def test_sockets__are_on_loopback_and_speak_tls(
    workers: tuple[Workers, set[tuple[str, int]]],
) -> None:
    started, sockets = workers
    assert {address for address, _ in sockets} == {"127.0.0.1"}
    plain = {port for _, port in sockets if not speaks_tls(port)}
    secure = {port for _, port in sockets} - plain
    assert len(secure) == 5  # scheduler, two workers, two nannies
    assert len(plain) == (1 if started.dashboard else 0)
    assert all(http_status(port, "/status") is None for port in secure)


@pytest.mark.workers
def test_sockets__take_no_client_without_the_key(
    workers: tuple[Workers, set[tuple[str, int]]],
) -> None:
    from distributed.comm import CommClosedError, connect
    from distributed.security import Security

    started, _ = workers
    scheduler = started.client.scheduler.address
    stranger = Security.temporary().get_connection_args("client")

    async def knock(address: str, arguments: dict) -> None:
        comm = await connect(address, timeout=2, **arguments)
        await comm.close()

    for address, arguments in (
        (scheduler, stranger),
        (scheduler.replace("tls://", "tcp://"), {"require_encryption": False}),
    ):
        with pytest.raises((OSError, CommClosedError)):
            started.client.sync(knock, address, arguments)


@pytest.mark.workers
def test_dashboard__only_under_its_secret(workers: tuple[Workers, set[tuple[str, int]]]) -> None:
    started, sockets = workers
    if started.dashboard is None:
        return
    _, _, host, secret, page = started.dashboard.split("/")
    port = int(host.removeprefix("127.0.0.1:"))
    assert ("127.0.0.1", port) in sockets
    assert len(secret) >= 20
    assert page == "status"
    assert {path: http_status(port, path) for path in PATHS} == dict.fromkeys(PATHS, 403)
    assert http_status(port, f"/{secret}x/status") == 403
    for path in ("proxy/22/127.0.0.1", "metrics", "json/counts.json"):
        assert http_status(port, f"/{secret}/{path}") == 404
    for path in ("status", "workers", "info/main/workers.html"):
        assert http_status(port, f"/{secret}/{path}") == 200


@pytest.mark.workers
def test_workers__one_thread_per_library(workers: tuple[Workers, set[tuple[str, int]]]) -> None:
    from hyperhpc.workers.dask_setup import THREAD_VARIABLES

    started, _ = workers
    for settings in started.client.run(_settings, THREAD_VARIABLES).values():
        assert settings == {**dict.fromkeys(THREAD_VARIABLES, "1"), "query-planning": False}


def _settings(names: tuple[str, ...]) -> dict[str, object]:
    import dask

    return {
        **{name: os.environ.get(name) for name in names},
        "query-planning": dask.config.get("array.query-planning"),
    }


@pytest.mark.workers
def test_workers__leave_no_key_and_print_nothing(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key_files() -> list[Path]:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return [path for path in files if b"PRIVATE KEY" in path.read_bytes()]

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with launch_workers(config(workers=1)) as started:
        assert isinstance(started.client.submit(_fail).exception(), ZeroDivisionError)
        assert key_files() == list(tmp_path.glob("hyperhpc-*/key.pem"))
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")


def _fail() -> float:
    return 1 / 0


@contextlib.contextmanager
def _deadly(deaths: int) -> Iterator[None]:
    """Kill so many workers of this process, each before it can connect."""

    def kill() -> None:
        killed: set[int] = set()
        while len(killed) < deaths and not over.wait(0.01):
            for child in psutil.Process().children():
                if child.pid not in killed and "spawn_main" in command_of(child):
                    child.kill()
                    killed.add(child.pid)

    over = threading.Event()
    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        over.set()
        killer.join()


@pytest.mark.workers
def test_workers__that_die_while_they_start_are_replaced() -> None:
    with _deadly(2), launch_workers(config(workers=1)) as started:
        assert started.client.submit(abs, -3).result() == 3


@pytest.mark.workers
def test_workers__that_never_live_to_connect_are_given_up() -> None:
    with (
        _deadly(100),
        pytest.raises(ResourceError, match="1024 MiB has ended 3 times while it was started"),
        launch_workers(config(workers=1)),
    ):
        pass


@pytest.mark.workers
def test_workers__that_one_task_ends_again_and_again_are_told() -> None:
    said: list[str] = []
    with (
        pytest.raises(ResourceError, match="has ended 3 workers, each with 1024 MiB") as caught,
        launch_workers(config(workers=1)) as started,
        report_worker_losses(started, said.append),
    ):
        started.client.submit(os._exit, 1).result()
    assert "--memory-per-worker 1536MiB" in str(caught.value.hint)
    assert said


@pytest.mark.workers
def test_addresses__are_not_lost_by_a_timer_of_dask() -> None:
    with launch_workers(config(workers=1)) as started:
        client, is_over = started.client, threading.Event()

        async def forget_workers() -> None:  # as Dask does every two seconds
            while not is_over.is_set():
                await client._update_scheduler_info()

        client.loop.add_callback(forget_workers)
        found = [len(started.addresses()) for _ in range(300)]
        is_over.set()
        assert set(found) == {1}


@pytest.mark.smoke
@pytest.mark.workers
def test_workers__lost_all_at_once_do_their_tasks_when_they_are_back() -> None:
    with launch_workers(config(workers=1)) as started:
        client = started.client
        (place,) = client.scheduler_info()["workers"]
        os.kill(client.submit(os.getpid).result(), signal.SIGKILL)
        while started.count_connected():
            time.sleep(0.01)
        found = client.submit(abs, -3, workers=[place], allow_other_workers=True)
        assert found.result(timeout=60) == 3


@pytest.mark.workers
def test_workers__that_all_stay_away_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers_module, "NO_WORKER_TIMEOUT_S", 5.0)
    said: list[str] = []
    with (
        launch_workers(config(workers=2)) as started,
        pytest.raises(IncompleteRunError, match="All workers were lost, and none came back"),
        report_worker_losses(started, said.append),
    ):
        _work_without_workers(started)
    assert "no worker is left; waiting 5 s for another one" in said


def _work_without_workers(workers: Workers) -> None:
    names = list(workers.client.scheduler_info()["workers"])
    workers.client.retire_workers(names, close_workers=True)
    workers.apply(abs, [-3])


@pytest.mark.workers
def test_workers__calls_to_a_lost_scheduler_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    is_called = threading.Event()

    def call() -> None:
        is_called.set()
        raise CommClosedError("already closed")

    with launch_workers(config(workers=1)) as started:
        started.client.loop.add_callback(call)
        assert is_called.wait(60)
        assert started.client.submit(abs, -3).result() == 3
    assert "already closed" not in caplog.text


@pytest.mark.workers
def test_workers__of_a_script_do_not_run_it_again(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from hyperhpc.config import load_config\n"
        "from hyperhpc.workers import launch_workers\n"
        "print('once')\n"
        "with launch_workers(load_config('scene', 'out', {'workers': 1})) as workers:\n"
        "    print(workers.client.submit(abs, -3).result())\n",
        "utf-8",
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n3\n", "")


def test_silence_dask__also_of_what_it_calls_critical() -> None:
    """A scheduler says so, with a traceback, when its client is killed while it writes."""
    text = (
        "import logging\n"
        "from hyperhpc.workers.dask_setup import silence_dask\n"
        "silence_dask()\n"
        "logging.getLogger('distributed.scheduler').critical('Closed comm')\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- long tasks and starts side by side -----------------------------------------------


@pytest.mark.workers
@pytest.mark.parametrize("count", [1, 2])
def test_starts__are_not_scheduled_on_a_worker_with_a_long_task(count: int, tmp_path: Path) -> None:
    sample = Sample.at(tmp_path, Area(0, 9, 0, 9), 1, 5, "int16")
    mark = tmp_path / "four starts are done"

    def long_task() -> str:
        from distributed import get_worker

        while count > 1 and not mark.exists():
            time.sleep(0.01)
        return get_worker().address

    def start(number: int) -> tuple[int, str]:
        from distributed import get_worker

        if number == 3:
            mark.touch()
        return number, get_worker().address

    with launch_workers(config(workers=count)) as started:
        started.client.wait_for_workers(count)
        long = started.pin(long_task)
        tasks = [(number,) for number in range(6)]
        data = SampleOnWorkers(sample, started, Claim(tmp_path / ".lock", "not asked"))
        dealt: Any = starts._schedule(data, start, tasks, Progress())
        place = long.result(timeout=60)
        assert place == started.addresses()[0]
    assert [number for number, _ in dealt] == list(range(6))
    if count > 1:
        assert place not in {address for _, address in dealt[:4]}


@pytest.mark.workers
def test_launch__a_scheduler_that_ends_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers need longer to start than this scheduler waits for work."""
    settings = dask_setup.dask_settings

    def broken(**options: Any) -> dict[str, Any]:
        odd = {"scheduler.idle-timeout": "500ms", "comm.timeouts.connect": "2s"}
        return settings(**options) | {f"distributed.{key}": value for key, value in odd.items()}

    monkeypatch.setattr(dask_setup, "dask_settings", broken)
    with pytest.raises(CommClosedError, match="the scheduler ended"):
        launch_workers(config(workers=1)).__enter__()
