"""One link's conversation: which turn listens, which speaks, and when it is over."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xiaozhi_hub.audio.mic import Mic
from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.core.flow import Channel, Outcome, Packet, TurnInfo
from xiaozhi_hub.core.ids import new_id
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.devices.sessions.echo_path import EchoPath
from xiaozhi_hub.devices.waking.arbiter import Wake
from xiaozhi_hub.devices.waking.check import WakeCheck
from xiaozhi_hub.devices.waking.words import is_wake_word
from xiaozhi_hub.dialog.hearing.hearing import RATE, Ears
from xiaozhi_hub.dialog.respond import Conversation
from xiaozhi_hub.dialog.turn import Turn
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.engines.registry import no_engine
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.device_messages import (
    Abort,
    DeviceMessage,
    Goodbye,
    Iot,
    ListenDetect,
    ListenStart,
    ListenStop,
    Mcp,
)
from xiaozhi_hub.protocol.hub_messages import Keepalive
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.tools.device import DeviceToolset

log = logging.getLogger(__name__)

KEEPALIVE_SECONDS = 45.0
"""The device takes a link that was quiet for 120 s to be dead (firmware websocket_protocol.cc): say something before."""
MOST_FAILURES = 2
"""Turns that may fail one after the other before the hub hangs up."""
POLITE_SECONDS = 30.0
"""Ringing waits this long for the end of what is being said."""


MOST_BEFORE = 40
"""Packets that are kept while nobody listens; devices send the wake word in 33 (firmware audio_service.cc)."""
BEFORE_MS = 300.0
"""Who goes straight on after the wake word has begun the first word when the device notices; more would be the wake word."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A turn and its task."""

    turn: Turn
    task: asyncio.Task[Outcome]


@dataclass(frozen=True, slots=True)
class DeviceProfile:
    """What the hub knows of the asking device and its place in the house."""

    language: str
    area: str | None = None


