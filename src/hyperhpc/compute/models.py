"""What a fitted model is: centres by which pixels are labelled, or an estimator.

``model.json`` is the model: labels are always computed from the numbers that stand
there, whether the run has just fitted them or found them on disk.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler, Scorer, label_pixels
from hyperhpc.config import MAX_CLUSTERS
from hyperhpc.errors import ConfigError
from hyperhpc.schema import NO_CLUSTER


@dataclass(frozen=True)
class Labeller:
    """Gives pixels their labels under one model.

    Attributes
    ----------
    scaler
        The scaling the model was fitted under.
    n_clusters
        Labels are 0 to n_clusters - 1.
    centres
        (cluster, band) in DN, for a model of nearest centres; else None.
    estimator, numbers
        For any other model: a fitted scikit-learn estimator, and (its label) the label
        of ours for each of its own.
    """

    scaler: Scaler
    n_clusters: int
    centres: np.ndarray | None = None
    estimator: Any = None
    numbers: np.ndarray | None = None

    @cached_property
    def scorer(self) -> Scorer | None:
        """What labels by the centres; made once where this object is used."""
        return None if self.centres is None else Scorer(self.centres, self.scaler)

    def label(self, dn: np.ndarray) -> np.ndarray:
        """Labels (pixel), uint8, of valid pixels (pixel, good band) in DN."""
        if self.scorer is not None:
            return label_pixels(dn, [self.scorer])[0]
        labels = np.empty(len(dn), dtype=np.uint8)
        for start in range(0, len(dn), 16384):  # bounds the float64 copy
            rows = slice(start, start + 16384)
            labels[rows] = self._predict(dn[rows])
        return labels

    def _predict(self, dn: np.ndarray) -> np.ndarray:
        own = np.asarray(self.estimator.predict(self.scaler.transform(dn)))
        if self.numbers is None:
            return own
        if own.size and (own.min() < 0 or own.max() >= len(self.numbers)):
            raise ConfigError(
                f"{type(self.estimator).__name__}.predict gave label "
                f"{own.min() if own.min() < 0 else own.max()}; 0 to "
                f"{len(self.numbers) - 1} were seen while fitting"
            )
        return self.numbers[own]


def label_all(
    labellers: Sequence[Labeller], dn: np.ndarray, bands: np.ndarray, is_valid: np.ndarray
) -> np.ndarray:
    """Labels (model, pixel), uint8, of pixels under all models; 255 where not valid.

    Models of nearest centres share one cast of the pixels, and one product.

    Parameters
    ----------
    dn
        DN (pixel, band), all bands of the scene.
    bands
        Positions of the good bands.
    is_valid
        Bool (pixel).
    """
    labels = np.full((len(labellers), len(dn)), NO_CLUSTER, dtype=np.uint8)
    n_valid = int(is_valid.sum())
    if not n_valid:
        return labels
    scorers = [labeller.scorer for labeller in labellers if labeller.scorer is not None]
    by_centres = [m for m, labeller in enumerate(labellers) if labeller.scorer is not None]
    if 2 * n_valid > len(dn):  # cheaper to label some for nothing than to copy the rest
        with np.errstate(invalid="ignore", over="ignore"):  # of floats that are no data
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
    """A new scikit-learn estimator from ``module:Class``.

    It gets ``n_clusters`` (or ``n_components``) and ``random_state`` where it knows them.

    Raises
    ------
    ConfigError
        If there is no such class, or it cannot be fitted and predict.
    """
    module_name, _, class_name = spec.partition(":")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a module may greet; stdout is the result
            kind = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, TypeError) as error:
        raise ConfigError(
            f"--estimator {spec}: {error}", "for example --estimator sklearn.cluster:Birch"
        ) from None
    if not all(hasattr(kind, name) for name in ("get_params", "fit", "predict")):
        raise ConfigError(
            f"--estimator {spec} is no scikit-learn estimator with fit and predict",
            "for example --estimator sklearn.cluster:Birch",
        )
    try:
        estimator = kind()
        known = estimator.get_params()
        settings: dict[str, Any] = {"n_clusters": n_clusters, "n_components": n_clusters}
        settings = {k: v for k, v in settings.items() if k in known}
        settings |= {"random_state": seed} if "random_state" in known else {}
        estimator = estimator.set_params(**settings)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"--estimator {spec} cannot be made without arguments: {error}",
            "for example --estimator sklearn.cluster:Birch",
        ) from None
    if (sort := _sort_of(estimator)) in ("classifier", "regressor", "outlier_detector"):
        raise ConfigError(
            f"--estimator {spec} finds no clusters (it is called a {sort}); "
            "a clusterer is needed",
            "for example --estimator sklearn.cluster:Birch",
        )
    return estimator


def _sort_of(estimator: Any) -> str | None:
    """What scikit-learn calls it (clusterer, regressor, ...); None if it has no word."""
    from sklearn.utils import get_tags

    try:
        return get_tags(estimator).estimator_type
    except AttributeError:  # from elsewhere, with fit and predict but without tags
        return None


def own_labels(estimator: Any, seen: np.ndarray) -> int:
    """How many labels of its own a fitted estimator may give (0 to n - 1).

    Raises
    ------
    ConfigError
        If they are not whole numbers from 0, or more than 255.
    """
    if not np.issubdtype(seen.dtype, np.integer) or (seen.size and seen.min() < 0):
        raise ConfigError(
            f"{type(estimator).__name__}.predict gives labels like {seen[:1]}; "
            "whole numbers from 0 are needed"
        )
    sizes = [int(seen.max()) + 1 if seen.size else 1]
    for name in ("n_clusters", "n_components"):
        value = getattr(estimator, name, None)
        if isinstance(value, int):
            sizes.append(value)
    if max(sizes) > MAX_CLUSTERS:
        raise ConfigError(
            f"{type(estimator).__name__} makes {max(sizes)} clusters; at most {MAX_CLUSTERS} "
            "can be stored"
        )
    return max(sizes)


def or_null(table: np.ndarray) -> Any:
    """Numbers as nested lists for JSON, with None where one is not finite."""
    found = table.astype(object)
    found[~np.isfinite(table)] = None
    return found.tolist()
