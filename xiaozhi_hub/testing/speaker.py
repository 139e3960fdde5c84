"""The device's speaker: what it makes of the sound that comes, and from when on a person hears something."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xiaozhi_hub.audio.opus import OpusDecoder, packet_ms
from xiaozhi_hub.core.flow import Packet, Samples
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.protocol.binary import unpack
from xiaozhi_hub.testing.loopback import Loopback
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.speech import FRAME_MS
from xiaozhi_hub.testing.turn import TurnLog

_VOICE = 0.003 * 32768
"""RMS of 10 ms from which a person hears something: -50 dB below full scale."""


class Speaker:
    """Plays into the `TurnLog` of an answer. Times are loop times."""

    def __init__(
        self, profile: FirmwareProfile, complain: Callable[[str], None], *, decodes: bool, loopback: Loopback | None
    ) -> None:
        self.rate = 24000
        """Of the sound that the hub announced."""
        self.audio_at = 0.0
        """When sound came last."""
        self.stray_packets = 0
        """Sound that came outside of any answer."""
        self._profile = profile
        self._complain = complain
        self._decodes = decodes
        self._loopback = loopback
        self._frame_ms = FRAME_MS
        self._decoder: OpusDecoder | None = None
        self._settled_at = 0.0

    def announced(self, audio_params: object) -> None:
        """The hub's hello said what its sound will be like."""
        audio = audio_params if isinstance(audio_params, dict) else {}
        self.rate = audio.get("sample_rate", self.rate)
        self._frame_ms = audio.get("frame_duration", self._frame_ms)
        self.close()
        self._decoder = OpusDecoder(self.rate) if self._decodes else None

    def empty(self, now: float) -> None:
        """An answer begins: decoder and queue are emptied, which takes a moment."""
        if self._decoder is not None:
            self._decoder.reset()
        self._settled_at = now + self._profile.settle_ms / 1000

    def play(self, frame: bytes, framing: int, now: float, turn: TurnLog | None, *, hearable: bool) -> None:
        """Take a frame of sound for *turn*; it is dropped unless *hearable*, which says that the device plays now."""
        self.audio_at = now
        if turn is None or turn.done.done():
            self.stray_packets += 1
            return
        if not hearable or now < self._settled_at:
            turn.dropped_early += 1
            return
        try:
            opus, timestamp = unpack(framing, frame)
        except ProtocolError as error:
            self._complain(f"{error}: the device reads beyond the frame")
            turn.unplayable += 1
            return
        ms = packet_ms(opus)
        if not 0 < ms <= self._frame_ms:
            self._complain(f"a packet of {ms:g} ms, announced were {self._frame_ms}")
            turn.unplayable += 1
            return
        begins = turn.playback.add(now, ms)
        if begins is None:
            return
        turn.packets.append(Packet(opus, ms, timestamp))
        if self._loopback is not None:
            self._loopback.play(opus, begins, timestamp)
        turn.stamp("first_frame", now)
        if self._decoder is not None and "first_voice" not in turn.stamps:
            self._look_for_voice(self._decoder, turn, opus, begins)

    def _look_for_voice(self, decoder: OpusDecoder, turn: TurnLog, opus: bytes, begins: float) -> None:
        try:
            offset = voice_offset_ms(decoder.decode(opus), self.rate)
        except ProtocolError as error:
            self._complain(str(error))
            turn.unplayable += 1
            return
        if offset is not None:
            turn.stamp("first_voice", begins + offset / 1000)

    def close(self) -> None:
        """Let go of the decoder."""
        if self._decoder is not None:
            self._decoder.close()


def voice_offset_ms(samples: Samples, rate: int) -> float | None:
    """Return where in *samples* the first 10 ms begin that can be heard; None when none can."""
    window = rate // 100
    count = len(samples) // window
    power = np.square(samples[: count * window].astype(np.float64)).reshape(count, window).mean(axis=1)
    loud = np.flatnonzero(power >= _VOICE**2)
    return float(loud[0]) * 10 if len(loud) else None


__all__ = ["Speaker", "voice_offset_ms"]
