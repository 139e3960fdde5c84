"""Scripted engines for tests, and the template of an integration that brings engines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from xiaozhi_hub.plugins.api import Engine, Entry, Worker, hookimpl

from .answering import EchoLlm
from .hearing import EchoAsr, EchoVad
from .speaking import EchoTts


@hookimpl
@asynccontextmanager
async def entry_context(entry: Entry) -> AsyncIterator[None]:
    """Hold what the engines share while the entry runs."""
    worker = entry.runtime = Worker("echo")
    try:
        yield
    finally:
        await worker.close()


@hookimpl
def register_engines(register: Callable[[Engine], None], entry: Entry) -> None:
    """Hand the engines over."""
    options, worker = entry.options, entry.runtime
    register(EchoVad(options["vad"]))
    register(EchoAsr(options["asr"], worker))
    register(EchoLlm(options["llm"]))
    register(EchoTts(options["tts"], worker))
