"""Classes of a model: its clusters under the names that the user has given them.

The labels in ``results.zarr`` stay. Names, colours and merges lie in ``OUT/classes.json``, which
``hyperhpc classes`` writes; all that is drawn and exported takes them from here.
"""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.sealed import DamagedJsonError, read_json

JsonDict = dict[str, Any]
#: Letters of the longest name, which a legend must hold.
MAX_NAME = 60
_COLOR = re.compile("#[0-9a-fA-F]{6}")


@dataclass(frozen=True)
class ClusterClass:
    """One cluster, or several that have the same name.

    ``name``: As it is shown; ``C3`` for a cluster without a name.
    ``clusters``: Their labels, ascending; the first is the number of the class.
    ``color``: ``#rrggbb``; None for the colour that the first cluster has in the report.
    """

    name: str
    clusters: tuple[int, ...]
    color: str | None = None

    @property
    def number(self) -> int:
        """Value of the class in maps of classes: the smallest label of its clusters."""
        return self.clusters[0]

    @property
    def is_named(self) -> bool:
        """True if the class shows anything but the number of a single cluster."""
        return self != ClusterClass(cluster_title(self.number), (self.number,))

    def sum_of(self, values: Sequence[float]) -> float:
        """Sum of a number that each cluster has, such as its pixels."""
        return sum(values[k] or 0 for k in self.clusters)


def cluster_title(label: int) -> str:
    """The name of a cluster that nobody has named."""
    return f"C{label}"


def plain_classes(n_clusters: int) -> tuple[ClusterClass, ...]:
    """Each cluster as a class of its own."""
    return tuple(ClusterClass(cluster_title(k), (k,)) for k in range(n_clusters))


def merge_by_name(
    names: Sequence[str], colors: Mapping[str, str | None]
) -> tuple[ClusterClass, ...]:
    """Classes of clusters 0, 1 ... with these names, in the order of their numbers.

    ``colors``: Colour of a name, if it has one.
    """
    members: dict[str, list[int]] = {}
    for k, name in enumerate(names):
        members.setdefault(name, []).append(k)
    return tuple(
        ClusterClass(name, tuple(clusters), colors.get(name)) for name, clusters in members.items()
    )


def class_table(classes: Sequence[ClusterClass]) -> np.ndarray:
    """Number of the class of each label, uint8 (256,); labels of no cluster stay as they are."""
    table = np.arange(256, dtype=np.uint8)
    for one in classes:
        table[list(one.clusters)] = one.number
    return table


def classes_to_json(classes: Mapping[str, Sequence[ClusterClass]]) -> JsonDict:
    """Content of classes.json."""
    return {
        "models": {
            model: [
                {"name": one.name, "clusters": list(one.clusters), "color": one.color}
                for one in found
            ]
            for model, found in classes.items()
        }
    }


def read_classes(folder: RunFolder) -> dict[str, tuple[ClusterClass, ...]]:
    """Classes by model, as ``hyperhpc classes`` has written them; empty without the file.

    Raises ConfigError: the file is damaged.
    """
    if not folder.classes.exists():
        return {}
    try:
        models = read_json(folder.classes)["models"]
        return {str(model): tuple(map(_read_class, found)) for model, found in models.items()}
    except (DamagedJsonError, KeyError, TypeError, ValueError) as error:
        why = error.message if isinstance(error, ConfigError) else f"{folder.classes} is damaged"
        raise ConfigError(why, names_hint(folder.out)) from None


def _read_class(entry: JsonDict) -> ClusterClass:
    """A class, as it may be drawn and written into files of other programs."""
    name, color = str(entry["name"]), entry.get("color")
    if not is_name(name) or not (color is None or is_color(color)):
        raise ValueError
    return ClusterClass(name, tuple(map(int, entry["clusters"])), color)


def is_name(text: str) -> bool:
    """True for a name of at most ``MAX_NAME`` letters on one line, without spaces around it."""
    return 0 < len(text) <= MAX_NAME and text.isprintable() and text == text.strip()


def is_color(value: Any) -> bool:
    """True for ``#rrggbb``."""
    return isinstance(value, str) and _COLOR.fullmatch(value) is not None


def check_classes(folder: RunFolder, model: str, classes: Sequence[ClusterClass], n: int) -> None:
    """Raise ConfigError if classes are not those of ``n`` clusters."""
    labels = Counter(k for one in classes for k in one.clusters)
    if labels != Counter(range(n)):
        raise ConfigError(
            f"{folder.classes} names other clusters than the {n} of {model}", names_hint(folder.out)
        )


def names_hint(out: Path) -> str:
    """What to do about names that cannot be read."""
    return (
        f"Remove the names, and give them again: hyperhpc classes {shlex.quote(str(out))} --remove"
    )
