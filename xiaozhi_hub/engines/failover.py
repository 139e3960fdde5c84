"""Several engines that look like one: the next one helps out when one fails, dies in the middle, or keeps people waiting."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import groupby

from xiaozhi_hub.core.flow import PcmChunk, TextDelta, Transcript
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.failures import note_failure
from xiaozhi_hub.engines.joint import Clauses, Joint, rest_of
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message, ToolRequest
from xiaozhi_hub.engines.relay import Limits, itself, relay
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import StageError

Attempt = tuple[Tts, SpeechRequest]
"""Which voice is asked, and for what."""

MODELS = Limits(unknown_ms=2000.0)
VOICES = Limits(unknown_ms=1000.0, most_ms=3000.0, stall_ms=1500.0)
RECOGNISERS = Limits(unknown_ms=1500.0, most_ms=3000.0)
FEED_S = 1.0
"""For a recogniser on another machine to take a piece of sound."""

_GO_ON = {
    "en": "(Your answer broke off here. Go on right after your last word, without repeating or explaining anything.)",
    "zh-Hans": "(你的回答在这里中断了。请紧接着最后一个字继续，不要重复，也不要解释。)",
}
"""For the next model when one has died in the middle of its answer. A request of its own, because what servers do with an
unfinished message of the assistant differs: llama-server goes on with it, others begin a new answer or refuse."""


class LlmTargets(Llm):
    """Several language models, the preferred one first."""

    def __init__(self, models: Sequence[Llm]) -> None:
        self._models = tuple(models)
        self.info = models[0].info

    @property
    def context_tokens(self) -> int | None:
        """What fits into each of them: any may have to go on."""
        return min((most for model in self._models if (most := model.context_tokens) is not None), default=None)

    def count_tokens(self, text: str) -> int | None:
        return max((count for model in self._models if (count := model.count_tokens(text)) is not None), default=None)

    async def prepare(self, request: ChatRequest) -> None:
        """Only the first one reads ahead: the others are seldom asked."""
        await self._models[0].prepare(request)

    async def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        """As one model's. Tool requests come when the model has ended: those of one that dies in the middle count for nothing."""
        clauses, joint = Clauses(), Joint("")
        asked: list[ToolRequest] = []

        def start(model: Llm) -> AsyncGenerator[TextDelta | ToolRequest, None]:
            return model.chat(_to_go_on(request, clauses.spoken))

        speaker: Llm | None = None
        async with aclosing(relay(self._models, start, MODELS, itself)) as pieces:
            async for model, piece in pieces:
                if model is not speaker:
                    if speaker is not None:
                        asked.clear()
                        if closing := clauses.drop():
                            yield TextDelta(closing)
                        joint = Joint(clauses.spoken)
                    speaker = model
                if isinstance(piece, ToolRequest):
                    asked.append(piece)
                elif text := clauses.feed(joint.feed(piece.text)):
                    yield TextDelta(text)
        if text := clauses.feed(joint.flush()) + clauses.flush():
            yield TextDelta(text)
        for wanted in asked:
            yield wanted


def _to_go_on(request: ChatRequest, said: str) -> ChatRequest:
    if not said:
        return request
    go_on = _GO_ON.get(request.language, _GO_ON["en"])
    return replace(request, messages=(*request.messages, Message("assistant", said), Message("user", go_on)))


async def speak(
    attempts: Sequence[Attempt], request: SpeechRequest, say: Callable[[Attempt, str], AsyncGenerator[PcmChunk, None]]
) -> AsyncGenerator[tuple[Attempt, PcmChunk], None]:
    """Yield who speaks and the sound, piece by piece; its rate changes where the voice does.

    *say* lets a voice say some text. When one dies in the middle, the next one says the rest of the sentence, from the beginning of the
    clause. Raises what the last one raised.
    """
    text = rest = request.text
    sounded_ms = 0.0
    heard: Attempt | None = None

    def start(attempt: Attempt) -> AsyncGenerator[PcmChunk, None]:
        nonlocal rest
        if heard is not None:
            rest = rest_of(text, sounded_ms * request.speed, heard[0].health.pace)
        return say(attempt, rest) if rest else _silence()

    async with aclosing(relay(attempts, start, VOICES, _voice_of)) as chunks:
        async for attempt, chunk in chunks:
            if attempt is not heard:
                heard, text, sounded_ms = attempt, rest, 0.0
            sounded_ms += chunk.ms
            yield attempt, chunk
    if heard is not None and text:
        health, pace = heard[0].health, sounded_ms * request.speed / len(text)
        health.pace = pace if health.pace is None else health.pace * 0.8 + pace * 0.2


