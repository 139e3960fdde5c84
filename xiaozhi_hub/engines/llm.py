"""Language models: what to answer, and which tools to call?"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.core.flow import TextDelta
from xiaozhi_hub.engines.base import Engine


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """The model wants a tool to be called."""

    name: str
    arguments: Mapping[str, Any]


NOT_RECOGNISED = "not-recognised"
"""Code of the `StageError` of an engine that understands some sentences only, and not this one: the next one is asked, and where
there is none the hub says that it has not understood."""
ASIDE = "\n\n(hub: "
"""So begins what the hub adds at the end of a message for the model alone: the time, the room, what it remembers."""


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation with a language model."""

    role: str
    """``system``, ``user``, ``assistant`` or ``tool``."""
    text: str
    """What the model reads: engines pass it on whole."""
    tool_name: str = ""
    """Whose result a ``tool`` message is."""
    calls: tuple[ToolRequest, ...] = ()
    """What an ``assistant`` message asked for; the results follow as ``tool`` messages in the same order."""

    @property
    def words(self) -> str:
        """What the person or the tool said, without what the hub added."""
        return self.text.partition(ASIDE)[0]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a language model sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of type object."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a language model is asked. The unchanging parts come first so that engines can keep them evaluated."""

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    language: str = "en"
    conversation: str = ""
    """Requests with the same value share their beginning: an engine may keep its cache under it. Letters and digits, made by
    `xiaozhi_hub.engines.conversations`: by its first characters an engine knows what to forget with a device."""
    may_call: bool = True
    """False: the answer must be words. The tools are there all the same, because they are part of the beginning."""


class Llm(Engine):
    """A language model."""

    @abstractmethod
    def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        """Yield the reply as it is written, and tool requests; the caller asks again with the tools' results.

        What was yielded, joined, is what belongs into `Message.text` of the history: an engine that keeps what it has
        evaluated knows its own words again only when they come back unchanged.
        """

    async def prepare(self, request: ChatRequest) -> None:
        """Read what will probably be asked, while nobody waits for an answer, so that `chat` has less of it left to read.

        Only for engines on this machine, where that costs nobody anything (`EngineInfo.reads_ahead`). It may be wrong, may be
        cancelled at any time, which stops the work, and gives way to everything else that the engine does. Never fails; returns
        when it has read everything or has given up.
        """

    @property
    def context_tokens(self) -> int | None:
        """The most tokens that all messages and tools of one request may come to; room for the answer is taken off already.

        The caller trims its history to it, rarely and then by much: every message that is dropped changes the beginning. None
        when the engine does not tell, which it may begin to do later, once its model is loaded.
        """
        return None

    def count_tokens(self, text: str) -> int | None:
        """How many tokens *text* comes to: exact for what the model has read before, else estimated, rather too many. Cheap:
        it does not wait for the model. What surrounds a message in a prompt is not counted. None: unknown."""
        return None


__all__ = ["ASIDE", "NOT_RECOGNISED", "ChatRequest", "Llm", "Message", "ToolRequest", "ToolSpec"]
