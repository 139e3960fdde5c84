"""Writes what eSpeak reads badly the way it is said: clock times, percent, degrees."""

from __future__ import annotations

import re
from collections.abc import Callable

_Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]


def readable(text: str, language: str) -> str:
    """Return *text* in a form that eSpeak says as a person would; only what it gets wrong is changed."""
    text = "".join(char if char.isprintable() else " " for char in text)
    for pattern, said in _RULES["zh" if language.lower().startswith("zh") else "en"]:
        text = pattern.sub(said, text)
    return " ".join(text.split())


def _english_time(found: re.Match[str]) -> str:
    hour, minute, half = int(found[1]), int(found[2]), (found[3] or "").replace(".", "").upper()
    if half:
        return f"{hour} {half}" if minute == 0 else f"{hour} {_minutes(minute)} {half}"
    return f"{hour} o'clock" if minute == 0 and 0 < hour < 13 else f"{hour} {_minutes(minute)}"


def _minutes(minute: int) -> str:
    if minute == 0:
        return "hundred"
    return f"oh {minute}" if minute < 10 else str(minute)


def _chinese_time(found: re.Match[str]) -> str:
    hour, minute = int(found[1]), int(found[2])
    if minute == 0:
        return f"{hour}点"
    return f"{hour}点零{minute}分" if minute < 10 else f"{hour}点{minute}分"


_CLOCK = r"(?<![\d:.])([01]?\d|2[0-4]):([0-5]\d)(?![\d:])"
_RULES: dict[str, tuple[_Rule, ...]] = {
    "en": (
        (re.compile(_CLOCK + r"(?:\s*([AaPp]\.[Mm]\.|[AaPp][Mm]\b))?"), _english_time),
        (re.compile(r"\bkm/h\b"), "kilometres per hour"),
        (re.compile(r"\bm/s\b"), "metres per second"),
        (re.compile(r"\bmph\b"), "miles per hour"),
        (re.compile(r"(?<=\d)\s*°\s*C\b"), " degrees Celsius"),
        (re.compile(r"(?<=\d)\s*°\s*F\b"), " degrees Fahrenheit"),
        (re.compile(r"(?<![\w-])[-\u2212](?=\d)"), "minus "),
    ),
    "zh": (
        (re.compile(_CLOCK), _chinese_time),
        (re.compile(r"(\d+(?:\.\d+)?)\s*[%％]"), r"百分之\1"),
        (re.compile(r"(?<=\d)\s*(?:°\s*C|℃)"), "摄氏度"),
        (re.compile(r"(?<=\d)\s*(?:°\s*F|℉)"), "华氏度"),
        (re.compile(r"(?<=\d)\s*°"), "度"),
        (re.compile(r"(?<=\d)\s*km/h\b"), "公里每小时"),
        (re.compile(r"(?<![\w-])[-\u2212](?=\d)"), "负"),
    ),
}
