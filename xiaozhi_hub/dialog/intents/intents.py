"""From a sentence to a tool: the fast way, without a language model.

Sentences come from integrations, from the core (``sentences/`` beside this module) and from home-assistant-intents, in
this order; "stop" and "never mind" go before all of them. How they are written: `xiaozhi_hub.dialog.intents.sentence_files`.

hassil and its data are imported in a thread by the first `rebuild`: the hub answers devices before they are loaded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.core.collector import building_to_last
from xiaozhi_hub.core.flow import SOUND, Completeness, TurnInfo
from xiaozhi_hub.core.i18n import LANGUAGES, Texts, written_in
from xiaozhi_hub.core.places import PACKAGE
from xiaozhi_hub.dialog.intents.conversation_tools import NEVER_MIND
from xiaozhi_hub.dialog.intents.names import House, house_in
from xiaozhi_hub.engines.phrasebook import Phrasebook
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.errors import ConfigError
from xiaozhi_hub.tools.registry import CONFIRMED, ToolRegistry

if TYPE_CHECKING:
    from xiaozhi_hub.dialog.intents.matcher import Found, Matcher
    from xiaozhi_hub.dialog.intents.sentence_files import SentenceFile

log = logging.getLogger(__name__)
CORE = "core"
CALL_OFF_MS = 2000
"""Nobody takes longer to say that they have thought better of it."""
SENTENCES = PACKAGE / "dialog" / "intents" / "sentences"


@dataclass(frozen=True, slots=True)
class Intent:
    """What a person wants: a tool and its arguments."""

    tool: str
    arguments: Mapping[str, Any]
    language: str
    """The language it was said in."""
    text: str


@dataclass(frozen=True, slots=True)
class Pending:
    """A question that a tool has asked back: `MissingSlot` put into words for the next turn."""

    tool: str
    arguments: Mapping[str, Any]
    slot: str


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a rebuild builds from; equal values build the same."""

    files: tuple[tuple[str, Path], ...]
    house_version: int
    assistants: tuple[tuple[str, str], ...]
    tools: tuple[str, ...]
    books: frozenset[str]
    """The languages whose phrasebooks are built."""


