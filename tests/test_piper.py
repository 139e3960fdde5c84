"""Piper voices: the real library on voices that hum, through a real hub and real sockets."""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_piper import RATE, SOUND_MS, write_voice

from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.audio.pcm import level
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.prewarm import PHRASES, Prewarm
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import NeedsAttention, StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.loader import import_integration
from xiaozhi_hub.testing import FakeDevice, TurnResult, running_hub

pytest.importorskip("piper", reason="piper-tts is not installed")

piper = import_integration(builtin("integrations") / "piper")
config, engine = (importlib.import_module(f"{piper.__name__}.{name}") for name in ("config", "engine"))

HOUSE = """
voice: {%s}
%s
integrations:
  demo:
  silero_vad: false
  phrases: false
  clock: false
  %s
"""

HubMaker = Callable[..., AbstractAsyncContextManager[Hub]]
SENTENCE = "The light in the kitchen is on."


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Where the hub looks for Piper voices."""
    return tmp_path / "config" / "data" / "models" / "piper"


@pytest.fixture
def hub_with(tmp_path: Path) -> HubMaker:
    """A hub without ears; *piper* and *others* are the configuration of integrations, *voice* and *more* of the hub."""

    def make(piper: str = "", others: str = "", voice: str = "", more: str = "") -> AbstractAsyncContextManager[Hub]:
        integrations = (f"piper: {{{piper}}}\n  " if piper else "") + others
        return running_hub(tmp_path / "config", HOUSE % (voice, more, integrations))

    return make


@asynccontextmanager
async def started(folder: Path, **options: Any) -> AsyncIterator[Tts]:
    """The engine alone."""
    async with engine.running(ModelShelf(folder.parent), config.SCHEMA(options), "en") as tts:
        yield tts


@asynccontextmanager
async def own_espeak() -> AsyncIterator[Tts]:
    """The other engine alone."""
    package = import_integration(builtin("integrations") / "espeak")
    schema = importlib.import_module(f"{package.__name__}.config").SCHEMA
    async with importlib.import_module(f"{package.__name__}.engine").running(schema({})) as tts:
        yield tts


def piper_of(hub: Hub) -> Tts:
    return next(voice for voice in hub.engines.ttss() if voice.info.id == "piper")


def entry_of(hub: Hub) -> Entry:
    return next(entry for entry in hub.plugins.entries if entry.domain == "piper")


async def sound_of(engine: Tts, text: str, language: str = "en", **more: Any) -> np.ndarray[Any, Any]:
    chunks = [chunk.samples async for chunk in engine.speak(SpeechRequest(text, language, **more))]
    return np.concatenate(chunks) if chunks else np.zeros(0, np.int16)


def device(hub: Hub, number: int = 1, **more: Any) -> FakeDevice:
    return FakeDevice(
        ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=f"02:00:00:00:00:{number:02x}", mode="manual", **more
    )


def heard_hz(result: TurnResult) -> float:
    """The middle of the spectrum of what came out of the speaker."""
    return middle_hz(decode_all([packet.data for packet in result.packets], result.rate).samples, result.rate)


def middle_hz(samples: np.ndarray[Any, Any], rate: int = RATE) -> float:
    power = np.abs(np.fft.rfft(samples.astype(np.float64))) ** 2
    return float(np.sum(np.fft.rfftfreq(len(samples), 1 / rate) * power) / np.sum(power))


# -- a voice is there ---------------------------------------------------------------------------------------------


async def test_an_installed_voice_speaks_before_espeak(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with hub_with() as hub:
        assert [voice.info.id for voice in hub.engines.ttss((), "en")] == ["piper", "espeak"]
        assert [voice.info.id for voice in hub.engines.ttss((), "zh-Hans")] == ["espeak"]
        async with device(hub) as speaker:
            answer = await speaker.ask_text("turn on the bed light")
    assert answer.said == "Turned on the Bed Light."
    sounds = answer.packets
    assert level(decode_all([packet.data for packet in sounds[4:12]], answer.rate).samples) > -25, (
        "a voice that hums is loud"
    )
    assert entry_of(hub).state is EntryState.READY


async def test_each_language_has_its_own_voice(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    write_voice(voices, "zh_CN-hum-low", "zh")
    async with hub_with() as hub:
        piper = piper_of(hub)
        assert piper.info.languages == ("en", "zh-Hans")
        assert len(await sound_of(piper, "厨房的灯开了。", "zh-Hans")) > RATE / 2
        assert "zh_CN-hum-low" in piper.voice_key(SpeechRequest("a", "zh-Hans"))
        assert "en_US-hum-low" in piper.voice_key(SpeechRequest("a", "en"))
        async with device(hub, language="zh-CN") as speaker:
            answer = await speaker.ask_text("打开床头灯")
    assert answer.said and answer.packets


async def test_chinese_commas_are_pauses(voices: Path) -> None:
    """The mark reaches the voice as a sound of its own, followed by a space."""
    write_voice(voices, "zh_CN-hum-low", "zh")
    async with started(voices) as tts:
        with_pause = await sound_of(tts, "你好，打开了", "zh-Hans")
        without = await sound_of(tts, "你好打开了", "zh-Hans")
    assert len(with_pause) >= len(without) + 2 * SOUND_MS * RATE // 1000


async def test_each_sentence_is_handed_over_when_it_is_ready(voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with started(voices) as tts:
        one, two = await sound_of(tts, "Number one is here."), await sound_of(tts, "Number two is here.")
        both = await sound_of(tts, "Number one is here. Number two is here.")
        first: list[int] = []
        async with aclosing(tts.speak(SpeechRequest("Number one is here. " * 20, "en"))) as chunks:
            async for chunk in chunks:
                first.append(len(chunk.samples))
                break
    assert np.array_equal(both, np.concatenate((one, two)))
    assert first[0] == RATE * 240 // 1000, "the first packets do not wait for a whole sentence to be encoded"


async def test_leaving_stops_before_the_next_sentence(voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with started(voices) as tts:
        studio: Any = tts._studio  # type: ignore[attr-defined]
        computed: list[str] = []
        say = studio.say

        def counting(*arguments: Any) -> Any:
            for sound in say(*arguments):
                computed.append("sentence")
                yield sound

        studio.say = counting
        async with aclosing(tts.speak(SpeechRequest("Number one is here. " * 30, "en"))) as chunks:
            await anext(chunks)
        assert len(await sound_of(tts, "Somebody else.")) > 0  # the thread has seen that nobody listens
    assert len(computed) < 5


async def test_an_interrupted_answer_leaves_the_voice_to_others(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with hub_with() as hub, device(hub) as speaker:
        talk = asyncio.create_task(speaker.ask_text("turn off the bed light"))
        await speaker.speaking()
        await speaker.abort()
        await talk
        assert (await speaker.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


# -- how it speaks ------------------------------------------------------------------------------------------------


async def test_speed_and_length_scale_change_the_length(voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with started(voices, sentence_silence=0) as tts:
        normal, fast, slow = [len(await sound_of(tts, SENTENCE, speed=speed)) for speed in (1.0, 2.0, 0.5)]
    async with started(voices, sentence_silence=0, length_scale=2) as tts:
        drawn = len(await sound_of(tts, SENTENCE))
    assert fast == pytest.approx(normal / 2, rel=0.01)
    assert slow == drawn == pytest.approx(normal * 2, rel=0.01)


async def test_there_is_quiet_after_a_sentence_but_not_after_a_clause(voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with started(voices, sentence_silence=1.5) as tts:
        sentence = await sound_of(tts, "In the morning.")
        clause = await sound_of(tts, "In the morning,")
    assert not sentence[-int(1.4 * RATE) :].any()
    assert len(clause) < len(sentence) - RATE


async def test_a_speaker_is_chosen_by_name_number_or_request(voices: Path) -> None:
    write_voice(voices, "en_US-choir-low", speakers=3)
    async with started(voices) as tts:
        pitches = [middle_hz(await sound_of(tts, SENTENCE, voice=voice)) for voice in ("", "en_US-choir-low#1")]
        keys = {tts.voice_key(SpeechRequest("a", "en", voice)) for voice in ("", "en_US-choir-low#1")}
    async with started(voices, voices={"en": {"model": "en_US-choir-low", "speaker": "hummer1"}}) as tts:
        pitches.append(middle_hz(await sound_of(tts, SENTENCE)))
    async with started(voices, speaker=1) as tts:
        pitches.append(middle_hz(await sound_of(tts, SENTENCE)))
    assert len(keys) == 2
    assert pitches[1] == pitches[2] == pitches[3] > 1.3 * pitches[0]


async def test_the_key_of_a_voice_changes_with_its_files(voices: Path) -> None:
    keys = set()
    for described in ({}, {"inference": {"noise_scale": 0.1, "length_scale": 1.1, "noise_w": 0.2}}):
        write_voice(voices, "en_US-hum-low", **described)
        async with started(voices) as tts:
            keys.add(tts.voice_key(SpeechRequest("a", "en")))
            keys.add(tts.voice_key(SpeechRequest("a", "en", speed=1.5)))
    assert len(keys) == 4


async def test_only_so_many_voices_are_kept_in_memory(voices: Path) -> None:
    for number in range(3):
        write_voice(voices, f"en_US-hum{number}-low")
    async with started(voices, keep=2) as tts:
        studio: Any = tts._studio  # type: ignore[attr-defined]
        assert studio.loaded == ("en_US-hum0-low",), "the others wait until they are asked for"
        for number in (0, 1, 2):
            assert len(await sound_of(tts, "Here.", voice=f"en_US-hum{number}-low")) > 0
        assert studio.loaded == ("en_US-hum1-low", "en_US-hum2-low")


# -- an assistant's voice -----------------------------------------------------------------------------------------

ASSISTANTS = """
assistants: {deep: {voice: %s}}
devices: {"02:00:00:00:00:02": {assistant: deep}}
"""


async def test_an_assistant_has_the_voice_that_it_names(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-choir-low", speakers=3)
    async with hub_with(more=ASSISTANTS % '"en_US-choir-low#2"') as hub:
        async with device(hub, 1) as usual, device(hub, 2) as other:
            plain = await usual.ask_text("turn on the bed light")
            high = await other.ask_text("turn on the bed light")
    assert heard_hz(high) > 1.3 * heard_hz(plain)


async def test_an_unknown_voice_is_told_once_and_replaced(
    hub_with: HubMaker, voices: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_voice(voices, "en_US-hum-low")
    async with hub_with(more=ASSISTANTS % "martian") as hub, device(hub, 2) as speaker:
        with caplog.at_level(logging.WARNING):
            for state in ("on", "off", "on"):
                assert (await speaker.ask_text(f"turn {state} the bed light")).packets
        assert hub.speaker.cache_hits >= 1, "what the other voice said is kept as well"
    assert [record.getMessage() for record in caplog.records if "martian" in record.getMessage()] == [
        "no engine has the voice 'martian': piper speaks with its own"
    ]


async def test_a_voice_of_another_engine_is_found_there(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with hub_with() as hub:
        chain = hub.engines.ttss((), "en")
        request = SpeechRequest(SENTENCE, "en", voice="en-us+f3")
        who = {attempt[0].info.id async for attempt, _ in hub.speaker.synthesis.say(chain, request)}
    assert who == {"espeak"}


async def test_an_assistant_may_speak_louder(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    assistants = "assistants: {soft: {volume: 0.2}}\ndevices: {'02:00:00:00:00:02': {assistant: soft}}"
    async with hub_with(more=assistants) as hub, device(hub, 1) as usual, device(hub, 2) as soft:
        loud, quiet = [
            level(
                decode_all(
                    [p.data for p in (await each.ask_text("turn on the bed light")).packets[4:12]], 24000
                ).samples
            )
            for each in (usual, soft)
        ]
    assert loud - quiet == pytest.approx(14, abs=1.5)  # a fifth is 14 dB less


# -- something is wrong -------------------------------------------------------------------------------------------


async def test_without_a_voice_it_is_available_and_says_what_to_run(hub_with: HubMaker) -> None:
    async with hub_with() as hub:
        entry = entry_of(hub)
        assert entry.state is EntryState.AVAILABLE
        assert "xiaozhi-hub models recommend" in entry.hint
        assert not hub.problems
        assert [info.id for info in hub.engines.all() if info.role is Role.TTS] == ["espeak"]


async def test_without_a_voice_nothing_is_imported(tmp_path: Path) -> None:
    code = """
