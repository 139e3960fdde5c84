"""A mirror of models on this machine, which can be told to behave as badly as mirrors do."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from xiaozhi_hub.models.catalogue import CatalogueModel, ModelFile, Source


@dataclass(frozen=True)
class Deed:
    """What the mirror does with one request instead of serving it well."""

    drop_after: int | None = None
    """Cut the connection after so many bytes of the body."""
    status: int = 200
    ignores_range: bool = False
    body: bytes | None = None
    length: int | None = None
    """Say so many bytes are coming."""
    chunked: bool = False
    location: str = ""
    stall_after: int | None = None
    """Send so many bytes, and then nothing."""
    headers: tuple[tuple[str, str], ...] = ()
    range_from: int | None = None
    """Begin there, whatever was asked for."""


@dataclass
class Mirror:
    """Serves *files* by path; the deeds are done first, one for each request."""

    files: dict[str, bytes] = field(default_factory=dict)
    deeds: list[Deed] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Of each request: path, ``Range`` and ``If-Range``."""
    tag: str | None = '"one"'
    url: str = ""
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = request.headers.get("Range", "")
        self.asked.append((request.path, asked, request.headers.get("If-Range", "")))
        deed = self.deeds.pop(0) if self.deeds else Deed()
        if deed.location:
            return web.Response(status=302, headers={"Location": deed.location})
        if deed.status not in (200, 206):
            return web.Response(status=deed.status, headers=dict(deed.headers))
        body = deed.body if deed.body is not None else self.files.get(request.path)
        if body is None:
            return web.Response(status=404)
        begin = 0
        current = not request.headers.get("If-Range") or request.headers.get("If-Range") == self.tag
        if asked and current and not deed.ignores_range:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(body):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
        if deed.range_from is not None:
            begin = deed.range_from
        headers = {"Content-Type": "application/octet-stream", **dict(deed.headers)}
        if self.tag is not None:
            headers["ETag"] = self.tag
        if (begin or deed.range_from is not None) and "Content-Range" not in headers:
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        response = web.StreamResponse(status=206 if "Content-Range" in headers else 200, headers=headers)
        rest = body[begin:]
        if not deed.chunked:
            response.content_length = deed.length if deed.length is not None else len(rest)
        await response.prepare(request)
        with suppress(ConnectionResetError):
            if deed.drop_after is not None:
                await response.write(rest[: deed.drop_after])
                assert request.transport is not None
                request.transport.close()
            elif deed.stall_after is not None:
                await response.write(rest[: deed.stall_after])
                await self.over.wait()
            else:
                await response.write(rest)
                await response.write_eof()
        return response


@asynccontextmanager
async def mirror(files: dict[str, bytes] | None = None) -> AsyncIterator[Mirror]:
    """A mirror on a free port, while the block is entered."""
    served = Mirror(files or {})
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert runner.addresses
    served.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield served
    finally:
        served.over.set()
        await runner.cleanup()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


GGUF = b"GGUF\x03\x00\x00\x00" + bytes(range(256)) * 4096
"""A megabyte that begins as a language model does."""


def a_model(data: bytes = GGUF, *, checksum: bool = True, size: bool = True, ask: bool = False) -> CatalogueModel:
    """A language model of one file, ``tiny.gguf``, with *data* in it."""
    return CatalogueModel(
        name="tiny",
        engine="llama_cpp",
        role="llm",
        languages=("en",),
        about="made for tests",
        quality=1,
        licence="Apache-2.0",
        source=Source("people/tiny"),
        files=(ModelFile("tiny.gguf", len(data) if size else None, sha256(data) if checksum else ""),),
        memory_mib=1,
        memory_basis="measured",
        ask=ask,
    )


PATH = "/people/tiny/resolve/main/tiny.gguf"
