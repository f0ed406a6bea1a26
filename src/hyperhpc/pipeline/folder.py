"""Whose folder OUT is: new, this run's own to go on with, or not to be touched."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from hyperhpc.errors import ConfigError, ResourceError
from hyperhpc.pipeline.manifest import RunFolder, read_json, write_json
from hyperhpc.pipeline.plan import Plan


def claim_folder(
    folder: RunFolder, plan: Plan, *, restart: bool, beside: Collection[str] = ()
) -> tuple[Plan, bool]:
    """Make OUT, or take up the plan that is in it.

    Parameters
    ----------
    plan
        Of this call. A plan found in OUT wins if options and scene agree.
    restart
        Rename what is there aside (``OUT.old-1``) and begin anew.
    beside
        Names that OUT may hold besides a run: the demonstration keeps its scene there.

    Returns
    -------
    The plan to follow, and True if OUT was made by this call.

    Raises
    ------
    ConfigError
        OUT is a file, holds something else, or another run.
    ResourceError
        OUT cannot be made.
    """
    out = folder.out
    if restart and folder.plan.is_file():
        out.rename(_free_name(out))
    if folder.plan.is_file():
        found = Plan.from_json(read_json(folder.plan))
        _check_same(folder, found, plan)
        return found, False
    if out.is_file():
        raise ConfigError(f"{out} is a file; OUT must be a folder", "name another OUT")
    if out.is_dir() and any(path.name not in beside for path in out.iterdir()):
        raise ConfigError(
            f"{out} exists and is not a run of hyperhpc; nothing in it was touched",
            "name another OUT",
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(folder.plan, plan.to_json())
    except OSError as error:
        raise ResourceError(
            f"{out} cannot be made: {error.strerror}", "name another OUT"
        ) from None
    return plan, True


def _free_name(out: Path) -> Path:
    number = 1
    while (name := out.with_name(f"{out.name}.old-{number}")).exists():
        number += 1
    return name


def _check_same(folder: RunFolder, found: Plan, plan: Plan) -> None:
    new, old = plan.to_json(), found.to_json()
    changes = [
        f"{name} was {_show(old['options'].get(name))}, is {_show(value)}"
        for name, value in new["options"].items()
        if old["options"].get(name) != value
    ]
    if old["fingerprint"] != new["fingerprint"]:
        changed = [k for k, v in new["fingerprint"].items() if old["fingerprint"].get(k) != v]
        changes.append(f"the scene is another or has changed ({', '.join(changed)})")
    if changes:
        raise ConfigError(
            f"{folder.out} is the folder of another run: {'; '.join(changes)}",
            "name another OUT, or give --restart to rename the old run aside and begin anew",
        )


def _show(value: Any) -> str:
    return "unset" if value is None else str(value)
