"""Write what an image is made of as a CycloneDX 1.5 document (JSON), on standard output.

``python sbom.py requirements.lock``: every package of the lock that fits this Python, with its
hashes and licence, hyperhpc itself, and Debian's packages if this is a Debian. The lock is
what is written; a package that differs from it is an error.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.markers import Marker  # part of the lock


def lock_entries(text: str) -> list[tuple[str, str, list[str]]]:
    """Name, version and sha256 hashes of each entry whose marker holds here."""
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    entries = []
    for line in filter(str.strip, text.splitlines()):
        wanted, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
        pin, _, marker = wanted.partition(";")
        name, _, version = pin.strip().partition("==")
        if not marker or Marker(marker).evaluate():
            entries.append((name, version, hashes))
    return entries


def licence_of(info: metadata.PackageMetadata) -> list[dict[str, Any]]:
    """The licence a package declares: an SPDX expression, or its classifiers in words."""
    if expression := info.get("License-Expression"):
        return [{"expression": expression}]
    words = [
        line.rsplit(" :: ", 1)[-1]
        for line in info.get_all("Classifier") or []
        if line.startswith("License :: ")
    ]
    return [{"license": {"name": name}} for name in words]


def python_component(name: str, version: str, hashes: list[str]) -> dict[str, Any]:
    """One package, checked against what is installed."""
    installed = metadata.version(name)
    if installed != version:
        raise SystemExit(f"sbom.py: {name} {installed} is installed, the lock says {version}")
    purl = f"pkg:pypi/{name}@{version}"
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [{"alg": "SHA-256", "content": value} for value in hashes],
        "licenses": licence_of(metadata.metadata(name)),
    }
    return {key: value for key, value in component.items() if value}


def debian_components() -> list[dict[str, Any]]:
    """The packages of the base, and Python's."""
    if shutil.which("dpkg-query") is None:
        return []
    form = "${Package} ${Version} ${Architecture}\\n"
    listed = subprocess.run(  # noqa: S603
        ["dpkg-query", "-W", "-f", form],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    components = []
    for line in listed.splitlines():
        name, version, architecture = line.split()
        purl = f"pkg:deb/debian/{name}@{version.replace(':', '%3A')}?arch={architecture}"
        components.append(
            {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        )
    return components


def document(lock: str, made_at: datetime) -> dict[str, Any]:
    """The whole document; its number follows from its content, so equal images agree."""
    own = metadata.version("hyperhpc")
    components = [python_component(*entry) for entry in lock_entries(lock)]
    components += debian_components()
    number = uuid.uuid5(uuid.NAMESPACE_OID, json.dumps([own, components]))
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{number}",
        "version": 1,
        "metadata": {
            "timestamp": made_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {
                "type": "application",
                "bom-ref": f"pkg:pypi/hyperhpc@{own}",
                "name": "hyperhpc",
                "version": own,
                "licenses": licence_of(metadata.metadata("hyperhpc")),
            },
        },
        "components": components,
    }


def main() -> None:
    """Print the document of the lock that is named."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    made_at = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    lock = Path(sys.argv[1]).read_text("utf-8")
    json.dump(document(lock, made_at), sys.stdout, indent=1)


if __name__ == "__main__":
    main()
