"""What the report says of fractions: a table of the groups, and how good the mixture is."""

from __future__ import annotations

import numpy as np

from hyperhpc.report import formats
from hyperhpc.report.formats import number, percent
from hyperhpc.report.tables import Cell, Table
from hyperhpc.results import RunResults

#: A residual above this share of the mean reflectance is called high.
_HIGH_RMSE = 0.1


def fraction_table(results: RunResults) -> Table | None:
    """Mean fraction of each group, its area, and where it is the largest."""
    about = results.unmixing
    if not about.get("groups"):
        return None
    n = int(about["pixels"])
    total_ha = results.hectares(n)
    decimals = formats.hectare_decimals(total_ha) if total_ha is not None else 0
    members: dict[str, list[str]] = {}
    for entry in about["endmembers"]:
        members.setdefault(entry["group"], []).append(entry["name"])
    rows = []
    for group in about["groups"]:
        names, mean, share = members[group["name"]], group["mean"], group["share_largest"]
        hectares = results.hectares(mean * n)
        rows.append([
            Cell(group["name"], mark="strong"),
            Cell("" if names == [group["name"]] else ", ".join(names)),
            Cell(percent(mean, 2), mean, is_number=True),
            Cell(number(hectares, decimals), hectares, is_number=True),
            Cell(percent(share, 2), share, is_number=True),
        ])  # fmt: skip
    head = ["Group", "Endmembers", "Mean fraction", "Area (ha)", "Largest in"]
    caption = formats.captions()["tables"]["fractions"].format(pixels=number(n))
    return Table("fractions", caption, head, rows, n_text=2)


def fraction_note(results: RunResults) -> tuple[str, bool] | None:
    """A sentence on the mean residual, and whether it is high; None without fractions."""
    rmse, brightness = results.unmixing.get("rmse"), _brightness(results)
    if rmse is None:
        return None
    text = f"The mean residual (RMSE) is {number(rmse, 4)} in reflectance"
    if not brightness:
        return f"{text}.", False
    text += f", {percent(rmse / brightness, 1)} of the mean reflectance ({number(brightness, 3)})"
    if rmse <= _HIGH_RMSE * brightness:
        return f"{text}.", False
    hint = "; or they are spectra of another scene or light, for which there is --unmix-by shape"
    hint = "" if results.unmixing.get("by") == "shape" else hint
    return (
        f"{text}. That is high: the endmembers do not explain the scene. A material may be "
        f"missing (the map of the residual shows where){hint}.",
        True,
    )


def _brightness(results: RunResults) -> float | None:
    """Mean reflectance over all bands and pixels with a cluster; None if it is not known."""
    for model in results.models:
        entry = results.cluster_entry(model)
        pairs = zip(entry.get("pixels") or (), entry.get("mean") or (), strict=False)
        known = [(n, float(np.mean(mean))) for n, mean in pairs if n and mean]
        if known:
            return sum(n * mean for n, mean in known) / sum(n for n, _ in known)
    return None
