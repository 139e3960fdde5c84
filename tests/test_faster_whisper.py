"""The Whisper recogniser: the real library on small models of our own making, through a real hub and a device."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, WSMsgType
from house import House
from recordings import SPEECH, needs_recordings
from tiny_whisper import Script, Shape, write_whisper

from xiaozhi_hub.audio.pcm import read_wav, resample
from xiaozhi_hub.core.flow import PcmChunk, Samples, TurnRecord
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.dialog.transcribe import transcribe
from xiaozhi_hub.engines.asr import AsrRequest
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import NeedsAttention, NotInstalled
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.loader import import_integration
from xiaozhi_hub.testing import FakeDevice, NoAnswer, running_hub

whisper = import_integration(builtin("integrations") / "faster_whisper")
config, desk, engines, guards, languages, models = (
    importlib.import_module(f"{whisper.__name__}.{name}")
    for name in ("config", "desk", "engine", "guards", "languages", "model")
)
RATE = 16000
SAYS = "tell me a story about frogs"
HUB = """
voice: {{tts: echo, llm: echo, silence: {silence}}}
integrations:
  echo:
  demo:
  espeak: false
  phrases: {phrases}
  faster_whisper: {{threads: 1, {options}}}
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Models by script, each written once."""
    folders: dict[tuple[Any, ...], Path] = {}

    def write(script: Script | None = None, shape: Shape | None = None) -> Path:
        key = (repr(script), shape)
        if key not in folders:
            folders[key] = write_whisper(tmp_path_factory.mktemp("models") / "faster_whisper" / "tiny", script, shape)
        return folders[key]

    return write


@pytest.fixture(scope="module")
def speech() -> PcmChunk:
    """A sentence of two seconds, said by eSpeak, at 16 kHz."""
    espeak = import_integration(builtin("integrations") / "espeak")
    schema = importlib.import_module(f"{espeak.__name__}.config").SCHEMA

    async def say() -> PcmChunk:
        entry = Entry("espeak", schema({}))
        async with espeak.entry_context(entry=entry):
            chunks = [chunk async for chunk in entry.runtime.speak(SpeechRequest(SAYS, "en"))]
        whole = PcmChunk(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate)
        sound = resample(whole, RATE).samples
        return PcmChunk(np.concatenate([np.zeros(RATE // 2, np.int16), sound // 2]), RATE)

    return asyncio.run(say())


@asynccontextmanager
async def started(folder: Path, **options: Any) -> AsyncIterator[Any]:
    """The engine, with the model in *folder*."""
    async with (
        TaskScope("test") as scope,
        engines.Whisper.running(
            ModelShelf(folder / "none"), config.SCHEMA({"model": str(folder), "threads": 1, **options}), scope
        ) as engine,
    ):
        yield engine


@asynccontextmanager
async def hub_with(
    tmp_path: Path, model: Path | None, options: str = "", *, phrases: str = "false", silence: str = "{}"
) -> AsyncIterator[tuple[Hub, Any]]:
    """A hub that hears with the model in *model*, and its engine."""
    chosen = f"model: {model}, {options}" if model is not None else options
    async with running_hub(tmp_path / "config", HUB.format(phrases=phrases, options=chosen, silence=silence)) as hub:
        found = [asr for asr in hub.engines.asrs() if asr.info.id == "faster_whisper"]
        yield hub, found[0] if found else None


def device(hub: Hub, number: int = 1, **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=f"02:00:00:00:00:{number:02x}", **more)


async def last_turn(hub: Hub) -> TurnRecord:
    async with asyncio.timeout(20):
        while not (turns := await hub.history.turns(1)):
            await asyncio.sleep(0.01)
    return turns[0]


async def hear(engine: Any, sound: Samples, *spoken: str) -> Any:
    stream = engine.open(AsrRequest(spoken or ("en",)))
    try:
        for at in range(0, len(sound), 960):
            await stream.feed(PcmChunk(sound[at : at + 960], RATE))
        return await stream.finish()
    finally:
        await stream.aclose()


# -- through a hub ------------------------------------------------------------------------------------------------


async def test_people_are_heard_by_two_devices_at_once(tmp_path: Path, written: Any, speech: PcmChunk) -> None:
    long = PcmChunk(np.concatenate([speech.samples, speech.samples[RATE // 2 :]]), RATE)
    async with (
        hub_with(tmp_path, written(Script(SAYS))) as (hub, engine),
        device(hub, 1) as one,
        device(hub, 2) as other,
    ):
        assert "Standing Light" in engine.recogniser.hot_words["en"]
        await asyncio.gather(one.say(long), other.say(speech))
        results = await asyncio.gather(one.answer(), other.answer())
        turn = await last_turn(hub)
    assert [(result.heard, result.said) for result in results] == [(SAYS, f"You said: {SAYS}")] * 2
    assert turn.confidence is not None and turn.confidence > 0.9
    assert engine.info.detail == "tiny" and engine.recogniser.desk.finals >= 2


@pytest.mark.parametrize("captions", [True, False])
async def test_a_client_reads_along_while_it_speaks_if_it_wants_to(
    tmp_path: Path, written: Any, speech: PcmChunk, captions: bool
) -> None:
    read: list[dict[str, Any]] = []
    async with hub_with(tmp_path, written(Script(SAYS))) as (hub, engine), ClientSession() as http:
        _, token = await hub.pairing.invite()
        async with http.ws_connect(
            f"{hub.local_url}/xiaozhi/v1/", headers={"Authorization": f"Bearer {token}"}
        ) as socket:
            sound = {"format": "pcm", "sample_rate": RATE, "channels": 1}
            await socket.send_json({"type": "hello", "captions": captions, "audio_params": sound})
            await socket.send_json({"type": "listen", "state": "start", "mode": "auto"})

            async def say(sound: Samples) -> None:
                for at in range(0, len(sound), RATE // 10):
                    await socket.send_bytes(sound[at : at + RATE // 10].tobytes())
                    await asyncio.sleep(0.1)

            async def speak() -> None:
                while not engine.recogniser.desk.partials:  # a busy machine has no time for them at once
                    await say(speech.samples)
                await say(speech.samples)
                await say(np.zeros(3 * RATE, np.int16))

            speaking = asyncio.create_task(speak())
            async with asyncio.timeout(180):
                async for frame in socket:
                    message = json.loads(frame.data) if frame.type is WSMsgType.TEXT else {}
                    read += [message] if message.get("type") == "stt" else []
                    if message.get("type") == "stt" and "state" not in message:
                        break
            speaking.cancel()
            await asyncio.gather(speaking, return_exceptions=True)
        assert engine.recogniser.desk.partials >= 1
    assert [message["text"] for message in read if message.get("state") == "partial"] == [SAYS] * captions
    assert read[-1]["text"] == SAYS


async def test_the_guess_in_the_silence_ends_the_turn(tmp_path: Path, written: Any, speech: PcmChunk) -> None:
    script = Script("what time is it")
    asked: list[float] = []
    patient = hub_with(tmp_path, written(script), "partials: false", silence="{unknown_ms: 5000, unfinished_ms: 5000}")
    async with patient as (hub, engine), device(hub) as speaker:
        recognise = engine.recogniser.desk.final
        engine.recogniser.desk.final = lambda *what: (asked.append(time.time()), recognise(*what))[1]
        result = await speaker.ask(speech)
        turn = await last_turn(hub)
    assert result.heard == "what time is it"
    assert turn.stamps["guess"] <= turn.stamps["endpoint"]  # a whole command: nobody waits any longer
    assert asked and max(asked) < turn.started_at + turn.stamps["endpoint"] / 1000  # nothing was left to recognise
    assert engine.recogniser.desk.partials == 0


async def test_without_a_model_it_is_merely_available(tmp_path: Path) -> None:
    async with running_hub(tmp_path / "config", "integrations: {phrases: false, espeak: false}\n") as hub:
        [entry] = [entry for entry in hub.plugins.entries if entry.domain == "faster_whisper"]
        assert entry.state is EntryState.AVAILABLE
        assert "xiaozhi-hub models" in entry.hint
        assert hub.engines.asrs() == ()


async def test_a_model_that_was_asked_for_and_is_not_there_is_a_fault_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotInstalled) as raised:
        async with engines.Whisper.running(ModelShelf(tmp_path), config.SCHEMA({"model": "base"}), TaskScope("t")):
            pass
    assert "xiaozhi-hub models download base" in raised.value.hint


@pytest.mark.parametrize("fault", ["cut off", "not a model", "empty"])
async def test_a_broken_model_has_a_reason_and_a_cure(tmp_path: Path, written: Any, fault: str) -> None:
    with pytest.raises(NeedsAttention) as raised:
        async with started(broken_model(tmp_path, written(Script(SAYS)), fault)):
            pass
    assert "broken cannot be loaded" in raised.value.message and "models verify broken" in raised.value.hint


async def test_a_way_to_compute_that_the_machine_lacks_is_named(written: Any) -> None:
    with pytest.raises(NeedsAttention) as raised:
        async with started(written(Script(SAYS)), compute_type="float16"):
            pass
    assert "float16" in raised.value.message and "int8" in raised.value.hint


async def test_a_broken_model_is_a_failed_state(tmp_path: Path, written: Any) -> None:
    broken = broken_model(tmp_path, written(Script(SAYS)), "cut off")
    async with hub_with(tmp_path, broken) as (hub, engine):
        [entry] = [entry for entry in hub.plugins.entries if entry.domain == "faster_whisper"]
        assert engine is None and entry.state is EntryState.FAILED
        assert "broken cannot be loaded" in entry.reason and "models verify broken" in entry.hint


def broken_model(folder: Path, good: Path, fault: str) -> Path:
    broken = folder / "broken"
    broken.mkdir()
    for path in good.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    whole = (good / "model.bin").read_bytes()
    faults = {"cut off": whole[: len(whole) // 2], "not a model": b"<html>" * 99, "empty": b""}
    (broken / "model.bin").write_bytes(faults[fault])
    return broken


@pytest.mark.parametrize("missing", ["tokenizer.json", "vocabulary.json", "model.bin"])
async def test_a_missing_file_is_named_and_nobody_is_asked_for_it(tmp_path: Path, written: Any, missing: str) -> None:
    good = written(Script(SAYS))
    for path in good.iterdir():
        if path.name != missing:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(NeedsAttention) as raised:
        async with started(tmp_path):
            pass
    assert not isinstance(raised.value, NotInstalled)
    assert missing in str(raised.value) and str(tmp_path) in str(raised.value)


async def test_a_chinese_device_is_heard_in_simplified_chinese(tmp_path: Path, written: Any, speech: PcmChunk) -> None:
    script = Script("客廳的燈請打開", hears={"zh": 24.0})
    async with (
        hub_with(tmp_path, written(script), phrases="") as (hub, _engine),
        device(hub, language="zh-CN") as speaker,
    ):
        result = await speaker.ask(speech)
    assert result.heard == "客厅的灯请打开"


async def test_a_chinese_device_without_a_model_is_told_that_only_english_is_understood(
    tmp_path: Path, speech: PcmChunk
) -> None:
    configuration = "voice: {tts: echo, asr: phrases}\nintegrations: {echo: , espeak: false, clock: false}\n"
    async with running_hub(tmp_path / "config", configuration) as hub, device(hub, language="zh-CN") as speaker:
        result = await speaker.ask(speech)
    assert "英语" in result.said


async def test_names_of_the_house_reach_the_decoder(written: Any, speech: PcmChunk) -> None:
    script = Script("it is one bright night", cue="Standing", says_with_cue="who owns that Standing light")
    house = House()
    await house.intents.rebuild()
    async with started(written(script), partials=False) as engine:
        await engine.learn(house.intents.book("en"))
        assert (await hear(engine, speech.samples)).text == "who owns that Standing light"
    async with started(written(script), partials=False, hot_words=False) as engine:
        await engine.learn(house.intents.book("en"))
        assert (await hear(engine, speech.samples)).text == "it is one bright night"


async def test_what_the_known_sentences_explain_is_not_put_to_whisper(
    tmp_path: Path, written: Any, speech: PcmChunk
) -> None:
    configuration = HUB.format(phrases="", silence="{}", options=f"model: {written(Script('not this'))}")
    async with running_hub(tmp_path / "config", configuration) as hub, device(hub) as speaker:
        [engine] = [asr for asr in hub.engines.asrs() if asr.info.id == "faster_whisper"]
        known = await speaker.ask(await _said("what time is it"))
        unknown = await speaker.ask(speech)
        recording = await transcribe(hub.parts, speech, "en")
    assert recording.text == "not this"
    assert known.heard == "what time is it"
    assert unknown.heard == "not this"
    assert engine.recogniser.desk.finals >= 1


async def _said(text: str) -> PcmChunk:
    espeak = import_integration(builtin("integrations") / "espeak")
    entry = Entry("espeak", importlib.import_module(f"{espeak.__name__}.config").SCHEMA({}))
    async with espeak.entry_context(entry=entry):
        chunks = [chunk async for chunk in entry.runtime.speak(SpeechRequest(text, "en"))]
    sound = resample(PcmChunk(np.concatenate([c.samples for c in chunks]), chunks[0].rate), RATE).samples
    return PcmChunk(np.concatenate([np.zeros(RATE // 2, np.int16), sound // 2]), RATE)


async def test_noise_in_the_room_does_not_become_text(tmp_path: Path, written: Any) -> None:
    async with hub_with(tmp_path, written(Script(SAYS))) as (hub, engine), device(hub) as speaker:
        with suppress(NoAnswer):  # it may ask back, if it takes that for speech at all
            await speaker.ask(PcmChunk(noise(3000), RATE), within=4.0)
        assert not any("stt" in line for line in speaker.conversation)
        assert len(engine.recogniser.model.encoded) == 1  # the run at the start


# -- the engine ---------------------------------------------------------------------------------------------------


def noise(level: float, seconds: float = 2.0) -> Samples:
    samples: Samples = np.random.default_rng(3).normal(0, level, int(RATE * seconds)).astype(np.int16)
    return samples


@pytest.mark.parametrize(
    "sound", [noise(0), noise(10), noise(300), noise(6000)], ids=["silence", "hiss", "a fan", "a waterfall"]
)
async def test_silence_and_noise_are_nothing_and_cost_nothing(written: Any, sound: Samples) -> None:
    async with started(written(Script(SAYS))) as engine:
        before = len(engine.recogniser.model.encoded)
        transcript = await hear(engine, sound)
        assert transcript.text == ""
        assert engine.recogniser.refused == 1
        assert len(engine.recogniser.model.encoded) == before


@needs_recordings
def test_people_are_not_taken_for_noise() -> None:
    taken = [
        path.name
        for path in sorted(SPEECH.rglob("*.wav"))
        if path.parent != SPEECH
        and not guards.is_speech(read_wav(path.read_bytes()).samples.astype(np.float32) / 32768)
    ]
    assert taken == []


async def test_a_synthesised_voice_is_not_taken_for_noise() -> None:
    for text in ("Stop.", "Turn on the light.", "Tell me what the weather will be like on Sunday in the mountains."):
        sound = await _said(text)
        assert guards.is_speech(sound.samples.astype(np.float32) / 32768), text


@pytest.mark.parametrize(
    "script",
    [
        Script("thanks for watching"),
        Script("maybe that is it", sure=10.0),
        Script("some words here", silent=40.0),
        Script("again and over", loops=True),
    ],
    ids=["a ghost", "a guess", "nobody speaks", "circles"],
)
async def test_what_the_model_makes_up_is_refused(written: Any, speech: PcmChunk, script: Script) -> None:
    async with started(written(script)) as engine:
        assert (await hear(engine, speech.samples)).text == ""
        assert engine.recogniser.refused == 1


async def test_the_devices_language_is_kept_unless_the_voice_shall_tell(written: Any, speech: PcmChunk) -> None:
    folder = written(Script(SAYS, hears={"fr": 30.0, "zh": 24.0, "en": 12.0}))
    async with started(folder) as engine:
        assert (await hear(engine, speech.samples, "en")).language == "en"
        assert (await hear(engine, speech.samples, "en", "zh-Hans")).language == "zh-Hans"  # offered; French is not
    async with started(folder, language="detect") as engine:
        assert (await hear(engine, speech.samples, "en")).language == "zh-Hans"
    async with started(folder, language="en") as engine:
        assert (await hear(engine, speech.samples, "zh-Hans")).language == "en"


async def test_a_model_for_english_says_so(written: Any, speech: PcmChunk) -> None:
    async with started(written(Script(SAYS, multilingual=False)), language="detect") as engine:
        assert engine.info.languages == ("en",)
        assert (await hear(engine, speech.samples, "zh-Hans", "en")).text == SAYS


async def test_the_window_fits_the_sound(written: Any, speech: PcmChunk) -> None:
    twice = np.tile(speech.samples, 5)[: 11 * RATE]
    async with started(written(Script(SAYS)), partials=False) as engine:
        await hear(engine, speech.samples)
        await hear(engine, twice)
        assert engine.recogniser.model.encoded[-2:] == [1000, 1500]
    async with started(written(Script(SAYS)), partials=False, window="whole") as engine:
        await hear(engine, speech.samples)
        assert engine.recogniser.model.encoded[-1] == 3000


async def test_a_doubtful_sentence_is_read_again_in_a_whole_window(written: Any, speech: PcmChunk) -> None:
    async with started(written(Script("perhaps it was this", sure=10.6)), partials=False) as engine:
        await hear(engine, speech.samples)
        assert engine.recogniser.model.encoded[-2:] == [1000, 3000]
        assert engine.recogniser.looked_again == 1


async def test_the_language_is_detected_without_looking_twice(written: Any, speech: PcmChunk) -> None:
    async with started(written(Script(SAYS)), partials=False, language="detect") as engine:
        before = len(engine.recogniser.model.encoded)
        await hear(engine, speech.samples)
        assert len(engine.recogniser.model.encoded) == before + 1


async def test_the_end_is_the_guess_when_only_silence_has_come(written: Any, speech: PcmChunk) -> None:
    async with started(written(Script(SAYS)), partials=False) as engine:
        stream = engine.open(AsrRequest(("en",)))
        await stream.feed(speech)
        guess = await stream.guess()
        await stream.feed(PcmChunk(noise(5, 0.5), RATE))
        assert await stream.finish() == guess
        assert engine.recogniser.desk.finals == 1
        await stream.feed(speech)
        assert (await stream.finish()).text == SAYS
        assert engine.recogniser.desk.finals == 2  # that was new
        await stream.aclose()


class Impatient(threading.Event):
    """Set as soon as it was asked so many times."""

    def __init__(self, patience: int) -> None:
        super().__init__()
        self.left = patience

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


async def test_work_that_nobody_waits_for_ends_at_its_next_step(written: Any, speech: PcmChunk) -> None:
    """The steps: encode, detect, generate, read. The next recognition is as good as ever."""
    sound = speech.samples.astype(np.float32) / 32768
    async with started(written(Script(SAYS))) as engine:
        task = models.Task(sound, ("en", "zh"), 5, (10, 15, 30))
        worker = Worker("other")
        asked = 0
        try:
            for patience in range(50):
                stop = Impatient(patience)
                try:
                    result = await worker.run(engine.recogniser.model.recognise, stop, task)
                except models.Abandoned:
                    asked += 1
                else:
                    break
        finally:
            await worker.close()
    assert asked >= 5
    assert result.pieces[0].text.strip() == SAYS


@asynccontextmanager
async def held_up(engine: Any) -> AsyncIterator[threading.Event]:
    """The engine's thread has something else to do until the event is set."""
    hold, held = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def block() -> None:
        loop.call_soon_threadsafe(held.set)
        hold.wait(10)

    async with TaskScope("hold") as scope:
        blocking = scope.start(engine._worker.run(block), name="block")
        await held.wait()
        try:
            yield hold
        finally:
            hold.set()
            await blocking


