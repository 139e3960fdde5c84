"""One connection to the hub's own Wyoming server: what is asked on it, and the answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial

from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, Eventable
from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled
from wyoming.info import Describe
from wyoming.intent import Recognize
from wyoming.ping import Ping, Pong
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped
from wyoming.wake import Detect, Detection, NotDetected

from xiaozhi_hub.plugins.api import (
    LANGUAGES,
    AsrRequest,
    HubApi,
    HubError,
    Outcome,
    PcmChunk,
    ProtocolError,
    RateLimit,
    SpeechRequest,
    TaskScope,
    TurnRecord,
    WakeStream,
    cancel_and_wait,
    language_of,
    resample,
)

from .catalogue import Catalogue
from .ear import Ear
from .mouth import MOST_TEXT, language_in, sentences, speak
from .service import text_of
from .sound import RATE, WIDTH, Format, raw
from .wire import Connection

log = logging.getLogger(__name__)

IDLE_S = 300.0
"""A connection on which nothing is asked for so long is closed."""
WORK_S = 300.0
"""For one answer, whatever it is."""
MOST_QUESTION = 4096
EVENTS_PER_SECOND = 2000.0
"""Whoever sends more is made to wait."""
BREATH_S = 0.02
CHUNK_MS = 64
_PIECES_AHEAD = 64


class Guest:
    """Answers one connection. One thing is done at a time; what ends the connection ends what is being done."""

    def __init__(self, connection: Connection, hub: HubApi, catalogue: Catalogue, may_ask: Callable[[], bool]) -> None:
        """*may_ask* counts a request and says whether it is one too many."""
        self._connection = connection
        self._hub = hub
        self._catalogue = catalogue
        self._may_ask = may_ask
        self._scope = TaskScope("wyoming-guest")
        self._events = RateLimit(EVENTS_PER_SECOND, EVENTS_PER_SECOND)
        self._work: asyncio.Task[None] | None = None
        self._transcribe = Transcribe()
        self._words: set[str] | None = None
        """Those to wake up at, empty for all; None where a transcript is wanted."""
        self._sound: Format | None = None
        self._ear: Ear | None = None
        self._last: Ear | None = None
        """The one that has heard everything and is asked what it was."""
        self._wake: WakeStream | None = None
        self._text: asyncio.Queue[str | None] | None = None
        self._texts = 0

    async def serve(self) -> None:
        """Answer until the other side has gone. Raises OSError, `ProtocolError`."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                async with asyncio.timeout(IDLE_S):
                    event = await self._connection.read()
                if event is None:
                    return
                await self._on(event)
                if not self._events.allows(loop.time()):
                    await asyncio.sleep(BREATH_S)
        finally:
            await self._scope.close()
            await self._stop_hearing()
            if self._last is not None:
                await self._last.aclose()

    async def _on(self, event: Event) -> None:
        """Take one event; those that nobody here knows are none of our business."""
        kind = event.type
        if Describe.is_type(kind):
            await self._say(self._catalogue.info())
        elif Ping.is_type(kind):
            await self._say(Pong(text_of(event)))
        elif Transcribe.is_type(kind):
            self._transcribe, self._words = Transcribe.from_event(event), None
        elif Detect.is_type(kind):
            names = event.data.get("names")
            self._words = {name for name in names if isinstance(name, str)} if isinstance(names, list) else set()
        elif AudioStart.is_type(kind):
            await self._start_hearing(event)
        elif AudioChunk.is_type(kind):
            await self._hear(event)
        elif AudioStop.is_type(kind):
            await self._hear_no_more()
        elif Synthesize.is_type(kind):
            if self._text is None:  # else it repeats what comes in pieces
                await self._begin(partial(self._speak, _one(text_of(event)), event))
        elif SynthesizeStart.is_type(kind):
            text: asyncio.Queue[str | None] = asyncio.Queue(_PIECES_AHEAD)
            if await self._begin(partial(self._speak, _all(text), event, streamed=True)):
                self._text, self._texts = text, 0
        elif SynthesizeChunk.is_type(kind):
            await self._more_text(text_of(event))
        elif SynthesizeStop.is_type(kind):
            await self._end_text()
        elif Transcript.is_type(kind):
            await self._begin(partial(self._answer, text_of(event), event.data.get("language")))
        elif Recognize.is_type(kind):
            await self._say(Error("This hub carries out what it understands: send a transcript.", "no-intents"))

    async def _say(self, event: Eventable) -> None:
        await self._connection.write(event.event())

    # -- work -----------------------------------------------------------------------------------------------------

    async def _begin(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Do something beside listening for what else comes, after what is being done already. False when it is refused."""
        await self._end_text()
        if self._work is not None:
            await asyncio.wait([self._work])
        if not await self._is_allowed():
            return False
        self._work = self._scope.start(self._careful(work), name="work")
        return True

    async def _is_allowed(self) -> bool:
        allowed = self._may_ask()
        if not allowed:
            await self._say(Error("Too much is asked in too short a time.", "too-many"))
        return allowed

    async def _careful(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do it, and tell what goes wrong. When not even that can be told, the connection is of no use any more."""
        try:
            try:
                async with asyncio.timeout(WORK_S):
                    await work()
            except ProtocolError:
                raise
            except HubError as error:
                await self._say(Error(error.message, error.code))
            except OSError:
                raise
            except Exception as error:  # an engine of an integration; the person must not wait for ever
                log.exception("an engine failed")
                await self._say(Error(f"An engine failed: {type(error).__name__}", "internal"))
        except (OSError, ProtocolError) as error:
            log.debug("a Wyoming connection is lost: %s", error)
            self._connection.abort()

    # -- hearing --------------------------------------------------------------------------------------------------

    def _languages(self, tag: object) -> tuple[str, ...]:
        usual = language_of(self._hub.config.hub.language)
        if isinstance(tag, str) and tag:
            return (language_of(tag, usual),)
        return tuple(dict.fromkeys((usual, *LANGUAGES)))

    async def _start_hearing(self, event: Event) -> None:
        await self._stop_hearing()
        self._sound = Format.of(event)
        if not await self._is_allowed():
            return
        if self._words is not None:
            detectors = self._catalogue.detectors()
            if not detectors:
                await self._say(Error("No wake word detector is ready.", "no-wake"))
                return
            try:
                self._wake = next((each for each in detectors if self._words & set(each.words)), detectors[0]).open()
            except HubError as error:
                await self._say(Error(error.message, error.code))
            return
        languages = self._languages(self._transcribe.language)
        name = self._transcribe.name
        recognisers = self._catalogue.recognisers(languages[0], name if isinstance(name, str) else None)
        vads = self._hub.engines.vads(self._hub.config.voice.vad)
        try:
            self._ear = Ear(recognisers, vads[0].open() if vads else None, AsrRequest(languages), self._sound.rate)
        except HubError as error:
            await self._say(Error(error.message, error.code))

    async def _hear(self, event: Event) -> None:
        if self._sound is None:
            raise ProtocolError("sound comes before it is announced", close=True)
        if Format.of(event) != self._sound:
            raise ProtocolError("the sound changes its format", close=True)
        piece = self._sound.read(event)
        try:
            if self._ear is not None:
                await self._ear.feed(piece)
            elif self._wake is not None:
                await self._watch(piece)
        except ProtocolError:
            raise
        except HubError as error:
            await self._stop_hearing()
            await self._say(Error(error.message, error.code))

    async def _watch(self, piece: PcmChunk) -> None:
        assert self._wake is not None
        found = await self._wake.feed(resample(piece, RATE))
        if found is not None and (not self._words or found in self._words):
            await self._say(Detection(found))

    async def _hear_no_more(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            if await self._begin(partial(self._tell, ear)):
                self._last = ear
            else:
                await ear.aclose()
        if self._wake is not None:
            await self._stop_hearing()
            await self._say(NotDetected())
        self._transcribe, self._sound = Transcribe(), None

    async def _tell(self, ear: Ear) -> None:
        try:
            heard = await ear.finish()
        finally:
            await ear.aclose()
        await self._say(Transcript(heard.text, language=heard.language))

    async def _stop_hearing(self) -> None:
        ear, self._ear = self._ear, None
        wake, self._wake = self._wake, None
        if ear is not None:
            await ear.aclose()
        if wake is not None:
            await wake.aclose()

    # -- speaking -------------------------------------------------------------------------------------------------

    async def _more_text(self, text: str) -> None:
        self._texts += len(text)
        if self._texts > MOST_TEXT:
            raise ProtocolError(f"a text of more than {MOST_TEXT} characters", close=True)
        await self._put(text)

    async def _end_text(self) -> None:
        await self._put(None)
        self._text = None

    async def _put(self, text: str | None) -> None:
        """Hand text on to the voice, and wait while it is behind, unless it has failed."""
        if self._text is None or self._work is None:
            return
        putting = self._scope.start(self._text.put(text), name="text")
        await asyncio.wait({putting, self._work}, return_when=asyncio.FIRST_COMPLETED)
        await cancel_and_wait(putting)

    async def _speak(self, pieces: AsyncIterator[str], event: Event, *, streamed: bool = False) -> None:
        voice = event.data.get("voice")
        voice = voice if isinstance(voice, dict) else {}
        name, tag = voice.get("name"), voice.get("language")
        rate: int | None = None
        async with aclosing(sentences(pieces)) as said:
            async for sentence in said:
                language = language_of(tag, language_in(sentence)) if isinstance(tag, str) else language_in(sentence)
                voices = self._catalogue.voices(language, name if isinstance(name, str) else None)
                request = SpeechRequest(sentence, language, speed=self._hub.config.voice.speed)
                async with aclosing(speak(voices, request, rate)) as chunks:
                    async for chunk in chunks:
                        if rate is None:
                            rate = chunk.rate
                            await self._say(AudioStart(rate, WIDTH, 1))
                        size = rate * CHUNK_MS // 1000
                        for at in range(0, len(chunk.samples), size):
                            await self._say(AudioChunk(rate, WIDTH, 1, raw(chunk.samples[at : at + size])))
        if rate is None:
            await self._say(AudioStart(RATE, WIDTH, 1))
        await self._say(AudioStop())
        if streamed:
            await self._say(SynthesizeStopped())

    # -- answering ------------------------------------------------------------------------------------------------

    async def _answer(self, text: str, tag: object) -> None:
        if "handle" not in self._catalogue.roles:
            await self._say(Error("Answers are not offered here.", "no-handle"))
            return
        if not text.strip() or len(text) > MOST_QUESTION:
            await self._say(NotHandled(""))
            return
        language = language_of(tag, language_in(text)) if isinstance(tag, str) else language_in(text)
        await self._say(HandledStart())
        async with aclosing(self._hub.ask(text, language, "")) as pieces:
            async for piece in pieces:
                if isinstance(piece, TurnRecord):
                    done = piece.outcome is Outcome.ANSWERED
                    await self._say(Handled(piece.said) if done else NotHandled(piece.said))
                else:
                    await self._say(HandledChunk(f"{piece} "))
        await self._say(HandledStop())


async def _one(text: str) -> AsyncIterator[str]:
    if len(text) > MOST_TEXT:
        raise ProtocolError(f"a text of more than {MOST_TEXT} characters", close=True)
    yield text


async def _all(texts: asyncio.Queue[str | None]) -> AsyncIterator[str]:
    while (text := await texts.get()) is not None:
        yield text
