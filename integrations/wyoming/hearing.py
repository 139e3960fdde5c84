"""Recognition by a Wyoming service: it hears the person while they speak."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from wyoming.asr import Transcribe, TranscriptChunk, TranscriptStop
from wyoming.asr import Transcript as Said
from wyoming.audio import AudioChunk, AudioStart, AudioStop

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    EngineInfo,
    PcmChunk,
    Phrasebook,
    StageError,
    TaskScope,
    Transcript,
    cancel_and_wait,
    resample,
)

from .languages import hub_languages, tag_for
from .service import Service, Talk, heard_while, text_of
from .sound import RATE, WIDTH, raw

STAGE = "asr"
MOST_SECONDS = 120
"""Of one utterance."""
MOST_TEXT = 8000
NAMES_TOLD = 100
"""Names of things and rooms that a service is asked to listen for."""


class WyomingAsr(Asr):
    """One model of one service."""

    def __init__(
        self,
        info: EngineInfo,
        service: Service,
        program: str | None,
        model: str | None,
        tags: Sequence[str],
        scope: TaskScope,
        guesses: bool,
    ) -> None:
        """*program* and *model* are named to the service where its own choice would be another. With *guesses* it is asked in
        each silence for what was said."""
        self.info = info
        self.service = service
        self.scope = scope
        self.guesses = guesses
        self._program = program
        self._model = model
        self._tags = tags
        self._names: dict[str, list[str]] = {}

    def open(self, request: AsrRequest) -> AsrStream:
        return _Utterance(self, request)

    async def learn(self, book: Phrasebook) -> None:
        """Services may lean on names; those that cannot, ignore them."""
        self._names[book.language] = list(book.names())[:NAMES_TOLD]

    async def recognise(self, pieces: Sequence[bytes], utterance: _Hearing, request: AsrRequest) -> Transcript:
        """Send *pieces* as they come and return what the service made of them. Raises `StageError`."""
        language = request.languages[0] if request.languages else "en"
        async with self.service.talk(STAGE, self._program) as talk:
            await talk.say(
                Transcribe(
                    name=self._model,
                    language=tag_for(language, self._tags),
                    transcript_names=self._names.get(language) or None,
                )
            )
            text, tag = await heard_while(
                _send(talk, pieces, utterance),
                _transcript(talk, lambda text: utterance.so_far(Transcript(text, language))),
                self.service.answer_s,
            )
        told = hub_languages([tag])
        return Transcript(text, told[0] if told and told[0] in request.languages else language)


async def _send(talk: Talk, pieces: Sequence[bytes], utterance: _Hearing) -> None:
    """Send the sound as it comes, to its end."""
    await talk.say(AudioStart(RATE, WIDTH, 1))
    sent = 0
    while sent < len(pieces) or not utterance.over:
        if sent == len(pieces):
            await utterance.news()
            continue
        await talk.say(AudioChunk(RATE, WIDTH, 1, pieces[sent]))
        sent += 1
    await talk.say(AudioStop())


async def _transcript(talk: Talk, so_far: Callable[[str], None]) -> tuple[str, str | None]:
    """What was said and in which language, from services that tell it at once or word by word."""
    said = ""
    while True:
        event = await talk.hear()
        if Said.is_type(event.type):
            return text_of(event).strip()[:MOST_TEXT], event.data.get("language")
        if TranscriptChunk.is_type(event.type):
            said = (said + text_of(event))[:MOST_TEXT]
            so_far(said.strip())
        elif TranscriptStop.is_type(event.type):
            return said.strip(), None


class _Hearing:
    """One connection that hears an utterance from its beginning."""

    def __init__(
        self,
        engine: WyomingAsr,
        pieces: Sequence[bytes],
        request: AsrRequest,
        so_far: Callable[[Transcript], None],
    ) -> None:
        self.over = False
        """No more pieces come."""
        self.so_far = so_far
        self._engine = engine
        self._news = asyncio.Event()
        self.task = engine.scope.start(self._run(pieces, request), name="hear")

    async def _run(self, pieces: Sequence[bytes], request: AsrRequest) -> Transcript | StageError:
        try:
            return await self._engine.recognise(pieces, self, request)
        except StageError as error:  # told to whoever asks for the result
            return error

    async def news(self) -> None:
        await self._news.wait()
        self._news.clear()

    def more(self, *, over: bool = False) -> None:
        self.over = self.over or over
        self._news.set()

    @property
    def failure(self) -> StageError | None:
        result = self.task.result() if self.task.done() and not self.task.cancelled() else None
        return result if isinstance(result, StageError) else None


class _Utterance(AsrStream):
    """A service can be asked once for what it heard. When the person goes on after a guess, another connection hears the
    utterance from its beginning."""

    def __init__(self, engine: WyomingAsr, request: AsrRequest) -> None:
        self._engine = engine
        self._request = request
        self._pieces: list[bytes] = []
        self._ms = 0.0
        self._hearing: _Hearing | None = None
        self._known: tuple[int, Transcript] | None = None

    async def feed(self, chunk: PcmChunk) -> None:
        self._ms += chunk.ms
        if self._ms > MOST_SECONDS * 1000:
            raise StageError(STAGE, "nobody speaks for so long", code="asr-too-long")
        self._pieces.append(raw(resample(chunk, RATE).samples))
        if self._hearing is not None and self._hearing.over:
            await self._hang_up()
        hearing = self._hear()
        if hearing.failure is not None:
            raise hearing.failure
        hearing.more()

    async def guess(self) -> Transcript:
        if not self._engine.guesses:
            return Transcript("", self._request.languages[0] if self._request.languages else "en")
        return await self.finish()

    async def finish(self) -> Transcript:
        heard = len(self._pieces)
        if self._known is not None and self._known[0] == heard:
            return self._known[1]
        hearing = self._hear()
        hearing.more(over=True)
        try:
            await asyncio.wait([hearing.task])
        except asyncio.CancelledError:
            await self._hang_up()
            raise
        if hearing.task.cancelled():
            raise self._lost()
        result = hearing.task.result()
        if isinstance(result, StageError):
            raise result
        self._known = heard, result
        return result

    async def aclose(self) -> None:
        await self._hang_up()
        self._pieces.clear()

    def _hear(self) -> _Hearing:
        if self._hearing is None:
            if self._engine.scope.is_closed():
                raise self._lost()
            self._hearing = _Hearing(self._engine, self._pieces, self._request, self._so_far)
        return self._hearing

    def _lost(self) -> StageError:
        return StageError(STAGE, f"{self._engine.service.name} is not used any more", code="asr-lost")

    def _so_far(self, transcript: Transcript) -> None:
        self.partial = transcript

    async def _hang_up(self) -> None:
        hearing, self._hearing = self._hearing, None
        if hearing is not None:
            await cancel_and_wait(hearing.task)
