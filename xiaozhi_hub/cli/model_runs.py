"""Time the models that are here by running them: a hub of its own, that nobody hears of, with nothing but their engines."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from xiaozhi_hub.cli.self_test import synthesise
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.flow import PcmChunk, TextDelta
from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.engines.asr import Asr, AsrRequest
from xiaozhi_hub.engines.llm import ChatRequest, Llm, Message
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.models.catalogue import RUNNERS
from xiaozhi_hub.models.fit import SENTENCE_TOKENS
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.plugins.entries import EntryState
from xiaozhi_hub.plugins.loader import find_integrations
from xiaozhi_hub.stepping import STAGES

COMMAND = "turn on the light in the kitchen please"
PERSONA = "You are a helpful assistant in a home. Answer in one short sentence."
QUESTION = "How many days has a week? It is {moment}."
"""Another one each time, so that it must be read."""
SENTENCES = {"en": "It is three o'clock.", "zh-Hans": "现在是三点。"}
READY_SECONDS = 90.0
RUN_SECONDS = 60.0
VOICE = "espeak"
"""Says the command that recognisers hear; it comes with the hub."""


def time_installed(config: Config, shelf: ModelShelf, words: Words) -> dict[str, float]:
    """Seconds until something is heard of each installed model, as `fit.Timed` wants them; what cannot run is left out."""
    installed = {engine: shelf.installed(engine) for engine in RUNNERS}
    if not any(installed.values()):
        return {}
    logging.disable(logging.ERROR)  # what an engine has to say about its start is shown below, in one line
    try:
        there = {engine: models for engine, models in installed.items() if models}
        return asyncio.run(_time(config, shelf, there, words))
    finally:
        logging.disable(logging.NOTSET)


async def _time(
    config: Config, shelf: ModelShelf, installed: dict[str, tuple[InstalledModel, ...]], words: Words
) -> dict[str, float]:
    timed: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="xiaozhi-hub-") as folder:
        (Path(folder) / "models").symlink_to(shelf.folder, target_is_directory=True)
        async with Hub(_quiet(config, Path(folder), set(installed))) as hub:
            try:
                async with asyncio.timeout(READY_SECONDS):
                    await hub.ready()
            except TimeoutError:
                print(words("cli.models.not_loaded", seconds=READY_SECONDS), file=sys.stderr)
                return timed
            voices = hub.engines.ttss((VOICE,))
            spoken = await synthesise(voices[0], COMMAND, words) if voices else None
            for domain, models in installed.items():
                for model in models:
                    try:
                        async with asyncio.timeout(RUN_SECONDS):
                            seconds = await _time_one(hub, domain, model, spoken)
                    except (HubError, TimeoutError) as error:
                        why = str(error) or words("cli.models.no_end", seconds=RUN_SECONDS)
                        print(words("cli.models.not_run", model=model.name, why=why), file=sys.stderr)
                    else:
                        if seconds is not None:
                            timed[model.name] = seconds
    return timed


async def _time_one(hub: Hub, domain: str, model: InstalledModel, spoken: PcmChunk | None) -> float | None:
    """Have *domain* load *model*, and time it. None where there is no such stage to time."""
    if domain in STAGES:
        await hub.stepping.use(domain, model.name)
    entry = next((entry for entry in hub.plugins.entries if entry.domain == domain), None)
    if entry is None:
        return None
    if entry.state is not EntryState.READY:
        raise HubError(entry.reason, hint=entry.hint)
    asr, llm, tts = hub.engines.asrs((domain,)), hub.engines.llms((domain,)), hub.engines.ttss((domain,))
    if asr and spoken is not None:
        return await _quickest(lambda: _hear(asr[0], spoken))
    if llm:
        return await _quickest(lambda: _think(llm[0]))
    if tts:
        return await _quickest(lambda: _speak(tts[0], model.name))
    return None


def _quiet(config: Config, data: Path, domains: set[str]) -> Config:
    """The configuration of a hub that does nothing but run these integrations."""
    found, _ = find_integrations(config.config_dir / "integrations")
    wanted = domains | {VOICE}
    # Which of its models an engine runs is said below, one after the other.
    written = {
        domain: {key: value for key, value in options.items() if key != "model"}
        if isinstance(options, Mapping)
        else options
        for domain, options in config.integrations.items()
    }
    return replace(
        config,
        hub=replace(config.hub, data_dir=data),
        server=replace(config.server, ip="127.0.0.1", port=0, http_port=0),
        discovery=replace(config.discovery, enabled=False),
        history=replace(config.history, enabled=False),
        integrations={domain: written.get(domain) if domain in wanted else False for domain in {*found, *written}},
    )


async def _quickest(once: Callable[[], Awaitable[float]]) -> float:
    """The second of two runs: in the first one things are loaded that stay."""
    await once()
    return await once()


async def _hear(engine: Asr, spoken: PcmChunk) -> float:
    stream = engine.open(AsrRequest(("en",)))
    try:
        await stream.feed(spoken)
        began = time.perf_counter()
        await stream.finish()
        return time.perf_counter() - began
    finally:
        await stream.aclose()


async def _think(engine: Llm) -> float:
    """Until a sentence is written; the persona has been read before, as in a conversation."""
    question = QUESTION.format(moment=time.perf_counter_ns())
    request = ChatRequest((Message("system", PERSONA), Message("user", question)), conversation="measuring")
    began, pieces = time.perf_counter(), 0
    async with aclosing(engine.chat(request)) as answer:
        async for piece in answer:
            pieces += isinstance(piece, TextDelta)
            if pieces >= SENTENCE_TOKENS:
                break
    return time.perf_counter() - began


async def _speak(engine: Tts, voice: str) -> float:
    language = language_of(voice)
    began = time.perf_counter()
    async with aclosing(engine.speak(SpeechRequest(SENTENCES[language], language, voice))) as sound:
        async for _ in sound:
            break
    return time.perf_counter() - began


__all__ = ["time_installed"]
