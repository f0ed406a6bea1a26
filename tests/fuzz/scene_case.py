"""One damaged scene, looked at in every way: it is refused, or gives the numbers it holds."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from direct import DN, Direct
from formats import FORMATS

import hyperhpc
from hyperhpc.config import load_config
from hyperhpc.errors import HyperhpcError
from hyperhpc.pipeline.prepare import describe_plan
from hyperhpc.scene import open_scene
from hyperhpc.scene.cube import Scene
from hyperhpc.tools.inspect import inspect_scene

#: At most so many rows, columns and bands are read of a scene that claims to be large.
_WINDOW = 40
_BANDS = 4096


@dataclass(frozen=True)
class Damaged:
    """A scene that was damaged.

    Attributes
    ----------
    what
        What was done to it.
    is_checked
        True if a checksum must tell it.
    """

    path: Path
    what: str
    is_checked: bool


def damage_scene(kind: str, whole: Path, path: Path, seed: int, case: int) -> Damaged:
    """Copy a scene that is whole, and damage the copy: the same for the same numbers."""
    if whole.is_dir():
        shutil.copytree(whole, path)
    else:
        shutil.copyfile(whole, path)
        header = whole.with_name(whole.name + ".hdr")
        if header.exists():
            shutil.copyfile(header, path.with_name(path.name + ".hdr"))
    what, is_checked = FORMATS[kind].damage(path, Random(f"{kind} {seed} {case}"))
    return Damaged(path, what, is_checked)


def look_at(folder: Path, kind: str, seed: int, case: int) -> str:
    """Damage a scene of this kind and examine it; for a child process."""
    whole, work = folder / kind, folder / "work"
    if not whole.exists():
        FORMATS[kind].make(whole)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    damaged = damage_scene(kind, whole, work / "scene", seed, case)
    try:
        return examine(kind, damaged)
    except Exception as error:
        error.add_note(damaged.what)
        raise


def examine(kind: str, damaged: Damaged) -> str:
    """Open, describe, plan and read it.

    Returns
    -------
    "same numbers", or the kind of error it was refused with.

    Raises
    ------
    AssertionError
        Numbers other than those the format's library reads, or an error that says nothing.
    Exception
        What a user would see as a traceback.
    """
    warnings.simplefilter("error", RuntimeWarning)
    path = damaged.path
    out = path.with_name("out")
    try:
        scene = open_scene(path)
    except HyperhpcError as error:
        return check_refusal(error)
    assert np.isfinite([*scene.bounds, scene.scale_factor]).all(), "a grid or scale of no number"
    assert np.isfinite(scene.wavelength_nm).all(), "a wavelength that is no number"
    _attempt(lambda: json.dumps(inspect_scene(path)))
    _attempt(lambda: json.dumps(describe_plan(load_config(path, out, {}))))
    _attempt(lambda: hyperhpc.open_scene(path))
    assert not out.exists()
    if scene.thinned is not None:
        _look(kind, scene.thinned, None)
    return _look(kind, scene, DN if damaged.is_checked else None)


def _look(kind: str, scene: Scene, known: np.ndarray | None) -> str:
    """Read its pixels, and compare them with a direct read, and those known."""
    rows, cols = (slice(0, min(side, _WINDOW)) for side in scene.shape[:2])
    if scene.shape[2] > _BANDS:
        return "too large to compare"
    seen = [_attempt(lambda way=way: way(scene, rows, cols)) for way in _WAYS]
    refusals = [found for found in seen if isinstance(found, str)]
    if len(refusals) == len(seen):
        return refusals[0]
    direct = FORMATS[kind].read(scene, (rows, cols))
    for found in seen:
        if not isinstance(found, str):
            _compare(scene, found, direct, known)
    return refusals[0] if refusals else "same numbers"


def check_refusal(error: HyperhpcError) -> str:
    """One line that says something; its kind and exit code."""
    for text in (error.message, error.hint or "-"):
        assert text.strip(), "an error that says nothing"
        assert len(text) < 8000, f"an endless message: {len(text)} characters"
        assert not set(text) & set("\n\r\0"), f"a message of several lines: {text!r}"
    return f"{type(error).__name__} ({error.exit_code})"


def _attempt(step: Callable[[], Any]) -> Any:
    """The result, or the kind of error it was refused with."""
    try:
        return step()
    except HyperhpcError as error:
        return check_refusal(error)


def _read(scene: Scene, rows: slice, cols: slice) -> np.ndarray:
    return scene.read(rows, cols)


def _read_blocks(scene: Scene, rows: slice, cols: slice) -> np.ndarray:
    """As both passes do."""
    found = np.zeros((rows.stop, cols.stop, scene.shape[2]), scene.dtype)
    for row, col, part in scene.blocks(rows, cols):
        found[row : row + part.shape[0], col : col + part.shape[1]] = part
    return found


def _read_by_band(scene: Scene, rows: slice, cols: slice) -> np.ndarray:
    """As a transposition and the pictures do: some bands, then the others."""
    found = np.zeros((rows.stop, cols.stop, scene.shape[2]), scene.dtype)
    for first in range(2):
        bands = np.arange(first, scene.shape[2], 2)
        found[..., bands] = scene.read(rows, cols, bands)
    return found


_WAYS = (_read, _read_blocks, _read_by_band)


def _compare(scene: Scene, found: np.ndarray, direct: Direct, known: np.ndarray | None) -> None:
    """The numbers are those the library reads, and those that were written."""
    assert found.shape == direct.dn.shape, f"{found.shape}, directly {direct.dn.shape}"
    expected = direct.dn.astype(np.float64)
    if scene.dtype == "float32":
        with np.errstate(over="ignore"):
            expected = expected.astype(np.float32).astype(np.float64)
    is_wide = np.isin(expected, getattr(scene, "wide_nodata", ()))
    same = np.isclose(found, expected, rtol=0, atol=0, equal_nan=True) | is_wide
    assert same.all(), f"{np.count_nonzero(~same)} of {same.size} numbers differ from a direct read"
    nm = scene.wavelength_nm
    assert any(
        np.array_equal(nm, vector) or np.array_equal(nm, np.round(vector * 1000.0, 9))
        for vector in (v.astype(np.float64) for v in direct.vectors if v.dtype.kind in "iuf")
    ), "the wavelengths are none of those stored"
    if known is not None:
        assert np.array_equal(found, known), "a damaged chunk passed its checksum"
