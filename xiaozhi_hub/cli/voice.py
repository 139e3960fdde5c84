"""A voice without a hub: the built-in eSpeak integration, used by itself."""

from __future__ import annotations

import importlib
from contextlib import AsyncExitStack

import numpy as np

from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.cli.words import words_for
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.dialog.speaking.normalisation.normalise import spoken
from xiaozhi_hub.engines.base import Engine
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.loader import import_integration

MICROPHONE_RATE = 16000


async def say(text: str, locale: str) -> PcmChunk:
    """Return *text* as spoken into a device's microphone. Raises `HubError` where there is no voice."""
    module = import_integration(builtin("integrations") / "espeak")
    config = importlib.import_module(f"{module.__name__}.config")
    entry = Entry("espeak", config.SCHEMA({}))
    engines: list[Engine] = []
    async with AsyncExitStack() as stack:
        stack.push_async_callback(entry.scope.close)
        await stack.enter_async_context(module.entry_context(entry=entry))
        module.register_engines(register=engines.append, entry=entry)
        voice = next(engine for engine in engines if isinstance(engine, Tts))
        language = language_of(locale)
        pieces = [chunk async for chunk in voice.speak(SpeechRequest(spoken(text, language), language))]
    if not pieces:
        raise HubError(words_for()("cli.device.no_sound", text=text))
    sound = PcmChunk(np.concatenate([piece.samples for piece in pieces]), pieces[0].rate)
    return resample(sound, MICROPHONE_RATE)


__all__ = ["say"]
