"""A device with firmware before 1.8 that describes things instead of speaking MCP: the same words work on it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from deaf_link import Deaf
from hypothesis import given, settings
from hypothesis import strategies as st
from tone_words import spoken

from xiaozhi_hub.core.flow import Channel, TurnInfo
from xiaozhi_hub.devices.abilities.iot import IotToolset
from xiaozhi_hub.errors import ToolError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.device_messages import Iot
from xiaozhi_hub.protocol.hub_messages import IotCommand
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile, running_hub

MAC = "02:00:00:00:00:01"
CONFIGURATION = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
devices:
  "02:00:00:00:00:01": {name: Old Speaker, area: Bedroom}
integrations:
  echo:
  demo:
  silero_vad: false
  phrases: false
  espeak: false
"""
OLD = FirmwareProfile(
    version="1.6.2",
    features=None,
    stores_session_id=False,
    queue_packets=10,
    drains=False,
    parts=("screen", "battery", "lamp"),
)


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path / "config", CONFIGURATION) as hub:
        yield hub


def device(hub: Hub, profile: FirmwareProfile = OLD, **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=MAC, profile=profile, listens=False, **more)


TURN = TurnInfo("t1", "s1", MAC, "en", channel=Channel.TEXT)


async def told(hub: Hub, speaker: FakeDevice) -> None:
    """Wake the device, and wait until it has told its things and their states."""
    await speaker.wake()
    player = hub.entities.find(name="Old Speaker")[0]
    async with asyncio.timeout(20):
        while "volume" not in player.state.attributes:
            await asyncio.sleep(0.01)