import asyncio, sys
from pathlib import Path
from xiaozhi_hub.testing import running_hub
async def main():
    async with running_hub(Path(sys.argv[1]), "integrations: {silero_vad: false, phrases: false}"):
        pass
asyncio.run(main())
print([name for name in sys.modules if name.split(".")[0] in ("piper", "onnxruntime")])
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    assert out.decode().strip().splitlines()[-1] == "[]"


async def test_a_voice_that_is_named_but_missing_fails_with_the_command(hub_with: HubMaker, voices: Path) -> None:
    async with hub_with("voices: {en: en_US-lessac-medium}") as hub:
        entry = entry_of(hub)
    assert entry.state is EntryState.FAILED
    assert "models download en_US-lessac-medium" in entry.hint


async def test_a_broken_voice_fails_and_names_the_file(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low", broken=True)
    async with hub_with() as hub:
        entry = entry_of(hub)
        assert entry.state is EntryState.FAILED
        assert "en_US-hum-low.onnx" in entry.reason
        assert "models download en_US-hum-low" in entry.hint
        assert [info.id for info in hub.engines.all() if info.role is Role.TTS] == ["espeak"]


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ({"phoneme_type": "pinyin"}, "fetch another model from the internet"),
        ({"audio": {}}, "does not describe a Piper voice"),
        ({"phoneme_id_map": {}}, "does not describe a Piper voice"),
        ({"num_speakers": "many"}, "does not describe a Piper voice"),
    ],
)
async def test_a_voice_that_cannot_work_is_refused(voices: Path, described: dict[str, Any], told: str) -> None:
    write_voice(voices, "zh_CN-hum-low", "zh", **described)
    with pytest.raises(NeedsAttention, match=told):
        async with started(voices):
            pass


