"""The page of ``hyperhpc view``: a map to zoom, and the spectrum of each clicked pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["view_run"]


def view_run(
    out: Path,
    scene: Path | None,
    port: int,
    report_url: Callable[[str], None],
    notify: Callable[[str], None],
) -> None:
    """Serve the page of a run until Ctrl-C.

    ``out``: Folder of a run, finished or not.
    ``scene``: Where its scene lies now; None: where run.json says.
    ``port``: 0 for any free port.
    ``report_url``: Called with the address of the page once it answers.
    ``notify``: Called with what is missing, and how to reach the address from another machine.

    Raises ConfigError: OUT is no run, or ``scene`` is not the scene of the run; SceneError:
    ``scene`` cannot be read; IncompleteRunError: nothing of the run can be shown yet, or its
    files are damaged; ResourceError: the port is taken.
    """
    from hyperhpc.scratch import scratch_folder
    from hyperhpc.view.layers import MapLayers
    from hyperhpc.view.page import Page
    from hyperhpc.view.server import serve
    from hyperhpc.view.viewed_run import STORE_ERRORS, as_read_error, open_viewed_run

    with scratch_folder() as scratch:
        try:
            layers = MapLayers(open_viewed_run(out, scene, Path(scratch)))
        except STORE_ERRORS as error:
            raise as_read_error(error, out) from None
        for note in layers.viewed.notes:
            notify(f"note: {note}")

        def make_page(document: Any) -> None:
            Page(document, layers)

        serve(make_page, port, report_url, notify)
