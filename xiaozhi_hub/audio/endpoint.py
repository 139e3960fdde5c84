"""Decide when a person has begun and when they have finished speaking.

Pure: fed with durations and probabilities, timed by the audio itself and never by a clock. What has been recognised so far
may shorten or lengthen the silence that is waited for: after a whole command little, after an unfinished one more.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from xiaozhi_hub.core.flow import Completeness


class Moment(StrEnum):
    """What the newest piece of audio means."""

    WAITING = "waiting"
    """Nobody has spoken yet."""
    STARTED = "started"
    """The person has just begun."""
    SPEAKING = "speaking"
    FADING = "fading"
    """Still speech, but no clear speech any more: the last sound of a word, or of everything."""
    PAUSING = "pausing"
    """Silence after speech; it may be the end."""
    RESUMED = "resumed"
    """The person has just gone on after a pause."""
    ENDED = "ended"
    """The person has finished."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How much silence ends a turn, in ms, by what the words so far may become. After a whole command it is counted from the
    last clear speech."""

    complete_ms: float = 120
    extendable_ms: float = 300
    unfinished_ms: float = 1000
    """Who stops in the middle of a sentence that the hub knows goes on, after however long a thought."""
    unknown_ms: float = 700
    """When nothing is known of the words: longer than the gaps inside a sentence (95 % are below 376 ms, all of the measured
    ones below 512 ms)."""

    def for_(self, completeness: Completeness | None) -> float:
        match completeness:
            case Completeness.COMPLETE:
                return self.complete_ms
            case Completeness.EXTENDABLE:
                return self.extendable_ms
            case Completeness.PARTIAL:
                return self.unfinished_ms
            case _:
                return self.unknown_ms


BEGIN_MS = 90
"""Speech must last this long to be a beginning: white noise reaches the threshold for single windows only."""
SPEECH = 0.5
"""Probability from which a piece counts as speech when nobody speaks."""
STILL_SPEECH = 0.45
"""Probability from which it counts as speech while somebody speaks: words fade."""
CLEAR = 0.75
"""Probability from which it is speech beyond doubt. Detectors lag: they fall below this within a frame of the last sound, and
below `STILL_SPEECH` only one to three frames later. Who has said a whole command is not made to wait for that."""
MAX_SPEECH_MS = 20_000
"""An utterance ends here at the latest: a television never pauses."""


class Endpoint:
    """The state of one listening turn. Times are ms of audio since it began."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._run_ms = 0.0
        self._run_start_ms = 0.0
        self._completeness: Completeness | None = None
        self._wait_ms: float | None = None
        self.now_ms = 0.0
        self.speech_start_ms: float | None = None
        """When the utterance began, None before it did."""
        self.speech_end_ms = 0.0
        """When speech was last heard."""
        self._clear_end_ms = 0.0
        self.gap_ms = 0.0
        """How long there was no clear speech before the newest one."""
        self.ended = False

    @property
    def speech_ms(self) -> float:
        """How long ago the utterance began; 0 before it did."""
        return self.now_ms - self.speech_start_ms if self.speech_start_ms is not None else 0.0

    @property
    def silence_ms(self) -> float:
        """Silence since the last speech."""
        return self.now_ms - self.speech_end_ms

    @property
    def fading_ms(self) -> float:
        """Time since the last clear speech; at least `silence_ms`."""
        return self.now_ms - self._clear_end_ms

    @property
    def wait_ms(self) -> float:
        """The silence that ends the turn, as far as is known now."""
        return self._patience.for_(self._completeness) if self._wait_ms is None else self._wait_ms

    @property
    def is_silent(self) -> bool:
        """There has been so much silence that the turn is over."""
        whole = self._completeness in (Completeness.COMPLETE, Completeness.EXTENDABLE)
        return (self.fading_ms if whole else self.silence_ms) >= self.wait_ms

    def feed(self, ms: float, probability: float) -> Moment:
        """Take a piece of *ms* of audio that is speech with *probability*."""
        self.now_ms += ms
        if self.speech_start_ms is None:
            return self._wait(ms, probability)
        pausing = self.silence_ms > ms
        if probability >= STILL_SPEECH and (not pausing or probability >= SPEECH):
            self.speech_end_ms = self.now_ms
            clear = probability >= CLEAR or pausing
            if clear:
                self.gap_ms = self.now_ms - ms - self._clear_end_ms
                self._clear_end_ms = self.now_ms
                self._completeness = self._wait_ms = None
            if self.speech_ms >= MAX_SPEECH_MS or self.is_silent:
                self.ended = True
                return Moment.ENDED
            return Moment.RESUMED if pausing else Moment.SPEAKING if clear else Moment.FADING
        return self._pause()

    def hypothesis(self, completeness: Completeness, wait_ms: float | None = None) -> Moment:
        """Take into account what the words up to now may become, and with *wait_ms* that so much silence is enough, whatever is
        usual; forgotten when speech resumes."""
        self._completeness, self._wait_ms = completeness, wait_ms
        return self._pause() if self.speech_start_ms is not None else Moment.WAITING

    def _wait(self, ms: float, probability: float) -> Moment:
        if probability < SPEECH:
            self._run_ms = 0.0
            return Moment.WAITING
        if self._run_ms == 0.0:
            self._run_start_ms = self.now_ms - ms
        self._run_ms += ms
        if self._run_ms < BEGIN_MS:
            return Moment.WAITING
        self.speech_start_ms = self._run_start_ms
        self.speech_end_ms = self._clear_end_ms = self.now_ms
        return Moment.STARTED

    def _pause(self) -> Moment:
        if self.is_silent:
            self.ended = True
            return Moment.ENDED
        return Moment.PAUSING
