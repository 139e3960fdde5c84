"""What the pages tell of the hub: facts, gathered by the composition root."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xiaozhi_hub.core.flow import Wait


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One engine that is ready."""

    role: str
    """``vad``, ``asr``, ``llm``, ``tts`` …"""
    name: str
    detail: str = ""
    """The model or voice in use."""
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EntryStatus:
    """One configured use of an integration."""

    domain: str
    name: str
    state: str
    """A value of `EntryState`."""
    reason: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class DeviceStatus:
    """A device that is known."""

    id: str
    name: str
    connected: bool
    area: str = ""
    board: str = ""
    firmware: str = ""


@dataclass(frozen=True, slots=True)
class WaitingStatus:
    """A device that waits to be approved."""

    id: str
    code: str
    """Which it shows; for the owner only."""
    board: str = ""
    firmware: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class DoorStatus:
    """Whether devices come in without approval."""

    open: str = ""
    """Why it is open: ``first-day``, ``window``, ``open``; empty when it is closed."""
    until: float | None = None
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class TurnStatus:
    """One question and its answer."""

    id: str
    device: str
    """The device's name."""
    started_at: float
    """Seconds since the epoch."""
    heard: str
    said: str
    outcome: str
    """A value of `Outcome`."""
    stamps: Mapping[str, float] = field(default_factory=dict)
    """See `STAMPS`."""
    wait: Wait | None = None
    """How much silence ended it, and why."""


@dataclass(frozen=True, slots=True)
class HubStatus:
    """Everything the home page shows."""

    version: str
    name: str
    host_name: str
    addresses: tuple[str, ...]
    ota_urls: tuple[str, ...]
    """What may be typed into a device: the form with the name first, then one for each address."""
    starting: bool = False
    """Engines are still being loaded."""
    engines: tuple[EngineStatus, ...] = ()
    entries: tuple[EntryStatus, ...] = ()
    devices: tuple[DeviceStatus, ...] = ()
    waiting: tuple[WaitingStatus, ...] = ()
    door: DoorStatus = DoorStatus()
    turns: tuple[TurnStatus, ...] = ()
    """The newest first."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one part of the hub is."""

    name: str
    healthy: bool
    detail: str = ""
