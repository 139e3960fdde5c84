"""What may arrive on the ports of the MQTT transport: everything. Pure parsers, and then a hub that has to bear it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.plugins.loader import import_integration
from xiaozhi_hub.testing import FakeDevice, running_hub
from xiaozhi_hub.testing.udp_line import UdpLine

MORE = int(os.environ.get("XIAOZHI_FUZZ", "1"))
"""How many times as many inputs as in an ordinary run."""
CONFIG = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
devices: {"02:00:00:00:00:01": {name: Kitchen, transport: mqtt}}
integrations:
  echo: {tts: {ms: 200}}
  demo:
  silero_vad: false
  phrases: false
  espeak: false
  mqtt_udp: {port: 0, udp_port: 0}
"""


def part(name: str) -> Any:
    import_integration(builtin("integrations") / "mqtt_udp")
    return __import__(f"xiaozhi_hub_integrations.mqtt_udp.{name}", fromlist=["*"])


packets = part("packets")
cipher = part("cipher")
udp = part("udp")
LIMIT = 2000


def fuzzed(examples: int) -> settings:
    return settings(max_examples=examples * MORE, deadline=None)


def text(value: str) -> bytes:
    return len(value.encode()).to_bytes(2, "big") + value.encode()


def packet(head: int, body: bytes) -> bytes:
    digits, count = b"", len(body)
    while True:
        digits += bytes((count & 0x7F | (0x80 if count > 0x7F else 0),))
        count >>= 7
        if not count:
            return bytes((head,)) + digits + body


CONNECT = packet(0x10, text("MQTT") + b"\x04\xc2\x00\x3c" + text("id") + text("name") + text("secret"))
GOOD = {
    "connect": (CONNECT, packets.Connect(4, "id", "name", b"secret", 60, True)),
    "connect with a will": (
        packet(0x10, text("MQTT") + b"\x04\x2e\x00\x00" + text("id") + text("gone") + text("bye")),
        packets.Connect(4, "id"),
    ),
    "connect of MQTT 5": (packet(0x10, text("MQTT") + b"\x05\x02\x00\x3c\x00" + text("id")), packets.Connect(5)),
    "connect of MQTT 3.1": (packet(0x10, text("MQIsdp") + b"\x03\x02\x00\x3c" + text("id")), packets.Connect(0)),
    "publish": (packet(0x30, text("t") + b"{}"), packets.Publish("t", b"{}")),
    "publish of nothing": (packet(0x31, text("t")), packets.Publish("t", b"")),
    "publish with QoS 1": (packet(0x3A, text("t") + b"\x00\x05{}"), packets.Publish("t", b"{}", 5)),
    "a long publish": (packet(0x30, text("t") + bytes(1900)), packets.Publish("t", bytes(1900))),
    "puback": (packet(0x40, b"\x00\x05"), packets.PubAck(5)),
    "subscribe": (packet(0x82, b"\x00\x05" + text("a/#") + b"\x02" + text("b") + b"\x00"), None),
    "unsubscribe": (packet(0xA2, b"\x00\x05" + text("a/#")), packets.Unsubscribe(5)),
    "ping": (b"\xc0\x00", packets.PingReq()),
    "disconnect": (b"\xe0\x00", packets.Disconnect()),
}
BAD = {
    "kind 0": b"\x00\x00",
    "what only servers send": b"\x20\x02\x00\x00",
    "QoS 2": packet(0x34, text("t") + b"\x00\x05"),
    "QoS 3": packet(0x36, text("t") + b"\x00\x05"),
    "a repeated message that needs no answer": packet(0x38, text("t")),
    "an empty topic": packet(0x30, text("")),
    "a topic with a wildcard": packet(0x30, text("a/#")),
    "a null in a text": packet(0x30, text("a\0b")),
    "a text that is not UTF-8": packet(0x30, b"\x00\x01\xff"),
    "packet id 0": packet(0x32, text("t") + b"\x00\x00"),
    "a ping with a body": b"\xc0\x01\x00",
    "reserved flags": b"\xc1\x00",
    "a subscription of nothing": packet(0x82, b"\x00\x05"),
    "a subscription with QoS 3": packet(0x82, b"\x00\x05" + text("a") + b"\x03"),
    "an unsubscription of nothing": packet(0xA2, b"\x00\x05"),
    "a text that is cut": packet(0x30, b"\x00\x05ab"),
    "a password without a name": packet(0x10, text("MQTT") + b"\x04\x42\x00\x3c" + text("id") + text("secret")),
    "the reserved flag of connect": packet(0x10, text("MQTT") + b"\x04\x03\x00\x3c" + text("id")),
    "a will with QoS 3": packet(0x10, text("MQTT") + b"\x04\x1e\x00\x3c" + text("id") + text("a") + text("b")),
    "something after connect": packet(0x10, text("MQTT") + b"\x04\x02\x00\x3c" + text("id") + b"x"),
    "another protocol": packet(0x10, text("HTTP") + b"\x04\x02\x00\x3c" + text("id")),
    "a packet that is too long": packet(0x30, text("t") + bytes(LIMIT)),
    "a length without end": b"\x30\x80\x80\x80\x80",
}


