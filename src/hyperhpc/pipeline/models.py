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
from typing import Any

import numpy as np

from hyperhpc.analysis.kernel import Scaler, Scorer, label_pixels
from hyperhpc.config import MAX_CLUSTERS
from hyperhpc.errors import ConfigError


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

    def label(self, dn: np.ndarray) -> np.ndarray:
        """Labels (pixel), uint8, of valid pixels (pixel, good band) in DN."""
        if self.centres is not None:
            return label_pixels(dn, [Scorer(self.centres, self.scaler)])[0]
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


def label_all(labellers: Sequence[Labeller], dn: np.ndarray) -> np.ndarray:
    """Labels (model, pixel) of valid pixels (pixel, good band) under all models.

    Models of nearest centres share one cast of the pixels.
    """
    labels = np.empty((len(labellers), len(dn)), dtype=np.uint8)
    by_centres = [m for m, labeller in enumerate(labellers) if labeller.centres is not None]
    scorers = [Scorer(labellers[m].centres, labellers[m].scaler) for m in by_centres]  # type: ignore[arg-type]
    labels[by_centres] = label_pixels(dn, scorers)
    for m in set(range(len(labellers))) - set(by_centres):
        labels[m] = labellers[m].label(dn)
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
