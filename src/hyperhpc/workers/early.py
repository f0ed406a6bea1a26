"""Import what is needed later, while something else is waited for."""

from __future__ import annotations

import contextlib
import importlib
import threading


def import_early(name: str) -> None:
    """Begin to import a module in this process.

    An import that fails is left to whoever needs it, who can say what it is for.
    """
    threading.Thread(target=_import, args=(name,), daemon=True).start()


def _import(name: str) -> None:
    with contextlib.suppress(Exception):
        importlib.import_module(name)