async def interrupted_guess(stream: Any) -> None:
    """Ask for a guess and leave before it is there."""
    async with TaskScope("guess") as scope:
        guess = scope.start(stream.guess(), name="guess")
        await asyncio.sleep(0.01)
        await cancel_and_wait(guess)


async def test_what_is_closed_before_its_turn_is_never_begun(written: Any, speech: PcmChunk) -> None:
    async with started(written(Script(SAYS)), partials=False) as engine:
        before = len(engine.recogniser.model.encoded)
        async with held_up(engine):
            stream = engine.open(AsrRequest(("en",)))
            await stream.feed(speech)
            await interrupted_guess(stream)
            await stream.aclose()
        assert (await hear(engine, speech.samples)).text == SAYS
        assert len(engine.recogniser.model.encoded) == before + 1


async def test_who_comes_back_when_the_last_sound_has_faded_gets_what_was_begun(written: Any, speech: PcmChunk) -> None:
    fading = (speech.samples[-4800:-3840] * 0.1).astype(np.int16)
    async with started(written(Script(SAYS)), partials=False) as engine:
        stream = engine.open(AsrRequest(("en",)))
        async with held_up(engine):
            await stream.feed(speech)
            await interrupted_guess(stream)
            await stream.feed(PcmChunk(fading, RATE))
            back = asyncio.ensure_future(stream.guess())
            await asyncio.sleep(0.2)  # longer than it is kept for nobody
        assert (await back).text == SAYS
        assert engine.recogniser.desk.finals == 1
        await stream.aclose()


