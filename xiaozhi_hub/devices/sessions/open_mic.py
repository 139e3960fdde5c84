"""The session of a client that streams its microphone all the time, and wants the hub to wait for a wake word."""

from __future__ import annotations

import logging
from typing import Any

from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.devices.sessions.session import BEFORE_MS, Session
from xiaozhi_hub.devices.waking.arbiter import Wake
from xiaozhi_hub.devices.waking.doze import Doze
from xiaozhi_hub.engines.wake import WAKE_BUSY
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.client import ClientError, WakeHeard, WakeWaiting
from xiaozhi_hub.protocol.device_messages import DeviceMessage, ListenStart

log = logging.getLogger(__name__)

FOLLOW_UP_SECONDS = 8.0
"""So long after an answer, or after the word, the person may go on without saying the word again."""


class OpenMicSession(Session):
    """As `Session`; what ends a conversation elsewhere makes it wait for the word again."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._line_kept = lambda: True  # nobody hangs up on it for being quiet
        self._words: tuple[str, ...] = ()
        self._doze = Doze(self._parts.engines, listening=self._waits, heard=self._woken_by, deaf=self._is_deaf)

    async def run(self) -> None:
        self._scope.start(self._wait_for_word(), name="doze")
        await super().run()

    async def _wait_for_word(self) -> None:
        await self._parts.ready()
        await self._doze.run()

    async def _on_packet(self, packet: Packet) -> None:
        """Sound is for the word unless it is for a turn. Into an answer, the word may be said as well."""
        if self._mic is None or (self._mode != "realtime" and self._hub_speaks):
            self._doze.put(packet)
        await super()._on_packet(packet)
        if self._mic is not None and not self.busy and self._quiet_seconds() > self._patience:
            await self._fall_asleep()

    async def _on_message(self, message: DeviceMessage) -> None:
        if isinstance(message, ListenStart):  # by the button: one question, in the client's own way
            self._hears_on = False
            self.active_at = self._loop.time()
        await super()._on_message(message)

    @property
    def _patience(self) -> float:
        return self._idle_seconds if self._mode == "manual" else FOLLOW_UP_SECONDS

    @property
    def _hub_speaks(self) -> bool:
        return self._now is not None and self._now.turn.hub_speaks

    # -- the word ---------------------------------------------------------------------------------------------------

    async def _waits(self, words: tuple[str, ...]) -> None:
        self._words = words
        await self.link.send(WakeWaiting(words))

    async def _is_deaf(self, failure: HubError | None) -> None:
        if failure is not None and failure.code == WAKE_BUSY:
            code, key = failure.code, "client.wake_busy"
        else:
            code, key = "wake-missing", "client.wake_missing"
        await self.link.send(ClientError(code, self._parts.texts.text(key, self._profile().language)))

    async def _woken_by(self, word: str, late_ms: float) -> None:
        """Hear the question. *late_ms* of it have come already."""
        log.info("%s was woken with %r", self.device_id, word)
        self.active_at = self._loop.time()
        await self._interrupt()
        await self.link.send(WakeHeard(word))
        self._mode, self._hears_on, self._is_awake = "auto", True, True
        sound = tuple(self._before)
        self._listen(BEFORE_MS + late_ms)
        self._woken(Wake(self.device_id, self._loop.time(), sound, self._give_way))

    async def _fall_asleep(self) -> None:
        """Wait for the word again."""
        self._hears_on = False
        await self._interrupt()
        self._before.clear()
        self._conversation.pending = None
        await self.link.send(WakeWaiting(self._words))

    def _give_way(self) -> None:
        if not self._scope.is_closed():
            self._scope.start(self._fall_asleep(), name="give-way")

    def _end(self, reason: str = "") -> None:
        self._scope.start(self._fall_asleep(), name="end")


__all__ = ["OpenMicSession"]
