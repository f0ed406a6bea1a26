"""Signals at any moment, and the same command twice at once: the next call sets all right."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attack import Attack, Case

from cli_case import program

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGKILL)
#: Commands that write a file or a store of their own.
_WRITERS: tuple[tuple[str, ...], ...] = (
    ("extract", "scene.zarr", "spectra.csv", "--points", "points.csv"),
    ("export", "out", "clusters.csv"),
    ("export", "out", "maps.tif"),
    ("ingest", "scene.zarr", "store.zarr"),
)
#: Seconds within which the signal comes; a command takes one to five.
_LATEST_S = 3.0


def _draw_signal(rng: Random, folder: Path) -> Case:
    words = rng.choice(_WRITERS)
    numbers = [rng.choice(_SIGNALS) for _ in range(rng.choice((1, 1, 2)))]
    delays_s = [rng.uniform(0.3, _LATEST_S), *(rng.uniform(0, 0.3) for _ in numbers[1:])]

    def disturb(process: subprocess.Popen[bytes]) -> None:
        for number, delay_s in zip(numbers, delays_s, strict=True):
            time.sleep(delay_s)  # the moment is what is drawn
            process.send_signal(number)

    names = ", ".join(number.name for number in numbers)
    what = f"{' '.join(words)}: {names} after {delays_s} s"
    return Case(what, words, is_program=True, during=disturb, again=True)


def _draw_twice(rng: Random, folder: Path) -> Case:
    words = rng.choice(_WRITERS)
    delay_s = rng.uniform(0, 1)

    def double(process: subprocess.Popen[bytes]) -> None:
        time.sleep(delay_s)
        done = subprocess.run(program(*words), cwd=folder, capture_output=True, check=False)
        assert done.returncode in (0, 3, 5, 7), done
        assert b"Traceback" not in done.stderr, done

    what = f"{' '.join(words)}: a second time {delay_s} s later"
    return Case(what, words, is_program=True, during=double, again=True)


def rows() -> Iterator[Attack]:
    """This part of the table."""
    yield Attack("races", "signals", frozenset({0, 3}), _draw_signal)
    yield Attack("races", "the same command twice", frozenset({0, 3}), _draw_twice)