async def test_work_is_given_up_when_speech_goes_on_or_nobody_comes_back(written: Any, speech: PcmChunk) -> None:
    async with started(written(Script(SAYS)), partials=False) as engine:
        before = len(engine.recogniser.model.encoded)
        stream, other = engine.open(AsrRequest(("en",))), engine.open(AsrRequest(("en",)))
        async with held_up(engine):
            await stream.feed(speech)
            await other.feed(speech)
            await interrupted_guess(stream)
            await interrupted_guess(other)
            await stream.feed(speech)
            async with asyncio.timeout(20):
                while engine.recogniser.desk.awaited:
                    await asyncio.sleep(0.01)
        assert (await stream.guess()).text == SAYS
        assert len(engine.recogniser.model.encoded) == before + 1
        await stream.aclose()
        await other.aclose()


async def test_the_loop_goes_on_while_the_model_computes(written: Any, speech: PcmChunk) -> None:
    async with (
        started(written(Script(SAYS), Shape(192, 4, 6)), partials=False, window="whole") as engine,
        TaskScope("t") as scope,
    ):
        loop = asyncio.get_running_loop()
        hearing = scope.start(hear(engine, speech.samples), name="hear")
        began, ticks = loop.time(), 0
        while not hearing.done():
            await asyncio.sleep(0.005)
            ticks += 1
        took = loop.time() - began
        assert hearing.result().text == SAYS
    assert took > 0.05 and ticks > took / 0.05  # at least every 50 ms on average


