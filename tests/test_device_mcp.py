"""What people ask of the device itself, and the tools that it brings over MCP: a real hub and a device as firmware makes it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from deaf_link import Deaf
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.core.events import DeviceRenamed
from xiaozhi_hub.core.flow import Channel, TurnInfo
from xiaozhi_hub.devices.abilities.mcp import McpToolset, VisionOffer
from xiaozhi_hub.errors import MissingSlot, ToolError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.device_messages import Mcp, parse_device_message
from xiaozhi_hub.protocol.hub_messages import McpRequest
from xiaozhi_hub.testing import FakeDevice, FirmwareProfile, FirmwareTool, TurnResult, running_hub
from xiaozhi_hub.tools.arguments import Misfit
from xiaozhi_hub.tools.device import CallLimits, DeviceCallError

MAC = "02:00:00:00:00:01"
KITCHEN = "02:00:00:00:00:02"
CONFIGURATION = """
voice: {vad: echo, asr: echo, tts: echo, llm: %s}
devices:
  "02:00:00:00:00:02": {name: Kitchen Speaker, area: Kitchen}
integrations:
  echo: {%s}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
"""
CAMERA = FirmwareProfile(parts=("screen", "camera"))
KEYS = "tools name inputSchema properties type minimum maximum enum items default required annotations audience".split()
KEYS += "nextCursor serverInfo version content text isError message self.a integer".split()


@asynccontextmanager
async def hub_with(folder: Path, echo: str = "") -> AsyncIterator[Hub]:
    async with running_hub(folder / "config", CONFIGURATION % ("echo" if "llm:" in echo else "none", echo)) as hub:
        hub.device_tools.limits = CallLimits(call_s=15.0, camera_s=20.0, settle_s=0.0)
        yield hub


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with hub_with(tmp_path) as hub:
        yield hub


def device(hub: Hub, device_id: str = MAC, **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, listens=False, **more)


async def learned(hub: Hub, device_id: str = MAC) -> None:
    """Wait until the hub knows the tools of the device."""
    async with asyncio.timeout(20):
        while device_id not in hub.device_tools.connected:
            await asyncio.sleep(0.01)
        await hub.device_tools.connected[device_id].learned()


async def ask_in_turn(speaker: FakeDevice, *texts: str) -> list[str]:
    """Ask through the device, and hear it out."""
    return [(await speaker.ask_text(text)).said for text in texts]


async def asked(hub: Hub, text: str, language: str = "en", device_id: str = MAC) -> str:
    """Ask for the device without waiting until it has spoken; return what it would say."""
    return (await hub.ask(text, language, device_id)).said


def turn_of(device_id: str, language: str = "en") -> TurnInfo:
    return TurnInfo("t1", "s1", device_id, language, channel=Channel.TEXT)


# -- loudspeaker and screen -------------------------------------------------------------------------------------------


async def test_louder_and_quieter_move_the_volume_of_the_device_that_is_asked(hub: Hub) -> None:
    async with device(hub) as speaker:
        speaker.settings.volume = 35  # somebody has turned the knob: the present value counts
        said = await ask_in_turn(speaker, "louder", "quieter", "quieter")
        assert said == ["The volume is 45 percent.", "The volume is 35 percent.", "The volume is 25 percent."]
        assert speaker.settings.volume == 25
        assert speaker.complaints == []


async def test_a_volume_is_set_as_it_was_said(hub: Hub) -> None:
    async with device(hub) as speaker:
        assert (await speaker.ask_text("volume thirty percent")).said == "The volume is 30 percent."
        assert speaker.settings.volume == 30
        assert await asked(hub, "set the volume to 40") == "The volume is 40 percent."
        assert await asked(hub, "set volume to fifty percent") == "The volume is 50 percent."
        assert speaker.settings.volume == 50


async def test_volume_ends_at_its_ends(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        speaker.settings.volume = 95
        assert await asked(hub, "louder") == "The volume is 100 percent."
        speaker.settings.volume = 4
        assert await asked(hub, "quieter") == "The volume is 0 percent."


async def test_what_was_silenced_is_as_loud_as_before(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        speaker.settings.volume = 40
        assert await asked(hub, "mute") == "I am silent now."
        assert speaker.settings.volume == 0
        assert await asked(hub, "unmute") == "The volume is 40 percent."


async def test_louder_means_the_tv_where_the_tv_plays(hub: Hub) -> None:
    hub.entities.get("media_player.tv").area = "Kitchen"  # type: ignore[union-attr]
    hub.entities.get("media_player.tv").set_state("playing")  # type: ignore[union-attr]
    async with device(hub, KITCHEN) as speaker:
        assert (await speaker.ask_text("louder")).said == "Set the volume of the TV to 50 percent."
        assert speaker.settings.volume == 70


async def test_the_screen_is_dimmed_and_set(hub: Hub) -> None:
    async with device(hub) as speaker:
        assert (await speaker.ask_text("dim the screen")).said == "The screen is at 55 percent."
        assert await asked(hub, "make the screen brighter") == "The screen is at 75 percent."
        assert await asked(hub, "set the screen brightness to fifty percent") == "The screen is at 50 percent."
        speaker.settings.brightness = 10
        assert await asked(hub, "dim the screen") == "The screen is at 5 percent.", "it stays readable"
        assert await asked(hub, "use the dark theme") == "The screen is dark now."
        assert speaker.settings.theme == "dark"


async def test_the_same_is_understood_and_answered_in_chinese(hub: Hub) -> None:
    async with device(hub, language="zh-CN") as speaker:
        assert (await speaker.ask_text("声音大一点")).said == "音量已调到百分之80。"
        for text, said in (
            ("音量调到三十", "音量已调到百分之30。"),
            ("把屏幕调暗一点", "屏幕亮度已调到百分之55。"),
            ("屏幕亮度调到百分之五十", "屏幕亮度已调到百分之50。"),
            ("换成深色主题", "屏幕已换成深色。"),
            ("静音", "已静音。"),
            ("你还有多少电", "电量还有百分之88。"),
        ):
            assert await asked(hub, text, "zh-Hans") == said
        assert (speaker.settings.volume, speaker.settings.brightness, speaker.settings.theme) == (0, 50, "dark")


async def test_the_battery_is_told(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        assert await asked(hub, "how full is your battery") == "The battery is at 88 percent."
        speaker.settings.charging = True
        assert await asked(hub, "what's your battery level") == "The battery is at 88 percent and charging."


async def test_what_the_board_lacks_is_said(hub: Hub) -> None:
    async with device(hub, profile=FirmwareProfile(parts=())) as speaker:
        assert (await speaker.ask_text("take a photo")).said == "This device has no camera."
        for text, said in (
            ("dim the screen", "This device has no screen whose brightness can be set."),
            ("use the dark theme", "This device has no screen with a light and a dark theme."),
            ("how full is your battery", "This device has no battery."),
        ):
            assert await asked(hub, text) == said


# -- other devices ----------------------------------------------------------------------------------------------------


async def test_another_device_is_set_by_its_name_or_its_room(hub: Hub) -> None:
    async with device(hub) as here, device(hub, KITCHEN) as there:
        await there.connect()
        await learned(hub, KITCHEN)
        said = (await here.ask_text("set the volume of the kitchen speaker to 20 percent")).said
        assert said == "The Kitchen Speaker: the volume is 20 percent."
        assert there.settings.volume == 20
        assert (await here.ask_text("dim the screen in the kitchen")).said == (
            "The Kitchen Speaker: the screen is at 55 percent."
        )
        said = await asked(hub, "set the volume in the kitchen to 60 percent")
        assert said == "The Kitchen Speaker: the volume is 60 percent."
        there.settings.volume = 33  # its knob was turned, and nobody told the hub
        said = await asked(hub, "turn up the volume in the kitchen")
        assert said == "The Kitchen Speaker: the volume is 43 percent."
        hub.entities.get("media_player.tv").area = "Kitchen"  # type: ignore[union-attr]
        await asked(hub, "set the volume in the kitchen to 60 percent")
        assert there.settings.volume == hub.entities.get("media_player.tv").state.attributes["volume"] == 60  # type: ignore[union-attr]
        assert (here.settings.volume, here.settings.brightness) == (70, 75), "the asking device stays as it is"


async def test_a_device_that_is_given_a_name_is_reached_by_it_at_once(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        for name, area in (("Hall Box", ""), ("Loft Box", "Loft")):
            hub.bus.tell(DeviceRenamed(MAC, name, area))
            _, answer = await hub.tools.call("device.set_volume", {"volume": 20, "name": name.lower()}, turn_of(""))
            assert answer.text == f"The {name}: the volume is 20 percent."
            (player,) = hub.entities.find(name=name)
            assert (player.area or "", player.state.attributes["volume"]) == (area, 20)
        assert hub.entities.find(name="Hall Box") == []
        hub.bus.tell(DeviceRenamed(KITCHEN, "Other", "Attic"))
        assert hub.entities.find(name="Kitchen Speaker"), "what is written in the configuration goes before"


async def test_a_sleeping_device_is_said_to_sleep(hub: Hub) -> None:
    async with device(hub) as here:
        said = (await here.ask_text("set the volume of the kitchen speaker to 20 percent")).said
    assert said == "Kitchen Speaker is asleep. I can only reach it while somebody is talking to it."


async def test_a_named_device_is_a_thing_of_its_room(hub: Hub) -> None:
    async with device(hub, KITCHEN) as speaker:
        await speaker.ask_text("volume thirty percent")
        player = hub.entities.find(name="kitchen speaker", area="kitchen")[0]
        assert (player.state.value, player.state.attributes["volume"]) == ("idle", 30)
        assert player.state.attributes["brightness"] == 75
        battery = hub.entities.find(name="Kitchen Speaker battery")[0]
        assert (battery.area, battery.state.value) == ("Kitchen", "88")
    async with asyncio.timeout(20):
        while player.state.value != "unknown":  # its link has ended
            await asyncio.sleep(0.01)


async def test_without_a_device_of_its_own_a_question_means_the_only_one(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        record = await hub.ask("dim the screen", "en", "")
        assert record.said == f"{MAC}: the screen is at 55 percent."
        assert speaker.settings.brightness == 55


async def test_all_devices_of_a_room_are_set_together(hub: Hub) -> None:
    async with device(hub, KITCHEN) as there:
        await there.connect()
        await learned(hub, KITCHEN)
        _, answer = await hub.tools.call("device.set_volume", {"volume": "20", "area": "kitchen"}, turn_of(MAC))
        assert answer.data["devices"] == [KITCHEN]
        assert there.settings.volume == 20
        for wrong in ({"area": "Attic"}, {"name": "Lava Lamp"}):
            with pytest.raises(ToolError) as told:
                await hub.tools.call("device.set_volume", {"volume": 20, **wrong}, turn_of(MAC))
            assert told.value.code == "device-unknown"


async def test_it_is_asked_which_device_when_none_asks_and_several_are_there(hub: Hub) -> None:
    with pytest.raises(ToolError, match="No voice device is connected"):
        await hub.tools.call("device.take_photo", {}, turn_of(""))
    async with device(hub) as here, device(hub, KITCHEN) as there:
        await here.connect()
        await there.connect()
        await learned(hub, KITCHEN)
        await learned(hub)
        with pytest.raises(MissingSlot, match="Which device") as question:
            await hub.tools.call("device.change_brightness", {"step": "down"}, turn_of(""))
        assert question.value.slot == "name"


# -- camera -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def eyes(hub: Hub, reply: str, status: int = 200) -> AsyncIterator[list[tuple[str, str, int]]]:
    """Somebody who looks at photos; yields what came: token, question, bytes."""
    seen: list[tuple[str, str, int]] = []

    async def look(request: web.Request) -> web.Response:
        assert request.content_length is None, "the firmware sends chunks"
        form = await request.multipart()
        question = await (await form.next()).text()  # type: ignore[union-attr]
        photo = await (await form.next()).read()  # type: ignore[union-attr]
        seen.append((request.headers.get("Authorization", ""), question, len(photo)))
        return web.Response(text=reply, status=status)

    app = web.Application()
    app.router.add_post("/vision", look)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    hub.device_tools.offer_vision = lambda link: VisionOffer(f"http://127.0.0.1:{port}/vision", "v-1")
    try:
        yield seen
    finally:
        await runner.cleanup()


async def test_take_a_photo_what_do_you_see_is_answered_with_what_is_seen(hub: Hub) -> None:
    async with eyes(hub, '{"success":true,"action":"RESPONSE","response":"A red mug on a desk."}') as seen:
        async with device(hub, profile=CAMERA) as speaker:
            assert (await speaker.ask_text("take a photo: what do you see?")).said == "A red mug on a desk."
            assert await asked(hub, "take a photo and tell me what color the mug is") == "A red mug on a desk."
    assert [(token, question) for token, question, _ in seen] == [
        ("Bearer v-1", "What do you see? Answer in one or two sentences."),
        ("Bearer v-1", "what color the mug is"),
    ]
    assert all(size > 2000 for _, _, size in seen)


async def test_a_photo_can_be_asked_for_in_chinese(hub: Hub) -> None:
    async with eyes(hub, '{"success":true,"response":"桌上有一个红色的杯子。"}') as seen:
        async with device(hub, profile=CAMERA, language="zh-CN") as speaker:
            await speaker.connect()
            for text in ("你看到了什么", "拍张照片，看看桌上有什么"):
                assert await asked(hub, text, "zh-Hans") == "桌上有一个红色的杯子。"
    assert [question for _, question, _ in seen] == ["你看到了什么？请用一两句话回答。", "桌上有什么"]


async def test_a_photo_that_nobody_looks_at_is_said_so(hub: Hub) -> None:
    async with device(hub, profile=CAMERA) as speaker:
        result = await speaker.ask_text("what do you see")
    assert result.said == "I can take a photo, but nothing here can look at it yet."


async def test_a_photo_that_fails_is_said_so_whatever_the_firmware_calls_it(hub: Hub) -> None:
    async with eyes(hub, "no", status=500):
        for version in ("1.8.0", "2.4.2"):
            async with device(hub, profile=FirmwareProfile(version=version, parts=("camera",))) as speaker:
                await speaker.connect()
                assert await asked(hub, "take a photo") == "The photo did not work."


async def test_why_a_photo_was_not_understood_is_spoken(hub: Hub) -> None:
    async with eyes(hub, '{"success":false,"message":"The picture is too dark."}'):
        async with device(hub, profile=CAMERA) as speaker:
            assert (await speaker.ask_text("take a photo")).said == "The picture is too dark."


# -- how devices are asked what they can do ---------------------------------------------------------------------------


async def test_a_device_is_greeted_and_then_asked_for_its_tools(hub: Hub) -> None:
    async with device(hub, profile=CAMERA) as speaker:
        await speaker.connect()
        await learned(hub)
        assert speaker.tools.requests[:2] == ["initialize", "tools/list"]
        assert speaker.tools.initialized["capabilities"] == {}, "no vision is promised where there is none"
        sent = [line for line in speaker.conversation if "← mcp" in line]
        assert all('"id": ' in line and "null" not in line for line in sent), sent
        assert "self.camera.take_photo" in hub.device_tools.connected[MAC].tools


async def test_vision_is_offered_where_somebody_looks(hub: Hub) -> None:
    hub.device_tools.offer_vision = lambda link: VisionOffer(f"http://hub.local:8003/{link.session_id}", "t")
    async with device(hub) as speaker:
        await speaker.connect()
        await learned(hub)
        vision = speaker.tools.initialized["capabilities"]["vision"]
    assert vision == {"url": f"http://hub.local:8003/{speaker.session_id}", "token": "t"}


async def answer_nothing() -> str | None:
    return None


async def answer_ok(**_: Any) -> str:
    return "ok"


async def test_a_long_list_is_read_to_its_end(hub: Hub) -> None:
    async with device(hub) as speaker:
        for number in range(60):
            speaker.tools.add(FirmwareTool(f"self.otto.move_{number}", answer_ok, "动作。" * 40))
        await speaker.connect()
        await learned(hub)
        assert speaker.tools.requests.count("tools/list") > 2
        assert {f"self.otto.move_{number}" for number in range(60)} <= set(hub.device_tools.connected[MAC].tools)


async def test_a_list_that_leads_round_in_a_circle_ends(hub: Hub) -> None:
    tool = {"name": "self.only.one", "inputSchema": {"type": "object", "properties": {}}}
    for cursors in (["a", "a"], ["a", "b", "a"], ["self.only.one", ""], [str(number) for number in range(1000)]):
        following = iter(cursors)
        async with device(hub) as speaker:
            speaker.tools._list = lambda _, it=following: {"tools": [tool], "nextCursor": next(it)}  # type: ignore[misc]
            await speaker.connect()
            await learned(hub)
            assert set(hub.device_tools.connected[MAC].tools) == {"self.only.one"}
            assert speaker.tools.requests.count("tools/list") == min(len(cursors), 32)


async def test_tools_for_people_are_asked_for_where_the_firmware_has_them(hub: Hub) -> None:
    for version, has_them in (("1.6.6", False), ("1.8.0", False), ("2.0.0", True), ("2.4.2", True)):
        async with device(hub, profile=FirmwareProfile(version=version)) as speaker:
            await speaker.connect()
            await learned(hub)
            assert any("withUserTools" in line for line in speaker.conversation) is has_them
            assert ("self.reboot" in hub.device_tools.connected[MAC].tools) is has_them


async def test_a_device_without_tools_is_a_device_all_the_same(hub: Hub) -> None:
    async with device(hub, profile=FirmwareProfile(answers_mcp=False)) as silent:
        assert (await silent.ask_text("turn on the bed light")).said == "Turned on the Bed Light."
    async with device(hub, profile=FirmwareProfile(features=())) as other:
        assert (await other.ask_text("turn off the bed light")).said == "Turned off the Bed Light."
        assert not any("← mcp" in line for line in other.conversation)


async def test_a_device_that_refuses_the_greeting_tells_its_tools_all_the_same(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = speaker.tools._result

        async def refuse(method: str, params: Any) -> Any:
            if method == "initialize":
                raise ValueError("Method not implemented: initialize")
            return await result(method, params)

        speaker.tools._result = refuse  # type: ignore[method-assign]
        await speaker.connect()
        await learned(hub)
        assert await asked(hub, "volume thirty percent") == "The volume is 30 percent."


# -- calls that go wrong ----------------------------------------------------------------------------------------------


async def replaced(speaker: FakeDevice, run: Any) -> None:
    percent = {"volume": {"type": "integer", "minimum": 0, "maximum": 100}}
    speaker.tools.add(FirmwareTool("self.audio_speaker.set_volume", run, properties=percent))


async def impatient(hub: Hub, speaker: FakeDevice, seconds: float = 0.2) -> None:
    """Have the hub wait so long for the device's answers from now on, but not for its tools."""
    await speaker.connect()
    await learned(hub)
    hub.device_tools.connected[MAC]._limits = CallLimits(call_s=seconds)  # type: ignore[attr-defined]


