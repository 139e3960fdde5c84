"""Cut a reply, as it is written, into pieces that sound right when they are spoken one by one. Pure.

Takes out what cannot be spoken: thoughts in ``<think>`` tags, Markdown marks, emoji. An emoji that is one of the device's
faces becomes an `Emotion`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from xiaozhi_hub.core.flow import Emotion, Sentence, TextDelta

FACES = {
    "\U0001f636": "neutral",
    "\U0001f642": "happy",
    "\U0001f606": "laughing",
    "\U0001f602": "funny",
    "\U0001f614": "sad",
    "\U0001f620": "angry",
    "\U0001f62d": "crying",
    "\U0001f60d": "loving",
    "\U0001f633": "embarrassed",
    "\U0001f62f": "surprised",
    "\U0001f631": "shocked",
    "\U0001f914": "thinking",
    "\U0001f609": "winking",
    "\U0001f60e": "cool",
    "\U0001f60c": "relaxed",
    "\U0001f924": "delicious",
    "\U0001f618": "kissy",
    "\U0001f60f": "confident",
    "\U0001f634": "sleepy",
    "\U0001f61c": "silly",
    "\U0001f644": "confused",
}
"""Firmware emoji_collection.cc."""

LONGEST = 240
"""Characters after which a sentence is cut at its last comma or space: a device shows and speaks piece by piece."""

_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_CHINESE_END = "。！？；…"
_ABBREVIATION = re.compile(
    r"(?:^|\s)(?:dr|mr|mrs|ms|prof|st|no|vs|etc|e\.g|i\.e|[ap]\.m|approx|[a-z])\.$", re.IGNORECASE
)
_CLOSERS = "\"'”’)】」』）]"
_MARKS = re.compile(r"(\*\*|__|~~|`+|^#{1,6}\s+|^\s*[-*+]\s+|^\s*>\s+)", re.MULTILINE)
_GAP = re.compile(r" +([.,!?;:])")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


class Splitter:
    """Feed it text, take sentences and faces out. One for each reply."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._raw = ""
        self._text = ""
        self._thinking = False

    def feed(self, text: str) -> Iterator[Sentence | Emotion]:
        """Take the next piece of the reply; yield what is complete."""
        self._raw += text
        self._take_thoughts()
        while (end := self._end_of_sentence()) is not None:
            piece, self._text = self._text[:end], self._text[end:]
            yield from self._spoken(piece)

    def flush(self) -> Iterator[Sentence | Emotion]:
        """The reply has ended: yield the rest."""
        if not self._thinking:
            self._text += self._raw
        piece, self._raw, self._text = self._text, "", ""
        yield from self._spoken(piece)

    def _take_thoughts(self) -> None:
        while True:
            tag = _THINK_CLOSE if self._thinking else _THINK_OPEN
            before, found, after = self._raw.partition(tag)
            if not found:
                break
            if not self._thinking:
                self._text += before
            self._raw, self._thinking = after, not self._thinking
        keep = _tag_beginning(self._raw, tag)
        if not self._thinking:
            self._text += self._raw[: len(self._raw) - keep]
        self._raw = self._raw[len(self._raw) - keep :] if keep else ""

    def _end_of_sentence(self) -> int | None:
        text = self._text
        for index, char in enumerate(text):
            if char == "\n" and text[:index].strip():
                return index + 1
            if char in _CHINESE_END:
                end = index + 1
                while end < len(text) and text[end] in _CHINESE_END + _CLOSERS:
                    end += 1
                return end
            if char in ".!?" and index + 1 < len(text):
                end = index + 1
                while end < len(text) and text[end] in ".!?" + _CLOSERS:
                    end += 1
                if end < len(text) and text[end].isspace() and not _ABBREVIATION.search(text[:end]):
                    return end
        if len(text) > LONGEST:
            cut = max(text.rfind(mark, 0, LONGEST) for mark in ",，、;: ")
            return cut + 1 if cut > 0 else LONGEST
        return None

    def _spoken(self, piece: str) -> Iterator[Sentence | Emotion]:
        for char in piece:
            if char in FACES:
                yield Emotion(FACES[char])
        text = speakable(piece)
        if any(char.isalnum() for char in text):
            yield Sentence(text, self._language)


def _tag_beginning(text: str, tag: str) -> int:
    """How many characters at the end of *text* may be the beginning of *tag*."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-size:]):
            return size
    return 0


def speakable(text: str) -> str:
    """Return *text* without Markdown marks, emoji, control characters and runs of white space."""
    text = _MARKS.sub("", _LINK.sub(r"\1", text))
    text = "".join(" " if char.isspace() else char for char in text if char.isspace() or not _is_picture(char))
    return _GAP.sub(r"\1", " ".join(text.split()))


def _is_picture(char: str) -> bool:
    if char in "\u200d\ufe0e\ufe0f\u20e3":
        return True
    return unicodedata.category(char) in ("So", "Cc", "Cs", "Co", "Cn", "Sk") and char not in "°©®™^`"


async def sentences(deltas: AsyncIterator[TextDelta], language: str) -> AsyncGenerator[Sentence | Emotion, None]:
    """Cut running text into sentences and faces."""
    splitter = Splitter(language)
    async for delta in deltas:
        for piece in splitter.feed(delta.text):
            yield piece
    for piece in splitter.flush():
        yield piece
