"""Masks of quality layers: which pixels ``--mask`` hides, and by which codes.

meanings (what the codes of a layer mean, by its own words) | this file (masks, and what is said
of them). Scenes name their layers in :meth:`Scene.layers`; a format needs no more for masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hyperhpc.config import CODED_LAYERS
from hyperhpc.errors import SceneError
from hyperhpc.scene.cube import Layer, Scene
from hyperhpc.scene.probe import count_hidden
from hyperhpc.scene.quality.meanings import read_codes
from hyperhpc.scene.views import MaskedScene

_WEATHER, _SHADOW, _CLASSES, _ = CODED_LAYERS
_LAYER_OF = {"weather": _WEATHER, "shadow": _SHADOW} | {name.lower(): name for name in CODED_LAYERS}
#: Codes in NEON's documents, for hints: files have been seen with others.
_DOCUMENTED = {
    "weather": "2,3", "shadow": "1", "cloud": "2,3,4,8,9,10,11,12,15,16,18,19", "haze": "11,12",
    "cloud-shadow": "22", "terrain-shadow": "21", "water": "17", "snow": "7",
}  # fmt: skip
#: NEON's marks of pixels without a value: in bytes, and in wider numbers.
_MISSING = (241.0, -9999.0)
#: A larger share of valid pixels than this is hardly what a mask is meant to hide.
_MOST = 0.5
_ROWS = 512


@dataclass(frozen=True)
class LayerMask:
    """What one name of ``--mask`` hides, by one layer.

    ``codes``: To be hidden; empty for a picture, of which yellow and red are.
    ``known``: All codes that the layer explains, or None if the codes were given.
    ``missing``: Marks of pixels without a value.
    ``meaning``: What the codes mean, in the layer's words; empty if they were given.
    """

    name: str
    layer: str
    codes: tuple[int, ...]
    known: tuple[int, ...] | None
    missing: tuple[float, ...]
    meaning: str = ""

    def hides(self, values: np.ndarray) -> np.ndarray:
        """Bool (y, x) of the layer's values (y, x), or of a picture (y, x, 3)."""
        if values.ndim == 3:
            return (values[..., 0] == 255) & (values[..., 2] == 0)
        return np.isin(values, self.codes)

    def find_unknown(self, values: np.ndarray) -> set[str]:
        """Codes, or colours, that the layer does not explain."""
        if self.known is None:
            return set()
        if values.ndim == 3:
            grey = (values == values[..., :1]).all(axis=2)  # no-data, whatever its mark
            sky = (values[..., 1] == 255) | (values[..., 0] == 255)
            is_odd = ~grey & ~(sky & np.isin(values, (0, 255)).all(axis=2) & (values[..., 2] == 0))
            return {f"({r},{g},{b})" for r, g, b in np.unique(values[is_odd], axis=0)}
        there = np.unique(values[np.isfinite(values)])
        unknown = set(there.tolist()) - set(self.known) - set(self.missing)
        if len(self.known) == 1 and len(unknown) == 1:
            return set()  # of two codes, one is explained: the other is its opposite
        return {f"{code:g}" for code in unknown}

    def describe(self) -> str:
        """Name, layer, codes and meaning."""
        listed = ", ".join(map(str, self.codes)) or "yellow and red"
        what = "code" if len(self.codes) == 1 else "codes" if self.codes else "colours"
        words = f": {self.meaning}" if self.meaning else ""
        return f"--mask {self.name} hides {what} {listed} of {self.layer}{words}"


