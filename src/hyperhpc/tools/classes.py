"""Names, colours and merges of the clusters of a run: a file to edit, checked and kept in OUT."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import to_hex

from hyperhpc.analysis.cover import BARE, BRIGHT, DARK, DRY, GREEN, SPARSE, WATER, suggest_cover
from hyperhpc.errors import ConfigError, unreadable
from hyperhpc.files import atomic_outputs, check_guard
from hyperhpc.reading import read_file
from hyperhpc.report.formats import percent
from hyperhpc.report.style import model_colours
from hyperhpc.report.tables import mean_spectrum_indices
from hyperhpc.results import ClusterClass, RunResults, cluster_title, open_results
from hyperhpc.results.classes import (
    MAX_NAME,
    classes_to_json,
    is_color,
    is_name,
    merge_by_name,
    read_classes,
)
from hyperhpc.rundir.folder import RunFolder
from hyperhpc.sealed import write_sealed
from hyperhpc.tools.preview import report_run

_MAX_BYTES = 2**20
#: Colours that are suggested with a kind of land.
_COLORS = {
    WATER: "#2166ac", GREEN: "#1b7837", SPARSE: "#a6dba0", DRY: "#dfc27d", BRIGHT: "#f4a582",
    DARK: "#8c6d5a", BARE: "#bf812d",
}  # fmt: skip
_HEAD = """\
# Names of the clusters of {model} in the run {out}.
# Edit name and, if you like, color ("#rrggbb", without the # before the word color); clusters
# with the same name become one class, which needs its color only once.
# A suggestion is a guess from the mean spectrum: look at the maps before you take it over.
# Brightness is the mean reflectance over all good bands; indices are those of the mean spectrum.
# Then put it into force: hyperhpc classes {out} FILE
"""


def write_template(out: Path, file: Path, model: str | None) -> None:
    """Write a file to edit: a table per cluster with what is known of it.

    Raises ConfigError: there is no finished run or no such model, or the file exists.
    """
    text = make_template(out, model)
    with atomic_outputs(file) as folder:
        (folder / file.name).write_text(text, "utf-8", "backslashreplace")


def make_template(out: Path, model: str | None) -> str:
    """Text of the file to edit, with the names and colours that are in force now.

    ``model``: None for the first model of the run.

    Raises ConfigError: there is no finished run, or no such model in it.
    """
    results = open_results(out, complete=True)
    model = _choose_model(results, model)
    parts = [_HEAD.format(model=model, out=shlex.quote(str(out)))]
    facts, colors = _describe_clusters(results, model)
    classes = {k: one for one in results.classes(model) for k in one.clusters}
    for k, lines in enumerate(facts):
        one = classes[k]
        color = f'color = "{one.color}"' if one.color else f'# color = "{colors[k]}"'
        comments = "".join(f"# {line}\n" for line in lines)
        table = f"{_key(model)}.{cluster_title(k)}"
        parts.append(f"\n[{table}]\n{comments}name = {_quoted(one.name)}\n{color}\n")
    return "".join(parts)


def _describe_clusters(results: RunResults, model: str) -> tuple[list[list[str]], list[str]]:
    """Comments on each cluster: share, brightness, indices, suggestion; and suggested colours."""
    entry = results.cluster_entry(model)
    spectra = np.array(entry["mean"], dtype=np.float64)  # None is NaN: an empty cluster
    nm = np.asarray(results.model["wavelength_nm"], dtype=np.float64)
    total = sum(entry["pixels"]) or 1
    found = mean_spectrum_indices(results, model) or {}
    words = suggest_cover(nm, spectra)
    about = []
    for k, pixels in enumerate(entry["pixels"]):
        values = [f"{name} {v[k]:.3g}" for name, v in found.items() if np.isfinite(v[k])]
        shown = [f"{_plain(percent(pixels / total))} of the clustered pixels"]
        if np.isfinite(spectra[k]).any():
            shown.append(f"brightness {np.nanmean(spectra[k]):.3g}")
        lines = ["; ".join(shown), ", ".join(values), f"suggestion: {words[k] or 'none'}"]
        about.append([line for line in lines if line])
    own = [to_hex(colour) for colour in model_colours(results, model)]
    return about, [_COLORS.get(word, own[k]) for k, word in enumerate(words)]


def _plain(text: str) -> str:
    return text.replace("\u202f", " ")


def _quoted(text: str) -> str:
    """A basic string of TOML; names hold no control characters."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _key(model: str) -> str:
    return model if re.fullmatch(r"[\w-]+", model, re.ASCII) else _quoted(model)


def install_classes(
    out: Path, file: Path, model: str | None, notify: Callable[[str], None]
) -> Path:
    """Check a file, keep its names in OUT, and draw the report again; returns the page.

    Models that the file does not name keep the classes they have.

    ``model``: Take only the names of this model.

    Raises ConfigError: the file cannot be read, or what it says does not fit the run.
    """
    results = open_results(out, complete=True)
    found = read_class_file(results, file)
    if model is not None:
        chosen = _choose_model(results, model)
        if chosen not in found:
            raise ConfigError(
                f"{file} has no names of {chosen}, only of {' '.join(found)}",
                f"Write them: hyperhpc classes {shlex.quote(str(out))} --model {chosen}",
            )
        found = {chosen: found[chosen]}
    before = read_classes(results.folder)
    _keep(results.folder, before | found)
    try:
        return report_run(out, notify)
    except BaseException:  # the report and exports would show other names
        _keep(results.folder, before)
        raise


