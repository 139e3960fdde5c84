"""One language's sentences, ready to be matched. Everything here blocks; the first match of a text takes about 2 ms."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from hassil import recognize_best
from hassil.expression import TextChunk
from hassil.intents import Intents as Templates
from hassil.intents import RangeSlotList, SlotList, TextSlotList, TextSlotValue, WildcardSlotList
from hassil.models import MatchEntity
from hassil.parse_expression import parse_sentence
from hassil.recognize import RecognizeResult, is_match
from hassil.util import normalize_text

from xiaozhi_hub.dialog.grammar.grammar import Grammar, GrammarSource, Heard
from xiaozhi_hub.dialog.intents.names import House, version_of
from xiaozhi_hub.dialog.intents.sentence_files import (
    ASKS,
    SHARED,
    OfficialRule,
    SentenceFile,
    official_templates,
)
from xiaozhi_hub.engines.phrasebook import Phrasebook
from xiaozhi_hub.entities.base import Domain

OFFICIAL = {"en": "en", "zh-Hans": "zh-CN"}
"""Our languages in the official data."""
OFTEN_WEIGHT, OWN_WEIGHT, FIRST_WEIGHT, OFFICIAL_WEIGHT, ANSWER_WEIGHT = 4.0, 1.0, 0.5, 0.3, 0.1
"""How often people use an intent, by where its sentences come from: our own files (two kinds), those of them that go
first, the official data (phrasings that our own do not know), bare answers ("in the kitchen")."""
_AROUND_CHINESE = re.compile(r"(?<=[\u3400-\u9fff])\s+|\s+(?=[\u3400-\u9fff])")
_ROUND_TIME = re.compile(r"\b(\d{1,2}):0(\d)\b")
_AROUND_TEXT = " .,;:!?。，；：！？、"
KEPT = 500
"""Texts whose meaning is kept at hand: at home the same things are said day after day, and a guess in the silence after a
sentence is mostly what is found at its end."""
_HERE = {"area": ""}
"""hassil leaves out sentences that need the asking device's area when it is unknown; tools know what to do then."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a sentence asks for."""

    tool: str
    arguments: Mapping[str, Any]
    asks: str = ""
    """The slot that the tool will ask for."""


def prepare(language: str, files: Iterable[SentenceFile]) -> None:
    """Load what matchers of *language* need whatever the house is like: the number words of *files*, the official data."""
    _official_data(OFFICIAL[language])
    for file in files:
        _load_numbers(file.templates)


