"""Spoken form: the words a person says for a text, one by one.

``"Set Bed Light to 50%, please."`` becomes ``set bed light to fifty percent please``, ``5:30`` becomes ``five thirty``. Written and
spoken text with the same meaning have the same spoken form, which is what lets them be compared. Chinese is taken apart
into characters.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from hassil.numbers import get_rbnf_engine

_CJK = "\u3400-\u4dbf\u4e00-\u9fff\u3007"
_TOKEN = re.compile(rf"[{_CJK}]|\d+(?:\.\d+)?|[^\W\d_{_CJK}]+(?:'[^\W\d_{_CJK}]+)*", re.UNICODE)
_TIME = re.compile(r"\b(\d{1,2}):([0-5]\d)\b")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
_ORDINAL = re.compile(r"\b(\d{1,2})(?:st|nd|rd|th)\b")
_MERIDIEM = re.compile(r"\b([ap])\.\s?m\b\.?")
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")

_SYMBOLS = {
    "en": {"%": " percent ", "°": " degrees ", "½": " half ", "1/2": " half ", "&": " and "},
    "zh": {"%": " ", "°": " 度 ", "½": " 半 ", "1/2": " 半 "},
}
_MINUS_WORD = {"en": "minus ", "zh": "负"}


def spoken_words(text: str, language: str) -> tuple[str, ...]:
    """Take *text* apart into the words that are said for it: lower-case, without punctuation, numbers as words."""
    family = _family(language)
    text = unicodedata.normalize("NFC", text).casefold().replace("’", "'")
    if any(char.isdigit() or char in "%°½&." for char in text):
        for symbol, said in _SYMBOLS.get(family, {}).items():
            text = text.replace(symbol, said)
        text = _THOUSANDS.sub("", text)
        text = _MERIDIEM.sub(r"\1m", text)
        text = _MINUS.sub(_MINUS_WORD.get(family, ""), text)
        if family == "en":
            text = _ORDINAL.sub(lambda found: f" {_ordinal(int(found[1]))} ", text)
            text = _TIME.sub(lambda found: f" {_clock_time(int(found[1]), int(found[2]))} ", text)
    words: list[str] = []
    for token in _TOKEN.findall(text):
        if token[0].isdecimal():
            words.extend(number_words(token, language)[0])
        else:
            words.append(token)
    return tuple(words)


@lru_cache(maxsize=4096)
def number_words(number: str, language: str) -> tuple[tuple[str, ...], ...]:
    """Return the ways to say the decimal *number* (``"20.5"``), the usual one first."""
    value = float(number) if "." in number else int(number)
    family = _family(language)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    try:
        said = get_rbnf_engine(family).format_number(value).text_by_ruleset
    except ValueError:  # no rules for this language, or too large a number: digit by digit is better than nothing
        return (tuple(number.replace(".", "")),)
    first = said.get("spellout-cardinal", number)
    ways = [first, *(text for text in said.values() if text != first)]
    if family != "en":
        return tuple(dict.fromkeys(tuple(_TOKEN.findall(text)) for text in ways))
    spoken = [tuple(way.replace("-", " ").split()) for way in ways]
    usual = spoken[0]
    if isinstance(value, int) and 100 <= value < 200:
        spoken.append(("a", *usual[1:]))
    if isinstance(value, int) and value > 100 and value % 100:
        spoken.append(_with_and(usual))
    if isinstance(value, float) and value % 1 == 0.5:
        spoken.append((*number_words(str(int(value)), language)[0], "and", "a", "half"))
    return tuple(dict.fromkeys(spoken))


def _with_and(words: tuple[str, ...]) -> tuple[str, ...]:
    last = max(index for index, word in enumerate(words) if word in ("hundred", "thousand"))
    return (*words[: last + 1], "and", *words[last + 1 :])


def _clock_time(hour: int, minute: int) -> str:
    said = " ".join(number_words(str(hour), "en")[0])
    if minute == 0:
        return said
    minutes = " ".join(number_words(str(minute), "en")[0])
    return f"{said} {'oh ' if minute < 10 else ''}{minutes}"


@lru_cache(maxsize=100)
def _ordinal(number: int) -> str:
    said = get_rbnf_engine("en").format_number(number, ruleset_names=["spellout-ordinal"]).text
    return str(said).replace("-", " ")


def _family(language: str) -> str:
    return language.replace("_", "-").split("-", 1)[0].lower()


__all__ = ["number_words", "spoken_words"]
