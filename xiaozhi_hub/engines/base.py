"""The contracts of engines.

An engine is shared by all devices; what belongs to one turn is an object that the engine hands out (`Vad.open`,
`Asr.open`). All methods that do work are coroutines or async generators and never block the event loop: engines compute
in a `xiaozhi_hub.core.workers.Worker` or `ProcessWorker`. Cancelling the awaiting task stops the work as soon as
possible. A failure that ends the turn is a `StageError`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

from xiaozhi_hub.core.flow import Completeness, PcmChunk, TextDelta, Transcript
from xiaozhi_hub.engines.health import Health


class Role(StrEnum):
    """The places in a turn that an engine can take."""

    VAD = "vad"
    WAKE = "wake"
    ASR = "asr"
    LLM = "llm"
    TTS = "tts"
    VISION = "vision"
    MEMORY = "memory"


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine says of itself, so that pages, forms and fallbacks need no special cases."""

    id: str
    """Unique within its role, as written in the configuration: ``silero``, ``phrases``."""
    role: Role
    name: str
    """For people: ``Silero VAD 6``."""
    languages: tuple[str, ...] = ()
    """Empty: the engine does not care."""
    streams_input: bool = False
    """It works while the person still speaks."""
    streams_output: bool = False
    """Its first result is usable before the last one is known. A voice that does not stream has work done ahead for it: a long
    answer begins with its first clause, and usual phrases are rendered while nobody speaks."""
    offline: bool = True
    licence: str = ""
    detail: str = ""
    """The model or voice in use."""
    rank: int = 0
    """Where the configuration names no engine, those of higher rank are tried first."""
    closed: bool = False
    """A recogniser that knows the hub's own sentences only: what it does not understand may be put to the next one."""
    acts: bool = False
    """It stands where a language model does, but has tools of its own and carries out what it says: it is believed."""
    remote: bool = False
    """It computes on another machine: while it keeps people waiting, another engine may be asked at the same time."""


class Engine(ABC):
    """Shared by all devices; started and stopped by its integration's entry."""

    info: EngineInfo

    @cached_property
    def health(self) -> Health:
        """How it has been doing. The hub keeps this; engines have no part in it."""
        return Health()


# -- hearing ------------------------------------------------------------------------------------------------------


class VadStream(ABC):
    """Voice activity of one microphone; remembers what it heard so far."""

    @abstractmethod
    async def feed(self, chunk: PcmChunk) -> float:
        """Return the probability (0…1) that the newest part of *chunk* (16 kHz) is speech."""

    @abstractmethod
    def reset(self) -> None:
        """Forget what was heard, before a new turn of the same device."""


class Vad(Engine):
    """Voice activity detection."""

    @abstractmethod
    def open(self) -> VadStream:
        """Return the state for one microphone. Cheap: called once per connection."""


@dataclass(frozen=True, slots=True)
class SentenceGraph:
    """Sentences as an automaton over spoken words: from each state a word leads to at most one other."""

    start: int
    states: int
    arcs: tuple[tuple[int, int, str, float], ...]
    """From, to, word, and how often people who came this far say it (0…1)."""
    ends: tuple[tuple[int, float], ...]
    """States where a sentence may be over, and how often it is."""
    polite: tuple[str, ...] = ()
    """What may be said before or after any sentence without changing it: ``please``."""


class Phrasebook(Protocol):
    """The sentences and names that the hub understands at present in one language: what recognisers may lean on."""

    language: str
    version: str
    """Changes when, and only when, the sentences or names do."""

    def samples(self, count: int, seed: int = 0) -> Iterable[str]:
        """Yield *count* spoken sentences at random: lower-case words, numbers as words, names as people say them."""
        ...

    def graph(self, answering: bool = False) -> SentenceGraph:
        """The sentences to listen for, exactly; those with free text are left out. Takes up to a second at first.

        With *answering*, bare answers to the hub's questions are among them.
        """
        ...

    def names(self) -> Sequence[str]:
        """The names of entities, areas, scenes and assistants as they are written."""
        ...

    def completeness(self, text: str) -> Completeness:
        """Say what *text* may still become. *text* is spoken form, as `samples` yields it, or written form."""
        ...

    def understands(self, text: str) -> bool:
        """Would an intent be found for *text*?"""
        ...

    def written(self, text: str) -> str:
        """Return what was said as one would write it: ``set bed light to fifty percent`` → ``set Bed Light to 50 percent``."""
        ...


