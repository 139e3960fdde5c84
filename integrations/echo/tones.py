"""Text as sound and back: a code that survives Opus, other sample rates, noise, and silence on either side.

Each byte is a chord of two tones that lasts `SYMBOL_MS`: one of sixteen low tones for its upper half, one of sixteen high tones for
its lower half. A message is

    pilot chord ×3 · length (2 bytes) · UTF-8 text · CRC-16 (2 bytes) · pilot chord for as long as the sound shall last

with the bytes between the pilots scrambled, because speech codecs lose tones that do not change. Several messages may follow one
another. What does not pass its checksum is not reported.
"""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xiaozhi_hub.plugins.api import PcmChunk

SYMBOL_MS = 36
LOW_HZ, HIGH_HZ, STEP_HZ = 400, 1750, 75
"""The tones of the two halves; the pilot of each half is one step above its sixteen. All below 3 kHz: above, the speech mode of
Opus keeps the energy of a sound but not its pitch."""
PILOT = 16
PILOTS = 3
AMPLITUDE = 0.25
"""Of full scale, for each of the two tones: about as loud as a person close to the microphone."""
LONGEST = 2000
"""Bytes of one text."""

_HOPS = 6
"""Positions per symbol at which the reader looks for the beginning of a message."""
_CORE = 0.7
"""Part of a symbol, around its middle, that is looked at: codecs blur the edges."""
_CLEAR = 0.5
"""Part of the energy that must be in the strongest chord for it to count as a tone of ours."""

Floats = NDArray[np.float64]


def write_text(text: str, rate: int = 16000, *, ms: float = 0.0) -> PcmChunk:
    """Return the sound of *text*, lasting *ms* or as long as the text needs, whichever is longer."""
    payload = text.encode()
    if len(payload) > LONGEST:
        raise ValueError(f"a text of {len(payload)} bytes; {LONGEST} are possible")
    body = len(payload).to_bytes(2, "big") + payload
    body += binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")
    symbols = [(PILOT, PILOT)] * PILOTS + [(byte >> 4, byte & 15) for byte in _scrambled(body)] + [(PILOT, PILOT)]
    symbols += [(PILOT, PILOT)] * (int(ms) // SYMBOL_MS - len(symbols))
    tones = np.array(symbols, dtype=np.float64) * STEP_HZ + (LOW_HZ, HIGH_HZ)
    edges = (np.arange(len(symbols) + 1) * SYMBOL_MS * rate / 1000).round().astype(np.intp)
    chords = np.repeat(tones, np.diff(edges), axis=0)
    phases = np.cumsum(chords, axis=0) * (2 * np.pi / rate)  # runs on from symbol to symbol: no clicks
    wave = np.sin(phases).sum(axis=1) * AMPLITUDE
    fade = np.minimum(1, np.arange(len(wave)) / (rate * 0.005))
    return PcmChunk((wave * fade * fade[::-1] * 32767).astype(np.int16), rate)


def read_texts(sound: PcmChunk) -> list[str]:
    """Return the texts that are hidden in *sound*, in their order."""
    reader = _Reader(sound)
    return list(reader.texts())


def read_text(sound: PcmChunk) -> str:
    """Return what `read_texts` finds, put together with spaces; empty when there is nothing."""
    return " ".join(read_texts(sound))


@dataclass(slots=True)
class _Symbols:
    """What is heard at each position: the tone of each half and how clear it is."""

    high_nibble: NDArray[np.intp]
    low_nibble: NDArray[np.intp]
    clear: NDArray[np.bool_]


class _Reader:
    def __init__(self, sound: PcmChunk) -> None:
        self._symbols = _hear(sound)

    def texts(self) -> Iterator[str]:
        at, end = 0, len(self._symbols.clear)
        while at < end:
            if not self._is_pilot(at) or (at + _HOPS < end and self._is_pilot(at + _HOPS)):
                at += 1
                continue
            # The last pilot of a run is here or a little before: the data begins one symbol after it.
            found = next(filter(None, (self._message(at + shift) for shift in self._shifts())), None)
            if found is None:
                at += 1
                continue
            text, at = found
            yield text

    @staticmethod
    def _shifts() -> Iterator[int]:
        yield _HOPS
        for off in range(1, _HOPS + 1):
            yield _HOPS - off
            yield _HOPS + off

    def _is_pilot(self, at: int) -> bool:
        symbols = self._symbols
        return bool(symbols.clear[at] and symbols.high_nibble[at] == PILOT and symbols.low_nibble[at] == PILOT)

    def _message(self, at: int) -> tuple[str, int] | None:
        """Read the message whose first byte is heard at *at*; return it and where it ends."""
        head = self._bytes(at, 2)
        if head is None:
            return None
        size = int.from_bytes(head, "big")
        body = self._bytes(at, size + 4) if size <= LONGEST else None
        if body is None or binascii.crc_hqx(body, 0xFFFF) != 0:
            return None
        try:
            return body[2:-2].decode(), at + (size + 4) * _HOPS
        except UnicodeDecodeError:
            return None

    def _bytes(self, at: int, count: int) -> bytes | None:
        symbols = self._symbols
        places = slice(at, at + count * _HOPS, _HOPS)
        high, low = symbols.high_nibble[places], symbols.low_nibble[places]
        if at < 0 or len(high) < count or (high == PILOT).any() or (low == PILOT).any():
            return None
        return _scrambled(bytes((high * 16 + low).tolist()))


def _scrambled(data: bytes) -> bytes:
    """Scramble, or unscramble, *data*: neighbours become different."""
    return bytes(byte ^ (position * 167 + 91) % 256 for position, byte in enumerate(data))


def _hear(sound: PcmChunk) -> _Symbols:
    """Measure the tones at every sixth of a symbol."""
    hop = sound.rate * SYMBOL_MS / 1000 / _HOPS
    width = int(sound.rate * SYMBOL_MS / 1000 * _CORE)
    count = max(0, int((len(sound.samples) - width) / hop) + 1)
    if count == 0:
        nothing = np.zeros(0, np.intp)
        return _Symbols(nothing, nothing, np.zeros(0, np.bool_))
    starts = (np.arange(count) * hop).astype(np.intp)
    steps = np.arange(PILOT + 1) * STEP_HZ
    tones = np.concatenate((LOW_HZ + steps, HIGH_HZ + steps))
    angles = np.outer(np.arange(width), tones) * (2 * np.pi / sound.rate)
    window = np.hanning(width + 2)[1:-1]
    probes = np.concatenate((np.cos(angles), np.sin(angles)), axis=1) * window[:, None]
    samples = sound.samples.astype(np.float64) / 32768
    pieces = np.lib.stride_tricks.sliding_window_view(samples, width)[starts]
    parts = pieces @ probes
    energy: Floats = parts[:, : len(tones)] ** 2 + parts[:, len(tones) :] ** 2
    low, high = energy[:, : PILOT + 1], energy[:, PILOT + 1 :]
    total = (pieces**2 * window).sum(axis=1) * window.sum() / 2 + 1e-9
    strongest = low.max(axis=1) + high.max(axis=1)
    return _Symbols(low.argmax(axis=1), high.argmax(axis=1), strongest / total > _CLEAR)
