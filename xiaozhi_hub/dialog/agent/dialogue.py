"""What was said in a conversation, as the model read it: messages are added and never rewritten.

A model that keeps what it has evaluated only evaluates what is new, as long as a request begins with the bytes of the one
before. So the beginning (who speaks, the tools) stays what it was when the dialogue began, what changes from turn to turn stands
at the end of the newest message and then stays there, and old turns are dropped rarely and many at once. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from xiaozhi_hub.dialog.agent.tokens import Count, as_json, cost, cost_of_tools
from xiaozhi_hub.engines.llm import Message, ToolRequest, ToolSpec

KEPT = 10
"""After dropping turns, those that remain fill at most one in so many of the tokens that the model reads at once: they are all that has
to be evaluated again, and the next time is far away."""
MOST_COMMANDS = 4
"""Commands that were carried out without the model and that it is told of."""
_WORDS = 120


@dataclass(slots=True)
class Exchange:
    """One turn: a question, what was called, the answer. Grows at its end while it lasts."""

    messages: list[Message]
    told: Mapping[str, str] = field(default_factory=dict)
    """What its aside told, so that it is not told again as long as it can be read."""


@dataclass(slots=True)
class Dialogue:
    """The dialogue of one conversation. Begins with `begin`, again when what it begins with has to change."""

    key: str = ""
    """What the beginning was made for: the assistant and its words."""
    language: str = "en"
    """The language of the hub's own words in it."""
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    exchanges: list[Exchange] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """What was done without the model since it was last asked."""
    notes: list[str] = field(default_factory=list)
    """What the model has to be told with the next question: it was interrupted, its words were not true."""
    done: set[str] = field(default_factory=set)
    """The tools with an effect that were called with success."""
    begun: bool = False
    dropped: int = 0
    """Turns that were dropped."""
    answering: bool = False
    """A model is writing an answer, which is not among the exchanges yet."""

    def copy(self) -> Dialogue:
        """One that can be changed without this one being so; what its exchanges hold is shared."""
        return replace(
            self,
            exchanges=list(self.exchanges),
            commands=list(self.commands),
            notes=list(self.notes),
            done=set(self.done),
        )

    def begin(self, key: str, language: str, system: str, tools: Sequence[ToolSpec]) -> None:
        """Start anew with another beginning; what was said before is forgotten."""
        self.key, self.language, self.system, self.tools = key, language, system, tuple(tools)
        self.exchanges.clear()
        self.done.clear()
        self.notes.clear()
        self.begun = True

    def told(self) -> dict[str, str]:
        """What the model can still read of what the hub has told it: the newest value of each."""
        known: dict[str, str] = {}
        for exchange in self.exchanges:
            known.update(exchange.told)
        return known

    def messages(self, now: Exchange | None = None) -> tuple[Message, ...]:
        """Everything in order: the beginning, the turns, and the turn that is under way."""
        past = [message for exchange in self.exchanges for message in exchange.messages]
        return (Message("system", self.system), *past, *(now.messages if now is not None else ()))

    def command(self, text: str, answer: str, tool: str) -> None:
        """Note what was done without the model, so that "and the other one" means something to it."""
        line = f'"{" ".join(text.split())[:_WORDS]}" → {" ".join(answer.split())[:_WORDS]}'
        self.commands = [*self.commands, line][-MOST_COMMANDS:]
        self.done.add(tool)

    def needed(self, now: Exchange, count: Count) -> int:
        """The tokens of the beginning and of the turn under way: less cannot be sent."""
        beginning = cost((Message("system", self.system),), count) + cost_of_tools(self.tools, count)
        return beginning + cost(now.messages, count)

    def make_room(self, room: int, count: Count, now: Exchange) -> int:
        """Drop the oldest turns when all would come to more than *room* tokens; return how many were dropped.

        Then as many are dropped as it takes for the rest to be small (`KEPT`), whole turns, at least the oldest.
        """
        sizes = [cost(exchange.messages, count) for exchange in self.exchanges]
        needed = self.needed(now, count)
        if not sizes or needed + sum(sizes) <= room:
            return 0
        drop = 1
        most = min(room // KEPT, max(0, room - needed))
        while drop < len(sizes) and sum(sizes[drop:]) > most:
            drop += 1
        del self.exchanges[:drop]
        self.dropped += drop
        return drop


def serialised(tools: Sequence[ToolSpec], messages: Sequence[Message]) -> str:
    """A request as text, in the order in which templates write it: for measuring what two requests share."""
    parts = [f"{tool.name} {tool.description} {as_json(tool.parameters)}" for tool in tools]
    return "\n".join((*parts, *(as_json(to_json(message)) for message in messages)))


def to_json(message: Message) -> dict[str, Any]:
    """A message as JSON holds it."""
    told: dict[str, Any] = {"role": message.role, "text": message.text}
    if message.tool_name:
        told["tool_name"] = message.tool_name
    if message.calls:
        told["calls"] = [{"name": call.name, "arguments": dict(call.arguments)} for call in message.calls]
    return told


def from_json(told: Mapping[str, Any]) -> Message:
    """A message from what `to_json` made of it; KeyError and TypeError where that is damaged."""
    calls = tuple(ToolRequest(str(call["name"]), dict(call["arguments"])) for call in told.get("calls", ()))
    return Message(str(told["role"]), str(told["text"]), str(told.get("tool_name", "")), calls)
