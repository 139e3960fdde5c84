"""Which words of a sentence are in another language than the sentence, by their script."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

CHINESE, ENGLISH = "zh-Hans", "en"
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_LATIN = re.compile("[A-Za-z\u00c0-\u024f]")
_OPENING = "(（[【“‘「『《<"


def _language(char: str) -> str | None:
    if _HAN.match(char):
        return CHINESE
    return ENGLISH if _LATIN.match(char) else None


def foreign_languages(text: str, language: str) -> tuple[str, ...]:
    """The languages of words in *text* that are not *language*: Chinese in other sentences, English in Chinese ones."""
    if language == CHINESE:
        return (ENGLISH,) if _LATIN.search(text) else ()
    return (CHINESE,) if _HAN.search(text) else ()


def runs(text: str, language: str, foreign: Collection[str]) -> Iterator[tuple[str, str]]:
    """Cut *text* into ``(language, words)``, where the words belong to one of *foreign* or to *language*.

    Nothing is lost but spaces at the cuts. Marks and digits stay with the words before them, an opening bracket goes with
    those after it.
    """
    here, begun = "", 0
    for index, char in enumerate(text):
        there = _language(char)
        if there is None:
            continue
        there = there if there in foreign else language
        if there == here:
            continue
        if here:
            cut = index
            while cut > begun and (text[cut - 1] in _OPENING or text[cut - 1].isspace()):
                cut -= 1
            if words := text[begun:cut].strip():
                yield here, words
            begun = cut
        here = there
    if words := text[begun:].strip():
        yield here or language, words


__all__ = ["foreign_languages", "runs"]
