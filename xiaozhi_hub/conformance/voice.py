"""What is said to the server under test."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from xiaozhi_hub.audio.opus import OpusEncoder
from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.testing import Utterance, speech_end_ms

RATE = 16000
PAUSE_SECONDS = 2.5
"""Longer than any patience with a person who thinks in mid-sentence."""


@dataclass(frozen=True)
class Voice:
    """Recordings of one person. Servers understand different things, so no check looks at the words of an answer."""

    short: PcmChunk
    """Something that is answered shortly."""
    long: PcmChunk
    """Something that is answered at length: for a minute, where the server can."""
    volume: PcmChunk | None = None
    """A wish that calls the device's volume tool; None where nothing is known that does."""
    loud: PcmChunk | None = None
    """The same, with a volume beyond what the tool takes."""
    photo: PcmChunk | None = None
    """A wish that calls the device's camera tool."""
    reboot: PcmChunk | None = None
    """A wish that would call a tool which only people may use."""
    text: str = "what time is it"
    """Something to say as text."""
    _encoded: dict[tuple[int, int], Utterance] = field(default_factory=dict)

    def utterance(self, sound: PcmChunk, frame_ms: int = 60) -> Utterance:
        """*sound* as a device sends it, in packets of *frame_ms*."""
        key = id(sound), frame_ms
        if key not in self._encoded:
            self._encoded[key] = encode(sound, frame_ms)
        return self._encoded[key]

    def hesitating(self) -> Utterance:
        """The short question twice, with a long pause between."""
        sound = resample(self.short, RATE).samples
        pause = np.zeros(int(RATE * PAUSE_SECONDS), np.int16)
        return encode(PcmChunk(np.concatenate([sound, pause, sound]), RATE), 60)


def encode(sound: PcmChunk, frame_ms: int) -> Utterance:
    """Encode as devices do: mono, 16 kHz, with DTX."""
    samples = resample(sound, RATE).samples
    frame = RATE * frame_ms // 1000
    whole = np.zeros(-(-len(samples) // frame) * frame, np.int16)
    whole[: len(samples)] = samples
    with OpusEncoder(RATE, frame_ms, 0, 24000, dtx=True) as encoder:
        packets = tuple(encoder.encode(whole[at : at + frame]) for at in range(0, len(whole), frame))
    return Utterance(packets, speech_end_ms(samples), frame_ms)


__all__ = ["PAUSE_SECONDS", "Voice", "encode"]
