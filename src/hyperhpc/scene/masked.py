"""A scene some of whose pixels are left out: they read as no-data in every band."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import THINNED_STEP, Scene, fields_of
from hyperhpc.scene.views import WrappedScene
from hyperhpc.scene.window import length


class Mask(Protocol):
    """Says which pixels of a scene are left out. Small, and can be pickled."""

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True where a pixel is left out; slices as in :meth:`Scene.read`."""

    def fingerprint(self) -> Any:
        """What tells this mask from another one, as plain JSON."""


@dataclass(frozen=True)
class _Thinned:
    """The mask of the thinned copy of a scene: that of the pixels it was picked from."""

    whole: Mask

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        spans = (
            slice(
                part.start * THINNED_STEP,
                (part.stop - 1) * THINNED_STEP + 1 if part.stop > part.start else 0,
                (part.step or 1) * THINNED_STEP,
            )
            for part in (rows, cols)
        )
        return self.whole.hides(*spans)

    def fingerprint(self) -> Any:
        return self.whole.fingerprint()


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskedScene(WrappedScene):
    """Another scene with a mask; all it says of itself is what that scene says.

    Attributes
    ----------
    mask
        What is left out.
    mark
        The value hidden pixels read as: a no-data value of the scene, or NaN.
    """

    mask: Mask
    mark: float

    def read(
        self, rows: slice, cols: slice, bands: slice | np.ndarray | None = None
    ) -> np.ndarray:
        """Read one window; see :meth:`Scene.read`."""
        dn = self.inner.read(rows, cols, bands)
        if dn.size:
            dn[self.mask.hides(rows, cols)] = self.mark
        return dn

    def blocks(self, rows: slice, cols: slice) -> Iterator[tuple[int, int, np.ndarray]]:
        """Pixels piece by piece; see :meth:`Scene.blocks`."""
        for row, col, dn in self.inner.blocks(rows, cols):
            hidden = self.mask.hides(
                slice(row, row + dn.shape[0]), slice(col, col + dn.shape[1])
            )
            if hidden.any():
                dn[hidden] = self.mark  # the piece is ours until the next is asked for
            yield row, col, dn

    def fingerprint(self) -> dict[str, Any]:
        """That of the scene, and of the mask."""
        return self.inner.fingerprint() | {"mask": self.mask.fingerprint()}


def mask_scene(scene: Scene, mask: Mask, note: str = "", **changes: Any) -> MaskedScene:
    """A scene without the pixels that a mask hides.

    Parameters
    ----------
    note
        Said of the scene from now on.
    changes
        Fields of the new scene that differ from those of the old one.

    Raises
    ------
    SceneError
        The scene has no no-data value that hidden pixels could read as.
    """
    if not scene.is_integer:
        mark = float("nan")
    elif scene.nodata:
        mark = scene.nodata[0]
    else:
        raise SceneError(
            f"{scene.path} declares no no-data value, so that no pixel of {scene.stored_dtype} "
            "can be left out.",
            "Declare one: Data_Ignore_Value, data ignore value, nodata or _FillValue.",
        )
    fields = fields_of(scene)
    fields["notes"] = (*scene.notes, note) if note else scene.notes
    if scene.thinned is not None:
        fields["thinned"] = mask_scene(scene.thinned, _Thinned(mask))
    return MaskedScene(**fields | changes, inner=scene, mask=mask, mark=mark)


def count_hidden(mask: Mask, shape: tuple[int, ...]) -> int:
    """How many pixels of a scene of this shape a mask hides."""
    return sum(
        int(mask.hides(slice(row, min(row + 512, shape[0])), slice(0, shape[1])).sum())
        for row in range(0, shape[0], 512)
    )


def n_pixels(rows: slice, cols: slice) -> tuple[int, int]:
    """Shape of what a window with start and stop holds."""
    return (
        length(slice(rows.start, rows.stop, rows.step or 1)),
        length(slice(cols.start, cols.stop, cols.step or 1)),
    )
