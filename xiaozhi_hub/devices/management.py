"""What the owner can do with devices: the one object behind the command line, the API and pages."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import DeviceConfig
from xiaozhi_hub.core.events import DeviceDisconnected, DeviceRenamed
from xiaozhi_hub.core.forgetting import Forget, Forgetting
from xiaozhi_hub.devices.pairing.admission import PairingError
from xiaozhi_hub.devices.pairing.door import Opening
from xiaozhi_hub.devices.pairing.pairing import Pairing
from xiaozhi_hub.devices.pairing.waiting import Waiting
from xiaozhi_hub.protocol.arrivals import SoundFigures
from xiaozhi_hub.store.devices import Device, Devices
from xiaozhi_hub.store.grants import GrantState

log = logging.getLogger(__name__)

LONGEST_NAME = 64
HANG_UP_SECONDS = 5.0
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True, slots=True)
class ManagedDevice:
    """A device as its owner sees it."""

    id: str
    name: str
    """What the owner calls it, else its id."""
    area: str
    board: str
    firmware: str
    address: str
    state: str
    """``in``, ``out``, or ``unknown`` when nothing was decided yet."""
    granted_by: str
    """Who or what let it in: ``owner``, ``first-day``, ``window``, ``open``; empty when nobody did."""
    connected: bool
    last_seen_at: float | None
    sound: SoundFigures | None = None
    """How its sound travels, for connected devices whose timestamps tell."""


@dataclass(frozen=True, slots=True)
class Invited:
    """A plain client that may come in from now on."""

    device: ManagedDevice
    token: str = field(repr=False)
    """Nobody can be told it a second time."""


@dataclass(frozen=True, slots=True)
class DevicesOverview:
    """Everything about devices and who may come in."""

    mode: str | None
    opening: Opening | None
    waiting: tuple[Waiting, ...]
    """With the codes: show them to the owner only."""
    devices: tuple[ManagedDevice, ...]


class DeviceManagement:
    """Raises `PairingError` for what cannot be done. Whoever calls has made sure that the owner asks."""

    def __init__(
        self,
        pairing: Pairing,
        known: Callable[[], Awaitable[Devices]],
        written: Mapping[str, DeviceConfig],
        connected: Callable[[], Collection[str]],
        bus: Bus,
        forgetting: Forgetting,
        sound: Callable[[str], SoundFigures | None] = lambda _: None,
    ) -> None:
        self._pairing = pairing
        self._sound = sound
        self._known = known
        self._written = written
        self._connected = connected
        self._bus = bus
        self._forgetting = forgetting

    def configure(self, written: Mapping[str, DeviceConfig]) -> None:
        """The owner has written something else."""
        self._written = written

    async def overview(self) -> DevicesOverview:
        known = {device.id: device for device in await (await self._known()).all()}
        grants = {grant.device_id: grant for grant in self._pairing.grants}
        connected = self._connected()

        def managed(id: str) -> ManagedDevice:
            device, written, grant = known.get(id), self._written.get(id), grants.get(id)
            name = (written.name if written is not None and written.name != id else "") or _of(device, "name")
            return ManagedDevice(
                id,
                name=name or id,
                area=(written.area if written is not None else None) or _of(device, "area"),
                board=_of(device, "board"),
                firmware=_of(device, "firmware"),
                address=_of(device, "address"),
                state=grant.state.value if grant is not None else "unknown",
                granted_by=grant.granted_by if grant is not None and grant.state is GrantState.IN else "",
                connected=id in connected,
                last_seen_at=device.last_seen_at if device is not None else None,
                sound=self._sound(id),
            )

        ids = sorted({*known, *grants, *self._written, *(id for id in connected if not self._pairing.is_own(id))})
        return DevicesOverview(
            self._pairing.mode, self._pairing.opening, self._pairing.waiting, tuple(managed(id) for id in ids)
        )

    async def approve(self, code: str) -> ManagedDevice:
        """Let in the device that shows *code*."""
        waiting = await self._pairing.approve(code)
        found = await self._find(waiting.device_id)
        return replace(found, board=waiting.board, firmware=waiting.firmware, address=waiting.address)

    async def confirm(self, device: str) -> ManagedDevice:
        """Keep a device that came through an open door, or take back one that was shut out; given by id or name."""
        found = await self._find(device)
        await self._pairing.confirm(found.id)
        return await self._find(found.id)

    async def revoke(self, device: str) -> ManagedDevice:
        """Shut out a device, given by id or name. An address need not be known: the device may talk with another hub."""
        mac = device.strip().lower()
        id = mac if _MAC.fullmatch(mac) else (await self._find(device)).id
        await self._pairing.revoke(id)
        return await self._find(id)

    async def invite(self, name: str, area: str = "") -> Invited:
        """Let in a phone or a page under *name*; it connects with the token that is returned."""
        name, area = _checked(name), _checked_area(area)
        if any(device.name.lower() == name.lower() for device in (await self.overview()).devices):
            raise PairingError(f"There is a device {name} already.", code="name-taken", hint="Choose another name.")
        known = await self._known()
        client_id, token = await self._pairing.invite()
        await known.seen(client_id, time.time())
        await known.rename(client_id, name, area)
        self._bus.tell(DeviceRenamed(client_id, name, area))
        return Invited(await self._find(client_id), token)

    async def forget(self, device: str) -> tuple[ManagedDevice, tuple[str, ...]]:
        """Forget a device, given by id or name, and everything that was said on it and to it: it is as if it had never come. Return
        what was known of it, and who could not delete everything yet."""
        found = await self._find(device)
        self._pairing.forget(found.id)
        await self._hung_up(found.id)
        return found, await self._forgetting.forget(Forget(frozenset((found.id,)), gone=True))

    async def forget_said(self, device: str | None) -> tuple[str, ...]:
        """Forget what was said on a device, given by id or name, or on all; return who could not delete everything yet."""
        devices = frozenset(((await self._find(device)).id,)) if device is not None else None
        return await self._forgetting.forget(Forget(devices))

    async def _hung_up(self, device_id: str) -> None:
        """Wait until a device that is shut out talks no more: its last turn would be remembered."""
        ended = asyncio.Event()
        stop = self._bus.watch(DeviceDisconnected, lambda event: ended.set())
        try:
            async with asyncio.timeout(HANG_UP_SECONDS):
                while device_id in self._connected():
                    ended.clear()
                    await ended.wait()
        except TimeoutError:
            log.warning("%s does not let go of its link", device_id)
        finally:
            stop()

    async def rename(self, device: str, name: str, area: str | None = None) -> ManagedDevice:
        """Call a device *name* and, unless None, say in which *area* it stands."""
        name, area = _checked(name), _checked_area(area) if area is not None else None
        found = await self._find(device)
        written = self._written.get(found.id)
        if written is not None and (written.name != found.id or (area is not None and written.area)):
            raise PairingError(
                f"The name and area of {found.id} stand in the configuration.",
                code="name-in-configuration",
                hint="Change them there: configuration.yaml, devices.",
            )
        known = await self._known()
        if not await known.rename(found.id, name, area):
            raise PairingError(f"{found.id} has never checked in.", code="device-unknown")
        device_now = await known.get(found.id)
        assert device_now is not None
        self._bus.tell(DeviceRenamed(found.id, device_now.name, device_now.area))
        return await self._find(found.id)

    def open_window(self, minutes: float) -> Opening | None:
        """Let every device in for some minutes."""
        return self._pairing.open_window(minutes)

    def close_door(self) -> None:
        """Let nobody in without approval."""
        self._pairing.close_door()

    async def find(self, device: str) -> ManagedDevice:
        """The device with this id or name."""
        return await self._find(device)

    async def _find(self, text: str) -> ManagedDevice:
        wanted = text.strip().lower()
        devices = (await self.overview()).devices
        found = [device for device in devices if device.id == wanted] or [
            device for device in devices if device.name.lower() == wanted
        ]
        if len(found) != 1:
            raise PairingError(
                f"{len(found)} devices are called {text}." if found else f"There is no device {text}.",
                code="device-ambiguous" if found else "device-unknown",
                hint="Give its id. List: xiaozhi-hub devices",
            )
        return found[0]


def _checked(name: str) -> str:
    name = name.strip()
    if not name or not name.isprintable() or len(name) > LONGEST_NAME:
        raise PairingError(f"A name has 1 to {LONGEST_NAME} printable characters.", code="name-invalid")
    return name


def _checked_area(area: str) -> str:
    area = area.strip()
    if not area.isprintable() or len(area) > LONGEST_NAME:
        raise PairingError(f"An area has at most {LONGEST_NAME} printable characters.", code="area-invalid")
    return area


def _of(device: Device | None, name: str) -> str:
    return str(getattr(device, name)) if device is not None else ""


__all__ = ["DeviceManagement", "DevicesOverview", "Invited", "ManagedDevice"]
