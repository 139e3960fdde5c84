"""Plain sound: rates, levels and WAV files."""

from __future__ import annotations

import struct

import numpy as np
import soxr

from xiaozhi_hub.core.flow import PcmChunk, Samples
from xiaozhi_hub.errors import BadAudio

SILENT_DBFS = -100.0
"""The level of nothing at all; 16 bits reach down to about -96."""
_RATES = range(4000, 192_001)
_MOST_CHANNELS = 8
_UNKNOWN = 0xFFFFFFFF
"""The length that players take for "until the end"."""
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE


def resample(chunk: PcmChunk, rate: int) -> PcmChunk:
    """Return the whole sound *chunk* at *rate*."""
    if chunk.rate == rate or not len(chunk.samples):
        return PcmChunk(chunk.samples, rate)
    return PcmChunk(_to_int16(soxr.resample(_to_float(chunk.samples), chunk.rate, rate)), rate)


class Resampler:
    """Changes the rate of a sound that comes piece by piece. What goes in comes out a few milliseconds later."""

    def __init__(self, from_rate: int, to_rate: int) -> None:
        self._stream = None if from_rate == to_rate else soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32")

    def feed(self, samples: Samples) -> Samples:
        """Take the next piece and return what is ready, perhaps nothing."""
        if self._stream is None:
            return samples
        return _to_int16(self._stream.resample_chunk(_to_float(samples)))

    def flush(self) -> Samples:
        """Return the rest. Nothing may be fed afterwards."""
        if self._stream is None:
            return np.zeros(0, np.int16)
        return _to_int16(self._stream.resample_chunk(np.zeros(0, np.float32), last=True))


# On floats, because soxr adds noise to 16-bit results (dither): silence would not stay silence.
def _to_float(samples: Samples) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return samples.astype(np.float32)


def _to_int16(samples: np.ndarray[tuple[int], np.dtype[np.float32]]) -> Samples:
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def level(samples: Samples) -> float:
    """Return the loudness (RMS) in dB below full scale, `SILENT_DBFS` at the least."""
    if not len(samples):
        return SILENT_DBFS
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    return max(SILENT_DBFS, 10 * float(np.log10(power / 32768**2))) if power else SILENT_DBFS


def trim_start(chunk: PcmChunk, *, below_dbfs: float = -55.0, keep_ms: float = 10.0) -> PcmChunk:
    """Cut the silence off the beginning, all but *keep_ms* of it; nothing is left when all of it is silence."""
    loud = np.abs(chunk.samples.astype(np.int32)) > 32768 * 10 ** (below_dbfs / 20)
    first = int(np.argmax(loud)) if loud.any() else len(chunk.samples) + int(chunk.rate * keep_ms / 1000)
    return PcmChunk(chunk.samples[max(0, first - int(chunk.rate * keep_ms / 1000)) :], chunk.rate)


KNEE = 0.75
"""Up to this part of full scale, amplified sound is left as it is; above, it is bent so that it never clips."""


def amplify(samples: Samples, factor: float) -> Samples:
    """Return *samples* *factor* times as loud. What would go beyond full scale is rounded off instead of cut."""
    if factor == 1 or not len(samples):
        return samples
    wave = _to_float(samples) * np.float32(factor / 32768)
    if factor > 1:
        size = np.abs(wave)
        bent = KNEE + (1 - KNEE) * np.tanh((size - KNEE) / (1 - KNEE))
        wave = np.where(size > KNEE, np.copysign(bent, wave), wave)
    return _to_int16(wave * np.float32(32768))


def write_wav(chunk: PcmChunk) -> bytes:
    """Return a 16-bit mono WAV file."""
    data = chunk.samples.astype("<i2").tobytes()
    return wav_header(chunk.rate, len(data)) + data


def wav_header(rate: int, size: int | None = None) -> bytes:
    """Return what stands before *size* bytes of 16-bit mono samples.

    None is for a file that is sent while it is made: it holds as many as will come.
    """
    shape = struct.pack("<HHIIHH", _PCM, 1, rate, rate * 2, 2, 16)
    return b"".join(
        (
            b"RIFF" + struct.pack("<I", _UNKNOWN if size is None else 36 + size) + b"WAVE",
            b"fmt " + struct.pack("<I", len(shape)) + shape,
            b"data" + struct.pack("<I", _UNKNOWN if size is None else size),
        )
    )


def read_wav(content: bytes) -> PcmChunk:
    """Return the sound of a WAV file, its channels mixed into one. Raises `BadAudio`.

    Integers of 8, 16, 24 and 32 bits and 32-bit floats are understood. A file that ends too early, or whose writer did
    not know its length (pipes), is read as far as it goes.
    """
    if len(content) < 12 or content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise BadAudio("This is not a WAV file.")
    shape: tuple[int, int, int, int] | None = None
    at = 12
    while at + 8 <= len(content):
        name, (size,) = content[at : at + 4], struct.unpack_from("<I", content, at + 4)
        at += 8
        if name == b"fmt ":
            shape = _read_shape(content[at : at + size])
        elif name == b"data":
            if shape is None:
                raise BadAudio("This WAV file does not say what it holds.")
            if size == 0:  # written by a program that could not go back
                size = len(content) - at
            return _read_samples(content[at : at + size], *shape)
        at += size + size % 2
    raise BadAudio("This WAV file holds no sound.")


def _read_shape(header: bytes) -> tuple[int, int, int, int]:
    """Format, channels, rate, bits."""
    if len(header) < 16:
        raise BadAudio("This WAV file has a damaged header.")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", header)
    if kind == _EXTENSIBLE and len(header) >= 26:
        (kind,) = struct.unpack_from("<H", header, 24)
    if (kind, bits) not in {(_PCM, 8), (_PCM, 16), (_PCM, 24), (_PCM, 32), (_FLOAT, 32)}:
        raise BadAudio(f"This WAV file holds sound of format {kind} with {bits} bits.")
    if not 1 <= channels <= _MOST_CHANNELS:
        raise BadAudio(f"This WAV file has {channels} channels.")
    if rate not in _RATES:
        raise BadAudio(f"This WAV file has a rate of {rate} samples per second.")
    return kind, channels, rate, bits


def _read_samples(data: bytes, kind: int, channels: int, rate: int, bits: int) -> PcmChunk:
    width = bits // 8 * channels
    data = data[: len(data) // width * width]
    wide: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    if kind == _FLOAT:
        wide = np.nan_to_num(np.frombuffer(data, "<f4").astype(np.float64)) * 32768
    elif bits == 8:
        wide = (np.frombuffer(data, np.uint8).astype(np.float64) - 128) * 256
    elif bits == 16:
        if channels == 1:
            return PcmChunk(np.frombuffer(data, "<i2").astype(np.int16), rate)
        wide = np.frombuffer(data, "<i2").astype(np.float64)
    elif bits == 24:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        wide = ((parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24) / 65536).astype(np.float64)
    else:
        wide = np.frombuffer(data, "<i4") / 65536
    mono = wide.reshape(-1, channels).mean(axis=1)
    return PcmChunk(np.clip(np.rint(mono), -32768, 32767).astype(np.int16), rate)


__all__ = [
    "SILENT_DBFS",
    "BadAudio",
    "Resampler",
    "amplify",
    "level",
    "read_wav",
    "resample",
    "trim_start",
    "wav_header",
    "write_wav",
]
