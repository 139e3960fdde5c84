"""Silero voice activity detection, with the real model."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import voluptuous as vol
from recordings import SPEECH, needs_recordings

from xiaozhi_hub.audio.endpoint import Endpoint, Moment, Patience
from xiaozhi_hub.audio.pcm import read_wav, resample
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import NeedsAttention, StageError
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.loader import import_integration

silero = import_integration(builtin("integrations") / "silero_vad")
espeak = import_integration(builtin("integrations") / "espeak")
assets, blas, config, gates, networks, weights = (
    importlib.import_module(f"{silero.__name__}.{name}")
    for name in ("assets", "blas", "config", "gate", "network", "weights")
)
espeak_config = importlib.import_module(f"{espeak.__name__}.config")

FRAME = 960
"""Samples of one packet."""
Sound = np.ndarray[Any, np.dtype[np.int16]]


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[Any]:
    """The engine as the hub gets it: through the integration's hooks."""
    entry = Entry("silero_vad", config.SCHEMA(options))
    try:
        async with silero.entry_context(entry=entry):
            engines: list[Any] = []
            silero.register_engines(register=engines.append, entry=entry)
            yield engines[0]
    finally:
        await entry.scope.close()


async def spoken(text: str = "Please turn on the light in the kitchen.") -> Sound:
    """Synthetic speech at 16 kHz."""
    entry = Entry("espeak", espeak_config.SCHEMA({}))
    async with espeak.entry_context(entry=entry):
        chunks = [chunk async for chunk in entry.runtime.speak(SpeechRequest(text, "en"))]
    return resample(PcmChunk(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate), 16000).samples


def noise(seconds: float, loudness: float, seed: int = 0) -> Sound:
    return np.random.default_rng(seed).normal(0, loudness, int(16000 * seconds)).astype(np.int16)


def in_noise(sound: Sound, loudness: float, seconds: float = 1.5) -> Sound:
    """*sound* with *seconds* of a quiet room before and after it, and the room's noise under it."""
    quiet = np.zeros(int(16000 * seconds), np.int16)
    whole = np.concatenate((quiet, sound, quiet)).astype(np.int32)
    return np.clip(whole + noise(len(whole) / 16000, loudness)[: len(whole)], -32768, 32767).astype(np.int16)


async def probabilities(stream: Any, sound: Sound, frame: int = FRAME) -> list[float]:
    return [
        await stream.feed(PcmChunk(sound[at : at + frame], 16000)) for at in range(0, len(sound) - frame + 1, frame)
    ]


