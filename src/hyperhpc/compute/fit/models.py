"""What a fitted model is: centres by which pixels are labelled, or an estimator.

``model.json`` is the model: labels are always computed from the numbers stored there,
whether the run has just fitted them or found them on disk.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler, Scorer, label_pixels
from hyperhpc.config import MAX_CLUSTERS
from hyperhpc.errors import ConfigError
from hyperhpc.schema import NO_CLUSTER

#: Pixels an estimator labels at a time: limits their float64 copy.
_PREDICT_PIXELS = 16384
_EXAMPLE_HINT = "For example --estimator sklearn.cluster:Birch"


@dataclass(frozen=True)
class Labeller:
    """Labels pixels, 0 to ``n_clusters`` - 1, by one model.

    ``scaler``: The scaling under which the model was fitted.
    ``centres``: (cluster, band) in DN, for a model of nearest centres; else None.
    ``estimator``, ``numbers``: For any other model: a fitted scikit-learn estimator, and for
        each label of the estimator the label it is stored as.
    """

    scaler: Scaler
    n_clusters: int
    centres: np.ndarray | None = None
    estimator: Any = None
    numbers: np.ndarray | None = None

    @cached_property
    def scorer(self) -> Scorer | None:
        """Labels by the centres, if there are any; made once in each process."""
        return None if self.centres is None else Scorer(self.centres, self.scaler)

    def label(self, dn: np.ndarray) -> np.ndarray:
        """Labels (pixel), uint8, of valid pixels (pixel, good band) in DN."""
        if self.scorer is not None:
            return label_pixels(dn, [self.scorer])[0]
        labels = np.empty(len(dn), dtype=np.uint8)
        for rows, own in predict_in_parts(self.estimator, self.scaler, dn):
            labels[rows] = self._renumber(own)
        return labels

    def _renumber(self, own: np.ndarray) -> np.ndarray:
        assert self.numbers is not None
        if own.size and (own.min() < 0 or own.max() >= len(self.numbers)):
            raise ConfigError(
                f"{type(self.estimator).__name__}.predict gave label "
                f"{own.min() if own.min() < 0 else own.max()}; 0 to "
                f"{len(self.numbers) - 1} were seen while fitting"
            )
        return self.numbers[own]


def predict_in_parts(
    estimator: Any, scaler: Scaler, dn: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
    """Slices of the pixels (pixel, good band; DN) and the estimator's labels of each."""
    for start in range(0, len(dn), _PREDICT_PIXELS):
        rows = slice(start, start + _PREDICT_PIXELS)
        yield rows, np.asarray(estimator.predict(scaler.transform(dn[rows])))


def label_all(
    labellers: Sequence[Labeller], dn: np.ndarray, bands: np.ndarray, is_valid: np.ndarray
) -> np.ndarray:
    """Labels (model, pixel), uint8, of pixels by all models; 255 where not valid.

    Models of nearest centres share one cast of the pixels, and one matrix product.

    ``dn``: DN (pixel, band), all bands of the scene. ``bands``: Positions of the good bands.
    """
    labels = np.full((len(labellers), len(dn)), NO_CLUSTER, dtype=np.uint8)
    n_valid = int(is_valid.sum())
    if not n_valid:
        return labels
    by_centres = [m for m, labeller in enumerate(labellers) if labeller.scorer]
    scorers = [scorer for labeller in labellers if (scorer := labeller.scorer)]
    if 2 * n_valid > len(dn):  # labelling a few too many is cheaper than copying the others
        with np.errstate(invalid="ignore", over="ignore"):  # floats that are no-data
            found = label_pixels(dn, scorers, bands)
        labels[by_centres] = np.where(is_valid, found, NO_CLUSTER)
    else:
        found = np.full((len(scorers), len(dn)), NO_CLUSTER, dtype=np.uint8)
        found[:, is_valid] = label_pixels(dn[is_valid], scorers, bands)
        labels[by_centres] = found
    for m in set(range(len(labellers))) - set(by_centres):
        labels[m, is_valid] = labellers[m].label(dn[is_valid][:, bands])
    return labels


def load_estimator(spec: str, n_clusters: int, seed: int) -> Any:
    """A new scikit-learn estimator from ``module:Class``, with these settings as it has them.

    Raises ConfigError: if there is no such class, or it cannot fit and predict clusters.
    """
    module_name, _, class_name = spec.partition(":")
    try:
        # A module may print while it is imported; standard output is for results
        with contextlib.redirect_stdout(sys.stderr):
            kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(f"--estimator {spec}: {error}", _EXAMPLE_HINT) from None
    if not all(hasattr(kind, name) for name in ("get_params", "fit", "predict")):
        raise ConfigError(
            f"--estimator {spec} is not a scikit-learn estimator with fit and predict",
            _EXAMPLE_HINT,
        )
    try:
        estimator = kind()
        known = estimator.get_params()
        settings = {"n_clusters": n_clusters, "n_components": n_clusters, "random_state": seed}
        estimator = estimator.set_params(**{k: v for k, v in settings.items() if k in known})
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"--estimator {spec} cannot be made without arguments: {error}", _EXAMPLE_HINT
        ) from None
    estimator_type = _estimator_type(estimator)
    if estimator_type in ("classifier", "regressor", "outlier_detector"):
        raise ConfigError(
            f"--estimator {spec} is a {estimator_type} and finds no clusters; "
            "a clusterer is needed",
            _EXAMPLE_HINT,
        )
    return estimator


def _estimator_type(estimator: Any) -> str | None:
    """What scikit-learn calls it (clusterer, regressor, ...); None if unknown."""
    from sklearn.utils import get_tags

    try:
        return get_tags(estimator).estimator_type
    except AttributeError:  # from another library, with fit and predict but without tags
        return None


def count_labels(estimator: Any, seen: np.ndarray) -> int:
    """How many labels a fitted estimator may give (0 to n - 1), from those seen so far.

    Raises ConfigError: if they are not whole numbers from 0, or too many.
    """
    if not np.issubdtype(seen.dtype, np.integer) or (seen.size and seen.min() < 0):
        raise ConfigError(
            f"{type(estimator).__name__}.predict gives labels like {seen[:1]}; "
            "whole numbers from 0 are needed"
        )
    named = [getattr(estimator, name, None) for name in ("n_clusters", "n_components")]
    seen_size = int(seen.max()) + 1 if seen.size else 1
    size = max([seen_size, *(value for value in named if isinstance(value, int))])
    if size > MAX_CLUSTERS:
        raise ConfigError(
            f"{type(estimator).__name__} makes {size} clusters; "
            f"at most {MAX_CLUSTERS} can be stored"
        )
    return size


def nan_to_none(table: np.ndarray) -> Any:
    """Numbers as nested lists for JSON, with None where one is not finite."""
    found = table.astype(object)
    found[~np.isfinite(table)] = None
    return found.tolist()
