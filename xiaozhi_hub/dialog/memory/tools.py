"""The ``memory.*`` tools: what people ask the hub to remember, to tell, and to forget. They work without a language model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.i18n import Texts, is_chinese, written_in
from xiaozhi_hub.dialog.memory.confidential import is_confidential
from xiaozhi_hub.dialog.memory.memories import Memories
from xiaozhi_hub.engines.memory import Fact, Memory
from xiaozhi_hub.errors import HubError, MissingSlot, NotForMe, ToolError
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool

LONGEST_FACT = 300
"""Characters. It is spoken as one piece; what is longer is a story."""
MOST_TOLD = 3
"""Facts that are spoken for one question."""
MOST_FOUND = 20
MENTION_SECONDS = 300.0
"""So long "forget that" means what was spoken of last."""
_MOST_DEVICES = 1000
_ORDER = ("first", "second", "third")

Words = Annotated[str, "the fact, as a whole sentence that is understood without the rest of the conversation"]
About = Annotated[str, "what it is about, in few words"]
Which = Literal["first", "second", "third", "last", "all", "none"]


@dataclass(frozen=True, slots=True)
class _Mentioned:
    """What was spoken of last on a device."""

    facts: tuple[Fact, ...]
    at: float


class MemoryTools:
    """The handlers. Those that change or delete follow a person's own sentence; a model may only note and recall."""

    def __init__(
        self, memories: Memories, texts: Texts, now: Callable[[], float], local: Callable[[float], datetime]
    ) -> None:
        """*now* gives seconds since the epoch, *local* makes local time of them."""
        self._memories = memories
        self._texts = texts
        self._now = now
        self._local = local
        self._mentioned: dict[str, _Mentioned] = {}

    # -- noting ---------------------------------------------------------------------------------------------------

    async def remember(self, turn: TurnInfo, text: Words | None = None) -> ToolResult:
        """Remember what the person says, word for word."""
        memory = self._memory(turn)
        if text is None:
            raise MissingSlot("text", self._text("what", turn))
        fact = await self._note(memory, text, turn, "person")
        self._mention(turn, (fact,))
        return ToolResult(self._text("noted", turn), {"fact": _told(fact)})

    async def note(self, turn: TurnInfo, text: Words) -> ToolResult:
        """Remember one lasting fact about the people or the home that the person has just told you; never guesses, passwords
        or what you were told by a tool."""
        fact = await self._note(self._memory(turn), text, turn, "model")
        return ToolResult(self._text("noted", turn), {"fact": _told(fact)})

    async def _note(self, memory: Memory, text: str, turn: TurnInfo, noted_by: str) -> Fact:
        text = _tidy(text)
        if not any(character.isalnum() for character in text):
            raise MissingSlot("text", self._text("what", turn))
        if len(text) > LONGEST_FACT:
            raise ToolError(self._text("too_long", turn), code="memory-too-long")
        if is_confidential(text):
            raise ToolError(self._text("confidential", turn), code="memory-confidential")
        fact = Fact(
            text=text,
            turn_id=turn.id,
            noted_at=self._now(),
            device_id=turn.device_id,
            language=written_in(text, turn.language),
            noted_by=noted_by,
        )
        try:
            return await memory.note(fact)
        except HubError as error:
            key = "full" if error.code == "memory-full" else "failed"
            raise ToolError(self._text(key, turn), code=error.code) from error

    # -- telling --------------------------------------------------------------------------------------------------

    async def recall(self, turn: TurnInfo, about: About) -> ToolResult:
        """Tell what people have asked to remember about something."""
        facts = await self._find(self._memory(turn), about, turn)
        if not facts:
            return ToolResult(self._text("nothing_about", turn), {"facts": []})
        return self._tell(facts, turn)

    async def answer(self, turn: TurnInfo, about: About) -> ToolResult:
        """Answer a question from what is remembered; whoever comes next answers it otherwise."""
        memory = self._memories.of(turn)
        facts = await self._find(memory, about, turn) if memory is not None else ()
        if not facts:
            raise NotForMe(self._text("nothing_about", turn))
        return self._tell(facts, turn)

    async def list_all(self, turn: TurnInfo) -> ToolResult:
        """Tell how much is remembered, and what was told last."""
        memory = self._memory(turn)
        try:
            count, facts = await memory.count(), await memory.listed(MOST_TOLD)
        except HubError as error:
            raise self._failed(turn, error) from error
        if not facts:
            return ToolResult(self._text("nothing", turn), {"count": 0})
        self._mention(turn, facts)
        said = self._said(facts, turn)
        if count > len(facts):
            said = self._text("newest", turn, count=count, said=said)
        return ToolResult(said, {"count": count, "facts": [_told(fact) for fact in facts]})

    def _tell(self, facts: Sequence[Fact], turn: TurnInfo) -> ToolResult:
        told = facts[:MOST_TOLD]
        self._mention(turn, told)
        return ToolResult(self._said(told, turn), {"facts": [_told(fact) for fact in facts]})

    # -- forgetting -----------------------------------------------------------------------------------------------

    async def forget(self, turn: TurnInfo, about: About | None = None, which: Which | None = None) -> ToolResult:
        """Forget what was spoken of last, or what is about something; asks when several facts are meant."""
        memory = self._memory(turn)
        mentioned = self._mentioned_on(turn)
        if which is not None:
            return await self._forget(memory, _chosen(mentioned, which), turn)
        if about is not None:
            found = await self._find(memory, about, turn)
            if not found:
                return ToolResult(self._text("nothing_about", turn), {"forgotten": 0})
        else:
            found = mentioned
            if not found:
                raise MissingSlot("about", self._text("forget_what", turn))
        if len(found) == 1:
            return await self._forget(memory, found, turn)
        self._mention(turn, found)
        question = self._text("which", turn, count=len(found), said=self._numbered(found, turn))
        raise MissingSlot("which", question, {"about": about} if about is not None else {})

    async def forget_everything(self, turn: TurnInfo) -> ToolResult:
        """Forget everything that people have asked to remember."""
        memory = self._memory(turn)
        try:
            count = await memory.clear()
        except HubError as error:
            raise self._failed(turn, error) from error
        self._mentioned.clear()
        return ToolResult(self._text("forgot_all" if count else "nothing", turn, count=count), {"forgotten": count})

    async def _forget(self, memory: Memory, facts: Sequence[Fact], turn: TurnInfo) -> ToolResult:
        if not facts:
            return ToolResult(self._text("kept", turn), {"forgotten": 0})
        try:
            count = await memory.forget([fact.id for fact in facts])
        except HubError as error:
            raise self._failed(turn, error) from error
        self._mentioned.pop(_where(turn), None)
        if len(facts) == 1:
            return ToolResult(self._text("forgot", turn, said=self._end(facts[0])), {"forgotten": count})
        return ToolResult(self._text("forgot_some", turn, count=count), {"forgotten": count})

    # -- how ------------------------------------------------------------------------------------------------------

    def _memory(self, turn: TurnInfo) -> Memory:
        memory = self._memories.of(turn)
        if memory is None:
            raise ToolError(self._text("off", turn), code="memory-off")
        return memory

    async def _find(self, memory: Memory, about: str, turn: TurnInfo) -> tuple[Fact, ...]:
        try:
            return tuple(await memory.recall(about, MOST_FOUND, strict=True))
        except HubError as error:
            raise self._failed(turn, error) from error

    def _failed(self, turn: TurnInfo, error: HubError) -> ToolError:
        return ToolError(self._text("failed", turn), code=error.code)

    def _mention(self, turn: TurnInfo, facts: Sequence[Fact]) -> None:
        self._mentioned.pop(_where(turn), None)
        self._mentioned[_where(turn)] = _Mentioned(tuple(facts), self._now())
        while len(self._mentioned) > _MOST_DEVICES:
            del self._mentioned[next(iter(self._mentioned))]

    def _mentioned_on(self, turn: TurnInfo) -> tuple[Fact, ...]:
        last = self._mentioned.get(_where(turn))
        return last.facts if last is not None and self._now() - last.at <= MENTION_SECONDS else ()

    def _said(self, facts: Sequence[Fact], turn: TurnInfo) -> str:
        """Each fact with its day, as what it is: something that somebody said."""
        said = []
        for fact in facts:
            key, count = _ago((self._local(self._now()).date() - self._local(fact.noted_at).date()).days)
            said.append(self._text(f"told_{key}", turn, count=count, said=self._end(fact)))
        return _joined(said, turn)

    def _numbered(self, facts: Sequence[Fact], turn: TurnInfo) -> str:
        numbered = zip(_ORDER, facts, strict=False)
        return _joined([self._text(name, turn, said=self._end(fact)) for name, fact in numbered], turn)

    def _end(self, fact: Fact) -> str:
        return f"{fact.text}{'。' if is_chinese(fact.text) else '.'}"

    def _text(self, key: str, turn: TurnInfo, **values: object) -> str:
        return self._texts.text(f"memory.{key}", turn.language, **values)


