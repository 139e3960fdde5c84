"""What is written, the way it is said. Pure; only voices get to see it, devices show what is written.

Numbers, times, dates, units, amounts of money, addresses and abbreviations become words, so that every voice says them the
same way and none has to know them.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from functools import cache

_ROOMS = {"en": "english", "zh-Hans": "chinese"}
_WORTH = re.compile(r"[\d@&%％$€£¥￥½¼¾⅓⅔#+=×]|\w\.\w|\bw/|\b(?:etc|approx|Dr|Mr|Mrs|Ms|Prof|St|vs?)\.")
"""Without any of this there is nothing to do, as in most sentences: one look instead of fifty."""
_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def spoken(text: str, language: str) -> str:
    """Return *text* as a person would read it aloud. Other languages than the hub's are left as they are."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if not _WORTH.search(text):
        return text
    for pattern, said in _rules(language):
        text = pattern.sub(said, text)
    return " ".join(text.split())


def warm(language: str) -> None:
    """Get ready for the first sentence: takes some 20 ms."""
    if language in _ROOMS:
        spoken("21, 1st", language)


@cache
def _rules(language: str) -> tuple[_Rule, ...]:
    """Imported when they are needed: a hundred patterns take their time."""
    if language not in _ROOMS:
        return ()
    rules: tuple[_Rule, ...] = importlib.import_module(f"{__package__}.{_ROOMS[language]}").RULES
    return rules


__all__ = ["spoken", "warm"]
