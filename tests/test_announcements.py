"""People reach others in the house through their devices: awake, asleep, or asleep on MQTT; through a real hub and real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import ClientSession
from tone_words import spoken as said

from xiaozhi_hub.audio.ogg import write_ogg
from xiaozhi_hub.audio.opus import OpusEncoder, decode_all, encode_all, packet_ms
from xiaozhi_hub.audio.tones import chime
from xiaozhi_hub.cli import main
from xiaozhi_hub.cli.voice import say
from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.devices.announcements.messenger import MOST_WAITING
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import DeviceState, FakeDevice, NoAnswer, TurnResult, Utterance, running_hub

KITCHEN, OFFICE, BEDROOM = (f"02:00:00:00:00:0{number}" for number in (1, 2, 3))
CONFIG = """
voice: {vad: echo, asr: echo, tts: echo, llm: none, lead_ms: 1000}
devices:
  "02:00:00:00:00:01": {name: Kitchen speaker, area: Kitchen}
  "02:00:00:00:00:02": {name: Desk, area: Office}
  "02:00:00:00:00:03": {name: Bedside, area: Bedroom, transport: mqtt}
integrations:
  echo: {tts: {ms: 200}}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
  mqtt_udp: {port: 0, udp_port: 0}
"""
Post = Callable[..., Awaitable[tuple[int, dict[str, Any]]]]


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, CONFIG) as hub:
        yield hub


@pytest.fixture
async def post(hub: Hub) -> AsyncIterator[Post]:
    async with ClientSession() as http:

        async def post(values: Any = None, query: str = "", **more: Any) -> tuple[int, dict[str, Any]]:
            if values is not None:
                more["json"] = values
            async with http.post(f"{hub.local_url}/api/announce{query}", **more) as reply:
                return reply.status, await reply.json()

        yield post


def device(hub: Hub, device_id: str, **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, **more)


def spoken(text: str) -> Utterance:
    return Utterance.of(said(text))


def relayed(result: TurnResult, speech: Utterance) -> bool:
    """Are the packets that hold speech in *result*, byte for byte and in order?"""
    got = [packet.data for packet in result.packets]
    sent = list(speech.packets[6 : speech.last_packet])  # the first 300 ms are quiet
    return any(got[at : at + len(sent)] == sent for at in range(len(got)))


async def receipts(hub: Hub) -> dict[str, str]:
    """What has become of the newest announcement, by device."""
    async with ClientSession() as http, http.get(f"{hub.local_url}/api/announcements") as reply:
        newest = (await reply.json())["announcements"][0]
        return {receipt["device"]: receipt["state"] for receipt in newest["receipts"]}


async def has_become(hub: Hub, state: str, device_id: str) -> None:
    async with asyncio.timeout(20):
        while (await receipts(hub))[device_id] != state:
            await asyncio.sleep(0.02)


async def shows(speaker: FakeDevice) -> None:
    """Wait until something is on its display."""
    async with asyncio.timeout(20):
        while not speaker.alerts:
            await asyncio.sleep(0.02)


# -- announcements ------------------------------------------------------------------------------------------------


async def test_an_announcement_is_spoken_at_once_where_a_link_is_open_and_later_where_the_device_sleeps(
    hub: Hub,
) -> None:
    async with device(hub, KITCHEN) as kitchen, device(hub, OFFICE) as office:
        await office.connect()
        answer = await kitchen.ask_text("announce dinner is ready")
        assert answer.said == "Okay, I pass it on. Bedside will hear it at the next wake-up."
        told = await office.next_answer()
        assert told.said == "Dinner is ready"
        assert not told.overflows and not told.unplayable and not office.complaints
        await has_become(hub, "heard", OFFICE)
        assert await receipts(hub) == {OFFICE: "heard", BEDROOM: "waiting"}
        assert not kitchen._unasked, "whoever said it is not told"


async def test_what_waits_is_told_after_the_first_answer_and_once(hub: Hub, post: Post) -> None:
    status, told = await post({"text": "The parcel has come.", "room": "office"})
    assert (status, [each["device"] for each in told["later"]]) == (200, [OFFICE])
    async with device(hub, OFFICE) as office:
        assert (await office.ask_text("turn on the bed light")).said == "Turned on the Bed Light."
        assert (await office.next_answer()).said == "The parcel has come."
        await has_become(hub, "heard", OFFICE)
        await office.ask_text("turn off the bed light")
        with pytest.raises(NoAnswer):
            await office.next_answer(0.5)


async def test_what_waits_is_not_told_between_a_question_of_the_hub_and_its_answer(hub: Hub, post: Post) -> None:
    await post({"text": "The parcel has come.", "device": "Desk"})
    async with device(hub, OFFICE) as office:
        assert (await office.ask_text("leave a message")).said == "For which room?"
        with pytest.raises(NoAnswer):
            await office.next_answer(0.5)
        await office.ask_text("never mind")
        assert (await office.next_answer()).said == "The parcel has come."


async def test_an_announcement_waits_for_whoever_is_talking(hub: Hub, post: Post) -> None:
    async with device(hub, OFFICE) as office:
        await office.connect()
        asked = asyncio.create_task(office.ask(spoken("turn on the bed light")))
        async with asyncio.timeout(20):
            while not hub.devices.sessions[OFFICE].busy:
                await asyncio.sleep(0.01)
        await post({"text": "It rains.", "device": OFFICE})
        assert (await asked).said == "Turned on the Bed Light."
        assert (await office.next_answer()).said == "It rains."
        assert not office.complaints


async def test_who_hangs_up_while_a_ring_waits_for_its_turn_was_not_reached(hub: Hub) -> None:
    async with device(hub, KITCHEN) as kitchen:
        asking = asyncio.create_task(kitchen.ask_text("turn on the bed light"))
        async with asyncio.timeout(20):
            while not ((session := hub.devices.sessions.get(KITCHEN)) is not None and session.busy):
                await asyncio.sleep(0.01)
        ringing = asyncio.create_task(hub.announcer.ring(KITCHEN, "The tea is ready.", "en"))
        await asyncio.sleep(0)
        await kitchen.hang_up()
        assert await ringing is False
        with pytest.raises(NoAnswer):
            await asking


async def test_two_announcements_at_once_are_told_one_after_the_other(hub: Hub, post: Post) -> None:
    async with device(hub, OFFICE) as office:
        await office.connect()
        await asyncio.gather(*(post({"text": text, "device": OFFICE}) for text in ("One.", "Two.", "Three.")))
        heard = [(await office.next_answer()).said for _ in range(3)]
        assert sorted(heard) == ["One.", "Three.", "Two."]


async def test_a_device_that_sleeps_on_mqtt_sounds_and_shows_it(hub: Hub, post: Post) -> None:
    async with device(hub, BEDROOM) as bedroom:
        _, told = await post({"text": "Dinner is ready.", "everywhere": True})
        assert [each["device"] for each in told["shown"]] == [BEDROOM]
        await shows(bedroom)
        assert [(alert.status, alert.message) for alert in bedroom.alerts] == [("Message", "Dinner is ready.")]
        assert bedroom.state is DeviceState.IDLE and not bedroom.complaints
        assert (await receipts(hub))[BEDROOM] == "shown"
        await bedroom.ask_text("turn on the bed light")
        with pytest.raises(NoAnswer):
            await bedroom.next_answer(0.5)


async def test_what_nobody_came_for_expires_and_is_shown_as_such(hub: Hub, post: Post) -> None:
    await post({"text": "The bus leaves.", "device": OFFICE, "expires_s": 3})
    assert await receipts(hub) == {OFFICE: "waiting"}
    await has_become(hub, "expired", OFFICE)
    async with device(hub, OFFICE) as office:
        await office.ask_text("turn on the bed light")
        with pytest.raises(NoAnswer):
            await office.next_answer(0.5)


async def test_what_waits_survives_a_restart(tmp_path: Path) -> None:
    async with running_hub(tmp_path, CONFIG) as hub, device(hub, KITCHEN) as kitchen:
        await kitchen.ask_text("tell the office that lunch is ready")
    async with running_hub(tmp_path, CONFIG) as hub, device(hub, OFFICE) as office:
        await office.ask_text("turn on the bed light")
        assert (await office.next_answer()).said == "Lunch is ready"


async def test_whoever_hangs_up_in_the_middle_is_told_again(hub: Hub, post: Post) -> None:
    await post({"text": "A parcel. " * 2, "device": OFFICE})
    async with device(hub, OFFICE) as office:
        await office.ask_text("turn on the bed light")
        await office.hears("A parcel.")
        await office.hang_up()
        assert await receipts(hub) == {OFFICE: "waiting"}
        await office.ask_text("turn off the bed light")
        await office.hears("A parcel.")
        await has_become(hub, "heard", OFFICE)


@pytest.mark.parametrize(
    ("said", "answer", "told"),
    [
        ("tell the office that dinner is ready", "Okay, I pass it on.", "Dinner is ready"),
        (
            "tell everyone it snows outside",
            "Okay, I pass it on. Bedside will hear it at the next wake-up.",
            "It snows outside",
        ),
        ("tell the desk time for bed", "Okay, I pass it on.", "Time for bed"),
        ("announce in the office that the film begins", "Okay, I pass it on.", "The film begins"),
        ("告诉大家吃饭了", "好的，马上转达。 Bedside下次唤醒时会听到。", "吃饭了"),
        ("告诉书房电影开始了", "好的，马上转达。", "电影开始了"),
    ],
)
async def test_people_say_it_as_they_like(hub: Hub, said: str, answer: str, told: str) -> None:
    language = "en-US" if said.isascii() else "zh-CN"
    async with device(hub, KITCHEN, language=language) as kitchen, device(hub, OFFICE) as office:
        await office.connect()
        result = await kitchen.ask_text(said)
        assert result.said.replace(" ", "") == answer.replace(" ", "")
        assert (await office.next_answer()).said == told


# -- the person's own voice ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("speech_is_ready")
async def test_the_intercom_relays_the_voice_as_it_was_recorded(hub: Hub) -> None:
    speech = spoken("come down please")
    async with device(hub, KITCHEN) as kitchen, device(hub, OFFICE) as office:
        await office.connect()
        assert (await kitchen.ask(spoken("intercom office"))).said == "Please speak."
        assert (await kitchen.ask(speech)).said == "Okay, I pass it on."
        told = await office.next_answer()
        assert told.said == "From Kitchen speaker:"
        assert relayed(told, speech)
        assert not told.overflows and not told.unplayable and not told.underruns and not office.complaints
        await has_become(hub, "heard", OFFICE)


async def test_what_is_said_into_the_intercom_is_no_command(hub: Hub) -> None:
    light = hub.entities.find(name="bed light")[0]
    async with device(hub, KITCHEN) as kitchen, device(hub, OFFICE) as office:
        await office.connect()
        await kitchen.ask_text("intercom office")
        await kitchen.ask(spoken("turn on the bed light"))
        assert (await office.next_answer()).said == "From Kitchen speaker:"
        assert light.state.value == "off"
        assert (await kitchen.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_the_intercom_works_with_an_always_open_microphone(hub: Hub) -> None:
    speech = spoken("come down please")
    async with device(hub, KITCHEN, mode="realtime") as kitchen, device(hub, OFFICE) as office:
        await office.connect()
        assert (await kitchen.ask(spoken("intercom office"))).said == "Please speak."
        await kitchen.ask(speech)
        assert relayed(await office.next_answer(), speech)


async def test_a_message_is_left_found_and_played(hub: Hub) -> None:
    speech = spoken("your mother has called")
    async with device(hub, KITCHEN) as kitchen:
        assert (await kitchen.ask_text("leave a message")).said == "For which room?"
        assert (await kitchen.ask_text("the office")).said == "What is the message?"
        assert (await kitchen.ask(speech)).said == "I keep it for Desk."
    async with device(hub, OFFICE) as office:
        assert (await office.ask_text("any messages")).said == "There is one message. From Kitchen speaker."
        told = await office.next_answer()
        assert told.said == "Message from Kitchen speaker:"
        assert relayed(told, speech)
        await has_become(hub, "heard", OFFICE)
        assert (await office.ask_text("play my messages")).said == "There are no new messages."


async def test_a_message_for_this_very_device_is_for_the_next_person(hub: Hub) -> None:
    async with device(hub, OFFICE) as office:
        await office.ask_text("leave a message for the office")
        await office.ask_text("the cat is in the garden")
        await office.ask_text("turn on the bed light")
        with pytest.raises(NoAnswer):
            await office.next_answer(0.5)
        await office.hang_up()
        assert (await office.ask_text("play my messages")).said == "There is one message."
        assert (await office.next_answer()).said == "Message from Desk: The cat is in the garden"


async def test_a_message_is_announced_where_the_device_sleeps_on_mqtt_and_played_when_it_wakes(hub: Hub) -> None:
    speech = spoken("good night")
    async with device(hub, KITCHEN) as kitchen, device(hub, BEDROOM) as bedroom:
        await kitchen.ask_text("leave a message for the bedroom")
        await kitchen.ask(speech)
        await shows(bedroom)
        assert [alert.message for alert in bedroom.alerts] == ["Somebody has left you a message."]
        assert (await receipts(hub))[BEDROOM] == "waiting"
        await bedroom.ask_text("turn on the bed light")
        assert relayed(await bedroom.next_answer(), speech)


async def test_a_person_may_think_better_of_it(hub: Hub) -> None:
    async with device(hub, KITCHEN) as kitchen:
        await kitchen.ask_text("leave a message for the office")
        assert (await kitchen.ask_text("never mind")).said == "Okay."
    assert not hub.messenger.waiting(OFFICE)


# -- programs -----------------------------------------------------------------------------------------------------


async def test_a_program_sends_a_recording_whose_packets_stay_as_they_are(hub: Hub, post: Post) -> None:
    packets = encode_all(chime())
    async with device(hub, OFFICE) as office:
        await office.connect()
        status, _ = await post(
            query="?room=Office", data=write_ogg(packets, 24000), headers={"Content-Type": "audio/ogg"}
        )
        assert status == 200
        told = await office.next_answer()
        assert told.said == "This is for you:"
        assert [packet.data for packet in told.packets][-len(packets) :] == [packet.data for packet in packets]


async def test_packets_longer_than_announced_are_cut_anew(hub: Hub, post: Post) -> None:
    with OpusEncoder(24000, 120) as encoder:
        long = [Packet(encoder.encode(np.zeros(encoder.frame, np.int16)), 120)] * 3
    assert packet_ms(long[0].data) == 120
    async with device(hub, OFFICE) as office:
        await office.connect()
        await post(query=f"?device={OFFICE}", data=write_ogg(long, 24000), headers={"Content-Type": "audio/ogg"})
        told = await office.next_answer()
        assert not told.unplayable and not office.complaints
        assert decode_all([packet.data for packet in told.packets[-6:]], 16000).ms == 360


@pytest.mark.parametrize(
    ("values", "status", "code"),
    [
        ({"text": "x"}, 400, "FIELD_MISSING"),
        ({"text": "x", "room": "Office", "everywhere": True}, 400, "FIELD_MISSING"),
        ({"room": "Office"}, 400, "FIELD_MISSING"),
        ({"text": "x", "room": "Moon"}, 404, "DEVICE_UNKNOWN"),
        ({"text": "x" * 501, "room": "Office"}, 400, "FIELD_INVALID"),
        ({"text": "x", "room": "Office", "expires_s": 0}, 400, "FIELD_INVALID"),
        ({"text": "x", "room": "Office", "expires_s": "NaN"}, 400, "FIELD_INVALID"),
        ({"text": "x", "room": "Office", "expires_s": 10**400}, 400, "FIELD_INVALID"),
        ({"text": "x", "everywhere": 1}, 400, "FIELD_INVALID"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(
    post: Post, values: dict[str, Any], status: int, code: str
) -> None:
    got, told = await post(values)
    assert (got, told["error_code"]) == (status, code), told


async def test_a_box_that_is_full_takes_no_more(hub: Hub, post: Post) -> None:
    for number in range(MOST_WAITING):
        assert (await post({"text": f"{number}", "device": OFFICE}))[0] == 200
    status, told = await post({"text": "one more", "device": OFFICE})
    assert (status, told["error_code"]) == (409, "ANNOUNCEMENT_TOO_MUCH")
    assert (await post({"text": "elsewhere", "device": KITCHEN}))[0] == 200


async def test_the_command_line_says_it_and_shows_who_has_heard_it(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async def command(*arguments: str) -> int:
        return await asyncio.to_thread(main, ["say", "-c", str(tmp_path), "--port", str(hub.port), *arguments])

    async with device(hub, OFFICE) as office:
        await office.connect()
        assert await command("The tea is ready.", "--device", "Desk") == 0
        assert capsys.readouterr().out == "Desk is being told now.\n"
        assert (await office.next_answer()).said == "The tea is ready."
        await has_become(hub, "heard", OFFICE)
        assert await command("Good morning.", "--room", "Bedroom", "--message", "--json") == 0
        assert [each["name"] for each in json.loads(capsys.readouterr().out)["later"]] == ["Bedside"]
        assert await command("--receipts") == 0
        shown = capsys.readouterr().out
        assert "Desk: heard" in shown and "Bedside: waits for the next wake-up" in shown
        assert await command("x", "--room", "Moon") == 1
        assert "Moon" in capsys.readouterr().err


# -- what is kept -------------------------------------------------------------------------------------------------


async def test_receipts_go_when_the_owner_wishes_and_what_waits_stays(hub: Hub, post: Post) -> None:
    await post({"text": "old", "device": OFFICE, "expires_s": 60})
    await post({"text": "waits", "device": OFFICE, "expires_s": 30 * 86400})
    await hub.announcements.apply_retention(time.time() + 29 * 86400)
    assert [item.text for item, _ in await hub.announcements.listed()] == ["waits", "old"]
    await hub.announcements.apply_retention(time.time() + 30 * 86400 - 1)
    assert [item.text for item, _ in await hub.announcements.listed()] == ["waits", "old"]
    await hub.announcements.apply_retention(time.time() + 31 * 86400)
    assert not await hub.announcements.listed()


async def test_a_device_is_forgotten_with_all_that_was_said_on_it_and_to_it(hub: Hub, post: Post) -> None:
    async with device(hub, KITCHEN) as kitchen:
        await kitchen.ask_text("tell the office dinner is ready")
    await post({"text": "for both", "everywhere": True})
    await hub.announcements.forget_device(KITCHEN)
    ((item, receipts),) = await hub.announcements.listed()
    assert item.text == "for both"
    assert KITCHEN not in {receipt.device_id for receipt in receipts}


async def test_the_built_in_recogniser_hears_what_opens_the_intercom_and_passes_on_what_it_cannot(
    tmp_path: Path,
) -> None:
    pytest.importorskip("pocketsphinx")
    texts = ("intercom office", "the elephant forgot his umbrella on a train", "tell everyone dinner is ready")
    asked, free, usual = [Utterance.of(await say(text, "en-US")) for text in texts]
    devices = CONFIG[CONFIG.index("devices:") : CONFIG.index("integrations:")]
    async with running_hub(tmp_path, f"{devices}integrations: {{demo: , clock: false}}") as hub:
        async with device(hub, KITCHEN) as kitchen, device(hub, OFFICE) as office:
            await office.connect()
            first = await kitchen.ask(asked)
            assert (first.heard, first.said) == ("intercom Office", "Please speak.")
            await kitchen.ask(free)
            told = await office.next_answer()
            assert told.said == "From Kitchen speaker:"
            sent, got = list(free.packets[8:24]), [packet.data for packet in told.packets]
            assert any(got[at : at + 16] == sent for at in range(len(got)))
            assert (await kitchen.ask(usual)).heard == "tell everyone dinner is ready"
            assert (await office.next_answer()).said == "Dinner is ready"