class Matcher:
    """Matches sentences of one language."""

    def __init__(
        self,
        language: str,
        files: tuple[SentenceFile, ...],
        house: House,
        parameters: Mapping[str, tuple[str, ...]],
        before: Matcher | None = None,
    ) -> None:
        """*before* is the one that this one replaces: a phrasebook that would be the same is taken over."""
        self.language = language
        self._files = files
        self._parameters = parameters
        self._lists: dict[str, SlotList] = {
            "name": _text_list("name", house.names),
            "area": _text_list("area", ((said, area, None) for said, area in house.areas)),
            "assistant": _text_list("assistant", ((said, id, None) for said, id in house.assistants)),
        }
        self._skip_words = [word for file in files for word in file.skip_words]
        self._no_spaces = language.startswith("zh")
        self._rules: dict[str, OfficialRule] = {}
        for file in reversed(files):
            self._rules.update(file.official)
        offered = language, repr((sorted(self._rules.items()), sorted(parameters.items())))
        self._official_source = SHARED.of(("official", *offered), self._choose_official)
        self._official = self._official_source.intents
        skipped = tuple(self._skip_words)
        self._sources = {
            file.digest: SHARED.of(("sources", file.digest, skipped), partial(_sources_of, file, skipped))
            for file in files
        }
        self._version = version_of((file.digest for file in files), house, self._rules)
        self._book_key = "book", self._version, *offered, *self._sources
        same = before is not None and before._version == self._version
        self._book: Phrasebook | None = before._book if before is not None and same else None
        self.first = lru_cache(KEPT)(self._first)
        """Match only what goes before everything else, such as "stop"."""
        self.recognise = lru_cache(KEPT)(self._recognise)
        """Match our own sentences, then the official ones. Where ours guess (a free text), a plain match goes first."""

    def warm(self) -> None:
        """Load the number words, which takes long the first time."""
        for templates in (self._official, *(file.templates for file in self._files)):
            _load_numbers(templates)
        self.recognise("x")

    @property
    def has_book(self) -> bool:
        return self._book is not None

    def book(self) -> Phrasebook:
        """The phrasebook of these sentences; takes long the first time."""
        if self._book is None:
            self._book = SHARED.of(self._book_key, self._write_book)
        return self._book

    def _write_book(self) -> Grammar:
        sources = [source for held in self._sources.values() for source in held.sources]
        return Grammar(self.language, [*sources, self._official_source], self._lists, self._version)

    # -- matching -------------------------------------------------------------------------------------------------

    def _first(self, text: str) -> Found | None:
        for file in self._files:
            if file.first.intents and (result := self._match(text, file.first)) is not None:
                return Found(file.tools[result.intent.name], self._arguments(result))
        return None

    def _recognise(self, text: str) -> Found | None:
        best: tuple[tuple[int, int], Found] | None = None
        for file in self._files:
            result = self._match(text, file.templates)
            if result is not None and (best is None or _quality(result) < best[0]):
                asks = (result.intent_metadata or {}).get(ASKS, "")
                best = (_quality(result), Found(file.tools[result.intent.name], self._arguments(result), asks))
        if best is not None and best[0][0] == 0:
            return best[1]
        result = self._match(text, self._official)
        if result is not None and (best is None or _quality(result) < best[0]):
            return self._served(result)
        return best[1] if best is not None else None

    def answer(self, slot: str, text: str) -> dict[str, Any] | None:
        """Match a bare answer for *slot*; return the arguments that it stands for."""
        for file in self._files:
            if slot in file.answers and (result := self._match(text, file.answers[slot])) is not None:
                return self._arguments(result)
        return None

    # -- how ------------------------------------------------------------------------------------------------------

    def _match(self, text: str, templates: Templates) -> RecognizeResult | None:
        text = _AROUND_CHINESE.sub("", text) if self._no_spaces else _ROUND_TIME.sub(_said_time, text)
        found = recognize_best(
            text,
            templates,
            slot_lists=self._lists,
            skip_words=self._skip_words,
            intent_context=_HERE,
            best_slot_name="name",
        )
        for entity in found.entities_list if found is not None else ():
            if entity.is_wildcard:
                entity.text = _as_written(entity, text)
        return found

    def _arguments(self, result: RecognizeResult, rule: OfficialRule | None = None) -> dict[str, Any]:
        slots = rule.slots if rule is not None else {}
        return {
            slots.get(name, name): _plain(entity)
            for name, entity in result.entities.items()
            if entity.value not in ("", None)
        }

    def _served(self, result: RecognizeResult) -> Found:
        rule = self._rules[result.intent.name]
        arguments = self._arguments(result, rule)
        tool = rule.tool_for(arguments.get("domain") or result.context.get("domain"))
        taken = self._parameters.get(tool, ())
        if rule.response and rule.response in taken and result.response:
            arguments[rule.response] = result.response
        if "everywhere" in taken and not {"name", "area"} & set(result.entities):
            arguments["everywhere"] = True  # the template needed no area, not even that of the asking device
        return Found(tool, {name: value for name, value in arguments.items() if name in taken})

    def _choose_official(self) -> GrammarSource:
        data = _official_data(OFFICIAL[self.language])
        domains = tuple(domain.value for domain in Domain)
        chosen = official_templates(data, self._rules, self._parameters, domains)
        return GrammarSource(chosen, OFFICIAL_WEIGHT * len(chosen.intents), heard=Heard.NEVER)


def _load_numbers(templates: Templates) -> None:
    """hassil keeps them for all lists of the same numbers."""
    for name, slot_list in templates.slot_lists.items():
        if isinstance(slot_list, RangeSlotList):
            is_match("x", parse_sentence(f"{{{name}}}"), {name: slot_list}, language=templates.language)


