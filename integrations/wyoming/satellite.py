"""A device of the hub as a Wyoming satellite: a server, such as Home Assistant, hears, answers and speaks for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager

from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.event import Event, Eventable
from wyoming.info import Attribution, Describe, Info
from wyoming.info import Satellite as About
from wyoming.ping import Ping, Pong
from wyoming.pipeline import PipelineStage, RunPipeline
from wyoming.satellite import PauseSatellite, RunSatellite
from wyoming.snd import Played
from wyoming.timer import TimerFinished, TimerStarted

from xiaozhi_hub.plugins.api import (
    Asr,
    AsrRequest,
    AsrStream,
    Brain,
    Emotion,
    EngineInfo,
    HubApi,
    PcmChunk,
    ProtocolError,
    Role,
    Sentence,
    SpeechRequest,
    StageError,
    TaskScope,
    Transcript,
    Tts,
    TurnFinished,
    TurnInfo,
    language_of,
    resample,
)

from .pipeline import Pipeline
from .service import text_of
from .sound import RATE, WIDTH, raw
from .wire import Connection

log = logging.getLogger(__name__)

QUIET_S = 60.0
"""A server that says nothing for so long, not even ``ping``, is gone."""
_MOST_TIMERS = 64
_MOST_NAME = 60


class Satellite:
    """One device, on a port of its own. While a server runs it, the hub answers on the device only where that fails."""

    def __init__(self, hub: HubApi, device_id: str, answer_s: float, scope: TaskScope) -> None:
        written = hub.config.devices.get(device_id)
        self.device_id = device_id
        self.name = written.name if written is not None else device_id
        self.pipeline: Pipeline | None = None
        """The last question."""
        self.asked = 0
        self._timers: dict[str, str] = {}
        """Names of those that run, by their ids."""
        self._language = language_of((written.language if written is not None else None) or hub.config.hub.language)
        self._area = written.area if written is not None else None
        self._hub = hub
        self._answer_s = answer_s
        self._scope = scope
        self._link: Connection | None = None
        self._take_back: Callable[[], None] | None = None
        self._brain = Brain(f"Wyoming ({self.name})", _SatelliteAsr(self), self.answer, self.voice)

    @asynccontextmanager
    async def ready(self) -> AsyncIterator[None]:
        """Take part in the hub while the block is entered."""
        stop = self._hub.bus.watch(TurnFinished, self._turn_finished)
        try:
            yield
        finally:
            stop()
            self._let_go()

    @property
    def is_run(self) -> bool:
        """A server answers for the device."""
        return self._link is not None

    # -- the server ----------------------------------------------------------------------------------------------

    async def serve(self, connection: Connection) -> None:
        """Talk with a server until it has gone. Raises OSError, `ProtocolError`."""
        try:
            while True:
                async with asyncio.timeout(QUIET_S):
                    event = await connection.read()
                if event is None:
                    return
                await self._on(connection, event)
                await asyncio.sleep(0)  # a flood of events must not hold up everybody else
        finally:
            if connection is self._link:
                self._let_go()

    async def _on(self, connection: Connection, event: Event) -> None:
        kind = event.type
        if Describe.is_type(kind):
            await connection.write(self._info().event())
        elif Ping.is_type(kind):
            await connection.write(Pong(text_of(event)).event())
        elif RunSatellite.is_type(kind):
            self._run(connection)
        elif connection is not self._link:
            return
        elif PauseSatellite.is_type(kind):
            self._let_go()
        elif TimerStarted.is_type(kind) or TimerFinished.is_type(kind):
            self._timer(event)
        elif self.pipeline is not None and not self.pipeline.ended:
            self.pipeline.take(event)
        elif AudioStop.is_type(kind):  # of an announcement, which is not played: the server need not wait for its end
            log.info("%s does not play what its Wyoming server announces", self.name)
            await connection.write(Played().event())

    def _timer(self, event: Event) -> None:
        """The server counts the time; the device rings."""
        timer, name = event.data.get("id"), event.data.get("name")
        if not isinstance(timer, str):
            raise ProtocolError("a timer without an id", close=True)
        if TimerStarted.is_type(event.type):
            self._timers[timer] = name[:_MOST_NAME] if isinstance(name, str) else ""
            while len(self._timers) > _MOST_TIMERS:
                del self._timers[next(iter(self._timers))]
            return
        name = self._timers.pop(timer, "")
        text = self._hub.texts.text("wyoming.named_timer" if name else "wyoming.timer", self._language, name=name)
        self._scope.start(self._hub.announcer.ring(self.device_id, text, self._language), name="timer")

    def _info(self) -> Info:
        about = About(
            name=self.name,
            attribution=Attribution("XiaoZhi Hub", ""),
            installed=True,
            description=f"{self.name}, a device of the XiaoZhi Hub",
            version=None,
            area=self._area,
            has_vad=True,
            active_wake_words=[],
            max_active_wake_words=0,
            supports_trigger=False,
        )
        return Info(satellite=about)

    def _run(self, connection: Connection) -> None:
        """The newest server counts: an older connection is one that was lost."""
        old = self._link
        self._let_go()
        if old is not None and old is not connection:
            old.abort()
        self._link = connection
        self._take_back = self._hub.brains.give(self.device_id, self._brain)
        log.info("%s is answered for over Wyoming", self.name)

    def _let_go(self) -> None:
        self._link = None
        if self._take_back is not None:
            self._take_back()
            self._take_back = None
            log.info("the hub answers on %s again", self.name)
        if self.pipeline is not None:
            self.pipeline.fail(StageError("respond", "the Wyoming server is gone", code="satellite-lost"))

    # -- a turn --------------------------------------------------------------------------------------------------

    async def begin(self) -> Pipeline:
        """Ask for a pipeline for what is about to be said. Raises `StageError`."""
        self.pipeline = pipeline = Pipeline(self._answer_s)
        self.asked += 1
        await self.tell(RunPipeline(PipelineStage.ASR, PipelineStage.TTS))
        await self.tell(AudioStart(RATE, WIDTH, 1))
        return pipeline

    async def tell(self, event: Eventable) -> None:
        """Raises `StageError` when there is no server."""
        link = self._link
        if link is None:
            raise StageError("asr", f"no Wyoming server runs {self.name}", code="satellite-lost")
        try:
            await link.write(event.event())
        except OSError as error:
            link.abort()
            raise StageError(
                "asr", f"the Wyoming server of {self.name} is gone: {error}", code="satellite-lost"
            ) from error

    def hang_up(self) -> None:
        """End the connection: there is no other way to call off a question that was begun. Its sound must not be ended
        regularly, for half a command is a command too. The server connects again by itself."""
        if self._link is not None:
            self._link.abort()
            self._let_go()

    def answer(self, turn: TurnInfo, text: str) -> AsyncGenerator[Sentence | Emotion, None] | None:
        """The server's answer to what it has just heard; None for anything else."""
        pipeline = self.pipeline
        if pipeline is None or pipeline.answered or pipeline.said != text:
            return None
        pipeline.answered = True
        return self._answer(pipeline, turn.language)

    def voice(self, text: str) -> Tts | None:
        """The server's own sound for its last answer, nothing for other texts."""
        pipeline = self.pipeline
        if pipeline is None or not pipeline.told or pipeline.told != text:
            return None
        return _SatelliteTts(pipeline, f"{self.device_id}/{self.asked}")

    async def _answer(self, pipeline: Pipeline, language: str) -> AsyncGenerator[Sentence | Emotion, None]:
        if text := await pipeline.answer():
            yield Sentence(text, language)

    def _turn_finished(self, event: TurnFinished) -> None:
        pipeline = self.pipeline
        if event.record.device_id == self.device_id and pipeline is not None and pipeline.told and self.is_run:
            pipeline.told = ""
            self._scope.start(self._played(), name="played")

    async def _played(self) -> None:
        try:
            await self.tell(Played())
        except StageError as error:
            log.debug("%s", error)