@dataclass(frozen=True, slots=True)
class AsrRequest:
    """What a recogniser should know before it hears a turn."""

    languages: tuple[str, ...]
    """What the person may speak, most likely first."""
    device_id: str = ""
    answering: bool = False
    """The hub has asked something: the person may say a bare answer, such as "in the kitchen"."""
    lead_ms: float = 0.0
    """How much of the beginning of the sound is not speech yet: the margin before the first word."""


class AsrStream(ABC):
    """The recognition of one utterance."""

    partial: Transcript | None = None
    """What has been heard so far while the person still speaks, where the engine says; may be wrong."""

    @abstractmethod
    async def feed(self, chunk: PcmChunk) -> None:
        """Take the next piece of the utterance (16 kHz). The caller has trimmed silence to a margin."""

    @abstractmethod
    async def guess(self) -> Transcript:
        """Say what has been heard so far, as if the person had stopped now; feeding may go on afterwards.

        Called speculatively in silence. May be cancelled.
        """

    async def guess_early(self) -> Transcript:
        """As `guess`, but the last word has only just been said: its sound may lack its end."""
        return await self.guess()

    @abstractmethod
    async def finish(self) -> Transcript:
        """Say what was said. After a guess that understood something, nothing but silence has come. After one that understood
        nothing there is more silence than before, and time to try something else."""

    async def aclose(self) -> None:  # noqa: B027 (most streams hold nothing)
        """Let go of everything; safe to call at any time, more than once."""


class Asr(Engine):
    """Speech recognition."""

    @abstractmethod
    def open(self, request: AsrRequest) -> AsrStream:
        """Begin to hear one utterance."""

    async def learn(self, book: Phrasebook) -> None:
        """Take in what the hub understands now. Called at start and after every change of sentences or names."""


class WakeStream(ABC):
    """Wake-word detection on one microphone."""

    @abstractmethod
    async def feed(self, chunk: PcmChunk) -> str | None:
        """Return the wake word that *chunk* (16 kHz) completed, if any."""

    async def aclose(self) -> None:  # noqa: B027 (most streams hold nothing)
        """Let go of everything; safe to call at any time, more than once."""


class Wake(Engine):
    """Wake-word detection on streamed audio."""

    @property
    @abstractmethod
    def words(self) -> tuple[str, ...]:
        """What it listens for, by the names that streams return: ``hey jarvis``."""

    def knows(self, text: str) -> str | None:
        """Which of `words` is meant by *text*, the name that a device gives to a wake word; None when it is none of them."""
        return next((word for word in self.words if _bare(word) == _bare(text)), None)

    @abstractmethod
    def open(self) -> WakeStream:
        """Begin to listen to one microphone; close the stream when done. `StageError` when there are too many."""

    async def likelihood(self, word: str, sound: PcmChunk) -> float | None:
        """How surely (0…1) *word*, one of `words`, is in *sound* (16 kHz), a whole recording. `StageError` when there is no
        room for it now; None from an engine that can only say that it heard a word, and not how surely it did not."""
        return None


