"""What a device's microphone delivered and the turn has not taken yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from xiaozhi_hub.core.flow import Packet

LIMIT_MS = 15_000
"""A turn that is this far behind loses the oldest audio rather than answering ever later."""


class Mic:
    """A bounded queue of packets: drops the oldest when full, and counts them.

    One reader. `finish` ends it (push-to-talk released); `poke` wakes the reader although nothing was said.
    """

    def __init__(self, before: Sequence[Packet] = ()) -> None:
        self.before = tuple(before)
        """What came just before: it is no speech of this turn, but the first word may begin in it."""
        self._packets: deque[tuple[Packet, float]] = deque()
        self._ms = 0.0
        self._news = asyncio.Event()
        self.finished = False
        self.dropped = 0

    def put(self, packet: Packet) -> None:
        """Take a packet in, with the moment it arrived."""
        if self.finished:
            return
        self._packets.append((packet, asyncio.get_running_loop().time()))
        self._ms += packet.ms
        while self._ms > LIMIT_MS:
            old, _ = self._packets.popleft()
            self._ms -= old.ms
            self.dropped += 1
        self._news.set()

    def finish(self) -> None:
        """The person has let go of the button: nothing more will come."""
        self.finished = True
        self._news.set()

    def poke(self) -> None:
        self._news.set()

    def take(self) -> tuple[Packet, float] | None:
        """The oldest packet and when it arrived (loop time), None when there is none now."""
        if not self._packets:
            return None
        packet, arrived = self._packets.popleft()
        self._ms -= packet.ms
        return packet, arrived

    async def news(self) -> None:
        """Wait until something was put, poked or finished since the last call."""
        await self._news.wait()
        self._news.clear()
