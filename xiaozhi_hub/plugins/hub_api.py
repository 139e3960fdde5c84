"""What integrations are given of the running hub."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.flow import TurnRecord
from xiaozhi_hub.core.forgetting import Forgetting
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.engines.brains import Brains
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.entities.registry import EntityRegistry
from xiaozhi_hub.models.shelf import ModelShelf
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.protocol.transport import Transports
from xiaozhi_hub.store.schedule import Schedule
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


__all__ = ["Announcer", "HubApi"]
