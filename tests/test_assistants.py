"""Another assistant answers when somebody asks for it: in its voice and language, on that device, after a restart too."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tone_words import spoken

from xiaozhi_hub.cli import main
from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import AssistantConfig, DeviceConfig, VoiceConfig, load_config
from xiaozhi_hub.core.events import DeviceForgotten
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.dialog.assistants.assistants import DEFAULT, Assistants
from xiaozhi_hub.engines.asr import AsrRequest, AsrStream
from xiaozhi_hub.engines.base import EngineInfo, Role
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import ConfigErrors
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

KITCHEN, OFFICE, BEDROOM = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3))
CONFIG = """
voice: {vad: echo, asr: echo, llm: none}
assistants:
  storyteller: {persona: You tell stories., voice: low, speed: 0.5, volume: 0.5}
  laoshi: {name: 老师, language: zh-Hans, voice: female}
  quiz_master: {name: Quentin, rooms: [Office]}
devices:
  "02:00:00:00:00:01": {name: Kitchen speaker, area: Kitchen}
  "02:00:00:00:00:02": {name: Desk, area: Office}
  "02:00:00:00:00:03": {name: Bedside, area: Bedroom, assistant: laoshi}
integrations:
  echo: {tts: {ms: 100}}
  demo: false
  clock: false
  silero_vad: false
  phrases: false
  espeak: false