class _SatelliteAsr(Asr):
    """Lets the server hear. What it has heard to the end it also acts upon: guessing is not possible."""

    def __init__(self, satellite: Satellite) -> None:
        self.info = EngineInfo("wyoming-satellite", Role.ASR, "Wyoming server", streams_input=True)
        self._satellite = satellite

    def open(self, request: AsrRequest) -> AsrStream:
        return _Listening(self._satellite, request.languages[0] if request.languages else "en")


class _Listening(AsrStream):
    def __init__(self, satellite: Satellite, language: str) -> None:
        self._satellite = satellite
        self._language = language
        self._pipeline: Pipeline | None = None
        self._stopped = False

    async def feed(self, chunk: PcmChunk) -> None:
        if self._pipeline is None:
            self._pipeline = await self._satellite.begin()
        if self._pipeline.failure is not None:
            raise self._pipeline.failure
        await self._satellite.tell(AudioChunk(RATE, WIDTH, 1, raw(resample(chunk, RATE).samples)))

    async def guess(self) -> Transcript:
        return Transcript("", self._language)

    async def finish(self) -> Transcript:
        if self._pipeline is None:
            return Transcript("", self._language)
        if not self._stopped:
            self._stopped = True
            await self._satellite.tell(AudioStop())
        try:
            return Transcript(await self._pipeline.heard(), self._language)
        except StageError as error:
            if error.code == "asr-slow":  # the hub steps in: the command must not be carried out twice
                self._satellite.hang_up()
            raise

    async def aclose(self) -> None:
        if self._pipeline is not None and not self._stopped and self._pipeline is self._satellite.pipeline:
            self._stopped = True
            self._satellite.hang_up()


class _SatelliteTts(Tts):
    """Says one answer of the server with the server's own sound, whatever becomes of its text on the way here."""

    def __init__(self, pipeline: Pipeline, key: str) -> None:
        self.info = EngineInfo("wyoming-satellite", Role.TTS, "Wyoming server", streams_output=True)
        self._pipeline = pipeline
        self._key = key

    def voice_key(self, request: SpeechRequest) -> str:
        return self._key  # no two answers sound the same

    async def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        async with aclosing(self._pipeline.sound()) as pieces:
            async for piece in pieces:
                yield piece
