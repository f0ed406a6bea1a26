"""Limits of a machine: full disks, few files, small files, closed streams, little memory."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from random import Random

from attack import REFUSED, Attack, Case
from world import COMMANDS

#: Limits of a process, and between which values they are drawn. Below these nothing that uses
#: numpy can be loaded, whatever its name.
_LIMITS = {
    resource.RLIMIT_NOFILE: (24, 256),
    resource.RLIMIT_FSIZE: (0, 40_000),
    resource.RLIMIT_AS: (1_200_000_000, 3_000_000_000),
    resource.RLIMIT_STACK: (512_000, 8_000_000),
    resource.RLIMIT_CORE: (0, 0),
}
_NAMES = {number: name for name, number in vars(resource).items() if name.startswith("RLIMIT_")}


def _draw_limit(rng: Random, folder: Path) -> Case:
    number = rng.choice(sorted(_LIMITS))
    limit = rng.randint(*_LIMITS[number])
    words = COMMANDS[rng.choice(sorted(COMMANDS))]
    what = f"{words[0]} with {_NAMES[number]} {limit}"
    return Case(what, words, limits={number: limit}, is_program=True)


def _draw_streams(rng: Random, folder: Path) -> Case:
    numbers = rng.choice(((1,), (2,), (1, 2)))
    words = COMMANDS[rng.choice(sorted(COMMANDS))]
    redirect = {number: rng.choice(("/dev/full", "/dev/null")) for number in numbers}
    return Case(f"{words[0]} with {redirect}", words, redirect=redirect, is_program=True)


def rows() -> Iterator[Attack]:
    """This part of the table."""
    yield Attack("limits", "of a process", frozenset({0}) | REFUSED, _draw_limit)
    yield Attack("limits", "full streams", frozenset({0, 5}), _draw_streams)
