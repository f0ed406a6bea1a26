"""Fixtures shared by the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real scenes: $HYPERHPC_SHARED/data, or ../shared/data of the checkout."""
    checkout = Path(__file__).resolve().parents[1]
    shared = Path(os.environ.get("HYPERHPC_SHARED", checkout.parent / "shared"))
    folder = shared / "data"
    if not folder.is_dir():
        pytest.skip(f"real scenes are missing: no folder {folder} (set HYPERHPC_SHARED)")
    return folder
