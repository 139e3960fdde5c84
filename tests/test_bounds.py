"""Whoever makes devices up costs the hub no more than a bounded number of them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import ClientSession

from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.devices.pairing import pairing
from xiaozhi_hub.devices.sessions import conversations
from xiaozhi_hub.devices.sessions.conversations import FORGET_SECONDS, MOST_ENDED, Conversations
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

HOUSE = """
voice: {vad: echo, asr: echo, tts: echo, llm: echo}
history: {enabled: false}
integrations: {silero_vad: false, phrases: false, espeak: false, clock: false, echo: {llm: {otherwise: "An answer."}}}
"""


def mac(number: int) -> str:
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


async def until(holds: Callable[[], bool], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


async def come_and_go(hub: Hub, number: int) -> None:
    async with FakeDevice(url=f"ws://127.0.0.1:{hub.port}/xiaozhi/v1/", device_id=mac(number), listens=False) as device:
        await device.connect()


def test_a_conversation_survives_a_reconnect_and_not_a_long_absence() -> None:
    held = Conversations()
    first = held.open("a", 0.0)
    held.end("a", 10.0)
    assert held.open("a", 10.0 + FORGET_SECONDS) is first
    held.end("a", 1000.0)
    assert held.open("a", 1001.0 + FORGET_SECONDS) is not first


def test_a_link_that_ends_after_its_successor_began_does_not_end_the_conversation() -> None:
    held = Conversations()
    first = held.open("a", 0.0)
    assert held.open("a", 1.0) is first
    held.end("a", 2.0)
    held.forget(2.0 + 2 * FORGET_SECONDS)
    assert held.open("a", 3.0 + 2 * FORGET_SECONDS) is first


def test_of_many_ended_conversations_the_latest_are_kept() -> None:
    held = Conversations()
    kept = {}
    for number in range(MOST_ENDED * 3):
        kept[number] = held.open(mac(number), number / 1000)
        held.end(mac(number), number / 1000)
    assert len(held) == MOST_ENDED
    last = MOST_ENDED * 3 - 1
    assert held.open(mac(last), 2.0) is kept[last]


async def test_devices_that_come_once_leave_no_conversation_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "MOST_ENDED", 5)
    async with running_hub(tmp_path, HOUSE) as hub:
        for number in range(20):
            await come_and_go(hub, number)
        await until(lambda: not hub.devices.sessions)
        assert hub.devices.conversations == 5


async def test_made_up_devices_are_remembered_only_as_far_as_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "MOST_DEVICES", 8)
    monkeypatch.setattr("xiaozhi_hub.core.forgetting.GATHER_SECONDS", 0.01)
    forgotten: set[str] = set()

    async def gone(what: Forget) -> None:
        forgotten.update(what.devices or ())

    async with running_hub(tmp_path, HOUSE) as hub, ClientSession() as http:
        hub.forgetting.add("test", gone)
        await hub.known_devices.seen(mac(0), 1.0)
        await hub.known_devices.rename(mac(0), "Kitchen speaker")
        for number in range(40):
            headers = {"Device-Id": mac(number), "Client-Id": f"c-{number}", "Accept-Language": "zh-CN"}
            async with http.post(f"{hub.local_url}/xiaozhi/ota/", headers=headers, data=b"{}") as reply:
                assert reply.status == 200

        async def remembered() -> dict[str, str]:
            return {device.id: device.name for device in await hub.known_devices.all()}

        async with asyncio.timeout(30):  # devices are written down after they have been answered
            while mac(39) not in (names := await remembered()) or len(names) > 9:
                await asyncio.sleep(0.02)
            while mac(31) not in forgotten:  # and with each that is gone goes what else was kept of it
                await asyncio.sleep(0.02)
        names = await remembered()
        assert mac(0) not in forgotten
        assert names[mac(0)] == "Kitchen speaker"
        assert hub.devices.profile(mac(39)).language == "zh-Hans"
        assert hub.devices.profile(mac(1)).language == "en"


async def test_a_device_that_has_gone_leaves_no_session_behind(tmp_path: Path) -> None:
    def sessions() -> int:
        gc.collect()
        return sum(type(each).__name__ in ("Session", "WebSocketLink", "McpToolset") for each in gc.get_objects())

    async with running_hub(tmp_path, HOUSE) as hub:
        before = sessions()
        for number in range(10):
            await come_and_go(hub, number)
        await until(lambda: not hub.devices.sessions)
        await until(lambda: sessions() <= before)
