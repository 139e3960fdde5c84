"""Wake words: the real onnxruntime on models that listen for a whistle, through a real hub and real sockets."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession, ClientWebSocketResponse, WSMsgType
from loop_time import while_the_loop_turns
from tiny_wakeword import pitch_hz, write_word

from xiaozhi_hub.core.flow import Packet, PcmChunk, TurnRecord
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.devices.sessions import open_mic
from xiaozhi_hub.devices.waking.arbiter import WINDOW_SECONDS
from xiaozhi_hub.devices.waking.doze import MOST_MS, Doze
from xiaozhi_hub.engines.asr import AsrRequest, AsrStream
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.engines.wake import Wake
from xiaozhi_hub.errors import NeedsAttention, NotInstalled, StageError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.loader import import_integration
from xiaozhi_hub.testing import FakeDevice, Utterance, running_hub

pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

ours = import_integration(builtin("integrations") / "openwakeword")
config, engine, words, network = (
    importlib.import_module(f"{ours.__name__}.{name}") for name in ("config", "engine", "words", "network")
)
import_integration(builtin("integrations") / "echo")
tones = importlib.import_module("xiaozhi_hub_integrations.echo.tones")

HOUSE = """
devices: {pairing: open}
voice: {vad: echo, asr: echo, tts: echo, llm: none}
conversation: {%s}
integrations: {silero_vad: false, phrases: false, espeak: false, piper: false, demo: , echo: }
"""
ALEXA, JARVIS = 4, 23
"""Pitches of the two words, away from the tones that questions are made of."""
Sound = np.ndarray[Any, np.dtype[np.int16]]


def whistle(band: int, seconds: float = 0.6, loud: float = 0.3) -> Sound:
    wave = np.sin(np.arange(int(16000 * seconds)) / 16000 * 2 * np.pi * pitch_hz(band))
    return (wave * 32767 * loud).astype(np.int16)


def quiet(seconds: float) -> Sound:
    return np.random.default_rng(2).normal(0, 8, int(16000 * seconds)).astype(np.int16)


def question(text: str) -> Sound:
    sound: Sound = tones.write_text(text).samples
    return np.concatenate([quiet(0.3), sound, quiet(0.9)])


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """Where the hub looks for wake words."""
    folder = tmp_path / "data" / "models" / "openwakeword"
    write_word(folder, "alexa", ALEXA, file="alexa_v0.1")
    write_word(folder, "hey_jarvis", JARVIS, file="hey_jarvis_v0.1")
    return folder


HubMaker = Callable[..., AbstractAsyncContextManager[Hub]]


@pytest.fixture
def hub_with(tmp_path: Path) -> HubMaker:
    def make(conversation: str = "") -> AbstractAsyncContextManager[Hub]:
        return running_hub(tmp_path, HOUSE % conversation)

    return make


@asynccontextmanager
async def started(shelf: Path, **options: Any) -> AsyncIterator[Wake]:
    """The engine alone."""
    async with engine.running(ModelShelf(shelf.parent), config.SCHEMA(options)) as wake:
        yield wake


async def heard(wake: Wake, sound: Sound, piece: int = 960) -> list[tuple[str, float]]:
    """What a stream tells of *sound*, with the seconds that had been fed by then."""
    stream, found = wake.open(), []
    try:
        for at in range(0, len(sound), piece):
            if (word := await stream.feed(PcmChunk(sound[at : at + piece], 16000))) is not None:
                found.append((word, (at + piece) / 16000))
    finally:
        await stream.aclose()
    return found


# -- the engine ---------------------------------------------------------------------------------------------------


async def test_each_word_is_told_once_soon_after_it_was_said_whatever_the_pieces(shelf: Path) -> None:
    sound = np.concatenate([quiet(1), whistle(ALEXA), quiet(2), whistle(JARVIS, 3), quiet(1)])
    async with started(shelf) as wake:
        for piece in (160, 960, 8000):
            found = await heard(wake, sound, piece)
            assert [word for word, _ in found] == ["alexa", "hey jarvis"], piece
            assert 1.1 < found[0][1] < 1.6 + piece / 16000 and 3.7 < found[1][1] < 4.2 + piece / 16000


async def test_other_sounds_and_the_beginning_of_a_stream_are_no_words(shelf: Path) -> None:
    noise = np.random.default_rng(1).normal(0, 3000, 48000).astype(np.int16)
    async with started(shelf) as wake:
        for sound in (quiet(2), noise, question("turn on the light"), whistle(ALEXA, 2, 0.005), whistle(ALEXA, 0.1)):
            assert await heard(wake, sound) == []
        assert await heard(wake, whistle(ALEXA, 0.4)) == []  # five steps are heard before anything is believed


async def test_patience_and_threshold_make_it_harder_to_be_heard(shelf: Path) -> None:
    sound = np.concatenate([quiet(1), whistle(ALEXA, 0.5), quiet(1)])
    async with started(shelf, words={"alexa": {"patience": 3}}) as wake:
        assert [word for word, _ in await heard(wake, sound)] == ["alexa"]
    async with started(shelf, words={"alexa": {"patience": 12}}) as wake:
        assert await heard(wake, sound) == []
    middling = np.concatenate([quiet(1), whistle(ALEXA, 1, 0.04), quiet(1)])
    async with started(shelf, threshold=0.05) as wake:
        assert await heard(wake, middling)
    async with started(shelf, threshold=0.9) as wake:
        assert await heard(wake, middling) == []


async def test_a_recording_is_judged_as_a_whole_even_where_it_ends_with_the_word(shelf: Path) -> None:
    async with started(shelf) as wake:
        ends = PcmChunk(np.concatenate([quiet(1), whistle(ALEXA, 0.5)]), 16000)
        assert (await wake.likelihood("alexa", ends) or 0) > 0.9
        assert await wake.likelihood("hey jarvis", ends) == pytest.approx(0, abs=0.01)
        assert await wake.likelihood("alexa", PcmChunk(quiet(1.9), 16000)) == pytest.approx(0, abs=0.01)


async def test_a_word_is_known_by_all_its_names_and_no_other(shelf: Path) -> None:
    async with started(shelf, words={"alexa": {"called": ["Alexa", "你好小智"]}, "hey_jarvis": {}}) as wake:
        assert wake.words == ("Alexa", "hey jarvis")
        assert [wake.knows(said) for said in ("ALEXA", "你好，小智", "Hey,Jarvis!", "jarvis", "")] == [
            "Alexa", "Alexa", "hey jarvis", None, None,
        ]  # fmt: skip


async def test_more_microphones_than_allowed_are_refused_until_one_leaves(shelf: Path) -> None:
    async with started(shelf, streams=1) as wake:
        stream = wake.open()
        with pytest.raises(StageError, match="1 microphones"):
            wake.open()
        with pytest.raises(StageError):
            await wake.likelihood("alexa", PcmChunk(quiet(1), 16000))
        await stream.aclose()
        await wake.open().aclose()


async def test_many_microphones_share_one_thread_and_hear_each_for_itself(shelf: Path) -> None:
    sounds = [np.concatenate([quiet(1), whistle(band), quiet(1)]) for band in (ALEXA, JARVIS, 14) * 3]
    async with started(shelf) as wake:
        found = await asyncio.gather(*(heard(wake, sound) for sound in sounds))
    assert [[word for word, _ in each] for each in found] == [["alexa"], ["hey jarvis"], []] * 3


async def test_words_with_other_ears_than_the_rest_are_heard_as_well(shelf: Path) -> None:
    place = write_word(shelf, "computer", 7)
    (place / "melspectrogram.onnx").write_bytes(
        (place / "melspectrogram.onnx").read_bytes() + b"\x12\x00"
    )  # a producer
    async with started(shelf) as wake:
        sound = np.concatenate([quiet(1), whistle(7), quiet(1), whistle(JARVIS), quiet(1)])
        assert [word for word, _ in await heard(wake, sound)] == ["computer", "hey jarvis"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda place: (place / "alexa_v0.1.onnx").write_bytes(b"no model"), "alexa_v0.1.onnx cannot be used"),
        (lambda place: (place / "alexa_v0.1.onnx").unlink(), "has no wake word"),
        (lambda place: (place / "embedding_model.onnx").unlink(), "has no file embedding_model.onnx"),
        (lambda place: write_word(place.parent, "alexa", 1, file="alexa_v0.1", inputs=40), "its input is"),
    ],
)
async def test_a_model_that_cannot_be_used_is_named(shelf: Path, spoil: Callable[[Path], object], told: str) -> None:
    spoil(shelf / "alexa")
    with pytest.raises(NeedsAttention, match=told):
        async with started(shelf, words=["alexa"]):
            pass


async def test_an_incomplete_model_is_left_out_beside_a_good_one(shelf: Path, caplog: pytest.LogCaptureFixture) -> None:
    (shelf / "alexa" / "melspectrogram.onnx").unlink()
    with caplog.at_level(logging.WARNING):
        async with started(shelf) as wake:
            assert wake.words == ("hey jarvis",)
    assert "melspectrogram.onnx" in caplog.text


async def test_a_missing_word_is_told_with_the_command_that_gets_it(shelf: Path) -> None:
    with pytest.raises(NotInstalled) as missing:
        async with started(shelf, words=["hey_mycroft"]):
            pass
    assert missing.value.hint.startswith("Run: xiaozhi-hub models download hey_mycroft")


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The openwakeword package, without its training of verifiers, for which it would import scikit-learn."""
    if find_spec("openwakeword") is None:
        pytest.skip("PARITY NOT COMPARED: openwakeword is not installed")
    training = ModuleType("openwakeword.custom_verifier_model")
    training.train_custom_verifier = None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, training.__name__, training)
    return importlib.import_module("openwakeword.model")


