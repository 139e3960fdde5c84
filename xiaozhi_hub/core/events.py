"""What happened, for observers. Events never steer a turn."""

from __future__ import annotations

from dataclasses import dataclass

from xiaozhi_hub.core.changes import Change
from xiaozhi_hub.core.flow import TurnRecord


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened."""


@dataclass(frozen=True, slots=True)
class DeviceConnected(Event):
    """A device has said hello."""

    device_id: str
    session_id: str


@dataclass(frozen=True, slots=True)
class DeviceDisconnected(Event):
    """A device's link has ended."""

    device_id: str
    session_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceRevoked(Event):
    """What a device proved itself with is worth nothing any more: its links end."""

    device_id: str


@dataclass(frozen=True, slots=True)
class DeviceForgotten(Event):
    """A device that never proved anything has made room for others: nothing of it need be remembered."""

    device_id: str


@dataclass(frozen=True, slots=True)
class DeviceRenamed(Event):
    """The owner has given a device another name or area."""

    device_id: str
    name: str
    area: str


@dataclass(frozen=True, slots=True)
class StateChanged(Event):
    """An entity has another state."""

    entity_id: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class NamesChanged(Event):
    """Sentences, entities, areas or their names have changed: recognisers learn anew."""


@dataclass(frozen=True, slots=True)
class EntryChanged(Event):
    """An integration's entry has another state."""

    domain: str
    state: str


@dataclass(frozen=True, slots=True)
class ConfigurationChanged(Event):
    """The hub has taken over what the owner has changed in the files, but for what needs a restart."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class TurnFinished(Event):
    """A turn has ended and was handed to the history."""

    record: TurnRecord
