"""Models on a server that speaks the OpenAI API: llama.cpp, Ollama, vLLM, LM Studio, or one on the internet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, hookimpl

from .server import Server
from .vision import OpenAiVision


@hookimpl
@asynccontextmanager
async def entry_context(entry: Entry) -> AsyncIterator[None]:
    async with Server.connected(entry.options) as server:
        entry.runtime = OpenAiVision(server, entry.options["vision"])
        yield


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    register(entry.runtime)