def test_scores_are_those_of_the_openwakeword_package(tmp_path: Path, package: Any) -> None:
    newest = write_word(tmp_path, "newest", ALEXA)
    whole = write_word(tmp_path, "whole", ALEXA, over=16)
    files = [str(newest / "newest.onnx"), str(whole / "whole.onnx")]
    theirs = package.Model(
        files,
        inference_framework="onnx",
        melspec_model_path=str(newest / "melspectrogram.onnx"),
        embedding_model_path=str(newest / "embedding_model.onnx"),
    )
    options = config.SCHEMA({"words": files})
    mine = network.Network(words.find_words(ModelShelf(tmp_path), options))
    hearing = mine.open()
    rng = np.random.default_rng(3)
    sound = np.concatenate([whistle(ALEXA, loud=0.05), quiet(1), whistle(ALEXA, 0.5, 0.08), rng.normal(0, 900, 64000)])
    differences, highest = [], 0.0
    for number, at in enumerate(range(0, len(sound) // 1280 * 1280, 1280)):
        piece = sound[at : at + 1280].astype(np.int16)
        expected = theirs.predict(piece)
        got = mine.step(hearing, piece)
        highest = max(highest, *got)
        differences.append(abs(got[0] - expected["newest"]))
        if number >= 16:  # until then the package's features are those of noise that it made up
            differences.append(abs(got[1] - expected["whole"]))
    assert max(differences) < 1e-4 and highest > 0.5


# -- the entry ----------------------------------------------------------------------------------------------------


def entry_of(hub: Hub) -> Entry:
    return next(entry for entry in hub.plugins.entries if entry.domain == "openwakeword")


async def test_without_a_model_it_is_merely_available(hub_with: HubMaker) -> None:
    async with hub_with() as hub:
        assert entry_of(hub).state is EntryState.AVAILABLE
        assert entry_of(hub).hint == "Run: xiaozhi-hub models recommend"
        assert not hub.engines.wakes()


async def test_installed_words_are_listened_for_without_being_configured(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with() as hub:
        assert entry_of(hub).state is EntryState.READY
        (info,) = [info for info in hub.engines.all() if info.role is Role.WAKE]
        assert info.detail == "alexa, hey jarvis"


# -- a second look at a device's wake word --------------------------------------------------------------------------


CHECK = "check_wake_words: true"
SAID = np.concatenate([quiet(1.2), whistle(ALEXA)])
NOT_SAID = np.concatenate([quiet(0.6), whistle(14, 1.2)])


def device(hub: Hub, number: int = 1) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=f"02:00:00:00:00:{number:02x}")


def packets(sound: Sound) -> tuple[bytes, ...]:
    return Utterance.of(PcmChunk(sound, 16000)).packets


def spoken(text: str) -> PcmChunk:
    sound: PcmChunk = tones.write_text(text)
    return sound


async def test_a_device_that_was_woken_by_something_else_is_let_go_and_counted(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with(CHECK) as hub, device(hub) as television, device(hub, 2) as person:
        await television.wake("Alexa", packets(NOT_SAID))
        await television.hung_up(20)
        assert not any("tts" in line for line in television.conversation)
        await while_the_loop_turns(WINDOW_SECONDS + 0.1)  # they are two persons
        await person.wake("Alexa", packets(SAID))
        assert (await person.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."
        assert person.connected
        (part,) = [part for part in hub.overview.parts() if part.name == "wake_words"]
        assert part.healthy and part.detail == "1 of 2 were false"


async def test_nobody_is_let_go_where_nothing_can_be_told(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with(CHECK) as hub, device(hub) as other, device(hub, 2) as curt:
        await other.wake("你好小智", packets(NOT_SAID))  # not a word that the engine knows
        assert (await other.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."
        await curt.wake("Alexa", packets(NOT_SAID[:6400])[:7])  # not enough of it
        assert (await curt.ask(spoken("turn off the bed light"))).said == "Turned off the Bed Light."
        assert hub.devices.wake_check.checked == 0


async def test_unless_asked_for_nothing_is_checked(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with() as hub, device(hub) as speaker:
        await speaker.wake("Alexa", packets(NOT_SAID))
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


async def test_a_false_wake_does_not_cost_a_timer_its_line(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with(CHECK) as hub:
        async with device(hub) as speaker:
            await speaker.ask_text("set a timer for 4 seconds")
        async with device(hub) as speaker:
            await speaker.wake("Alexa", packets(NOT_SAID))
            await speaker.hears("Your 4 second timer is done.")
        assert hub.devices.wake_check.refused == 1


# -- clients that stream all the time -------------------------------------------------------------------------------


class OpenMic:
    """A client with an open microphone."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket

    async def hear(self, kind: str, state: str = "") -> dict[str, Any]:
        """The next message of this kind; others before it are left out."""
        async with asyncio.timeout(30):
            async for frame in self.socket:
                if frame.type is WSMsgType.TEXT:
                    message: dict[str, Any] = json.loads(frame.data)
                    assert kind == "error" or message["type"] != "error", message
                    if message["type"] == kind and message.get("state", "") == state:
                        return message
        raise AssertionError(f"closed: {self.socket.close_code}")

    async def sends(self, *sounds: Sound, speed: float = 3) -> None:
        """Send what the microphone hears, *speed* times as fast as it comes."""
        sound = np.concatenate(sounds)
        for at in range(0, len(sound), 960):
            await self.socket.send_bytes(sound[at : at + 960].astype("<i2").tobytes())
            await asyncio.sleep(0.06 / speed)

    async def is_answered(self) -> str:
        said = (await self.hear("tts", "sentence_start"))["text"]
        await self.hear("tts", "stop")
        return str(said)


@asynccontextmanager
async def client(hub: Hub, **hello: Any) -> AsyncIterator[OpenMic]:
    token = (await hub.device_management.invite("Panel")).token
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{hub.local_url}/xiaozhi/v1/"
    async with ClientSession() as http, http.ws_connect(url, headers=headers, autoclose=False) as socket:
        mic = OpenMic(socket)
        said = {"type": "hello", "wake": True, "audio_params": {"format": "pcm", "sample_rate": 16000}, **hello}
        await socket.send_json(said)
        yield mic


async def turns(hub: Hub, count: int) -> list[TurnRecord]:
    async with asyncio.timeout(20):
        while len(found := await hub.history.turns(10)) < count:
            await asyncio.sleep(0.02)
    return list(found)


async def test_nothing_is_recognised_until_the_word_then_it_answers_and_waits_again(
    hub_with: HubMaker, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_mic, "FOLLOW_UP_SECONDS", 3.0)
    async with hub_with() as hub, client(hub) as panel:
        (asr,) = hub.engines.asrs()
        opened, begin = 0, asr.open

        def counted(request: AsrRequest) -> AsrStream:
            nonlocal opened
            opened += 1
            return begin(request)

        monkeypatch.setattr(asr, "open", counted)
        await panel.hear("hello")
        assert (await panel.hear("wake", "waiting"))["words"] == ["alexa", "hey jarvis"]
        await panel.sends(question("turn on the bed light"), quiet(0.5))
        assert opened == 0
        await panel.sends(whistle(ALEXA))
        assert (await panel.hear("wake", "heard"))["word"] == "alexa"
        await panel.sends(question("turn on the kitchen light"))
        assert (await panel.hear("stt"))["text"] == "turn on the kitchen light"
        assert await panel.is_answered() == "Turned on the Kitchen lights."
        await panel.sends(question("turn off the kitchen light"))  # without the word: it goes on
        assert await panel.is_answered() == "Turned off the Kitchen lights."
        await panel.sends(quiet(5), speed=1)
        assert (await panel.hear("wake", "waiting"))["words"] == ["alexa", "hey jarvis"]
        await panel.sends(question("turn on the bed light"), quiet(0.5), whistle(JARVIS))
        assert (await panel.hear("wake", "heard"))["word"] == "hey jarvis"
        await panel.sends(question("turn off the bed light"))
        assert await panel.is_answered() == "Turned off the Bed Light."
        assert [turn.heard for turn in await turns(hub, 3)] == [
            "turn off the bed light", "turn off the kitchen light", "turn on the kitchen light",
        ]  # fmt: skip


async def test_who_goes_straight_on_after_the_word_loses_nothing(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with() as hub, client(hub) as panel:
        await panel.hear("wake", "waiting")
        await panel.sends(quiet(0.6), whistle(ALEXA, 0.5), question("turn on the bed light")[4800:], speed=1)
        assert await panel.is_answered() == "Turned on the Bed Light."


async def test_the_word_interrupts_an_answer(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with() as hub, client(hub) as panel:
        await panel.hear("wake", "waiting")
        await panel.socket.send_json({"type": "text", "text": "turn on the bed light"})
        await panel.hear("tts", "sentence_start")
        await panel.sends(quiet(0.5), whistle(ALEXA))
        await panel.hear("tts", "stop")
        await panel.hear("wake", "heard")
        await panel.sends(question("turn off the bed light"))
        assert await panel.is_answered() == "Turned off the Bed Light."


async def test_after_the_button_and_after_goodbye_it_waits_for_the_word(hub_with: HubMaker, shelf: Path) -> None:
    async with hub_with() as hub, client(hub) as panel:
        await panel.hear("wake", "waiting")
        await panel.socket.send_json({"type": "listen", "state": "start", "mode": "manual"})
        await panel.sends(question("turn on the bed light"))
        await panel.socket.send_json({"type": "listen", "state": "stop"})
        assert await panel.is_answered() == "Turned on the Bed Light."
        await panel.sends(quiet(0.5), whistle(ALEXA))
        await panel.hear("wake", "heard")
        await panel.sends(question("goodbye"))
        assert await panel.is_answered() == "Goodbye."
        await panel.hear("wake", "waiting")
        await panel.sends(quiet(0.5), whistle(ALEXA))
        await panel.hear("wake", "heard")


@pytest.mark.parametrize(("language", "told"), [("en", "No wake word is here yet."), ("zh-CN", "还没有唤醒词")])
async def test_without_a_word_the_client_is_told_and_writes(hub_with: HubMaker, language: str, told: str) -> None:
    async with hub_with() as hub, client(hub, language=language) as panel:
        message = await panel.hear("error")
        assert message["code"] == "wake-missing" and told in message["message"]
        await panel.socket.send_json({"type": "text", "text": "turn on the bed light"})
        assert await panel.is_answered()


@pytest.mark.parametrize(
    ("hello", "code"), [({"wake": "yes"}, "hello-invalid"), ({"audio_params": None}, "no-sound")], ids=["wake", "sound"]
)
async def test_a_hello_that_cannot_be_meant_is_complained_about(
    hub_with: HubMaker, hello: dict[str, Any], code: str
) -> None:
    async with hub_with() as hub, client(hub, **hello) as panel:
        assert (await panel.hear("error"))["code"] == code


async def test_an_engine_that_is_behind_loses_the_oldest_sound(shelf: Path) -> None:
    async def nobody(*_: object) -> None: ...

    doze = Doze(EngineRegistry(), listening=nobody, heard=nobody, deaf=nobody)
    for number in range(100):
        doze.put(Packet(bytes([number]), 60))
    kept = MOST_MS // 60
    assert doze.dropped == 100 - kept
