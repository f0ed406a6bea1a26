"""Which container this is, if any."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from hyperhpc.doctor.finding import Finding
from hyperhpc.doctor.packages import find_lock

_SHOWN = ("title", "version", "revision", "created")
_OCI = "org.opencontainers.image."


def find_container(root: Path = Path("/")) -> str | None:
    """``apptainer``, ``docker``, ``podman``, or None."""
    if (root / ".singularity.d").is_dir():
        return "apptainer"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    return None


def check_container(root: Path = Path("/")) -> Finding:
    """The kind of container and its labels, which Docker's cannot see from within."""
    kind = find_container(root)
    if kind is None:
        return Finding("ok", "none")
    name = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")
    value = f"{kind} {name}" if kind == "apptainer" and name else kind
    labels = _read_labels(root / ".singularity.d" / "labels.json")
    shown = [f"{key} {labels[_OCI + key]}" for key in _SHOWN if labels.get(_OCI + key)]
    if shown:
        value += f": {', '.join(shown)}"
    wanted, lock = labels.get("hyperhpc.lock.sha256", ""), find_lock()
    if lock and len(wanted) == 64 and wanted != hashlib.sha256(lock.read_bytes()).hexdigest():
        return Finding(
            "warning",
            f"{value}; its label names another lock than the one hyperhpc has here",
            "use hyperhpc of the image: unset PYTHONPATH",
        )
    return Finding("ok", value)


def _read_labels(file: Path) -> dict[str, str]:
    try:
        labels = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(key): str(text) for key, text in labels.items()}