@lru_cache(maxsize=len(OFFICIAL))
def _official_data(language: str) -> Mapping[str, Any]:
    from home_assistant_intents import get_intents

    data = get_intents(language, json_load=json.load)
    assert data is not None, f"home-assistant-intents has no {language}"
    return {**data, "skip_words": []}  # ours are for all sentences alike


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class _Sources:
    """The sentences of one file, by how often they are said."""

    sources: tuple[GrammarSource, ...]


def _sources_of(file: SentenceFile, skip_words: Sequence[str]) -> _Sources:
    intents = file.templates.intents
    unheard = {name: intent for name, intent in intents.items() if name in file.unheard}
    often = {name: intent for name, intent in intents.items() if name in file.often and name not in unheard}
    others = {name: intent for name, intent in intents.items() if name not in often and name not in unheard}
    parts = [
        (replace(file.templates, intents=often), OFTEN_WEIGHT, Heard.ALWAYS),
        (replace(file.templates, intents=others), OWN_WEIGHT, Heard.ALWAYS),
        (file.first, FIRST_WEIGHT, Heard.ALWAYS),
        (replace(file.templates, intents=unheard), OWN_WEIGHT, Heard.NEVER),
    ]
    parts += [
        (_without_free_text(answers), ANSWER_WEIGHT, Heard.NEVER if slot in file.unheard else Heard.ANSWERING)
        for slot, answers in file.answers.items()
    ]
    return _Sources(
        tuple(
            GrammarSource(replace(part, skip_words=list(skip_words)), weight * len(part.intents), heard=heard)
            for part, weight, heard in parts
            if part.intents
        )
    )


def _without_free_text(answers: Templates) -> Templates:
    """An answer that may be anything would make the phrasebook understand everything."""
    free = {name for name, slot_list in answers.slot_lists.items() if isinstance(slot_list, WildcardSlotList)}

    def is_plain(text: str) -> bool:
        return not any(f"{{{name}" in text for name in free)

    intents = {}
    for name, intent in answers.intents.items():
        texts = [[text for text in block.sentence_texts if is_plain(text)] for block in intent.data]
        blocks = [replace(block, sentence_texts=kept) for block, kept in zip(intent.data, texts, strict=True) if kept]
        if blocks:
            intents[name] = replace(intent, data=blocks)
    return replace(answers, intents=intents)


def _text_list(name: str, values: Any) -> TextSlotList:
    return TextSlotList(
        name=name,
        values=[
            TextSlotValue(TextChunk(normalize_text(said), original_text=said), value_out=value, context=context)
            for said, value, context in values
        ],
    )


def _said_time(written: re.Match[str]) -> str:
    """``7:05`` is said "seven oh five", and ``7:00`` "seven o'clock"; hassil has no number with a zero before it."""
    return f"{written[1]} oh {written[2]}" if written[2] != "0" else f"{written[1]} o'clock"


def _quality(result: RecognizeResult) -> tuple[int, int]:
    """Fewer free texts are better, then more words that were really matched."""
    free = sum(1 for entity in result.entities_list if entity.is_wildcard)
    return (free, -result.text_chunks_matched)


def _plain(entity: MatchEntity) -> Any:
    """hassil gives 50.0 for "50 percent", and a free text with whatever was around it."""
    if isinstance(entity.value, float) and entity.value.is_integer():
        return int(entity.value)
    return entity.text.strip(_AROUND_TEXT) if entity.is_wildcard else entity.value


def _as_written(entity: MatchEntity, text: str) -> str:
    """hassil takes the commas out of a free text; take it from where it stood, if the words there are the same."""
    start, end = getattr(entity, "text_span", None) or (0, 0)  # older versions do not say where
    written = text[start:end]
    return written if _bare(written) == _bare(entity.text) else entity.text_clean


def _bare(text: str) -> str:
    return "".join(char for char in text if char.isalnum())


__all__ = ["Found", "Matcher"]
