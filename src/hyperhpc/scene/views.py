"""A scene that shows another one in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hyperhpc.scene.cube import Scene


@dataclass(frozen=True, kw_only=True, eq=False)
class WrappedScene(Scene):
    """Pixels lie where they lie in another scene; subclasses change what they read as.

    Attributes
    ----------
    inner
        The other scene.
    """

    inner: Scene

    def read_origins(self, rows: slice, cols: slice) -> dict[str, np.ndarray]:
        """Those of the other scene; see :meth:`Scene.read_origins`."""
        return self.inner.read_origins(rows, cols)

    def file_names(self) -> tuple[str, ...]:
        """Those of the other scene."""
        return self.inner.file_names()

    def read_zenith(self, rows: slice, cols: slice) -> np.ndarray | None:
        """That of the other scene; see :meth:`Scene.read_zenith`."""
        return self.inner.read_zenith(rows, cols)

    def check_files(self) -> list[str]:
        """What the files of the other scene tell."""
        return self.inner.check_files()

    def fingerprint(self) -> dict[str, Any]:
        """That of the other scene; see :meth:`Scene.fingerprint`."""
        return self.inner.fingerprint()
