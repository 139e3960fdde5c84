"""A tiny server that does everything right but what it is told to do wrong."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from xiaozhi_hub.audio.opus import OpusDecoder, encode_all, silence
from xiaozhi_hub.conformance import Server, Times, Voice
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.errors import ProtocolError

FRAME_S = 0.06
TONE = PcmChunk((8000 * np.sin(np.arange(24000 * 9 // 5) * 0.1)).astype(np.int16), 24000)
PACKETS = [packet.data for packet in (*silence(120), *encode_all(TONE))]
HELLO = {
    "type": "hello",
    "transport": "websocket",
    "session_id": "s-1",
    "audio_params": {"format": "opus", "sample_rate": 24000, "channels": 1, "frame_duration": 60},
}
TIMES = Times(pongless=3, quiet_spells=1, no_hello=2, long_answer=5, ending=4, reply=3)


class Wrong:
    """One connection's side of the server. Subclasses go wrong in one place."""

    def __init__(self, ws: web.WebSocketResponse) -> None:
        self.ws = ws

    async def tell(self, **message: Any) -> None:
        await self.ws.send_str(json.dumps(message))

    async def greet(self) -> None:
        await self.tell(**HELLO)

    async def answer(self) -> None:
        await self.tell(type="stt", text="a question")
        await self.tell(type="tts", state="start")
        await self.tell(type="llm", emotion="happy")
        await self.tell(type="tts", state="sentence_start", text="An answer.")
        await self.speak()
        await asyncio.sleep(0.3)
        await self.tell(type="tts", state="stop")

    async def speak(self, packets: list[bytes] = PACKETS, lead: int = 3) -> None:
        began = asyncio.get_running_loop().time()
        for number, packet in enumerate(packets):
            await asyncio.sleep(max(0.0, began + (number - lead) * FRAME_S - asyncio.get_running_loop().time()))
            await self.ws.send_bytes(packet)

    async def on_abort(self, answering: asyncio.Task[None] | None) -> None:
        if answering is not None:
            answering.cancel()
            await self.tell(type="tts", state="stop")

    async def serve(self) -> None:
        answering: asyncio.Task[None] | None = None
        heard = -1  # before the first `listen start`, what comes is no question
        decoder = OpusDecoder(16000)
        try:
            async for frame in self.ws:
                if frame.type is WSMsgType.BINARY:
                    heard += heard >= 0 and loud(decoder, frame.data)
                    if heard == 10:
                        answering = asyncio.create_task(self.answer())
                elif frame.type is WSMsgType.TEXT:
                    message = json.loads(frame.data)
                    if message["type"] == "hello":
                        await self.greet()
                    elif message["type"] == "abort":
                        await self.on_abort(answering)
                    elif message.get("state") == "start":
                        heard = 0
        finally:
            decoder.close()
            if answering is not None:
                answering.cancel()
                await asyncio.wait([answering])


def loud(decoder: OpusDecoder, packet: bytes) -> bool:
    """A voice activity detector, nearly."""
    try:
        return bool(np.abs(decoder.decode(packet)).max() > 2000)
    except ProtocolError:
        return False


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ota_answer(port: int) -> dict[str, Any]:
    return {
        "server_time": {"timestamp": int(time.time() * 1000), "timezone_offset": 60},
        "websocket": {"url": f"ws://127.0.0.1:{port}/ws", "token": "", "version": 1},
    }


@asynccontextmanager
async def wrong_server(
    link: type[Wrong] = Wrong,
    *,
    ota: Callable[[dict[str, Any]], Any] = lambda answer: answer,
    ota_handler: Handler | None = None,
) -> AsyncIterator[Server]:
    """*ota* changes the answer to a check-in; *ota_handler* replaces it."""

    async def check_in(request: web.Request) -> web.StreamResponse:
        return web.json_response(ota(ota_answer(runner.addresses[0][1])))

    async def connect(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(timeout=0.2)
        await ws.prepare(request)
        await link(ws).serve()
        return ws

    app = web.Application()
    handler = ota_handler or check_in
    app.add_routes([web.post("/ota/", handler), web.post("/ota", handler), web.get("/ws", connect)])
    runner = web.AppRunner(app, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    speech = PcmChunk((8000 * np.sin(np.arange(16000) * 0.2)).astype(np.int16), 16000)
    try:
        yield Server(Voice(speech, speech), f"http://127.0.0.1:{runner.addresses[0][1]}/ota/", times=TIMES)
    finally:
        await runner.cleanup()
