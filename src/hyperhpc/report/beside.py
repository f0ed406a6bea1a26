"""One half of the pictures, drawn by a second process while this one draws the other.

Drawing holds the interpreter's lock, so threads are no use. The process is asked in JSON on
its standard input and answers on its standard output; whatever goes wrong there, the
pictures are drawn here.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hyperhpc.results import Outputs, open_outputs

if TYPE_CHECKING:
    from hyperhpc.report.pictures import Picture


class Other:
    """The other process, if there is one."""

    def __init__(self, process: subprocess.Popen[bytes] | None) -> None:
        self._process = process

    def pictures(self) -> list[Picture] | None:
        """Wait for its pictures; None if there are none from there."""
        from matplotlib.figure import Figure

        from hyperhpc.report.draw import Drawing
        from hyperhpc.report.pictures import Picture

        if self._process is None:
            return None
        answer = self._process.communicate()[0]
        if self._process.returncode:
            return None
        return [
            Picture(Drawing(**words, figure=Figure()), base64.b64decode(data), kind, *size)
            for words, data, kind, size in json.loads(answer)
        ]


@contextmanager
def started(outputs: Outputs) -> Iterator[Other]:
    """Let another process draw ``draw_rest`` of an opened run, if a core is free for it."""
    question = {
        "out": str(outputs.path),
        "overview": str(outputs.overview_path),
        "complete": outputs.run.get("complete"),
    }
    try:
        process = _start() if len(os.sched_getaffinity(0)) > 1 else None
    except OSError:  # no process to be had
        process = None
    if process is None:
        yield Other(None)
        return
    with process:
        try:
            assert process.stdin
            with contextlib.suppress(BrokenPipeError), process.stdin as file:
                file.write(json.dumps(question).encode())
            process.stdin = None  # communicate would flush it
            yield Other(process)
        finally:
            process.kill()


def _start() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  # this very module
        [sys.executable, "-P", "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def main() -> None:
    """In the other process."""
    from hyperhpc.report.draw import draw_rest
    from hyperhpc.report.pictures import save_all

    question = json.load(sys.stdin)
    outputs = open_outputs(Path(question["out"]), Path(question["overview"]))
    outputs.run["complete"] = question["complete"]
    json.dump([_told(p) for p in save_all(outputs, draw_rest(outputs))], sys.stdout)


def _told(picture: Picture) -> tuple[dict[str, str], str, str, tuple[int, int]]:
    """A picture in JSON: words, data, kind, size."""
    d = picture.drawing
    words = {"name": d.name, "section": d.section, "caption": d.caption, "alt": d.alt}
    data = base64.b64encode(picture.data).decode("ascii")
    return words, data, picture.kind, (picture.width, picture.height)


if __name__ == "__main__":
    main()
