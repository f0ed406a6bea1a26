"""One flipped bit or a lost piece, in a finished run or a scene that has checksums."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

from attack import Attack, Case
from world import COMMANDS, READS_OUT, READS_SCENE

#: Damage is named by the code of a scene, of an option (a model), or of an unfinished run.
_NAMED = frozenset({0, 3, 4, 7})


def _damage(path: Path, rng: Random) -> str:
    data = bytearray(path.read_bytes())
    path.unlink()
    way = rng.choice(("flip", "flip", "flip", "cut", "lost", "longer"))
    if way == "flip" and data:
        place, bit = rng.randrange(len(data)), rng.randrange(8)
        data[place] ^= 1 << bit
        path.write_bytes(data)
        return f"bit {bit} of byte {place} of"
    if way == "cut" and data:
        del data[rng.randrange(len(data)) :]
        path.write_bytes(data)
        return f"all after byte {len(data)} of"
    if way == "lost":
        return "the whole of"
    path.write_bytes(bytes(data) + rng.randbytes(3))
    return "three bytes after the end of"


def _draw(rng: Random, folder: Path, root: str, command: str) -> Case:
    files = sorted(path for path in (folder / root).rglob("*") if path.is_file())
    victim = rng.choice(files)
    name = victim.relative_to(folder)
    return Case(f"{command}: changed {_damage(victim, rng)} {name}", COMMANDS[command])


def _draw_run(rng: Random, folder: Path) -> Case:
    return _draw(rng, folder, "out", rng.choice(READS_OUT))


def _draw_scene(rng: Random, folder: Path) -> Case:
    return _draw(rng, folder, "scene.zarr", rng.choice(READS_SCENE))


def rows() -> Iterator[Attack]:
    """This part of the table."""
    yield Attack("integrity", "of a run", _NAMED, _draw_run)
    yield Attack("integrity", "of a scene", _NAMED, _draw_scene)
