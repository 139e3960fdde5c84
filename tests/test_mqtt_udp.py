"""Devices that the owner moved to MQTT and UDP: whole conversations, sleep, and trouble, through a real hub and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tone_words import read_back, spoken

from xiaozhi_hub.core.flow import Outcome
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.protocol.device_messages import DeviceMessage, Mcp
from xiaozhi_hub.protocol.hub_messages import Alert, McpRequest, SentenceStart, TtsStart
from xiaozhi_hub.testing import DeviceState, FakeDevice, quiet, running_hub
from xiaozhi_hub.testing.mqtt import Station
from xiaozhi_hub.testing.udp_line import UdpLine

ID = "02:00:00:00:00:01"
OTHER = "02:00:00:00:00:02"
CONFIG = """
voice: {vad: echo, asr: echo, tts: echo, llm: %s, lead_ms: 1000}
devices:
  "02:00:00:00:00:01": {name: Kitchen, transport: mqtt}
  "02:00:00:00:00:02": {name: Bedroom, transport: mqtt}
integrations:
  echo: {%s}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
  mqtt_udp: {port: 0, udp_port: 0, keepalive_s: 10}
"""
STORY = 'tts: {ms: 800}, llm: {otherwise: "Once upon a time there was a hub. It was very happy there."}'

HubMaker = Callable[[str], AbstractAsyncContextManager[Hub]]


@pytest.fixture
def hub_with(tmp_path: Path) -> HubMaker:
    """A hub with scripted engines; the argument is the configuration of the echo integration."""
    return lambda echo: running_hub(tmp_path / "config", CONFIG % ("echo" if "llm:" in echo else "none", echo))


@pytest.fixture
async def hub(hub_with: HubMaker) -> AsyncIterator[Hub]:
    async with hub_with("tts: {ms: 200}") as hub:
        yield hub


def device(hub: Hub, device_id: str = ID, **more: Any) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id, **more)


def line_of(fake: FakeDevice) -> UdpLine:
    assert isinstance(fake.link.line, UdpLine)
    return fake.link.line


def station_of(fake: FakeDevice) -> Station:
    assert fake.link.station is not None
    return fake.link.station


def server_of(hub: Hub) -> Any:
    """The integration's server, to look at its counters."""
    entry = next(entry for entry in hub.plugins.entries if entry.domain == "mqtt_udp")
    assert entry.runtime is not None, entry.reason
    return entry.runtime._server


