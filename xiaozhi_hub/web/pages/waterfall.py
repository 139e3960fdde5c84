"""The stages of a turn as bars on one time line. Pure: stamps in, bars out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_STAGES = (
    ("speech", ("speech_start",), ("speech_end",)),
    ("silence", ("speech_end",), ("endpoint",)),
    ("hearing", ("endpoint",), ("transcript",)),
    ("reading", ("transcript",), ("first_token",)),
    ("tool", ("tool",), ("tool_result",)),
    ("thinking", ("first_token", "transcript"), ("reply",)),
    ("voice", ("reply", "transcript"), ("first_voice", "first_audio")),
    ("playing", ("first_voice", "first_audio"), ("played", "sent")),
)
"""Name, where it begins and where it ends; of several stamps the first that is there."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One stage of a turn."""

    stage: str
    """``speech``, ``silence``, ``hearing``, ``reading`` (a language model, the question), ``tool`` (of the first call's begin to
    the last one's end), ``thinking``, ``voice`` or ``playing``."""
    begin: float
    """Percent of the whole width."""
    width: float
    ms: float


def bars(stamps: Mapping[str, float]) -> tuple[Bar, ...]:
    """Lay out the stages that *stamps* tell of; nothing when they do not tell of any."""
    spans: list[tuple[str, float, float]] = []
    for stage, begins, ends in _STAGES:
        begin, end = _first(stamps, begins), _first(stamps, ends)
        if begin is not None and end is not None and end >= begin:
            spans.append((stage, begin, end))
    if not spans:
        return ()
    left = min(begin for _, begin, _ in spans)
    whole = max(end for _, _, end in spans) - left
    if whole <= 0:
        return ()
    return tuple(
        Bar(stage, round((begin - left) / whole * 100, 2), round((end - begin) / whole * 100, 2), end - begin)
        for stage, begin, end in spans
    )


def _first(stamps: Mapping[str, float], names: tuple[str, ...]) -> float | None:
    return next((stamps[name] for name in names if name in stamps), None)
