"""A hub that follows a script: it shows what a device expects of one, and gives devices something to talk to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from xiaozhi_hub.audio.opus import encode_all
from xiaozhi_hub.core.flow import PcmChunk

FRAME_S = 0.06


def tone(seconds: float, rate: int = 16000, loudness: float = 0.3) -> PcmChunk:
    time = np.arange(int(seconds * rate)) / rate
    return PcmChunk((np.sin(2 * np.pi * 300 * time) * loudness * 32767).astype(np.int16), rate)


VOICE = [packet.data for packet in encode_all(tone(0.48, 24000))]
"""An answer of eight packets."""


@dataclass
class Talk:
    """One connection as the hub sees it."""

    ws: web.WebSocketResponse
    headers: dict[str, str]
    hello: dict[str, Any]
    messages: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    packets: list[tuple[float, bytes]] = field(default_factory=list)
    """What the microphone sent, and when it came."""
    news: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """The device has hung up."""

    async def tell(self, **message: Any) -> None:
        await self.ws.send_str(json.dumps(message))

    async def listens(self) -> dict[str, Any]:
        """The next message, which must be a `listen`."""
        async with asyncio.timeout(20):
            message = await self.messages.get()
        assert message["type"] == "listen", message
        return message

    async def uplink(self, count: int) -> None:
        """Wait until so many packets have come in all."""
        async with asyncio.timeout(20):
            while len(self.packets) < count:
                self.news.clear()
                await self.news.wait()

    async def speak(self, packets: list[bytes] = VOICE, *, lead: int = 5, gap_s: float = FRAME_S) -> None:
        """Send audio as a hub should: a few packets at once, then one for each that has been played."""
        began = asyncio.get_running_loop().time()
        for index, packet in enumerate(packets):
            await asyncio.sleep(max(0.0, began + (index + 1 - lead) * gap_s - asyncio.get_running_loop().time()))
            await self.ws.send_bytes(packet)

    async def answer(self, text: str = "It is nine.", **how: Any) -> None:
        await self.tell(type="tts", state="start")
        await self.tell(type="llm", emotion="happy")
        await self.tell(type="tts", state="sentence_start", text=text)
        await self.speak(**how)
        await self.tell(type="tts", state="stop")


Script = Callable[[Talk], Awaitable[None]]


class ScriptedHub:
    """Checks devices in, says hello, and follows a script for each connection."""

    def __init__(self, script: Script, hello: dict[str, Any] | None = None) -> None:
        self._script = script
        self._hello = hello
        self.check_ins: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.activations: list[dict[str, Any]] = []
        self.talks: list[Talk] = []
        self.port = 0
        self.websocket: dict[str, Any] = {}
        self.extra: dict[str, Any] = {}
        self.failures: list[BaseException] = []

    async def ota(self, request: web.Request) -> web.Response:
        self.check_ins.append((dict(request.headers), await request.json()))
        section = {"url": f"ws://127.0.0.1:{self.port}/ws", "token": "", "version": 1, **self.websocket}
        return web.json_response({"websocket": section, **self.extra})

    async def activate(self, request: web.Request) -> web.Response:
        self.activations.append(await request.json())
        return web.Response(status=202 if "activation" in self.extra else 200)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=0.3)
        await ws.prepare(request)
        talk = Talk(ws, dict(request.headers), (await ws.receive_json(timeout=20)))
        self.talks.append(talk)
        hello = {
            "type": "hello",
            "transport": "websocket",
            "session_id": "s-1",
            "audio_params": {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
        }
        await talk.tell(**(hello if self._hello is None else self._hello))
        script = asyncio.create_task(self._follow(talk))
        async for frame in ws:
            if frame.type is WSMsgType.BINARY:
                talk.packets.append((asyncio.get_running_loop().time(), frame.data))
                talk.news.set()
            elif frame.type is WSMsgType.TEXT:
                talk.messages.put_nowait(json.loads(frame.data))
        talk.gone.set()
        script.cancel()
        await asyncio.wait([script])
        return ws

    async def _follow(self, talk: Talk) -> None:
        try:
            await self._script(talk)
        except (AssertionError, TimeoutError) as error:
            self.failures.append(error)


@asynccontextmanager
async def serve(script: Script, **options: Any) -> AsyncIterator[ScriptedHub]:
    hub = ScriptedHub(script, **options)
    app = web.Application()
    app.add_routes([web.post("/ota/", hub.ota), web.post("/ota/activate", hub.activate), web.get("/ws", hub.connect)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    hub.port = runner.addresses[0][1]
    try:
        yield hub
    finally:
        await runner.cleanup()
    assert not hub.failures, hub.failures


async def says_nothing(talk: Talk) -> None:
    """A hub that only listens."""


async def answers_each(talk: Talk) -> None:
    """A hub that answers half a second after `listen start`, again and again."""
    while True:
        await talk.listens()
        await talk.uplink(len(talk.packets) + 6)
        await talk.tell(type="stt", text="what time is it")
        await talk.answer()