async def until(is_so: Callable[[], object], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():
            await asyncio.sleep(0.005)


# -- the check-in -------------------------------------------------------------------------------------------------


async def test_p04_only_a_device_that_the_owner_chose_is_offered_mqtt(hub: Hub) -> None:
    async with device(hub) as chosen, device(hub, "02:00:00:00:00:99") as other:
        assert "mqtt" in chosen.ota_answer and "websocket" in chosen.ota_answer
        assert "mqtt" not in other.ota_answer
        assert (await other.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_p05_what_is_offered_fits_the_memory_of_the_device(hub: Hub) -> None:
    async with device(hub) as fake:
        section = fake.ota_answer["mqtt"]
    assert set(section) >= {"endpoint", "client_id", "username", "password", "publish_topic", "keepalive"}
    assert all(len(key) <= 15 for key in section)
    host, _, port = section["endpoint"].partition(":")
    assert (host, int(port)) == ("127.0.0.1", server_of(hub).port)


async def test_a_device_is_told_the_same_password_at_each_start_and_each_device_another(hub: Hub) -> None:
    async with device(hub) as first, device(hub, OTHER) as other:
        told = first.ota_answer["mqtt"]["password"]
        await first.check_in()
        assert first.ota_answer["mqtt"]["password"] == told
        assert other.ota_answer["mqtt"]["password"] != told


async def test_switching_back_leaves_a_device_with_the_websocket(tmp_path: Path) -> None:
    folder, config = tmp_path / "config", CONFIG % ("none", "tts: {ms: 200}")
    async with running_hub(folder, config) as hub, device(hub) as fake:
        assert "mqtt" in fake.ota_answer
    async with running_hub(folder, config.replace("transport: mqtt", "transport: websocket")) as hub:
        async with device(hub) as fake:
            assert "mqtt" not in fake.ota_answer
            assert (await fake.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_without_the_integration_a_chosen_device_gets_the_websocket(tmp_path: Path) -> None:
    config = CONFIG.replace("  mqtt_udp: {port: 0, udp_port: 0, keepalive_s: 10}\n", "") % ("none", "tts: {ms: 200}")
    async with running_hub(tmp_path / "config", config) as hub, device(hub) as fake:
        assert "mqtt" not in fake.ota_answer
        assert (await fake.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_a_device_with_mqtt_from_before_is_still_served_until_its_next_start(tmp_path: Path) -> None:
    """The owner has switched it back, but it has not started anew: what it was told must go on working."""
    folder, config = tmp_path / "config", CONFIG % ("none", "tts: {ms: 200}")
    async with running_hub(folder, config) as hub, device(hub) as fake:
        told = fake.registration.address
    assert told is not None and told.mqtt is not None
    async with running_hub(folder, config.replace("transport: mqtt", "transport: websocket")) as hub:
        late = FakeDevice(url=told.url, device_id=ID)
        late.registration.address = replace(told, mqtt=replace(told.mqtt, port=server_of(hub).port))
        async with late:
            assert (await late.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


# -- a conversation -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("speech_is_ready")
async def test_a_spoken_question_gets_a_spoken_answer_over_mqtt_and_udp(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
        assert isinstance(speaker.link.line, UdpLine)
    assert result.heard == "turn on the bed light"
    assert result.said == "Turned on the Bed Light."
    assert (result.underruns, result.overflows, result.dropped_early, result.unplayable) == (0, 0, 0, 0)
    assert speaker.complaints == []


async def test_the_sound_of_the_answer_arrives_whole(hub_with: HubMaker) -> None:
    async with hub_with("") as hub, device(hub) as speaker:
        assert read_back(await speaker.ask(spoken("turn on the bed light"))) == "Turned on the Bed Light."
        second = await speaker.ask(spoken("turn off the bed light"))  # the same conversation goes on
        assert read_back(second) == "Turned off the Bed Light."
        assert len(server_of(hub).devices) == 1


async def test_p57_the_hello_holds_key_nonce_and_an_ssrc_of_its_own(hub: Hub) -> None:
    hellos = []
    async with device(hub) as first, device(hub, OTHER) as second:
        for fake in (first, second):
            await fake.connect()
            line = line_of(fake)
            assert (len(line.key), len(line.nonce), line.nonce[0]) == (16, 16, 1)
            hellos.append((line.key, line.nonce[4:8], fake.session_id))
        await first.hang_up()
        await first.connect()
        hellos.append((line_of(first).key, line_of(first).nonce[4:8], first.session_id))
    assert all(len(set(each)) == 3 for each in zip(*hellos, strict=True))


async def test_p58_downlink_datagrams_are_numbered_from_one_without_a_gap(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
        line = line_of(speaker)
        assert line.received == len(result.packets) > 5
    assert speaker.complaints == []  # of lengths, numbers and headers, which the device checks


async def test_p58_key_streams_of_packets_do_not_overlap(hub: Hub) -> None:
    """The counter grows by one for each 16 bytes; the sequence stands in its low bits, the time above them."""
    async with device(hub) as speaker:
        await speaker.connect()
        line, headers = line_of(speaker), []
        take = line.datagram_received

        def watch(data: bytes, addr: object) -> None:
            headers.append((struct.unpack(">I", data[8:12])[0], data[12:16]))
            take(data, addr)

        line.datagram_received = watch  # type: ignore[method-assign]
        await speaker.ask(spoken("turn on the bed light"))
    times = [time for time, _ in headers]
    assert len(times) > 5
    assert all(time > 0 for time in times) and len(set(times)) == len(times)


async def test_p59_messages_come_without_a_subscription(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask(spoken("turn on the bed light"))
    assert result.heard and result.sentences  # the device never sends SUBSCRIBE


async def test_the_button_interrupts_an_answer(hub_with: HubMaker) -> None:
    async with hub_with(STORY) as hub, device(hub) as speaker:
        await speaker.say(spoken("tell me a story"))
        await speaker.speaking()
        await speaker.press_button()
        assert await speaker.silent_within(0.1)
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


async def test_push_to_talk_works_over_udp(hub: Hub) -> None:
    async with device(hub, mode="manual") as speaker:
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


async def test_an_answer_waits_a_moment_for_the_device_to_be_located(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board sends a text at once, its microphone a little later: before that, nobody knows where the sound should go."""
    monkeypatch.setattr(sys.modules[f"{type(server_of(hub)).__module__.rpartition('.')[0]}.link"], "LOCATE_S", 20.0)
    async with device(hub) as speaker:
        await speaker.connect()
        line = line_of(speaker)
        asyncio.get_running_loop().call_later(0.2, lambda: line.send_datagram(line.seal(quiet()[0], 1)))
        result = await speaker.ask_text("turn on the bed light")
    assert result.said == "Turned on the Bed Light."
    assert len(result.packets) > 5 and result.dropped_early == 0


async def test_a_device_that_never_sends_sound_still_gets_the_words(hub: Hub) -> None:
    async with device(hub) as speaker:
        result = await speaker.ask_text("turn on the bed light")
    assert result.said == "Turned on the Bed Light."
    assert result.packets == ()


# -- the end and the next beginning -------------------------------------------------------------------------------


async def test_the_device_says_goodbye_and_mqtt_stays(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask(spoken("turn on the bed light"))
        first = speaker.session_id
        await speaker.hang_up()
        await until(lambda: not hub.devices.sessions)
        assert not station_of(speaker).ended
        assert (await speaker.ask(spoken("turn off the bed light"))).said == "Turned off the Bed Light."
        assert speaker.session_id != first
    assert not any("goodbye" in line and "←" in line for line in speaker.conversation)  # it needs no echo


async def test_p59_the_hub_says_goodbye_with_the_session_and_mqtt_stays(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask(spoken("turn on the bed light"))
        session = hub.devices.sessions[ID]
        assert session.link.session_id == speaker.session_id
        await session.link.close("nobody has spoken for a while")
        await speaker.hung_up(20)
        assert speaker.state is DeviceState.IDLE and not station_of(speaker).ended
        assert (await speaker.ask(spoken("turn off the bed light"))).said == "Turned off the Bed Light."


async def test_a_goodbye_to_an_earlier_conversation_ends_nothing(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        await station_of(speaker).publish(json.dumps({"type": "goodbye", "session_id": "of-yesterday"}))
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


async def test_a_second_hello_begins_a_conversation_in_place_of_the_first(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        first, old = speaker.session_id, line_of(speaker)
        old.end()  # the device has forgotten it, without a word
        await until(lambda: not speaker.connected)
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."
        assert speaker.session_id != first
        assert list(hub.devices.sessions) == [ID]


async def test_a_lost_mqtt_connection_ends_the_conversation_and_the_device_comes_back(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        await station_of(speaker).close(politely=False)
        await until(lambda: not hub.devices.sessions and not server_of(hub).devices)
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


async def test_stopping_the_hub_says_goodbye_and_leaves_nothing(hub_with: HubMaker) -> None:
    async with hub_with("tts: {ms: 200}") as hub:
        speaker = device(hub)
        async with speaker, asyncio.timeout(30):
            await speaker.connect()
            await hub._hang_up()
            await speaker.hung_up(20)
            assert any("goodbye" in line and "←" in line for line in speaker.conversation)


# -- datagrams that are wrong -------------------------------------------------------------------------------------


@asynccontextmanager
async def listening(hub: Hub) -> AsyncIterator[tuple[FakeDevice, UdpLine, Any]]:
    """A device in a conversation whose microphone is off, its line, and the hub's channel of it."""
    async with device(hub) as fake:
        await fake.connect()
        link = hub.devices.sessions[ID].link
        yield fake, line_of(fake), link.channel  # type: ignore[attr-defined]


async def test_copies_and_old_datagrams_are_dropped(hub: Hub) -> None:
    async with listening(hub) as (_, line, channel):
        packets = [line.seal(quiet()[0], number) for number in range(1, 6)]
        for packet in packets:
            line.send_datagram(packet)
        await until(lambda: channel.uplink.last == 5)
        for packet in packets:
            line.send_datagram(packet)
        await until(lambda: channel.dropped == 5)
        assert (channel.uplink.last, channel.uplink.lost) == (5, 0)


async def test_a_gap_is_counted_and_a_late_datagram_is_dropped(hub: Hub) -> None:
    async with listening(hub) as (_, line, channel):
        for number in (1, 2, 4, 3, 5):
            line.send_datagram(line.seal(quiet()[0], number))
        await until(lambda: channel.uplink.last == 5)
        assert (channel.uplink.lost, channel.dropped) == (1, 1)


async def test_a_question_is_understood_although_datagrams_are_lost(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        line, send, count = line_of(speaker), line_of(speaker).send_datagram, 0

        def lossy(datagram: bytes) -> None:
            nonlocal count
            count += 1
            if count != 3:  # in the silence before the words: the code of the scripted recogniser has no redundancy
                send(datagram)

        line.send_datagram = lossy  # type: ignore[method-assign]
        result = await speaker.ask(spoken("turn on the bed light"))
        assert result.said == "Turned on the Bed Light."
        link: Any = hub.devices.sessions[ID].link
        assert link.channel.uplink.lost == 1


async def test_a_forged_number_cannot_silence_a_device(hub: Hub) -> None:
    async with listening(hub) as (_, line, channel):
        line.send_datagram(line.seal(quiet()[0], 1))
        await until(lambda: channel.uplink.last == 1)
        line.send_datagram(line.seal(quiet()[0], 0xFFFFFFFF))
        await until(lambda: channel.dropped == 1)
        line.send_datagram(line.seal(quiet()[0], 2))
        await until(lambda: channel.uplink.last == 2)


async def test_datagrams_from_elsewhere_and_of_nobody_are_dropped_and_counted(hub: Hub) -> None:
    async with listening(hub) as (_, line, channel):
        port = server_of(hub)._udp
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind(("127.0.0.2", 0))  # the device's messages come from 127.0.0.1
            stranger.sendto(line.seal(quiet()[0], 1), line.server)
            await until(lambda: channel.dropped == 1)
            stranger.sendto(b"\x01\x00\x00\x00" + secrets.token_bytes(12), line.server)
            stranger.sendto(b"", line.server)
            stranger.sendto(secrets.token_bytes(1400), line.server)
            await until(lambda: port.dropped == 4)
        assert channel.uplink.last == 0 and not channel.located.is_set()


@pytest.mark.usefixtures("speech_is_ready")
async def test_a_flood_of_datagrams_does_not_spoil_the_conversation_of_another(hub: Hub) -> None:
    async with device(hub, OTHER) as speaker, listening(hub) as (_, line, channel):
        flood = [line.seal(quiet()[0], number) for number in range(1, 3000)]
        taken, receive = 0, channel.receive

        def count(*datagram: Any) -> bool:
            nonlocal taken
            taken += 1
            return bool(receive(*datagram))

        channel.receive = count

        async def pour() -> None:
            for at in range(0, len(flood), 20):
                for packet in flood[at : at + 20]:
                    line.send_datagram(packet)
                await asyncio.sleep(0.005)
                while taken < at + 20:  # or the system would drop what it has no room for, of anybody
                    await asyncio.sleep(0)

        async with TaskScope("flood") as scope:
            scope.start(pour(), name="pour")
            result = await speaker.ask(spoken("turn on the bed light"))
        assert result.said == "Turned on the Bed Light."
        assert result.underruns == 0
        await until(lambda: channel.dropped > 0)


async def test_the_wrong_key_is_noise_and_ends_nothing(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.connect()
        line = line_of(speaker)
        right, line.key = line.key, bytes(16)
        for number in range(1, 20):
            line.send_datagram(line.seal(quiet()[number], number))
        line.key, line.sent = right, 19
        channel = hub.devices.sessions[ID].link.channel  # type: ignore[attr-defined]
        await until(
            lambda: channel.uplink.last == 19
        )  # before anybody listens: noise in a question makes another of it
        assert (await speaker.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


# -- who may connect ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def station(hub: Hub, fake: FakeDevice, **other: Any) -> AsyncIterator[tuple[Station, list[dict[str, Any]]]]:
    """An MQTT connection with the credentials of *fake*, or *other* ones, and what comes over it."""
    assert fake.registration.address is not None and fake.registration.address.mqtt is not None
    pings = other.pop("pings", False)
    came: list[dict[str, Any]] = []

    async def keep(text: str) -> None:
        came.append(json.loads(text))

    async with TaskScope("station") as scope:
        made = await Station.connect(replace(fake.registration.address.mqtt, **other), scope, keep, pings=pings)
        try:
            yield made, came
        finally:
            await made.close()


IMPOSTORS = {
    "a wrong password": {"password": "wrong"},
    "no password": {"password": ""},
    "the password of another device": {"username": OTHER},
    "another client id": {"client_id": "another"},
}


async def test_who_cannot_prove_it_is_refused(hub: Hub) -> None:
    async with device(hub) as fake:
        for name, other in IMPOSTORS.items():
            with pytest.raises(HubError, match="the password"):
                async with station(hub, fake, **other):
                    pytest.fail(f"{name} was let in")
        assert set(server_of(hub).devices) == {ID}  # the real one is not disturbed


async def test_passwords_are_in_no_log(hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with device(hub) as fake:
        await fake.ask(spoken("turn on the bed light"))
        with pytest.raises(HubError):
            async with station(hub, fake, password="not-this-one"):
                pass
        keys = (fake.ota_answer["mqtt"]["password"], line_of(fake).key.hex(), "not-this-one")
    assert "not let in" in caplog.text
    assert not any(key in caplog.text for key in keys)


async def test_the_newest_connection_of_a_device_wins(hub: Hub) -> None:
    async with device(hub) as fake:
        await fake.connect()
        async with station(hub, fake) as (newer, came):
            await until(lambda: station_of(fake).ended and not fake.connected)
            await until(lambda: not hub.devices.sessions)
            assert await hub.transports.push(ID, Alert("Hub", "hello"))
            await until(lambda: came)
            assert not newer.ended


async def test_a_client_that_falls_silent_is_cut_after_one_and_a_half_keep_alives(hub: Hub) -> None:
    async with device(hub, OTHER) as fake:
        began = asyncio.get_running_loop().time()
        async with station(hub, fake, keepalive=1) as (silent, _):
            await until(lambda: silent.ended)
            assert asyncio.get_running_loop().time() - began >= 1.5
            await until(lambda: OTHER not in server_of(hub).devices)


async def test_a_client_that_pings_stays(hub: Hub) -> None:
    async with device(hub) as fake, station(hub, fake, keepalive=3, pings=True) as (there, _):
        await asyncio.sleep(5.5)  # longer than the hub would wait
        assert not there.ended


async def test_a_client_that_subscribes_is_answered(hub: Hub) -> None:
    """As other clients than the firmware do: its own topic is granted, nothing else is to be had."""
    async with device(hub) as fake:
        assert fake.registration.address is not None and fake.registration.address.mqtt is not None
        topic = fake.ota_answer["mqtt"]["subscribe_topic"].encode()
        reader, writer = await raw(hub)
        writer.write(connect_packet(fake))
        body = b"\x00\x07" + len(topic).to_bytes(2, "big") + topic + b"\x01" + b"\x00\x01#\x01"
        writer.write(bytes((0x82, len(body))) + body)
        writer.write(b"\x32\x06\x00\x01x\x00\x09{")  # QoS 1: acknowledged, although it is no message
        writer.write(b"\xa2\x05\x00\x08\x00\x01#\xc0\x00")
        async with asyncio.timeout(20):
            assert await reader.readexactly(4) == b"\x20\x02\x00\x00"
            assert await reader.readexactly(6) == b"\x90\x04\x00\x07\x00\x80"
            assert await reader.readexactly(4) == b"\x40\x02\x00\x09"
            assert await reader.readexactly(4) == b"\xb0\x02\x00\x08"
            assert await reader.readexactly(2) == b"\xd0\x00"
        writer.close()


async def raw(hub: Hub) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server_of(hub).port)


def connect_packet(fake: FakeDevice) -> bytes:
    from xiaozhi_hub.testing.mqtt import _connect

    assert fake.registration.address is not None and fake.registration.address.mqtt is not None
    return _connect(fake.registration.address.mqtt)


NONSENSE = {
    "something else": b"GET / HTTP/1.1\r\n\r\n",
    "a packet before CONNECT": b"\xc0\x00",
    "a huge packet": b"\x10\xff\xff\xff\x7f",
    "a length without end": b"\x10\xff\xff\xff\xff\xff",
    "a text that is not UTF-8": b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x3c\x00\x02\xff\xff",
}
OTHER_LEVEL = b"\x10\x0c\x00\x04MQTT\x05\x02\x00\x3c\x00\x00"


async def test_who_speaks_nonsense_loses_only_its_own_connection(hub: Hub) -> None:
    async with device(hub) as fake:
        for name, data in (NONSENSE | {"another level": OTHER_LEVEL}).items():
            reader, writer = await raw(hub)
            writer.write(data)
            answer = b""
            with contextlib.suppress(ConnectionError):
                async with asyncio.timeout(20):
                    answer = await reader.read()
            writer.close()
            assert answer == (b"\x20\x02\x00\x01" if data is OTHER_LEVEL else b""), name
        assert (await fake.ask(spoken("turn on the bed light"))).said == "Turned on the Bed Light."


async def test_one_place_cannot_take_all_connections_without_proving_anything(hub: Hub) -> None:
    async with device(hub) as fake:
        idle = [await raw(hub) for _ in range(40)]
        try:
            await until(lambda: server_of(hub).connections <= 17)
            assert not station_of(fake).ended
        finally:
            for _, writer in idle:
                writer.close()


async def test_too_many_packets_end_the_connection(hub: Hub) -> None:
    async with device(hub, OTHER) as fake, station(hub, fake) as (flood, _):
        for _ in range(30):
            await flood.write(b"\xc0\x00" * 20)
        await until(lambda: flood.ended)


# -- sleeping devices ---------------------------------------------------------------------------------------------


async def test_an_alert_reaches_a_sleeping_device(hub: Hub) -> None:
    async with device(hub) as fake:
        assert ID in hub.announcer.reachable() and not hub.devices.sessions
        assert await hub.announcer.ring(ID, "The laundry is done.", "en", rounds=1)
        await until(lambda: fake.alerts)
        assert [alert.message for alert in fake.alerts] == ["The laundry is done."]
        assert fake.state is DeviceState.IDLE
    assert fake.complaints == []


async def test_ringing_stops_when_somebody_wakes_the_device(hub: Hub) -> None:
    async with device(hub) as fake, TaskScope("bell") as scope:
        ringing = scope.start(hub.announcer.ring(ID, "The laundry is done.", "en", rounds=3), name="ring")
        await until(lambda: fake.alerts)
        await fake.connect()
        async with asyncio.timeout(20):
            assert await ringing
        assert len(fake.alerts) == 1


async def test_a_device_that_is_gone_cannot_be_reached(hub: Hub) -> None:
    async with device(hub):
        pass
    await until(lambda: not server_of(hub).devices)
    assert hub.announcer.reachable() == ()
    assert not await hub.announcer.ring(ID, "The laundry is done.", "en")


async def test_a_tool_of_a_sleeping_device_is_used_and_its_answer_heard(hub: Hub) -> None:
    heard: asyncio.Queue[tuple[str, DeviceMessage]] = asyncio.Queue(10)
    set_volume = {"name": "self.audio_speaker.set_volume", "arguments": {"volume": 30}}
    stop = hub.transports.listen(lambda *what: heard.put_nowait(what))
    async with device(hub) as fake:
        assert await hub.transports.push(ID, McpRequest(7, "tools/call", set_volume))
        async with asyncio.timeout(20):
            device_id, message = await heard.get()
        assert fake.tools.volume == 30
    stop()
    assert device_id == ID and isinstance(message, Mcp)
    assert message.payload["id"] == 7 and "result" in message.payload


async def test_a_sleeping_device_is_never_told_to_speak(hub: Hub) -> None:
    async with device(hub) as fake:
        assert not await hub.transports.push(ID, TtsStart())
        await fake.connect()
        assert await hub.transports.push(ID, TtsStart())
        await until(lambda: fake.state is DeviceState.SPEAKING)


async def test_a_text_is_shown_on_a_sleeping_device(hub: Hub) -> None:
    async with device(hub) as fake:
        assert await hub.transports.push(ID, SentenceStart("The laundry is done."))
        await until(lambda: any("The laundry is done." in line for line in fake.conversation))
        assert fake.state is DeviceState.IDLE and fake.complaints == []


async def test_a_device_that_is_not_let_in_any_more_is_neither_heard_nor_told(hub: Hub) -> None:
    out: set[str] = set()
    api = server_of(hub)._hub
    server_of(hub)._hub = replace(api, admits=lambda identity: identity.id not in out)
    async with device(hub) as fake, device(hub, OTHER) as other:
        out |= {ID, OTHER}
        await station_of(fake).publish('{"type":"ping"}')
        await until(lambda: station_of(fake).ended)
        assert not await hub.transports.push(OTHER, Alert("Hub", "hello"))
        await until(lambda: station_of(other).ended and not hub.announcer.reachable())
        with pytest.raises(HubError, match="not authorised"):
            await fake.connect()


async def test_a_device_that_talks_hears_an_announcement_as_sound(hub: Hub) -> None:
    async with device(hub) as fake:
        await fake.ask(spoken("turn on the bed light"))
        assert await hub.announcer.ring(ID, "The laundry is done.", "en", rounds=1)
        assert (await fake.next_answer()).said == "The laundry is done."
        assert fake.alerts == []


# -- the hub and its ports ----------------------------------------------------------------------------------------


async def test_a_port_that_is_taken_is_told_and_the_hub_works_on(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = CONFIG.replace("port: 0, udp", f"port: {taken.getsockname()[1]}, udp") % ("none", "tts: {ms: 200}")
        async with running_hub(tmp_path / "config", config) as hub:
            assert "in use, perhaps by an MQTT broker" in hub.problems["integration-mqtt_udp"].message
            async with device(hub) as fake:
                assert (await fake.ask_text("turn on the bed light")).said == "Turned on the Bed Light."


async def test_the_port_on_which_devices_speak_tls_is_refused(tmp_path: Path) -> None:
    config = CONFIG.replace("port: 0, udp", "port: 8883, udp") % ("none", "tts: {ms: 200}")
    async with running_hub(tmp_path / "config", config) as hub:
        assert "TLS" in hub.problems["integration-mqtt_udp"].message


async def test_reloading_the_integration_lets_devices_come_back(hub: Hub) -> None:
    async with device(hub) as fake:
        await fake.ask(spoken("turn on the bed light"))
        await hub.plugins.reload("mqtt_udp")
        await until(lambda: station_of(fake).ended)
        await fake.check_in()  # the port is a free one, so another
        assert (await fake.ask(spoken("turn off the bed light"))).said == "Turned off the Bed Light."


async def test_the_secret_is_for_the_hub_only_and_outlives_it(tmp_path: Path) -> None:
    folder, config = tmp_path / "config", CONFIG % ("none", "tts: {ms: 200}")
    passwords = set()
    for _ in range(2):
        async with running_hub(folder, config) as hub, device(hub) as fake:
            passwords.add(fake.ota_answer["mqtt"]["password"])
            secret = hub.config.data_dir / "mqtt_udp.key"
            assert secret.stat().st_mode & 0o077 == 0
    assert len(passwords) == 1


async def test_a_record_is_kept_of_what_was_said_over_udp(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask(spoken("turn on the bed light"))
        async with asyncio.timeout(20):
            while not (turns := await hub.history.turns(10)):
                await asyncio.sleep(0.01)
    assert (turns[0].heard, turns[0].outcome) == ("turn on the bed light", Outcome.ANSWERED)
