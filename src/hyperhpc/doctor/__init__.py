"""Checks of the environment in which hyperhpc runs: ``hyperhpc doctor``.

Each check is a function that returns a :class:`Finding`; its arguments are for tests only. It
imports what it needs itself, so that a broken package affects its own lines only. ``finding``
shows the lines.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections.abc import Callable, Mapping

from hyperhpc.doctor import files, machine, network, packages
from hyperhpc.doctor.finding import Finding, Line, show_json, show_lines
from hyperhpc.errors import cause

__all__ = ["CHECKS", "Finding", "Line", "examine", "show_json", "show_lines"]

#: Name to check, in the order they are shown.
CHECKS: Mapping[str, Callable[[], Finding]] = {
    "python": packages.check_python,
    "packages": packages.check_versions,
    "imports": packages.check_imports,
    "container": machine.check_container,
    "PYTHONPATH": packages.check_pythonpath,
    "user site": packages.check_user_site,
    "conda": packages.check_conda,
    "origins": packages.check_origins,
    "cores": machine.check_cores,
    "memory": machine.check_memory,
    "cgroup": machine.check_cgroup,
    "slurm job": machine.check_allocation,
    "slurm": machine.check_commands,
    "settings": packages.check_settings,
    "threads": packages.check_threads,
    "blas": packages.check_blas,
    "codecs": packages.check_codecs,
    "TMPDIR": files.check_tmpdir,
    "caches": files.check_caches,
    "locale": machine.check_locale,
    "open files": machine.check_open_files,
    "core files": machine.check_core_files,
    "interfaces": network.check_interfaces,
    "openssl": network.check_openssl,
    "tls": network.check_tls,
}


def examine(checks: Mapping[str, Callable[[], Finding]] | None = None) -> list[Line]:
    """Make all checks; a check that raises becomes an error line, never a traceback."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # what libraries log is in the lines
    try:
        # A package that prints while it is imported must not write between the lines
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return [_line(name, check) for name, check in (checks or CHECKS).items()]
    finally:
        logging.disable(before)


def _line(name: str, check: Callable[[], Finding]) -> Line:
    try:
        found = check()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - broken packages raise anything
        remedy = "see the errors of other lines first; if there are none, please report this line"
        found = Finding("error", f"the check itself failed: {cause(error)}", remedy)
    return Line(name, found.status, found.value, found.remedy)
