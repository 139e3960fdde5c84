"""Bars in the terminal."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xiaozhi_hub.cli.waterfall import Span, device_spans, draw, turn_spans
from xiaozhi_hub.cli.words import Words

ENGLISH = Words("en")
DEVICE = {
    "speech_start": -1200.0,
    "speech_sent": 30.0,
    "stt": 300.0,
    "tts_start": 301.0,
    "first_frame": 303.0,
    "first_voice": 400.0,
    "tts_stop": 2300.0,
    "played": 2400.0,
}


def test_each_stage_is_a_bar_on_one_scale() -> None:
    lines = draw([Span("asking", 0, 50, 500), Span("thinking", 50, 75, 250), Span("speaking", 75, 100, 250)], 16)
    assert lines == [
        "asking   ████████            500 ms",
        "thinking         ████        250 ms",
        "speaking             ████    250 ms",
    ]


def test_a_bar_ends_at_an_eighth_of_a_column() -> None:
    assert "▕" not in draw([Span("x", 0, 3, 3), Span("y", 0, 64, 64)], 8)[0]
    assert draw([Span("x", 0, 3, 3), Span("y", 0, 64, 64)], 8)[0].startswith("x ▍ ")


def test_the_shortest_stage_can_be_seen() -> None:
    first, last = draw([Span("long", 0, 1000, 1000), Span("short", 1000, 1000, 0)], 10)
    assert "█" * 10 in first
    assert last.startswith("short          ▏"), "at the right end, inside the scale"


def test_without_unicode_bars_are_drawn_with_what_there_is() -> None:
    assert draw([Span("x", 0, 5, 5), Span("y", 5, 10, 5)], 8, plain=True) == [
        "x ####          5 ms",
        "y     ####      5 ms",
    ]


def test_nothing_is_drawn_of_nothing() -> None:
    assert draw([]) == []
    assert device_spans({}, ENGLISH) == []
    assert turn_spans({}, ENGLISH) == []


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(-1e5, 1e5), st.floats(0, 1e5)), min_size=1, max_size=6), st.integers(1, 80))
def test_every_line_has_the_same_width(spans: list[tuple[float, float]], width: int) -> None:
    lines = draw([Span("a", begin, begin + length, min(length, 99999)) for begin, length in spans], width)
    assert {len(line) for line in lines} == {1 + 1 + width + 1 + 6 + 3}
    assert all(any(cell in line for cell in "▏▎▍▌▋▊▉█") for line in lines)


def labels(stamps: dict[str, float]) -> list[tuple[str, float, float]]:
    return [(span.label, span.begin, span.end) for span in device_spans(stamps, ENGLISH)]


def test_a_spoken_question_has_all_its_stages() -> None:
    assert labels(DEVICE) == [
        ("speaking", -1200, 0),
        ("understood", 0, 300),
        ("answering", 300, 301),
        ("first sound", 301, 400),
        ("playing", 400, 2400),
    ]


@pytest.mark.parametrize(
    ("name", "stamps", "expected"),
    [
        ("a text", {"stt": 1.0, "tts_start": 2.0, "first_frame": 5.0, "tts_stop": 9.0},
         [("understood", 0, 1), ("answering", 1, 2), ("first sound", 2, 5), ("playing", 5, 9)]),
        ("no transcript", {"speech_start": -9.0, "tts_start": 4.0}, [("speaking", -9, 0), ("answering", 0, 4)]),
        ("an unasked answer", {"tts_start": 0.0, "first_voice": 3.0, "played": 8.0},
         [("answering", 0, 0), ("first sound", 0, 3), ("playing", 3, 8)]),
        ("no answer", {"speech_start": -9.0, "speech_sent": 1.0}, [("speaking", -9, 0)]),
        ("cut short", {"speech_start": -9.0, "stt": -2.0, "tts_start": -1.0},
         [("speaking", -9, 0), ("answering", -2, -1)]),
    ],
)  # fmt: skip
def test_what_did_not_happen_has_no_bar(
    name: str, stamps: dict[str, float], expected: list[tuple[str, float, float]]
) -> None:
    shown = [span for span in labels(stamps) if span != ("answering", 0, 0)]
    assert shown == [span for span in expected if span != ("answering", 0, 0)]


def test_a_turn_of_the_hub_is_drawn_from_its_own_stamps() -> None:
    stamps = {"speech_start": 100.0, "speech_end": 900.0, "endpoint": 1100.0, "transcript": 1150.0, "reply": 1160.0}
    spans = turn_spans({**stamps, "first_voice": 1200.0, "played": 2500.0}, ENGLISH)
    assert [(span.label, span.ms) for span in spans] == [
        ("speech", 800),
        ("silence", 200),
        ("recognition", 50),
        ("answer", 10),
        ("voice", 40),
        ("playing", 1300),
    ]
