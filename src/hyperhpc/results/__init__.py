"""The one reader of what a run has written into its folder.

``reader`` opens a run: its JSON files whole, its maps a window at a time, its overviews;
``pyramid`` holds the overviews, maps of reduced size from which all pictures are drawn;
``classes`` has the clusters under the names that the user has given them.
"""

from hyperhpc.results.classes import ClusterClass, cluster_title
from hyperhpc.results.pyramid import TARGET_PX, Extent, FloatMap, Pyramid, reduce_mean, widen_equal
from hyperhpc.results.reader import STRIP_ROWS, JsonDict, RunResults, open_results, row_strips

__all__ = [
    "STRIP_ROWS",
    "TARGET_PX",
    "ClusterClass",
    "Extent",
    "FloatMap",
    "JsonDict",
    "Pyramid",
    "RunResults",
    "cluster_title",
    "open_results",
    "reduce_mean",
    "row_strips",
    "widen_equal",
]
