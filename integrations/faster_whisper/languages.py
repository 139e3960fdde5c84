"""The hub's languages and Whisper's, and Chinese in the characters that the hub uses."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

OURS = {"en": "en", "zh": "zh-Hans"}
"""The hub's name for each of Whisper's languages that it speaks."""
_CODES = {ours: code for code, ours in OURS.items()}
CHINESE_PROMPT = "以下是普通话的句子。"
"""Written before the text, it makes Whisper go on in simplified characters."""


def codes_of(languages: Sequence[str]) -> tuple[str, ...]:
    """Whisper's codes of the hub's *languages*, unknown ones left out."""
    return tuple(dict.fromkeys(_CODES[language] for language in languages if language in _CODES))


def likeliest(candidates: Sequence[str], chances: Sequence[tuple[str, float]]) -> str:
    """The one of *candidates* that was detected as most likely; *chances* are pairs of a token such as ``<|en|>`` and its
    probability."""
    known = {token.strip("<|>"): chance for token, chance in chances}
    return max(candidates, key=lambda code: known.get(code, 0.0))


def simplified(text: str) -> str:
    """Replace traditional Chinese characters whose simplified form is not a matter of context."""
    return text.translate(_table())


@cache
def _table() -> dict[int, int]:
    """``simplified.txt``: pairs of characters, the traditional one first."""
    pairs = Path(__file__).with_name("simplified.txt").read_text(encoding="utf-8").split()
    return {ord(pair[0]): ord(pair[1]) for pair in pairs}
