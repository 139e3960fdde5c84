"""Clients with an open microphone, while wake word services of other machines come, fail and go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_openwakeword import OpenMic, client
from wyoming_remote import Remote, serving

from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.devices.waking import doze
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import running_hub

CONFIG = """
devices: {pairing: open}
voice: {vad: echo, asr: echo, tts: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, piper: false, echo: , wyoming: %s}
"""
HubMaker = Callable[..., AbstractAsyncContextManager[Hub]]


@pytest.fixture
def hub_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HubMaker:
    """A hub that waits for wake words with the services named."""
    monkeypatch.setattr(doze, "AGAIN_SECONDS", 0.05)

    def make(*services: Remote, **options: Any) -> AbstractAsyncContextManager[Hub]:
        listed = [{"uri": each.uri, "name": f"ear{number}"} for number, each in enumerate(services)]
        return running_hub(tmp_path / "config", CONFIG % json.dumps({"services": listed, **options}))

    return make


@asynccontextmanager
async def loud_room(panel: OpenMic) -> AsyncIterator[None]:
    """Somebody says the word again and again while the block is entered."""
    bang = np.full(960, 9000, np.int16)

    async def bangs() -> None:
        while True:
            await panel.sends(bang, np.zeros(960, np.int16), speed=1)

    banging = asyncio.create_task(bangs())
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        banging.cancel()
        await asyncio.wait([banging])


async def word_of(panel: OpenMic) -> str:
    """The word that the hub was woken by; that nobody waited for one meanwhile may be told before."""
    async for frame in panel.socket:
        message = frame.json()
        if (message["type"], message.get("state")) == ("wake", "heard"):
            return str(message["word"])
    raise AssertionError(f"closed: {panel.socket.close_code}")


async def test_a_client_that_waits_for_the_word_outlives_a_reload(hub_with: HubMaker) -> None:
    async with serving(Remote()) as remote, hub_with(remote) as hub, client(hub) as panel:
        assert (await panel.hear("wake", "waiting"))["words"] == ["bang"]
        await panel.sends(np.zeros(1920, np.int16))
        await remote.until("detect")
        await hub.plugins.reload("wyoming")
        async with loud_room(panel):
            assert await word_of(panel) == "bang"


async def test_a_detector_that_fails_again_and_again_gives_way_to_the_next(hub_with: HubMaker) -> None:
    async with serving(Remote(refuses="out of memory")) as broken, serving(Remote()) as other:
        async with hub_with(broken, other) as hub, client(hub) as panel:
            await panel.hear("wake", "waiting")
            assert [engine.info.id for engine in hub.engines.wakes()] == ["wyoming/ear0", "wyoming/ear1"]
            async with loud_room(panel):
                assert await word_of(panel) == "bang"
            assert other.of("detect")


async def test_a_service_that_is_asked_as_much_as_it_may_be_is_still_there(hub_with: HubMaker) -> None:
    async with serving(Remote()) as remote, hub_with(remote, look_s=1) as hub:
        (engine,) = hub.engines.wakes()
        streams = [engine.open() for _ in range(16)]
        for stream in streams:
            await stream.feed(PcmChunk(np.zeros(960, np.int16), 16000))
        await remote.until("detect", 16)
        await remote.until("describe", len(remote.of("describe")) + 3)
        assert hub.engines.wakes() == (engine,)
        for stream in streams:
            await stream.aclose()
