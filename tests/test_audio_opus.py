"""Opus packets."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.audio.opus import (
    LIBRARY_VARIABLE,
    OpusDecoder,
    OpusEncoder,
    decode_all,
    encode_all,
    packet_ms,
    silence,
)
from xiaozhi_hub.audio.pcm import level
from xiaozhi_hub.core.flow import PcmChunk, Samples
from xiaozhi_hub.errors import ProtocolError


def tone(seconds: float, rate: int, hertz: float = 440.0, loudness: float = 0.3) -> Samples:
    time_ = np.arange(int(seconds * rate)) / rate
    return (np.sin(2 * np.pi * hertz * time_) * loudness * 32767).astype(np.int16)


def pitch(samples: Samples, rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
def test_a_tone_survives_encoding_and_decoding(rate: int) -> None:
    heard = decode_all([packet.data for packet in encode_all(PcmChunk(tone(1.0, 24000), 24000))], rate)
    assert heard.rate == rate
    assert pitch(heard.samples, rate) == pytest.approx(440, abs=2)
    assert level(heard.samples) == pytest.approx(level(tone(1.0, 24000)), abs=1)


def test_a_whole_sound_becomes_packets_of_60_ms_with_the_last_one_filled_up() -> None:
    packets = encode_all(PcmChunk(tone(0.2, 16000), 16000))
    assert [packet.ms for packet in packets] == [60, 60, 60, 60]
    assert [packet_ms(packet.data) for packet in packets] == [60, 60, 60, 60]
    assert sum(len(packet.data) for packet in packets) < 4 * 400


def test_nothing_becomes_no_packets() -> None:
    assert encode_all(PcmChunk(np.zeros(0, np.int16), 16000)) == ()


def test_the_same_sound_makes_the_same_packets() -> None:
    sound = PcmChunk(tone(0.5, 22050), 22050)
    assert encode_all(sound) == encode_all(sound)


@pytest.mark.parametrize(
    ("ms", "lengths"), [(0, []), (20, [20]), (60, [60]), (100, [60, 40]), (120, [60, 60]), (160, [60, 60, 40])]
)
def test_silence_has_the_length_asked_for(ms: int, lengths: list[float]) -> None:
    packets = silence(ms)
    assert [packet.ms for packet in packets] == lengths
    assert [packet_ms(packet.data) for packet in packets] == lengths
    assert not decode_all([packet.data for packet in packets], 24000).samples.any()


@pytest.mark.parametrize(
    ("first_bytes", "ms"),
    [
        (b"", 0.0),
        (bytes([0 << 3]), 10),
        (bytes([3 << 3]), 60),
        (bytes([1 << 3 | 1]), 40),
        (bytes([12 << 3]), 10),
        (bytes([15 << 3 | 2]), 40),
        (bytes([16 << 3]), 2.5),
        (bytes([31 << 3 | 3, 3]), 60),
        (bytes([31 << 3 | 3, 0x80 | 6]), 120),
        (bytes([31 << 3 | 3]), 0.0),
    ],
)
def test_the_length_of_a_packet_is_read_from_its_first_bytes(first_bytes: bytes, ms: float) -> None:
    assert packet_ms(first_bytes) == ms


@pytest.fixture
def decoder() -> OpusDecoder:
    return OpusDecoder(16000)


def test_dtx_packets_of_one_to_three_bytes_are_silence_of_full_length(decoder: OpusDecoder) -> None:
    with OpusEncoder(16000, 60, 0, None, dtx=True) as encoder:
        packets = [encoder.encode(np.zeros(960, np.int16)) for _ in range(40)]
    small = [packet for packet in packets if len(packet) <= 3]
    assert small, "the encoder made no DTX packets"
    for packet in small:
        assert len(decoder.decode(packet)) == 960


@pytest.mark.parametrize("packet", [b"\x08", b"\x18", b"\xf8", b"\x18\x00", b"\xfb\x03"])
def test_tiny_packets_are_valid(decoder: OpusDecoder, packet: bytes) -> None:
    assert len(decoder.decode(packet)) == packet_ms(packet) * 16


def test_a_lost_packet_is_concealed_for_as_long_as_the_one_before_it(decoder: OpusDecoder) -> None:
    assert len(decoder.decode(b"")) == 960
    with OpusEncoder(16000, 20) as encoder:
        decoder.decode(encoder.encode(tone(0.02, 16000)))
    assert len(decoder.decode(b"")) == 320


@pytest.mark.parametrize(
    ("name", "packet"),
    [
        ("longer than any speech", b"\x18" * 1501),
        ("longer than 120 ms", bytes([31 << 3 | 3, 48]) + b"\x00" * 96),
        ("a frame count of zero", bytes([31 << 3 | 3, 0, 1, 2])),
        ("two frames of odd length", bytes([31 << 3 | 1, 1, 2, 3])),
        ("a length beyond the end", bytes([31 << 3 | 2, 200, 1])),
    ],
)
def test_what_is_not_opus_is_refused_and_the_stream_goes_on(decoder: OpusDecoder, name: str, packet: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        decoder.decode(packet)
    assert not caught.value.close
    good = encode_all(PcmChunk(tone(0.06, 24000), 24000))[0].data
    assert len(decoder.decode(good)) == 960


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=1600))
def test_any_bytes_are_decoded_or_refused(packet: bytes) -> None:
    with OpusDecoder(16000) as decoder:
        try:
            assert 0 < len(decoder.decode(packet)) <= 1920
        except ProtocolError:
            pass


def test_a_reset_decoder_hears_as_a_new_one_does(decoder: OpusDecoder) -> None:
    packets = [packet.data for packet in encode_all(PcmChunk(tone(0.3, 24000), 24000))]
    first = [decoder.decode(packet) for packet in packets]
    decoder.reset()
    again = [decoder.decode(packet) for packet in packets]
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))


def test_what_was_decoded_stays_when_the_next_packet_comes(decoder: OpusDecoder) -> None:
    packets = encode_all(PcmChunk(tone(0.3, 24000), 24000))
    first = decoder.decode(packets[1].data)
    copy = first.copy()
    decoder.decode(packets[2].data)
    assert np.array_equal(first, copy)


def test_a_frame_of_the_wrong_size_is_an_error_of_the_caller() -> None:
    with OpusEncoder(24000, 60) as encoder, pytest.raises(ValueError, match="1440"):
        encoder.encode(np.zeros(1000, np.int16))


def test_closing_twice_is_harmless() -> None:
    decoder, encoder = OpusDecoder(), OpusEncoder()
    for _ in range(2):
        decoder.close()
        encoder.close()


def test_decoding_a_packet_costs_little(decoder: OpusDecoder) -> None:
    packets = [packet.data for packet in encode_all(PcmChunk(tone(3.0, 24000), 24000))]

    def cpu_ms() -> float:
        began = time.thread_time()
        for packet in packets:
            decoder.decode(packet)
        return (time.thread_time() - began) * 1000 / len(packets)

    assert min(cpu_ms() for _ in range(5)) < 0.3  # about 0.1 measured; slack for slow machines


def run(script: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        env={"PATH": "/usr/bin:/bin:/sbin", "PYTHONPATH": ":".join(path for path in sys.path if path), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


NO_SYSTEM_LIBRARY = "import sys, ctypes.util; ctypes.util.find_library = lambda name: None\n"


def test_without_a_system_library_the_one_beside_av_is_used_without_importing_av() -> None:
    pytest.importorskip("av", reason="the voice extra is not installed")
    script = NO_SYSTEM_LIBRARY + (
        "from xiaozhi_hub.audio.opus import OpusDecoder, library_path\n"
        "print('av' in library_path(), len(OpusDecoder().decode(b'')), 'av' in sys.modules)"
    )
    assert run(script).split() == ["True", "960", "False"]


def test_a_missing_library_is_said_in_one_line_with_the_cure() -> None:
    script = NO_SYSTEM_LIBRARY + (
        "sys.modules['av'] = None\n"
        "from xiaozhi_hub.audio.opus import OpusDecoder, OpusMissing, available\n"
        "print(available())\n"
        "try: OpusDecoder()\n"
        "except OpusMissing as error: print(error)"
    )
    available, message = run(script).splitlines()
    assert available == "False"
    assert "`voice`" in message and "apt install libopus0" in message


def test_a_configured_library_that_is_none_is_named() -> None:
    script = (
        "from xiaozhi_hub.audio.opus import OpusDecoder, OpusMissing\n"
        "try: OpusDecoder()\n"
        "except OpusMissing as error: print(error)"
    )
    assert "/nowhere/libopus.so" in run(script, **{LIBRARY_VARIABLE: "/nowhere/libopus.so"})
