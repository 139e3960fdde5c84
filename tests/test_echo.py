"""The scripted engines: text survives as sound, and every kind of trouble can be ordered."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import voluptuous as vol

from xiaozhi_hub.audio import opus
from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.core.flow import PcmChunk, TextDelta
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.engines.asr import Asr, AsrRequest
from xiaozhi_hub.engines.base import Engine, Role
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message, ToolRequest
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.engines.vad import Vad
from xiaozhi_hub.errors import StageError
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.loader import import_integration

echo = import_integration(builtin("integrations") / "echo")
config, tones = (importlib.import_module(f"{echo.__name__}.{name}") for name in ("config", "tones"))

TEXTS = [
    "turn on the kitchen light",
    "What time is it?",
    "打开厨房的灯",
    "x",
    "x" * 60,  # a tone that does not change
    "The quick brown fox jumps over 13 lazy dogs, and 50% of them don't mind.",
]


@dataclass
class Engines:
    vad: Any
    asr: Any
    llm: Any
    tts: Any


@asynccontextmanager
async def engines(**options: Any) -> AsyncIterator[Engines]:
    """The engines as the hub gets them: through the integration's hooks."""
    entry = Entry("echo", config.SCHEMA(options))
    async with echo.entry_context(entry=entry):
        found: dict[str, Engine] = {}
        echo.register_engines(register=lambda engine: found.update({engine.info.role.value: engine}), entry=entry)
        yield Engines(**found)


