"""Opus (RFC 6716) through libopus: the only codec that devices speak.

libopus is looked for when it is first needed, so that a hub without it starts and can say what is missing.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib
import importlib.util
import os
import threading
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from xiaozhi_hub.audio.packets import packet_ms
from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.core.flow import Packet, PcmChunk, Samples
from xiaozhi_hub.errors import HubError, ProtocolError

RATE = 24000
"""Of everything the hub sends: 136 of about 150 boards have a 24 kHz speaker."""
FRAME_MS = 60
BITRATE = 32000
COMPLEXITY = 5
PACKET_BYTES = 1500
"""No packet of speech is longer; what is, is not Opus."""
PACKET_MS = 120
"""The longest packet that Opus allows."""
LIBRARY_VARIABLE = "XIAOZHI_LIBOPUS"
"""Environment variable with the path of the libopus to use."""

_LOADING = threading.Lock()


class _Codec:
    """What libopus has made, and frees."""

    def __init__(self, state: Any, destroy: Callable[[Any], None]) -> None:
        self._state = state
        self._destroy = destroy

    def close(self) -> None:
        """Free it. Safe to call more than once."""
        state, self._state = self._state, None
        if state is not None:
            self._destroy(state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_state", None) is not None:
            self.close()


class OpusMissing(HubError):
    """There is no usable libopus on this machine: nothing can be heard or said."""

    code = "opus-missing"

    def __init__(self, cause: str) -> None:
        super().__init__(
            f"The Opus codec is missing ({cause}).",
            hint="Install the hub with its `voice` extra, or run `apt install libopus0`.",
            permanent=True,
        )


class OpusDecoder(_Codec):
    """Turns one device's packets into mono PCM of *rate*; keep one for each stream, packets depend on earlier ones.

    Not for two threads at a time. `close` it when done; afterwards it must not be used.
    """

    def __init__(self, rate: int = 16000) -> None:
        self._api = _api()
        self._rate = rate
        super().__init__(_create(self._api.decoder.libopus_create, rate, 1), self._api.decoder.destroy)
        self._decode = self._api.decoder.libopus_decode
        self._room = rate * PACKET_MS // 1000
        self._buffer = (ctypes.c_int16 * self._room)()
        self._view: Samples = np.ctypeslib.as_array(self._buffer)
        self._last = rate * FRAME_MS // 1000

    def decode(self, packet: bytes) -> Samples:
        """Return the sound of *packet*. An empty one was lost: its place is filled, as long as the packet before it.

        A packet that is not Opus raises `ProtocolError`; the stream can go on after it.
        """
        if packet:
            if len(packet) > PACKET_BYTES:
                raise ProtocolError(f"an Opus packet of {len(packet)} bytes", code="audio-invalid")
            if packet_ms(packet) > PACKET_MS:
                raise ProtocolError(f"an Opus packet of {packet_ms(packet):g} ms", code="audio-invalid")
            count = self._decode(self._state, packet, len(packet), self._buffer, self._room, 0)
        else:
            count = self._decode(self._state, None, 0, self._buffer, self._last, 0)
        if count < 0:
            raise ProtocolError(f"a packet that is not Opus ({_error(count)})", code="audio-invalid")
        self._last = count or self._last
        return self._view[:count].copy()

    def reset(self) -> None:
        """Forget the stream: the next packet begins a new one."""
        _control(self._api.decoder.libopus_ctl, self._state, self._api.reset_request)


class OpusEncoder(_Codec):
    """Turns mono PCM of *rate* into packets of *frame_ms*; keep one for each stream.

    *bitrate* None leaves it to the codec. With *dtx*, silence becomes packets of one to three bytes. Not for two
    threads at a time. `close` it when done; afterwards it must not be used.
    """

    def __init__(
        self,
        rate: int = RATE,
        frame_ms: int = FRAME_MS,
        complexity: int = COMPLEXITY,
        bitrate: int | None = BITRATE,
        *,
        dtx: bool = False,
    ) -> None:
        self._api = _api()
        self.frame = rate * frame_ms // 1000
        """Samples of one packet."""
        state = _create(self._api.encoder.libopus_create, rate, 1, self._api.application)
        super().__init__(state, self._api.encoder.destroy)
        control = self._api.encoder.libopus_ctl
        _control(control, self._state, self._api.complexity_request, complexity)
        _control(control, self._state, self._api.dtx_request, int(dtx))
        if bitrate is not None:
            _control(control, self._state, self._api.bitrate_request, bitrate)
        self._encode = self._api.encoder.libopus_encode
        self._input = (ctypes.c_int16 * self.frame)()
        self._view: Samples = np.ctypeslib.as_array(self._input)
        self._output = ctypes.create_string_buffer(PACKET_BYTES)
        self._bytes = memoryview(self._output).cast("B")

    def encode(self, samples: Samples) -> bytes:
        """Return the packet of exactly `frame` samples."""
        if len(samples) != self.frame:
            raise ValueError(f"a frame has {self.frame} samples, not {len(samples)}")
        self._view[:] = samples
        count = self._encode(self._state, self._input, self.frame, self._output, PACKET_BYTES)
        if count < 0:
            raise HubError(f"libopus could not encode ({_error(count)})", code="opus-failed")
        return bytes(self._bytes[:count])


def encode_all(chunk: PcmChunk) -> tuple[Packet, ...]:
    """Encode a whole sound for devices: 24 kHz, 60 ms packets, the last one filled up with silence."""
    samples = resample(chunk, RATE).samples
    with OpusEncoder() as encoder:
        frame = encoder.frame
        whole = np.zeros(-(-len(samples) // frame) * frame, np.int16)
        whole[: len(samples)] = samples
        return tuple(Packet(encoder.encode(whole[at : at + frame]), FRAME_MS) for at in range(0, len(whole), frame))


def decode_all(packets: list[bytes] | tuple[bytes, ...], rate: int = 16000) -> PcmChunk:
    """Decode a whole sound. Broken packets raise `ProtocolError`."""
    with OpusDecoder(rate) as decoder:
        pieces = [decoder.decode(packet) for packet in packets]
    return PcmChunk(np.concatenate(pieces) if pieces else np.zeros(0, np.int16), rate)


@cache
def silence(ms: int) -> tuple[Packet, ...]:
    """Return *ms* of silence, a multiple of 20, in as few packets as possible. They fit into any stream of the hub."""
    if ms % 20:
        raise ValueError("silence comes in multiples of 20 ms")
    lengths = [FRAME_MS] * (ms // FRAME_MS) + ([ms % FRAME_MS] if ms % FRAME_MS else [])
    return tuple(_silent_packet(length) for length in lengths)


@cache
def _silent_packet(ms: int) -> Packet:
    with OpusEncoder(frame_ms=ms) as encoder:
        return Packet(encoder.encode(np.zeros(encoder.frame, np.int16)), ms)


# -- the library --------------------------------------------------------------------------------------------------


class _Api:
    """The parts of opuslib that are used."""

    def __init__(self, opuslib: ModuleType, encoder: ModuleType, decoder: ModuleType) -> None:
        self.encoder: Any = encoder
        self.decoder: Any = decoder
        self.application: int = opuslib.APPLICATION_AUDIO
        self.reset_request: int = opuslib.RESET_STATE
        self.complexity_request: int = opuslib.SET_COMPLEXITY_REQUEST
        self.bitrate_request: int = opuslib.SET_BITRATE_REQUEST
        self.dtx_request: int = opuslib.SET_DTX_REQUEST
        # The fixed arguments of a variadic function must be declared where the others are passed in another way (Apple
        # arm64).
        encoder.libopus_ctl.argtypes = (encoder.EncoderPointer, ctypes.c_int)
        decoder.libopus_ctl.argtypes = (decoder.DecoderPointer, ctypes.c_int)


def available() -> bool:
    """Is there a usable libopus?"""
    try:
        _api()
    except OpusMissing:
        return False
    return True


@cache
def _api() -> _Api:
    path = library_path()
    if path is None:
        raise OpusMissing("no libopus was found")
    # opuslib asks `find_library` once, while it is imported.
    with _LOADING, warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # opuslib compares numbers with `is`
        original = ctypes.util.find_library
        ctypes.util.find_library = lambda name: path if name == "opus" else original(name)
        try:
            return _Api(*map(importlib.import_module, ("opuslib", "opuslib.api.encoder", "opuslib.api.decoder")))
        except ModuleNotFoundError as error:
            raise OpusMissing("the Python package opuslib is not installed") from error
        except (OSError, AttributeError) as error:  # not a library, or another one
            raise OpusMissing(f"{path} cannot be loaded: {error}") from error
        finally:
            ctypes.util.find_library = original


def library_path() -> str | None:
    """Return the libopus to load: the one that is asked for, the system's, or the one beside the `av` package."""
    return os.environ.get(LIBRARY_VARIABLE) or ctypes.util.find_library("opus") or _beside_av()


