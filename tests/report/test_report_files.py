"""Files of the report: whole or not there, and no process left, whatever happens to it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from hyperhpc.files import remove_partial_files
from hyperhpc.report import write_report
from report_case import write_case

pytestmark = pytest.mark.e2e
#: Small, but with enough figures that both processes are busy for a while.
CASE = {"shape": (40, 50), "points": 1, "levels": (1,)}


def hidden_files(out: Path) -> list[Path]:
    return [path for path in out.rglob(".*") if path.is_file() and path.name != ".zattrs"
            and not path.name.startswith((".zarray", ".zgroup"))]  # fmt: skip


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 100 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", str(folder)]
    if subprocess.run(words, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here: run the tests as root, outside a container")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_write_report__on_a_full_disk_leaves_what_was_there(disk: Path) -> None:
    out = disk / "out"
    write_case(out, **CASE)
    before = write_report(out).read_bytes()
    pictures = {path: path.read_bytes() for path in (out / "figures").iterdir()}
    used = psutil.disk_usage(str(disk)).used
    size = f"remount,size={used // 1024 + 8}k"
    subprocess.run(["mount", "-o", size, str(disk)], check=True)
    with pytest.raises(OSError, match="No space left"):
        write_report(out)
    assert (out / "report.html").read_bytes() == before
    assert {path: path.read_bytes() for path in (out / "figures").iterdir()} == pictures


def start_report(out: Path) -> subprocess.Popen[str]:
    """`hyperhpc report` at work: it has written its first picture."""
    write_case(out, **CASE)
    (out / "plan.json").write_text("{}")
    words = [sys.executable, "-m", "hyperhpc", "report", str(out)]
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("figures/*.png")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_report__stops_at_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    process = start_report(tmp_path / "out")
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in said
    assert not hidden_files(tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()


def test_report__that_is_killed_leaves_whole_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start_report(out)
    process.kill()
    process.communicate()
    for path in out.glob("figures/*.png"):
        with Image.open(path) as image:
            image.load()
    remove_partial_files(out)
    assert not hidden_files(out)
    assert write_report(out).exists()
