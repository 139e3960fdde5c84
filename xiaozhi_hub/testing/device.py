"""A complete device over a real socket, and a person who uses it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.testing.firmware import DeviceState, Firmware
from xiaozhi_hub.testing.speech import Utterance, quiet
from xiaozhi_hub.testing.turn import NoAnswer, TurnLog, TurnResult

ANSWER_SECONDS = 30.0
STEP_SECONDS = 0.01
WAKE_PACKETS = 33
"""The firmware sends the two seconds before and with the wake word in one burst."""


class FakeDevice(Firmware):
    """Behaves as the firmware does, towards a hub at *ota_url* (checked in at first) or *url* (WebSocket, at once).

    ``async with`` checks in; the first question opens the WebSocket, as a wake word would. Everything happens in real
    time. With *listens* false the answer is not decoded, which spares the time and leaves out ``first_voice``.
    """

    _asked: TurnLog | None = None
    """The question whose answer nobody has fetched yet."""

    async def __aenter__(self) -> Self:
        if self.registration.ota_url is not None:
            await self.check_in()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, AssertionError | NoAnswer | TimeoutError):
            error.add_note(self.transcript())
        await self.switch_off()
        await self._scope.close()
        self.speaker.close()
        if self._loopback is not None:
            self._loopback.close()

    # -- asking ---------------------------------------------------------------------------------------------------

    async def ask(self, question: PcmChunk | Utterance, within: float = ANSWER_SECONDS) -> TurnResult:
        """Speak and hear the answer to its end. `NoAnswer` when there is none *within* seconds of the last word."""
        await self.say(question)
        return await self.answer(within)

    async def ask_text(self, text: str, within: float = ANSWER_SECONDS) -> TurnResult:
        """Ask with a text instead of speech, as some boards do; hear the answer to its end."""
        await self.connect()
        turn = self._asked = self._begin_turn(asked=True)
        turn.zero_at = self._loop.time()
        turn.spoken.set()
        await self.link.send_json({"type": "listen", "state": "detect", "text": text})
        return await self.answer(within)

    async def say(self, question: PcmChunk | Utterance) -> None:
        """Speak; returns when the last word has been sent or nobody takes it any more. Then fetch the `answer`.

        While the device speaks or has not gone back to listening, the person waits.
        """
        speech = question if isinstance(question, Utterance) else Utterance.of(question)
        await self.connect()
        while self.state is DeviceState.SPEAKING or self._relistening:
            await self._news.wait()
        turn = self._asked = self._begin_turn(asked=True)
        self.microphone.say(speech)
        if not self.microphone.streams:
            await self._listen()
        await turn.spoken.wait()

    async def interrupt(self, question: PcmChunk | Utterance) -> float:
        """Speak into the answer, as is possible in full duplex; returns when the last word has been sent. Then fetch the
        `answer`. The value is how many ms the hub went on sending sound after the first word began."""
        if self.mode != "realtime" or self.state is not DeviceState.SPEAKING:
            raise RuntimeError("only a device that speaks and listens at the same time can be interrupted by voice")
        before = self._turn
        turn = self._asked = self._interrupting = self._begin_turn(asked=True)
        self._turn = before
        speech = question if isinstance(question, Utterance) else Utterance.of(question)
        self.microphone.say(speech)
        await turn.spoken.wait()
        assert turn.zero_at is not None  # it was set with the first word
        return (self.speaker.audio_at - turn.zero_at) * 1000 + speech.end_ms

    async def answer(self, within: float = ANSWER_SECONDS) -> TurnResult:
        """Wait for the answer to what was said last, and hear it to its end."""
        turn, self._asked = self._asked, None
        if turn is None:
            raise RuntimeError("nothing was asked")
        try:
            async with asyncio.timeout(within):
                return await asyncio.shield(turn.done)
        except TimeoutError:
            self._fail(turn, f"No whole answer within {within:g} s.")
            return await turn.done

    async def next_answer(self, within: float = ANSWER_SECONDS) -> TurnResult:
        """Wait for something that the hub says unasked, such as a timer that rings; hear it to its end."""
        try:
            async with asyncio.timeout(within):
                while not self._unasked:
                    if not self.connected:  # and a hub cannot call a device
                        raise NoAnswer("The connection has ended; nothing more will come.", TurnResult(asked=False))
                    await self._news.wait()
        except TimeoutError:
            raise NoAnswer(f"The hub said nothing by itself within {within:g} s.", TurnResult(asked=False)) from None
        return self._unasked.popleft()

    # -- watching -------------------------------------------------------------------------------------------------

    @property
    def conversation(self) -> list[str]:
        """What was said both ways, the newest last."""
        return list(self.log.lines)

    def transcript(self) -> str:
        """The conversation as one text, for a failed test to show."""
        return "\n".join((f"conversation of device {self.device_id}:", *(f"  {line}" for line in self.log.lines)))

    async def hears(self, text: str, within: float = ANSWER_SECONDS) -> None:
        """Wait until *text* is shown as part of what the hub says."""
        await self._until(lambda: self._turn is not None and text in " ".join(self._turn.sentences), within)

    async def speaking(self, within: float = ANSWER_SECONDS) -> None:
        """Wait until sound comes."""
        await self._until(lambda: self._turn is not None and bool(self._turn.packets), within)

    async def hung_up(self, within: float = ANSWER_SECONDS) -> None:
        """Wait until the hub ends the conversation."""
        await self._until(lambda: not self.connected, within)

    async def silent_within(self, seconds: float, watch: float = 0.4) -> bool:
        """Does no sound arrive any more *seconds* from now? Watched for *watch* seconds. While the loop stands still nothing can
        arrive, and what had been sent before is not held against the hub: this time does not count."""
        for _ in range(math.ceil(seconds / STEP_SECONDS)):
            await asyncio.sleep(STEP_SECONDS)
        silent_from = self._loop.time()
        await asyncio.sleep(watch)
        return self.speaker.audio_at < silent_from

    async def _until(self, true: Callable[[], bool], within: float) -> None:
        async with asyncio.timeout(within):
            while not true():
                await self._news.wait()

    # -- buttons and wake word ------------------------------------------------------------------------------------

    async def press_button(self) -> None:
        """Idle: wake up. Speaking: interrupt. Listening: hang up."""
        match self.state:
            case DeviceState.SPEAKING:
                await self.abort()
            case DeviceState.LISTENING:
                await self.hang_up()
            case _:
                await self.connect()
                if self.state is DeviceState.IDLE:  # not greeted in between
                    await self._listen()

    async def abort(self, reason: str = "") -> None:
        """Interrupt. The device goes on playing what comes until the hub says ``tts stop``."""
        await self.link.send_json({"type": "abort", **({"reason": reason} if reason else {})})

    async def wake(self, word: str = "你好小智", sound: Sequence[bytes] = ()) -> None:
        """Say the wake word: the device calls the hub, sends its sound (the end of *sound*, or a quiet room), and listens.
        Interrupts a speaking one."""
        if self.state is DeviceState.SPEAKING:
            await self.abort("wake_word_detected")
            if not self.profile.listens_after_wake_abort:
                return  # it goes on playing until `tts stop`, as after the button
            if (turn := self._turn) is not None:
                turn.cut_ms = turn.playback.cut(self._loop.time())
                turn.stopped = True
                self._finish(turn)
        else:
            await self.connect()
            for packet in sound[-WAKE_PACKETS:] or [quiet()[index % len(quiet())] for index in range(WAKE_PACKETS)]:
                await self.link.send_audio(packet)
            await self.link.send_json({"type": "listen", "state": "detect", "text": word})
        await self._listen()

    # -- what no device would send --------------------------------------------------------------------------------

    async def send_text(self, text: str) -> None:
        """Send a text frame as it is."""
        self.log.note("→", text[:200])
        await self.link.write(text)

    async def send_binary(self, frame: bytes) -> None:
        """Send a binary frame as it is."""
        await self.link.write(frame)