async def test_a_refused_voice_does_not_silence_the_others(voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    write_voice(voices, "zh_CN-chaowen-medium", "zh", phoneme_type="pinyin")
    async with started(voices) as tts:
        assert tts.info.languages == ("en",)


async def test_a_refused_voice_that_is_asked_for_stops_the_start(voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    write_voice(voices, "zh_CN-chaowen-medium", "zh", phoneme_type="pinyin")
    with pytest.raises(NeedsAttention, match="zh_CN-chaowen-medium"):
        async with started(voices, voices={"zh-Hans": "zh_CN-chaowen-medium"}):
            pass


async def test_a_speaker_that_the_voice_lacks_is_refused_with_those_it_has(voices: Path) -> None:
    write_voice(voices, "en_US-choir-low", speakers=3)
    with pytest.raises(NeedsAttention, match="no speaker 'bass'") as caught:
        async with started(voices, voices={"en": {"model": "en_US-choir-low", "speaker": "bass"}}):
            pass
    assert "hummer0, hummer1, hummer2" in caught.value.hint


async def test_only_voices_of_other_languages_are_no_voices(voices: Path) -> None:
    write_voice(voices, "de_DE-hum-low", "de")
    with pytest.raises(NeedsAttention, match="None of the Piper voices speaks English or Chinese"):
        async with started(voices):
            pass


async def test_a_path_to_a_voice_is_taken_as_it_is(voices: Path, tmp_path: Path) -> None:
    write_voice(tmp_path / "stick" / "a", "first")
    here = write_voice(tmp_path / "stick" / "b", "second")
    for name in ("first.onnx", "first.onnx.json"):
        (tmp_path / "stick" / "a" / "first" / name).rename(here.parent / name)
    async with started(voices, voices={"en": str(here)}) as tts:
        assert tts.info.detail == "second"
        assert len(await sound_of(tts, SENTENCE)) > RATE


async def test_odd_characters_do_not_stop_the_voice(voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with started(voices) as tts:
        assert len(await sound_of(tts, "a\0b <speak> \ud800 & [[not phonemes]] 🙂 done")) > RATE / 2
        assert len(await sound_of(tts, " \n\t\0")) == 0


async def test_espeak_speaks_when_a_voice_fails_at_last(hub_with: HubMaker, voices: Path) -> None:
    """The second voice is read when it is first needed; that its file is broken costs the person nothing."""
    write_voice(voices, "en_US-hum-low")
    write_voice(voices, "zh_CN-hum-low", "zh", broken=True)
    async with hub_with() as hub:
        with pytest.raises(StageError, match="cannot be used"):
            await sound_of(piper_of(hub), "你好", "zh-Hans")
        async with device(hub, language="zh-CN") as speaker:
            answer = await speaker.ask_text("打开床头灯")
        assert answer.said and answer.packets
        assert (await sound_of(piper_of(hub), SENTENCE)).any(), "the other voice goes on"


async def test_who_fails_in_the_middle_of_a_sentence_is_replaced_within_it(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with hub_with() as hub:
        studio: Any = piper_of(hub)._studio  # type: ignore[attr-defined]
        say = studio.say

        def failing(voice: Any, text: str, *more: Any) -> Any:
            yield next(say(voice, "Half.", *more))
            raise RuntimeError("out of memory")

        studio.say = failing
        async with device(hub) as speaker:
            broken = await speaker.ask_text("turn on the bed light")
            whole = await speaker.ask_text("turn off the bed light")
    assert broken.said == "Turned on the Bed Light.", "eSpeak says what Piper could not"
    assert not broken.alerts
    assert whole.said == "Turned off the Bed Light."


# -- what is kept -------------------------------------------------------------------------------------------------


def count_said(hub: Hub) -> list[str]:
    """The texts that Piper computes from now on."""
    studio: Any = piper_of(hub)._studio  # type: ignore[attr-defined]
    said: list[str] = []
    say = studio.say

    def counting(voice: Any, text: str, *more: Any) -> Any:
        said.append(text)
        return say(voice, text, *more)

    studio.say = counting
    return said


async def test_a_phrase_is_computed_once_and_after_a_restart_not_again(hub_with: HubMaker, voices: Path) -> None:
    write_voice(voices, "en_US-hum-low")
    async with hub_with(voice="phrase_cache_mb: 1") as hub, device(hub) as speaker:
        said = count_said(hub)
        first = await speaker.ask_text("turn on the bed light")
        await speaker.ask_text("turn on the bed light")
        assert said == ["Turned on the Bed Light."]
    async with hub_with(voice="phrase_cache_mb: 1") as hub, device(hub) as speaker:
        said = count_said(hub)
        again = await speaker.ask_text("turn on the bed light")
        assert said == []
    assert [packet.data for packet in again.packets[-20:]] == [packet.data for packet in first.packets[-20:]]


async def test_usual_phrases_are_ready_before_anybody_needs_them(
    hub_with: HubMaker, voices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi_hub.dialog.prewarm.START_SECONDS", 0.0)
    write_voice(voices, "en_US-hum-low")
    write_voice(voices, "zh_CN-hum-low", "zh")
    async with hub_with(more="devices: {'02:00:00:00:00:02': {language: zh-Hans}}") as hub:
        async with asyncio.timeout(20):
            while hub.prewarm.done < 2 * len(PHRASES):
                await asyncio.sleep(0.01)
        said = count_said(hub)
        async with device(hub, 1) as english, device(hub, 2) as chinese:
            answers = [await each.ask_text("xyzzy") for each in (english, chinese)]
        assert said == []
    assert [answer.said for answer in answers] == [
        hub.texts.text("spoken.not_known", language) for language in ("en", "zh-Hans")
    ]


async def test_usual_phrases_wait_while_somebody_talks(
    hub_with: HubMaker, voices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi_hub.dialog.prewarm.QUIET_LOOK_SECONDS", 0.01)
    write_voice(voices, "en_US-hum-low")
    async with hub_with() as hub, TaskScope("test") as scope:
        prewarm = Prewarm(hub.parts, lambda: {"en"}, hub.devices.quiet, start_seconds=0)
        async with device(hub) as speaker:
            await speaker.ask_text("turn on the bed light")
            scope.start(prewarm.run(), name="prewarm")
            await asyncio.sleep(0.3)
            assert prewarm.done == 0
        async with asyncio.timeout(20):
            while prewarm.done < len(PHRASES):
                await asyncio.sleep(0.01)


async def test_a_usual_phrase_is_given_up_when_somebody_speaks(
    hub_with: HubMaker, voices: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xiaozhi_hub.dialog.prewarm.QUIET_LOOK_SECONDS", 0.01)
    write_voice(voices, "en_US-hum-low")
    async with hub_with() as hub, TaskScope("test") as scope:
        quiet, begun, left = True, asyncio.Event(), asyncio.Event()
        speak = piper_of(hub).speak

        async def slow(request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
            begun.set()
            try:
                await asyncio.sleep(20)
            finally:
                left.set()
            yield await anext(speak(request))

        monkeypatch.setattr(piper_of(hub), "speak", slow)
        prewarm = Prewarm(hub.parts, lambda: {"en"}, lambda: quiet, start_seconds=0)
        scope.start(prewarm.run(), name="prewarm")
        async with asyncio.timeout(20):
            await begun.wait()
            quiet = False
            await left.wait()
        assert prewarm.done == 0


async def test_a_quick_voice_makes_nothing_in_advance(hub_with: HubMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xiaozhi_hub.dialog.prewarm.START_SECONDS", 0.0)
    async with hub_with() as hub:
        assert hub.prewarm._requests() == []


# -- one eSpeak for each ------------------------------------------------------------------------------------------


async def test_espeak_and_piper_speak_at_once_as_each_does_alone(voices: Path) -> None:
    """Piper's phonemiser and the eSpeak voice are the same library with global variables: each has its own copy."""
    write_voice(voices, "en_US-hum-low")
    write_voice(voices, "zh_CN-hum-low", "zh")
    texts = [
        (f"Light number {number} is on, and the door is open.", "en")
        if number % 2
        else (f"第{number}盏灯开了，门也开了。", "zh-Hans")
        for number in range(50)
    ]

    async def all_by(engine: Tts) -> list[np.ndarray[Any, Any]]:
        return [await sound_of(engine, text, language) for text, language in texts]

    async with own_espeak() as espeak:  # begins with a fresh copy: what eSpeak says depends on what it said before
        espeak_alone = await all_by(espeak)
    async with started(voices) as piper:
        piper_alone = await all_by(piper)
    async with own_espeak() as espeak, started(voices) as piper:
        together = await asyncio.gather(all_by(espeak), all_by(piper))
    for said, alone in zip(together, (espeak_alone, piper_alone), strict=True):
        assert all(np.array_equal(*pair) for pair in zip(said, alone, strict=True))


async def test_two_hubs_in_one_process_have_an_espeak_each(tmp_path: Path) -> None:
    house = HOUSE % ("", "", "piper: false")
    texts = [f"This is number {number}." for number in range(20)]

    async def all_by(hub: Hub) -> list[np.ndarray[Any, Any]]:
        return [await sound_of(hub.engines.ttss()[0], text) for text in texts]

    async with running_hub(tmp_path / "one", house) as one:
        alone = await all_by(one)
    async with running_hub(tmp_path / "two", house) as two, running_hub(tmp_path / "three", house) as three:
        for said in await asyncio.gather(all_by(two), all_by(three)):
            assert all(np.array_equal(*pair) for pair in zip(said, alone, strict=True))