@dataclass(frozen=True)
class QualityMask:
    """Hides the pixels that layers of a scene advise against."""

    scene: Scene
    parts: tuple[LayerMask, ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """One for each part; of a pixel that several parts hide, it is that of the first."""
        return tuple(f"hidden by --mask {part.name}" for part in self.parts)

    def hides(self, rows: slice, cols: slice) -> np.ndarray:
        """Bool (y, x), True where any of the layers advises against a pixel."""
        return np.logical_or.reduce(list(self.hides_each(rows, cols)))

    def hides_each(self, rows: slice, cols: slice) -> list[np.ndarray]:
        """As :meth:`hides`, for each part."""
        values = self.scene.read_layers(rows, cols, {part.layer for part in self.parts})
        return [part.hides(values[part.layer]) for part in self.parts]

    def fingerprint(self) -> Any:
        """Names, layers and codes; the file is the scene's own."""
        return {"quality": [[part.name, part.layer, *part.codes] for part in self.parts]}


def open_mask(scene: Scene, masks: Sequence[str]) -> QualityMask:
    """The mask that ``--mask`` asks for.

    ``masks``: As in :class:`hyperhpc.config.SceneOptions`: names, or ``NAME=CODE,...``.

    Raises SceneError: a layer is missing, or does not say what its codes mean.
    """
    layers = scene.layers()
    return QualityMask(scene, tuple(_open_part(scene, layers, mask) for mask in masks))


def _open_part(scene: Scene, layers: dict[str, Layer], mask: str) -> LayerMask:
    name, _, given = mask.partition("=")
    wanted = _LAYER_OF.get(name, _CLASSES)
    layer = layers.get(wanted)
    if layer is None:
        raise SceneError(
            f"--mask {name} needs {wanted} in {scene.path}: it is missing",
            "Leave out that mask, or give NEON's mosaic tiles (DP3.30006), or a store that "
            "hyperhpc ingest of this version made of them",
        )
    missing = (layer.missing, *_MISSING)
    if layer.planes > 1:
        if given:
            raise SceneError(
                f"--mask {mask}: {wanted} of {scene.path} is a picture, not codes",
                "Give --mask weather, which hides yellow and red",
            )
        return LayerMask(name, wanted, (), (), missing)
    if given:
        return LayerMask(name, wanted, tuple(map(int, given.split(","))), None, missing)
    found = read_codes(name, layer.attributes)
    if found is None:
        what = name.replace("-", " ")
        raise _untold(name, f"{wanted} of {scene.path} does not say which code means {what}")
    codes = tuple(sorted(code for code, (is_hidden, _) in found.items() if is_hidden))
    meaning = ", ".join(dict.fromkeys(found[code][1] for code in codes))
    return LayerMask(name, wanted, codes, tuple(found), missing, meaning)


def _untold(name: str, problem: str) -> SceneError:
    return SceneError(
        f"--mask {name}: {problem}",
        f"Look at the layer and name the codes to hide, such as --mask "
        f"{name}={_DOCUMENTED[name]}, which NEON documents; files have been seen with others",
    )


def note_hidden(scene: Scene, members: Sequence[Scene]) -> Scene:
    """A scene with notes on the pixels that the masks of its members hide, and with warnings.

    Reads the layers of all members.

    Raises SceneError: a layer holds codes that it does not explain.
    """
    masked = [
        (member.inner, member.mask)
        for member in members
        if isinstance(member, MaskedScene) and isinstance(member.mask, QualityMask)
    ]
    parts = masked[0][1].parts
    names = [part.name for part in parts]
    counts, n_hidden = np.zeros(len(names), np.int64), 0
    for _, mask in masked:
        each, together = _count_hidden(mask)
        counts += each
        n_hidden += together
    meanings = dict.fromkeys(part.describe() for _, mask in masked for part in mask.parts)
    shares = count_hidden([(inner, mask.hides_each) for inner, mask in masked])
    notes = [f"{text}." for text in meanings]
    if len(names) > 1:
        listed = ", ".join(f"{n} by {name}" for name, n in zip(names, counts, strict=True))
        notes.append(f"Pixels left out: {listed}.")
    notes.append(f"{n_hidden} pixels are left out by their quality ({', '.join(names)}).")
    warnings = [
        f"--mask {part.name} hides {share:.0%} of the valid pixels: compare {part.layer} with the "
        f"picture; if its codes mean something else, give others (--mask {part.name}=CODE) or "
        "leave the mask out"
        for part, share in zip(parts, shares, strict=True)
        if share > _MOST
    ]
    return replace(scene, notes=(*scene.notes, *notes), warnings=(*scene.warnings, *warnings))


def _count_hidden(mask: QualityMask) -> tuple[np.ndarray, int]:
    """Pixels that each part hides, and all together."""
    counts, n_hidden = np.zeros(len(mask.parts), np.int64), 0
    unknown: dict[str, set[str]] = {part.name: set() for part in mask.parts}
    height, width, _ = mask.scene.shape
    for y in range(0, height, _ROWS):
        window = slice(y, min(y + _ROWS, height)), slice(0, width)
        values = mask.scene.read_layers(*window, {part.layer for part in mask.parts})
        hidden = [part.hides(values[part.layer]) for part in mask.parts]
        for part in mask.parts:
            unknown[part.name] |= part.find_unknown(values[part.layer])
        counts += [int(one.sum()) for one in hidden]
        n_hidden += int(np.logical_or.reduce(hidden).sum())
    for part in mask.parts:
        if found := sorted(unknown[part.name]):
            listed = ", ".join(found[:5]) + (" ..." if len(found) > 5 else "")
            where = f"{part.layer} of {mask.scene.path}"
            raise _untold(part.name, f"{where} holds {listed}, which it does not explain")
    return counts, n_hidden
