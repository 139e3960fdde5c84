"""Ask a language model, with tools, in a dialogue that goes on."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from xiaozhi_hub.core.flow import Emotion, Sentence, ToolCall, TurnInfo
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.dialog.agent.briefing import Briefing
from xiaozhi_hub.dialog.agent.calls import AT_ONCE, USE_SPEC, Calls, CallTool, bounded
from xiaozhi_hub.dialog.agent.claims import Claim, Truth
from xiaozhi_hub.dialog.agent.dialogue import Dialogue, Exchange
from xiaozhi_hub.dialog.agent.prompt import question, system_text
from xiaozhi_hub.dialog.agent.shortlist import USE, USUALLY, Index, offer
from xiaozhi_hub.dialog.agent.tokens import CONTEXT, cost, counter_of, cut
from xiaozhi_hub.dialog.assistants.assistants import Assistant
from xiaozhi_hub.dialog.intents.intents import Intents, Pending
from xiaozhi_hub.dialog.speaking.splitter import Splitter, language_of_words
from xiaozhi_hub.engines.conversations import conversation_of
from xiaozhi_hub.engines.llm import NOT_RECOGNISED, ChatRequest, Llm, Message, ToolRequest
from xiaozhi_hub.errors import HubError, StageError
from xiaozhi_hub.tools.base import Tool
from xiaozhi_hub.tools.device import USUAL_TOOLS
from xiaozhi_hub.tools.registry import CONFIRMED, ToolRegistry

log = logging.getLogger(__name__)

ROUNDS = 4
"""How often a model may write in one turn; its last answer must be words."""
TURN_SECONDS = 90.0
"""What a turn may take in all; without a word for so long, the model counts as failed."""
LONGEST = 6000
"""Characters of one answer: several minutes of speech."""
LONGEST_RESULT = 400
"""Tokens of a tool's answer: most come to less than thirty."""
SHORTEST = 40
LEAST = 100
"""Tokens that go with a result: what stands around it, and what the hub adds."""
_MOST_ASKED = 16
"""Calls of one answer that are read at all."""
_PARROTED = "(hub:"


Asked = Callable[[Llm, ChatRequest, Message], None]
"""Is told what a model was asked and what it has answered."""


@dataclass(slots=True)
class _Reply:
    """A turn under way."""

    turn: TurnInfo
    exchange: Exchange
    calls: Calls
    truth: Truth
    until: float
    speaks: Callable[[str], bool]
    believed: bool = False
    """What is said to be done is done elsewhere."""
    wrote: Callable[[], None] = lambda: None
    asked: Asked = lambda _model, _request, _answer: None
    clause_first: bool = False
    rounds: int = 0
    text: str = ""
    """What the model has written in this round."""
    spoken: int = 0
    """Sentences that were spoken."""
    since_error: int = 0
    """Sentences that were spoken since a call failed."""
    corrected: bool = False
    told: int = 0
    """Calls that the truth has been told of."""