def one_shot(sound: Sound) -> Any:
    """All windows in one run of the model itself."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime, to compare with, is not installed")
    session = onnxruntime.InferenceSession(str(assets.find_model()), providers=["CPUExecutionProvider"])
    padded = np.concatenate((np.zeros(64, np.int16), sound)).astype(np.float32) / 32768
    windows = np.stack([padded[at : at + 576] for at in range(0, len(sound) - 511, 512)])
    state = np.zeros((1, 1, 128), np.float32)
    return session.run(None, {"input": windows, "h": state, "c": state})[0]


async def test_speech_is_told_from_silence_and_noise() -> None:
    async with started() as engine:
        speech = await probabilities(engine.open(), in_noise(await spoken(), 5))
        silence = await probabilities(engine.open(), np.zeros(32000, np.int16))
        hiss = await probabilities(engine.open(), noise(5, 300))
    assert max(speech) > 0.9
    assert sum(p > 0.5 for p in speech) * 0.06 > 1.0
    assert max(speech[:20]) < 0.3
    assert max(silence) < 0.1
    assert max(hiss) < 0.3


async def test_what_streams_in_is_heard_as_if_it_came_at_once() -> None:
    sound = in_noise(await spoken("Turn it on."), 5, 0.5)
    expected = one_shot(sound)
    async with started(gate=False) as engine:
        for frame in (512, 960, 320, 5000, 77):
            heard = await probabilities(engine.open(), sound, frame)
            for number, probability in enumerate(heard):
                windows = (number + 1) * frame // 512
                if windows:
                    assert probability == pytest.approx(float(expected[windows - 1]), abs=1e-3)


async def test_many_microphones_at_once_hear_what_each_would_hear_alone() -> None:
    speech = in_noise(await spoken(), 5, 0.5)
    sounds = [np.roll(speech, 700 * number)[: 16000 * 2] for number in range(30)]
    sounds += [noise(2, 100 * number, number) for number in range(10)]
    expected = [one_shot(sound) for sound in sounds]
    async with started(gate=False) as engine:
        frames = [(960, 960, 320, 1920)[number % 4] for number in range(len(sounds))]
        heard = await asyncio.gather(
            *(probabilities(engine.open(), sound, frame) for sound, frame in zip(sounds, frames, strict=True))
        )
        assert engine.computations < engine.windows / 10, "they were not computed together"
    for probability, reference, frame in zip(heard, expected, frames, strict=True):
        for number, value in enumerate(probability):
            windows = (number + 1) * frame // 512
            if windows:
                assert value == pytest.approx(float(reference[windows - 1]), abs=1e-3)


async def test_reset_forgets_what_was_heard() -> None:
    sound = in_noise(await spoken(), 5, 0.2)
    async with started() as engine:
        stream = engine.open()
        first = await probabilities(stream, sound)
        await probabilities(stream, sound[5000:20000])
        stream.reset()
        again = await probabilities(stream, sound)
    assert max(first) > 0.9
    assert again == pytest.approx(first, abs=1e-3)


async def test_a_cancelled_question_does_not_disturb_the_next() -> None:
    sound = in_noise(await spoken(), 5, 0.2)
    expected = one_shot(sound)
    async with started(gate=False) as engine:
        stream = engine.open()
        for at in range(0, 9600, FRAME):
            question = asyncio.ensure_future(stream.feed(PcmChunk(sound[at : at + FRAME], 16000)))
            await asyncio.sleep(0)
            question.cancel()
        probability = await stream.feed(PcmChunk(sound[9600:20480], 16000))
    assert probability == pytest.approx(float(expected[39]), abs=1e-3)


async def test_reset_during_a_question_is_not_undone_by_its_answer() -> None:
    sound = in_noise(await spoken(), 5, 0.2)
    async with started(gate=False) as engine:
        stream = engine.open()
        question = asyncio.ensure_future(stream.feed(PcmChunk(sound[:16000], 16000)))
        await asyncio.sleep(0)
        stream.reset()
        await question
        again = await probabilities(stream, sound)
        fresh = await probabilities(engine.open(), sound)
    assert again == pytest.approx(fresh, abs=1e-3)


async def test_matrices_are_not_divided_among_threads() -> None:
    if blas.threads() is None:
        pytest.skip("numpy does not bring OpenBLAS here")
    async with started():
        assert blas.threads() == 1


async def test_a_quiet_room_costs_almost_nothing() -> None:
    async with started() as engine:
        streams = [engine.open() for _ in range(10)]
        await asyncio.gather(*(probabilities(stream, noise(6, 20, n)) for n, stream in enumerate(streams)))
        asked = engine.windows / (10 * 6 * 16000 / 512)
    assert asked < 0.4


async def test_music_and_speech_are_never_left_out() -> None:
    """Nothing that changes is taken for noise."""
    gate = gates.Gate()
    for _ in range(100):
        quiet = gate.closed(noise(0.06, 20))
        if not quiet:
            gate.heard(0.01, FRAME)
    assert gate.closed(noise(0.06, 20))
    louder = noise(0.06, 20)
    louder[640:] *= 3
    assert not gate.closed(louder), "an onset in the last 20 ms"


def decisions(values: list[float]) -> list[tuple[Moment, int]]:
    """When a turn would begin and end, by frame; several turns one after another."""
    found = []
    endpoint = Endpoint(Patience())
    for number, probability in enumerate(values):
        moment = endpoint.feed(60, probability)
        if moment in (Moment.STARTED, Moment.ENDED):
            found.append((moment, number))
        if endpoint.ended:
            endpoint = Endpoint(Patience())
    return found


async def decided(sounds: list[Sound], **options: Any) -> list[list[tuple[Moment, int]]]:
    """What is decided about each sound, all microphones at once."""
    async with started(**options) as engine:
        heard = await asyncio.gather(*(probabilities(engine.open(), sound) for sound in sounds))
    return [decisions(values) for values in heard]


async def compare_decisions(sounds: list[Sound]) -> tuple[int, list[str]]:
    """Return how many decisions there are, and those that differ when the gate is used: beginnings by more than one frame, ends by more
    than two, because the faint end of a last word may be taken for silence."""
    gated, plain = await decided(sounds), await decided(sounds, gate=False)
    different = [
        f"{number}: {wanted} became {got}"
        for number, (wanted, got) in enumerate(zip(plain, gated, strict=True))
        if [moment for moment, _ in wanted] != [moment for moment, _ in got]
        or any(
            abs(a - b) > (2 if moment is Moment.ENDED else 1) for (moment, a), (_, b) in zip(wanted, got, strict=True)
        )
    ]
    return sum(len(wanted) for wanted in plain), different


async def test_the_gate_changes_no_decision_on_synthetic_speech() -> None:
    texts = ["Stop.", "What time is it?", "Set a timer for three hours and ten minutes.", "Six fish swim past."]
    sounds = [in_noise(await spoken(text), loudness) for text in texts for loudness in (0, 5, 40)]
    total, different = await compare_decisions(sounds)
    assert total >= 2 * len(sounds)
    assert different == []


@needs_recordings
async def test_the_gate_changes_at_most_one_recording_in_twenty() -> None:
    """Where the probability hovers at the threshold, the end may come some frames earlier or later."""
    files = sorted(SPEECH.glob("commands/*.wav"))
    assert files
    sounds = [in_noise(resample(read_wav(file.read_bytes()), 16000).samples, 3) for file in files]
    total, different = await compare_decisions(sounds)
    assert total >= 1.8 * len(files)
    assert len(different) <= len(files) / 20


@pytest.mark.parametrize("loudness", [0, 5, 60, 600])
async def test_a_fan_and_a_hum_are_not_speech(loudness: int) -> None:
    hum = 4 * loudness * np.sin(np.arange(16000 * 4) * 2 * np.pi * 50 / 16000)
    async with started() as engine:
        heard = await probabilities(engine.open(), noise(4, loudness) + hum.astype(np.int16))
    assert len(heard) > 60 and decisions(heard) == []


@needs_recordings
async def test_room_noise_is_not_speech() -> None:
    file = SPEECH / "background_noise.wav"
    async with started() as engine:
        heard = await probabilities(engine.open(), resample(read_wav(file.read_bytes()), 16000).samples)
    assert decisions(heard) == []


async def test_another_rate_is_refused() -> None:
    async with started() as engine:
        with pytest.raises(StageError, match="24000 Hz"):
            await engine.open().feed(PcmChunk(np.zeros(960, np.int16), 24000))


async def test_no_sound_changes_nothing() -> None:
    async with started() as engine:
        stream = engine.open()
        assert await stream.feed(PcmChunk(np.zeros(0, np.int16), 16000)) == 0.0


async def test_after_the_stop_questions_fail_at_once() -> None:
    async with started(gate=False) as engine:
        stream = engine.open()
    with pytest.raises(StageError, match="stopped"):
        await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))


async def test_questions_under_way_fail_when_it_stops() -> None:
    async with started(gate=False) as engine:
        streams = [engine.open() for _ in range(50)]
        questions = [asyncio.ensure_future(s.feed(PcmChunk(np.zeros(48000, np.int16), 16000))) for s in streams]
        await asyncio.sleep(0)
    results = await asyncio.wait_for(asyncio.gather(*questions, return_exceptions=True), 20)
    assert all(isinstance(result, StageError) for result in results)


# -- the model file -----------------------------------------------------------------------------------------------


async def refused(**options: Any) -> NeedsAttention:
    with pytest.raises(NeedsAttention) as caught:
        async with started(**options):
            pass
    assert "pip install" in caught.value.hint
    return caught.value


async def test_a_missing_package_is_named_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    error = await refused()
    assert "faster-whisper" in error.message
    assert "faster-whisper>=1.2.1,<1.3" in error.hint


async def test_another_version_of_the_package_is_named_with_what_it_brings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "faster_whisper" / "assets"
    folder.mkdir(parents=True)
    (tmp_path / "faster_whisper" / "__init__.py").touch()
    (folder / "silero_vad_v9.onnx").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "faster_whisper", raising=False)
    error = await refused()
    assert "silero_vad_v9.onnx" in error.message
    assert "silero_vad_v6.onnx" in error.message


async def test_a_file_of_ones_own_is_used(tmp_path: Path) -> None:
    copy = tmp_path / "silero_vad_v6.onnx"
    copy.write_bytes(assets.find_model().read_bytes())
    async with started(model=str(copy)) as engine:
        assert max(await probabilities(engine.open(), in_noise(await spoken(), 5))) > 0.9


@pytest.mark.parametrize(
    "content", [b"", b"not a model", b"\x00" * 100, b"\x3a\x05abcde", b"\x3a\xff\xff\xff\xff\x7f", bytes(range(256))]
)
async def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.onnx"
    file.write_bytes(content)
    assert "broken.onnx" in (await refused(model=str(file))).message


async def test_half_a_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "half.onnx"
    content = assets.find_model().read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert "half.onnx" in (await refused(model=str(file))).message


async def test_another_network_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "other.onnx"
    file.write_bytes(assets.find_model().read_bytes().replace(b"onnx::LSTM_210", b"onnx::LSTM_999"))
    assert "no onnx::LSTM_210" in (await refused(model=str(file))).message


async def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    assert "gone.onnx" in (await refused(model=str(tmp_path / "gone.onnx"))).message


def test_a_model_option_that_is_no_model_is_refused() -> None:
    with pytest.raises(vol.Invalid):
        config.SCHEMA({"model": "silero.pt"})
