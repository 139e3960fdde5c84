"""The values that cross borders between the stages of a turn. All are frozen; nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.int16]
else:
    # By name only: numpy is a tenth of the time until the hub answers devices, and those who only pass packets on need none.
    Samples = "NDArray[np.int16]"
"""Mono PCM, native byte order."""


@dataclass(frozen=True, slots=True)
class PcmChunk:
    """A piece of mono sound."""

    samples: Samples
    rate: int
    """Samples per second."""

    @property
    def ms(self) -> float:
        return len(self.samples) * 1000 / self.rate


@dataclass(frozen=True, slots=True)
class Packet:
    """One Opus packet (RFC 6716) and how long it sounds."""

    data: bytes
    ms: float
    timestamp: int = 0
    """Milliseconds on the device's clock, 0 where the framing carries none."""


class Completeness(StrEnum):
    """What a half-heard sentence may still become."""

    COMPLETE = "complete"
    """A whole command, and no longer command begins with it."""
    EXTENDABLE = "extendable"
    """A whole command, but a longer one begins with it ("turn on the light" … "in the kitchen")."""
    PARTIAL = "partial"
    """The beginning of a command."""
    UNKNOWN = "unknown"
    """Nothing we know of."""


@dataclass(frozen=True, slots=True)
class Transcript:
    """What the person said. An empty text means: that was speech, but none that the recogniser understood."""

    text: str
    language: str
    confidence: float | None = None
    """0…1, or None when the engine does not say."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the reply as it is written."""

    text: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """A piece of the reply that sounds right when it is spoken by itself."""

    text: str
    """As shown on the device: no emoji, no markup, no newline."""
    language: str


EMOTIONS = (
    "neutral happy laughing funny sad angry crying loving embarrassed surprised shocked thinking winking cool relaxed "
    "delicious kissy confident sleepy silly confused"
).split()
"""The faces that every display generation of the firmware knows (firmware emoji_collection.cc)."""


@dataclass(frozen=True, slots=True)
class Emotion:
    """The face the device shall show, one of `EMOTIONS`."""

    name: str


class Channel(StrEnum):
    """How a turn came in."""

    VOICE = "voice"
    TEXT = "text"
    ANNOUNCEMENT = "announcement"


@dataclass(frozen=True, slots=True)
class TurnInfo:
    """What tools and integrations may know of the turn they serve."""

    id: str
    session_id: str
    device_id: str
    """The asking device; empty for turns of the API and the command line."""
    language: str
    """``en`` or ``zh-Hans``: the language to answer in."""
    area: str | None = None
    """Name of the room the asking device stands in."""
    channel: Channel = Channel.VOICE
    sound: tuple[Packet, ...] = field(default=(), repr=False)
    """The person's own voice, where a tool has asked for it with the slot `SOUND`."""
    assistant: str = ""
    """Id of the assistant that was asked by name; empty for the one of the device."""


SOUND = "sound"
"""The slot that `MissingSlot` names when a tool wants the next utterance as it is, whatever is said. It comes in
`TurnInfo.sound`, and what was understood of it as the argument ``text``."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """What was done in a turn: recorded, shown, and given back to a language model."""

    name: str
    arguments: Mapping[str, Any]
    result: str
    data: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    """The error's code, empty when the call succeeded."""
    ms: float = 0.0


class Outcome(StrEnum):
    """How a turn ended."""

    ANSWERED = "answered"
    NOT_UNDERSTOOD = "not_understood"
    NO_SPEECH = "no_speech"
    INTERRUPTED = "interrupted"
    FAILED = "failed"


STAMPS = (
    "listen",
    "speech_start",
    "speech_end",
    "guess",
    "endpoint",
    "transcript",
    "tool",
    "tool_result",
    "first_token",
    "reply",
    "tts_start",
    "first_audio",
    "first_voice",
    "sent",
    "played",
)
"""Moments of a turn in their usual order, in ms after the turn began: listening began, the person began and stopped
(by the device's own frames), the first speculative recognition was in, the end of the turn was certain, the transcript
was known, the first tool was called and the last one had answered (in no fixed order with the next two), a language model wrote
the first thing, the first words of the reply were known, ``tts start`` and the first packet went out, the first packet that holds
voice went out, the last packet went out, the device has played it."""


class WaitReason(StrEnum):
    """Why a turn ended after so much silence."""

    SETTING = "setting"
    """That is how it is set for words of this kind."""
    HABIT = "habit"
    """What people here mean when they say this."""
    PAUSES = "pauses"
    """How long people here pause in mid-sentence."""
    GOES_ON = "goes_on"
    """People here often go on after they have said this."""
    CHECK = "check"
    """It was shortened so often that it was time to see whether people still never go on."""


@dataclass(frozen=True, slots=True)
class Wait:
    """How much silence ends a turn, and why so much."""

    ms: float
    after: Completeness | None
    """What the words so far may still become; None when nothing was recognised in time."""
    reason: WaitReason = WaitReason.SETTING
    usual_ms: float = 0.0
    """What it would be without habits; 0 where habits play no part."""
    ended: int = 0
    """So often what was said has ended here …"""
    times: int = 0
    """… of so many times that it came to this point, as far as the hub remembers."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A silence after something that was said."""

    text: str
    """What had been recognised until then; empty when that was nothing, or not known in time."""
    language: str
    completeness: Completeness | None
    ms: float
    """How long it lasted, from the last clear speech on, in ms of audio; to the end of the turn where nothing followed."""
    went_on: bool
    """The person has gone on after it."""


@dataclass(frozen=True, slots=True)
class TurnRecord:
    """Everything that is remembered of one turn."""

    id: str
    session_id: str
    device_id: str
    started_at: float
    """Seconds since the epoch."""
    channel: Channel
    mode: str
    """Listening mode of the device: ``auto``, ``manual``, ``realtime``, or empty for text."""
    language: str
    heard: str
    """What the hub understood."""
    said: str
    """What the person *heard*: the sentences that were played at least in part."""
    outcome: Outcome
    emotion: str = "neutral"
    confidence: float | None = None
    error: str = ""
    stamps: Mapping[str, float] = field(default_factory=dict)
    tool_calls: tuple[ToolCall, ...] = ()
    audio_in: tuple[Packet, ...] = ()
    """The device's packets as they came; 16 kHz."""
    audio_out: tuple[Packet, ...] = ()
    """The packets that were sent; 24 kHz."""
    assistant: str = "default"
    """The id of the assistant that was asked."""
    wait: Wait | None = None
    """How much silence ended it; None where something else did."""
    pauses: tuple[Pause, ...] = ()
    """The silences in what was said, the last one included. Not remembered."""
    tokens: tuple[int, int] | None = None
    """What language models have read and written for it, where somebody counted. Not remembered."""
