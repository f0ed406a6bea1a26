"""A page on this machine on which one points at a pixel and sees its spectrum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["view_run"]


def view_run(
    out: Path,
    scene: Path | None,
    port: int,
    show: Callable[[str], None],
    say: Callable[[str], None],
) -> None:
    """Serve the page of a run until Ctrl-C.

    Parameters
    ----------
    out
        Folder of a run, finished or not.
    scene
        Where its scene lies now; None: where run.json says.
    port
        0 for any that is free.
    show
        Told the address.
    say
        Told what is missing, and how to reach the address from another machine.

    Raises
    ------
    ConfigError
        OUT is no run, or ``scene`` is not the scene of the run.
    SceneError
        ``scene`` cannot be read.
    IncompleteRunError
        Nothing of the run can be shown yet, or its files are damaged.
    ResourceError
        The port is taken.
    """
    from hyperhpc.view.layers import Layers
    from hyperhpc.view.page import Page
    from hyperhpc.view.server import serve
    from hyperhpc.view.viewed_run import DAMAGED, explain, open_run
    from hyperhpc.workers import scratch_folder

    with scratch_folder() as scratch:
        try:
            layers = Layers(open_run(out, scene, Path(scratch)))
        except DAMAGED as error:
            raise explain(error, out) from None
        for note in layers.opened.notes:
            say(f"note: {note}")

        def make_page(document: Any) -> None:
            Page(document, layers)

        serve(make_page, port, show, say)
