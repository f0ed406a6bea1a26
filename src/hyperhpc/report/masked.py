"""What the report says of ``--where``: how many pixels meet the conditions, and what grey means."""

from __future__ import annotations

from hyperhpc.report.formats import captions, hectare_decimals, number, percent
from hyperhpc.report.tables import Cell, Table
from hyperhpc.results import RunResults


def condition_table(results: RunResults) -> Table | None:
    """Pixels that meet each condition, and all of them; None for a run without conditions."""
    counts = results.clusters.get("where")
    if not counts:
        return None
    valid, clustered = int(counts["valid"]), int(counts["clustered"])
    whole = results.hectares(valid)
    decimals = hectare_decimals(whole) if whole is not None else 0

    def row(name: str, n: int) -> list[Cell]:
        hectares, share = results.hectares(n), n / valid if valid else None
        return [
            Cell(name, mark="strong"),
            Cell(number(n), n, is_number=True),
            Cell(number(hectares, decimals), hectares, is_number=True),
            Cell(percent(share, 2), share, is_number=True),
        ]

    rows = [row(str(entry["condition"]), int(entry["pixels"])) for entry in counts["conditions"]]
    rows.append(row("Not clustered", valid - clustered))
    head = ["Condition", "Pixels", "Area (ha)", "Share of the data"]
    foot = row("Clustered: all conditions hold", clustered)
    return Table("conditions", captions()["tables"]["conditions"], head, rows, foot)


def grey_words(results: RunResults) -> str:
    """A sentence on the darker grey of maps of clusters; empty if there is none."""
    if not results.conditions:
        return ""
    return (
        f" Darker grey: not clustered, since {conditions_words(results)} does not hold; shares are"
        " those of the clustered pixels."
    )


def conditions_words(results: RunResults) -> str:
    """All conditions as one."""
    texts = results.conditions
    return texts[0] if len(texts) == 1 else " and ".join(f"({text})" for text in texts)
