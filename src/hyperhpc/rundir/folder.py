"""Whose folder OUT is: new, this run's own to go on with, or not to be touched."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from hyperhpc.errors import ConfigError, ResourceError
from hyperhpc.pipeline.manifest import RunFolder, read_json, write_json
from hyperhpc.rundir.lock import LOCK, move_lock
from hyperhpc.rundir.plan import Plan

_ELSEWHERE = "name another OUT"
#: The option that a run may be given later: all it has finished it would have done so too.
_MAY_BE_ADDED = "skip_bad_tiles"
#: Logs that a job writes there before and beside the run.
_LOGS = "slurm"


def claim_folder(
    folder: RunFolder,
    plan: Plan,
    *,
    scene: Path,
    restart: bool,
    beside: Collection[str] = (),
) -> tuple[Plan, bool]:
    """Make OUT, or take up the plan that is in it.

    Parameters
    ----------
    plan
        Of this call. A plan found in OUT wins if options and scene agree.
    scene
        Where the scene lies: OUT must not be in it.
    restart
        Rename what is there aside (``OUT.old-1``) and begin anew.
    beside
        Names that OUT may hold besides a run: the demonstration keeps its scene there.

    Returns
    -------
    The plan to follow, and True if it is new.

    Raises
    ------
    ConfigError
        OUT is a file, lies in the scene, holds something else, or another run.
    ResourceError
        OUT cannot be made.
    """
    out = folder.out
    found = check_folder(folder, plan, scene, restart, beside)
    if found is not None:
        if found.options != plan.options:
            found = replace(found, options=plan.options)
            write_json(folder.plan, found.to_json())
        return found, False
    if restart and folder.plan.is_file():
        _rename_aside(folder, scene)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(folder.plan, plan.to_json())
    except OSError as error:
        folder.remove()
        raise ResourceError(
            f"{out} cannot be made: {error.strerror or error}", _ELSEWHERE
        ) from None
    return plan, True


def check_folder(
    folder: RunFolder, plan: Plan, scene: Path, restart: bool, beside: Collection[str] = ()
) -> Plan | None:
    """The checks of :func:`claim_folder`, which touch nothing.

    Returns
    -------
    The plan found in OUT, to go on with; None if a new run begins.
    """
    out = folder.out
    _check_outside(out, scene)
    if folder.plan.is_file():
        if restart:
            return None
        found = read_plan(folder)
        check_same(folder, found, plan, _restart_hint(out, scene))
        return found
    check_free(out, beside)
    return None


def check_free(out: Path, beside: Collection[str] = ()) -> None:
    """Refuse an OUT without a run that is a file, or holds anything but ``beside``.

    What a killed simulation has left of those names (``.part-``) does not count.

    Raises
    ------
    ConfigError
        OUT is somebody else's.
    ResourceError
        It cannot be looked into.
    """
    try:
        names = os.listdir(out)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        what = f"{out} is a file" if out.exists() else f"{out} lies under a file"
        raise ConfigError(f"{what}; OUT must be a folder", _ELSEWHERE) from None
    except OSError as error:
        raise ResourceError(f"{out} cannot be read: {error.strerror}", _ELSEWHERE) from None
    if {name.partition(".part-")[0] for name in names} - {*beside, _LOGS, LOCK, "status.txt"}:
        raise ConfigError(
            f"{out} exists and is not a run of hyperhpc; nothing in it was touched", _ELSEWHERE
        )


def _check_outside(out: Path, scene: Path) -> None:
    real_out, real_scene = out.resolve(), scene.resolve()
    if real_out == real_scene:
        raise ConfigError(f"{out} is the scene itself; OUT must be a folder", _ELSEWHERE)
    if real_scene in real_out.parents:
        raise ConfigError(f"{out} lies inside the scene {scene}", _ELSEWHERE)


def _restart_hint(out: Path, scene: Path) -> str:
    if out.resolve() in scene.resolve().parents:  # it would be renamed away with OUT
        return _ELSEWHERE
    return f"{_ELSEWHERE}, or give --restart to rename the old run aside and begin anew"


def _rename_aside(folder: RunFolder, scene: Path) -> None:
    out = folder.out
    if out.resolve() in scene.resolve().parents:
        raise ConfigError(
            f"{out} holds the scene itself, so --restart cannot rename it aside", _ELSEWHERE
        )
    with contextlib.suppress(_DamagedPlanError):  # --restart is the way out of that
        read_plan(folder)
    number = 1
    try:
        while (name := out.with_name(f"{out.name}.old-{number}")).exists():
            number += 1
        out.rename(name)
        out.mkdir()
        move_lock(name, out)
        if (name / _LOGS).is_dir():  # of the job that is running: they are being written
            (name / _LOGS).rename(out / _LOGS)
    except (OSError, ValueError) as error:  # ValueError: "." has no name
        reason = error.strerror if isinstance(error, OSError) else "it has no name of its own"
        raise ResourceError(f"{out} cannot be renamed aside: {reason}", _ELSEWHERE) from None


class _DamagedPlanError(ConfigError):
    """plan.json is not whole."""


def read_plan(folder: RunFolder) -> Plan:
    """plan.json; ConfigError if it is damaged or of another version."""
    try:
        value = read_json(folder.plan)
    except ConfigError as error:
        raise _DamagedPlanError(error.message, error.hint) from None
    try:
        return Plan.from_json(value)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ConfigError(
            f"{folder.plan} is no plan of this version of hyperhpc; nothing was touched",
            _ELSEWHERE,
        ) from None


def check_same(folder: RunFolder, found: Plan, plan: Plan, hint: str) -> None:
    """ConfigError if options or scene differ, saying which."""
    new, old = plan.to_json(), found.to_json()
    changes = [
        f"{name} was {_show(old['options'].get(name))}, is {_show(value)}"
        for name, value in new["options"].items()
        if old["options"].get(name) != value and not (name == _MAY_BE_ADDED and value)
    ]
    if old["fingerprint"] != new["fingerprint"]:
        changed = [k for k, v in new["fingerprint"].items() if old["fingerprint"].get(k) != v]
        changes.append(f"the scene is another or has changed ({', '.join(changed)})")
    if changes:
        raise ConfigError(
            f"{folder.out} is the folder of another run: {'; '.join(changes)}", hint
        )


def _show(value: Any) -> str:
    return "unset" if value is None else str(value)
