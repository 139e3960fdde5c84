"""A server with the OpenAI API whose answers are known beforehand, and which dies, hangs or talks nonsense when it is told to.

Killing it is what the kernel does for a process that is gone: connections end with a reset, new ones are refused. Used by
`targets.py` and by the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web

from xiaozhi_hub.audio.pcm import wav_header

RATE = 24000
QUIET = logging.getLogger("remotes")
QUIET.setLevel(logging.CRITICAL)  # that it dies is no news
ANSWER = "It is warm today, about twenty degrees. Take a light jacket, please. Have a nice walk."


@dataclass(frozen=True, slots=True)
class Mishap:
    """What happens to one request."""

    role: str
    """``llm``, ``asr`` or ``tts``."""
    what: str
    """``kill`` (the whole server), ``drop`` (this connection), ``hang``, ``garbage``, ``error`` (in the stream), ``end`` (without saying
    that this is all) or a status such as ``500``."""
    after: int = 0
    """Pieces of the answer that go out before; 0: not even the status."""


@dataclass
class Remote:
    """One server. Use it with `serving`."""

    models: tuple[str, ...] | None = ("tiny-chat", "whisper-tiny", "kokoro")
    """None: it does not tell."""
    answer: str = ANSWER
    heard: str = "how is the weather"
    key: str = ""
    token_s: float = 0.0
    """Before each word."""
    first_s: float = 0.0
    """Before the first result of any kind."""
    ms_per_char: float = 30.0
    goes_on: bool = False
    """When it is told how far another one got, it writes only what is missing; else it begins anew."""
    style: str = "plain"
    """How the answer is written; see `_pieces`."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """Pieces of tool calls for requests that offer tools and hold no result yet."""
    mishaps: deque[Mishap] = field(default_factory=deque)
    """For the next requests of their roles, in this order."""
    asked: list[tuple[str, Any]] = field(default_factory=list)
    hit: int = 0
    """Mishaps that have happened."""
    left: int = 0
    """Requests whose client went before the end."""
    port: int = 0
    _site: web.TCPSite | None = None
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def kill(self) -> None:
        """End as a process does that is killed."""
        if self._site is not None and self._runner is not None and self._runner.server is not None:
            site, self._site = self._site, None
            site._server.close()  # type: ignore[union-attr]
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            with contextlib.suppress(RuntimeError):
                await site.stop()

    @property
    def alive(self) -> bool:
        return self._site is not None

    async def revive(self) -> None:
        """Be there again, at the same address."""
        if self._site is None and self._runner is not None:
            self._site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
            await self._site.start()

    # -- what it does ---------------------------------------------------------------------------------------------

    async def list_models(self, request: web.Request) -> web.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return web.json_response({"error": {"message": f"bad key {self.key}"}}, status=401)
        if self.models is None:
            raise web.HTTPNotFound
        return web.json_response({"object": "list", "data": [{"id": model} for model in self.models]})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(("llm", asked))
        calls = self.calls if asked.get("tools") and asked["messages"][-1]["role"] != "tool" else []
        return await self._stream(request, "llm", "text/event-stream", self._pieces(calls, asked), self.token_s)

    async def transcribe(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()
        values: dict[str, Any] = {}
        for name, value in form.items():
            if isinstance(value, web.FileField):
                with value.file as file:
                    values[name] = file.read()
            else:
                values[name] = value
        self.asked.append(("asr", values))
        body = json.dumps({"text": self.heard}).encode()
        return await self._stream(request, "asr", "application/json", [body[:5], body[5:]], 0.0)

    async def speak(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        self.asked.append(("tts", asked))
        samples = RATE * self.ms_per_char * len(asked["input"]) / 1000
        wave = (np.sin(np.arange(int(samples)) * 0.05) * 8000).astype("<i2").tobytes()
        head = b"" if asked["response_format"] == "pcm" else wav_header(RATE)
        step = RATE // 10 * 2
        pieces = [head + wave[:step], *(wave[at : at + step] for at in range(step, len(wave), step))]
        return await self._stream(request, "tts", "audio/wav", pieces, 0.002)

    def _pieces(self, calls: list[dict[str, Any]], asked: dict[str, Any]) -> list[bytes]:
        """The events of an answer, as one family of servers or another writes them."""

        def event(part: dict[str, Any], finish: str | None = None, key: str = "delta") -> dict[str, Any]:
            return {"id": "x", "choices": [{"index": 0, key: part, "finish_reason": finish}]}

        said = "" if calls else self.answer
        before = [message["content"] for message in asked["messages"] if message["role"] == "assistant"]
        if self.goes_on and before and said.startswith(before[-1]):
            said = said[len(before[-1]) :].lstrip()
        if self.style == "whole":
            part = {"role": "assistant", "content": said or None, **({"tool_calls": calls} if calls else {})}
            return [b"data: " + json.dumps(event(part, "stop", "message")).encode() + b"\n\n", b"data: [DONE]\n\n"]
        told: list[dict[str, Any]] = [event({"role": "assistant", "content": None})]
        if self.style == "thinks":
            told += [event({"reasoning_content": "Hm. "}), event({"reasoning": "Hm. ", "content": ""})]
        told += [event({"content": word + " "}) for word in said.split(" ") if word]
        told += [event({"tool_calls": [call]}) for call in calls]
        told.append(event({}, "tool_calls" if calls else "stop"))
        if self.style == "usage":
            told.append({"id": "x", "choices": [], "usage": {"total_tokens": 7}})
        ending = [] if self.style == "no-done" else [b"data: [DONE]\n\n"]
        return [b"data: " + json.dumps(each).encode() + b"\n\n" for each in told] + ending

    async def _stream(
        self, request: web.Request, role: str, kind: str, pieces: list[bytes], pause_s: float
    ) -> web.StreamResponse:
        mishap = next((each for each in self.mishaps if each.role == role), None)
        if mishap is not None:
            self.mishaps.remove(mishap)
        response = web.StreamResponse(headers={"Content-Type": kind})
        if self.first_s:
            await asyncio.sleep(self.first_s)
        for number, piece in enumerate([b"", *pieces]):
            if mishap is not None and number == min(mishap.after, len(pieces)):
                self.hit += 1
                if mishap.what.isdigit():
                    told = {"error": {"message": f"no, not with {self.key}"}}
                    return web.json_response(told, status=int(mishap.what))
                if mishap.what == "end":
                    if not response.prepared:
                        await response.prepare(request)
                    return response
                await self._suffer(request, response, mishap)
            if number == 0:
                continue
            if not response.prepared:
                await response.prepare(request)
            if pause_s:
                await asyncio.sleep(pause_s)
            await response.write(piece)
        return response

    async def _suffer(self, request: web.Request, response: web.StreamResponse, mishap: Mishap) -> None:
        match mishap.what:
            case "kill":
                await self.kill()
                raise ConnectionResetError
            case "drop":
                assert request.transport is not None
                request.transport.abort()
                raise ConnectionResetError
            case "hang":
                try:
                    await asyncio.Event().wait()
                finally:
                    self.left += 1
            case "garbage":
                if not response.prepared:
                    await response.prepare(request)
                await response.write(b"data: {]\n\n\xff\xfe\x00garbage")
            case "error":
                if not response.prepared:
                    await response.prepare(request)
                told = {"error": {"message": f"out of memory {self.key}", "code": 500}}
                await response.write(b"data: " + json.dumps(told).encode() + b"\n\n")


@asynccontextmanager
async def serving(remote: Remote) -> AsyncIterator[Remote]:
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_get("/v1/models", remote.list_models)
    app.router.add_post("/v1/chat/completions", remote.chat)
    app.router.add_post("/v1/audio/transcriptions", remote.transcribe)
    app.router.add_post("/v1/audio/speech", remote.speak)
    runner = remote._runner = web.AppRunner(
        app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True, logger=QUIET
    )
    await runner.setup()
    try:
        remote._site = web.TCPSite(runner, "127.0.0.1", 0)
        await remote._site.start()
        remote.port = runner.addresses[0][1]
        yield remote
    finally:
        await runner.cleanup()
