"""Everything an integration may use. Integrations import this module and nothing else of the hub."""

from __future__ import annotations

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
from xiaozhi_hub.plugins.hub_api import Announcer, HubApi
from xiaozhi_hub.protocol.device_messages import DeviceHello, DeviceMessage, Goodbye, parse_device_message
from xiaozhi_hub.protocol.hub_messages import HubGoodbye, HubHello, HubMessage, TtsStart
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.protocol.transport import Transport, Transports
from xiaozhi_hub.store.schedule import Due, Schedule
from xiaozhi_hub.tools.base import Tool, ToolResult, make_tool, tool
from xiaozhi_hub.tools.registry import ToolRegistry

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
