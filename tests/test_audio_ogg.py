"""Ogg Opus files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.audio.ogg import checksum, read_ogg, write_ogg
from xiaozhi_hub.audio.opus import encode_all
from xiaozhi_hub.audio.pcm import BadAudio
from xiaozhi_hub.core.flow import Packet, PcmChunk


def speechlike(seconds: float) -> tuple[Packet, ...]:
    noise = np.random.default_rng(1).normal(0, 3000, int(seconds * 24000)).astype(np.int16)
    return encode_all(PcmChunk(noise, 24000))


def test_packets_come_back_as_they_were() -> None:
    packets = speechlike(3.0)
    assert read_ogg(write_ogg(packets, 24000)) == [packet.data for packet in packets]


@settings(deadline=None, derandomize=True)
@given(st.lists(st.binary(min_size=1, max_size=1500), max_size=40))
def test_packets_of_any_size_come_back(datas: list[bytes]) -> None:
    assert read_ogg(write_ogg([Packet(data, 60) for data in datas], 16000)) == datas


def test_the_same_packets_make_the_same_file() -> None:
    assert write_ogg(speechlike(0.5), 24000) == write_ogg(speechlike(0.5), 24000)


def test_the_checksum_is_that_of_the_ogg_specification() -> None:
    # CRC-32 with polynomial 04c11db7, nothing inverted or mirrored (RFC 3533), computed bit by bit.
    data = bytes(range(256)) * 3
    register = 0
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ 0x04C11DB7 if register & 0x80000000 else register << 1) & 0xFFFFFFFF
    assert checksum(data) == register


def test_another_program_can_play_the_file() -> None:
    av = pytest.importorskip("av", reason="the voice extra is not installed")
    packets = speechlike(2.0)
    with av.open(io.BytesIO(write_ogg(packets, 24000))) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.name in ("opus", "libopus")
        samples = sum(frame.samples for frame in container.decode(stream))
    assert samples / 48 == pytest.approx(len(packets) * 60, abs=7)


def test_a_packet_that_got_lost_keeps_its_time() -> None:
    packets = read_ogg(write_ogg([Packet(b"", 60)], 16000))
    assert len(packets) == 1 and packets[0]


def test_a_file_without_sound_is_a_file() -> None:
    assert read_ogg(write_ogg([], 16000)) == []


def test_a_file_that_ends_too_early_is_read_as_far_as_it_goes() -> None:
    packets = [packet.data for packet in speechlike(5.0)]
    file = write_ogg([Packet(data, 60) for data in packets], 24000)
    got = read_ogg(file[: len(file) // 2])
    assert 10 < len(got) < len(packets)
    assert got == packets[: len(got)]


def test_a_damaged_page_ends_the_sound() -> None:
    packets = [packet.data for packet in speechlike(5.0)]
    file = bytearray(write_ogg([Packet(data, 60) for data in packets], 24000))
    file[-10] ^= 1
    got = read_ogg(bytes(file))
    assert 0 < len(got) < len(packets)
    assert got == packets[: len(got)]


@pytest.mark.parametrize("content", [b"", b"OggS", b"RIFF" + bytes(100), bytes(5000), write_ogg([], 1)[:20]])
def test_what_is_no_ogg_opus_file_is_refused_clearly(content: bytes) -> None:
    with pytest.raises(BadAudio, match="not an Ogg Opus file"):
        read_ogg(content)


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=300), st.integers(0, 4000))
def test_garbage_is_read_or_refused(garbage: bytes, at: int) -> None:
    file = write_ogg(speechlike(0.5), 24000)
    try:
        read_ogg(file[:at] + garbage + file[at + len(garbage) :])
    except BadAudio:
        pass
