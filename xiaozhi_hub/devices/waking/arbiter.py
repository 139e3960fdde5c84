"""When several devices hear the same wake word, one answers: the louder, and of equals the earlier one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.audio.pcm import level
from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.errors import ProtocolError

WINDOW_SECONDS = 0.15
"""Devices that report a wake word so soon after one another have heard the same person. Nobody waits for it: the first one
goes on at once, and is stopped before it could say anything."""
CLEARLY_DB = 3.0
"""A later device must be louder by this much."""
RATE = 16000
SPOKEN_MS = 1000
"""The wake word is in the last second that a device sends."""


@dataclass(frozen=True, slots=True, eq=False)
class Wake:
    """A device was woken."""

    device_id: str
    at: float
    """Loop time."""
    sound: Sequence[Packet]
    """What it sent of the wake word; many boards send nothing."""
    give_way: Callable[[], None]
    """Ends the device's conversation: another device answers."""


class WakeArbiter:
    """Shared by all devices."""

    def __init__(self) -> None:
        self._latest: deque[Wake] = deque(maxlen=8)

    def woken(self, wake: Wake) -> None:
        """Take in that a device was woken; whoever heard it less well gives way."""
        while self._latest and wake.at - self._latest[0].at > WINDOW_SECONDS:
            self._latest.popleft()
        rival = next((old for old in self._latest if old.device_id != wake.device_id), None)
        if rival is None:
            self._latest.append(wake)
        elif loudness(wake.sound) > loudness(rival.sound) + CLEARLY_DB:
            self._latest.remove(rival)
            self._latest.append(wake)
            rival.give_way()
        else:
            wake.give_way()


def loudness(sound: Sequence[Packet]) -> float:
    """How loud the wake word is, in dB below full scale: its loudest tenth of a second or so."""
    kept: list[Packet] = []
    for packet in reversed(sound):
        if sum(each.ms for each in kept) >= SPOKEN_MS:
            break
        kept.append(packet)
    decoder = OpusDecoder(RATE)
    loudest = level(np.zeros(0, np.int16))
    try:
        for packet in reversed(kept):
            try:
                loudest = max(loudest, level(decoder.decode(packet.data)))
            except ProtocolError:
                continue
    finally:
        decoder.close()
    return loudest


__all__ = ["WINDOW_SECONDS", "Wake", "WakeArbiter", "loudness"]