def _bare(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


# -- answering ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """The model wants a tool to be called."""

    name: str
    arguments: Mapping[str, Any]


ASIDE = "\n\n(hub: "
"""So begins what the hub adds at the end of a message for the model alone: the time, the room, what it remembers."""


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation with a language model."""

    role: str
    """``system``, ``user``, ``assistant`` or ``tool``."""
    text: str
    """What the model reads: engines pass it on whole."""
    tool_name: str = ""
    """Whose result a ``tool`` message is."""
    calls: tuple[ToolRequest, ...] = ()
    """What an ``assistant`` message asked for; the results follow as ``tool`` messages in the same order."""

    @property
    def words(self) -> str:
        """What the person or the tool said, without what the hub added."""
        return self.text.partition(ASIDE)[0]


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a language model sees it."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    """JSON Schema of type object."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What a language model is asked. The unchanging parts come first so that engines can keep them evaluated."""

    messages: Sequence[Message]
    tools: Sequence[ToolSpec] = ()
    language: str = "en"
    conversation: str = ""
    """Requests with the same value share their beginning: an engine may keep its cache under it. Letters and digits."""
    may_call: bool = True
    """False: the answer must be words. The tools are there all the same, because they are part of the beginning."""


class Llm(Engine):
    """A language model."""

    @abstractmethod
    def chat(self, request: ChatRequest) -> AsyncGenerator[TextDelta | ToolRequest, None]:
        """Yield the reply as it is written, and tool requests; the caller asks again with the tools' results.

        What was yielded, joined, is what belongs into `Message.text` of the history: an engine that keeps what it has
        evaluated knows its own words again only when they come back unchanged.
        """

    @property
    def context_tokens(self) -> int | None:
        """The most tokens that all messages and tools of one request may come to; room for the answer is taken off already.

        The caller trims its history to it, rarely and then by much: every message that is dropped changes the beginning. None
        when the engine does not tell, which it may begin to do later, once its model is loaded.
        """
        return None

    def count_tokens(self, text: str) -> int | None:
        """How many tokens *text* comes to: exact for what the model has read before, else estimated, rather too many. Cheap:
        it does not wait for the model. What surrounds a message in a prompt is not counted. None: unknown."""
        return None


@dataclass(frozen=True, slots=True)
class SpeechRequest:
    """What a voice is asked to say."""

    text: str
    """As it is said when it reaches an engine: numbers, units, dates and addresses are words by then."""
    language: str
    voice: str = ""
    """Empty: the engine's own choice for the language."""
    speed: float = 1.0
    volume: float = 1.0
    """Applied to what the engine yields; an engine need not care."""


class Tts(Engine):
    """Speech synthesis."""

    @abstractmethod
    def speak(self, request: SpeechRequest) -> AsyncGenerator[PcmChunk, None]:
        """Yield the sound of one sentence piece by piece, at any rate that stays the same throughout.

        A voice that the engine does not have is a `StageError` with the code ``voice-unknown``: then others are asked for it,
        and if nobody has it the engine is asked again without.
        """

    def voice_key(self, request: SpeechRequest) -> str:
        """Name the voice that `speak` would use: equal keys and texts sound the same, so they are encoded once."""
        return f"{self.info.id}/{request.voice or request.language}/{request.speed:g}"

    def speaks(self, request: SpeechRequest) -> tuple[str, ...]:
        """The languages that this voice can mix in one sentence; empty for all. Words in others are given to other voices."""
        return self.info.languages


@dataclass(frozen=True, slots=True)
class VisionRequest:
    """A question about a picture."""

    image: bytes
    question: str
    language: str


class Vision(Engine):
    """Answers questions about pictures."""

    @abstractmethod
    def describe(self, request: VisionRequest) -> AsyncGenerator[TextDelta, None]: ...


@dataclass(frozen=True, slots=True)
class Fact:
    """Something remembered, and where it came from. What people said: data, never instructions to a model."""

    text: str
    person: str = ""
    """Whom it is about or who said so; empty for the household."""
    turn_id: str = ""
    """In which turn it was said; that turn may be gone from the history."""
    noted_at: float = 0.0
    """Seconds since the epoch."""
    id: str = ""
    """Given by the memory."""
    device_id: str = ""
    language: str = ""
    noted_by: str = "person"
    """``person``: somebody asked for it; ``model``: a language model thought it worth keeping."""


class Memory(Engine):
    """Remembers facts about the household, for all assistants. What goes wrong is a `HubError`."""

    @abstractmethod
    async def note(self, fact: Fact) -> Fact:
        """Remember *fact*; return it with its id. It outlives a restart from then on. `HubError` with the code
        ``memory-full`` when there is no room."""

    @abstractmethod
    async def recall(self, text: str, limit: int = 5, *, strict: bool = False) -> Sequence[Fact]:
        """Return facts that have to do with *text*, the fitting ones first; none is an answer too.

        With *strict* they speak of all that *text* names. Quick (5 ms): a turn waits for it.
        """

    @abstractmethod
    async def listed(self, limit: int = 100, before: str = "") -> Sequence[Fact]:
        """Return facts, the newest first; *before* is the id of the last one of the page before."""

    @abstractmethod
    async def count(self) -> int:
        """How many facts there are."""

    @abstractmethod
    async def forget(self, ids: Sequence[str]) -> int:
        """Delete facts for good; return how many of them there were."""

    @abstractmethod
    async def clear(self) -> int:
        """Delete everything for good; return how many facts that were."""


__all__ = [
    "ASIDE",
    "Asr",
    "AsrRequest",
    "AsrStream",
    "ChatRequest",
    "Engine",
    "EngineInfo",
    "Fact",
    "Llm",
    "Memory",
    "Message",
    "Phrasebook",
    "Role",
    "SentenceGraph",
    "SpeechRequest",
    "ToolRequest",
    "ToolSpec",
    "Tts",
    "Vad",
    "VadStream",
    "Vision",
    "VisionRequest",
    "Wake",
    "WakeStream",
]
