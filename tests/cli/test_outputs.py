"""Commands that write a file of the user's say that they cannot before they compute anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli_case import call


@pytest.mark.parametrize(
    "words",
    [
        ["spectrum", "no.zarr", "--point", "1,2", "--figure", "no/figure.png"],
        ["compare", "one", "two", "--figure", "no/figure.png"],
    ],
)
def test_outputs__without_their_folder_are_refused_first(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call(*words)
    assert (done.code, done.error) == (
        3,
        "error: no/figure.png cannot be written: there is no folder no",
    )
    assert done.hint == "Make it: mkdir -p no"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("choice/choose-k.csv", "choice/choose-k.csv exists already"),
        ("choice/choose-k.json", "choice/choose-k.json exists already"),
        ("choice", "--out choice is not a folder"),
    ],
)
def test_choose_k__looks_at_its_folder_first(
    made: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(made).parent.mkdir(exist_ok=True)
    Path(made).touch()
    done = call("choose-k", "no.zarr", "--out", "choice")
    assert (done.code, done.error) == (3, f"error: {message}")
