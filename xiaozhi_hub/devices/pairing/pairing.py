"""Who may come in: approval by a person, a door that stands open for a while, and a token for each device.

A MAC address is a name that everybody in the network can read. What counts is the token that a device was given; a new one
is given only to whoever also knows the Client-Id that was approved.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import replace

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.events import DeviceForgotten, DeviceRevoked
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.pairing.admission import Admission, PairingError, Refused, fingerprint
from xiaozhi_hub.devices.pairing.door import LONGEST_WINDOW_MINUTES, Door, Opening
from xiaozhi_hub.devices.pairing.invitation import is_client, join_token, new_client_id
from xiaozhi_hub.devices.pairing.memory import PairingMemory
from xiaozhi_hub.devices.pairing.tickets import Tickets
from xiaozhi_hub.devices.pairing.tokens import TokenRing
from xiaozhi_hub.devices.pairing.waiting import Tries, Waiting, WaitingRoom
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.store.grants import Grant, Grants, GrantState, PairingState

log = logging.getLogger(__name__)

MOST_DEVICES = 4096
"""That are remembered as let in; beyond them, those that came through an open door and never connected make room."""
LOAD_SECONDS = 0.5
"""How long a check-in waits for a database that is still being opened; a device waits for its answer."""
DOOR_SECONDS = 5.0
"""How long a connection waits for it."""
SAVE_SECONDS = 0.4
WATCH_SECONDS = 30.0


class Pairing:
    """The one place where it is decided who comes in. `load` gives it its memory; until then nobody is let in.

    With *tickets*, other hubs can check the tokens that this one gives.
    """

    def __init__(
        self,
        mode: str | None,
        bus: Bus,
        *,
        tickets: Tickets | None = None,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._mode = mode
        self._bus = bus
        self._tickets = tickets
        self._now = now
        self._clock = clock
        self._loaded = asyncio.Event()
        self._memory: PairingMemory
        self._door = Door(mode, PairingState("", 0.0, 0.0), clock())
        self._room = WaitingRoom(b"")
        self._grants: dict[str, Grant] = {}
        self._rings: dict[str, TokenRing] = {}
        self._own: dict[str, tuple[str, TokenRing]] = {}
        self._scope = TaskScope("pairing")
        self._tries = Tries()
        self._was_open: Opening | None = None

    async def load(self, store: Grants) -> None:
        """Remember what was decided before."""
        self._memory = PairingMemory(store)
        remembered = await store.load(PairingState(secrets.token_hex(32), self._now()))
        self._door = Door(self._mode, remembered.state, self._clock())
        self._room = WaitingRoom(bytes.fromhex(remembered.state.key))
        self._grants = {grant.device_id: grant for grant in remembered.grants}
        self._rings = {device_id: TokenRing() for device_id in self._grants}
        for device_id, token in remembered.tokens:
            self._rings[device_id].keep(token)
        self._loaded.set()
        self._scope.start(self._watch(), name="door")

    def configure(self, mode: str | None) -> None:
        """The owner wants the door otherwise. Who is in stays in."""
        if mode == self._mode:
            return
        self._mode = self._door.mode = mode
        if self._loaded.is_set() and self._tell_door():
            self._memory.set_state(self._door.state)

    async def close(self) -> None:
        """Finish what is being written."""
        await self._scope.close()
        if self._loaded.is_set():
            await self._memory.close()

    # -- devices --------------------------------------------------------------------------------------------------

    def own_device(self, device_id: str) -> str:
        """Let the hub itself be a device: return the Client-Id that proves it. Nobody else comes in under *device_id*."""
        client_id = secrets.token_urlsafe(16)
        self._own[device_id] = (client_id, TokenRing())
        return client_id

    def is_own(self, device_id: str) -> bool:
        """Is this a name of the hub's own?"""
        return device_id in self._own

    async def check_in(self, check_in: CheckIn) -> Admission:
        """Decide what a device is told that asks where to connect. Cheap: some ask every few seconds."""
        device, now = check_in.device, self._now()
        if not await self._is_loaded(LOAD_SECONDS):
            return Admission()
        if self.is_own(device.id):
            client_id, ring = self._own[device.id]
            known = hmac.compare_digest(client_id.encode(), device.client_id.encode())
            return Admission(ring.issue(now)) if known else Admission(refused=True)
        if is_client(device.id):
            return Admission(refused=True)  # it has its token already, or is none
        if not self.lets_in(device):
            opening = self.opening
            if opening is None or self._is_out(device.id) or not self._adopt(device, opening.kind):
                waiting = self._room.enter(
                    device.id,
                    fingerprint(device),
                    now,
                    address=device.address,
                    board=check_in.board,
                    firmware=check_in.firmware,
                )
                if waiting is None:
                    log.warning("%s at %s waits without a code: too many do", device.id, device.address)
                elif waiting.since == now:
                    log.info("%s waits to be approved; it shows the code", device.id)
                return Admission(waiting=waiting, refused=waiting is None)
        self._room.drop(device.id, fingerprint(device))
        if not device.client_id:
            return Admission("")  # a token for the asking would make its address a proof
        token = self._tickets.issue(device.id, now) if self._tickets else self._rings[device.id].issue(now)
        await asyncio.wait([self._save(device.id)], timeout=SAVE_SECONDS)
        return Admission(token)

    def lets_in(self, device: DeviceIdentity) -> bool:
        """Was this very device, and not only its address, let in?"""
        grant = self._grants.get(device.id)
        if grant is None or grant.state is GrantState.OUT or not device.client_id:
            return False
        return hmac.compare_digest(grant.client, fingerprint(device))

    def is_welcome(self, device: DeviceIdentity) -> bool:
        """May this device talk to the hub? Those that wait, or are shut out, may not."""
        open_to = self.opening is not None and not self._is_out(device.id) and not is_client(device.id)
        return open_to or self.lets_in(device)

    def is_kept(self, device: DeviceIdentity) -> bool:
        """May this device be remembered? While the door is open, those for which there is no room are only welcome."""
        return self.is_welcome(device) and device.id in self._grants

    def is_activated(self, device: DeviceIdentity) -> bool:
        """May the device check in again because something has changed for it?"""
        self._room.seen(device.id, fingerprint(device), self._now())
        return self._loaded.is_set() and device.id not in self._own and self.is_welcome(device)

    async def admit(self, device: DeviceIdentity, token: str) -> None:
        """Let a device connect that shows *token* (empty: none). Raises `Refused`."""
        if not await self._is_loaded(DOOR_SECONDS):
            raise Refused("The hub does not know its devices yet.", code="hub-starting", hint="Try again.")
        now = self._now()
        if self.is_own(device.id):
            if not token or self._own[device.id][1].use(token, now) is None:
                raise Refused("This name is the hub's own.")
            return
        if self._shows_ticket(device.id, token, now):
            return
        if self._is_out(device.id):
            raise Refused("The owner has shut this device out.", code="device-revoked")
        ring = self._rings.get(device.id)
        if token and ring is not None and (news := ring.use(token, now)) is not None:
            if news:
                self._save(device.id)
            return
        opening = self.opening
        if opening is not None and device.id and not is_client(device.id):
            if ring is None or not ring.tokens:  # what it shows comes from another hub
                if self._adopt(device, opening.kind):
                    self._save(device.id)
                return
            if not token and not ring.proven:
                return
        raise Refused(
            "The device shows a wrong token." if token else "The device shows no token.",
            code="token-wrong" if token else "token-missing",
            hint="Restart the device: it gets a new token, or shows a code to approve.",
        )

    def _shows_ticket(self, device_id: str, token: str, now: float) -> bool:
        """Did this hub, or one that shares its key, give the device this token after anybody last decided about it here?"""
        issued_at = self._tickets.issued_at(token, device_id, now) if self._tickets else None
        grant = self._grants.get(device_id)
        if issued_at is None or grant is None:
            return issued_at is not None
        return issued_at > grant.changed_at - (
            1.0 if grant.state is GrantState.IN else 0.0
        )  # tickets tell whole seconds

    def _is_out(self, device_id: str) -> bool:
        grant = self._grants.get(device_id)
        return grant is not None and grant.state is GrantState.OUT

    def _adopt(self, device: DeviceIdentity, by: str) -> bool:
        """Let a device in for good; False when there is no room for more."""
        old = self._grants.get(device.id)
        if old is None and len(self._grants) >= MOST_DEVICES and not self._make_room():
            log.warning("%s is not let in: %d devices are", device.id, len(self._grants))
            return False
        if old is not None and old.client and old.client != fingerprint(device):
            log.warning("%s has another Client-Id than before; it is let in because the door is open", device.id)
        self._grants[device.id] = Grant(device.id, fingerprint(device), GrantState.IN, by, self._now())
        self._rings.setdefault(device.id, TokenRing())
        log.info("%s is let in (%s)", device.id, by)
        return True

    def _make_room(self) -> bool:
        for grant in self._grants.values():
            if grant.granted_by != "owner" and grant.state is GrantState.IN and not self._rings[grant.device_id].proven:
                del self._grants[grant.device_id], self._rings[grant.device_id]
                self._memory.forget(grant.device_id)
                self._bus.tell(DeviceForgotten(grant.device_id))
                return True
        return False

    # -- the owner ------------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str | None:
        """As the owner wrote it: ``open``, ``approve``, or None."""
        return self._mode

    @property
    def opening(self) -> Opening | None:
        """Why everybody is let in; None when nobody is without approval."""
        return self._door.opening(self._now(), self._clock()) if self._loaded.is_set() else None

    @property
    def waiting(self) -> tuple[Waiting, ...]:
        """Devices that wait to be approved, with the codes they show."""
        return self._room.all(self._now())

    @property
    def grants(self) -> tuple[Grant, ...]:
        """All that was decided."""
        return tuple(self._grants.values())

    async def approve(self, code: str) -> Waiting:
        """Let in the device that shows *code*. Ends the first day. Raises `PairingError`."""
        if not self._tries.allows(self._clock()):
            raise PairingError("Too many codes were tried.", code="too-many-tries", hint="Wait a minute.")
        now = self._now()
        waiting = self._room.find("".join(char for char in code if char not in " -"), now)
        if waiting is None:
            raise PairingError(
                "No device waits with this code.",
                code="code-unknown",
                hint="The device shows and speaks its code; restart it if it does not. List: xiaozhi-hub devices",
            )
        if not waiting.client:
            raise PairingError(
                f"{waiting.device_id} cannot be approved: it sends no Client-Id, so nothing tells it from others.",
                code="client-id-missing",
            )
        self._tries = Tries()
        self._room.leave(waiting)
        replaced = waiting.device_id in self._grants
        self._rings[waiting.device_id] = TokenRing()
        if replaced:
            self._bus.tell(DeviceRevoked(waiting.device_id))
        await self._let_in(Grant(waiting.device_id, waiting.client, GrantState.IN, "owner", now))
        return waiting

    async def invite(self) -> tuple[str, str]:
        """Let in a plain client; return its id and its token, of which only a hash is kept. Raises `PairingError`."""
        if not await self._is_loaded(DOOR_SECONDS):
            raise PairingError("The hub does not know its devices yet.", code="hub-starting", hint="Try again.")
        if len(self._grants) >= MOST_DEVICES and not self._make_room():
            raise PairingError(f"{MOST_DEVICES} devices are let in already.", code="too-many-devices")
        client_id, now, ring = new_client_id(), self._now(), TokenRing()
        self._grants[client_id] = Grant(client_id, "", GrantState.IN, "owner", now)
        self._rings[client_id] = ring
        token = join_token(client_id, ring.issue(now))
        await asyncio.wait([self._save(client_id)], timeout=DOOR_SECONDS)
        log.info("%s is invited", client_id)
        return client_id, token

    async def confirm(self, device_id: str) -> None:
        """Let in, or keep, a device that has been in before, with the Client-Id it had. Ends the first day."""
        grant = self._grants.get(device_id)
        if grant is None or not grant.client:
            raise PairingError(
                f"{device_id} has never been let in.",
                code="client-id-missing",
                hint="Restart it, and approve the code that it shows.",
            )
        self._room.drop(device_id, grant.client)
        await self._let_in(replace(grant, state=GrantState.IN, granted_by="owner"))

    async def _let_in(self, grant: Grant) -> None:
        self._grants[grant.device_id] = grant
        self._door.end_first_day(self._now())
        self._memory.set_state(self._door.state)
        self._tell_door()
        await asyncio.wait([self._save(grant.device_id)], timeout=DOOR_SECONDS)
        log.info("%s is approved", grant.device_id)

    async def revoke(self, device_id: str) -> None:
        """Shut a device out: its tokens are worth nothing and its connections end. Only `approve` lets it in again."""
        grant = self._grants.get(device_id) or Grant(device_id, "", GrantState.OUT, "owner", 0.0)
        self._grants[device_id] = replace(grant, state=GrantState.OUT, granted_by="owner", changed_at=self._now())
        self._rings[device_id] = TokenRing()
        self._bus.tell(DeviceRevoked(device_id))
        await asyncio.wait([self._save(device_id)], timeout=DOOR_SECONDS)
        log.info("%s is shut out", device_id)

    def forget(self, device_id: str) -> None:
        """Know nothing of a device any more, as if it had never come: its connections end, and it has to be let in anew."""
        if self._grants.pop(device_id, None) is not None:
            self._rings.pop(device_id, None)
            self._memory.forget(device_id)
        self._bus.tell(DeviceRevoked(device_id))
        log.info("%s is forgotten", device_id)

    def open_window(self, minutes: float) -> Opening | None:
        """Let everybody in for some minutes. Raises `PairingError`."""
        if not 0 < minutes <= LONGEST_WINDOW_MINUTES:
            raise PairingError(f"The door opens for 1 to {LONGEST_WINDOW_MINUTES} minutes.", code="minutes-invalid")
        self._door.open_window(minutes, self._clock())
        self._tell_door()
        return self._was_open

    def close_door(self) -> None:
        """Let nobody in without approval from now on. Raises `PairingError` when the configuration says otherwise."""
        if self._mode == "open":
            raise PairingError(
                "The configuration keeps the door open.",
                code="door-open-by-configuration",
                hint="Set devices: pairing: approve in configuration.yaml.",
            )
        self._door.close(self._now())
        self._memory.set_state(self._door.state)
        self._tell_door()

    # -- memory ---------------------------------------------------------------------------------------------------

    async def _is_loaded(self, seconds: float) -> bool:
        if not self._loaded.is_set():
            try:
                async with asyncio.timeout(seconds):
                    await self._loaded.wait()
            except TimeoutError:
                return False
        return True

    async def _watch(self) -> None:
        """Notice when the door closes by itself, and remember it."""
        self._tell_door()
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._door.note_clock(self._now()) or self._tell_door():
                self._memory.set_state(self._door.state)

    def _tell_door(self) -> bool:
        """Tell the log when the door has been opened or closed; True when it is closed since the last time."""
        was, self._was_open = self._was_open, self.opening
        if self._was_open is None:
            if was is not None:
                log.info("the door is closed: new devices wait to be approved")
                self._door.end_first_day(self._now())
            return was is not None
        if was is None or was.kind != self._was_open.kind:
            until = self._was_open.until
            left = f" for {(until - self._now()) / 60:.0f} minutes" if until is not None else ""
            log.warning("the door is open%s (%s): every device in the network is let in", left, self._was_open.kind)
        return False

    def _save(self, device_id: str) -> asyncio.Task[None]:
        return self._memory.put(self._grants[device_id], self._rings[device_id])


__all__ = ["Pairing"]