@dataclass(slots=True)
class Intents:
    """Understands sentences. Built by `rebuild`; until its first call nothing is understood."""

    texts: Texts
    entities: EntityRegistry
    tools: ToolRegistry
    assistants: tuple[tuple[str, str], ...] = ()
    """What people may call each assistant, and its id; known with the next `rebuild`."""
    problems: tuple[ConfigError, ...] = ()
    """Sentence files that cannot be used."""
    _files: list[tuple[str, Path]] = field(init=False)
    _read: dict[Path, SentenceFile | ConfigError] = field(init=False, default_factory=dict)
    _matchers: dict[str, Matcher] = field(init=False, default_factory=dict)
    _built: _Wanted | None = field(init=False, default=None)
    _building: asyncio.Lock = field(init=False, default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._files = [(CORE, SENTENCES / f"{language}.yaml") for language in LANGUAGES]

    def add_sentences(self, source: str, path: Path) -> None:
        """Take in a sentence file with the next `rebuild`. It is read again each time it is added."""
        self._files.append((source, path))
        self._read.pop(path, None)

    def remove_source(self, source: str) -> None:
        """Forget the sentence files of *source* with the next `rebuild`."""
        self._files = [(owner, path) for owner, path in self._files if owner != source]

    async def rebuild(self, books: Collection[str] = LANGUAGES) -> None:
        """Learn the sentences, names and tools that there are now, and write phrasebooks in the languages *books*: of no use
        where nobody recognises speech in them, and the largest thing that a hub holds. Does nothing when all is known already.

        The work is done in a thread, number words included, so that the first person does not wait for it.
        """
        await self._learn(frozenset(books))

    def close(self) -> None:
        """Understand nothing any more, and let go of what was built: it is by far the most that a hub holds."""
        self._matchers = {}
        self._read.clear()
        self._built = None

    async def warm(self) -> None:
        """Do what takes long the first time and needs no names and tools, so that the first `rebuild` takes less."""
        async with self._building:
            files = tuple(self._files)

            def work() -> None:
                from xiaozhi_hub.dialog.intents.matcher import prepare

                with building_to_last():
                    for language, read in self._read_files(files)[0].items():
                        prepare(language, read)

            await asyncio.to_thread(work)

    def recognise(self, text: str, turn: TurnInfo, pending: Pending | None = None) -> Intent | None:
        """Say what a person wants; None when that is not known.

        With *pending* the text may be the answer to that question, which goes before everything but "stop". Where a tool has
        asked for the person's own words, anything is.
        """
        if pending is not None and pending.slot == SOUND:
            return self._dictated(text, turn, pending)
        for language in _languages_of(text, turn.language):
            matcher = self._matchers.get(language)
            if matcher is None:
                continue
            found = matcher.first(text)
            if found is None and pending is not None and (intent := self._answered(matcher, pending, text)):
                return intent
            if found is None:
                found = matcher.recognise(text)
            if found is not None:
                return Intent(found.tool, found.arguments, language, text)
        return None

    def answer(self, pending: Pending, text: str, turn: TurnInfo) -> Intent | None:
        """Understand *text* as the bare answer to the question that *pending* stands for."""
        for language in _languages_of(text, turn.language):
            matcher = self._matchers.get(language)
            if matcher is not None and (intent := self._answered(matcher, pending, text)):
                return intent
        return None

    def book(self, language: str) -> Phrasebook:
        """What is understood in *language*, for recognisers. KeyError before `rebuild`; takes long where that wrote none."""
        return self._matchers[language].book()

    def completeness(self, text: str, language: str) -> Completeness:
        """Say what *text*, heard so far, may still become. Its meaning is worked out too, so that it is known already when the
        turn ends with it."""
        if not text:
            return Completeness.PARTIAL  # of speech that nothing was understood of yet, any sentence may be the rest
        matcher = self._matchers.get(language)
        if matcher is None or not matcher.has_book:
            return Completeness.UNKNOWN
        found = matcher.recognise(text)
        completeness = matcher.book().completeness(text)
        if completeness is Completeness.EXTENDABLE and found is not None and found.asks:
            # Who says "set a timer" and nothing more is asked; most will say it by themselves.
            return Completeness.PARTIAL
        return completeness

    def meaning(self, text: str, language: str) -> Found | None:
        """Say what *text* asks for by itself, whoever says it and whatever was asked before; None when that is not known."""
        matcher = self._matchers.get(language)
        return (matcher.first(text) or matcher.recognise(text)) if text and matcher is not None else None

    def wording(self, language: str) -> dict[str, str]:
        """What people say in *language* for each tool, by its name: templates without their marks."""
        from xiaozhi_hub.dialog.intents.sentence_files import wording

        files = [file for file in self._read.values() if not isinstance(file, ConfigError)]
        return wording(file for file in files if file.language == language)

    # -- how ------------------------------------------------------------------------------------------------------

    def _dictated(self, text: str, turn: TurnInfo, pending: Pending) -> Intent:
        """What is said is no command, but for a short "never mind": a recogniser may hear that in the middle of anything."""
        if sum(packet.ms for packet in turn.sound) <= CALL_OFF_MS:
            for language in _languages_of(text, turn.language):
                matcher = self._matchers.get(language)
                if matcher is not None and (found := matcher.first(text)) is not None:
                    return Intent(found.tool, found.arguments, language, text)
        return Intent(pending.tool, {**pending.arguments, "text": text}, turn.language, text)

    def _answered(self, matcher: Matcher, pending: Pending, text: str) -> Intent | None:
        values = matcher.answer(pending.slot, text)
        if values is None:
            return None
        if values.get(CONFIRMED) is False:
            return Intent(NEVER_MIND, {}, matcher.language, text)
        return Intent(pending.tool, {**pending.arguments, **values}, matcher.language, text)

    async def _learn(self, books: frozenset[str]) -> None:
        async with self._building:
            tools = self.tools.all()
            names = tuple(tool.name for tool in tools)
            wanted = _Wanted(tuple(self._files), self.entities.version, self.assistants, names, books)
            if wanted == self._built:
                return
            house = {language: house_in(language, self.entities, self.assistants) for language in LANGUAGES}
            parameters = {tool.name: tuple(tool.parameters.get("properties", ())) for tool in tools}

            def work() -> None:
                with building_to_last():
                    self._build(wanted, house, parameters)

            await asyncio.to_thread(work)
            self._built = wanted

    def _build(self, wanted: _Wanted, house: Mapping[str, House], parameters: Mapping[str, tuple[str, ...]]) -> None:
        from xiaozhi_hub.dialog.intents.matcher import Matcher

        by_language, self.problems = self._read_files(wanted.files)
        for language, files in by_language.items():
            before = self._matchers.get(language)
            matcher = Matcher(language, tuple(files), house[language], parameters, before)
            matcher.warm()
            if language in wanted.books:
                matcher.book()
            self._matchers = {**self._matchers, language: matcher}

    def _read_files(
        self, files: Iterable[tuple[str, Path]]
    ) -> tuple[dict[str, list[SentenceFile]], tuple[ConfigError, ...]]:
        """Read those that were not read before; return all of them by language, and those that cannot be used."""
        from xiaozhi_hub.dialog.intents.sentence_files import read_sentences

        problems: list[ConfigError] = []
        by_language: dict[str, list[SentenceFile]] = {language: [] for language in LANGUAGES}
        for source, path in sorted(files, key=lambda held: _rank(held[0])):
            if path not in self._read:
                try:
                    self._read[path] = read_sentences(path)
                except ConfigError as error:
                    log.error("the sentences of %s cannot be used: %s", source, error)
                    self._read[path] = error
            known = self._read[path]
            if isinstance(known, ConfigError):
                problems.append(known)
            else:
                by_language[known.language].append(known)
        return by_language, tuple(problems)


def _rank(source: str) -> tuple[bool, str]:
    """Integrations go first, in the order in which they came; the hub's own sentences follow, always in the same order."""
    own = source.partition("/")[0] == CORE
    return own, source if own else ""


def _languages_of(text: str, language: str) -> tuple[str, ...]:
    """The languages to try: the turn's own first, then the one that the script tells."""
    other = written_in(text)
    return (language,) if other == language else (language, other)


__all__ = ["Intent", "Intents", "Pending"]
