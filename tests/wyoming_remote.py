"""A Wyoming service as others write them, with the library's own server: it hears and speaks the tones of the scripted engines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tone_words import tones
from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event
from wyoming.handle import Handled, HandledChunk, HandledStart, HandledStop, NotHandled
from wyoming.info import (
    AsrModel,
    AsrProgram,
    Attribution,
    Describe,
    HandleModel,
    HandleProgram,
    Info,
    IntentModel,
    IntentProgram,
    SelectProgram,
    TtsProgram,
    TtsVoice,
    WakeModel,
    WakeProgram,
)
from wyoming.intent import Entity, Intent, IntentsStart, IntentsStop, NotRecognized, Recognize
from wyoming.server import AsyncEventHandler, AsyncServer, AsyncTcpServer, AsyncUnixServer
from wyoming.tts import Synthesize, SynthesizeChunk, SynthesizeStart, SynthesizeStop, SynthesizeStopped
from wyoming.wake import Detect, Detection

from xiaozhi_hub.core.flow import PcmChunk

RATE = 16000
LOUD = 3000


def named(name: str, *, installed: bool = True) -> dict[str, Any]:
    return {
        "name": name,
        "attribution": Attribution("nobody", ""),
        "installed": installed,
        "description": name,
        "version": "1",
    }


def everything() -> Info:
    """What a service may say that can do it all."""
    return Info(
        asr=[
            AsrProgram(
                models=[
                    AsrModel(languages=["en", "zh"], **named("tones")),
                    AsrModel(languages=["en_US"], **named("tones-small")),
                    AsrModel(languages=["en"], **named("absent", installed=False)),
                ],
                **named("tone-reader"),
            )
        ],
        tts=[
            TtsProgram(
                voices=[
                    TtsVoice(languages=["en_GB"], **named("alan")),
                    TtsVoice(languages=["en_US"], **named("amy")),
                    TtsVoice(languages=["zh_CN"], **named("huayan")),
                ],
                **named("tone-writer"),
            )
        ],
        wake=[
            WakeProgram(models=[WakeModel(languages=["en"], phrase="bang", **named("bang"))], **named("loud-detector"))
        ],
        handle=[HandleProgram(models=[HandleModel(languages=["en"], **named("echo"))], **named("answerer"))],
    )


def understanding() -> Info:
    """A service that recognises intents and does nothing about them."""
    return Info(intent=[IntentProgram(models=[IntentModel(languages=["en"], **named("sentences"))], **named("mind"))])


def meaning(name: str, said: str = "", /, **entities: Any) -> Intent:
    """An intent, and what the service would have said about it."""
    return Intent(name, [Entity(key, value) for key, value in entities.items()], said or None)


@dataclass
class Remote:
    """The service and what it has been asked. The switches may be changed while it runs."""

    info: Info = field(default_factory=everything)
    uri: str = ""
    word_by_word: bool = False
    """Transcripts and answers come in pieces, with nothing whole after them."""
    tells_words: bool = False
    """Tell the words as they are heard, before the end of the sound."""
    dies_after: int | None = None
    """Hang up after so many pieces of sound, in or out."""
    hangs: bool = False
    """Take everything and answer nothing but what it can do."""
    refuses: str = ""
    means: dict[str, list[Intent]] = field(default_factory=dict)
    """What it recognises in which words."""
    asked: list[Event] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    heard: list[float] = field(default_factory=list)
    """Milliseconds of sound at each transcript."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    server: AsyncServer | None = None

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event.data for event in self.asked if event.type == kind]

    async def until(self, kind: str, count: int = 1) -> None:
        async with asyncio.timeout(20):
            while len(self.of(kind)) < count:
                self.news.clear()
                await self.news.wait()

    async def stop(self) -> None:
        """Hang up on everybody and let nobody in."""
        if self.server is not None:
            await self.server.stop()
            self.server = None