def _beside_av() -> str | None:
    # The wheels of PyAV carry libopus. The package is looked up, not imported: that would load all of FFmpeg.
    spec = importlib.util.find_spec("av")
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        package = Path(location)
        for folder in (package.parent / "av.libs", package / ".dylibs"):  # Linux and Windows; macOS
            for path in sorted(folder.glob("libopus*")):
                return str(path)
    return None


def _create(function: Any, *arguments: int) -> Any:
    result = ctypes.c_int()
    state = function(*arguments, ctypes.byref(result))
    if result.value != 0:
        raise HubError(f"libopus refuses {arguments} ({_error(result.value)})", code="opus-failed", permanent=True)
    return state


def _control(function: Any, state: Any, request: int, *values: int) -> None:
    result = function(state, request, *(ctypes.c_int(value) for value in values))
    if result != 0:
        raise HubError(f"libopus refuses request {request} ({_error(result)})", code="opus-failed", permanent=True)


_ERRORS = {
    -1: "bad argument",
    -2: "buffer too small",
    -3: "internal error",
    -4: "corrupted packet",
    -5: "not implemented",
    -6: "invalid state",
    -7: "out of memory",
}


def _error(number: int) -> str:
    return _ERRORS.get(number, f"error {number}")


__all__ = [
    "FRAME_MS",
    "RATE",
    "OpusDecoder",
    "OpusEncoder",
    "OpusMissing",
    "available",
    "decode_all",
    "encode_all",
    "packet_ms",
    "silence",
]
