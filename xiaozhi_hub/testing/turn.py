"""What a device saw and heard of one question and its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.dialog.speaking.splitter import put_together
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing.playback import Playback


@dataclass(frozen=True, slots=True)
class AlertShown:
    """What stood on the display."""

    status: str
    message: str
    emotion: str


@dataclass(frozen=True, slots=True)
class TurnResult:
    """One question and its answer, as the person at the device saw and heard it."""

    heard: str = ""
    """What the hub understood."""
    sentences: tuple[str, ...] = ()
    emotion: str = ""
    stamps: Mapping[str, float] = field(default_factory=dict)
    """In ms after the end of the last speech sample (of a text: after it was sent; of an unasked answer: after its
    ``tts start``): ``speech_start``, ``speech_sent`` (the packet with the last sample went out), ``stt``,
    ``tts_start``, ``first_frame``, ``first_voice`` (the first sound leaves the speaker), ``tts_stop``, ``played``."""
    underruns: int = 0
    stall_ms: float = 0.0
    overflows: int = 0
    dropped_early: int = 0
    """Packets that came while the device was not speaking."""
    unplayable: int = 0
    """Packets that are not Opus, or longer than announced."""
    lead_ms: float = 0.0
    """The most that was buffered on the device."""
    cut_ms: float = 0.0
    """Sound that was thrown away before it was played."""
    cut_short: bool = False
    """The hub answered before the person had finished."""
    asked: bool = True
    """False: the hub began to speak by itself."""
    packets: tuple[Packet, ...] = ()
    """The sound as it came."""
    rate: int = 24000
    alerts: tuple[AlertShown, ...] = ()

    @property
    def said(self) -> str:
        """All sentences."""
        return put_together(self.sentences)

    def summary(self) -> dict[str, Any]:
        """The facts as JSON holds them."""
        return {
            "heard": self.heard,
            "said": self.said,
            "emotion": self.emotion,
            "stamps": {name: round(ms, 1) for name, ms in self.stamps.items()},
            "underruns": self.underruns,
            "overflows": self.overflows,
        }


class NoAnswer(HubError):
    """The hub did not answer, or not to the end. ``result`` holds what there was of it."""

    code = "device-no-answer"

    def __init__(self, message: str, result: TurnResult) -> None:
        super().__init__(message)
        self.result = result


@dataclass(slots=True)
class TurnLog:
    """A question and its answer while they happen. Times are loop times."""

    asked: bool
    done: asyncio.Future[TurnResult]
    playback: Playback
    zero_at: float | None = None
    """When the last word was spoken, once that is known."""
    spoken: asyncio.Event = field(default_factory=asyncio.Event)
    """The last word has been sent, or nobody takes it any more."""
    stopped: bool = False
    """The hub has said ``tts stop``."""
    heard: str = ""
    sentences: list[str] = field(default_factory=list)
    emotion: str = ""
    stamps: dict[str, float] = field(default_factory=dict)
    packets: list[Packet] = field(default_factory=list)
    alerts: list[AlertShown] = field(default_factory=list)
    dropped_early: int = 0
    unplayable: int = 0
    cut_ms: float = 0.0
    cut_short: bool = False

    def stamp(self, name: str, at: float) -> None:
        """Note when something happened for the first time."""
        self.stamps.setdefault(name, at)

    def answered(self, name: str, at: float) -> None:
        """As `stamp`, for what should not come before the person has finished."""
        self.stamp(name, at)
        if self.asked and not self.spoken.is_set():
            self.cut_short = True

    def result(self, rate: int) -> TurnResult:
        zero = self.zero_at if self.zero_at is not None else min(self.stamps.values(), default=0.0)
        in_order = sorted(self.stamps.items(), key=lambda item: item[1])
        return TurnResult(
            heard=self.heard,
            sentences=tuple(self.sentences),
            emotion=self.emotion,
            stamps={name: round((at - zero) * 1000, 2) for name, at in in_order},
            underruns=self.playback.underruns,
            stall_ms=round(self.playback.stall_ms, 2),
            overflows=self.playback.overflows,
            dropped_early=self.dropped_early,
            unplayable=self.unplayable,
            lead_ms=round(self.playback.lead_ms, 2),
            cut_ms=round(self.cut_ms, 2),
            cut_short=self.cut_short,
            asked=self.asked,
            packets=tuple(self.packets),
            rate=rate,
            alerts=tuple(self.alerts),
        )
