"""Cut a reply, as it is written, into pieces that sound right when they are spoken one by one. Pure.

Takes out what cannot be spoken: thoughts in ``<think>`` tags, Markdown marks, emoji. An emoji that is one of the device's
faces becomes an `Emotion`, and so does its name in brackets: ``[happy]``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator

from xiaozhi_hub.core.flow import EMOTIONS, Emotion, Sentence, TextDelta

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

TAGS = {
    **{name: name for name in EMOTIONS},
    "smile": "happy",
    "smiling": "happy",
    "joy": "happy",
    "joyful": "happy",
    "excited": "happy",
    "cheerful": "happy",
    "laugh": "laughing",
    "laughs": "laughing",
    "amused": "funny",
    "sorry": "sad",
    "worried": "sad",
    "annoyed": "angry",
    "love": "loving",
    "surprise": "surprised",
    "curious": "thinking",
    "calm": "relaxed",
    "proud": "confident",
    "playful": "silly",
    "tired": "sleepy",
    "wink": "winking",
    "shy": "embarrassed",
    "serious": "neutral",
    "平静": "neutral",
    "中性": "neutral",
    "开心": "happy",
    "高兴": "happy",
    "快乐": "happy",
    "微笑": "happy",
    "大笑": "laughing",
    "搞笑": "funny",
    "伤心": "sad",
    "难过": "sad",
    "抱歉": "sad",
    "生气": "angry",
    "愤怒": "angry",
    "哭": "crying",
    "喜爱": "loving",
    "尴尬": "embarrassed",
    "害羞": "embarrassed",
    "惊讶": "surprised",
    "震惊": "shocked",
    "思考": "thinking",
    "眨眼": "winking",
    "酷": "cool",
    "放松": "relaxed",
    "美味": "delicious",
    "亲亲": "kissy",
    "自信": "confident",
    "困": "sleepy",
    "调皮": "silly",
    "困惑": "confused",
    "疑惑": "confused",
}
"""What models write in brackets for a face."""

LONGEST = 240
"""Characters after which a sentence is cut at its last comma or space: a device shows and speaks piece by piece."""

LEAST, FOLLOWS = 28, 16
"""A first clause is spoken alone when it is at least so long, and at least so much follows it; in Western letters, of which a
Chinese character weighs `CHARACTER`."""
LONG_CLAUSE = 80
"""From here on a clause without any mark ends before a conjunction."""
CHARACTER = 3

_CONJUNCTION = re.compile(r" (?:and|but|because|so|while|which|where|although) ")
_OPENERS, _CLOSING = "(（“「『[【", ")）”」』]】"

_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_CHINESE_END = "。！？；…"
_NO_SPACE_AFTER = _CHINESE_END + "，、：）》」』”"
_ABBREVIATION = re.compile(
    r"(?:^|\s)(?:dr|mr|mrs|ms|prof|st|no|vs|etc|e\.g|i\.e|[ap]\.m|approx|[a-z])\.$", re.IGNORECASE
)
_CLOSERS = "\"'”’)】」』）]"
_MARKS = re.compile(r"(\*\*|__|~~|`+|^#{1,6}\s+|^\s*[-*+]\s+|^\s*>\s+)", re.MULTILINE)
_GAP = re.compile(r" +([.,!?;:])")
_TAG = re.compile(r"[\[【<]\s*/?([A-Za-z_]{2,16}|[\u4e00-\u9fff]{1,4})\s*/?[\]】>](?!\()")
"""A word alone in brackets: a face, or something else that nobody says aloud."""
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


_FACE = re.compile(f"{_TAG.pattern}|[{''.join(FACES)}]")


class Splitter:
    """Feed it text, take sentences and faces out. One for each reply.

    With *clause_first* the first sentence, if it is long, is cut after its first clause: a voice that computes a whole piece
    before it gives a sound begins so much sooner.
    """

    def __init__(self, language: str, *, clause_first: bool = False) -> None:
        self._language = language
        self._clause_due = clause_first
        self._raw = ""
        self._text = ""
        self._thinking = False

    def feed(self, text: str) -> Iterator[Sentence | Emotion]:
        """Take the next piece of the reply; yield what is complete."""
        self._raw += text
        self._take_thoughts()
        while (end := self._end_of_clause() or self._end_of_sentence()) is not None:
            piece, self._text = self._text[:end], self._text[end:]
            yield from self._spoken(piece)

    def flush(self) -> Iterator[Sentence | Emotion]:
        """The reply has ended: yield the rest."""
        if not self._thinking:
            self._text += self._raw
        piece, self._raw, self._text = self._text, "", ""
        yield from self._spoken(piece)

    def _end_of_clause(self) -> int | None:
        """Where the first clause ends. Looks no further ahead than `FOLLOWS`, so that it does not matter how the text arrives."""
        if not self._clause_due:
            return None
        text, weight, opened = self._text, 0, 0
        for index, char in enumerate(text):
            if char in _CHINESE_END or char == "\n" or (char in ".!?" and text[index + 1 : index + 2].isspace()):
                return None
            weight += CHARACTER if "\u2e80" < char < "\uffef" else 1
            opened += (char in _OPENERS) - (char in _CLOSING)
            if weight < LEAST or opened > 0 or text[: index + 1].count('"') % 2:
                continue
            marked = char in "，；：、" or (char in ",;:—–" and text[index + 1 : index + 2].isspace())
            joined = char == " " and weight > LONG_CLAUSE and _CONJUNCTION.match(text, index) is not None
            if (marked or joined) and _enough(text[index + 1 :]):
                return index + 1
        return None

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
        for match in _FACE.finditer(piece):
            name = FACES.get(match[0]) or TAGS.get((match[1] or "").casefold())
            if name is not None:
                yield Emotion(name)
        text = speakable(piece)
        if any(char.isalnum() for char in text):
            self._clause_due = False
            yield Sentence(text, self._language)


def _enough(text: str) -> bool:
    """Does the sentence go on long enough to be spoken by itself?"""
    weight = 0
    for char in text:
        if char in _CHINESE_END + ".!?\n":
            return False
        weight += CHARACTER if "\u2e80" < char < "\uffef" else 1
        if weight >= FOLLOWS:
            return True
    return False


def put_together(sentences: Iterable[str]) -> str:
    """Return sentences and pieces of them as running text: no space follows a Chinese mark."""
    text = ""
    for sentence in sentences:
        text += sentence if not text or text[-1] in _NO_SPACE_AFTER else f" {sentence}"
    return text


def _tag_beginning(text: str, tag: str) -> int:
    """How many characters at the end of *text* may be the beginning of *tag*."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-size:]):
            return size
    return 0


