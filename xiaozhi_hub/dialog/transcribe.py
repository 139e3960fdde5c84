"""A recording, heard as a person at a device would be: the same voice detection, pauses, margins and recognisers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np

from xiaozhi_hub.audio.endpoint import Endpoint, Patience
from xiaozhi_hub.core.flow import PcmChunk, Samples, Transcript
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.dialog.hearing.hearing import BEFORE_MS, FAINT, MARGIN_MS, RATE
from xiaozhi_hub.dialog.hearing.recognition import Recognition
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.engines.asr import Asr, AsrRequest
from xiaozhi_hub.engines.base import Role
from xiaozhi_hub.engines.registry import no_engine

FRAME_MS = 60
"""What devices send at a time."""
_FRAME = RATE * FRAME_MS // 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a recording, in ms since its beginning."""

    start_ms: float
    end_ms: float


@dataclass(frozen=True, slots=True)
class Activity:
    """Where in a recording somebody speaks."""

    utterances: tuple[Span, ...]
    """Each is what would have been one turn."""
    probabilities: tuple[float, ...]
    """Of speech, for each `FRAME_MS`."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """One of the utterances of a recording, and what was understood of it; never nothing."""

    span: Span
    transcript: Transcript


@dataclass(frozen=True, slots=True)
class Recognised:
    """What is said in a recording."""

    text: str
    """All utterances; empty when there are none."""
    utterances: tuple[Utterance, ...]
    language: str
    confidence: float | None
    """That of the least certain utterance; None when the recogniser does not say or nobody spoke."""
    timings: dict[str, float] = field(default_factory=dict)
    """How long each stage took, in ms."""


async def find_speech(parts: TurnParts, sound: PcmChunk) -> Activity:
    """Find out when somebody speaks in *sound* (16 kHz). `StageError` without voice detection."""
    await parts.ready()
    vads = parts.engines.vads(parts.voice.vad)
    if not vads:
        raise no_engine(Role.VAD)
    stream = vads[0].open()
    probabilities = [await stream.feed(frame) for frame in _frames(sound.samples)]
    return Activity(utterances_of(probabilities, parts.patience, sound.ms), tuple(probabilities))


def utterances_of(probabilities: Sequence[float], patience: Patience, length_ms: float) -> tuple[Span, ...]:
    """Cut a recording of *length_ms* into utterances as a device's microphone stream would be. Pure."""
    spans: list[Span] = []
    endpoint, before = Endpoint(patience), 0.0

    def note() -> None:
        if endpoint.speech_start_ms is not None:
            end = min(before + endpoint.speech_end_ms, length_ms)
            spans.append(Span(before + endpoint.speech_start_ms, end))

    for probability in probabilities:
        endpoint.feed(FRAME_MS, probability)
        if endpoint.ended:
            note()
            before += endpoint.now_ms
            endpoint = Endpoint(patience)
    note()
    return tuple(spans)


async def utterances_in(
    parts: TurnParts, sound: PcmChunk, activity: Activity, language: str, device_id: str = ""
) -> AsyncGenerator[Utterance, None]:
    """Give each utterance of *sound* (16 kHz) as soon as it is recognised, in their order. `StageError` when no recogniser can."""
    recognisers, _ = parts.recognisers(language)
    if not recognisers:
        raise no_engine(Role.ASR, language)
    free_from = 0.0
    for span in activity.utterances:
        with_margins = widen(span, activity.probabilities, free_from)
        free_from = span.end_ms
        at, end = (round(ms * RATE / 1000) for ms in (with_margins.start_ms, with_margins.end_ms))
        request = AsrRequest((language,), device_id, lead_ms=min(MARGIN_MS, span.start_ms - with_margins.start_ms))
        transcript = await _recognise(recognisers, request, _frames(sound.samples[at:end]))
        if transcript.text:
            yield Utterance(span, transcript)


async def transcribe(parts: TurnParts, sound: PcmChunk, language: str, device_id: str = "") -> Recognised:
    """Recognise what is said in *sound* (16 kHz). `StageError` when no recogniser can."""
    clock = asyncio.get_running_loop().time
    began = clock()
    activity = await find_speech(parts, sound)
    found = clock()
    async with aclosing(utterances_in(parts, sound, activity, language, device_id)) as heard:
        utterances = tuple([utterance async for utterance in heard])
    done = clock()
    transcripts = [utterance.transcript for utterance in utterances]
    sure = [t.confidence for t in transcripts if t.confidence is not None]
    return Recognised(
        text=" ".join(transcript.text for transcript in transcripts),
        utterances=utterances,
        language=transcripts[0].language if transcripts else language,
        confidence=min(sure, default=None),
        timings={
            "audio_ms": round(sound.ms, 1),
            "vad_ms": round((found - began) * 1000, 1),
            "asr_ms": round((done - found) * 1000, 1),
            "total_ms": round((done - began) * 1000, 1),
        },
    )


def widen(span: Span, probabilities: Sequence[float], free_from: float) -> Span:
    """Add what a recogniser needs around an utterance: its faint beginning and some silence on both sides.

    Nothing from before *free_from* is taken. Pure.
    """
    earliest = max(free_from, span.start_ms - BEFORE_MS)
    start = span.start_ms
    frame = int(start // FRAME_MS) - 1
    while frame >= 0 and frame * FRAME_MS >= earliest and probabilities[frame] >= FAINT:
        start = float(frame * FRAME_MS)
        frame -= 1
    return Span(max(earliest, start - MARGIN_MS), span.end_ms + MARGIN_MS)


def _frames(samples: Samples) -> list[PcmChunk]:
    """Cut *samples* as devices do; the last piece is filled up with silence."""
    missing = -len(samples) % _FRAME
    whole = np.concatenate([samples, np.zeros(missing, np.int16)]) if missing else samples
    return [PcmChunk(whole[at : at + _FRAME], RATE) for at in range(0, len(whole), _FRAME)]


async def _recognise(recognisers: Sequence[Asr], request: AsrRequest, frames: Sequence[PcmChunk]) -> Transcript:
    async with TaskScope("recording") as scope:
        recognition = Recognition(recognisers, request, scope)
        try:
            for frame in frames:
                await recognition.feed(frame)
            return await recognition.finish()
        finally:
            await recognition.aclose()


__all__ = [
    "FRAME_MS",
    "Activity",
    "Recognised",
    "Span",
    "Utterance",
    "find_speech",
    "transcribe",
    "utterances_in",
    "utterances_of",
    "widen",
]
