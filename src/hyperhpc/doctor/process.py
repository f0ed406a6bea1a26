"""What this process was started with: locale and limits."""

from __future__ import annotations

import os
import resource
import sys

from hyperhpc.doctor.finding import Finding
from hyperhpc.doctor.slurm import in_job

#: What Python sets LC_CTYPE to by itself if the locale is C.
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
#: Files and sockets of one process: a run on this machine, and each further Slurm task.
_FILES, _FILES_PER_TASK = 512, 8


def check_locale() -> Finding:
    """Whether names of files and text are UTF-8, here and in programs we start."""
    encodings = {sys.getfilesystemencoding(), (sys.stdout and sys.stdout.encoding) or "utf-8"}
    wrong = sorted(name for name in encodings if name.lower().replace("-", "") != "utf8")
    variable, text = _locale()
    named = f"{variable}={text}" if variable else "LANG is not set"
    if wrong:
        remedy = "unset LC_ALL PYTHONIOENCODING PYTHONUTF8; export LANG=C.UTF-8"
        return Finding("error", f"Python takes text as {', '.join(wrong)}; {named}", remedy)
    if "utf8" not in text.lower().replace("-", ""):
        unset = "unset LC_ALL; " if variable == "LC_ALL" else ""
        here = "Python uses UTF-8 all the same, other programs do not"
        return Finding("warning", f"{named}: {here}", f"{unset}export LANG=C.UTF-8")
    return Finding("ok", f"UTF-8, {named}")


def _locale() -> tuple[str, str]:
    """The variable that decides, and its value."""
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        text = os.environ.get(name, "")
        if text and not (name == "LC_CTYPE" and text in _COERCED):
            return name, text
    return "", ""


def check_open_files() -> Finding:
    """How many files and sockets one process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    tasks = os.environ.get("SLURM_NTASKS", "")
    needed = _FILES + _FILES_PER_TASK * (int(tasks) if tasks.isdecimal() else 0)
    most = "no limit" if hard == resource.RLIM_INFINITY else str(hard)
    if soft == resource.RLIM_INFINITY:
        return Finding("ok", "no limit")
    value = f"{soft} (at most {most})"
    if soft >= needed:
        return Finding("ok", value)
    if hard == resource.RLIM_INFINITY or hard >= needed:
        remedy = f"ulimit -n {max(needed, 4096) if hard < 0 else min(hard, max(needed, 4096))}"
    else:
        remedy = f"ask the administrators for a hard limit of {needed} open files"
    return Finding(
        "error" if soft < 128 else "warning", f"{value}, {needed} are needed", remedy
    )


def check_core_files() -> Finding:
    """Whether a process that dies leaves a file as large as its memory."""
    soft, _ = resource.getrlimit(resource.RLIMIT_CORE)
    if soft == 0:
        return Finding("ok", "none are written")
    size = "of any size" if soft == resource.RLIM_INFINITY else f"of up to {soft} bytes"
    if in_job():
        return Finding("warning", f"{size}, from each worker that dies", "ulimit -c 0")
    return Finding("ok", size)
