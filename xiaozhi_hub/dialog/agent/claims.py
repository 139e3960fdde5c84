"""Is what a model says it has done true? A claim that no successful call of this turn bears out is not spoken.

The words are in ``claim_words/<language>.yaml``: how people say that they have done something to a thing of the house, or are about
to. What is not surely such a claim is let through: ordinary talk must not be stopped. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import yaml

from xiaozhi_hub.core.flow import Sentence
from xiaozhi_hub.core.i18n import LANGUAGES
from xiaozhi_hub.core.places import PACKAGE

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one where PyYAML was built with it
WORDS = PACKAGE / "dialog" / "agent" / "claim_words"


class Tense(StrEnum):
    """When what is claimed is said to happen."""

    DONE = "done"
    STATE = "state"
    """A thing is said to be in a state that somebody has brought about."""
    PROMISED = "promised"
    """It happens now, or is about to."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a sentence says was done."""

    tense: Tense
    tools: tuple[str, ...] = ()
    """Patterns of the tools that could have done it; none: any could."""
    command: str = ""
    """What a person would say who wants it done, where the sentence tells."""

    def by(self, tool: str) -> bool:
        """Could *tool* have done it? One that no kind of claim is about could have done anything."""
        return not self.tools or _matches(tool, self.tools) or not _matches(tool, _spoken_of())


@dataclass(frozen=True, slots=True)
class _Pattern:
    tense: Tense
    tools: tuple[str, ...]
    shape: re.Pattern[str]
    bases: Mapping[str, str]
    bare: bool
    """It is a claim although nothing of the house is named."""


@dataclass(frozen=True, slots=True)
class _Shapes:
    """The words of one language, compiled: the same for every house."""

    clause: re.Pattern[str]
    fillers: re.Pattern[str]
    unless: re.Pattern[str]
    fiction: re.Pattern[str]
    question: re.Pattern[str]
    request: re.Pattern[str]
    done: re.Pattern[str]
    thing: re.Pattern[str]
    patterns: tuple[_Pattern, ...]


class ClaimWords:
    """The claims of one language."""

    def __init__(self, language: str, names: Collection[str] = ()) -> None:
        """*names* are those of the things and rooms of the house."""
        self._chinese = language.startswith("zh")
        self._shapes = _shapes(language)
        self._own = frozenset(name.casefold() for name in names if len(name) > 1)

    def is_fiction(self, asked: str) -> bool:
        """Has somebody who says *asked* asked for a story, a translation, an explanation?"""
        return self._shapes.fiction.search(_plain(asked)) is not None

    def is_question(self, asked: str) -> bool:
        """Does somebody who says *asked* want to know, rather than have something done?"""
        asked = _plain(asked)
        return self._shapes.question.search(asked) is not None and self._shapes.request.search(asked) is None

    def find(self, text: str) -> Claim | None:
        """The first claim in a sentence."""
        if text.rstrip('"”’)）').endswith(("?", "？")):
            return None
        plain = _plain(text)
        if self._chinese:
            plain = plain.replace(" ", "")
        whole = self._shapes.fillers.sub("", plain).rstrip(".!。！~～ ") or plain.rstrip(".!。！~～ ")
        if self._shapes.done.match(whole):
            return Claim(Tense.DONE)
        for clause in self._shapes.clause.split(plain):
            if clause and (claim := self._in_clause(clause.strip())) is not None:
                return claim
        return None

    def _in_clause(self, clause: str) -> Claim | None:
        clause = self._shapes.fillers.sub("", clause) or clause
        if self._shapes.done.match(clause) and len(clause) > 6:  # a bare "done" is one only by itself
            return Claim(Tense.DONE)
        if self._shapes.unless.search(clause):
            return None
        named = self._named(clause)
        for pattern in self._shapes.patterns:
            if not (named or pattern.bare) or (found := pattern.shape.search(clause)) is None:
                continue
            if "subject" not in found.groupdict() or self._named(found["subject"]):
                return Claim(pattern.tense, pattern.tools, self._command(found, pattern))
        return None

    def _named(self, text: str) -> bool:
        """Is something of the house named?"""
        return self._shapes.thing.search(text) is not None or any(name in text for name in self._own)

    def _command(self, found: re.Match[str], pattern: _Pattern) -> str:
        groups = found.groupdict()
        rest = (groups.get("rest") or "").strip()
        if not rest:
            return ""
        if self._chinese:
            return _ASPECT.sub("", rest)
        verb = groups.get("verb") or ""
        return f"{pattern.bases.get(verb, verb)} {rest}"


_ASPECT = re.compile(r"(?:好|完)?了(?=$|[^解])|啦$")