@dataclass(frozen=True, slots=True)
class Agent:
    """Answers what the intents do not understand. Shared by all devices; what belongs to one is its `Dialogue`."""

    texts: Texts
    tools: ToolRegistry
    intents: Intents
    briefing: Briefing
    seconds: float = TURN_SECONDS

    async def answer(
        self,
        models: Sequence[Llm],
        turn: TurnInfo,
        text: str,
        assistant: Assistant,
        dialogue: Dialogue,
        call: CallTool,
        speaks: Callable[[str], bool] = lambda _: True,
        *,
        note: Callable[[ToolCall], None] = lambda _: None,
        wrote: Callable[[], None] = lambda: None,
        asked: Asked = lambda _model, _request, _answer: None,
        clause_first: bool = False,
    ) -> AsyncGenerator[Sentence | Emotion | Pending, None]:
        """Yield the reply sentence by sentence as it is written, and at its end perhaps a question that the person may answer.

        The next of *models* goes on when one fails before its first word; `StageError` when all did. *speaks* tells whether there is
        a voice for a language, *note* is told of calls that were refused, *wrote* of each piece that a model writes, *asked* of each
        request with the answer to it; *clause_first* is as for `Splitter`.
        """
        reply = await self._begin(models[0], turn, text, assistant, dialogue, call, note, speaks)
        reply.clause_first, reply.wrote, reply.asked = clause_first, wrote, asked
        finished, dialogue.answering = False, True
        try:
            problem: HubError | None = None
            for model in models:
                reply.believed = model.info.acts
                try:
                    async with aclosing(self._rounds(model, reply, dialogue)) as pieces:
                        async for piece in pieces:
                            yield piece
                except HubError as error:
                    if error.code != NOT_RECOGNISED:
                        log.warning("model %s failed: %s", model.info.id, error)
                    problem = error
                    if reply.spoken:
                        break
                    reply.truth.held.clear()  # the next one finds words of its own
                else:
                    finished = True
                    return
            known = problem is not None and problem.code == NOT_RECOGNISED
            code = NOT_RECOGNISED if known else "llm-failed"
            raise StageError("llm", f"no model could answer: {problem}", code=code) from problem
        finally:
            self._end(reply, dialogue, finished)

    # -- before ---------------------------------------------------------------------------------------------------

    async def expected(
        self, model: Llm, turn: TurnInfo, text: str, assistant: Assistant, dialogue: Dialogue
    ) -> ChatRequest | None:
        """What `answer` would ask *model* first if it began now; None while an answer is being written. Nothing is changed."""
        if dialogue.answering:
            return None
        draft = dialogue.copy()
        exchange, _, _ = await self._put(model, turn, text, assistant, draft, guessed=True)
        draft.make_room(model.context_tokens or CONTEXT, counter_of(model), exchange)
        return _request(turn, draft, exchange)

    async def _begin(
        self,
        model: Llm,
        turn: TurnInfo,
        text: str,
        assistant: Assistant,
        dialogue: Dialogue,
        call: CallTool,
        note: Callable[[ToolCall], None],
        speaks: Callable[[str], bool],
    ) -> _Reply:
        exchange, usable, index = await self._put(model, turn, text, assistant, dialogue)
        lasting = {tool.name for tool in self.tools.all()}
        foreign = frozenset(tool.name for tool in usable if tool.foreign or tool.name not in lasting)
        area = self.briefing.entities.area
        calls = Calls(usable, foreign, index, call, note, area, self.texts, turn.language)
        truth = Truth(await self.briefing.claims(), text, turn.language, frozenset(dialogue.done))
        until = asyncio.get_running_loop().time() + self.seconds
        return _Reply(turn, exchange, calls, truth, until, speaks)

    async def _put(
        self, model: Llm, turn: TurnInfo, text: str, assistant: Assistant, dialogue: Dialogue, *, guessed: bool = False
    ) -> tuple[Exchange, list[Tool], Index]:
        """The question as *model* gets it, behind a beginning that fits; the tools that it may use, and those that it may see."""
        count, room = counter_of(model), model.context_tokens or CONTEXT
        usable = self._usable(turn, assistant)
        shown = [tool for tool in usable if not tool.confirm]
        lasting = {tool.name for tool in self.tools.all()}
        key = hashlib.sha256(f"{assistant.id}\n{assistant.persona}".encode()).hexdigest()[:12]
        if not dialogue.begun or dialogue.key != key:
            dialogue.begin(key, turn.language, system_text(self.texts, turn.language, assistant.persona), ())
        if not dialogue.tools or not {spec.name for spec in dialogue.tools} <= {USE, *(tool.name for tool in shown)}:
            always = [tool for tool in shown if tool.name in lasting]
            dialogue.tools = offer(always, USE_SPEC, min(USUALLY, room // 3), count).tools
        index = await self.briefing.index(shown)
        own = sorted(tool.name for tool in shown if tool.name not in lasting and tool.name not in USUAL_TOOLS)
        known = await self.briefing.known(turn, text, dialogue, index, own, guessed=guessed)
        words, tells = question(text, known, dialogue.told(), lambda text: cut(text, room // 4, count))
        return Exchange([Message("user", words)], tells), usable, index

    def _usable(self, turn: TurnInfo, assistant: Assistant) -> list[Tool]:
        return [tool for tool in self.tools.all_for(turn) if not tool.owner_only and assistant.may_use(tool.name)]

    # -- while it writes ------------------------------------------------------------------------------------------

    async def _rounds(
        self, model: Llm, reply: _Reply, dialogue: Dialogue
    ) -> AsyncGenerator[Sentence | Emotion | Pending, None]:
        """Let the model write, call what it asks for, let it write again."""
        count, room = counter_of(model), model.context_tokens or CONTEXT
        while True:
            dialogue.make_room(room, count, reply.exchange)
            may_call = reply.rounds < ROUNDS - 1
            request = _request(reply.turn, dialogue, reply.exchange, may_call=may_call)
            asked: list[ToolRequest] = []
            async with aclosing(self._writing(model, request, reply, asked)) as pieces:
                async for piece in pieces:
                    yield piece
            reply.rounds += 1
            reply.asked(model, request, Message("assistant", reply.text, calls=tuple(asked)))
            calls = tuple(bounded(request, room // 8, count) for request in asked[:AT_ONCE]) if may_call else ()
            left = room - dialogue.needed(reply.exchange, count) - cost((Message("", reply.text, calls=calls),), count)
            if left < (LEAST + SHORTEST) * len(calls):  # it has written too much to go on
                calls = ()
            if calls or reply.text.strip():
                reply.exchange.messages.append(Message("assistant", reply.text, calls=calls))
            reply.text = ""
            if calls:
                most = min(LONGEST_RESULT, left // len(calls) - LEAST)
                results = await reply.calls.run(asked[: len(calls)], partial(cut, most=most, count=count))
                reply.exchange.messages.extend(results)
                self._tell(reply)
            for said in self._released(reply, final=not calls):
                yield said
            if not calls:
                break
        for said in self._closing(reply, dialogue):
            yield said

    async def _writing(
        self, model: Llm, request: ChatRequest, reply: _Reply, asked: list[ToolRequest]
    ) -> AsyncGenerator[Sentence | Emotion, None]:
        """One round: yield what may be spoken of it now, collect what is *asked* for."""
        splitter = Splitter(reply.turn.language, clause_first=reply.clause_first and not reply.spoken)
        reply.text = ""
        async with aclosing(model.chat(request)) as pieces:
            while len(reply.text) < LONGEST and len(asked) < _MOST_ASKED:
                try:
                    async with asyncio.timeout_at(reply.until):
                        piece = await anext(pieces, None)
                except TimeoutError as error:
                    raise StageError("llm", f"{model.info.id} takes too long", code="llm-slow") from error
                if piece is None:
                    break
                reply.wrote()
                if isinstance(piece, ToolRequest):
                    asked.append(piece)
                    continue
                reply.text += piece.text
                for item in splitter.feed(piece.text):
                    for out in self._passed(item, reply):
                        yield out
        for item in splitter.flush():
            for out in self._passed(item, reply):
                yield out

    def _passed(self, item: Sentence | Emotion, reply: _Reply) -> list[Sentence | Emotion]:
        """What may be spoken of *item* now."""
        if isinstance(item, Emotion):
            return [item]
        if item.text.casefold().startswith(_PARROTED):
            return []
        language = language_of_words(item.text, reply.turn.language)
        if language != item.language and reply.speaks(language):
            item = replace(item, language=language)
        spoken = [item] if reply.believed else reply.truth.feed(item)
        reply.spoken += len(spoken)
        reply.since_error += len(spoken)
        return list(spoken)

    def _tell(self, reply: _Reply) -> None:
        for done in reply.calls.done[reply.told :]:
            reply.truth.called(done.tool, done.effect, done.error)
            if done.error:
                reply.since_error = 0
        reply.told = len(reply.calls.done)

    def _released(self, reply: _Reply, *, final: bool) -> list[Sentence | Pending]:
        """What waited for the calls of this round and is true; at the end the truth in the place of what is not."""
        spoken: list[Sentence | Pending] = []
        for item in reply.truth.round_over():
            if isinstance(item, Sentence):
                spoken.append(item)
            elif final:
                spoken += self._corrected(item, reply)
        reply.spoken += len(spoken)
        reply.since_error += len(spoken)
        return spoken

    # -- at the end -----------------------------------------------------------------------------------------------

    def _closing(self, reply: _Reply, dialogue: Dialogue) -> list[Sentence | Pending]:
        """What is still to be said when the model has finished."""
        spoken: list[Sentence | Pending] = []
        owed = reply.truth.owed
        if owed is not None:
            dialogue.notes.append("not_done")
            if not (reply.truth.error and owed is reply.truth.promise and reply.since_error):
                spoken += self._corrected(owed, reply)
        if not reply.spoken and not spoken:
            key = "agent.gave_up" if reply.calls.done else "agent.no_words"
            spoken.append(Sentence(self.texts.text(key, reply.turn.language), reply.turn.language))
        reply.spoken += len(spoken)
        return spoken

    def _corrected(self, claim: Claim, reply: _Reply) -> list[Sentence | Pending]:
        """Say, once, that it was not done: why, or whether it shall be, or just that."""
        if reply.corrected:
            return []
        reply.corrected = True
        language = reply.turn.language
        if reply.truth.error:
            return [Sentence(reply.truth.error, language)]
        if (pending := self._could_be(claim, reply)) is not None:
            return [Sentence(self.texts.text("agent.shall_i", language, command=claim.command), language), pending]
        return [Sentence(self.texts.text("agent.not_done", language), language)]

    def _could_be(self, claim: Claim, reply: _Reply) -> Pending | None:
        """The question whether a claim shall be made true, where the hub understands it as a command that needs no caution."""
        intent = self.intents.recognise(claim.command, reply.turn) if claim.command else None
        tool = reply.calls.tool(intent.tool) if intent is not None else None
        if intent is None or tool is None or tool.confirm or not tool.effect:
            return None
        return Pending(intent.tool, intent.arguments, CONFIRMED)

    def _end(self, reply: _Reply, dialogue: Dialogue, finished: bool) -> None:
        """Keep the turn in the dialogue: what was written, and what was called."""
        dialogue.answering = False
        messages = reply.exchange.messages
        if not finished:
            if reply.text.strip():
                messages.append(Message("assistant", reply.text))
            if len(messages) > 1:
                dialogue.notes.append("interrupted")
        self._tell(reply)
        dialogue.done.update(done.tool for done in reply.calls.done if done.effect and not done.error)
        if messages[-1].role == "assistant" and messages[-1].calls:  # interrupted while they ran
            messages.extend(Message("tool", "interrupted", call.name) for call in messages[-1].calls)
        if len(messages) == 1:
            return
        if messages[-1].role == "tool":
            messages.append(Message("assistant", "…"))
        dialogue.exchanges.append(reply.exchange)
        if finished:
            dialogue.commands.clear()


def _request(turn: TurnInfo, dialogue: Dialogue, exchange: Exchange, *, may_call: bool = True) -> ChatRequest:
    conversation = conversation_of(turn.device_id or turn.session_id, dialogue.key)
    return ChatRequest(dialogue.messages(exchange), dialogue.tools, turn.language, conversation, may_call)


__all__ = ["Agent"]