"""


class Voice(Tts):
    """Notes what it is asked to say, and gives the sound of it as noise."""

    def __init__(self) -> None:
        self.info = EngineInfo("spy", Role.TTS, "Spy", rank=100)
        self.asked: list[SpeechRequest] = []

    async def speak(self, request: SpeechRequest):  # type: ignore[no-untyped-def]  # an async generator
        import numpy as np

        self.asked.append(request)
        yield PcmChunk(np.full(2400, 1000, np.int16), 24000)

    @property
    def last(self) -> tuple[str, str, str, float, float]:
        request = self.asked[-1]
        return request.text, request.language, request.voice, request.speed, request.volume


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, CONFIG) as hub:
        yield hub


@pytest.fixture
def voice(hub: Hub) -> Voice:
    spy = Voice()
    hub.engines.add(spy, "test")
    return spy


def device(hub: Hub, device_id: str = KITCHEN) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, listens=False)


# -- by voice -----------------------------------------------------------------------------------------------------


async def test_the_new_assistants_first_words_are_its_own(hub: Hub, voice: Voice) -> None:
    async with device(hub) as kitchen:
        answer = await kitchen.ask_text("be the storyteller")
        assert answer.said == "Here is storyteller."
        assert voice.last == ("Here is storyteller.", "en", "low", 0.5, 0.5)
        await kitchen.ask_text("who else is there")
        assert voice.last[2:] == ("low", 0.5, 0.5), "and the words after them"
        assert (await kitchen.ask_text("be yourself again")).said == "Here is XiaoZhi."
        assert voice.last[1:] == ("en", "", 1.0, 1.0)


async def test_an_assistant_of_another_language_is_spoken_with_in_that_language(hub: Hub, voice: Voice) -> None:
    async with device(hub) as kitchen:
        assert (await kitchen.ask_text("talk to the laoshi")).said == "我是老师。"
        assert voice.last == ("我是老师。", "zh-Hans", "female", 1.0, 1.0)
        assert hub.devices.profile(KITCHEN).language == "zh-Hans"
        assert (await kitchen.ask_text("你是谁")).said == "我是老师。"  # in the same conversation
        assert voice.last[1:3] == ("zh-Hans", "female")
        told = "".join((await kitchen.ask_text("还有什么助手")).sentences)  # however it is cut
        assert told == "现有的助手：小智、storyteller、老师、Quentin。"
        assert (await kitchen.ask_text("变回你自己")).said == "Here is XiaoZhi."
        assert voice.last[1] == "en"


async def test_assistants_are_called_by_name_or_key_and_by_nothing_else(hub: Hub) -> None:
    for said, answer, assistant in (
        ("switch to Quentin", "Here is Quentin.", "quiz_master"),
        ("be yourself", "Here is XiaoZhi.", DEFAULT),
        ("let me speak to the quiz master", "Here is Quentin.", "quiz_master"),
        ("Become the STORYTELLER, please.", "Here is storyteller.", "storyteller"),
        ("换成老师", "我是老师。", "laoshi"),
        ("be normal again", "Here is XiaoZhi.", DEFAULT),
        ("叫老师来", "我是老师。", "laoshi"),
    ):
        record = await hub.ask(said, "en", KITCHEN)
        assert record.said == answer, said
        assert hub.assistants.of(KITCHEN, "Kitchen").id == assistant, said
        assert hub.assistants.of(OFFICE, "Office").id == "quiz_master", "nobody asked for another one there"
    record = await hub.ask("be the astronaut", "en", KITCHEN)
    assert record.outcome == "not_understood"
    call, refusal = await hub.tools.attempt(
        "assistant.switch", {"assistant": "astronaut"}, hub.answering.text_turn("en", KITCHEN)
    )
    assert call.error == "assistant-unknown"
    assert str(refusal) == "I don't know an assistant called astronaut. There are: XiaoZhi, storyteller, 老师, Quentin."
    record = await hub.ask("be the storyteller", "en", "")
    assert record.said == "That works on a voice device only."


@pytest.mark.parametrize("mode", ["auto", "realtime"])
async def test_who_speaks_next_is_heard_in_the_language_of_the_new_assistant(
    mode: str, hub: Hub, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    (asr,) = hub.engines.asrs(("echo",))
    told: list[tuple[str, ...]] = []
    listen = asr.open

    def noted(request: AsrRequest) -> AsrStream:
        told.append(request.languages)
        return listen(request)

    monkeypatch.setattr(asr, "open", noted)
    where = f"{hub.local_url}/xiaozhi/ota/"
    async with FakeDevice(ota_url=where, device_id=KITCHEN, listens=False, mode=mode) as speaker:
        await speaker.ask(spoken("talk to the laoshi"))
        await speaker.ask(spoken("now what"))
        await speaker.ask(spoken("and now"))
    assert told == [("en",), ("zh-Hans",), ("zh-Hans",)]


async def test_switching_needs_no_language_model_and_leaves_the_house_alone(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG.replace("demo: false", "demo:")) as hub:
        await hub.ask("talk to the laoshi", "en", KITCHEN)
        record = await hub.ask("打开厨房灯", "", KITCHEN)
        assert record.said == "已打开厨房灯。"
        for command in ("switch to dark mode", "switch on the kitchen lights", "call it a day"):
            record = await hub.ask(command, "en", KITCHEN)
            assert not [call for call in record.tool_calls if call.name.startswith("assistant.")], command


async def test_a_persona_reaches_the_model_of_the_assistant_that_was_chosen(tmp_path: Path) -> None:
    config = """
        voice: {vad: echo, asr: echo, tts: echo, llm: none}
        assistants:
          storyteller: {persona: You tell stories., llm: echo}
        integrations: {silero_vad: false, phrases: false, espeak: false, echo: {llm: {otherwise: "Once upon a time."}}}
    """
    async with running_hub(tmp_path, config) as hub:
        assert (await hub.ask("tell me something", "en", KITCHEN)).outcome == "not_understood"
        await hub.ask("be the storyteller", "en", KITCHEN)
        assert (await hub.ask("tell me something", "en", KITCHEN)).said == "Once upon a time."
        assert hub.assistants.of(KITCHEN).persona == "You tell stories."
        await hub.ask("be yourself again", "en", KITCHEN)
        assert (await hub.ask("tell me something", "en", KITCHEN)).outcome == "not_understood"


async def test_without_assistants_nothing_is_listened_for(tmp_path: Path) -> None:
    async with running_hub(tmp_path, "integrations: {demo: false, clock: false}\nvoice: {asr: none}") as hub:
        assert hub.tools.get("assistant.switch") is None
        assert not hub.intents.book("en").understands("who are you")


async def test_recognisers_listen_for_the_names_of_assistants(hub: Hub) -> None:
    for language, said, other in (("en", "be the quiz master", "老师"), ("zh-Hans", "换成老师", "astronaut")):
        book = hub.intents.book(language)
        words = {word for _, _, word, _ in book.graph().arcs}
        assert book.understands(said)
        assert {"quiz", "storyteller"} <= words and other[0] not in words
        assert "storyteller" in book.names(), "recognisers that can hear anything lean on the names"


# -- kept ---------------------------------------------------------------------------------------------------------


async def test_the_choice_survives_a_restart_and_a_vanished_assistant_does_not_matter(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG) as hub:
        await hub.ask("be the storyteller", "en", KITCHEN)
        await hub.ask("be the storyteller", "en", OFFICE)
        await hub.ask("变成storyteller", "zh-Hans", BEDROOM)
        await hub.ask("变回你自己", "zh-Hans", BEDROOM)
    async with running_hub(tmp_path, CONFIG) as hub:
        found = [
            hub.assistants.of(id, area).id for id, area in ((KITCHEN, "Kitchen"), (OFFICE, "Office"), (BEDROOM, ""))
        ]
        assert found == ["storyteller", "storyteller", "laoshi"]
        assert (await hub.ask("who are you", "en", KITCHEN)).said == "Here is storyteller."
    without = CONFIG.replace("storyteller: {", "teller: {")
    async with running_hub(tmp_path, without) as hub:
        assert hub.assistants.of(KITCHEN, "Kitchen").id == DEFAULT
        assert hub.assistants.of(OFFICE, "Office").id == "quiz_master"


async def test_the_history_says_which_assistant_was_asked(hub: Hub) -> None:
    for said in ("who are you", "be the storyteller", "who are you"):
        await hub.ask(said, "en", KITCHEN)
    async with asyncio.timeout(20):
        while len(turns := await hub.history.turns()) < 3:
            await asyncio.sleep(0.01)
    assert [turn.assistant for turn in turns] == ["storyteller", "default", "default"]
    chats = await hub.history.chat_history(KITCHEN)
    assert [session.agent_id for session in chats.sessions] == ["storyteller", "default", "default"]
    assert {message.agent_id for message in chats.sessions[0].messages} == {"storyteller"}


async def test_a_device_that_is_forgotten_takes_its_choice_with_it(hub: Hub) -> None:
    await hub.ask("be the storyteller", "en", KITCHEN)
    assert dict(hub.assistants.chosen) == {KITCHEN: "storyteller"}
    bus: Bus = hub.bus
    bus.tell(DeviceForgotten(KITCHEN))
    assert dict(hub.assistants.chosen) == {}


def test_a_device_has_the_chosen_assistant_then_its_own_then_its_rooms() -> None:
    written = {"a": AssistantConfig(rooms=("Attic",)), "b": AssistantConfig(name="Bob"), "c": AssistantConfig()}
    assistants = Assistants(VoiceConfig(), written, {"d1": DeviceConfig("d1", assistant="b")})
    assert [assistants.of(id, area).id for id, area in (("d1", "Attic"), ("d2", "attic"), ("d3", None))] == [
        "b",
        "a",
        DEFAULT,
    ]
    assistants.choose("d1", "c")
    assert assistants.of("d1", "Attic").id == "c"
    assistants.choose("d1", DEFAULT)
    assert assistants.of("d1", "Attic").id == "b"
    assert assistants.by_name("bob") is assistants.get("b")
    assert assistants.by_name("nobody") is None


# -- mistakes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "message", "hint"),
    [
        ("devices: {'02:00:00:00:00:01': {assistant: storyteler}}", 'there is no assistant "storyteler"',
         "Did you mean storyteller?"),
        ("devices: {'02:00:00:00:00:01': {assistant: robot}}", 'there is no assistant "robot"',
         "There are: storyteller, chef, default."),
        ("devices: {'02:00:00:00:00:01': {assistant: default}}", "", ""),
        ("devices: {'02:00:00:00:00:01': {assistant: chef}}", "", ""),
    ],
)  # fmt: skip
def test_check_config_knows_the_assistants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, message: str, hint: str
) -> None:
    (tmp_path / "configuration.yaml").write_text(f"assistants: {{storyteller: {{}}, chef: {{}}}}\n{written}\n")
    assert main(["check-config", "-c", str(tmp_path)]) == (1 if message else 0)
    shown = capsys.readouterr().err
    assert message in shown and hint in shown
    assert not message or "configuration.yaml:2 devices → 02:00:00:00:00:01 → assistant" in shown


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{a: {name: Bob}, b: {name: bob}}", '"bob" is taken. The assistant a has it.'),
        ("{a: {rooms: [Attic]}, b: {rooms: [Cellar, attic]}}", '"attic" is taken. The assistant a has it.'),
    ],
)
def test_two_assistants_cannot_have_the_same(tmp_path: Path, written: str, message: str) -> None:
    (tmp_path / "configuration.yaml").write_text(f"assistants: {written}\n")
    with pytest.raises(ConfigErrors, match=message):
        load_config(tmp_path)


async def test_engines_that_are_not_there_are_shown(tmp_path: Path) -> None:
    config = """
        voice: {vad: echo, asr: echo, tts: echo, llm: none}
        assistants:
          storyteller: {llm: [echos, none], tts: echo}
          chef: {asr: [ears], tts: [piper]}
        memory: {engine: [elephant]}
        integrations: {silero_vad: false, phrases: false, espeak: false, echo: }
    """
    async with running_hub(tmp_path, config) as hub:
        told = {code: f"{problem.message} {problem.hint}" for code, problem in hub.problems.items()}
        piper = next(entry for entry in hub.plugins.entries if entry.domain == "piper")
        assert "xiaozhi-hub" in piper.hint, "how to get it"
        assert told == {
            "lacking-storyteller-llm": "The assistant storyteller is to use llm: echos, which is not here. Did you mean echo?",
            "lacking-chef-asr": "The assistant chef is to use asr: ears, which is not here. There are: echo.",
            "lacking-chef-tts": f"The assistant chef is to use tts: piper, which is not here. {piper.reason} {piper.hint}",
            "lacking-memory": "The memory is to be elephant, which is not here. There are: household.",
        }
        assert (await hub.ask("what time is it", "en", KITCHEN)).outcome == "answered", "others do the work"


# -- from programs ------------------------------------------------------------------------------------------------

Command = Callable[..., Awaitable[int]]


@pytest.fixture
def command(hub: Hub, tmp_path: Path) -> Command:
    async def run(*arguments: str) -> int:
        given = ["assistants", "-c", str(tmp_path), "--port", str(hub.port), *arguments]
        return await asyncio.to_thread(main, given)

    return run


async def test_the_owner_sees_who_has_which_and_can_change_it(
    hub: Hub, command: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command("set", "Kitchen speaker", "Quentin") == 0
    assert "quiz_master answers on Kitchen speaker." in capsys.readouterr().out
    assert await command() == 0
    shown = capsys.readouterr().out
    assert "Kitchen speaker in Kitchen: quiz_master (chosen there)" in shown
    assert "Bedside in Bedroom: laoshi (by configuration)" in shown
    assert "laoshi            老师 · zh-Hans · remembers" in shown
    assert await command("set", KITCHEN, "default") == 0
    assert await command("--json", "list") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {each["id"]: (each["assistant"], each["chosen"]) for each in told["devices"]} == {
        KITCHEN: ("default", False),
        OFFICE: ("quiz_master", False),
        BEDROOM: ("laoshi", False),
    }
    assert await command("set", KITCHEN, "astronaut") == 1
    assert "There is no assistant astronaut. There are: default, storyteller" in capsys.readouterr().err
    assert await command("set", "Toaster", "storyteller") == 1
    assert "There is no device Toaster." in capsys.readouterr().err
