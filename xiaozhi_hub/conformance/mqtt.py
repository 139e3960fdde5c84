"""P-57 … P-59: the MQTT and UDP transport, where a server offers it (§6)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.audio.opus import packet_ms
from xiaozhi_hub.conformance.bench import Bench
from xiaozhi_hub.conformance.broker import HEADER, Broker, Datagrams
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.testing import quiet

HELLO_SECONDS = 10.0
GOODBYE_SECONDS = 190.0
_HEX = re.compile(r"^[0-9a-fA-F]{32}$")


async def _section(bench: Bench) -> dict[str, Any]:
    answer = (await bench.check_in()).json()
    section = answer.get("mqtt")
    if not isinstance(section, dict) or not section.get("endpoint"):
        if bench.known.mqtt:
            raise Broken("MQTT is on for the device, but the answer to its check-in holds no mqtt")
        raise NotApplicable("The server does not offer MQTT to the device.")
    return section


@dataclass(frozen=True, slots=True)
class Channel:
    """An open audio channel."""

    broker: Broker
    hello: dict[str, Any]
    udp: dict[str, Any]
    session_id: str


@asynccontextmanager
async def _channel(bench: Bench) -> AsyncIterator[Channel]:
    async with Broker(await _section(bench)) as broker:
        await broker.publish(bench.hello(version=3, transport="udp"))
        seen = await broker.timeline.until_message("hello", within=HELLO_SECONDS)
        hello = dict(seen.message)
        expect(hello.get("transport") == "udp", f"transport is {hello.get('transport')!r}, not udp")
        udp = hello.get("udp")
        if not isinstance(udp, dict):
            raise Broken("the hello holds no udp")
        for name in ("key", "nonce"):
            value = udp.get(name)
            expect(isinstance(value, str) and bool(_HEX.match(value)), f"udp.{name} is {value!r}, not 32 hex digits")
        expect(isinstance(udp.get("server"), str), f"udp.server is {udp.get('server')!r}")
        expect(isinstance(udp.get("port"), int) and 0 < udp["port"] < 65536, f"udp.port is {udp.get('port')!r}")
        yield Channel(broker, hello, udp, str(hello.get("session_id") or ""))


@check("P-57", "The hello reply carries 32-hex key and nonce, nonce byte 0 = 01, a unique ssrc.")
async def udp_hello(bench: Bench) -> str:
    ssrcs = []
    for number in range(2):
        other = Bench(bench.server, bench.profile, second_device_id(bench.device_id, number + 1))
        async with _channel(other) as channel:
            nonce = channel.udp["nonce"]
            expect(nonce.startswith("01"), f"the nonce begins with {nonce[:2]}; the device drops what is not 01")
            ssrcs.append(nonce[8:16])
    expect(len(set(ssrcs)) == len(ssrcs), f"two devices share the ssrc {ssrcs[0]}")
    return f"ssrc {', '.join(ssrcs)}"


def second_device_id(device_id: str, number: int) -> str:
    """Another device for the same check."""
    return f"{device_id[:-5]}{number:02x}{device_id[-3:]}"


@check(
    "P-58", "Downlink sequence starts at 1 and goes up by 1; payload_len is exact; the AES-CTR counter is the header."
)
async def datagrams(bench: Bench) -> str:
    async with _channel(bench) as channel:
        key, nonce = bytes.fromhex(channel.udp["key"]), bytes.fromhex(channel.udp["nonce"])
        _, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Datagrams(key, nonce), remote_addr=(channel.udp["server"], channel.udp["port"])
        )
        try:
            await _ask(bench, channel, protocol)
            expect(bool(protocol.received), "no datagram comes back")
            for number, (_, data) in enumerate(protocol.received, 1):
                header, payload = data[: HEADER.size], data[HEADER.size :]
                kind, _, size, ssrc, _, sequence = HEADER.unpack(header)
                expect(kind == 1, f"a datagram of type {kind}")
                expect(size == len(payload), f"payload_len {size}, the datagram carries {len(payload)} bytes")
                expect(ssrc == HEADER.unpack(nonce)[3], "a datagram with another ssrc")
                expect(sequence == number, f"datagram {number} has sequence {sequence}")
                ms = packet_ms(protocol.crypt(header, payload))
                expect(0 < ms <= 120, f"datagram {number} does not decrypt to Opus")
        finally:
            protocol.close()
        return f"{len(protocol.received)} datagrams"


async def _ask(bench: Bench, channel: Channel, udp: Datagrams) -> None:
    """One spoken question over UDP; returns when it has been answered."""
    timeline = channel.broker.timeline
    await channel.broker.publish({"session_id": channel.session_id, "type": "listen", "state": "start", "mode": "auto"})
    speech = bench.voice.utterance(bench.voice.short)
    async with TaskScope("conformance-udp") as scope:

        async def speak() -> None:
            began, number = timeline.now, 0
            while True:
                packets = speech.packets if number < len(speech.packets) else quiet()
                udp.send(packets[number % len(packets)])
                number += 1
                await asyncio.sleep(max(0.0, began + number * 0.06 - timeline.now))

        scope.start(speak(), name="speak")
        await timeline.until_message("tts", "start", within=bench.times.reply + 5)
    await timeline.until_message("tts", "stop", within=60)


@check("P-59", "Messages reach the client without any SUBSCRIBE; goodbye carries the session id.", slow=True)
async def goodbye(bench: Bench) -> str:
    async with _channel(bench) as channel:  # its hello has come without a subscription
        seen = await channel.broker.timeline.until_message("goodbye", within=min(GOODBYE_SECONDS, bench.times.ending))
        given = seen.message.get("session_id")
        expect(given == channel.session_id, f"goodbye for {given!r}; the device obeys only {channel.session_id!r}")
        return "hello and goodbye"