def remove_classes(out: Path, model: str | None, notify: Callable[[str], None]) -> Path:
    """Go back to numbers, of one model or of all, and draw the report again; returns the page.

    Raises ConfigError: there is no finished run, or it has no such names.
    """
    results = open_results(out, complete=True)
    folder, kept = results.folder, {}
    if model is not None:
        chosen = _choose_model(results, model)
        kept = read_classes(folder)
        if kept.pop(chosen, None) is None:
            raise ConfigError(f"The clusters of {chosen} in {out} have no names", None)
    elif not folder.classes.exists():
        raise ConfigError(f"The clusters in {out} have no names", None)
    _keep(folder, kept)
    return report_run(out, notify)


def _keep(folder: RunFolder, classes: Mapping[str, tuple[ClusterClass, ...]]) -> None:
    check_guard(folder.classes)
    if classes:
        write_sealed(folder.classes, classes_to_json(classes))
    else:
        folder.classes.unlink(missing_ok=True)


def _choose_model(results: RunResults, model: str | None) -> str:
    names = results.model_names
    if model is None:
        return names[0]
    if model not in names:
        raise ConfigError(
            f"The run in {results.folder.out} has no model {model!r}",
            f"--model takes {' '.join(names)}",
        )
    return model


# --- the file of the user ----------------------------------------------------------------


def read_class_file(results: RunResults, file: Path) -> dict[str, tuple[ClusterClass, ...]]:
    """Classes by model, as a TOML file says.

    Raises ConfigError: it cannot be read; it names a model or a cluster that is not in the run,
    or lacks one; a name or a colour cannot be used; or a name has two colours.
    """
    try:
        data = tomllib.loads(read_file(file, _MAX_BYTES).decode("utf-8-sig"))
    except OSError as error:
        raise unreadable(file, error) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not a readable TOML file: {error}", _again(results)) from None
    if not data:
        raise ConfigError(f"{file} names no cluster", _again(results))
    found = {}
    for model, clusters in data.items():
        if model not in results.model_names:
            raise ConfigError(
                f"{file} names the model {model}, which is not in the run",
                f"The run has {' '.join(results.model_names)}",
            )
        found[model] = _read_model(results, file, model, clusters)
    return found


def _again(results: RunResults) -> str:
    return f"Write a new one: hyperhpc classes {shlex.quote(str(results.folder.out))} FILE"


def _read_model(
    results: RunResults, file: Path, model: str, clusters: Any
) -> tuple[ClusterClass, ...]:
    titles = [cluster_title(k) for k in range(results.n_clusters(model))]
    if not isinstance(clusters, dict):
        raise ConfigError(f"{file}: {model} is not a table of clusters", _again(results))
    if unknown := [title for title in clusters if title not in titles]:
        raise ConfigError(
            f"{file}: {model} has no cluster {unknown[0]}",
            f"Its clusters are {titles[0]} to {titles[-1]}",
        )
    if missing := [title for title in titles if title not in clusters]:
        raise ConfigError(
            f"{file}: cluster {missing[0]} of {model} is missing",
            f'Add it: [{_key(model)}.{missing[0]}] and, below it, name = "{missing[0]}"',
        )
    names: list[str] = []
    colors: dict[str, str | None] = {}
    first: dict[str, tuple[str, str]] = {}
    for title in titles:
        name, color = _read_cluster(f"{file}: {model}.{title}", clusters[title])
        _check_spelling(file, title, name, first)
        if color is not None and (other := colors.setdefault(name, color)) != color:
            raise ConfigError(
                f"{file}: {name!r} has two colours, {other} and {color}",
                "Clusters with one name have one colour: give it once",
            )
        names.append(name)
    for title, name in zip(titles, names, strict=True):
        if name in titles and names[titles.index(name)] != name:
            raise ConfigError(
                f"{file}: {title} is named {name}, which is another cluster with another name",
                "Give both the same name, or use another",
            )
    return merge_by_name(names, colors)


def _read_cluster(what: str, entry: Any) -> tuple[str, str | None]:
    """Name and colour (lower case) of one cluster."""
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise ConfigError(f"{what} has no name", 'Write name = "..." below it')
    if unknown := set(entry) - {"name", "color"}:
        raise ConfigError(f"{what} has an unknown key {min(unknown)}", "Known are name and color")
    name, color = entry["name"].strip(), entry.get("color") or None
    if not is_name(name):
        raise ConfigError(
            f"{what} has a name that cannot be shown: {name[:MAX_NAME]!r}",
            f"A name has 1 to {MAX_NAME} letters on one line",
        )
    if color is not None and not is_color(color):
        raise ConfigError(
            f"{what} has the color {color!r}, which is none",
            'Write it as "#rrggbb", for example "#1b7837", or leave it out',
        )
    return name, color and color.lower()


def _check_spelling(file: Path, title: str, name: str, first: dict[str, tuple[str, str]]) -> None:
    """Refuse names that differ in case only: somebody has meant the same."""
    other, known = first.setdefault(name.casefold(), (title, name))
    if known != name:
        raise ConfigError(
            f"{file}: {other} is named {known!r} and {title} {name!r}, which differ in case only",
            "Write both in the same way, or use another name",
        )
