"""What lies where a file is expected: pipes, devices, loops, damage, odd names."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random

from attack import REFUSED, Attack, Case
from world import COMMANDS, READS_OUT, READS_SCENE


def _fifo(path: Path, rng: Random) -> None:
    os.mkfifo(path)


def _socket(path: Path, rng: Random) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has 108 bytes at most
    try:
        with closing(socket.socket(socket.AF_UNIX)) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _link(target: str) -> Callable[[Path, Random], None]:
    def make(path: Path, rng: Random) -> None:
        path.symlink_to(target)

    return make


def _loop(path: Path, rng: Random) -> None:
    path.symlink_to(path.name)


def _folder(path: Path, rng: Random) -> None:
    path.mkdir()


def _bytes(path: Path, rng: Random) -> None:
    path.write_bytes(rng.randbytes(rng.choice((1, 7, 512, 70_000))))


def _text(*texts: str) -> Callable[[Path, Random], None]:
    def make(path: Path, rng: Random) -> None:
        path.write_bytes(rng.choice(texts).encode("utf-8", "surrogatepass"))

    return make


def _hole(path: Path, rng: Random) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


#: What is put in the place of a file; none of it holds what is wanted.
_ODDITIES: dict[str, Callable[[Path, Random], None]] = {
    "a pipe": _fifo,
    "a socket": _socket,
    "a link to /dev/zero": _link("/dev/zero"),
    "a link to /dev/null": _link("/dev/null"),
    "a link to /dev/tty": _link("/dev/tty"),
    "a link to nothing": _link("nothing"),
    "a link to itself": _loop,
    "a link to /proc/self/mem": _link("/proc/self/mem"),
    "a folder": _folder,
    "random bytes": _bytes,
    "no byte": _text(""),
    "odd JSON": _text("{}", "[]", "null", "1", '"x"', "[1]", "{", '{"a": 1e999}', "[" * 5000,
    "NaN"),
    "zeros": _text("\0" * 4096),
    "one TiB of a hole": _hole,
}  # fmt: skip

#: Inputs that a command is given by name, and the command. PLACE is the odd one's.
_INPUTS: dict[str, tuple[str, ...]] = {
    "a scene (info)": ("info", "PLACE"),
    "a scene (plan)": ("plan", "PLACE", "new"),
    "a scene (spectrum)": ("spectrum", "PLACE", "--x", "517020", "--y", "4525980"),
    "points": ("extract", "scene.zarr", "spectra.csv", "--points", "PLACE"),
    "an area": ("plan", "scene.zarr", "new", "--aoi", "PLACE"),
    "wavelengths": ("info", "scene.zarr", "--wavelengths", "PLACE"),
    "options": ("plan", "scene.zarr", "new", "--config", "PLACE"),
    "a model": ("plan", "scene.zarr", "new", "--apply-model", "PLACE"),
    "a run (verify)": ("verify", "PLACE"),
    "a run (status)": ("status", "PLACE"),
    "a run (export)": ("export", "PLACE", "maps.tif"),
    "a run (compare)": ("compare", "out", "PLACE"),
    "a run (report)": ("report", "PLACE"),
}
_ENDINGS = (
    "",
    ".csv",
    ".geojson",
    ".gpkg",
    ".h5",
    ".json",
    ".tif",
    ".toml",
    ".zarr",
    ".zip",
    ".hdr",
)
_NAMES = (
    "a b", "-x", "x\ny", "x'y\"z", "x" * 250, "x;y&z", "$HOME", "x\udcff", "%d%s", "ü😀", "#?x",
    "a:b",
)  # fmt: skip


def _draw_input(rng: Random, folder: Path) -> Case:
    slot, oddity = rng.choice(sorted(_INPUTS)), rng.choice(sorted(_ODDITIES))
    if (slot, oddity) == ("options", "no byte"):
        oddity = "zeros"  # an empty file of options is a file of options
    name = f"odd{rng.choice(_ENDINGS)}"
    _ODDITIES[oddity](folder / name, rng)
    words = tuple(name if word == "PLACE" else word for word in _INPUTS[slot])
    return Case(f"{oddity} as {slot}: {name}", words)


def _replace(rng: Random, folder: Path, root: str, command: str) -> Case:
    """Put something else in the place of one file of a scene or a run."""
    files = sorted(path for path in (folder / root).rglob("*") if path.is_file())
    victim, oddity = rng.choice(files), rng.choice(sorted(_ODDITIES))
    victim.unlink()
    _ODDITIES[oddity](victim, rng)
    return Case(f"{command}: {oddity} as {victim.relative_to(folder)}", COMMANDS[command])


def _draw_scene_file(rng: Random, folder: Path) -> Case:
    return _replace(rng, folder, "scene.zarr", rng.choice(READS_SCENE))


def _draw_run_file(rng: Random, folder: Path) -> Case:
    return _replace(rng, folder, "out", rng.choice(READS_OUT))


def _draw_name(rng: Random, folder: Path) -> Case:
    """The same content under an odd name."""
    command = rng.choice(sorted(COMMANDS))
    old = "scene.zarr" if command in READS_SCENE else "out"
    new = f"./{rng.choice(_NAMES)}"
    shutil.move(folder / old, folder / new)
    words = tuple(new if word == old else word for word in COMMANDS[command])
    # what prints or keeps the path of its input has something else to say
    return Case(f"{command}: {old} is called {new!r}", words, like=COMMANDS[command])


def rows() -> Iterator[Attack]:
    """This part of the table."""
    yield Attack("files", "as an input", REFUSED, _draw_input)
    # an odd file that the command does not read changes nothing
    yield Attack("files", "in a scene", frozenset({0}) | REFUSED, _draw_scene_file)
    yield Attack("files", "in a run", frozenset({0}) | REFUSED, _draw_run_file)
    yield Attack("files", "odd names", frozenset({0}), _draw_name)
