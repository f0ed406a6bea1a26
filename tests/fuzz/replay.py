"""Look at one case again, in this process, with its traceback.

    .venv/bin/python tests/fuzz/replay.py zarr3 0 123 [FOLDER]

The damaged scene is kept in FOLDER.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from formats import FORMATS
from scene_case import damage_scene, examine


def main(kind: str, seed: str, case: str, folder: str | None = None) -> None:
    """Damage the scene as the fuzzer did, and look at it."""
    work = Path(folder or tempfile.mkdtemp())
    work.mkdir(exist_ok=True)
    FORMATS[kind].make(work / "whole")
    damaged = damage_scene(kind, work / "whole", work / "scene", int(seed), int(case))
    print(f"{damaged.path}: {damaged.what}")
    print(examine(kind, damaged))


if __name__ == "__main__":
    main(*sys.argv[1:])
