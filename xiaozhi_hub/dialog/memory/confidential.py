"""What is better not remembered: everybody in the room can ask for it, and a language model gets to read it. Pure."""

from __future__ import annotations

import re
import unicodedata

_SECRET_WORDS = (
    r"pass ?words?|pass ?phrases?|pass ?codes?|pins?(?: ?(?:code|number))?|cvv|cvc|tan"
    r"|(?:alarm|door|safe|lock|security|access) ?codes?"
)
_SECRET_CHINESE = "密码|口令|验证码|密钥|暗号"
_TOLD = re.compile(
    rf"\b(?:{_SECRET_WORDS})\b[^.;]*?(?:\b(?:is|are|=)|:|'s\b)\s*(?!(?:kept |written |hidden |stored )?"
    r"(?:under|in|on|at|behind|beside|near|inside|with|by|from|not|the same|due|down)\b)\S+"
)
_NUMBERED = re.compile(rf"\b(?:{_SECRET_WORDS})\b\W*(?:\w+\W+){{0,4}}?\S*\d")
_TOLD_CHINESE = re.compile(
    rf"(?:{_SECRET_CHINESE})[^。；]*?(?:是|为|:|：|=)(?!在|放|写|记|藏|谁|他|她|不)\S+|(?:{_SECRET_CHINESE})\D{{0,6}}\d"
)
_LONG_NUMBER = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")


def is_confidential(text: str) -> bool:
    """Does *text* tell a password, a PIN, a code or the number of a payment card? Where one is kept may be told."""
    said = unicodedata.normalize("NFKC", text).casefold().replace("’", "'")
    if _TOLD.search(said) or _NUMBERED.search(said) or _TOLD_CHINESE.search(said):
        return True
    return any(_is_card(re.sub(r"\D", "", number)) for number in _LONG_NUMBER.findall(said))


def _is_card(digits: str) -> bool:
    """Do the digits end with the check digit of payment cards (ISO/IEC 7812)?"""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (2 if place % 2 else 1)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


__all__ = ["is_confidential"]
