"""Where one model's answer broke off and another one goes on: texts are cut and joined so that nothing is said twice. Pure."""

from __future__ import annotations

import re

_BOUNDARIES = ".!?,;:。！？，、；：…\n"
_LONGEST_HELD = 120
"""Characters after which words are let through although no clause has ended."""
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_THOUGHTS = re.compile(r"<think>.*?(?:</think>|$)", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.!?。！？…\n])\s*")
_WHOLE_SENTENCE = re.compile(r"\w.*?[.!?。！？…\n]", re.DOTALL)
_FIRST_CJK = "\u2e80"


class Clauses:
    """Lets a text through clause by clause. What it holds back when a model dies was never said: another may begin there anew.

    The rest of the first sentence comes word by word: its first clause is spoken as soon as it is seen to go on.
    """

    def __init__(self) -> None:
        self._held = ""
        self._by_words = False
        self.said = ""
        """What was let through."""

    def feed(self, text: str) -> str:
        """Take the next piece; return what may be said."""
        self._held += text
        end = max((self._held.rfind(mark) for mark in _BOUNDARIES), default=-1) + 1
        while end < len(self._held) and not self._held[end].isalnum():
            end += 1
        if not end and self._by_words:
            end = len(self._held) if self._held[-1:] >= _FIRST_CJK else self._held.rfind(" ") + 1
        if not end and len(self._held) > _LONGEST_HELD:
            end = self._held.rfind(" ") + 1 or len(self._held)
        if end:
            self._by_words = not _WHOLE_SENTENCE.search(self.said + self._held[:end])
        return self._let_through(end)

    def flush(self) -> str:
        """The text has ended: return the rest."""
        return self._let_through(len(self._held))

    def drop(self) -> str:
        """The text has broken off. Forget what is held back; return what ends an open thought."""
        self._held = ""
        if self.said.rfind(_THINK_OPEN) > self.said.rfind(_THINK_CLOSE):
            self.said += _THINK_CLOSE
            return _THINK_CLOSE
        return ""

    @property
    def spoken(self) -> str:
        """What was let through, without thoughts."""
        return _THOUGHTS.sub("", self.said).strip()

    def _let_through(self, end: int) -> str:
        ready, self._held = self._held[:end], self._held[end:]
        self.said += ready
        return ready


class Joint:
    """Joins what the next model writes to what was said: a repetition of it, or of its last sentences, is left out."""

    def __init__(self, said: str) -> None:
        starts = [
            0,
            *(match.end() for match in _SENTENCE.finditer(said)),
            *(m.end() for m in re.finditer(r"[,;，；、]\s*", said)),
        ]
        self._tails = [tail for tail in {_plain(said[start:]) for start in starts} if tail]
        self._space = bool(said) and not said[-1].isspace() and said[-1].isascii()
        self._held = ""
        self._open = not said

    def feed(self, text: str) -> str:
        """Take the next piece; return what is new, perhaps nothing yet."""
        if self._open:
            return text
        self._held += text
        plain = _plain(self._held)
        if any(tail.startswith(plain) for tail in self._tails):
            return ""  # it may become a repetition, and the marks after one belong to it
        return self.flush()

    def flush(self) -> str:
        """There is no more to compare with: return what is new."""
        if self._open:
            return ""
        self._open = True
        plain = _plain(self._held)
        rests = [_after(self._held, len(tail)) for tail in self._tails if plain.startswith(tail)]
        rest = min((rest for rest in rests if rest is not None), key=len, default=self._held).lstrip()
        self._held = ""
        return f" {rest}" if self._space and rest else rest


def _plain(text: str) -> str:
    """What two writings of the same words have in common."""
    return "".join(char for char in text.casefold() if char.isalnum())


def _after(text: str, count: int) -> str | None:
    """What follows the first *count* letters and digits of *text* and the marks behind them; None in the middle of a word."""
    at = 0
    while at < len(text) and count:
        count -= len(_plain(text[at]))
        at += 1
    if at < len(text) and text[at].isascii() and text[at].isalnum():
        return None
    while at < len(text) and not text[at].isalnum():
        at += 1
    return text[at:]


def rest_of(text: str, sounded_ms: float, pace: float | None) -> str:
    """What of *text* is still to be said after so much sound at *pace* ms for each character (None: not known).

    A few words may come twice, none is left out: where within the sound the words are can only be guessed.
    """
    if pace is None:
        pace = 260.0 if any("\u3400" <= char <= "\u9fff" for char in text) else 90.0  # slow speakers
    heard = int(sounded_ms / pace * 0.9)
    ends = [match.end() for match in re.finditer(r"[,;:.!?](?=\s)\s+|[，、；：。！？…]", text)]
    clause = max((end for end in ends if end <= heard), default=0)
    return text[clause:]