def over_opus(sound: PcmChunk, bitrate: int, complexity: int, to: int, lead: int = 0) -> PcmChunk:
    """What arrives when *sound* is sent as 60 ms packets."""
    padded = np.concatenate((np.zeros(lead, np.int16), sound.samples, np.zeros(sound.rate // 4, np.int16)))
    with opus.OpusEncoder(sound.rate, 60, complexity, bitrate) as encoder, opus.OpusDecoder(to) as decoder:
        frame = encoder.frame
        pieces = [
            decoder.decode(encoder.encode(padded[at : at + frame])) for at in range(0, len(padded) - frame + 1, frame)
        ]
    return PcmChunk(np.concatenate(pieces), to)


# -- the code -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", *TEXTS])
@pytest.mark.parametrize("rate", [16000, 22050, 24000, 48000])
def test_text_can_be_read_back(text: str, rate: int) -> None:
    assert tones.read_texts(tones.write_text(text, rate)) == [text]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize(
    ("rate", "bitrate", "complexity", "to"),
    [(16000, 24000, 0, 16000), (16000, 24000, 5, 16000), (16000, 24000, 10, 16000), (24000, 32000, 5, 24000)],
)
def test_text_survives_opus(text: str, rate: int, bitrate: int, complexity: int, to: int) -> None:
    for lead in (0, 333, 777):
        assert tones.read_text(over_opus(tones.write_text(text, rate), bitrate, complexity, to, lead)) == text


def test_text_survives_another_rate_noise_and_distance() -> None:
    random = np.random.default_rng(7)
    sound = resample(resample(tones.write_text(TEXTS[0], 24000), 48000), 16000)
    far = sound.samples * 0.05 + random.normal(0, 60, len(sound.samples))
    assert tones.read_text(PcmChunk(far.astype(np.int16), 16000)) == TEXTS[0]


def test_messages_after_one_another_are_all_read() -> None:
    gap = np.zeros(5000, np.int16)
    pieces = [part for text in TEXTS for part in (tones.write_text(text).samples, gap)]
    assert tones.read_texts(PcmChunk(np.concatenate(pieces), 16000)) == TEXTS
    joined = [tones.write_text(text).samples for text in TEXTS]
    assert tones.read_texts(PcmChunk(np.concatenate(joined), 16000)) == TEXTS


def test_half_a_message_is_nothing() -> None:
    sound = tones.write_text(TEXTS[0])
    assert tones.read_texts(PcmChunk(sound.samples[: len(sound.samples) // 2], 16000)) == []
    assert tones.read_texts(PcmChunk(sound.samples[len(sound.samples) // 2 :], 16000)) == []


@pytest.mark.parametrize("seconds", [0, 0.01, 3])
def test_noise_says_nothing(seconds: float) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, int(16000 * seconds)).astype(np.int16)
    assert tones.read_texts(PcmChunk(noise, 16000)) == []


def test_a_text_lasts_as_long_as_it_is_told_to() -> None:
    sound = tones.write_text("short", ms=3000)
    assert 2900 < sound.ms <= 3100
    assert tones.read_texts(sound) == ["short"]


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="2001 bytes"):
        tones.write_text("x" * 2001)


# -- the engines --------------------------------------------------------------------------------------------------


async def test_the_hub_gets_one_engine_for_each_part_of_a_turn() -> None:
    async with engines() as found:
        for engine, role, kind in (
            (found.vad, Role.VAD, Vad), (found.asr, Role.ASR, Asr), (found.llm, Role.LLM, Llm), (found.tts, Role.TTS, Tts),
        ):  # fmt: skip
            assert isinstance(engine, kind)
            assert (engine.info.id, engine.info.role) == ("echo", role)


async def test_loud_is_speech_and_soft_is_not() -> None:
    async with engines(vad={"threshold_dbfs": -40}) as found:
        stream = found.vad.open()
        loud, soft = np.full(960, 400, np.int16), np.full(960, 250, np.int16)  # -38 and -42 dBFS
        assert await stream.feed(PcmChunk(loud, 16000)) == 1.0
        assert await stream.feed(PcmChunk(soft, 16000)) == 0.0
        assert await stream.feed(PcmChunk(soft[:0], 16000)) == 0.0


async def hear(asr: Asr, sound: PcmChunk, languages: tuple[str, ...] = ("en", "zh-Hans")) -> Any:
    stream = asr.open(AsrRequest(languages))
    for at in range(0, len(sound.samples), 960):
        await stream.feed(PcmChunk(sound.samples[at : at + 960], sound.rate))
    try:
        return await stream.finish()
    finally:
        await stream.aclose()


@pytest.mark.parametrize(("text", "language"), [("turn on the light", "en"), ("打开灯", "zh-Hans")])
async def test_the_recogniser_reads_what_the_voice_says(text: str, language: str) -> None:
    async with engines() as found:
        chunks = [chunk async for chunk in found.tts.speak(SpeechRequest(text, language))]
        sound = PcmChunk(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate)
        transcript = await hear(found.asr, over_opus(sound, 24000, 5, 16000))
    assert (transcript.text, transcript.language) == (text, language)


async def test_the_recogniser_hears_nothing_in_noise() -> None:
    noise = np.random.default_rng(2).normal(0, 1000, 16000).astype(np.int16)
    async with engines() as found:
        assert (await hear(found.asr, PcmChunk(noise, 16000))).text == ""
        assert (await hear(found.asr, PcmChunk(noise[:0], 16000))).text == ""


async def test_the_recogniser_can_be_told_what_to_hear() -> None:
    noise = np.random.default_rng(2).normal(0, 1000, 16000).astype(np.int16)
    async with engines(asr={"say": "what time is it"}) as found:
        assert (await hear(found.asr, PcmChunk(noise, 16000))).text == "what time is it"


async def test_a_guess_is_made_once_for_the_same_sound() -> None:
    sound = tones.write_text("stop")
    async with engines() as found:
        stream = found.asr.open(AsrRequest(("en",)))
        await stream.feed(PcmChunk(sound.samples[:3000], 16000))
        assert (await stream.guess()).text == ""
        await stream.feed(PcmChunk(sound.samples[3000:], 16000))
        assert (await stream.guess()).text == "stop"
        assert (await stream.finish()).text == "stop"
        assert found.asr.behaviour.calls == 2


async def reply(llm: Llm, *messages: Message) -> tuple[str, list[ToolRequest]]:
    said, calls = "", []
    async with aclosing(llm.chat(ChatRequest(messages))) as items:
        async for item in items:
            if isinstance(item, TextDelta):
                said += item.text
            else:
                calls.append(item)
    return said, calls


SCRIPT = {
    "replies": {"Good night": "Sleep well."},
    "rules": [
        {"heard": "light", "say": "One moment.", "call": {"tool": "home.turn_on", "arguments": {"name": "Bed Light"}}},
        {"result_of": "home.turn_on", "say": "Done: {result}"},
        {"heard": "break", "say": "I am about", "fail": True},
    ],
}


@pytest.mark.parametrize(
    ("heard", "said"),
    [("good  NIGHT", "Sleep well."), ("How are you?", "You said: How are you?"), ("", "You said: ")],
)
async def test_the_model_replies_by_script(heard: str, said: str) -> None:
    async with engines(llm=SCRIPT) as found:
        assert await reply(found.llm, Message("system", "Be brief."), Message("user", heard)) == (said, [])


async def test_the_model_calls_a_tool_and_tells_its_result() -> None:
    question = Message("user", "Switch the light on")
    async with engines(llm=SCRIPT) as found:
        said, calls = await reply(found.llm, question)
        assert (said, calls) == ("One moment.", [ToolRequest("home.turn_on", {"name": "Bed Light"})])
        assert (await reply(found.llm, question, Message("tool", "it shines", "home.turn_on")))[0] == "Done: it shines"
        assert (await reply(found.llm, question, Message("tool", "as it is", "other.tool")))[0] == "as it is"


async def test_the_model_writes_word_by_word() -> None:
    async with engines(llm={"replies": {"a": "one two  three"}}) as found:
        items = [item.text async for item in found.llm.chat(ChatRequest([Message("user", "a")]))]
    assert items == ["one ", "two  ", "three"]


async def test_the_model_can_fail_in_the_middle() -> None:
    async with engines(llm=SCRIPT) as found:
        said = ""
        with pytest.raises(StageError):
            async for item in found.llm.chat(ChatRequest([Message("user", "break")])):
                said += item.text
    assert said == "I am about"


@pytest.mark.parametrize(
    ("options", "speed", "ms"),
    [({"ms": 4000}, 1.0, 4000), ({"ms_per_char": 200}, 1.0, 4000), ({"ms_per_char": 200}, 2.0, 2000)],
)
async def test_the_voice_lasts_as_long_as_it_is_told_to(options: dict[str, float], speed: float, ms: float) -> None:
    async with engines(tts=options) as found:
        chunks = [chunk async for chunk in found.tts.speak(SpeechRequest("x" * 20, "en", speed=speed))]
    assert abs(sum(chunk.ms for chunk in chunks) - ms) < 100


async def test_the_voice_can_fail_in_the_middle() -> None:
    async with engines(tts={"fail_after": 3}) as found:
        heard = 0
        with pytest.raises(StageError):
            async for _ in found.tts.speak(SpeechRequest("a long text", "en")):
                heard += 1
    assert heard == 3


async def use(found: Engines, role: str) -> None:
    """Make one of the engines work."""
    sound = tones.write_text("yes")
    if role == "vad":
        await found.vad.open().feed(sound)
    elif role == "asr":
        await hear(found.asr, sound)
    elif role == "llm":
        await reply(found.llm, Message("user", "yes"))
    else:
        async for _ in found.tts.speak(SpeechRequest("yes", "en")):
            pass


ROLES = ("vad", "asr", "llm", "tts")


@pytest.mark.parametrize("role", ROLES)
async def test_each_can_fail_some_times_or_always(role: str) -> None:
    async with engines(**{role: {"fail": 2}}) as found:
        for _ in range(2):
            with pytest.raises(StageError) as caught:
                await use(found, role)
            assert caught.value.stage == role
        await use(found, role)
    async with engines(**{role: {"fail": True}}) as found:
        for _ in range(3):
            with pytest.raises(StageError):
                await use(found, role)


@pytest.mark.parametrize("role", ROLES)
async def test_each_can_be_slow(role: str) -> None:
    loop = asyncio.get_running_loop()
    async with engines(**{role: {"delay": 0.05}}) as found:
        begun = loop.time()
        await use(found, role)
        assert loop.time() - begun >= 0.05


@pytest.mark.parametrize("role", ROLES)
async def test_each_can_hang_and_be_cancelled(role: str) -> None:
    async with engines(**{role: {"hang": True}}) as found:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await use(found, role)
        behaviour = getattr(found, role).behaviour
        assert (behaviour.calls, behaviour.cancelled) == (1, 1)


@pytest.mark.parametrize(
    "options",
    [
        {"asr": {"delay": -1}},
        {"asr": {"fail": -1}},
        {"llm": {"rules": [{"heard": "a", "result_of": "b"}]}},
        {"tts": {"ms": "long"}},
        {"vad": {"threshold": -3}},
        {"stt": {}},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(vol.Invalid):
        config.SCHEMA(options)