@dataclass(slots=True)
class Truth:
    """What was really done in one turn, and what was said of it.

    Feed it the sentences as they are written and the results of calls as they come; it gives back what may be spoken.
    """

    words: Mapping[str, ClaimWords]
    asked: str
    language: str
    before: Collection[str] = ()
    """The tools with an effect that were called with success in earlier turns."""
    done: list[str] = field(default_factory=list)
    looked: set[str] = field(default_factory=set)
    """The kinds of tools (``home``, ``clock``) that have looked something up: a state that is told may be what they said."""
    error: str = ""
    """What the last call that failed said."""
    held: list[Sentence] = field(default_factory=list)
    promise: Claim | None = None
    """What was announced and not done yet."""
    broken: Claim | None = None
    """What was claimed and not done: to be set right."""
    _free: bool = False
    _curious: bool = False

    def __post_init__(self) -> None:
        told = self.words.values()
        self._free = any(words.is_fiction(self.asked) for words in told)
        self._curious = any(words.is_question(self.asked) for words in told)

    def called(self, tool: str, effect: bool, error: str) -> None:
        """A call has ended; *error* is what the person may be told when it failed."""
        if error:
            self.error = error
            return
        if effect:
            self.done.append(tool)
            if self.promise is not None and self.promise.by(tool):
                self.promise = None
            if self.broken is not None and self.broken.by(tool):
                self.broken = None
        else:
            self.looked.add(tool.partition(".")[0])

    def feed(self, sentence: Sentence) -> list[Sentence]:
        """The next sentence that was written: return what may be spoken now. One that is not true yet waits for `round_over`."""
        if self.held:
            self.held.append(sentence)
            return []
        claim = self._claim(sentence)
        if claim is None or self._true(claim):
            return [sentence]
        if claim.tense is Tense.PROMISED:
            self.promise = claim
            return [sentence]
        self.held.append(sentence)
        return []

    def round_over(self) -> list[Sentence | Claim]:
        """All calls of this round have ended: return what waited and is true, and claims in the place of what is not.

        Such a claim is in `broken` until a later call makes it true.
        """
        waiting, self.held = self.held, []
        spoken: list[Sentence | Claim] = []
        for sentence in waiting:
            claim = self._claim(sentence)
            if claim is None or self._true(claim):
                spoken.append(sentence)
            elif claim.tense is Tense.PROMISED:
                self.promise = claim
                spoken.append(sentence)
            else:
                self.broken = claim
                spoken.append(claim)
        return spoken

    @property
    def owed(self) -> Claim | None:
        """What the person was told, or would have been, and was not done."""
        return self.broken or self.promise

    def _claim(self, sentence: Sentence) -> Claim | None:
        words = self.words.get(sentence.language)
        return None if words is None or self._free else words.find(sentence.text)

    def _true(self, claim: Claim) -> bool:
        if any(claim.by(tool) for tool in self.done):
            return True
        if self._curious and (claim.tense is Tense.STATE or any(claim.by(tool) for tool in self.before)):
            return True
        return claim.tense is Tense.STATE and not self.looked.isdisjoint(tool.partition(".")[0] for tool in claim.tools)


def claim_words(names: Collection[str] = ()) -> dict[str, ClaimWords]:
    """The claims of every language, with the *names* of the house. Takes some 50 ms the first time."""
    return {language: ClaimWords(language, names) for language in LANGUAGES}


@cache
def _read(language: str) -> dict[str, Any]:
    told: dict[str, Any] = yaml.load((WORDS / f"{language}.yaml").read_bytes(), Loader=_LOADER)
    return told


@cache
def _shapes(language: str) -> _Shapes:
    told = _read(language)
    chinese = language.startswith("zh")
    end, between = ("", "") if chinese else (r"\b", r"[\s,!.]*")
    plain = ("clause", "unless", "fiction", "question", "request", "done")
    return _Shapes(
        **{name: re.compile(told[name]) for name in plain},
        fillers=re.compile(rf"^(?:(?:{told['fillers']}){end}{between})+"),
        thing=re.compile(rf"{end}(?:{told['things']}){end}"),
        patterns=tuple(pattern for kind in told["kinds"] for pattern in _patterns(told, kind)),
    )


@cache
def _spoken_of() -> tuple[str, ...]:
    return tuple({tool for language in LANGUAGES for kind in _read(language)["kinds"] for tool in kind["tools"]})


def _matches(tool: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(tool, pattern) for pattern in patterns)


def _patterns(told: Mapping[str, Any], kind: Mapping[str, Any]) -> list[_Pattern]:
    verbs: dict[str, str] | list[str] = kind["verbs"]
    past = list(verbs)
    bases = dict(verbs) if isinstance(verbs, dict) else {}
    base = {word: word for word in bases.values()}
    ing = {_ing(word): word for word in bases.values()}
    filled = {
        "verb": _any(past),
        "verb_apart": _any([word for word in past if bases.get(word) != word]),
        "base": _any(base),
        "ing": _any(ing),
        "after": kind.get("after", ""),
        "states": kind.get("states", "") or "(?!)",
    }
    shapes = [(Tense.PROMISED, shape) for shape in told["promises"]]
    if not kind.get("promised_only"):
        shapes += [(Tense.DONE, shape) for shape in told["claims"]] + [(Tense.STATE, shape) for shape in told["states"]]
    return [
        _Pattern(
            tense,
            tuple(kind["tools"]),
            re.compile(_filled(shape, filled)),
            {**bases, **base, **ing},
            bool(kind.get("bare")),
        )
        for tense, shape in shapes
    ]


def _filled(shape: str, words: Mapping[str, str]) -> str:
    """Put the words into a shape. Not `str.format`: shapes hold counts in braces."""
    for name, text in words.items():
        shape = shape.replace(f"{{{name}}}", text)
    return shape


def _any(words: Collection[str]) -> str:
    found = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    return f"(?:{found})" if found else "(?!)"


def _ing(base: str) -> str:
    verb, _, particle = base.partition(" ")
    if verb.endswith("e"):
        verb = verb[:-1]
    elif re.fullmatch(r"[^aeiou]*[aeiou][bdgklmnprt]", verb):  # set, put, stop, skip
        verb += verb[-1]
    return f"{verb}ing {particle}".strip()


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("’", "'").replace("‘", "'").split())


__all__ = ["Claim", "ClaimWords", "Tense", "Truth", "claim_words"]