def read(data: bytes, *cuts: int) -> list[Any]:
    """What a reader makes of *data* when it comes in pieces."""
    reader = packets.PacketReader(LIMIT)
    edges = [0, *sorted(cuts), len(data)]
    return [one for a, b in zip(edges, edges[1:], strict=False) for one in reader.feed(data[a:b])]


@pytest.mark.parametrize("name", GOOD)
def test_a_packet_is_understood(name: str) -> None:
    data, meant = GOOD[name]
    assert read(data) == [meant or packets.Subscribe(5, ("a/#", "b"))]
    assert read(data, *range(1, len(data))) == read(data)  # byte by byte


@pytest.mark.parametrize("name", BAD)
def test_what_no_client_may_send_is_refused(name: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        read(BAD[name])
    assert caught.value.close


def test_a_length_is_refused_before_the_body_comes() -> None:
    with pytest.raises(ProtocolError):
        read(b"\x30\xff\xff\xff\x7f")


@fuzzed(300)
@given(st.binary(max_size=300))
def test_any_bytes_are_packets_or_an_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        read(data)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A few packets, with some bytes changed, cut out or put in."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from([good for good, _ in GOOD.values()]), max_size=4))))
    for at, byte, how in draw(
        st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255), st.integers(0, 2)), max_size=5)
    ):
        at = min(at, len(data))
        data[at : at + (how > 0)] = b"" if how == 2 else bytes((byte,))
    return bytes(data)


@fuzzed(500)
@given(damaged(), st.lists(st.integers(0, 400), max_size=6))
def test_packets_do_not_depend_on_how_they_are_cut(data: bytes, cuts: list[int]) -> None:
    def outcome(*cuts: int) -> tuple[list[Any], str]:
        reader, found = packets.PacketReader(LIMIT), []
        edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
        try:
            for a, b in zip(edges, edges[1:], strict=False):
                for one in reader.feed(data[a:b]):
                    found.append(one)
                assert len(reader._buffer) <= LIMIT + 5
        except ProtocolError as error:
            return found, error.message
        return found, ""

    assert outcome(*cuts) == outcome()


@fuzzed(200)
@given(st.text(st.characters(exclude_characters="\0+#", exclude_categories=["Cs"]), min_size=1), st.binary())
def test_what_the_server_publishes_reads_back(topic: str, payload: bytes) -> None:
    reader = packets.PacketReader(10**6)
    assert list(reader.feed(packets.publish(topic, payload))) == [packets.Publish(topic, payload)]


# -- datagrams ----------------------------------------------------------------------------------------------------


def test_the_cipher_is_aes_in_counter_mode_from_the_header_on() -> None:
    """NIST SP 800-38A, F.5.1, first block."""
    sealed = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff" + "874d6191b620e3261bef6864990db6ce")
    key = bytes.fromhex("2b7e151628aed2a6abf7158809cf4f3c")
    assert cipher.AudioCipher(key).open(sealed).hex() == "6bc1bee22e409f96e93d7e117393172a"


