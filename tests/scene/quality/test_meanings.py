"""What quality layers say of their codes, as files say it."""

from __future__ import annotations

from typing import Any

import pytest

from hyperhpc.scene.quality.meanings import parse_meanings, read_codes
from hyperhpc.simulate.write_neon import _ABOUT

_CLASSES = _ABOUT["Haze_Cloud_Water_Map"]


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("1 = shadow, 0 = no shadow", [(1, "shadow"), (0, "no shadow")]),
        ("0: lit; 1: shadow.", [(0, "lit"), (1, "shadow")]),
        ("Cast shadow (0=shadow, 1=illuminated)", [(0, "shadow"), (1, "illuminated")]),
        ("shadow = 1, no shadow = 0", [(1, "shadow"), (0, "no shadow")]),
        ("Shadow (1) or sunlit (0)", [(1, "Shadow"), (0, "or sunlit")]),
        ("0 (no shadow) 1 (shadow)", [(0, "no shadow"), (1, "shadow")]),
        ("1 - shadow, 0 - none", [(1, "shadow"), (0, "none")]),
        (
            "where 1 = <10%, 2 = 10-50%, 3=>50%, -9999 = no data",
            [(1, "<10%"), (2, "10-50%"), (3, ">50%"), (-9999, "no data")],
        ),
        ("Shadows at 1 m, in 3.5 classes", []),
    ],
)
def test_parse_meanings__of_texts(text: str, pairs: list[tuple[int, str]]) -> None:
    assert parse_meanings(text) == pairs


def hidden(mask: str, **attributes: Any) -> list[int] | None:
    found = read_codes(mask, attributes)
    return None if found is None else sorted(code for code, (hides, _) in found.items() if hides)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("1 = shadow, 0 = no shadow", [1]),
        ("0 = cast shadow, 1 = no cast shadow", [0]),
        ("0 = in shadow; 1 = not in shadow", [0]),
        ("1: shaded, 0: unshaded, 241: no data", [1]),
        ("1 = shadow (not illuminated), 0 = illuminated (no shadow)", [1]),
        ("Shadow mask (1 = shadow)", [1]),
        ("Cast shadow.", None),
        ("1 = shadow, 1 = no shadow", None),
        ("0 = shadow, 1 = shadow", None),
        ("0 = no shadow, 1 = sunlit", None),
        ("0 = A, 1 = B", None),
    ],
)
def test_read_codes__of_shadow(text: str, codes: list[int] | None) -> None:
    assert hidden("shadow", Units=text) == codes


def test_read_codes__two_texts_that_contradict_each_other() -> None:
    one = {"Units": "1 = shadow, 0 = no shadow"}
    assert hidden("shadow", **one, Description="Cast shadow, 1000 = full light") == [1]
    assert hidden("shadow", **one, Description="0 = shadow, 1 = no shadow") is None


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("1 = <10%, 2 = 10-50%, 3 = >50%", [2, 3]),
        ("0: mostly clear (<10% cloud cover), 1: partly cloudy, 2: mostly cloudy", [1, 2]),
        ("0 = not clear, 1 = clear", None),  # no word that says what is meant by 0
        ("Percentage of cloud cover", None),
    ],
)
def test_read_codes__of_weather(text: str, codes: list[int] | None) -> None:
    assert hidden("weather", Description=text) == codes


@pytest.mark.parametrize(
    ("mask", "codes"),
    [
        ("cloud", [2, 3, 4, 8, 9, 10, 11, 12, 15, 16, 18, 19]),
        ("haze", [11, 12]),
        ("cloud-shadow", [22]),
        ("terrain-shadow", [1, 21]),
        ("water", [17]),
        ("snow", [7]),
    ],
)
def test_read_codes__of_classes(mask: str, codes: list[int]) -> None:
    assert hidden(mask, **_CLASSES) == codes
    names = [*_CLASSES["Class_Names"]]
    names[1], names[7] = "shadow/topogr. shadow", "snow/ice (ice cloud)"
    assert hidden(mask, Class_Names=names) == codes
    numbered = [f"{code}: {name}" for code, name in enumerate(names)]
    assert hidden(mask, class_names="\n".join(reversed(numbered))) == codes
    words = " ".join(name.replace(" ", "_") for name in names)
    assert hidden(mask, flag_values=list(range(len(names))), flag_meanings=words) == codes
    assert hidden(mask, Class_Names=["clear", "other"]) is None
    assert hidden(mask, flag_values=["x", float("nan")], flag_meanings="cloud water") is None
    assert hidden(mask) is None
