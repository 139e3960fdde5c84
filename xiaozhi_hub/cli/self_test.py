"""The hub talks with itself once: a device on a real socket asks with the hub's own voice, so the whole loop is proven."""

from __future__ import annotations

import asyncio
import logging

import numpy as np

from xiaozhi_hub.audio.pcm import resample
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.testing import FakeDevice
from xiaozhi_hub.threshold import SELF_TEST

log = logging.getLogger(__name__)

QUESTION = "what time is it"
SECONDS = 20.0


async def synthesise(voice: Tts, text: str, words: Words) -> PcmChunk:
    """Say *text*, which is English, into a chunk of 16 kHz, as a device's microphone would deliver it."""
    pieces = [chunk async for chunk in voice.speak(SpeechRequest(text, "en"))]
    if not pieces:
        raise HubError(words("cli.run.self_test.silent_voice", name=voice.info.name))
    return resample(PcmChunk(np.concatenate([piece.samples for piece in pieces]), pieces[0].rate), 16000)


async def talk_to_yourself(hub: Hub, words: Words) -> str:
    """Ask the hub the time through its own front door; return one line for people about what came of it."""
    voices = hub.parts.voices("en")
    if not voices or not hub.parts.recognisers("en")[0]:
        return words("cli.run.self_test.skipped")
    try:
        async with asyncio.timeout(SECONDS):
            question = await synthesise(voices[0], QUESTION, words)
            async with FakeDevice(
                ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=SELF_TEST, client_id=hub.self_test_client_id
            ) as device:
                answer = await device.ask(question)
    except Exception as error:  # an engine is anybody's code; the hub works for all others
        log.error("the self-test failed: %s", str(error) or "no answer")
        why = str(error) or words("cli.run.self_test.no_answer", seconds=SECONDS)
        return words("cli.run.self_test.failed", why=why)
    if not answer.said or answer.heard != QUESTION:
        return words("cli.run.self_test.wrong", asked=QUESTION, heard=answer.heard, said=answer.said)
    seconds = answer.stamps["first_voice"] / 1000
    return words("cli.run.self_test.good", heard=answer.heard, said=answer.said, seconds=seconds)
