"""Text for the methods section of a paper, made from what a run did, and its references."""

from __future__ import annotations

import re
from typing import Any

from hyperhpc.report.formats import TIMES, listing, number, plural, score, windows
from hyperhpc.report.tables import doi_link
from hyperhpc.results import RunResults

#: (key, text, DOI): papers behind the steps; versions of the software are the run's own.
_PAPERS = {
    "lloyd": ("Lloyd S. (1982). Least squares quantization in PCM. IEEE Transactions on "
              "Information Theory 28, 129\u2013137.", "10.1109/TIT.1982.1056489"),
    "kmeans++": ("Arthur D., Vassilvitskii S. (2007). k-means++: the advantages of careful "
                 "seeding. Proceedings of the 18th ACM-SIAM Symposium on Discrete Algorithms, "
                 "1027\u20131035.", None),
    "minibatch": ("Sculley D. (2010). Web-scale k-means clustering. Proceedings of the 19th "
                  "International Conference on World Wide Web, 1177\u20131178.",
                  "10.1145/1772690.1772862"),
    "ari": ("Hubert L., Arabie P. (1985). Comparing partitions. Journal of Classification 2, "
            "193\u2013218.", "10.1007/BF01908075"),
    "sklearn": ("Pedregosa F. et al. (2011). Scikit-learn: machine learning in Python. Journal "
                "of Machine Learning Research 12, 2825\u20132830.", None),
    "dask": ("Rocklin M. (2015). Dask: parallel computation with blocked algorithms and task "
             "scheduling. Proceedings of the 14th Python in Science Conference, 126\u2013132.",
             "10.25080/Majora-7b98e3ed-013"),
    "numpy": ("Harris C. R. et al. (2020). Array programming with NumPy. Nature 585, "
              "357\u2013362.", "10.1038/s41586-020-2649-2"),
    "xarray": ("Hoyer S., Hamman J. (2017). xarray: N-D labeled arrays and datasets in Python. "
               "Journal of Open Research Software 5, 10.", "10.5334/jors.148"),
}  # fmt: skip

Reference = tuple[str, tuple[str, str] | None]


def methods(results: RunResults) -> tuple[list[str], list[Reference]]:
    """Paragraphs on what was done, and references as (text, DOI link or None).

    Says only what the files on disk say; a part the run has not reached is left out.
    """
    run, scene, options = results.run, results.scene, results.run.get("options") or {}
    cited: list[str] = []
    paragraphs = [_data_text(results)]

    indices = results.computed
    if indices:
        names = listing([_cite(i) for i in indices])
        far = max(
            (abs(b["centre_nm"] - b["wanted_nm"]) for i in indices for b in i.get("bands") or []),
            default=None,
        )
        count = plural(len(indices), "spectral index", "spectral indices")
        text = f"We computed {count}: {names}."
        if far is not None:
            text += (
                " Every band in a formula was the one nearest to its wavelength, at most "
                f"{far:.1f} nm away."
            )
        paragraphs.append(text + " Where an index is not a finite number it has no value.")

    if results.models:
        applied = run.get("applied_model")
        text = _applied(results, applied) if applied else _fitted(results, options, cited)
        text += "; clusters are numbered by ascending near-infrared reflectance."
        for pair in results.clusters.get("agreement") or []:
            if "ari" not in cited:
                cited.append("ari")
            a, b = pair["models"]
            text += (
                f" The adjusted Rand index (Hubert and Arabie 1985) of {a} and {b} over all "
                f"classified pixels is {score(pair.get('adjusted_rand_index'))}."
            )
        paragraphs.append(text)

    versions = run.get("versions") or {}
    known = {"scikit-learn": "sklearn", "dask": "dask", "numpy": "numpy", "xarray": "xarray"}
    used = [(n, k) for n, k in known.items() if n in versions]
    if used:
        tools = listing([f"{n} {versions[n]}" for n, _ in used])
        paragraphs.append(f"The analysis was run with hyperhpc {run['hyperhpc']} on {tools}.")
        cited += [k for _, k in used]
    notes = scene.get("notes") or []
    if any("NEON" in str(n) for n in [*notes, scene.get("format") or ""]):
        paragraphs.append(
            "NEON asks that its data products be cited with their product number, release and "
            "date of access; add these."
        )
    return paragraphs, _references(results, cited)


