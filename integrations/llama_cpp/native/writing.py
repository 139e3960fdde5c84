"""Follow an answer while it is written: what is spoken, what is thought, and where a tool is called."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from .dialects import THINK, THOUGHT, Dialect


class Part(Enum):
    """What the model is writing."""

    TEXT = auto()
    THOUGHT = auto()
    CALL = auto()


@dataclass(frozen=True, slots=True)
class Spoken:
    """Text for the person."""

    text: str


@dataclass(frozen=True, slots=True)
class Opened:
    """A call begins; ``rest`` are the characters behind its opening that came with the same token."""

    rest: str
    bare: bool
    """It began with a brace, which has been written."""


@dataclass(frozen=True, slots=True)
class Called:
    """A call is complete."""

    text: str


class Writing:
    """Takes the bytes of tokens, gives what they mean. Text comes out at once, but for what may be the beginning of a tag."""

    def __init__(self, dialect: Dialect, *, thinking: bool) -> None:
        self.part = Part.THOUGHT if thinking else Part.TEXT
        self.thought = False
        """Did it think anything?"""
        self._dialect = dialect
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""
        self._begun = False
        self._call = ""
        self._bare = False

    def feed(self, raw: bytes) -> Iterator[Spoken | Opened | Called]:
        """Take the next token's bytes."""
        self._held += self._decoder.decode(raw)
        yield from self._read()

    def finish(self) -> Iterator[Spoken]:
        """The answer has ended: what was held back is text after all."""
        if self.part is Part.TEXT and (rest := self._held.rstrip()):
            yield Spoken(rest)
        self._held = ""

    def back_to_text(self) -> None:
        """The call that was opened last is none."""
        self.part, self._call = Part.TEXT, ""

    @property
    def half_called(self) -> bool:
        """Is there a call that was not completed?"""
        return self.part is Part.CALL

    def _read(self) -> Iterator[Spoken | Opened | Called]:
        while True:
            before = self.part
            if self.part is Part.THOUGHT:
                self._think()
            elif self.part is Part.CALL:
                yield from self._dictate()
            else:
                yield from self._speak()
            if self.part is before or not self._held:
                return

    def _think(self) -> None:
        _, found, after = self._held.partition(THOUGHT)
        self.thought = self.thought or bool(self._held.partition(THOUGHT)[0].strip())
        if found:
            self.part, self._held = Part.TEXT, after.lstrip()
        else:
            self._held = self._held[len(self._held) - _overlap(self._held, THOUGHT) :]

    def _speak(self) -> Iterator[Spoken | Opened]:
        if not self._begun:
            self._held = self._held.lstrip()
        if not self._begun and self._held.startswith("{"):
            # No spoken answer begins with a brace: it is a call in a notation that the model was not asked for.
            rest, self._held = self._held[1:], ""
            yield from self._open(rest, bare=True)
            return
        tags = [THINK, *([self._dialect.opening] if self._dialect.opening else [])]
        place, tag = min(((self._held.find(tag), tag) for tag in tags if tag in self._held), default=(-1, ""))
        if place >= 0:
            said, rest = self._held[:place].rstrip(), self._held[place + len(tag) :]
            if said:
                self._begun = True
                yield Spoken(said)
            if tag == THINK:
                self.part, self._held = Part.THOUGHT, rest
            else:
                self._held = ""
                yield from self._open(rest, bare=False)
            return
        said = self._held[: len(self._held) - max(_overlap(self._held, tag) for tag in tags)].rstrip()
        if said:
            self._begun = True
            self._held = self._held[len(said) :]
            yield Spoken(said)

    def _open(self, rest: str, *, bare: bool) -> Iterator[Opened]:
        self.part, self._bare = Part.CALL, bare
        self._call = "{" if bare else ""
        yield Opened(rest, bare)

    def _dictate(self) -> Iterator[Called]:
        self._call += self._held
        self._held = ""
        end = self._end_of_call()
        if end is None:
            return
        text, self._held, self._call = self._call[:end], self._call[end:].lstrip(), ""
        self.part, self._begun = Part.TEXT, True
        yield Called(text)

    def _end_of_call(self) -> int | None:
        closing = self._dialect.closing
        if not self._bare and closing:
            place = self._call.find(closing)
            return place + len(closing) if place >= 0 else None
        depth, quoted, escaped = 0, False, False
        for index, char in enumerate(self._call):
            if escaped:
                escaped = False
            elif quoted:
                quoted, escaped = char != '"', char == "\\"
            elif char == '"':
                quoted = True
            elif char in "{[":
                depth += 1
            elif char in "}]":
                depth -= 1
                if depth == 0:
                    return index + 1
        return None


def _overlap(text: str, tag: str) -> int:
    """How many characters at the end of *text* may be the beginning of *tag*."""
    for size in range(min(len(tag) - 1, len(text)), 0, -1):
        if tag.startswith(text[-size:]):
            return size
    return 0
