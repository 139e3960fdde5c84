"""The stages of a turn as bars in a terminal. Pure: stamps in, lines out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from xiaozhi_hub.cli.table import cells, pad
from xiaozhi_hub.cli.words import Words
from xiaozhi_hub.web.pages.waterfall import bars

WIDTH = 48
_PARTS = " ▏▎▍▌▋▊▉█"
"""A cell filled from the left by so many eighths."""


@dataclass(frozen=True, slots=True)
class Span:
    """One stage: what it is called, and where it begins and ends on any scale."""

    label: str
    begin: float
    end: float
    ms: float


def draw(spans: Sequence[Span], width: int = WIDTH, *, plain: bool = False) -> list[str]:
    """Return a line for each span, all on one scale of *width* columns; *plain* keeps to ASCII."""
    if not spans:
        return []
    left = min(span.begin for span in spans)
    whole = max(max(span.end for span in spans) - left, 1e-9)
    room = max(cells(span.label) for span in spans)
    lines = []
    for span in spans:
        bar = _bar((span.begin - left) / whole, (span.end - left) / whole, width)
        if plain:
            bar = "".join(cell if cell == " " else "#" for cell in bar)
        lines.append(f"{pad(span.label, room)} {bar:<{width}} {span.ms:6.0f} ms")
    return lines


def _bar(begin: float, end: float, width: int) -> str:
    # It begins at a whole cell, because a terminal cannot fill cells from the right, and has the right length.
    first = min(int(begin * width), width - 1)
    eighths = max(1, min(round((end - begin) * width * 8), (width - first) * 8))
    return " " * first + _PARTS[8] * (eighths // 8) + _PARTS[eighths % 8].strip()


def device_spans(stamps: Mapping[str, float], words: Words) -> list[Span]:
    """What a person at the device lives through, from the stamps of a `xiaozhi_hub.testing.TurnResult`."""
    moments = {"asked": 0.0, **stamps}
    asked = "asked" if stamps.get("tts_start") != 0 else "tts_start"
    stages = (
        ("speaking", ("speech_start",), ("asked",)),
        ("understood", (asked,), ("stt",)),
        ("answering", ("stt", asked), ("tts_start",)),
        ("first_sound", ("tts_start",), ("first_voice", "first_frame")),
        ("playing", ("first_voice", "first_frame"), ("played", "tts_stop")),
    )
    spans = []
    for stage, begins, ends in stages:
        begin = next((moments[name] for name in begins if name in moments), None)
        end = next((moments[name] for name in ends if name in moments), None)
        if begin is not None and end is not None and end >= begin:
            spans.append(Span(words(f"cli.device.stage.{stage}"), begin, end, end - begin))
    return spans


def turn_spans(stamps: Mapping[str, float], words: Words) -> list[Span]:
    """What the hub did, from the stamps of a `xiaozhi_hub.core.flow.TurnRecord`."""
    return [Span(words(f"page.stage.{bar.stage}"), bar.begin, bar.begin + bar.width, bar.ms) for bar in bars(stamps)]


__all__ = ["Span", "device_spans", "draw", "turn_spans"]
