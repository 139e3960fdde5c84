"""From sentences to Opus packets.

A sentence is rendered once, as fast as the voice can, whatever the pace at which the device plays it: so one device's playback
never holds up a voice that others wait for. The same words in the same voice are kept as packets.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

import numpy as np

from xiaozhi_hub.audio.opus import OpusEncoder, encode_all
from xiaozhi_hub.audio.pcm import Resampler, amplify, trim_start
from xiaozhi_hub.audio.tones import chime, sorrow
from xiaozhi_hub.core.cache import Cache
from xiaozhi_hub.core.flow import Packet, PcmChunk, Samples
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.dialog.speaking.normalisation import normalise
from xiaozhi_hub.dialog.speaking.phrase_files import Key, PhraseFiles
from xiaozhi_hub.dialog.speaking.synthesis import Attempt, Others, Synthesis, nobody
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import HubError, StageError

log = logging.getLogger(__name__)

RATE = 24000
FRAME_MS = 60
CACHE_BYTES = 16 * 2**20
"""Packets of about an hour of speech."""


class _Encoding:
    """Turns one sentence's PCM into packets; its methods run in the encoder's thread."""

    def __init__(self, rate: int, volume: float = 1.0) -> None:
        self._rate = rate
        self._volume = volume
        self._resampler = Resampler(rate, RATE)
        self._encoder = OpusEncoder(RATE, FRAME_MS)
        self._frame = RATE * FRAME_MS // 1000
        self._rest: list[Samples] = []
        self._have = 0
        self._begun = False

    def feed(self, chunk: PcmChunk) -> list[Packet]:
        if not self._begun:
            chunk = trim_start(chunk)  # a synthesiser's leading silence is delay that everybody hears
            if not len(chunk.samples):
                return []
            self._begun = True
        packets: list[Packet] = []
        if chunk.rate != self._rate:  # another voice speaks on
            packets = self._encode(self._resampler.flush())
            self._rate, self._resampler = chunk.rate, Resampler(chunk.rate, RATE)
        return packets + self._encode(self._resampler.feed(amplify(chunk.samples, self._volume)))

    def flush(self) -> list[Packet]:
        packets = self._encode(self._resampler.flush())
        if self._have:
            packets += self._encode(np.zeros(self._frame - self._have, np.int16))
        return packets

    def close(self) -> None:
        self._encoder.close()

    def _encode(self, samples: Samples) -> list[Packet]:
        self._rest.append(samples)
        self._have += len(samples)
        if self._have < self._frame:
            return []
        joined = np.concatenate(self._rest)
        whole = self._have // self._frame * self._frame
        self._rest = [joined[whole:]]
        self._have -= whole
        return [
            Packet(self._encoder.encode(joined[at : at + self._frame]), FRAME_MS) for at in range(0, whole, self._frame)
        ]


class Rendering:
    """The packets of one sentence, some of them perhaps still to come. Any number of readers."""

    def __init__(self, packets: tuple[Packet, ...] = (), *, complete: bool = False) -> None:
        self._packets = list(packets)
        self._complete = complete
        self._error: HubError | None = None
        self._news = asyncio.Event()
        self.readers = 0
        self.task: asyncio.Task[None] | None = None

    def add(self, packets: Sequence[Packet]) -> None:
        self._packets.extend(packets)
        self._wake()

    def end(self, error: HubError | None = None) -> None:
        self._complete, self._error = True, error
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    @property
    def complete(self) -> bool:
        """No more packets will come."""
        return self._complete

    async def wait(self, seconds: float) -> None:
        """Return when there is news, at the latest after *seconds*."""
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            pass

    @property
    def finished(self) -> tuple[Packet, ...] | None:
        """All packets, once they are known and nothing failed."""
        return tuple(self._packets) if self._complete and self._error is None else None

    async def packets(self) -> AsyncGenerator[Packet, None]:
        """Yield the packets in order, waiting for those to come. Raises what the voice raised."""
        index = 0
        while True:
            while index < len(self._packets):
                yield self._packets[index]
                index += 1
            if self._complete:
                if self._error is not None:
                    raise self._error
                return
            await self._news.wait()

    def leave(self) -> None:
        """A reader has gone; when none is left, an unfinished rendering is not worth finishing."""
        self.readers -= 1
        if self.readers <= 0 and self.task is not None and not self._complete:
            self.task.cancel()


class Speaker:
    """The hub's mouth, shared by all devices."""

    def __init__(self) -> None:
        self.synthesis = Synthesis()
        self._worker = Worker("opus")
        self._scope = TaskScope("speaker")
        self._cache: Cache[Key, tuple[Packet, ...]] = Cache(
            CACHE_BYTES, lambda packets: sum(len(p.data) + 64 for p in packets)
        )
        self._under_way: dict[Key, Rendering] = {}
        self._sounds: dict[str, tuple[Packet, ...]] = {}
        self._files: PhraseFiles | None = None
        self._disk = Worker("phrases")

    async def learn_to_read(self, languages: Collection[str]) -> None:
        """Get ready to read aloud, so that the first sentence does not wait for it."""
        for language in languages:
            await self._worker.run(normalise.warm, language)

    async def keep_in(self, folder: Path, limit: int) -> None:
        """Keep phrases that are said again in *folder*, too: at most *limit* bytes of them."""
        files = PhraseFiles(folder, limit)
        await self._disk.run(files.open)
        self._files = files

    @property
    def cache_hits(self) -> int:
        return self._cache.hits

    async def warm(self) -> None:
        """Make the hub's own sounds."""
        self._sounds["chime"] = await self._worker.run(encode_all, chime())
        self._sounds["sorrow"] = await self._worker.run(encode_all, sorrow())

    async def forget(self, what: Forget) -> None:
        """Let go of all phrases: nobody knows any more who heard them. The usual ones are made again."""
        if what.before is None:
            self._cache.clear()
            if self._files is not None:
                await self._disk.run(self._files.clear)

    async def close(self) -> None:
        await self._scope.close()
        await self._worker.close()
        await self._disk.close()

    def sound(self, name: str) -> Rendering:
        """One of the hub's own sounds: ``chime`` or ``sorrow``."""
        rendering = Rendering(self._sounds.get(name, ()), complete=True)
        rendering.readers = 1
        return rendering

    def render(
        self, voices: Sequence[Tts], request: SpeechRequest, others: Others = nobody, *, usual: bool = False
    ) -> Rendering:
        """Begin to render a sentence with the first of *voices* that can. The caller reads it and then calls `leave`.

        Words in another language than the sentence are said by *others*, where the voice does not speak it. What is *usual*
        is kept on the disk at once, other phrases when they are said a second time.
        """
        if not voices:
            raise StageError("tts", f"no voice speaks {request.language}", code="no-tts")
        key = self._key(voices, request, others)
        if (known := self._cache.get(key)) is not None:
            rendering = Rendering(known, complete=True)
            self._write_down(key, known)
        elif key in self._under_way:
            rendering = self._under_way[key]
        else:
            rendering = self._under_way[key] = Rendering()
            rendering.task = self._scope.start(
                self._render(rendering, voices, request, others, key, usual), name="render"
            )
        rendering.readers += 1
        return rendering

    def _key(self, voices: Sequence[Tts], request: SpeechRequest, others: Others) -> Key:
        return self.synthesis.key(self.synthesis.attempts(voices, request)[0], others), request.text

    async def _read(self, key: Key) -> tuple[Packet, ...] | None:
        files = self._files
        return await self._disk.run(files.load, key) if files is not None and files.has(key) else None

    def _write_down(self, key: Key, packets: tuple[Packet, ...]) -> None:
        files = self._files
        if files is not None and not files.has(key):
            self._disk.post(partial(files.store, key, packets))

    async def _render(
        self,
        rendering: Rendering,
        voices: Sequence[Tts],
        request: SpeechRequest,
        others: Others,
        key: Key,
        usual: bool,
    ) -> None:
        encoding: _Encoding | None = None
        speakers: list[Attempt] = []
        try:
            if (kept := await self._read(key)) is not None:
                self._cache.put(key, kept)
                rendering.add(kept)
                rendering.end()
                return
            async with aclosing(self.synthesis.say(voices, request, others)) as pieces:
                async for attempt, chunk in pieces:
                    if attempt not in speakers:
                        speakers.append(attempt)
                    if encoding is None:
                        encoding = await self._worker.run(_Encoding, chunk.rate, request.volume)
                    rendering.add(await self._worker.run(encoding.feed, chunk))
            if encoding is not None:
                rendering.add(await self._worker.run(encoding.flush))
            rendering.end()
            best = self.synthesis.attempts(voices, request)[0]  # known by now: who has the voice that was asked for
            if speakers == [best] and (finished := rendering.finished):
                key_now = self._key(voices, request, others)
                self._cache.put(key_now, finished)
                if usual:
                    self._write_down(key_now, finished)
        except HubError as error:
            rendering.end(error)
        except asyncio.CancelledError:
            rendering.end(StageError("tts", "the hub is stopping", code="stopping"))
            raise
        except Exception as error:  # an engine of an integration: its bug must not leave a reader waiting
            log.exception("a voice failed")
            rendering.end(StageError("tts", f"the voice failed: {type(error).__name__}"))
        finally:
            if encoding is not None:
                self._worker.post(encoding.close)  # its thread may still be encoding
            if self._under_way.get(key) is rendering:
                del self._under_way[key]
