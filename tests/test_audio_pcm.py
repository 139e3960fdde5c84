"""Rates, levels and WAV files."""

from __future__ import annotations

import io
import struct
import wave

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.audio.pcm import SILENT_DBFS, BadAudio, Resampler, level, read_wav, resample, trim_start, write_wav
from xiaozhi_hub.core.flow import PcmChunk, Samples


def tone(seconds: float, rate: int, hertz: float = 440.0) -> Samples:
    return (np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate) * 10000).astype(np.int16)


def pitch(samples: Samples, rate: int) -> float:
    return float(np.argmax(np.abs(np.fft.rfft(samples))) * rate / len(samples))


@pytest.mark.parametrize(("from_rate", "to_rate"), [(22050, 24000), (16000, 24000), (24000, 16000), (44100, 16000)])
def test_resampling_keeps_length_pitch_and_loudness(from_rate: int, to_rate: int) -> None:
    there = resample(PcmChunk(tone(1.0, from_rate), from_rate), to_rate)
    assert there.rate == to_rate
    assert there.ms == pytest.approx(1000, abs=1)
    assert pitch(there.samples, to_rate) == pytest.approx(440, abs=2)
    assert level(there.samples) == pytest.approx(level(tone(1.0, from_rate)), abs=0.2)


def test_resampled_silence_is_silence() -> None:
    assert not resample(PcmChunk(np.zeros(16000, np.int16), 16000), 24000).samples.any()


def test_the_same_rate_changes_nothing() -> None:
    sound = tone(0.1, 16000)
    assert resample(PcmChunk(sound, 16000), 16000).samples is sound
    resampler = Resampler(16000, 16000)
    assert resampler.feed(sound) is sound
    assert not len(resampler.flush())


def test_a_sound_in_pieces_is_resampled_as_one() -> None:
    sound = tone(1.0, 22050)
    resampler = Resampler(22050, 24000)
    pieces = [resampler.feed(sound[at : at + 700]) for at in range(0, len(sound), 700)]
    joined = np.concatenate([*pieces, resampler.flush()])
    whole = resample(PcmChunk(sound, 22050), 24000).samples
    assert len(joined) == len(whole)
    assert np.abs(joined.astype(int) - whole).max() <= 1


