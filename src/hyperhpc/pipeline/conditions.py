"""What is said of the conditions of ``--where``: how many pixels meet them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hyperhpc.errors import ConfigError
from hyperhpc.pipeline.context import RunContext


def count_masked(ctx: RunContext, tiles: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Entry ``where`` of clusters.json, from the records of classified tiles; {} without any.

    It counts the valid pixels, those of them that have a cluster, and those that meet each
    condition, whether they meet the others or not.
    """
    if not len(ctx.conditions):
        return {}
    counts = np.sum([tile["holding"] for tile in tiles], axis=0).tolist()
    met = [
        {"condition": text, "pixels": n}
        for text, n in zip(ctx.conditions.texts, counts, strict=True)
    ]
    valid, clustered = (sum(tile[key] for tile in tiles) for key in ("valid", "clustered"))
    return {"where": {"valid": valid, "clustered": clustered, "conditions": met}}


def no_pixel_left(ctx: RunContext, n_valid: int, tiles: Sequence[dict[str, Any]]) -> ConfigError:
    """No pixel meets all conditions: how many meet each, and the range of what is compared.

    ``tiles``: What :func:`hyperhpc.compute.sample.count_valid` has returned of each.
    """
    counts = np.sum([tile["holding"] for tile in tiles], axis=0).tolist()
    met = zip(ctx.conditions.texts, counts, strict=True)
    held = ", ".join(f"{text!r} in {n}" for text, n in met)
    ranges = []
    for i, name in enumerate(ctx.conditions.names):
        low, high = (
            [value for tile in tiles if (value := tile[end][i]) is not None]
            for end in ("lowest", "highest")
        )
        span = f"from {min(low):.4g} to {max(high):.4g}" if low else "missing everywhere"
        ranges.append(f"{name} is {span}")
    return ConfigError(
        f"None of the {n_valid} valid pixels meets --where: {held}",
        f"Give other limits: {', '.join(ranges)}",
    )
