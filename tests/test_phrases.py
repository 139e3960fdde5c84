"""The recogniser for known sentences, with real pocketsphinx on speech that eSpeak says, and on recordings where there are any."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import voluptuous as vol
from house import House
from phrases_engine import FOLDER, RATE, book, config, decoder, distance, heard, lexicon, spoken, started
from recordings import SPEECH, needs_recordings

from xiaozhi_hub.audio.endpoint import Patience
from xiaozhi_hub.audio.mic import Mic
from xiaozhi_hub.audio.opus import OpusDecoder
from xiaozhi_hub.audio.pcm import read_wav
from xiaozhi_hub.core.flow import Packet, PcmChunk, TurnInfo
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.hearing.hearing import Ears, Heard, Hearing
from xiaozhi_hub.engines.asr import AsrRequest
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import NeedsAttention, StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.manifest import read_manifest
from xiaozhi_hub.testing import FakeDevice, Utterance, running_hub


@pytest.mark.parametrize("said", ["set a timer for", "set standing light to", "good evening everybody"])
async def test_what_is_no_whole_sentence_is_none(said: str) -> None:
    async with started() as engine:
        await engine.learn(book())
        stream = engine.open(AsrRequest(("en",)))
        await stream.feed(PcmChunk(await spoken(said), RATE))
        guess = await stream.guess()
        await stream.aclose()
    assert guess.text == ""


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("what time is it", "what time is it"),
        ("turn on standing light", "turn on Standing Light"),
        ("turn off standing light", "turn off Standing Light"),
        ("set standing light to fifty percent", "set Standing Light to 50 percent"),
        ("set a timer for five minutes", "set a timer for 5 minutes"),
        ("set a timer for three hours and ten minutes", "set a timer for 3 hours and 10 minutes"),
        ("is the front door locked", "is the Front Door locked"),
    ],
)
async def test_a_sentence_is_heard_and_written_as_the_intents_expect(said: str, expected: str) -> None:
    async with started() as engine:
        await engine.learn(book())
        transcript = await heard(engine, await spoken(said))
    assert transcript.text == expected
    assert transcript.language == "en"
    assert transcript.confidence is not None and 0.25 <= transcript.confidence <= 1


async def test_other_speech_noise_and_silence_are_nothing() -> None:
    async with started() as engine:
        await engine.learn(book())
        for said in (
            "my brother lives in a small village near the mountains",
            "we should buy some new furniture",
            "once upon a time there was a king",
        ):
            assert (await heard(engine, await spoken(said))).text == "", said
        hiss = np.random.default_rng(1).normal(0, 300, 2 * RATE).astype(np.int16)
        assert (await heard(engine, hiss)).text == ""
        assert (await heard(engine, np.zeros(2 * RATE, np.int16))).text == ""
        assert (await heard(engine, np.zeros(0, np.int16))).text == ""


async def test_what_takes_longer_than_any_sentence_is_nothing() -> None:
    sound = await spoken("what time is it")
    async with started() as engine:
        await engine.learn(book())
        assert (await heard(engine, np.concatenate([sound] * 12))).text == ""


async def test_the_guess_is_reused_when_only_silence_follows() -> None:
    sound = await spoken("what time is it")
    noise = np.random.default_rng(2).normal(0, 20, RATE // 2).astype(np.int16)
    async with started() as engine:
        await engine.learn(book())
        stream = engine.open(AsrRequest(("en",)))
        await stream.feed(PcmChunk(sound, RATE))
        guess = await stream.guess()
        decoded = engine.decoded
        await stream.feed(PcmChunk(noise, RATE))
        assert await stream.finish() == guess
        assert engine.decoded == decoded
        assert guess.text == "what time is it"


async def test_what_is_said_after_the_guess_counts() -> None:
    whole = await spoken("set a timer for three hours, and ten minutes")
    async with started() as engine:
        await engine.learn(book())
        stream = engine.open(AsrRequest(("en",)))
        begin = len(await spoken("set a timer for three hours")) - RATE // 4
        await stream.feed(PcmChunk(whole[:begin], RATE))
        assert (await stream.guess()).text == "set a timer for 3 hours"
        await stream.feed(PcmChunk(whole[begin:], RATE))
        assert (await stream.finish()).text == "set a timer for 3 hours and 10 minutes"


async def test_what_is_said_after_a_guess_that_understood_nothing_counts_as_well() -> None:
    whole = await spoken("set a timer for three hours")
    async with started() as engine:
        await engine.learn(book())
        stream = engine.open(AsrRequest(("en",)))
        begin = len(await spoken("set a timer for")) - RATE // 4
        await stream.feed(PcmChunk(whole[:begin], RATE))
        assert (await stream.guess()).text == ""
        await stream.feed(PcmChunk(whole[begin:], RATE))
        assert (await stream.finish()).text == "set a timer for 3 hours"


async def test_who_talks_for_longer_than_any_sentence_keeps_nobody_waiting() -> None:
    sound = await spoken("what time is it")
    async with started() as engine:
        await engine.learn(book())
        decoded = engine.decoded
        stream = engine.open(AsrRequest(("en",), lead_ms=200))
        for _ in range(12):
            await stream.feed(PcmChunk(sound, RATE))
        assert (await stream.guess()).text == (await stream.finish()).text == ""
        await stream.aclose()
        assert engine.decoded == decoded


async def test_a_new_name_is_learned_and_an_old_one_forgotten() -> None:
    garden, light = await spoken("turn on garden pump"), await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book("Standing Light"))
        assert (await heard(engine, light)).text == "turn on Standing Light"
        await engine.learn(book("Garden Pump", version="2"))
        assert (await heard(engine, garden)).text == "turn on Garden Pump"
        assert (await heard(engine, light)).text != "turn on Standing Light"
        pid = engine.pid
        await engine.learn(book("Garden Pump", version="2"))
        assert engine.pid == pid


async def test_the_old_names_stay_in_use_while_new_ones_are_learned() -> None:
    light = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book("Standing Light"))
        learning = asyncio.create_task(engine.learn(book("Standing Light", "Garden Pump", version="2")))
        texts = [(await heard(engine, light)).text for _ in range(3)]
        await learning
        texts.append((await heard(engine, light)).text)
    assert set(texts) == {"turn on Standing Light"}


async def test_the_death_of_the_decoder_is_survived() -> None:
    light = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book())
        first = engine.pid
        os.kill(first, signal.SIGKILL)
        assert (await heard(engine, light)).text == "turn on Standing Light"
        assert engine.pid != first


async def test_the_death_of_the_decoder_while_it_learns_is_survived() -> None:
    light = await spoken("turn on standing light")
    async with started() as engine, asyncio.timeout(20):
        first = engine.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)  # it will not answer what it is taught before it dies
        learning = asyncio.create_task(engine.learn(book()))
        while not any(task.get_name() == "worker-phrases/learn" for task in asyncio.all_tasks()):
            await asyncio.sleep(0.01)
        os.kill(first, signal.SIGKILL)
        await learning
        assert (await heard(engine, light)).text == "turn on Standing Light"


async def test_a_decoder_that_fails_in_the_middle_of_an_utterance_is_taught_anew_and_hears() -> None:
    light = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book())
        pid = engine.pid
        for broken in ("no sound", None):
            with pytest.raises(
                RuntimeError
            ):  # its library takes bytes only, and finds out after the utterance was begun
                await engine._process.call("recognise", "1", False, "x" * 4 * RATE if broken else None)
            assert (await heard(engine, light)).text == "turn on Standing Light"
        assert engine.pid == pid


async def test_a_decoder_that_fails_again_and_again_is_a_recogniser_that_failed() -> None:
    async with started() as engine:
        await engine.learn(book())
        stream = engine.open(AsrRequest(("en",)))
        await stream.feed(PcmChunk(await spoken("turn on standing light"), RATE))
        await engine._process.call("__setattr__", "_search", None)
        with pytest.raises(StageError) as caught:
            await stream.guess()
        assert caught.value.code == "recogniser-failed"
        await stream.aclose()


async def test_what_the_decoder_cannot_learn_leaves_it_knowing_what_it_did() -> None:
    light = await spoken("turn on standing light")
    async with started() as engine:
        await engine.learn(book())
        with pytest.raises(RuntimeError):
            await engine._process.call("learn", "2", [(False, (0, 2, [(0, 1, "light", 1.0)], None, ()))], (), {})
        assert (await heard(engine, light)).text == "turn on Standing Light"


async def test_who_speaks_while_new_names_are_being_learned_is_understood_with_them() -> None:
    pump = await spoken("turn on garden pump")
    async with started() as engine, TaskScope("t") as scope, asyncio.timeout(60):
        await engine.learn(book("Standing Light"))
        call, asked = engine._process.call, asyncio.Event()

        def noted(method: str, *arguments: Any) -> Any:
            if method == "learn":
                asked.set()
            return call(method, *arguments)

        engine._process.call = noted
        learning = scope.start(engine.learn(book("Garden Pump", version="2")), name="learn")
        await asked.wait()
        assert (await heard(engine, pump)).text == "turn on Garden Pump"
        await learning


async def test_nothing_can_be_heard_before_sentences_are_known() -> None:
    async with started() as engine:
        with pytest.raises(StageError, match="has not learned"):
            await heard(engine, await spoken("what time is it"))


async def test_sentences_of_another_language_are_not_learned() -> None:
    sound = await spoken("what time is it")
    async with started() as engine:
        await engine.learn(book())
        await engine.learn(book("灯", version="zh", language="zh", sentences="打开{name}"))
        assert (await heard(engine, sound)).text == "what time is it"
        assert engine.info.languages == ("en",)
        assert engine.info.role is Role.ASR


async def test_a_bare_answer_is_heard_only_after_a_question() -> None:
    sound = await spoken("in the living room")
    async with started() as engine:
        await engine.learn(book(answers="in the (kitchen|living room)"))
        assert (await heard(engine, sound)).text == ""
        assert (await heard(engine, sound, answering=True)).text == "in the living room"


async def test_please_is_heard_and_left_out() -> None:
    house = House()
    await house.intents.rebuild()
    async with started() as engine:
        await engine.learn(house.intents.book("en"))
        assert (await heard(engine, await spoken("please turn on standing light"))).text == "turn on Standing Light"


async def test_a_decoder_that_cannot_run_asks_for_help(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "pocketsphinx.py").write_text("raise ImportError('no such library')")
    with pytest.raises(NeedsAttention) as caught:
        async with started():
            pass
    assert "pocketsphinx" in caught.value.hint


# -- pronunciations ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def words() -> Any:
    return decoder.create()._lexicon


def ways(words: Any, word: str, spelled: Sequence[str] = (), **overrides: Sequence[str]) -> set[str]:
    found = words.look_up([word], frozenset(spelled), {name: tuple(sounds) for name, sounds in overrides.items()})
    return {" ".join(way) for way in found.get(word, ())}


def test_a_known_word_is_said_as_in_the_dictionary(words: Any) -> None:
    assert ways(words, "timer") == {"T AY M ER"}
    assert {"AA N", "AO N"} <= ways(words, "on")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("ecobee", "EH K OW B IY"),
        ("zigbee", "Z IH G B IY"),
        ("unmute", "AH N M Y UW T"),
        ("roborock", "R OW B OW R AA K"),
    ],
)
def test_an_unknown_name_is_said_as_espeak_would_read_it(words: Any, word: str, expected: str) -> None:
    (found,) = ways(words, word)
    assert distance(found.split(), expected.split()) <= 1, found


def test_every_sound_that_espeak_writes_is_one_of_the_models(words: Any) -> None:
    assert {phone for sounds in lexicon.IPA.values() for phone in sounds.split()} <= config.PHONES
    assert {phone for sounds in lexicon.LETTERS.values() for phone in sounds.split()} <= config.PHONES
    assert lexicon.phones_of("tʃˈɛəɹ (en)d͡ʒʌɡ") == ("CH", "EH", "AH", "R", "JH", "AH", "G")


def test_a_name_in_capitals_may_be_spelled(words: Any) -> None:
    assert "EH N EY EH S" in ways(words, "nas", ["nas"])
    assert ways(words, "tv") == {"T IY V IY"}


def test_the_owner_knows_best_how_a_name_is_said(words: Any) -> None:
    assert ways(words, "ecobee", ecobee=("IY", "K", "OW", "B", "IY")) == {"IY K OW B IY"}
    assert ways(words, "xyzzy", xyzzy=("fizzy",)) == {"F IH Z IY"}


async def test_a_name_with_a_pronunciation_of_its_own_is_heard() -> None:
    sound = await spoken("turn on banana")
    async with started() as engine:
        await engine.learn(book("Qwx", sentences="turn (on|off) {name}"))
        assert (await heard(engine, sound)).text == ""
    async with started(pronunciations={"Qwx": "banana"}) as engine:
        await engine.learn(book("Qwx", sentences="turn (on|off) {name}"))
        assert (await heard(engine, sound)).text == "turn on Qwx"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"EcoBee": "EH K OW B IY"}, {"EcoBee": (("EH", "K", "OW", "B", "IY"),)}),
        ({"EcoBee": "eco bee"}, {"EcoBee": (("eco", "bee"),)}),
        ({"Tuin Licht": "T AW N, licked"}, {"Tuin Licht": (("T", "AW", "N"), ("licked",))}),
    ],
)
def test_a_pronunciation_is_phones_or_words(value: dict[str, str], expected: dict[str, Any]) -> None:
    assert config.SCHEMA({"pronunciations": value})["pronunciations"] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pronunciations": {"EcoBee": "EH K OO"}}, "EH K OW B IY"),
        ({"pronunciations": {"EcoBee": ""}}, "expected ARPAbet"),
        ({"pronunciations": {"EcoBee": 3}}, "expected a text"),
        ({"pronunciations": {"Tuin Licht": "town"}}, "has 2 words"),
        ({"threshold": 2}, "at most 1"),
        ({"treshold": 0.2}, "extra keys"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(vol.Invalid, match=message):
        config.SCHEMA(options)


# -- what surrounds it ------------------------------------------------------------------------------------------------


def test_the_manifest_says_what_it_needs() -> None:
    manifest = read_manifest(FOLDER)
    assert manifest.default and not manifest.online
    assert {"pocketsphinx", "piper-tts", "numpy"} == set(manifest.requirements)


# -- recordings -------------------------------------------------------------------------------------------------------


async def heard_by(hub: Hub, sound: PcmChunk) -> str:
    """What the hub hears of *sound* as a device sends it, from the first packet to the end of the turn."""
    mic = Mic()
    for packet in Utterance.of(sound).packets:
        mic.put(Packet(packet, 60))
    mic.finish()
    ears = Ears(OpusDecoder(RATE), hub.engines.vads()[0].open())
    hearing = Hearing(
        mic,
        ears,
        hub.engines.asrs((), "en"),
        AsrRequest(("en",)),
        patience=Patience(),
        judge=lambda text, language: hub.intents.book(language).completeness(text),
        stamp=lambda *_: None,
    )
    text = ""
    try:
        async with aclosing(hearing.run()) as events:
            async for event in events:
                if isinstance(event, Heard) and event.transcript is not None:
                    text = event.transcript.text
    finally:
        ears.decoder.close()
    return text


@needs_recordings
async def test_people_are_understood(tmp_path: Path) -> None:
    """At least 90 % right, at most 3 % wrong, and nothing done that nobody asked for."""
    right: list[str] = []
    wrong: list[str] = []
    missed: list[str] = []
    asker = TurnInfo("t", "s", "d", "en", "Office")
    async with running_hub(tmp_path, "integrations:\n  demo:\n") as hub:

        def meaning(text: str) -> Any:
            intent = hub.intents.recognise(text, asker) if text else None
            return None if intent is None else (intent.tool, sorted(map(str, intent.arguments.items())))

        for file in sorted((*SPEECH.glob("commands/*.wav"), *SPEECH.glob("neural/*.wav"))):
            text = await heard_by(hub, read_wav(file.read_bytes()))
            expected = None if file.name.startswith("oov_") else meaning(file.stem)
            if expected is None:
                assert not text, f"{file.name} became {text!r}"
            elif not text:
                missed.append(file.stem)
            else:
                (right if meaning(text) == expected else wrong).append(f"{file.stem} → {text}")
        assert not await heard_by(hub, read_wav((SPEECH / "background_noise.wav").read_bytes()))
    commands = len(right) + len(wrong) + len(missed)
    report = f"right {len(right)}, wrong {wrong}, missed {missed}"
    assert commands >= 40, report
    assert len(right) >= 0.9 * commands, report
    assert len(wrong) <= 0.03 * commands, report


ASKED = {
    "what time is it": "It is ",
    "set a timer for five minutes": "5 minute",
    "turn on the kitchen lights": "Turned on",
    "is the front door locked": "Front Door",
}
HEARD = {
    "set the bed light to fifty percent": "set the Bed Light to 50 percent",
    "open the sliding door": "open the Sliding Door",
    "what is the outdoor humidity": "what is the Outdoor Humidity",
    "cancel all timers": "cancel all timers",
    "the weather was lovely yesterday evening": "",
    "people often talk about other things": "",
}


async def test_the_hubs_own_voice_is_understood_by_the_whole_loop(tmp_path: Path) -> None:
    """Voice, microphone, end of speech, recogniser, intents, tools and the answer: as shipped, and through the protocol."""
    async with running_hub(tmp_path, "integrations:\n  demo:\n") as hub:
        (voice,) = (each for each in hub.engines.ttss((), "en") if each.info.id == "espeak")

        async def said(text: str) -> PcmChunk:
            pieces = [piece async for piece in voice.speak(SpeechRequest(text, "en"))]
            return PcmChunk(np.concatenate([piece.samples for piece in pieces]) // 2, pieces[0].rate)

        assert {text: await heard_by(hub, await said(text)) for text in HEARD} == HEARD
        fan = np.random.default_rng(1).normal(0, 300, 3 * RATE).astype(np.int16)
        assert await heard_by(hub, PcmChunk(fan, RATE)) == ""
        async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id="02:00:00:00:00:01") as speaker:
            for question, answer in ASKED.items():
                result = await speaker.ask(await said(question))
                assert answer in result.said, (question, result.heard, result.said)
                assert "first_voice" in result.stamps and not result.unplayable, "the answer sounds"
