"""The device's microphone: it sends what can be heard in the room, every 60 ms."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.testing.device_link import DeviceLink
from xiaozhi_hub.testing.loopback import Loopback
from xiaozhi_hub.testing.speech import FRAME_MS, Utterance, quiet
from xiaozhi_hub.testing.turn import TurnLog


class Microphone:
    """Streams a quiet room, in it what the person says, and with *loopback* what the speaker plays."""

    def __init__(
        self,
        link: DeviceLink,
        scope: TaskScope,
        loopback: Loopback | None,
        turn: Callable[[], TurnLog | None],
        last_word: Callable[[], Awaitable[bool]],
    ) -> None:
        """*turn* is the one that what is said belongs to. *last_word* is awaited when the last word has been sent; it returns
        True when the person has let go of the button, and nothing more is to be sent."""
        self._link = link
        self._scope = scope
        self._loopback = loopback
        self._turn = turn
        self._last_word = last_word
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._speech: Utterance | None = None
        self._speech_at = 0

    @property
    def streams(self) -> bool:
        return self._task is not None

    def say(self, speech: Utterance) -> None:
        """The person begins to speak with the next packet, or as soon as it streams."""
        self._speech, self._speech_at = speech, 0

    def start(self) -> None:
        """Stream from now on."""
        self._task = self._scope.start(self._stream(), name="microphone")

    def stop(self) -> None:
        """Stream no more; what the person is saying goes on once it streams again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def close(self) -> None:
        """Nobody hears the person any more, even in mid-sentence."""
        self.stop()
        self._speech = None

    def let_go(self) -> None:
        """As `close`, for `last_word`: the stream ends by itself."""
        self._task = self._speech = None

    async def _stream(self) -> None:
        """Send a packet every 60 ms, by absolute time: each when its last sample has been recorded."""
        began = self._loop.time()
        silence = quiet()
        index = 0
        while self._link.connected:
            frame_at = began + index * FRAME_MS / 1000
            await asyncio.sleep(max(0.0, frame_at + FRAME_MS / 1000 - self._loop.time()))
            turn = self._turn()
            if self._speech is None or turn is None:
                await self._send(silence[index % len(silence)], frame_at)
            elif await self._send_speech(self._speech, turn, frame_at):
                return
            index += 1

    async def _send_speech(self, speech: Utterance, turn: TurnLog, frame_at: float) -> bool:
        """Send the next packet of what the person says; True when the button was released after it."""
        at = self._speech_at
        self._speech_at += 1
        if at == 0:
            turn.stamp("speech_start", frame_at)
            turn.zero_at = frame_at + speech.end_ms / 1000
        if self._speech_at >= len(speech.packets):
            self._speech = None
        await self._send(speech.packets[at], frame_at)
        if at != speech.last_packet:
            return False
        turn.stamp("speech_sent", self._loop.time())
        turn.spoken.set()
        return await self._last_word()

    async def _send(self, opus: bytes, frame_at: float) -> None:
        """Send what the microphone heard from *frame_at* on: *opus*, and the speaker where it can be heard."""
        if self._loopback is None:
            await self._link.send_audio(opus)
        else:
            await self._link.send_audio(*self._loopback.hear(opus, frame_at))


__all__ = ["Microphone"]
