"""--launcher external: a cluster that was started by hand, over TLS."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from cli_case import check_refused, program, spawn
from hyperhpc.workers.security import write_keys
from run_case import assert_same_results

pytestmark = pytest.mark.workers

OPTIONS = "--models lloyd --memory-per-worker 1GiB".split()


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a scheduler with one worker, and Dask's configuration for its keys."""
    folder = tmp_path_factory.mktemp("by-hand")
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    write_keys(keys, timedelta(days=1))
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    settings = {**os.environ, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}
    settings[f"{tls}CA_FILE"] = str(keys / "certificate.pem")
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        settings[f"{tls}{role}__CERT"] = str(keys / "certificate.pem")
        settings[f"{tls}{role}__KEY"] = str(keys / "key.pem")
    log = folder / "log"

    def start(*words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *words, "--no-dashboard"]
        with log.open("ab") as file:
            return subprocess.Popen(command, env=settings, stdout=file, stderr=file)

    with ExitStack() as stack:
        scheduler = start(
            "distributed.cli.dask_scheduler", "--host", "tls://127.0.0.1", "--port", "0"
        )
        stack.callback(scheduler.wait)
        stack.callback(scheduler.terminate)
        deadline = time.monotonic() + 60
        while not (found := re.search(r"Scheduler at: +(tls://\S+)", log.read_text("utf-8"))):
            assert time.monotonic() < deadline, log.read_text("utf-8")
            time.sleep(0.1)
        words = ("--nthreads", "2", "--memory-limit", "2GiB", "--local-directory", str(folder))
        worker = start("distributed.cli.dask_worker", found[1], *words)
        stack.callback(worker.wait)
        stack.callback(worker.terminate)
        yield found[1], settings


def test_joined__gives_the_bits_of_a_local_run(
    by_hand: tuple[str, dict[str, str]], small_scene: Path, small_run: Path, tmp_path: Path
) -> None:
    address, settings = by_hand
    out = tmp_path / "joined"
    joining = ("--launcher", "external", "--address", address)
    done = subprocess.run(
        program("run", small_scene, out, *joining, *OPTIONS, "--threads-per-worker", "2"),
        env=settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert f"1 workers of {address}, 2 threads each" in done.stderr
    assert_same_results(out, small_run)
    # more memory than its worker has
    done = subprocess.run(
        program("run", small_scene, tmp_path / "more", *joining, "--memory-per-worker", "4GiB"),
        env=settings,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 5
    assert "2048 MiB for 2 threads" in done.stderr


def test_joined__without_its_keys_or_with_a_wrong_address(
    by_hand: tuple[str, dict[str, str]],
    small_scene: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, _ = by_hand
    words = ("run", small_scene, tmp_path / "out", "--launcher", "external")
    check_refused(spawn(*words, "--address", address), 6, "No cluster", "TLS")
    check_refused(spawn(*words), 3, "needs --address")
    check_refused(spawn(*words, "--address", "tcp://127.0.0.1:1"), 3, "--insecure allows it")