class Session:
    """Serves one link until it ends. One object for each connection; nothing of it is shared."""

    def __init__(
        self,
        link: Link,
        parts: TurnParts,
        profile: Callable[[], DeviceProfile],
        conversation: Conversation,
        toolset: DeviceToolset,
        *,
        idle_seconds: float,
        line_kept: Callable[[], bool],
        farewell: bool,
        woken: Callable[[Wake], None],
        check: WakeCheck,
    ) -> None:
        self.link = link
        self._parts = parts
        self._profile = profile
        self._idle_seconds = idle_seconds
        self._line_kept = line_kept
        self._farewell = farewell
        self._woken = woken
        self._check = check
        self._before: deque[Packet] = deque(maxlen=MOST_BEFORE)
        """The sound of the wake word, which comes before the device says that it listens."""
        self._is_awake = False
        """It said that this was its wake word."""
        self._conversation = conversation
        self._toolset = toolset
        self._loop = asyncio.get_running_loop()
        self._scope = TaskScope(f"session-{link.session_id}")
        self._ears: Ears | None = None
        self.echo_path = EchoPath.of(link)
        """Of a device that leaves its echo to the hub."""
        self._outgoing = self.echo_path.sent if self.echo_path is not None else None
        self._mic: Mic | None = None
        self._now: _Running | None = None
        """The newest turn: it listens, or answers."""
        self._answering: _Running | None = None
        """The turn before that, where the microphone stays open while the hub speaks."""
        self._mode = "auto"
        self._hears_on = False
        """It streams after an answer, too, without saying so again."""
        self._failures = 0
        self._talked = False
        """Somebody was answered."""
        self.active_at = self._loop.time()
        """When somebody last spoke, asked or was answered (loop time)."""

    @property
    def device_id(self) -> str:
        return self.link.device.id

    @property
    def turn_id(self) -> str:
        """The turn that runs now; empty when there is none."""
        running = self._answering or self._now
        return running.turn.info.id if running is not None else ""

    @property
    def busy(self) -> bool:
        """Somebody is speaking, the person or the hub."""
        running = (each.turn for each in (self._now, self._answering) if each is not None)
        return any(turn.hub_speaks or turn.person_speaks for turn in running)

    async def run(self) -> None:
        """Serve the link; returns when it has ended, whoever ended it."""
        self._scope.start(self._toolset.start(), name="tools")
        try:
            async for message in self.link.receive():
                if isinstance(message, Packet):
                    await self._on_packet(message)
                else:
                    await self._on_message(message)
        finally:
            await self._scope.close()
            if self._ears is not None:
                self._ears.decoder.close()
            if self.echo_path is not None:
                self.echo_path.close()

    async def _on_packet(self, packet: Packet) -> None:
        if self.echo_path is not None:
            self.echo_path.arrived(packet)
        if self._mic is not None:
            self._mic.put(packet)
        else:
            self._before.append(packet)

    async def _on_message(self, message: DeviceMessage) -> None:
        match message:
            case ListenStart(mode=mode):
                self._mode = mode
                if self._answers_already():
                    self._listen_on()
                else:
                    await self._interrupt()
                    self._listen()
            case ListenStop():
                if self._mic is not None:
                    self._mic.finish()
            case ListenDetect(text=text):
                await self._on_detect(text)
            case Abort():
                self.active_at = self._loop.time()
                await self._interrupt()
                if self._mode == "realtime":
                    self._listen()
            case Mcp() | Iot():
                self._toolset.receive(message)
            case Goodbye():
                await self.link.close("the device said goodbye")
            case _:  # ping and what later firmware may say: nothing to do, nothing to complain about
                log.debug("%s sent %s", self.device_id, type(message).__name__)

    def _answers_already(self) -> bool:
        """Does the device only say that it listens, after a text of its own or a ring that it is hearing? What would
        interrupt these begins with ``abort`` (firmware application.cc)."""
        return self._now is not None and self._now.turn.info.channel is not Channel.VOICE

    async def _on_detect(self, text: str) -> None:
        self.active_at = self._loop.time()
        if not text or is_wake_word(text):
            self._is_awake = True  # the person is present; `listen start` follows
            sound = tuple(self._before)
            self._woken(Wake(self.device_id, self._loop.time(), sound, self._give_way))
            if self._check.enabled and not self._talked:
                self._scope.start(self._look_again(text, sound), name="check-wake")
            return
        await self._interrupt()
        info = self._info(Channel.TEXT)
        self._start(self._speaking_turn(info), lambda turn: turn.text(text))
        self._listen_on()

    async def _look_again(self, text: str, sound: Sequence[Packet]) -> None:
        """Let go when it was not the wake word after all, and nobody is being answered yet."""
        if not await self._check.is_false(text, sound) or self._talked or self.link.closed:
            return
        if self._now is not None:
            if self._now.turn.hub_speaks:
                return
            self._now.turn.standby = True  # where the line stays open
        log.info("%s was woken by something else than %s", self.device_id, text)
        self._end("it was not the wake word")

    # -- turns ----------------------------------------------------------------------------------------------------

    def _info(self, channel: Channel, language: str | None = None) -> TurnInfo:
        profile = self._profile()  # asked for each turn: another assistant may speak another language
        return TurnInfo(
            id=new_id(),
            session_id=self.link.session_id,
            device_id=self.device_id,
            language=language or profile.language,
            area=profile.area,
            channel=channel,
        )

    def _speaking_turn(self, info: TurnInfo) -> Turn:
        """A turn that hears nobody."""
        return Turn(self._parts, self.link, info, self._conversation, outgoing=self._outgoing)

    def _listen(self, before_ms: float = BEFORE_MS) -> None:
        """Begin to hear the next question; after the wake word, with *before_ms* of the sound that has come already."""
        before = tuple(self._before) if self._is_awake else ()
        while before and sum(packet.ms for packet in before) > before_ms:
            before = before[1:]
        self._before.clear()
        self._is_awake = False
        self._mic = Mic(before)
        turn = Turn(
            self._parts,
            self.link,
            self._info(Channel.VOICE),
            self._conversation,
            mode=self._mode,
            speech_began=self._barge_in,
            speech_ended=self._listen_on,
            outgoing=self._outgoing,
        )
        turn.standby = self._line_kept() and self._quiet_seconds() > self._idle_seconds
        mic = self._mic
        self._start(turn, lambda turn: self._hear(turn, mic))

    def _listen_on(self) -> None:
        """Hear what the person says into the answer, where the microphone stays open (mode ``realtime``)."""
        if self._mode == "realtime" and self._answering is None and self._now is not None:
            self._answering = self._now
            self._listen()

    async def _barge_in(self) -> None:
        """The person speaks: what the hub was saying ends. Its last packets are still in the device's queue."""
        answering, self._answering = self._answering, None
        if answering is not None:
            await cancel_and_wait(answering.task)

    async def _hear(self, turn: Turn, mic: Mic) -> Outcome:
        if self._ears is None:
            await self._parts.ready()
            vads = self._parts.engines.vads(self._parts.voice.vad)
            if vads:
                self._ears = Ears(OpusDecoder(RATE), vads[0].open())
        if self._ears is None:
            return await turn.fail(no_engine(Role.VAD))
        if self.echo_path is not None and self._mode == "realtime":
            await self.echo_path.open()
            self._ears.clean = self.echo_path.clean
        self._ears.vad.reset()
        return await turn.voice(mic, self._ears)

    def _start(self, turn: Turn, run: Callable[[Turn], object]) -> None:
        work = run(turn)
        assert asyncio.iscoroutine(work)
        task = self._scope.start(work, name=f"turn-{turn.info.id}")
        self._now = _Running(turn, task)
        task.add_done_callback(lambda task: self._on_turn_done(turn, task))

    def _on_turn_done(self, turn: Turn, task: asyncio.Task[Outcome]) -> None:
        mic: Mic | None = None
        if self._now is not None and self._now.turn is turn:
            self._now = None
            mic, self._mic = self._mic, None
        elif self._answering is not None and self._answering.turn is turn:
            self._answering = None
        else:
            return
        if task.cancelled() or task.exception() is not None or self._scope.is_closed():
            return  # its link ended at the same moment
        if task.result() is not Outcome.NO_SPEECH:
            self.active_at = self._loop.time()
            self._talked = True
        if self._conversation.over:
            self._end()
            return
        self._failures = self._failures + 1 if task.result() is Outcome.FAILED else 0
        if self._failures >= MOST_FAILURES:
            # A device that listens again after each answer would hear the same apology for ever.
            self._scope.start(self.link.close("it failed again and again"), name="give-up")
            return
        only_noise = task.result() is Outcome.NO_SPEECH and mic is not None and self._mode != "manual"
        if self._now is None and (only_noise or self._hears_on or self._mode == "realtime"):
            self._listen()  # the device is still listening, and will not say so again
        elif self._hears_otherwise():
            self._scope.start(self._listen_again(), name="listen-again")

    def _hears_otherwise(self) -> bool:
        """Does a turn listen for another language than people speak with the device since it was answered?"""
        turn = self._now.turn if self._now is not None else None
        return turn is not None and turn.awaits_speech and turn.info.language != self._profile().language

    async def _listen_again(self) -> None:
        if self._hears_otherwise():  # nobody has begun to speak meanwhile
            await self._interrupt()
            self._listen()

    async def _interrupt(self) -> None:
        """End the turns that run, if any; returns when nothing of them can be sent any more."""
        running = [each.task for each in (self._now, self._answering) if each is not None]
        self._now = self._answering = self._mic = None
        self._conversation.over = False  # it goes on
        for task in running:
            await cancel_and_wait(task)

    # -- the hub speaks first, and the end ------------------------------------------------------------------------

    @property
    def at_rest(self) -> bool:
        """The hub has asked nothing back, and the conversation is not over: others may put in a word."""
        return self._conversation.pending is None and not self._conversation.over

    async def announce(self, text: str, language: str, rounds: int, sound: Sequence[Packet] = ()) -> Outcome | None:
        """Ring, say *text* and play *sound*; waits for whoever is speaking. None when the link ended before it was heard."""
        try:
            async with asyncio.timeout(POLITE_SECONDS):
                while self.busy and (running := self._answering or self._now) is not None:
                    await asyncio.wait([running.task], timeout=0.5)
        except TimeoutError:
            log.info("%s talks on and on; ringing anyway", self.device_id)
        await self._interrupt()
        if self._scope.is_closed():
            return None
        turn = self._speaking_turn(self._info(Channel.ANNOUNCEMENT, language))
        self._start(turn, lambda turn: turn.announce(text, rounds, sound))
        assert self._now is not None
        task = self._now.task
        self._listen_on()
        await asyncio.wait([task])
        if self.link.closed:
            return None
        # Whoever stops the ringing has heard it.
        if task.cancelled():
            return Outcome.INTERRUPTED
        return Outcome.FAILED if task.exception() is not None else task.result()

    def _give_way(self) -> None:
        if not self._scope.is_closed():  # it may have hung up by itself since
            self._scope.start(self.link.close("another device has heard the wake word better"), name="give-way")

    def _end(self, reason: str = "the conversation is over") -> None:
        """Everything has been said. A line that is needed for something that is due stays open, and is quiet."""
        if not self._line_kept():
            self._scope.start(self.link.close(reason), name="end")
            return
        self._conversation.over = False
        self.active_at = self._loop.time() - self._idle_seconds
        if self._now is None and self._mode != "manual":
            self._listen()

    def _say_farewell(self) -> None:
        """Say so before hanging up on somebody who has been talking: a silent end looks like a fault."""
        self._conversation.over = True
        info = self._info(Channel.ANNOUNCEMENT)
        text = self._parts.texts.text("spoken.goodbye", info.language)
        self._start(self._speaking_turn(info), lambda turn: turn.say(text))

    def _quiet_seconds(self) -> float:
        return self._loop.time() - self.active_at

    async def tick(self) -> None:
        """Called every few seconds: hang up when nobody has spoken for long, or keep the link alive."""
        if self.busy:
            self.active_at = self._loop.time()
            return
        if self._quiet_seconds() > self._idle_seconds and not self._line_kept():
            if self._farewell and self._talked:
                self._talked = False
                await self._interrupt()
                if not self._scope.is_closed():
                    self._say_farewell()
            else:
                await self.link.close("nobody has spoken for a while")
        elif self._loop.time() - self.link.sent_at > KEEPALIVE_SECONDS:
            try:
                await self.link.send(Keepalive())
            except HubError as error:
                log.debug("no keepalive for %s: %s", self.device_id, error)
