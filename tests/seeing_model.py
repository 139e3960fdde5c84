"""A server with a model that sees: it speaks the OpenAI API."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from PIL import Image


@dataclass
class Server:
    """Speaks the OpenAI API and remembers what it was asked."""

    answer: str = "A red mug on a desk."
    status: int = 200
    models: tuple[str, ...] = ("tiny-vl",)
    key: str = ""
    streams: bool = True
    hangs: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    port: int = 0

    @property
    def seen(self) -> Image.Image:
        url = self.asked[-1]["messages"][1]["content"][1]["image_url"]["url"]
        kind, _, data = url.partition(";base64,")
        assert kind == "data:image/jpeg"
        return Image.open(io.BytesIO(base64.b64decode(data)))

    async def list_models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": "bad key"}}, status=401)
        return web.json_response({"object": "list", "data": [{"id": model} for model in self.models]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        if self.hangs:
            while self.hangs and request.transport is not None:  # until the hub hangs up
                await asyncio.sleep(0.02)
        if self.status != 200:
            return web.json_response({"error": {"message": f"no, not with {self.key}"}}, status=self.status)
        if not self.streams:
            return web.json_response({"choices": [{"message": {"role": "assistant", "content": self.answer}}]})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b": comment\n\n")
        for at in range(0, len(self.answer), 7):
            event = {"choices": [{"index": 0, "delta": {"content": self.answer[at : at + 7]}}]}
            data = f"data: {json.dumps(event)}\n\n".encode()
            await response.write(data[:9])
            await response.write(data[9:])
        await response.write(b'data: {"choices":[],"usage":{}}\n\ndata: [DONE]\n\n')
        return response


@asynccontextmanager
async def serving(server: Server) -> AsyncIterator[Server]:
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_get("/v1/models", server.list_models)
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()
