"""Everything an integration may use. Integrations import this module and nothing else of the hub."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xiaozhi_hub.audio.opus import packet_ms
from xiaozhi_hub.audio.pcm import Resampler, resample
from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import (
    ConfigurationChanged,
    DeviceConnected,
    DeviceDisconnected,
    EntryChanged,
    Event,
    NamesChanged,
    StateChanged,
    TurnFinished,
)
from xiaozhi_hub.core.flow import (
    Channel,
    Completeness,
    Emotion,
    Outcome,
    Packet,
    PcmChunk,
    Samples,
    Sentence,
    TextDelta,
    ToolCall,
    Transcript,
    TurnInfo,
    TurnRecord,
)
from xiaozhi_hub.core.forgetting import Forget, Forgetting
from xiaozhi_hub.core.i18n import LANGUAGES, Texts, language_of
from xiaozhi_hub.core.rate import RateLimit, RateLimits
from xiaozhi_hub.core.tasks import TaskScope, cancel_and_wait
from xiaozhi_hub.core.workers import ProcessWorker, Worker, WorkerBusy, WorkerLost
from xiaozhi_hub.engines.asr import Asr, AsrRequest, AsrStream
from xiaozhi_hub.engines.base import Engine, EngineInfo, Role
from xiaozhi_hub.engines.brains import Brain, Brains
from xiaozhi_hub.engines.conversations import owner_of
from xiaozhi_hub.engines.llm import NOT_RECOGNISED, ChatRequest, Llm, Message, ToolRequest, ToolSpec
from xiaozhi_hub.engines.memory import Fact, Memory
from xiaozhi_hub.engines.phrasebook import Phrasebook, SentenceGraph
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.engines.tts import SpeechRequest, Tts
from xiaozhi_hub.engines.vad import Vad, VadStream
from xiaozhi_hub.engines.vision import Vision, VisionRequest
from xiaozhi_hub.engines.wake import Wake, WakeStream
from xiaozhi_hub.entities.base import Domain, Entity, Service, State
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.errors import (
    HubError,
    MissingSlot,
    NeedsAttention,
    NotInstalled,
    NotReady,
    ProtocolError,
    StageError,
    ToolError,
)
from xiaozhi_hub.models.shelf import InstalledModel, ModelShelf
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.plugins.hookspecs import hookimpl
from xiaozhi_hub.protocol.device_messages import DeviceHello, DeviceMessage, Goodbye, parse_device_message
from xiaozhi_hub.protocol.hub_messages import HubGoodbye, HubHello, HubMessage, TtsStart
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.protocol.transport import Transport, Transports
from xiaozhi_hub.store.schedule import Due, Schedule
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool, tool
from xiaozhi_hub.tools.registry import ToolRegistry


class Announcer(Protocol):
    """Reaches people through their devices without having been asked."""

    def reachable(self) -> tuple[str, ...]:
        """Ids of the devices that could hear something now, those in use last first."""
        ...

    async def ring(self, device_id: str, text: str, language: str, *, rounds: int = 3) -> bool:
        """Play a chime and say *text*, up to *rounds* times, on one device.

        Returns True when the device has heard it (or its person stopped it), False when it could not be reached. An answer
        that is being spoken is not cut off: ringing waits for it. A device that sleeps cannot speak: where its transport
        reaches it, it sounds an alert and shows *text*.
        """
        ...

    def keep_line(self, device_id: str, key: str, until: float | None) -> None:
        """Keep the device's link open until *until* (seconds since the epoch) although nobody speaks, because something
        is due on it; None withdraws what was asked for under *key*. A device that hung up is not called back: it cannot be."""
        ...


@dataclass(frozen=True, slots=True)
class HubApi:
    """The parts of the hub that integrations work with."""

    current_config: Callable[[], Config]
    data_dir: Path
    models: ModelShelf
    """The models on this machine."""
    texts: Texts
    bus: Bus
    entities: EntityRegistry
    tools: ToolRegistry
    schedule: Schedule
    announcer: Announcer
    now: Callable[[], float]
    """Seconds since the epoch."""
    transports: Transports
    """Ways to devices beside the WebSocket, and what idle devices say over them."""
    serve_link: Callable[[Link], Awaitable[None]]
    """Holds the conversation of a link whose hellos have been exchanged; returns when it has ended."""
    admits: Callable[[DeviceIdentity], bool]
    """May this device, which has proven to a transport who it is, talk to the hub? The answer may change at any time."""
    engines: EngineRegistry
    """The engines that are ready now, of all integrations. One whose own come and go registers them here, under its domain."""
    ask: Callable[[str, str, str], AsyncGenerator[str | TurnRecord, None]]
    """``ask(text, language, device_id)`` answers a written question as a device would be answered: yields the sentences and,
    last, the record of the turn. Nobody else is asked whether they may: whoever calls this commands the house."""
    forgetting: Forgetting = field(default_factory=lambda: Forgetting(TaskScope("nobody")))
    """Whoever keeps what people said, showed or heard adds itself here, and forgets it when it is asked to."""
    brains: Brains = field(default_factory=Brains)
    """Where an integration gives devices to somebody else, who hears, answers and speaks for them."""

    @property
    def config(self) -> Config:
        """What the owner has set. It is another one after the files have changed: look at it when you need it. An entry whose own
        options change starts anew."""
        return self.current_config()


__all__ = [
    "LANGUAGES",
    "NOT_RECOGNISED",
    "Announcer",
    "Asr",
    "AsrRequest",
    "AsrStream",
    "Brain",
    "Brains",
    "Bus",
    "Channel",
    "ChatRequest",
    "CheckIn",
    "Completeness",
    "Config",
    "ConfigurationChanged",
    "DeviceConnected",
    "DeviceDisconnected",
    "DeviceHello",
    "DeviceIdentity",
    "DeviceMessage",
    "Domain",
    "Due",
    "Emotion",
    "Engine",
    "EngineInfo",
    "EngineRegistry",
    "Entity",
    "EntityRegistry",
    "Entry",
    "EntryChanged",
    "EntryState",
    "Event",
    "Fact",
    "Forget",
    "Forgetting",
    "Goodbye",
    "HubApi",
    "HubError",
    "HubGoodbye",
    "HubHello",
    "HubMessage",
    "InstalledModel",
    "Link",
    "Llm",
    "Memory",
    "Message",
    "MissingSlot",
    "ModelShelf",
    "NamesChanged",
    "NeedsAttention",
    "NotInstalled",
    "NotReady",
    "Outcome",
    "Packet",
    "PcmChunk",
    "Phrasebook",
    "ProcessWorker",
    "ProtocolError",
    "RateLimit",
    "RateLimits",
    "Resampler",
    "Role",
    "Samples",
    "Schedule",
    "Sentence",
    "SentenceGraph",
    "Service",
    "SpeechRequest",
    "StageError",
    "State",
    "StateChanged",
    "TaskScope",
    "TextDelta",
    "Texts",
    "Tool",
    "ToolCall",
    "ToolError",
    "ToolRegistry",
    "ToolRequest",
    "ToolResult",
    "ToolSpec",
    "Transcript",
    "Transport",
    "Transports",
    "Tts",
    "TtsStart",
    "TurnFinished",
    "TurnInfo",
    "TurnRecord",
    "Vad",
    "VadStream",
    "Vision",
    "VisionRequest",
    "Wake",
    "WakeStream",
    "Worker",
    "WorkerBusy",
    "WorkerLost",
    "cancel_and_wait",
    "hookimpl",
    "language_of",
    "make_tool",
    "owner_of",
    "packet_ms",
    "parse_device_message",
    "resample",
    "tool",
]