async def test_an_old_device_is_made_louder_and_its_screen_dimmed(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.wake()
        assert (await speaker.ask_text("louder")).said == "The volume is 80 percent."
        for text, said in (
            ("louder", "The volume is 90 percent."),
            ("volume thirty percent", "The volume is 30 percent."),
            ("dim the screen", "The screen is at 55 percent."),
            ("use the dark theme", "The screen is dark now."),
            ("how full is your battery", "The battery is at 88 percent."),
            ("take a photo", "This device has no camera."),
        ):
            assert (await hub.ask(text, "en", MAC)).said == said
        assert not any("← mcp" in line for line in speaker.conversation)
        async with asyncio.timeout(20):
            while speaker.settings.theme != "dark":
                await asyncio.sleep(0.01)
        assert (speaker.settings.volume, speaker.settings.brightness, speaker.settings.theme) == (30, 55, "dark")
        assert speaker.complaints == []


async def test_a_whole_spoken_turn_works_on_the_oldest_firmware(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask(spoken("louder"))
        assert (result.heard, result.said) == ("louder", "The volume is 80 percent.")
        assert (speaker.settings.volume, result.overflows, speaker.complaints) == (80, 0, [])


async def test_an_old_device_is_obeyed_in_chinese_too(hub: Hub) -> None:
    async with device(hub, language="zh-CN") as speaker:
        await speaker.wake()
        assert (await speaker.ask_text("声音小一点")).said == "音量已调到百分之60。"
        assert (await hub.ask("屏幕亮度调到百分之五十", "zh-Hans", MAC)).said == "屏幕亮度已调到百分之50。"


async def test_what_was_changed_on_the_device_itself_is_known_at_its_next_listening(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.wake()
        speaker.settings.volume = 20  # somebody turns the knob; the device tells before it listens again
        await speaker.ask_text("turn on the bed light")
        assert (await speaker.ask_text("louder")).said == "The volume is 30 percent."


async def test_before_it_has_told_its_state_a_number_is_asked_for(hub: Hub) -> None:
    async with device(hub) as speaker:
        said = (await speaker.ask_text("louder")).said
        assert said == "The device does not say how it is set now. Please say a number."


async def test_its_things_have_the_tools_of_today(hub: Hub) -> None:
    async with device(hub) as speaker:
        await told(hub, speaker)
        tools = hub.device_tools.connected[MAC].tools
        assert set(tools) == {
            "self.get_device_status",
            "self.audio_speaker.set_volume",
            "self.screen.set_theme",
            "self.screen.set_brightness",
            "self.lamp.turn_on",
            "self.lamp.turn_off",
        }
        offered = {tool.name for tool in hub.tools.all_for(TURN)} - {tool.name for tool in hub.tools.all()}
        assert offered == {"self.get_device_status", "self.lamp.turn_on", "self.lamp.turn_off"}
        await hub.tools.call("self.lamp.turn_on", {}, TURN)
        async with asyncio.timeout(20):
            while not speaker.settings.lamp:
                await asyncio.sleep(0.01)
        assert speaker.things.commands == [("Lamp", "TurnOn", {})]
        _, status = await hub.tools.call("self.get_device_status", {}, TURN)
        assert status.data["battery"] == {"level": 88, "charging": False}
        assert status.data["lamp"] == {"power": False}


async def test_an_old_device_with_a_name_is_a_thing_of_its_room(hub: Hub) -> None:
    async with device(hub) as speaker:
        await told(hub, speaker)
        player = hub.entities.find(name="old speaker", area="Bedroom")[0]
        assert dict(player.state.attributes) == {"volume": 70, "brightness": 75, "theme": "light"}
        assert hub.entities.find(name="Old Speaker battery")[0].state.value == "88"


async def test_a_command_is_never_sent_without_all_its_parameters_in_their_types(hub: Hub) -> None:
    async with device(hub) as speaker:
        await told(hub, speaker)
        for arguments in ({}, {"volume": "loud"}, {"volume": 101}, {"volume": None}, {"loudness": 5}):
            with pytest.raises(ToolError):
                await hub.device_tools.call(MAC, "self.audio_speaker.set_volume", arguments)
        await hub.device_tools.call(MAC, "self.audio_speaker.set_volume", {"volume": "41"})
        async with asyncio.timeout(20):
            while not speaker.things.commands:
                await asyncio.sleep(0.01)
        assert speaker.things.commands == [("Speaker", "SetVolume", {"volume": 41})]
        assert speaker.complaints == []


async def test_several_things_in_one_message_are_taken(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        await speaker.send_text(
            '{"session_id":"","type":"iot","descriptors":['
            '{"name":"Fan","description":"风扇","properties":{},"methods":{"SetSpeed":{"description":"",'
            '"parameters":{"speed":{"description":"","type":"number"},"swing":{"description":"","type":"boolean"}}}}},'
            '{"name":"Radio","methods":{"Play":{"parameters":{"station":{"type":"string"}}}}}]}'
        )
        async with asyncio.timeout(20):
            while "self.radio.play" not in hub.device_tools.connected[MAC].tools:
                await asyncio.sleep(0.01)
        fan = hub.device_tools.connected[MAC].tools["self.fan.set_speed"]
        assert {name: kind["type"] for name, kind in fan.parameters["properties"].items()} == {
            "speed": "integer",
            "swing": "boolean",
        }
        assert fan.parameters["required"] == ["speed", "swing"]


NONSENSE = (
    '{"type":"iot"}',
    '{"type":"iot","descriptors":{}}',
    '{"type":"iot","descriptors":[null,5,{"name":7},{"name":"A","methods":[1]},{"name":"B","methods":{"Go":null}}]}',
    '{"type":"iot","descriptors":[{"name":"C","methods":{"Go":{"parameters":{"x":{"type":"array"}}}}}]}',
    '{"type":"iot","descriptors":[{"name":"D","methods":{"Go":{"parameters":{"x":null}}}}]}',
    '{"type":"iot","states":[null,{"name":5,"state":{}},{"name":"Speaker","state":"loud"}]}',
    '{"type":"iot","states":[{"name":"Speaker","state":{"volume":"loud"}},{"name":"Battery","state":{"level":1e999}}]}',
)


async def test_nonsense_from_an_old_device_disturbs_nobody(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        for message in NONSENSE:
            await speaker.send_text(message)
        assert (await speaker.ask_text("how full is your battery")).said == "This device has no battery."
        assert (await hub.ask("volume thirty percent", "en", MAC)).said == "The volume is 30 percent."
        known = set(hub.device_tools.connected[MAC].tools)
        assert not known & {"self.a.go", "self.b.go", "self.c.go", "self.d.go"}, "what cannot be called is not offered"
        with pytest.raises(ToolError):
            await hub.device_tools.call(MAC, "self.audio_speaker.set_volume", {})


def test_a_command_names_thing_method_and_parameters() -> None:
    frame = IotCommand("Speaker", "SetVolume", {"volume": 40}).json("")
    assert frame == (
        '{"type":"iot","session_id":"","commands":[{"name":"Speaker","method":"SetVolume","parameters":{"volume":40}}]}'
    )


KEYS = "name methods parameters type number boolean string descriptors states state volume level".split()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(KEYS) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries({"descriptors": st.lists(JSON), "states": st.lists(JSON)}) | JSON, max_size=4))
def test_no_description_of_things_can_break_the_hub(messages: list[Any]) -> None:
    async def talk() -> None:
        toolset = IotToolset(Deaf())
        for message in messages:
            toolset.receive(Iot(message if isinstance(message, dict) else {"descriptors": message, "states": message}))
        await toolset.status()
        for name, tool in tuple(toolset.tools.items()):
            fitting = {"integer": 5, "boolean": True, "string": "x"}
            kinds = {key: kind["type"] for key, kind in tool.parameters["properties"].items()}
            assert await toolset.call(name, {key: fitting[kind] for key, kind in kinds.items()})

    asyncio.run(talk())