@fuzzed(200)
@given(st.binary(max_size=1275), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_a_sealed_datagram_opens_again(opus: bytes, ssrc: int, timestamp: int, sequence: int) -> None:
    header = cipher.Header(ssrc, timestamp, sequence)
    datagram = cipher.AudioCipher(b"k" * 16).seal(header, opus)
    assert struct.unpack(">BBHIII", datagram[:16]) == (1, 0, len(opus), ssrc, timestamp, sequence)
    assert cipher.read_header(datagram) == header
    assert cipher.AudioCipher(b"k" * 16).open(datagram) == opus


@fuzzed(300)
@given(st.binary(max_size=1600))
def test_a_header_is_read_only_from_datagrams_that_keep_the_rules(data: bytes) -> None:
    header = cipher.read_header(data)
    keeps = 16 <= len(data) <= 1500 and data[0] == 1 and int.from_bytes(data[2:4], "big") == len(data) - 16
    assert (header is not None) == keeps


@fuzzed(300)
@given(st.lists(st.integers(0, 20) | st.integers(0, 2**32 - 1), max_size=60))
def test_a_sequence_takes_only_what_is_newer(numbers: list[int]) -> None:
    sequence, taken = udp.Sequence(), []
    for number in numbers:
        gap = sequence.gap(number)
        assert (gap is not None) == (0 < number - (taken[-1] if taken else 0) <= udp.FARTHEST_STEP)
        if gap is not None:
            sequence.accept(number)
            taken.append(number)
    assert taken == sorted(set(taken))
    assert sequence.lost == (taken[-1] - len(taken) if taken else 0)


# -- a hub that has to bear it ------------------------------------------------------------------------------------


def inputs(seed: int, count: int) -> Iterator[bytes]:
    """Bytes that are MQTT to some degree."""
    chance = random.Random(seed)
    whole = [data for data, _ in GOOD.values()]
    for _ in range(count):
        data = bytearray(b"".join(chance.choices(whole, k=chance.randint(1, 3))))
        for _ in range(chance.randint(0, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        yield bytes(data[: chance.randint(1, len(data))])


async def test_a_hub_bears_nonsense_on_both_ports(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with running_hub(tmp_path / "config", CONFIG) as hub:
        device = FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/")
        async with device:
            await device.connect()
            assert isinstance(device.link.line, UdpLine) and device.registration.address is not None
            entry = next(entry for entry in hub.plugins.entries if entry.domain == "mqtt_udp")
            assert entry.runtime is not None
            server: Any = entry.runtime._server
            chance, line = random.Random(7), device.link.line
            for data in inputs(1, 150 * MORE):  # before anything is proven
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                with contextlib.suppress(ConnectionError):
                    writer.write(data)
                    writer.write_eof()
                    async with asyncio.timeout(20):
                        await reader.read()
                writer.close()
            for number in range(1, 1000 * MORE):  # sound of all kinds in the running conversation
                datagram = bytearray(line.seal(chance.randbytes(chance.randint(0, 200)), number))
                if chance.random() < 0.5:
                    datagram[chance.randrange(len(datagram))] = chance.randrange(256)
                line.send_datagram(bytes(datagram[: chance.randint(0, 2000)]))
                if number % 20 == 0:
                    await asyncio.sleep(0.01)
            for _ in range(100):  # messages of all kinds from a device that has proven who it is
                json = bytearray(b'{"type":"listen","state":"start","mode":"auto","session_id":"x"}')
                json[chance.randrange(len(json))] = chance.randrange(256)
                body = text(device.registration.address.mqtt.publish_topic) + bytes(json)  # type: ignore[union-attr]
                await device.link.station.write(packet(0x30, body))  # type: ignore[union-attr]
                await asyncio.sleep(0.021)  # 50 in a second are allowed
            assert not device.link.station.ended  # type: ignore[union-attr]
            await device.hang_up()
            await device.connect()
            assert device.connected
        async with asyncio.timeout(20):
            while server.connections:
                await asyncio.sleep(0.01)
        assert not server._udp._channels
    assert not [record for record in caplog.records if record.exc_info]


async def test_an_ordinary_mqtt_client_is_served(tmp_path: Path) -> None:
    """Somebody else's implementation of the protocol, with the credentials of a device."""
    async with running_hub(tmp_path / "config", CONFIG) as hub:
        async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/") as device:
            told = device.ota_answer["mqtt"]
        host, _, port = told["endpoint"].partition(":")
        came: list[bytes] = []
        granted: list[int] = []
        acknowledged: list[int] = []
        client = paho.Client(CallbackAPIVersion.VERSION2, told["client_id"])
        client.username_pw_set(told["username"], told["password"])
        client.on_message = lambda *args: came.append(args[2].payload)
        client.on_subscribe = lambda *args: granted.extend(code.value for code in args[3])
        client.on_publish = lambda *args: acknowledged.append(args[2])

        def talk() -> None:
            client.connect(host, int(port), keepalive=10)
            client.loop_start()
            try:
                for _ in range(100):
                    if client.is_connected():
                        break
                    client._thread.join(0.05)  # type: ignore[union-attr]
                client.subscribe([(told["subscribe_topic"], 1), ("#", 0)])
                hello = '{"type":"hello","version":3,"transport":"udp","features":{"mcp":true}}'
                client.publish(told["publish_topic"], hello, qos=1).wait_for_publish(20)
                for _ in range(100):
                    if came and granted:
                        break
                    client._thread.join(0.05)  # type: ignore[union-attr]
            finally:
                client.disconnect()
                client.loop_stop()

        await asyncio.to_thread(talk)
        assert acknowledged and granted == [0, 128]
        assert any(b'"transport":"udp"' in message and b'"nonce":"01' in message for message in came)