def _data_text(results: RunResults) -> str:
    run, scene = results.run, results.scene
    shape = results.area.get("shape")
    text = f"The scene {results.scene_name}"
    if shape:
        text += f" ({number(shape[0])} {TIMES} {number(shape[1])} pixels, {results.crs.label})"
    low_high = scene.get("wavelength_nm")
    if results.n_bands and low_high:
        text += f" has {results.n_bands} bands between {low_high[0]:.0f} and {low_high[1]:.0f} nm"
    else:
        text += " was analysed"
    dropped = (run.get("bands") or {}).get("dropped_windows_nm") or []
    if results.n_good and dropped:
        text += f"; {results.n_good} were kept after dropping {windows(dropped)}"
        n_bad = run["bands"].get("n_flagged_bad")
        text += f" and {n_bad} that the file flags as bad" if n_bad else ""
    text += "."
    scale = scene.get("scale_factor")
    if scale and scale != 1:
        text += f" Stored numbers were divided by {scale:g} to give reflectance."
    pixels = run.get("pixels") or {}
    if pixels.get("nodata") is not None and pixels.get("total"):
        nodata = ", ".join(f"{v:g}".replace("-", "\u2212") for v in scene.get("nodata") or [])
        which = f" (stored as {nodata})" if nodata else ""
        text += (
            f" Pixels without data in any kept band{which} were left out: "
            f"{number(pixels['nodata'])} of {number(pixels['total'])}."
        )
    return text


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


def _references(results: RunResults, cited: list[str]) -> list[Reference]:
    found: dict[str, Reference] = {}
    for entry in results.computed:
        text, link = str(entry.get("citation") or ""), doi_link(entry.get("doi"))
        if text or link:
            found.setdefault(link[0] if link else text, (text, link))
    for key in cited:
        text, doi = _PAPERS[key]
        found.setdefault(doi or text, (text, doi_link(doi)))
    return sorted(found.values(), key=lambda r: r[0].casefold())


def _applied(results: RunResults, applied: dict[str, Any]) -> str:
    """How the clusters of another scene were found in this one."""
    n_fit = results.model.get("n_pixels_fit")
    fitted = f", fitted to {number(n_fit)} pixels of another scene" if n_fit else ""
    return (
        f"Every valid pixel of the area was given the nearest centre of the models "
        f"{listing(results.models)} of an earlier analysis{fitted} (model.json, SHA-256 "
        f"{str(applied.get('sha256'))[:12]}); each band was matched to the nearest of this "
        "scene, at most 2.5 nm away, and scaled as there"
    )


def _fitted(results: RunResults, options: dict[str, Any], cited: list[str]) -> str:
    """How the models were fitted."""
    n_fit = results.model.get("n_pixels_fit")
    stride = options.get("stride")
    text = "For clustering"
    if n_fit:
        text += f", {number(n_fit)} valid pixels"
        if stride and int(stride) > 1:
            text += f" on a grid of every {_ordinal(int(stride))} row and column"
        text += " were taken as a sample;"
    text += " each band was scaled by the sample's mean and population standard deviation. "
    kinds = []
    for model in results.models:
        k = plural(results.n_clusters(model), "cluster")
        if model == "lloyd" and options.get("engine") == "dask-ml":
            kinds.append(f"full-batch k-means (Lloyd 1982) as in dask-ml, {k}")
            cited.append("lloyd")
        elif model == "lloyd":
            kinds.append(f"full-batch k-means (Lloyd 1982) with k-means++ starts, {k}")
            cited += ["lloyd", "kmeans++"]
        elif model == "minibatch":
            kinds.append(f"mini-batch k-means (Sculley 2010), {k}")
            cited.append("minibatch")
        else:
            kinds.append(f"{model} of scikit-learn, {k}")
    text += f"We fitted {listing(kinds)}"
    seed = options.get("seed")
    text += f" (seed {seed})." if seed is not None else "."
    if set(results.models) <= {"lloyd", "minibatch"}:
        return (
            f"{text} Every valid pixel of the area was then given the cluster of the nearest centre"
        )
    return f"{text} Every valid pixel of the area was then classified"
