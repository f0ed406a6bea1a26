"""Band centres from a file of their own, for scenes that carry none (``--wavelengths``)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from hyperhpc.errors import ConfigError, SceneError
from hyperhpc.scene.metadata import resolve_wavelengths

#: No list of centres is longer than this, bytes.
_MAX_BYTES = 10_000_000
_BETWEEN = re.compile(r"[,;\s]+")
_MICROMETRE = re.compile(r"(^|[^a-z])(um|µm|μm|micro)", re.IGNORECASE)
#: What to do about a scene without band centres.
HINT = "Give them in a file, one per line, as --wavelengths FILE."


def read_wavelengths(path: Path, n_bands: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Band centres of a text file, or of another scene in a NEON HDF5 file.

    Parameters
    ----------
    path
        Text: a centre per line in nm or micrometres, or the first column of a CSV; a first
        line without a number is its heading. Empty lines and those with ``#`` are skipped.
    n_bands
        How many there must be.

    Returns
    -------
    Centres (band,), float64, nm, in the order of the file; and notes.

    Raises
    ------
    ConfigError
        The file cannot be read, a line holds no number, or their number is another.
    SceneError
        An HDF5 file without band centres.
    """
    from hyperhpc.scene.formats.neon import open_neon_scene
    from hyperhpc.scene.hdf5_files import is_hdf5

    where = f"--wavelengths {path}"
    try:
        if is_hdf5(str(path)):
            values, units = open_neon_scene(str(path)).wavelength_nm, None
        else:
            values, units = _read_text(path, where)
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {error.strerror or error}.") from None
    if values.size != n_bands:
        raise ConfigError(
            f"{where} holds {values.size} band centres, the scene {n_bands} bands.",
            "Give one centre per band, in the order of the bands.",
        )
    try:
        centres, _, notes = resolve_wavelengths(values, units, where)
    except SceneError as error:
        raise ConfigError(error.message, error.hint) from None
    return centres, (f"Band centres are those of {path.name}.", *notes)


def _read_text(path: Path, where: str) -> tuple[np.ndarray, str | None]:
    """Numbers of the first column, and their unit if the heading names micrometres."""
    with open(path, "rb") as file:
        content = file.read(_MAX_BYTES)
    heading, values = None, []
    for number, line in enumerate(content.decode("utf-8-sig", "replace").splitlines(), 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        first = _BETWEEN.split(text)[0].strip("\"'")
        try:
            values.append(float(first.replace("_", "?")))  # 1_000 is one for Python alone
        except ValueError:
            if heading is None and not values:
                heading = text
                continue
            raise ConfigError(
                f"{where}: line {number} begins with {first!r:.60}, which is no number.",
                "Write one band centre (nm) per line.",
            ) from None
    is_micrometre = heading is not None and bool(_MICROMETRE.search(_BETWEEN.split(heading)[0]))
    return np.array(values), "um" if is_micrometre else None