async def test_a_call_that_is_never_answered_ends_with_a_voice(hub: Hub) -> None:
    async def never(volume: int) -> str | None:
        return None

    async with device(hub) as speaker:
        await replaced(speaker, never)
        await impatient(hub, speaker)
        assert (await speaker.ask_text("volume thirty percent")).said == "The device does not answer."
        assert (await speaker.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_an_error_without_a_code_ends_with_a_voice(hub: Hub) -> None:
    async def refuse(volume: int) -> str:
        raise ValueError("The codec is busy")

    async with device(hub) as speaker:
        await replaced(speaker, refuse)
        assert (await speaker.ask_text("volume thirty percent")).said == "The device could not do that."


async def test_an_error_that_breaks_its_json_is_understood_at_once(hub: Hub) -> None:
    async def refuse(volume: int) -> str:
        raise ValueError('No "codec" in\n"board"')

    hub.device_tools.limits = CallLimits(call_s=60)
    async with device(hub) as speaker:
        await replaced(speaker, refuse)
        result: TurnResult = await speaker.ask_text("volume thirty percent", within=10)
        assert result.said == "The device could not do that."
        with pytest.raises(ToolError) as told:
            await hub.device_tools.call(MAC, "self.audio_speaker.set_volume", {"volume": 3})
        assert told.value.hint == 'No "codec" in "board"'


async def test_a_device_that_answers_nothing_is_not_asked_without_end(hub: Hub) -> None:
    async with device(hub) as speaker:
        speaker.tools.add(FirmwareTool("self.slow.one", answer_nothing))
        await impatient(hub, speaker, 1.0)
        calls = [hub.device_tools.call(MAC, "self.slow.one", {}) for _ in range(40)]
        errors = await asyncio.gather(*calls, return_exceptions=True)
        assert {error.code for error in errors if isinstance(error, ToolError)} == {"device-silent"}
        assert len(speaker.tools.calls) == 16


async def test_ids_stay_within_what_the_firmware_holds(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        await learned(hub)
        hub.device_tools.connected[MAC]._next_id = 2**31 - 1  # type: ignore[attr-defined]
        for _ in range(3):
            await hub.device_tools.status(MAC)
        sent = [line for line in speaker.conversation if "get_device_status" in line and "← mcp" in line]
        assert [json.loads(line.split("payload=", 1)[1].split(', "method"')[0] + "}")["id"] for line in sent] == [
            2**31 - 1,
            1,
            2,
        ]


async def test_a_device_that_connects_again_is_asked_again(hub: Hub) -> None:
    async with device(hub) as old, device(hub) as new:
        await old.connect()
        await learned(hub)
        new.tools.add(FirmwareTool("self.new.one", answer_ok))
        await new.connect()
        await old.hung_up(20)
        async with asyncio.timeout(20):
            while "self.new.one" not in hub.device_tools.connected[MAC].tools:
                await asyncio.sleep(0.01)
        assert await asked(hub, "volume thirty percent") == "The volume is 30 percent."
        assert (old.settings.volume, new.settings.volume) == (70, 30)


async def test_hanging_up_ends_the_wait_for_an_answer(hub: Hub) -> None:
    hub.device_tools.limits = CallLimits(call_s=60)
    async with device(hub) as speaker:
        speaker.tools.add(FirmwareTool("self.slow.one", answer_nothing))
        await speaker.connect()
        await learned(hub)
        call = asyncio.gather(hub.device_tools.call(MAC, "self.slow.one", {}), return_exceptions=True)
        while not speaker.tools.calls:
            await asyncio.sleep(0.01)
        await speaker.hang_up()
        async with asyncio.timeout(20):
            (error,) = await call
    assert isinstance(error, ToolError)
    assert error.code == "device-gone"


NONSENSE = (
    '{"jsonrpc":"2.0","id":"one","result":{}}',
    '{"jsonrpc":"2.0","id":null,"result":[]}',
    '{"jsonrpc":"2.0","id":true,"result":{}}',
    '{"jsonrpc":"2.0","id":[1],"result":{}}',
    '{"jsonrpc":"2.0","id":987654,"result":{}}',
    '{"jsonrpc":"2.0","id":1e300}',
    '{"jsonrpc":"2.0","method":"notifications/message","params":null}',
    "{}",
    "[]",
    '{"id":987654,"error":{"message":"un"escaped"}}',
    '{"id":',
)


async def test_nonsense_from_a_device_disturbs_nobody(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        await learned(hub)
        for payload in NONSENSE:
            await speaker.send_text(f'{{"session_id":"","type":"mcp","payload":{payload}}}')
            assert await asked(hub, "volume thirty percent") == "The volume is 30 percent."


ANSWERS = (
    None,
    7,
    [],
    {},
    {"content": 5},
    {"content": [{"type": "text", "text": 5}]},
    {"content": [None], "isError": 1},
)


async def test_an_answer_that_makes_no_sense_breaks_nothing(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        await learned(hub)
        for answer in ANSWERS:
            reply = json.dumps({"jsonrpc": "2.0", "result": answer})

            async def replies(request: Any, reply: str = reply) -> str:
                return f'{reply[:-1]},"id":{request["id"]}}}'

            speaker.tools.answer = replies  # type: ignore[method-assign]
            said = await asked(hub, "quieter")
            if isinstance(answer, dict):
                assert said == "The device does not say how it is set now. Please say a number."
            else:
                assert said == "The device could not do that."


LISTS: tuple[Any, ...] = (
    None,
    [None, 5, "x", {}],
    [{"name": 5}, {"name": "with space"}, {"name": ""}],
    [{"name": "self.a", "inputSchema": [], "annotations": [], "description": None}],
    [{"name": "self.a", "inputSchema": {"properties": {"x": 1, "y": {"type": [1], "minimum": "low"}}, "required": 7}}],
)


async def test_a_list_that_makes_no_sense_breaks_nothing(hub: Hub) -> None:
    for listed in LISTS:
        async with device(hub) as speaker:
            speaker.tools._list = lambda _, listed=listed: {"tools": listed}  # type: ignore[misc]
            await speaker.connect()
            await learned(hub)
            assert set(hub.device_tools.connected[MAC].tools) <= {"self.a"}
            if "self.a" in hub.device_tools.connected[MAC].tools:
                with pytest.raises(ToolError, match="could not do that"):  # the device has none of that name
                    await hub.device_tools.call(MAC, "self.a", {})


# -- arguments --------------------------------------------------------------------------------------------------------


async def test_arguments_reach_the_device_in_its_types(hub: Hub) -> None:
    properties = {
        "angle": {"type": "integer", "minimum": -90, "maximum": 90},
        "fast": {"type": "boolean"},
        "text": {"type": "string", "default": "hi"},
    }
    async with device(hub) as speaker:
        speaker.tools.add(FirmwareTool("self.otto.turn", answer_ok, properties=properties))
        await speaker.connect()
        await learned(hub)
        given = {"angle": "45", "fast": "true", "text": 7}
        assert await hub.device_tools.call(MAC, "self.otto.turn", given) == "ok"
        assert speaker.tools.calls[-1] == ("self.otto.turn", {"angle": 45, "fast": True, "text": "7"})
        await hub.device_tools.call(MAC, "self.otto.turn", {"angle": 45.0, "fast": False, "text": None})
        assert speaker.tools.calls[-1] == ("self.otto.turn", {"angle": 45, "fast": False})
        count = len(speaker.tools.calls)
        for wrong in ({"angle": 91, "fast": True}, {"fast": True}, {"angle": "left", "fast": True}):
            with pytest.raises(ToolError) as told:
                await hub.device_tools.call(MAC, "self.otto.turn", wrong, "zh-Hans")
            assert told.value.code == "tool-arguments"
        assert len(speaker.tools.calls) == count, "what does not fit is never sent"


# -- who may use what -------------------------------------------------------------------------------------------------


async def test_a_model_uses_the_tools_that_the_asking_device_brings(tmp_path: Path) -> None:
    rules = """llm: {rules: [
      {heard: "dance", call: {tool: self.otto.dance, arguments: {steps: "3"}}},
      {result_of: self.otto.dance, say: "It says {result}"}]}"""
    async with hub_with(tmp_path, rules) as hub, device(hub) as speaker:
        speaker.tools.add(FirmwareTool("self.otto.dance", answer_ok, properties={"steps": {"type": "integer"}}))
        await speaker.connect()
        await learned(hub)
        assert (await speaker.ask_text("let us dance")).said == "It says ok"
        assert speaker.tools.calls[-1] == ("self.otto.dance", {"steps": 3})
        names = {tool.name for tool in hub.tools.all_for(turn_of(MAC))}
        assert "self.otto.dance" in names
        assert "self.audio_speaker.set_volume" not in names, "device.set_volume is the same, for all devices"
        assert "self.otto.dance" not in {tool.name for tool in hub.tools.all_for(turn_of(KITCHEN))}
        assert "self.otto.dance" not in {tool.name for tool in hub.tools.all()}


async def test_a_model_never_gets_the_tools_for_people(tmp_path: Path) -> None:
    rules = """llm: {rules: [
      {heard: "restart", call: {tool: self.reboot, arguments: {}}},
      {heard: "other", call: {tool: device.use, arguments: {tool: self.reboot}}},
      {result_of: self.reboot, say: "No. {result}"}, {result_of: device.use, say: "No. {result}"}]}"""
    async with hub_with(tmp_path, rules) as hub, device(hub) as speaker:
        await speaker.connect()
        await learned(hub)
        offered = [tool.name for tool in hub.tools.all_for(turn_of(MAC)) if not tool.owner_only]
        assert "self.get_device_status" in offered
        assert not {"self.reboot", "self.upgrade_firmware", "self.get_system_info"} & set(offered)
        assert (await speaker.ask_text("restart yourself")).said == "No. error: I cannot do self.reboot."
        assert (await speaker.ask_text("the other way")).said == "No. error: That can only be done on the hub's pages."
        assert not speaker.tools.rebooted


async def test_pages_and_automations_may_use_the_tools_for_people(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        await learned(hub)
        _, answer = await hub.tools.call("self.get_system_info", {}, turn_of(MAC))
        assert answer.data == {"application": {"version": "2.4.2"}}
        with pytest.raises(ToolError):  # the firmware lists its argument as optional, and cannot do without
            await hub.device_tools.call(MAC, "self.upgrade_firmware", {})
        assert await hub.device_tools.call(MAC, "self.reboot", {}) == "true"
        assert speaker.tools.rebooted


async def test_tools_of_another_device_are_used_by_its_name(hub: Hub) -> None:
    async with device(hub, KITCHEN) as there:
        there.tools.add(FirmwareTool("self.otto.dance", answer_ok, properties={"steps": {"type": "integer"}}))
        await there.connect()
        await learned(hub, KITCHEN)
        _, listed = await hub.tools.call("device.list", {}, turn_of(MAC))
        assert listed.text == "Connected now: Kitchen Speaker."
        assert "self.otto.dance" in listed.data["devices"][KITCHEN]["tools"]
        assert "self.reboot" not in listed.data["devices"][KITCHEN]["tools"]
        use = {"tool": "self.otto.dance", "name": "kitchen speaker", "arguments": {"steps": "2"}}
        _, answer = await hub.tools.call("device.use", use, turn_of(MAC))
        assert (answer.text, there.tools.calls[-1]) == ("ok", ("self.otto.dance", {"steps": 2}))


async def test_a_tool_that_ends_the_conversation_is_confirmed_first(hub: Hub) -> None:
    async with device(hub) as speaker:
        speaker.tools.add(FirmwareTool("self.system.reconfigure_wifi", answer_ok))
        await speaker.connect()
        await learned(hub)
        with pytest.raises(MissingSlot, match="Are you sure"):
            await hub.tools.call("self.system.reconfigure_wifi", {}, turn_of(MAC))
        with pytest.raises(ToolError, match="pages"):
            await hub.tools.call("device.use", {"tool": "self.system.reconfigure_wifi"}, turn_of(MAC))
        assert speaker.tools.calls == []


# -- on the wire ------------------------------------------------------------------------------------------------------


def test_a_request_has_a_numeric_id_and_no_empty_params() -> None:
    frame = McpRequest(7, "tools/list").json("s1")
    assert frame == '{"type":"mcp","session_id":"s1","payload":{"jsonrpc":"2.0","id":7,"method":"tools/list"}}'


@pytest.mark.parametrize("message", ['a "quoted" word', 'ends with a quote"', "two\nlines", 'brace } and "x"}'])
def test_an_unescaped_error_is_read_with_its_id(message: str) -> None:
    frame = '{"session_id":"s","type":"mcp","payload":{"jsonrpc":"2.0","id":12,"error":{"message":"TEXT"}}}'
    frame = frame.replace("TEXT", message)
    assert parse_device_message(frame) == Mcp({"jsonrpc": "2.0", "id": 12, "error": {"message": message}})


# -- whatever comes ---------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.booleans(), JSON), max_size=4), JSON)
def test_no_answer_to_any_request_can_break_the_client(answers: list[tuple[bool, Any]], arguments: Any) -> None:
    async def talk() -> None:
        link = Deaf()
        toolset = McpToolset(link, limits=CallLimits(call_s=0.01, camera_s=0.01, settle_s=0))
        start = asyncio.gather(toolset.start())
        for refused, answer in answers:
            await asyncio.sleep(0)
            id_ = getattr(link.sent[-1], "id", 0) if link.sent else 0
            toolset.receive(Mcp({"jsonrpc": "2.0", "id": id_, "error" if refused else "result": answer}))
        await start
        for name in tuple(toolset.tools):
            try:
                await toolset.call(name, arguments if isinstance(arguments, dict) else {})
            except (DeviceCallError, Misfit):
                continue
        toolset.close()

    asyncio.run(talk())
