"""Sound that a program sends: a WAV file, an Ogg Opus file, or bare samples."""

from __future__ import annotations

import asyncio

import numpy as np
from aiohttp import web

from xiaozhi_hub.audio.ogg import read_ogg
from xiaozhi_hub.audio.opus import decode_all, packet_ms
from xiaozhi_hub.audio.pcm import BadAudio, read_wav, resample
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.web.requests.body import read_body
from xiaozhi_hub.web.requests.failures import Rejected

RATE = 16000
BYTES = 10 * 2**20
SECONDS = 30.0
"""In which the whole body must have come."""
LONGEST_MS = 330_000.0
"""As much as bare samples of `BYTES` last. A small Opus file may hold hours, which would fill the memory."""

# curl says the last one when nobody tells it what it sends.
_BARE = {
    "application/octet-stream",
    "audio/pcm",
    "audio/raw",
    "audio/x-raw",
    "audio/x-pcm",
    "application/x-www-form-urlencoded",
}
_OTHERS = (b"ID3", b"fLaC", b"\x1aE\xdf\xa3", b"#!AMR", b"FORM")
"""How MP3, FLAC, WebM, AMR and AIFF files begin."""
_HINT = "Send a WAV file, an Ogg Opus file, or bare samples: 16 kHz, 16 bits, little-endian, mono, as audio/pcm."


async def read_sound(request: web.Request) -> PcmChunk:
    """Return the sound in the body at 16 kHz; `Rejected` or `BadAudio` when it cannot be had."""
    body = await read_body(request, BYTES, SECONDS)
    return await asyncio.to_thread(decode, body, request.content_type)


def decode(body: bytes, content_type: str) -> PcmChunk:
    """Return the sound of *body* at 16 kHz: what it begins with says what it is, and only then its declared type. Blocking."""
    if not body:
        raise Rejected(400, "The request holds no sound.", code="audio-missing", hint=_HINT)
    if body[:4] == b"RIFF":
        sound = read_wav(body)
        _check_length(sound.ms)
        return resample(sound, RATE)
    if body[:4] == b"OggS":
        packets = read_ogg(body)
        _check_length(sum(map(packet_ms, packets)))
        return decode_all(packets, RATE)
    if body.startswith(_OTHERS) or body[4:8] == b"ftyp" or content_type not in _BARE:
        raise Rejected(415, f"This is not a sound that the hub reads ({content_type}).", code="audio-type", hint=_HINT)
    if len(body) % 2:
        raise BadAudio("Bare samples have two bytes each, and this is an odd number of bytes.")
    sound = PcmChunk(np.frombuffer(body, "<i2").astype(np.int16), RATE)
    _check_length(sound.ms)
    return sound


def _check_length(ms: float) -> None:
    if ms > LONGEST_MS:
        raise Rejected(413, f"This sound is longer than {LONGEST_MS / 1000:g} seconds.", code="audio-too-long")


__all__ = ["decode", "read_sound"]
