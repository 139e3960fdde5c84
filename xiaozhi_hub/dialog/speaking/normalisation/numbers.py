"""Numbers as words, from the rules of the Unicode CLDR that hassil brings along."""

from __future__ import annotations

from functools import lru_cache

from hassil.numbers import get_rbnf_engine

MOST_DIGITS = 15
"""What is longer is said digit by digit, as are numbers that begin with a needless zero."""
_DIGITS = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "zh": tuple("零一二三四五六七八九"),
}


def _rule(family: str, number: int, rule: str) -> str:
    said = get_rbnf_engine(family).format_number(number, ruleset_names=[rule]).text
    return said.replace("〇", "零") if family == "zh" else said


@lru_cache(maxsize=1024)
def cardinal(family: str, digits: str) -> str:
    """``12`` → twelve, 十二. *family* is ``en`` or ``zh``."""
    if len(digits) > MOST_DIGITS or (len(digits) > 1 and digits[0] == "0"):
        return spelled(family, digits)
    return _rule(family, int(digits), "spellout-cardinal")


@lru_cache(maxsize=256)
def ordinal(digits: str) -> str:
    """English only: ``21`` → twenty-first. In Chinese 第 is put before."""
    return _rule("en", int(digits), "spellout-ordinal") if len(digits) <= MOST_DIGITS else spelled("en", digits)


@lru_cache(maxsize=256)
def year(family: str, digits: str) -> str:
    """``1998`` → nineteen ninety-eight, 一九九八."""
    return spelled(family, digits) if family == "zh" else _rule("en", int(digits), "spellout-numbering-year")


def spelled(family: str, digits: str) -> str:
    """Digit by digit; what is no digit is left out."""
    words = [_DIGITS[family][int(digit)] for digit in digits if digit.isdecimal()]
    return ("" if family == "zh" else " ").join(words)


def number(family: str, text: str) -> str:
    """``1,234.50`` → one thousand two hundred thirty-four point five zero."""
    whole, _, part = text.replace(",", "").partition(".")
    said = cardinal(family, whole or "0")
    if not part:
        return said
    return f"{said}点{spelled('zh', part)}" if family == "zh" else f"{said} point {spelled('en', part)}"


__all__ = ["cardinal", "number", "ordinal", "spelled", "year"]