class Handler(AsyncEventHandler):
    def __init__(self, remote: Remote, *parts: Any) -> None:
        super().__init__(*parts)
        self._remote = remote
        self._sound = bytearray()
        self._mode = ""
        self._text: list[str] | None = None
        remote.connections += 1
        remote.open += 1

    async def disconnect(self) -> None:
        self._remote.open -= 1

    async def handle_event(self, event: Event) -> bool:
        remote = self._remote
        remote.asked.append(event)
        remote.news.set()
        if Describe.is_type(event.type):
            await self.write_event(remote.info.event())
            return True
        if remote.hangs:
            return True
        if remote.refuses:
            await self.write_event(Error(remote.refuses, "no").event())
            return True
        if SelectProgram.is_type(event.type):
            return True
        if Transcribe.is_type(event.type) or Detect.is_type(event.type):
            self._mode = event.type
        elif AudioChunk.is_type(event.type):
            return await self._hear(AudioChunk.from_event(event))
        elif AudioStop.is_type(event.type) and self._mode == "transcribe":
            await self._transcript()
        elif SynthesizeStart.is_type(event.type):
            self._text = []
        elif SynthesizeChunk.is_type(event.type):
            assert self._text is not None
            self._text.append(SynthesizeChunk.from_event(event).text)
        elif Synthesize.is_type(event.type) and self._text is None:
            return await self._speak(Synthesize.from_event(event).text)
        elif SynthesizeStop.is_type(event.type):
            assert self._text is not None
            alive = await self._speak("".join(self._text))
            await self.write_event(SynthesizeStopped().event())
            return alive
        elif Transcript.is_type(event.type):
            await self._answer(Transcript.from_event(event).text)
        elif Recognize.is_type(event.type):
            await self._recognise(Recognize.from_event(event).text)
        return True

    async def _hear(self, chunk: AudioChunk) -> bool:
        self._sound += chunk.audio
        if self._remote.dies_after is not None and len(self._sound) > self._remote.dies_after * 1920:
            return False
        if self._remote.tells_words:
            samples = np.frombuffer(bytes(self._sound), "<i2").astype(np.int16)
            if text := tones().read_text(PcmChunk(samples, RATE)):
                await self.write_event(TranscriptStart().event())
                await self.write_event(TranscriptChunk(text).event())
        if self._mode == "detect" and np.abs(np.frombuffer(chunk.audio, "<i2")).max() > LOUD:
            await self.write_event(Detection("bang").event())
        return True

    async def _transcript(self) -> None:
        samples = np.frombuffer(bytes(self._sound), "<i2").astype(np.int16)
        self._remote.heard.append(len(samples) * 1000 / RATE)
        text = tones().read_text(PcmChunk(samples, RATE)) or ""
        if not self._remote.word_by_word:
            await self.write_event(Transcript(text, language="en_US").event())
            return
        await self.write_event(TranscriptStart().event())
        for word in text.split():
            await self.write_event(TranscriptChunk(f"{word} ").event())
        await self.write_event(TranscriptStop().event())

    async def _speak(self, text: str) -> bool:
        sound = tones().write_text(text, 22050)
        await self.write_event(AudioStart(sound.rate, 2, 1).event())
        for number, at in enumerate(range(0, len(sound.samples), 1024)):
            if number == self._remote.dies_after:
                return False
            piece = sound.samples[at : at + 1024].astype("<i2").tobytes()
            await self.write_event(AudioChunk(sound.rate, 2, 1, piece).event())
        await self.write_event(AudioStop().event())
        return True

    async def _answer(self, text: str) -> None:
        if "nonsense" in text:
            await self.write_event(NotHandled("I do not know that.").event())
        elif self._remote.word_by_word:
            await self.write_event(HandledStart().event())
            for piece in ("You said ", f"{text}."):
                await self.write_event(HandledChunk(piece).event())
            await self.write_event(HandledStop().event())
        else:
            await self.write_event(Handled(f"You said {text}.").event())

    async def _recognise(self, text: str) -> None:
        intents = self._remote.means.get(text, [])
        if not intents:
            await self.write_event(NotRecognized("I do not know that.").event())
        elif len(intents) == 1:
            await self.write_event(intents[0].event())
        else:
            for event in (IntentsStart(), *intents, IntentsStop()):
                await self.write_event(event.event())


@asynccontextmanager
async def serving(remote: Remote, socket: Path | None = None, port: int = 0) -> AsyncIterator[Remote]:
    """Serve on a port of this machine, or on a Unix socket."""
    server = AsyncUnixServer(socket) if socket is not None else AsyncTcpServer("127.0.0.1", port)
    await server.start(lambda reader, writer: Handler(remote, reader, writer))
    remote.server = server
    if isinstance(server, AsyncTcpServer):
        assert server._server is not None
        remote.uri = f"tcp://127.0.0.1:{server._server.sockets[0].getsockname()[1]}"  # type: ignore[attr-defined]
    else:
        remote.uri = f"unix://{socket}"
    try:
        yield remote
    finally:
        await remote.stop()
