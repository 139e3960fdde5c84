"""What a question is answered with: the time, the room, what of the house it is about, what is remembered, which tools fit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import LANGUAGES, Texts
from xiaozhi_hub.dialog.agent import house
from xiaozhi_hub.dialog.agent.claims import ClaimWords, claim_words
from xiaozhi_hub.dialog.agent.dialogue import Dialogue
from xiaozhi_hub.dialog.agent.prompt import Known, line, moment, said_as
from xiaozhi_hub.dialog.agent.shortlist import Index, signature
from xiaozhi_hub.dialog.intents.intents import Intents
from xiaozhi_hub.dialog.memory.memories import Memories
from xiaozhi_hub.entities.base import Entity
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.tools.base import Tool

FACTS = 3


class Briefing:
    """Gathers what the model should know for a question."""

    def __init__(
        self,
        texts: Texts,
        entities: EntityRegistry,
        intents: Intents,
        memories: Memories,
        now: Callable[[], datetime],
        name_of: Callable[[str], str],
    ) -> None:
        """*now* is local time, *name_of* tells what a device is called."""
        self.entities = entities
        self._texts = texts
        self._kinds = house.words_for_kinds(texts)
        self._intents = intents
        self._memories = memories
        self._now = now
        self._name_of = name_of
        self._index: tuple[object, Index] | None = None
        self._claims: tuple[int, dict[str, ClaimWords]] | None = None

    async def known(
        self,
        turn: TurnInfo,
        text: str,
        dialogue: Dialogue,
        index: Index,
        own: Sequence[str] = (),
        *,
        guessed: bool = False,
    ) -> list[Known]:
        """Everything that may be told with this question; what the dialogue tells already is left out later. *own* are the names of
        tools that only this device has. Where *text* is only *guessed*, no memory on another machine is asked."""
        texts, language = self._texts, dialogue.language
        known = moment(texts, language, self._now())
        if turn.area:
            known.append(said_as(texts, language, "room", "room", turn.area))
        name = self._name_of(turn.device_id) if turn.device_id else ""
        if name and name != turn.device_id:
            known.append(said_as(texts, language, "device", "device", name))
        if own:
            known.append(said_as(texts, language, "own_tools", "own_tools", ", ".join(own)))
        if turn.language != dialogue.told().get("language", language):
            known.append(Known("language", turn.language, texts.text(f"agent.answer_in.{turn.language}", language)))
        things = house.meant(text, self.entities, turn.area, self._kinds)
        known += house.states(things, language)
        known += await self._remembered(turn, text, language, guessed)
        if dialogue.commands:
            done = ", ".join(map(line, dialogue.commands))
            known.append(Known("", "", texts.text("agent.meanwhile", language, value=done)))
        known += [Known("", "", texts.text(f"agent.note.{note}", language)) for note in dict.fromkeys(dialogue.notes)]
        dialogue.notes.clear()
        return known + self._more_tools(text, things, dialogue, index)

    def _more_tools(self, text: str, things: Sequence[Entity], dialogue: Dialogue, index: Index) -> list[Known]:
        """The tools that fit the question and are not among those of the beginning."""
        always = frozenset(spec.name for spec in dialogue.tools)
        found = index.best(text, more=house.words_for(things), but=always)
        told = dialogue.told()
        lead = self._texts.text("agent.more_tools", dialogue.language)
        new = [tool for tool in found if f"tool:{tool.name}" not in told]
        return [
            Known(f"tool:{tool.name}", "1", f"{'' if number else lead}{line(signature(tool))}")
            for number, tool in enumerate(new)
        ]

    async def _remembered(self, turn: TurnInfo, text: str, language: str, guessed: bool) -> list[Known]:
        """What people have asked to remember of it: told as data, once."""
        facts = await self._memories.recall(turn, text, FACTS, guessed=guessed)
        return [said_as(self._texts, language, "fact", f"fact:{fact.id or fact.text}", fact.text) for fact in facts]

    async def index(self, tools: Sequence[Tool]) -> Index:
        """Finds *tools* by words; the last one is kept."""
        key = tuple((tool.name, tool.description) for tool in tools)
        if self._index is None or self._index[0] != key:
            self._index = (key, await asyncio.to_thread(self._make_index, tools))
        return self._index[1]

    def _make_index(self, tools: Sequence[Tool]) -> Index:
        said = [self._intents.wording(language) for language in LANGUAGES]
        return Index(tools, {tool.name: " ".join(words.get(tool.name, "") for words in said) for tool in tools})

    async def claims(self) -> dict[str, ClaimWords]:
        """What counts as a claim in this house."""
        if self._claims is None or self._claims[0] != self.entities.version:
            names = {name for entity in self.entities.all() for name in entity.names}
            self._claims = (self.entities.version, await asyncio.to_thread(claim_words, names))
        return self._claims[1]
