"""One row of the table of attacks, one case of it, and how its end is judged."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from cli_case import Outcome, Program, call, program

#: Attacks where tests/attacks is not named and its options are not known: 60 of them in
#: ``make test``, which leaves out the slowest rows.
FEW = 72
#: Exit codes of an error that a user can correct, 2 (usage) included.
REFUSED = frozenset({2, 3, 4, 5, 6, 7})
#: Seconds for one command; the slowest take ten on a busy machine.
PATIENCE_S = 60
#: Files that name the path of their source and the time.
_STAMPED = ("store.zarr/ingest.json", "store.zarr/checksums.json")
#: What a command that replaces a file calls the old one.
_KEPT = re.compile(r"\.old-\d+\.")
#: What a file is called until it is whole, or while it is used.
_UNFINISHED = re.compile(r"\.part(\b|-)|\.tmp\b|^\.lock|^\.connection|~$")


@dataclass(frozen=True)
class Case:
    """A command in hostile surroundings.

    ``what``: In words, for whoever reads a finding. ``words``: The command; relative paths are
    those of the folder of the case. ``like``: The command that it must agree with if it ends
    well, in untouched surroundings; itself by default. ``environment``: Variables it is given;
    None takes one away. ``limits``: Of the process, by the number of ``resource``.
    ``redirect``: Paths for its standard streams, by 1 and 2. ``is_program``: True if it must be
    a process of its own. ``during``: What happens while it runs. ``again``: True if it may end
    anyhow, and the same command right after it must set all right.
    """

    what: str
    words: tuple[str, ...]
    like: tuple[str, ...] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    limits: Mapping[int, int] = field(default_factory=dict)
    redirect: Mapping[int, str] = field(default_factory=dict)
    is_program: bool = False
    during: Callable[[subprocess.Popen[bytes]], None] | None = None
    again: bool = False


@dataclass(frozen=True)
class Attack:
    """One row of the table.

    ``ends``: Exit codes that are right. 0 means: with the bits of the undisturbed command; any
    other: with one message, no traceback, and nothing that looks like a result.
    ``draw``: Prepares a case in its folder.
    """

    kind: str
    name: str
    ends: frozenset[int]
    draw: Callable[[Random, Path], Case]


@dataclass(frozen=True)
class Result:
    """How a command has ended, and the files that it has made or changed, by their names."""

    outcome: Outcome
    files: Mapping[str, bytes]


def run_case(case: Case, folder: Path) -> Result:
    """Run the command of a case in its folder; once more where the case says so."""
    before = dict(_files(folder))
    outcome = _run(case, folder)
    if case.again and outcome.code != 0:
        _check_words(outcome)
        outcome = _run(replace(case, during=None), folder)
    made = [name for name, state in _files(folder) if before.get(name) != state]
    return Result(outcome, {name: (folder / name).read_bytes() for name in made})


def _run(case: Case, folder: Path) -> Outcome:
    temporary = folder.with_name(f"{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    if case.is_program:
        outcome = _run_program(case, folder, temporary)
    else:
        old = Path.cwd()
        os.chdir(folder)
        try:
            outcome = call(*case.words)
        finally:
            os.chdir(old)
    left = [path.name for path in temporary.iterdir()]
    assert not left or outcome.code == -signal.SIGKILL, f"left in $TMPDIR: {left}"
    return outcome


def _check_words(outcome: Outcome) -> None:
    assert "Traceback" not in outcome.err + outcome.out, outcome


def judge(attack: Attack, case: Case, found: Result, alone: Callable[[], Result]) -> str:
    """The label of a case.

    Raises
    ------
    AssertionError
        What must not be.
    """
    outcome = found.outcome
    said = f"{case.what}\n{outcome}"
    assert outcome.code in attack.ends, f"exit code {outcome.code}: {said}"
    _check_words(outcome)
    unfinished = [n for n in found.files if any(map(_UNFINISHED.search, Path(n).parts))]
    assert not unfinished, f"left behind: {unfinished}; {said}"
    is_whole = case.again and "exists already" in outcome.err  # it was done before the signal
    if outcome.code == 0 or is_whole:
        expected = alone()
        assert expected.outcome.code == 0, expected
        if 1 not in case.redirect and not is_whole:
            assert steady(outcome.out) == steady(expected.outcome.out), f"prints otherwise: {said}"
        files = {name: data for name, data in found.files.items() if not _KEPT.search(name)}
        differing = [
            name
            for name in expected.files.keys() | files.keys()
            if name not in _STAMPED and expected.files.get(name) != files.get(name)
        ]
        assert not differing, f"other bytes: {differing}; {said}"
        return "unchanged"
    assert not found.files, f"written all the same: {sorted(found.files)}; {said}"
    if outcome.code in REFUSED and 2 not in case.redirect:
        assert len(outcome.error) < 8000, said  # there is exactly one
        assert outcome.code == 2 or outcome.hint, f"no hint: {said}"
    return f"refused ({outcome.code})"


def steady(text: str) -> list[str]:
    """Lines without those that depend on the place and the moment: paths, free space, time."""
    return [line for line in text.splitlines() if not re.search(r'"scene"|"free|"seconds"', line)]


def _files(folder: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Regular files below a folder, but not through links, and what a change of one changes."""
    for root, _, names in os.walk(os.fsencode(folder)):
        for name in names:
            path = os.path.join(root, name)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode):
                state = (found.st_ino, found.st_size, found.st_mtime_ns)
                yield os.fsdecode(os.path.relpath(path, os.fsencode(folder))), state


def _run_program(case: Case, folder: Path, temporary: Path) -> Outcome:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    for name, value in case.environment.items():
        environment.pop(name, None)
        if value is not None:
            environment[name] = value

    def confine() -> None:
        for number, limit in case.limits.items():
            resource.setrlimit(number, (limit, limit))

    streams = {1: subprocess.PIPE, 2: subprocess.PIPE}
    opened = {number: os.open(path, os.O_WRONLY) for number, path in case.redirect.items()}
    with Program(
        program(*case.words),
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=opened.get(1, streams[1]),
        stderr=opened.get(2, streams[2]),
        preexec_fn=confine if case.limits else None,
    ) as process:
        for number in opened.values():
            os.close(number)
        try:
            if case.during is not None:
                case.during(process)
            out, err = process.communicate(timeout=PATIENCE_S)
        except BaseException as error:
            process.send_signal(signal.SIGKILL)
            error.add_note(case.what)
            raise
    return Outcome(
        process.returncode, (out or b"").decode("utf-8", "replace"),
        (err or b"").decode("utf-8", "replace"),
    )  # fmt: skip
