"""What a device is told of the conversation it is in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice, running_hub

QUIET = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, demo: , echo: {tts: {ms: 200}}}
"""
ONE, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"
ELSEWHERE = {"X-Forwarded-For": "192.168.1.7"}
"""As from another machine: what comes through a proxy is never taken for this one."""


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    async with running_hub(tmp_path, QUIET) as hub:
        yield hub


def device(hub: Hub, device_id: str = ONE) -> FakeDevice:
    return FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id)


async def told(hub: Hub, device_id: str, session_id: str | None) -> tuple[int, Any]:
    headers = ELSEWHERE | ({"Session-Id": session_id} if session_id is not None else {})
    url = f"{hub.local_url}/api/v2/conversations/{device_id}"
    async with ClientSession() as http, http.get(url, headers=headers) as answer:
        return answer.status, await answer.json()


async def remembered(hub: Hub, device_id: str, count: int) -> None:
    """Wait until the turns of a device have been written down."""
    async with asyncio.timeout(20):
        while len(await hub.history.turns(10, device_id)) < count:
            await asyncio.sleep(0.01)


async def test_a_device_learns_what_was_done_in_its_conversation_from_wherever_it_asks(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask_text("turn on the bed light")
        await speaker.ask_text("what time is it")
        await remembered(hub, ONE, 2)
        status, answer = await told(hub, ONE, speaker.session_id)
        assert status == 200
        light, time = answer["turns"]
        assert (light["message"], light["response"]) == ("turn on the bed light", "Turned on the Bed Light.")
        assert [call["name"] for call in light["tool_calls"]] == ["home.turn_on"]
        assert "result" not in light["tool_calls"][0]
        assert time["message"] == "what time is it"


async def test_it_learns_nothing_of_earlier_conversations(hub: Hub) -> None:
    async with device(hub) as speaker:
        await speaker.ask_text("turn on the bed light")
        await remembered(hub, ONE, 1)
    async with device(hub) as speaker:
        await speaker.ask_text("what time is it")
        await remembered(hub, ONE, 2)
        _, answer = await told(hub, ONE, speaker.session_id)
        assert [turn["message"] for turn in answer["turns"]] == ["what time is it"]


async def test_nobody_else_learns_anything(hub: Hub) -> None:
    async with device(hub) as speaker, device(hub, OTHER) as other:
        await speaker.ask_text("turn on the bed light")
        await other.connect()
        session = speaker.session_id
        for device_id, shown in (
            (ONE, None),
            (ONE, ""),
            (ONE, "f" * 16),
            (ONE, session[:-1]),
            (ONE, "\udcff" * 4),
            (ONE, other.session_id),
            (OTHER, session),
            ("nobody", session),
        ):
            status, answer = await told(hub, device_id, shown)
            assert (status, answer["success"], answer["error_code"]) == (403, False, "FORBIDDEN"), (device_id, shown)
            assert answer["hint"]
    status, _ = await told(hub, ONE, session)
    assert status == 403, "the conversation has ended"