# -- who may use the model ----------------------------------------------------------------------------------------


async def test_partials_keep_to_their_share_of_the_time() -> None:
    worker, share = Worker("desk"), 0.25
    at_work = desk.Desk(worker, share)
    pause = threading.Event()
    loop = asyncio.get_running_loop()
    began, longest = loop.time(), 0.0
    try:
        while loop.time() < began + 0.6 or at_work.partials < 2:
            before = at_work.partial_seconds
            await at_work.partial(lambda _: pause.wait(0.02))
            longest = max(longest, at_work.partial_seconds - before)
            await asyncio.sleep(0.001)
    finally:
        await worker.close()
    assert at_work.partial_seconds <= share * (loop.time() - began) + longest  # the last may have had no rest yet


async def test_a_partial_gives_way_to_what_somebody_waits_for() -> None:
    worker = Worker("desk")
    at_work = desk.Desk(worker, 0.9)
    begun = threading.Event()

    def patient(stop: threading.Event) -> str:
        begun.set()
        while not stop.is_set():
            stop.wait(0.001)
        raise models.Abandoned("told to")

    async with TaskScope("t") as scope:
        trying = scope.start(at_work.partial(patient), name="partial")
        await asyncio.to_thread(begun.wait, 5)
        assert not at_work.may_try
        async with asyncio.timeout(20):
            assert await at_work.final(lambda _: "text") == "text"
            assert await trying is None
    assert (at_work.finals, at_work.partials, at_work.abandoned) == (1, 0, 1)
    await worker.close()


