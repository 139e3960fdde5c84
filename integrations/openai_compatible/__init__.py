"""Models on servers that speak the OpenAI API: llama.cpp, Ollama, vLLM, LM Studio, or one on the internet."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, hookimpl

from .answering import OpenAiLlm
from .hearing import OpenAiAsr
from .server import connected
from .speaking import OpenAiTts
from .vision import OpenAiVision

_ENGINES = {"llm": OpenAiLlm, "asr": OpenAiAsr, "tts": OpenAiTts, "vision": OpenAiVision}


@hookimpl
@asynccontextmanager
async def entry_context(entry: Entry) -> AsyncIterator[None]:
    async with connected(entry.options) as servers:
        entry.runtime = servers
        yield


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    for server in entry.runtime:
        for role in server.models:
            register(_ENGINES[role](server))
