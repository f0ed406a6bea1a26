"""What the JSON files that we read must look like: one table, by the names of the files.

A file may have been written by another program, or cut and completed by hand: JSON of another
form would end a command in a traceback, far from the file that is at fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NUMBER = (int, float)
#: Name of a file to its form: a type, or the types of keys, each of which may be absent; values of
#: a list or of any key are given under ``*``.
FORMS: dict[str, Any] = {
    "run.json": {
        "complete": bool, "hyperhpc": str, "command": str, "scene": dict, "area": dict,
        "options": dict, "bands": dict, "indices": {"computed": {"*": dict}, "skipped": list},
        "pixels": dict, "tiles": dict, "machine": dict, "workers": dict, "versions": dict,
        "choices": {"*": str}, "peak_memory_mib": dict, "bad_tiles": {"*": dict},
        "warnings": {"*": str}, "stages": {"*": dict},
    },
    "plan.json": {"options": dict, "fingerprint": dict},
    "checksums.json": {"algorithm": str, "files": {"*": (list, type(None))}},
    "model.json": {
        "wavelength_nm": {"*": _NUMBER}, "mean": {"*": _NUMBER}, "scale": {"*": _NUMBER},
        "models": {"*": {"centers": list, "counts": list}},
    },
    "clusters.json": {"models": {"*": {"mean": list, "sd": list, "counts": list, "nir": list}}},
    "classes.json": {"models": {"*": {"*": {"name": str, "clusters": {"*": int}}}}},
    "cluster-spectra.json": {"*": dict},
    "spectra.json": {"*": dict},
}  # fmt: skip
#: Files that hold a list; all others with keys hold an object.
_LISTS = {"spectra.json"}
#: Keys without which a file is of no use.
_NEEDED = {"checksums.json": ("files",), "model.json": ("models", "wavelength_nm"),
           "classes.json": ("models",)}  # fmt: skip


def find_misfit(name: str, value: Any) -> str | None:
    """What is wrong with the content of a file, in words; None if nothing is, or it is unknown.

    ``name``: Of the file, without folders.
    """
    form = FORMS.get(name)
    if form is None:
        return None
    kind = list if name in _LISTS else dict
    if not isinstance(value, kind):
        return f"it holds {_describe(value)}, not {_NAMES[kind]}"
    if missing := [key for key in _NEEDED.get(name, ()) if key not in value]:
        return f"{missing[0]} is missing"
    return _compare(value, form, "")


def _compare(value: Any, form: Any, place: str) -> str | None:
    if not isinstance(form, Mapping):
        kinds = form if isinstance(form, tuple) else (form,)
        if type(value) in kinds:
            return None
        return f"{place} is {_describe(value)}, not {_NAMES[kinds[0]]}"
    if not isinstance(value, dict | list):
        return f"{place} is {_describe(value)}, not an object or a list"
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        wanted = form.get(key, form.get("*"))
        if wanted is not None and (found := _compare(item, wanted, f"{place}/{key}")):
            return found
    return None


_NAMES = {
    dict: "an object", list: "a list", str: "a text", bool: "true or false", int: "a number",
    float: "a number", type(None): "null",
}  # fmt: skip


def _describe(value: Any) -> str:
    return _NAMES[type(value)]
