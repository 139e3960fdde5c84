"""The recogniser for known sentences as its tests use it: a small phrasebook, and speech that eSpeak says."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from hassil.intents import Intents, TextSlotList

from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.core.flow import PcmChunk, Transcript
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.dialog.grammar.grammar import Grammar, GrammarSource
from xiaozhi_hub.dialog.grammar.grammar import Heard as Listened
from xiaozhi_hub.engines.asr import AsrRequest
from xiaozhi_hub.engines.phrasebook import Phrasebook
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.loader import import_integration

FOLDER = builtin("integrations") / "phrases"
phrases = import_integration(FOLDER)
config, decoder, lexicon, sentences, stream = (
    importlib.import_module(f"{phrases.__name__}.{name}")
    for name in ("config", "decoder", "decoder.lexicon", "decoder.sentences", "stream")
)
espeak = import_integration(builtin("integrations") / "espeak")
espeak_config = importlib.import_module(f"{espeak.__name__}.config")

RATE = 16000
Sound = np.ndarray[Any, np.dtype[np.int16]]
SENTENCES = """
turn (on|off) [the] {name}
set [the] {name} to {brightness} percent
set a timer for {minutes} minutes
set a timer for {hours} hours [and {minutes} minutes]
what time is it
is the {name} locked
stop the music
"""


def book(
    *names: str, version: str = "1", sentences: str = SENTENCES, answers: str = "", language: str = "en"
) -> Phrasebook:
    def source(text: str, heard: Listened) -> GrammarSource:
        templates = {
            "language": language,
            "intents": {"Do": {"data": [{"sentences": text.strip().splitlines()}]}},
            "lists": {
                "brightness": {"range": {"from": 0, "to": 100, "type": "percentage"}},
                "minutes": {"range": {"from": 2, "to": 59}},
                "hours": {"range": {"from": 2, "to": 24}},
            },
        }
        return GrammarSource(Intents.from_dict(templates), heard=heard)

    sources = [source(sentences, Listened.ALWAYS)]
    if answers:
        sources.append(source(answers, Listened.ANSWERING))
    return Grammar(
        language, sources, {"name": TextSlotList.from_strings(names or ("Standing Light", "Front Door"))}, version
    )


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[Any]:
    """The engine as the hub gets it: through the integration's hooks."""
    entry = Entry("phrases", config.SCHEMA(options))
    try:
        async with phrases.entry_context(entry=entry):
            registered: list[Any] = []
            phrases.register_engines(register=registered.append, entry=entry)
            yield registered[0]
    finally:
        await entry.scope.close()


async def spoken(text: str) -> Sound:
    """Synthetic speech at 16 kHz, with the silence that the hub leaves around it."""
    entry = Entry("espeak", espeak_config.SCHEMA({}))
    async with espeak.entry_context(entry=entry):
        chunks = [chunk async for chunk in entry.runtime.speak(SpeechRequest(text, "en"))]
    sound = resample(PcmChunk(np.concatenate([chunk.samples for chunk in chunks]), chunks[0].rate), RATE).samples
    loud = np.flatnonzero(np.abs(sound.astype(np.int32)) > 300)
    quiet = np.zeros(RATE // 4, np.int16)
    return np.concatenate((quiet, sound[loud[0] : loud[-1]] // 2, quiet))


async def heard(engine: Any, sound: Sound, *, answering: bool = False) -> Transcript:
    stream = engine.open(AsrRequest(("en",), answering=answering))
    for at in range(0, len(sound), 960):
        await stream.feed(PcmChunk(sound[at : at + 960], RATE))
    try:
        transcript: Transcript = await stream.finish()
        return transcript
    finally:
        await stream.aclose()


def distance(one: list[str], other: list[str]) -> int:
    """How many of them differ: sounds, words."""
    row = list(range(len(other) + 1))
    for above, left in enumerate(one, 1):
        new = [above]
        for place, right in enumerate(other, 1):
            new.append(min(row[place] + 1, new[-1] + 1, row[place - 1] + (left != right)))
        row = new
    return row[-1]