def test_loud_resampled_sound_does_not_wrap_around() -> None:
    square = np.where(np.arange(16000) // 20 % 2, 32767, -32768).astype(np.int16)
    there = resample(PcmChunk(square, 16000), 24000).samples
    assert np.abs(np.diff(there.astype(int))).max() < 65000


@pytest.mark.parametrize(
    ("samples", "dbfs"),
    [
        (np.zeros(0, np.int16), SILENT_DBFS),
        (np.zeros(100, np.int16), SILENT_DBFS),
        (np.full(100, -32768, np.int16), 0.0),
        (np.full(100, 3277, np.int16), -20.0),
    ],
)
def test_level_is_in_db_below_full_scale(samples: Samples, dbfs: float) -> None:
    assert level(samples) == pytest.approx(dbfs, abs=0.01)


def test_silence_before_a_sound_is_cut_to_a_few_ms() -> None:
    chunk = PcmChunk(np.concatenate([np.zeros(8000, np.int16), tone(0.1, 16000)]), 16000)
    assert trim_start(chunk, keep_ms=10).ms == pytest.approx(110, abs=1)


def test_a_silent_piece_is_cut_away_whole() -> None:
    assert not len(trim_start(PcmChunk(np.full(8000, 3, np.int16), 16000)).samples)


def test_a_sound_that_begins_at_once_is_left_alone() -> None:
    chunk = PcmChunk(tone(0.1, 16000)[1:], 16000)
    assert len(trim_start(chunk).samples) == len(chunk.samples)


# -- WAV ----------------------------------------------------------------------------------------------------------


def wav(frames: bytes, channels: int, width: int, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(width)
        writer.setframerate(rate)
        writer.writeframes(frames)
    return file.getvalue()


def with_header(kind: int, channels: int, rate: int, bits: int, data: bytes, extra: bytes = b"") -> bytes:
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", kind, channels, rate, rate * block, block, bits) + extra
    chunks = b"fmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


RAMP = np.arange(-30000, 30000, 60, dtype=np.int32)
ENCODED = {
    1: (RAMP // 256 + 128).astype(np.uint8).tobytes(),
    2: RAMP.astype("<i2").tobytes(),
    3: b"".join(struct.pack("<i", value * 65536)[1:] for value in RAMP.tolist()),
    4: (RAMP * 65536).astype("<i4").tobytes(),
}


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_every_usual_width_and_rate_is_read(width: int, rate: int) -> None:
    sound = read_wav(wav(ENCODED[width], 1, width, rate))
    assert sound.rate == rate
    assert np.abs(sound.samples - RAMP).max() <= (255 if width == 1 else 0)


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_stereo_is_mixed(width: int) -> None:
    frames = np.frombuffer(ENCODED[width], np.uint8).reshape(-1, width)
    silent = np.full_like(frames, 128 if width == 1 else 0)
    stereo = np.concatenate([frames, silent], axis=1).tobytes()
    assert np.abs(read_wav(wav(stereo, 2, width, 16000)).samples - RAMP / 2).max() <= (128 if width == 1 else 1)


def test_floats_and_extensible_headers_are_read() -> None:
    data = (RAMP / 32768).astype("<f4").tobytes()
    assert np.array_equal(read_wav(with_header(3, 1, 16000, 32, data)).samples, RAMP)
    extra = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + bytes(14)
    assert np.array_equal(read_wav(with_header(0xFFFE, 1, 16000, 16, ENCODED[2], extra)).samples, RAMP)


def test_what_is_written_can_be_read_by_us_and_by_others() -> None:
    chunk = PcmChunk(tone(0.1, 16000), 16000)
    file = write_wav(chunk)
    assert np.array_equal(read_wav(file).samples, chunk.samples)
    with wave.open(io.BytesIO(file)) as reader:
        assert reader.getparams()[:4] == (1, 2, 16000, 1600)


def test_other_chunks_are_skipped() -> None:
    file = wav(ENCODED[2], 1, 2, 16000)
    listed = file[:12] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + file[12:]
    assert np.array_equal(read_wav(listed).samples, RAMP)


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_a_file_from_a_pipe_is_read_to_its_end(size: int) -> None:
    file = bytearray(wav(ENCODED[2], 1, 2, 16000))
    file[40:44] = struct.pack("<I", size)
    assert np.array_equal(read_wav(bytes(file)).samples, RAMP)


def test_a_cut_file_is_read_as_far_as_it_goes() -> None:
    assert len(read_wav(wav(ENCODED[2], 1, 2, 16000)[: 44 + 101]).samples) == 50


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("nothing", b"", "not a WAV"),
        ("an Ogg file", b"OggS" + bytes(50), "not a WAV"),
        ("no sound", b"RIFF\x04\0\0\0WAVE", "no sound"),
        ("sound before its shape", b"RIFF\x04\0\0\0WAVEdata\x02\0\0\0\1\2", "does not say"),
        ("a-law", with_header(6, 1, 8000, 8, b"abc"), "format 6"),
        ("12 bits", with_header(1, 1, 8000, 12, b"abcd"), "12 bits"),
        ("no channels", with_header(1, 0, 8000, 16, b"abcd"), "0 channels"),
        ("an absurd rate", with_header(1, 1, 7, 16, b"abcd"), "7 samples per second"),
        ("a short header", b"RIFF\x04\0\0\0WAVEfmt \x02\0\0\0\1\2", "damaged header"),
    ],
)
def test_other_files_are_refused_with_the_reason(name: str, content: bytes, says: str) -> None:
    with pytest.raises(BadAudio, match=says):
        read_wav(content)


@settings(deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused(garbage: bytes) -> None:
    for content in (garbage, b"RIFF\0\0\0\0WAVE" + garbage, wav(b"", 1, 2, 16000)[:20] + garbage):
        try:
            read_wav(content)
        except BadAudio:
            pass
