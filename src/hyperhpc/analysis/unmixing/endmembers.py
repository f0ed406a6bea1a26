"""Endmembers found among pixels: those that all others are mixtures of, as far as can be."""

from __future__ import annotations

import math

import numpy as np

from hyperhpc.analysis.unmixing.fractions import sum_rows

#: Passes of N-FINDR over the endmembers, and by how much a volume must grow.
_MAX_PASSES, _GROWTH = 50, 1 + 1e-9


def find_atgp(spectra: np.ndarray, count: int) -> np.ndarray:
    """Positions of endmembers among spectra, float64 (pixel, band), by ATGP.

    The longest spectrum is the first; each further one has the longest part at right angles to
    all before. Ren and Chang (2003), IEEE Transactions on Aerospace and Electronic Systems 39,
    1232-1249, doi:10.1109/TAES.2003.1261132.

    Returns: int64 (count) or fewer, if all spectra are combinations of those found. Of equally
    long ones the first is taken, so that the same spectra always give the same positions.
    """
    rest = spectra.copy()
    places: list[int] = []
    shortest = 0.0
    while len(places) < count:
        lengths = sum_rows(rest * rest)
        place = int(lengths.argmax())
        if not lengths[place] > shortest:
            break
        shortest = shortest or 1e-18 * float(lengths[place])
        places.append(place)
        direction = rest[place] / math.sqrt(lengths[place])
        rest -= sum_rows(rest * direction)[:, None] * direction
    return np.array(places)


def find_nfindr(spectra: np.ndarray, count: int) -> np.ndarray:
    """Positions of the spectra that span the simplex of largest volume, by N-FINDR.

    Noise is reduced first: volumes are taken in the first ``count`` - 1 principal components.
    The search begins from :func:`find_atgp`, not at random, and takes the endmembers in turn:
    each is replaced by the spectrum that makes the volume largest, until none does. Winter
    (1999), Proceedings of SPIE 3753, 266-275, doi:10.1117/12.366289.

    Returns: as :func:`find_atgp`.
    """
    places = find_atgp(spectra, count)
    if len(places) < count or count < 2:
        return places
    centred = spectra - spectra.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    points = np.ones((len(spectra), count))
    points[:, 1:] = centred @ axes[:, :-count:-1]
    for _ in range(_MAX_PASSES):
        has_grown = False
        for i in range(count):
            try:
                weights = np.linalg.inv(points[places])[:, i]
            except np.linalg.LinAlgError:  # no volume at all: keep what ATGP has found
                return places
            volumes = np.abs(points @ weights)  # those of now are 1
            best = int(volumes.argmax())
            if volumes[best] > _GROWTH:
                places[i], has_grown = best, True
        if not has_grown:
            break
    return places