async def test_who_leaves_or_closes_stops_the_work() -> None:
    worker = Worker("desk")
    at_work = desk.Desk(worker, 0.9)

    def patient(begun: threading.Event, stop: threading.Event) -> str:
        begun.set()
        while not stop.is_set():
            stop.wait(0.001)
        raise models.Abandoned("told to")

    async with TaskScope("t") as scope, asyncio.timeout(30):
        begun = threading.Event()
        left = scope.start(at_work.final(partial(patient, begun)), name="left")
        await asyncio.to_thread(begun.wait, 5)
        await cancel_and_wait(left)
        assert await at_work.final(lambda _: "next") == "next"
        begun = threading.Event()
        asked = scope.start(_outcome(at_work.final(partial(patient, begun))), name="asked")
        await asyncio.to_thread(begun.wait, 5)
        at_work.close()
        assert isinstance(await asked, models.Abandoned)
    assert at_work.abandoned == 2
    await worker.close()


async def _outcome(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await work
    except models.Abandoned as error:
        return error


# -- what to believe ----------------------------------------------------------------------------------------------

GOOD = {"sureness": -0.2, "nobody": 0.01, "compression": 1.1}


@pytest.mark.parametrize(
    ("reason", "text", "language", "more"),
    [
        (None, " Turn on the light.", "en", {}),
        (None, " Thank you.", "en", {}),
        (None, " No, no, no!", "en", {}),
        (None, "谢谢", "zh", {}),
        ("unsure", " Turn on the light.", "en", {"sureness": -1.5}),
        ("silence", " Turn on the light.", "en", {"nobody": 0.97}),
        ("silence", " Turn on the light.", "en", {"nobody": 0.7, "sureness": -0.8}),
        ("ghost", " Thank you.", "en", {"nobody": 0.5}),
        ("ghost", " Thanks for watching!", "en", {}),
        ("ghost", "字幕by索兰娅", "zh", {}),
        ("ghost", "请不吝点赞 订阅 转发 打赏支持明镜与点点栏目", "zh", {}),
        ("ghost", " ...", "en", {}),
        ("circles", " I am going to go" + " I am going to go" * 6, "en", {}),
        ("circles", "好的好的好的好的好的", "zh", {}),
        ("circles", " something", "en", {"compression": 3.0}),
        ("echo", " Bed Light, Standing Light, Kitchen lights", "en", {}),
        (None, " Standing Light", "en", {}),
        ("too fast", " a word" * 40, "en", {"compression": 1.0}),
    ],
)
def test_what_is_believed_of_a_piece(reason: str | None, text: str, language: str, more: dict[str, float]) -> None:
    names = "Bed Light, Standing Light, Kitchen lights, Front Door, Garage Door"
    found = guards.why_not(guards.Piece(text, **{**GOOD, **more}), 2.0, language, ("", names))
    assert found == reason or (reason == "too fast" and found == "circles")


def test_confidence_is_the_mean_chance_of_a_token() -> None:
    pieces = [guards.Piece("a", -0.1, 0, 1, 3), guards.Piece("b", -0.5, 0, 1, 1)]
    assert guards.confidence(pieces) == pytest.approx(0.8187, abs=1e-3)
    assert guards.believed([], 1.0, "en") == ("", 0.0)


def test_traditional_characters_become_simplified_ones() -> None:
    assert languages.simplified("請把廚房的燈關掉，謝謝。") == "请把厨房的灯关掉，谢谢。"
    assert languages.simplified("Turn on 灯") == "Turn on 灯"
