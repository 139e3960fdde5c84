"""What the hub says of itself: the facts that the home page shows and that health checks ask for."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xiaozhi_hub import __version__
from xiaozhi_hub.archive import Archive
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.devices.pairing.pairing import Pairing
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.engines.base import EngineInfo
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.front import Front
from xiaozhi_hub.plugins.entries import Entry, EntryState
from xiaozhi_hub.problems import Problems
from xiaozhi_hub.web.pages.status import (
    DeviceStatus,
    DoorStatus,
    EngineStatus,
    EntryStatus,
    HubStatus,
    PartStatus,
    TurnStatus,
    WaitingStatus,
)

LOW_DISK_BYTES = 100 * 2**20
TURNS_SHOWN = 10


@dataclass(frozen=True, slots=True)
class OverviewParts:
    """What is looked at."""

    config: Callable[[], Config]
    """What is in force."""
    started_at: float
    front: Front
    archive: Archive
    engines: EngineRegistry
    pairing: Pairing
    problems: Problems
    devices: Callable[[], DeviceRegistry]
    entries: Callable[[], Sequence[Entry]]
    is_ready: Callable[[], bool]


class Overview:
    """To be asked once everything but the engines is there."""

    def __init__(self, hub: OverviewParts) -> None:
        self._hub = hub

    async def status(self) -> HubStatus:
        """What the home page shows."""
        hub, config, front, devices = self._hub, self._hub.config(), self._hub.front, self._hub.devices()
        connected, written = devices.sessions, config.devices
        try:
            known = {device.id: device for device in await hub.archive.known_devices.all()}
            turns = await hub.archive.history.turns(TURNS_SHOWN)
        except StoreError:
            known, turns = {}, []

        def name_of(device_id: str) -> str:
            device, met = written.get(device_id), known.get(device_id)
            name = device.name if device is not None and device.name != device_id else ""
            return name or (met.name if met is not None else "") or device_id

        opening = hub.pairing.opening

        return HubStatus(
            version=__version__,
            name=config.hub.name,
            host_name=front.hosts[0],
            addresses=front.addresses,
            ota_urls=tuple(f"http://{host}:{front.port}/xiaozhi/ota/" for host in front.hosts),
            starting=not hub.is_ready(),
            engines=tuple(EngineStatus(e.role.value, e.name, e.detail, e.languages) for e in hub.engines.all()),
            entries=tuple(
                EntryStatus(e.domain, e.name or e.domain, e.state.value, e.reason, e.hint) for e in hub.entries()
            ),
            devices=tuple(
                DeviceStatus(
                    device_id,
                    name_of(device_id),
                    device_id in connected,
                    devices.profile(device_id).area or "",
                    known[device_id].board if device_id in known else "",
                    known[device_id].firmware if device_id in known else "",
                )
                for device_id in sorted({*known, *connected, *written})
            ),
            waiting=tuple(
                WaitingStatus(w.device_id, w.code, w.board, w.firmware, w.address) for w in hub.pairing.waiting
            ),
            door=DoorStatus(opening.kind, opening.until) if opening is not None else DoorStatus(),
            turns=tuple(
                TurnStatus(t.id, name_of(t.device_id), t.started_at, t.heard, t.said, t.outcome.value, t.stamps, t.wait)
                for t in turns
            ),
            problems=(
                *(f"{problem.message} {problem.hint}".strip() for problem in hub.problems.values()),
                *(
                    f"{engine.name} ({engine.role.value}) fails, others are asked first: {reason}"
                    for engine, reason in hub.engines.left_out()
                ),
            ),
        )

    def parts(self) -> tuple[PartStatus, ...]:
        """How each part of the hub is, for `GET /health` and `GET /health/detailed`."""
        hub = self._hub
        problems, discovery = hub.problems, hub.front.discovery
        store = next((problems[code] for code in ("store", "history", "retention") if code in problems), None)
        roles = {engine.role.value for engine in hub.engines.all()}
        missing = [role for role in ("vad", "asr", "tts") if role not in roles]
        failed = [e for e in hub.entries() if e.state in (EntryState.FAILED, EntryState.RETRYING)]
        free = _free_bytes(hub.config().data_dir)
        left_out = {(engine.role, engine.id): reason for engine, reason in hub.engines.left_out()}

        def failing(engine: EngineInfo) -> str:
            reason = left_out.get((engine.role, engine.id))
            return f" (fails: {reason})" if reason is not None else ""

        opening, waiting = hub.pairing.opening, len(hub.pairing.waiting)
        check = hub.devices().wake_check
        return (
            PartStatus("database", store is None, store.message if store is not None else ""),
            PartStatus("voice_loop", not missing, f"missing: {', '.join(missing)}" if missing else ""),
            PartStatus(
                "models", "asr" in roles, ", ".join(f"{e.role.value} {e.id}{failing(e)}" for e in hub.engines.all())
            ),
            PartStatus("plugins", not failed, "; ".join(f"{e.domain}: {e.reason}" for e in failed)),
            PartStatus(
                "pairing",
                "pairing" not in problems,
                f"door {f'open ({opening.kind})' if opening is not None else 'closed'}, {waiting} waiting",
            ),
            PartStatus(
                "disk", free is None or free > LOW_DISK_BYTES, f"{free // 2**20} MB free" if free is not None else ""
            ),
            PartStatus(
                "clock",
                hub.started_at > 1_700_000_000,
                "" if hub.started_at > 1_700_000_000 else "the clock is not set",
            ),
            PartStatus(
                "discovery",
                discovery is None or discovery.problem is None,
                (discovery.problem or "") if discovery is not None else "switched off",
            ),
            *(
                (PartStatus("wake_words", True, f"{check.refused} of {check.checked} were false"),)
                if check.enabled
                else ()
            ),
        )

    def health(self) -> tuple[PartStatus, ...] | None:
        """As `parts`; None until the engines are there."""
        return self.parts() if self._hub.is_ready() else None


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


__all__ = ["Overview", "OverviewParts"]