def _voice_of(attempt: Attempt) -> Tts:
    return attempt[0]


async def _silence() -> AsyncGenerator[PcmChunk, None]:
    """Everything has been said."""
    nothing: tuple[PcmChunk, ...] = ()
    for chunk in nothing:
        yield chunk


class AsrTargets(Asr):
    """Several recognisers, the preferred one first."""

    def __init__(self, recognisers: Sequence[Asr]) -> None:
        self._recognisers = tuple(recognisers)
        self.info = recognisers[0].info

    def open(self, request: AsrRequest) -> AsrStream:
        return _Utterance(self._recognisers, request)


class _Utterance(AsrStream):
    """One utterance. The first recogniser hears it as it comes; another one, should it be needed, from the beginning."""

    def __init__(self, recognisers: Sequence[Asr], request: AsrRequest) -> None:
        self._left = list(recognisers)
        self._request = request
        self._heard: list[PcmChunk] = []
        self._streams: dict[Asr, tuple[AsrStream, int]] = {}
        """What is open, and how many pieces it has been given."""

    async def feed(self, chunk: PcmChunk) -> None:
        self._heard.append(chunk)
        first = self._left[0]
        try:
            self.partial = await self._give(first)
        except Exception as error:  # an engine is anybody's code
            note_failure(first, error)
            await self._close(first)
            if len(self._left) == 1:
                raise
            self._left.remove(first)

    async def guess(self) -> Transcript:
        return await self._ask(final=False)

    async def finish(self) -> Transcript:
        return await self._ask(final=True)

    async def aclose(self) -> None:
        for recogniser in tuple(self._streams):
            await self._close(recogniser)

    async def _ask(self, *, final: bool) -> Transcript:
        async def work(recogniser: Asr) -> AsyncGenerator[Transcript, None]:
            try:
                stream = await self._caught_up(recogniser)
                yield await (stream.finish() if final else stream.guess())
            except Exception:
                await self._close(recogniser)  # should it be asked again, it begins anew
                raise

        result: Transcript | None = None
        async with aclosing(relay(tuple(self._left), work, RECOGNISERS, itself)) as answers:
            async for winner, transcript in answers:
                result = transcript
                self._left.remove(winner)
                self._left.insert(0, winner)  # who answered goes on listening
        if result is None:
            raise StageError("asr", "no recogniser has answered")
        return result

    async def _give(self, recogniser: Asr) -> Transcript | None:
        """Let it hear what is new; returns what it has heard so far. One on another machine must take it in time."""
        try:
            async with asyncio.timeout(FEED_S if recogniser.info.remote else None):
                return (await self._caught_up(recogniser)).partial
        except TimeoutError as error:
            raise StageError("asr", "it takes no sound") from error

    async def _caught_up(self, recogniser: Asr) -> AsrStream:
        """The recogniser's stream, after it was given all that it has not heard yet."""
        stream, fed = self._streams.get(recogniser) or (recogniser.open(self._request), 0)
        self._streams[recogniser] = stream, fed
        for chunk in self._heard[fed:]:
            fed += 1
            self._streams[recogniser] = stream, fed
            await stream.feed(chunk)
        return stream

    async def _close(self, recogniser: Asr) -> None:
        if (opened := self._streams.pop(recogniser, None)) is not None:
            await opened[0].aclose()


def one_model(models: Sequence[Llm]) -> tuple[Llm, ...]:
    """The models as one that fails only when all do; none where there is none. Those that act by themselves and those that do not
    cannot stand in for each other within an answer: they are one each."""
    groups = [list(group) for _, group in groupby(models, key=lambda model: model.info.acts)]
    return tuple(LlmTargets(group) if len(group) > 1 else group[0] for group in groups)


def one_open_recogniser(recognisers: Sequence[Asr]) -> tuple[Asr, ...]:
    """Let those that understand any words stand together as one that fails only when all do, in the place of the first of them."""
    open_ones = [recogniser for recogniser in recognisers if not recogniser.info.closed]
    if len(open_ones) < 2:
        return tuple(recognisers)
    targets = AsrTargets(open_ones)
    return tuple(
        targets if recogniser is open_ones[0] else recogniser
        for recogniser in recognisers
        if recogniser is open_ones[0] or recogniser.info.closed
    )


__all__ = ["AsrTargets", "Attempt", "LlmTargets", "one_model", "one_open_recogniser", "speak"]