def speakable(text: str) -> str:
    """Return *text* without Markdown marks, emoji, control characters and runs of white space."""
    text = _MARKS.sub("", _LINK.sub(r"\1", _TAG.sub(" ", text)))
    text = "".join(" " if char.isspace() else char for char in text if char.isspace() or not _is_picture(char))
    return _GAP.sub(r"\1", " ".join(text.split()))


def language_of_words(text: str, usual: str) -> str:
    """The language that a voice has to speak for *text*: told by its script, *usual* where that tells nothing.

    English words within Chinese are left to the Chinese voice, and so are single ones by themselves.
    """
    wide = len(_HAN.findall(text))
    if wide:
        return "zh-Hans" if wide >= len(_LATIN.findall(text)) or usual.startswith("zh") else usual
    return "en" if len(_LATIN.findall(text)) >= 2 and usual.startswith("zh") else usual


_HAN = re.compile("[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-zÀ-ÿ]+(?:['’][a-z]+)?")


def _is_picture(char: str) -> bool:
    if char in "\u200d\ufe0e\ufe0f\u20e3":
        return True
    return unicodedata.category(char) in ("So", "Cc", "Cs", "Co", "Cn", "Sk") and char not in "°©®™^`"


async def sentences(
    deltas: AsyncIterator[TextDelta], language: str, *, clause_first: bool = False
) -> AsyncGenerator[Sentence | Emotion, None]:
    """Cut running text into sentences and faces; *clause_first* as for `Splitter`."""
    splitter = Splitter(language, clause_first=clause_first)
    async for delta in deltas:
        for piece in splitter.feed(delta.text):
            yield piece
    for piece in splitter.flush():
        yield piece
