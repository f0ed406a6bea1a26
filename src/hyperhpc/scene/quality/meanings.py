"""What the codes of a quality layer mean, by what the layer itself says.

A layer says it by the names of its classes (``Class_Names``, as NEON's two class maps have them),
by CF's ``flag_values`` and ``flag_meanings``, or in a text such as ``1 = shadow, 0 = no shadow``
(``Units`` of Cast_Shadow). What it does not say is not guessed: in NEON's files of 2017 and 2019
Cast_Shadow has been seen to be 1 wherever there are data.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

#: What a code means for a mask: to be hidden, not to be hidden, or None for no known word.
Judge = Callable[[str], bool | None]

_NUMBER = r"(?<![\w.-])(-?\d{1,9})"
#: ``1 = shadow``, ``1: shadow``, ``1 - shadow``, ``1 (shadow)``; and the other way round.
_CODE_FIRST = re.compile(_NUMBER + r"(?:\s*[=:]|\s+-\s+(?=[^\W\d])|\s*\((?=[^\W\d]))\s*")
_CODE_LAST = re.compile(r"([^\W\d][\w \-/]*?)\s*[=:(]\s*" + _NUMBER + r"(?![\w.])")
_END = re.compile(r"[;\n|]|\.(?:\s|$)")
_LISTED = re.compile(r"\s*(\d{1,9})\s*[=:]\s*(.*)", re.DOTALL)

_NO_SHADOW = re.compile(
    r"\b(?:no|not|non|never|without|outside|out of|free of|absence of|un)(?:\s+in)?[\s-]*"
    r"(?:(?:the|any|a|in|cast|full|topographic|terrain)\s+)*shad|shad\w*[\s-]*(?:free|less)"
    r"|\b(?:sun|sunlit|lit|light|illuminated|clear)\b",
    re.IGNORECASE,
)
_CLEAR_SKY = re.compile(
    r"(?:<|below|less than|under)\s*=?\s*10\b|\b0\s*%?\s*(?:-|to)\s*10\b|\bno clouds?\b"
    r"|(?<!not )\bclear\b",
    re.IGNORECASE,
)
_CLOUDY_SKY = re.compile(r"cloud|>|\b10\s*%?\s*(?:-|to)\s*50\b|\b50\b", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"\([^)]*\)?")
_NO_DATA = re.compile(r"background|no[\s-]?data|missing|fill|ignore", re.IGNORECASE)


def _judge_shadow(meaning: str) -> bool | None:
    if "shad" in meaning.lower() and not _NO_SHADOW.search(_IN_BRACKETS.sub("", meaning)):
        return True
    return False if _NO_SHADOW.search(meaning) or _NO_DATA.search(meaning) else None


def _judge_weather(meaning: str) -> bool | None:
    if _CLEAR_SKY.search(meaning) or _NO_DATA.search(meaning):
        return False
    return True if _CLOUDY_SKY.search(meaning) else None


def _judge_class(words: str, others: str) -> Judge:
    """Classes whose names hold one of some words and none of others; brackets do not count."""
    wanted, unwanted = re.compile(words), re.compile(others)

    def judge(meaning: str) -> bool:
        name = _IN_BRACKETS.sub("", meaning).lower()
        return bool(wanted.search(name)) and not unwanted.search(name)

    return judge


#: What hides a code from each mask. "cloud (water)" is a cloud, "thin haze/glint (water)" none.
JUDGES: dict[str, Judge] = {
    "weather": _judge_weather,
    "shadow": _judge_shadow,
    "cloud": _judge_class(r"cloud|cirrus|haze", r"shad|glint|snow|\bice\b|no cloud"),
    "haze": _judge_class(r"haze", r"glint|no haze"),
    "cloud-shadow": _judge_class(r"cloud.*shad", r"no "),
    "terrain-shadow": _judge_class(r"shad", r"cloud|no shad"),
    "water": _judge_class(r"water", r"cloud|cirrus|haze|glint|vapou?r"),
    "snow": _judge_class(r"snow|\bice\b", r"cloud|cirrus"),
}


def read_codes(mask: str, attributes: Mapping[str, Any]) -> dict[int, tuple[bool, str]] | None:
    """The codes that a layer explains: whether a mask hides them, and what they mean.

    ``mask``: One of :data:`hyperhpc.config.MASKS`.
    ``attributes``: Of the layer.

    Returns: None if the layer does not say which codes are to be hidden and which are not, or
    contradicts itself.
    """
    judge = JUDGES[mask]
    found: dict[int, tuple[bool, str]] = {}
    for code, meaning in _list_meanings(attributes):
        verdict = judge(meaning)
        if verdict is None:
            continue
        if found.setdefault(code, (verdict, meaning))[0] != verdict:
            return None
    hides = [verdict for verdict, _ in found.values()]
    return found if any(hides) and (len(hides) == 1 or not all(hides)) else None


def _list_meanings(attributes: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Codes and meanings in the attributes of a layer."""
    named = {name.lower(): value for name, value in attributes.items()}
    if classes := _split(names := named.get("class_names"), "\n" if "\n" in str(names) else ","):
        listed = [_LISTED.fullmatch(text) for text in classes]
        if all(listed):
            return [(int(match[1]), match[2].strip()) for match in listed if match]
        return list(enumerate(classes))
    values, meanings = named.get("flag_values"), _split(named.get("flag_meanings"), r"\s+")
    if isinstance(values, list) and meanings and len(values) == len(meanings):
        words = [meaning.replace("_", " ") for meaning in meanings]
        pairs = zip(values, words, strict=True)
        return [(int(value), word) for value, word in pairs if _is_whole(value)]
    texts = [value for value in named.values() if isinstance(value, str)]
    return [pair for text in texts for pair in parse_meanings(text)]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _split(value: Any, separator: str) -> list[str]:
    """A list of texts, or one text of several parts; empty for anything else."""
    if isinstance(value, str):
        value = re.split(separator, value.strip())
    is_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    return [item.strip() for item in value] if is_list else []


def parse_meanings(text: str) -> list[tuple[int, str]]:
    """Codes and meanings in a text such as ``1 = shadow, 0 = no shadow``."""
    starts = list(_CODE_FIRST.finditer(text))
    if not starts:
        return [(int(match[2]), match[1].strip()) for match in _CODE_LAST.finditer(text)]
    ends = [match.start() for match in starts[1:]] + [len(text)]
    parts = [_END.split(text[m.end() : end])[0] for m, end in zip(starts, ends, strict=True)]
    return [(int(m[1]), part.strip(" ,)(")) for m, part in zip(starts, parts, strict=True)]
