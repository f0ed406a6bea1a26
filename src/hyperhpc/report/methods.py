"""Text for the methods section of a paper, made from what a run did, and its references."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from hyperhpc.report.formats import plural
from hyperhpc.report.tables import doi_link
from hyperhpc.results import RunResults

_TOOLS = ("scikit-learn", "dask", "numpy", "xarray")


def methods(results: RunResults) -> dict[str, Any]:
    """What ``methods.html.j2`` says besides the plain facts of a run: phrases and references."""
    run, scene, options = results.run, results.scene, results.run.get("options") or {}
    bands = [band for index in results.computed for band in index.get("bands") or []]
    stride, engine = int(options.get("stride") or 1), options.get("engine")
    versions = run.get("versions") or {}
    tools = [name for name in _TOOLS if name in versions]
    papers = list(tools)
    if results.models and not run.get("applied_model"):
        papers += [name for name in ("lloyd", "minibatch") if name in results.models]
        papers += ["k-means++"] if "lloyd" in papers and engine != "dask-ml" else []
    if results.models and results.clusters.get("agreement"):
        papers.append("ari")
    if results.unmixing:
        papers.append("unmixing")
    return {
        "indices": [_cite(index) for index in results.computed],
        "unmixing": results.unmixing,
        "farthest_nm": max((abs(b["centre_nm"] - b["wanted_nm"]) for b in bands), default=None),
        "grid": f" on a grid of every {_ordinal(stride)} row and column" if stride > 1 else "",
        "models": [_model(name, results.n_clusters(name), engine) for name in results.models],
        "tools": [f"{name} {versions[name]}" for name in tools],
        "is_neon": "NEON" in str([*(scene.get("notes") or []), scene.get("format")]),
        "references": _references(results, papers),
    }


def _model(name: str, n_clusters: int, engine: str | None) -> str:
    k = plural(n_clusters, "cluster")
    if name == "minibatch":
        return f"mini-batch k-means (Sculley 2010), {k}"
    if name != "lloyd":
        return f"{name} of scikit-learn, {k}"
    how = "as in dask-ml" if engine == "dask-ml" else "with k-means++ starts"
    return f"full-batch k-means (Lloyd 1982) {how}, {k}"


def _cite(entry: dict[str, object]) -> str:
    """``NDVI (Author 1974)``: as much of the citation as stands before its year's end."""
    title, citation = str(entry.get("title") or entry["name"]), str(entry.get("citation") or "")
    return f"{title} ({_short(citation)})" if citation else title


def _short(citation: str) -> str:
    """Authors and year of a reference, if they can be recognised; else all of it."""
    year = re.search(r"\b(1[89]|20)\d\d\b", citation)
    author = re.match(r"\s*([^\s,.;(&]+)", citation)
    if not year or not author:
        return citation
    before = citation[: year.start()].rstrip(" (.,")
    two = re.fullmatch(r"(\w+) (?:and|&) (\w+)", before)
    if two:
        return f"{two[1]} and {two[2]} {year[0]}"
    several = re.search(r",|&|\band\b|et al", before)
    return f"{author[1]}{' et al.' if several else ''} {year[0]}"


def _ordinal(n: int) -> str:
    if n % 100 in (11, 12, 13):
        return f"{n}th"
    return f"{n}{({1: 'st', 2: 'nd', 3: 'rd'}).get(n % 10, 'th')}"


def _references(results: RunResults, papers: list[str]) -> list[tuple[str, tuple[str, str] | None]]:
    """Papers of indices and of steps as (text, DOI link or None)."""
    known = tomllib.loads(Path(__file__).with_name("papers.toml").read_text("utf-8"))
    found: dict[str, tuple[str, tuple[str, str] | None]] = {}
    cited = [(str(e.get("citation") or ""), e.get("doi")) for e in results.computed]
    cited += [(known[key]["text"], known[key].get("doi")) for key in papers]
    for text, doi in cited:
        link = doi_link(doi)
        if text or link:
            found.setdefault(link[0] if link else text, (text, link))
    return sorted(found.values(), key=lambda reference: reference[0].casefold())