def _ago(days: int) -> tuple[str, int]:
    """How long ago something was, as people say it: a text's key, and how many of its units."""
    if days < 2:
        return ("yesterday" if days == 1 else "today"), 0
    for most, key, unit in ((14, "days", 1), (60, "weeks", 7), (730, "months", 30)):
        if days < most:
            return key, days // unit
    return "years", days // 365


def _joined(sentences: Sequence[str], turn: TurnInfo) -> str:
    return ("" if turn.language.startswith("zh") else " ").join(sentences)


def _where(turn: TurnInfo) -> str:
    """What "that" belongs to: the device, or where there is none the conversation."""
    return turn.device_id or turn.session_id


def _chosen(facts: tuple[Fact, ...], which: str) -> tuple[Fact, ...]:
    if which in ("all", "none"):
        return facts if which == "all" else ()
    at = len(facts) - 1 if which == "last" else _ORDER.index(which)
    return facts[at : at + 1]


def _tidy(text: str) -> str:
    """Without the marks that end a sentence: what is remembered is told as part of another one."""
    return re.sub(r"[\s.,;:!。，；：！]+$", "", " ".join(text.split())).strip()


def _told(fact: Fact) -> dict[str, Any]:
    return {"id": fact.id, "text": fact.text, "person": fact.person, "noted_at": fact.noted_at, "turn_id": fact.turn_id}


def memory_tools(
    memories: Memories, texts: Texts, now: Callable[[], float], local: Callable[[float], datetime]
) -> tuple[Tool, ...]:
    """All of them. A model is offered `memory.note` and `memory.recall`: it may add and read, and delete nothing."""
    tools = MemoryTools(memories, texts, now, local)
    return (
        make_tool("memory.remember", tools.remember, owner_only=True),
        make_tool("memory.note", tools.note),
        make_tool("memory.recall", tools.recall, effect=False),
        make_tool("memory.answer", tools.answer, effect=False, owner_only=True),
        make_tool("memory.list", tools.list_all, effect=False),
        make_tool("memory.forget", tools.forget, owner_only=True),
        make_tool("memory.forget_everything", tools.forget_everything, confirm=True, owner_only=True),
    )


__all__ = ["LONGEST_FACT", "memory_tools"]
