"""What a turn says, on its way to the device: ``tts start``, faces, sentences, packets at the device's pace, ``tts stop``.

Whoever opens a mouth closes it, whatever happened in between. Speaking is stopped by cancelling the task that speaks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing

from xiaozhi_hub.audio.opus import silence
from xiaozhi_hub.audio.pacer import Pacer
from xiaozhi_hub.core.flow import Emotion, Packet, Sentence
from xiaozhi_hub.core.tasks import prefetch
from xiaozhi_hub.core.turn_context import Stamp
from xiaozhi_hub.dialog.speaking.speaker import Rendering
from xiaozhi_hub.dialog.speaking.splitter import put_together
from xiaozhi_hub.protocol.hub_messages import LlmEmotion, SentenceStart, TtsStart, TtsStop
from xiaozhi_hub.protocol.link import Link

LEAD_IN_MS = 100
"""The device empties its queue when it handles ``tts start``, at its leisure: what arrives within about this time may be lost,
so it is silence, and the voice follows just before that has been played (firmware application.cc)."""
LEAD_IN_SPARE_MS = 20
"""How much earlier than needed the first voice packet leaves, for the network's jitter."""
SENTENCES_AHEAD = 2
"""Sentences that are rendered while an earlier one plays."""


class Mouth:
    """Speaks on one link during one turn. What the link does not take is told as its `HubError`."""

    def __init__(
        self,
        link: Link,
        render: Callable[[Sentence], Rendering],
        stamp: Stamp,
        *,
        lead_ms: int,
        outgoing: Callable[[Packet], Packet] | None = None,
    ) -> None:
        """*render* begins to make the sound of a sentence, in whichever voice; it is left here. *lead_ms* of sound may wait in
        the device; *outgoing* sees each packet at the moment it is sent, and returns what to send. Stamps: ``tts_start``,
        ``first_audio`` (be it silence), ``first_voice``, ``sent``, ``played``."""
        self._link = link
        self._render = render
        self._stamp = stamp
        self._outgoing = outgoing
        self._loop = asyncio.get_running_loop()
        self._pacer = Pacer(lead_ms)
        self._opened_at: float | None = None
        self._closed = False
        self._faced = False
        self._voiced = False
        self._sentences: list[tuple[Sentence, float]] = []
        """Each with the moment (loop time) from which it sounds."""
        self.emotion = "neutral"
        """The face that was shown last."""
        self.packets: list[Packet] = []
        """All that was sent, as it was before *outgoing*."""

    @property
    def opened(self) -> bool:
        """The device was told ``tts start``; it may have been told ``tts stop`` since."""
        return self._opened_at is not None

    @property
    def speaking(self) -> bool:
        """The device was told ``tts start``, and not yet ``tts stop``."""
        return self.opened and not self._closed

    def said(self) -> str:
        """The sentences of which at least the beginning has sounded by now."""
        now = self._loop.time()
        return put_together(sentence.text for sentence, at in self._sentences if at <= now)

    async def open(self) -> None:
        """Say ``tts start``, once."""
        if self._opened_at is None:
            self._opened_at = self._loop.time()
            self._stamp("tts_start")
            await self._link.send(TtsStart())

    async def close(self) -> None:
        """Say ``tts stop``, once, if the mouth was opened. Waits for nothing that is still to be played."""
        if self.speaking:
            self._closed = True
            await self._link.send(TtsStop())

    async def say(self, pieces: AsyncGenerator[Sentence | Emotion, None]) -> None:
        """Open, and speak until the last packet has been played."""
        await self.open()
        await self.speak(pieces)
        await self.until_played()

    async def speak(self, pieces: AsyncGenerator[Sentence | Emotion, None]) -> None:
        """Send the sound of all sentences, and the faces; later ones are rendered while earlier ones play. The mouth is open.
        *pieces* is closed in any case, and what it raises comes out here, after the sentences before it."""
        begun: list[Rendering] = []
        try:
            async with prefetch(self._rendered(pieces, begun), SENTENCES_AHEAD) as ahead:
                async for sentence, rendering in ahead:
                    await self.play(rendering, sentence)
                    begun.remove(rendering)
                    rendering.leave()
        finally:
            for rendering in begun:  # nobody will hear what was to come; the next answer must not wait for it
                rendering.leave()
        self._stamp("sent")

    async def play(self, rendering: Rendering, sentence: Sentence | None = None) -> None:
        """Send the packets of one sentence, or of a sound that has no words. The mouth is open."""
        begun = False
        async with aclosing(rendering.packets()) as packets:
            async for packet in packets:
                if not begun:
                    begun = True
                    await self._begin_sentence(sentence)
                await self._send(packet)
                if not self._voiced:
                    self._voiced = True
                    self._stamp("first_voice")

    async def send(self, packets: Iterable[Packet]) -> None:
        """Send ready packets at the device's pace. The mouth is open."""
        for packet in packets:
            await self._send(packet)

    async def until_played(self) -> None:
        """Return when the device has played all that was sent."""
        played_at = self._pacer.played_at()
        if played_at is not None:
            await asyncio.sleep(played_at - self._loop.time())
            self._stamp("played")

    async def _rendered(
        self, pieces: AsyncGenerator[Sentence | Emotion, None], begun: list[Rendering]
    ) -> AsyncGenerator[tuple[Sentence, Rendering], None]:
        """Begin to render each sentence; *begun* are those that somebody has to leave."""
        async with aclosing(pieces):
            async for piece in pieces:
                if isinstance(piece, Emotion):
                    await self._face(piece.name)
                    continue
                begun.append(self._render(piece))
                yield piece, begun[-1]

    async def _face(self, name: str) -> None:
        self.emotion, self._faced = name, True
        await self._link.send(LlmEmotion(name))

    async def _begin_sentence(self, sentence: Sentence | None) -> None:
        if not self._faced:
            await self._face("neutral")
        assert self._opened_at is not None
        safe_at = self._opened_at + (LEAD_IN_MS - LEAD_IN_SPARE_MS) / 1000
        if not self.packets and self._loop.time() < safe_at:
            await self.send(silence(LEAD_IN_MS))
            await asyncio.sleep(safe_at - self._loop.time())
        if sentence is not None:
            sounds_at = self._pacer.played_at() or self._loop.time()
            self._sentences.append((sentence, sounds_at))
            await self._link.send(SentenceStart(sentence.text))

    async def _send(self, packet: Packet) -> None:
        now = self._loop.time()
        due = self._pacer.due(now)
        if due > now:
            await asyncio.sleep(due - now)
            now = self._loop.time()
        await self._link.send_audio(packet if self._outgoing is None else self._outgoing(packet))
        self._pacer.sent(packet.ms, now)
        if not self.packets:
            self._stamp("first_audio", now)
        self.packets.append(packet)


__all__ = ["LEAD_IN_MS", "Mouth"]
