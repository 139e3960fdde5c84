"""Announcements and messages: what people and programs want told, brought to the devices by the best way that each has.

A device with an open link speaks at once, after whoever is talking. One that sleeps on a transport which reaches it makes a sound
and shows the text. For any other it waits, and is spoken after the first answer that its person gets: never before, because then
they would be talked over. Messages wait for that moment everywhere. What nobody came to hear expires.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from xiaozhi_hub.audio.ogg import read_ogg, write_ogg
from xiaozhi_hub.audio.opus import FRAME_MS, decode_all, encode_all, packet_ms
from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.events import TurnFinished
from xiaozhi_hub.core.flow import Channel, Outcome, Packet
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.core.ids import new_id
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.announcements.audience import Audience, Listener
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.devices.sessions.session import Session
from xiaozhi_hub.errors import HubError, StoreError
from xiaozhi_hub.protocol.hub_messages import Alert
from xiaozhi_hub.protocol.transport import Transports
from xiaozhi_hub.store.announcements import Announcement, Announcements, Delivery, Kind, Receipt

log = logging.getLogger(__name__)

LIFETIME = {Kind.ANNOUNCEMENT: 3600.0, Kind.MESSAGE: 7 * 86400.0}
"""Seconds after which it is not worth telling any more, unless somebody says otherwise."""
LONGEST_LIFE = 30 * 86400.0
LONGEST_TEXT = 500
LONGEST_SOUND_MS = 120_000.0
MOST_WAITING = 20
"""For each device. Whoever comes home should not have to listen for an hour."""
MOST_KEPT = 200
"""Waiting altogether: their recordings are in memory."""
PUSH_SECONDS = 5.0
RATE = 16000
"""Of recordings: what devices' microphones send."""


class TooMuch(HubError):
    """More waits than anybody would listen to, or it is too long."""

    code = "announcement-too-much"


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody wants told. A sound goes as it was recorded; the text is then only for displays and lists."""

    text: str = ""
    sound: tuple[Packet, ...] = ()
    kind: Kind = Kind.ANNOUNCEMENT
    language: str = "en"
    from_device: str = ""
    from_session: str = ""
    seconds: float | None = None
    """How long it is worth telling; None for the usual time."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An announcement that is under way: who is being told now, was shown it, or hears it later."""

    id: str
    now: tuple[Listener, ...] = ()
    shown: tuple[Listener, ...] = ()
    later: tuple[Listener, ...] = ()


@dataclass(slots=True)
class _Box:
    """What one device has still to tell."""

    waiting: dict[str, Announcement] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    """Ids of those whose moment has come."""
    task: asyncio.Task[None] | None = None


class Messenger:
    """Decides how each device is told, and does it."""

    def __init__(
        self,
        texts: Texts,
        transports: Transports,
        audience: Audience,
        devices: Callable[[], DeviceRegistry],
        now: Callable[[], float],
    ) -> None:
        self._texts = texts
        self._transports = transports
        self._devices = devices
        self._now = now
        self._scope = TaskScope("announcements")
        self._boxes: dict[str, _Box] = {}
        self._store: Announcements | None = None
        self._stop_watching: Callable[[], None] = lambda: None
        self.audience = audience

    async def open(self, store: Announcements, bus: Bus) -> None:
        """Begin to deliver, with what has waited since the last run."""
        self._store = store
        self._stop_watching = bus.watch(TurnFinished, self._turn_finished)
        try:
            await store.expire(self._now())
            for device_id, item in await store.waiting():
                self._box(device_id).waiting[item.id] = item
        except StoreError as error:
            log.warning("what waits to be announced is not known: %s", error)

    async def close(self) -> None:
        """Stop; what was not heard to its end waits for the next run."""
        self._stop_watching()
        await self._scope.close()

    # -- telling --------------------------------------------------------------------------------------------------

    async def say(self, listeners: Sequence[Listener], said: Said) -> Sent:
        """Tell *listeners*; returns when each of them is being told, was shown it, or is known to hear it later.

        Raises `TooMuch`.
        """
        self._check(listeners, said)
        now = self._now()
        seconds = min(said.seconds if said.seconds is not None else LIFETIME[said.kind], LONGEST_LIFE)
        item = Announcement(
            id=new_id(),
            kind=said.kind,
            text=said.text,
            language=said.language,
            sound=await asyncio.to_thread(_ogg, said.sound) if said.sound else b"",
            from_device=said.from_device,
            from_session=said.from_session,
            created_at=now,
            expires_at=now + seconds,
        )
        await self._with_memory(lambda store: store.add(item, tuple(each.device_id for each in listeners)))
        for each in listeners:
            self._box(each.device_id).waiting[item.id] = item
        ways: dict[str, list[Listener]] = {"now": [], "shown": [], "later": []}
        for each in listeners:
            ways[await self._tell(each.device_id, item)].append(each)
        return Sent(item.id, *(tuple(found) for found in ways.values()))

    def waiting(self, device_id: str) -> tuple[Announcement, ...]:
        """What a device has still to tell, the oldest first."""
        box, now = self._boxes.get(device_id), self._now()
        return tuple(item for item in box.waiting.values() if item.expires_at > now) if box is not None else ()

    def play(self, device_id: str) -> int:
        """Let a device tell all that waits on it once the person has been answered; return how much that is."""
        waiting = self.waiting(device_id)
        if waiting:
            self._box(device_id).due.update(item.id for item in waiting)
        return len(waiting)

    async def listed(self) -> list[tuple[Announcement, tuple[Receipt, ...]]]:
        """The newest announcements, and who has heard them when. Raises `StoreError`."""
        if self._store is None:
            return []
        await self._store.expire(self._now())
        return await self._store.listed()

    def name_of(self, device_id: str, language: str) -> str:
        """How to speak of a device: its name, its room, or not at all."""
        return self.audience.call(device_id, language)

    # -- how ------------------------------------------------------------------------------------------------------

    def _check(self, listeners: Sequence[Listener], said: Said) -> None:
        if len(said.text) > LONGEST_TEXT:
            raise TooMuch(f"A text to announce has at most {LONGEST_TEXT} characters.")
        if sum(packet.ms for packet in said.sound) > LONGEST_SOUND_MS:
            raise TooMuch(f"A recording to announce lasts at most {LONGEST_SOUND_MS / 1000:g} seconds.")
        self._drop_expired()
        kept = {id for box in self._boxes.values() for id in box.waiting}
        if len(kept) >= MOST_KEPT or any(len(self._box(each.device_id).waiting) >= MOST_WAITING for each in listeners):
            raise TooMuch("Too many announcements wait already.", hint="See: xiaozhi-hub say --receipts")

    async def forget(self, what: Forget) -> None:
        """Let go of what waits for devices or was said on them; nobody is told it any more. What is too old expires by itself."""
        if what.before is not None:
            return
        for device_id, box in tuple(self._boxes.items()):
            for item in tuple(box.waiting.values()):
                if what.concerns(device_id) or what.concerns(item.from_device):
                    self._drop(device_id, item.id)
        if self._store is None:
            return
        if what.devices is None:
            await self._store.forget_all()
        else:
            for device_id in what.devices:
                await self._store.forget_device(device_id)

    def _box(self, device_id: str) -> _Box:
        return self._boxes.setdefault(device_id, _Box())

    def _drop_expired(self) -> None:
        now = self._now()
        for device_id, box in tuple(self._boxes.items()):
            for item in tuple(box.waiting.values()):
                if item.expires_at <= now:
                    self._drop(device_id, item.id)

    def _drop(self, device_id: str, id: str) -> None:
        box = self._boxes.get(device_id)
        if box is None:
            return
        box.waiting.pop(id, None)
        box.due.discard(id)
        if not box.waiting and box.task is None:
            del self._boxes[device_id]

    async def _tell(self, device_id: str, item: Announcement) -> str:
        urgent = item.kind is Kind.ANNOUNCEMENT
        if device_id in self._devices().sessions:
            if urgent:
                self._box(device_id).due.add(item.id)
                self._start(device_id)
                return "now"
            return "later"
        if device_id not in self._transports.awake():
            return "later"
        language = self._devices().profile(device_id).language
        text = item.text if urgent and not item.sound else self._texts.text("announce.waits", language)
        status = self._texts.text("announce.title", language)
        try:
            async with asyncio.timeout(PUSH_SECONDS):
                shown = await self._transports.push(device_id, Alert(status, text, "neutral"))
        except TimeoutError:
            shown = False
        if not shown or not urgent or item.sound:  # it was only told that there is something to hear
            return "later"
        await self._done(device_id, item, Delivery.SHOWN)
        return "shown"

    def _turn_finished(self, event: TurnFinished) -> None:
        record = event.record
        box = self._boxes.get(record.device_id)
        session = self._devices().sessions.get(record.device_id)
        if (
            box is None
            or session is None
            or session.link.session_id != record.session_id
            or record.channel is Channel.ANNOUNCEMENT
            or record.outcome is Outcome.INTERRUPTED  # the person wants to say something
            or not session.at_rest
        ):
            return
        # A message that was left on this very device is for those who come after.
        box.due.update(id for id, item in box.waiting.items() if item.from_session != record.session_id)
        self._start(record.device_id)

    def _start(self, device_id: str) -> None:
        box = self._box(device_id)
        if box.task is None and box.due:
            box.task = self._scope.start(self._deliver(device_id, box), name=f"announce-{device_id}")

    async def _deliver(self, device_id: str, box: _Box) -> None:
        """Tell what is due, one after the other, as long as the device listens."""
        try:
            while (session := self._devices().sessions.get(device_id)) is not None:
                self._drop_expired()
                item = next((item for id, item in box.waiting.items() if id in box.due), None)
                if item is None:
                    return
                outcome = await self._speak(session, item)
                if outcome is None:
                    return
                await self._done(device_id, item, Delivery.FAILED if outcome is Outcome.FAILED else Delivery.HEARD)
        finally:
            box.task = None
            box.due.clear()  # whoever hung up is told after the first answer of their next conversation
            if not box.waiting and self._boxes.get(device_id) is box:
                del self._boxes[device_id]

    async def _speak(self, session: Session, item: Announcement) -> Outcome | None:
        if item.kind is Kind.ANNOUNCEMENT and not item.sound:
            return await session.announce(item.text, item.language, 1)
        language = self._devices().profile(session.device_id).language
        name = self.name_of(item.from_device, language)
        key = "announce.from" if item.kind is Kind.ANNOUNCEMENT else "announce.message_from"
        intro = self._texts.text(key if name else f"{key}_nobody", language, name=name)
        if item.sound:
            return await session.announce(intro, language, 1, await asyncio.to_thread(_packets, item.sound))
        if language == item.language:
            return await session.announce(f"{intro} {item.text}", language, 1)
        return await session.announce(item.text, item.language, 1)

    async def _done(self, device_id: str, item: Announcement, state: Delivery) -> None:
        self._drop(device_id, item.id)
        await self._with_memory(lambda store: store.note(item.id, device_id, state, self._now()))

    async def _with_memory(self, work: Callable[[Announcements], Awaitable[None]]) -> None:
        if self._store is None:
            return
        try:
            await work(self._store)
        except StoreError as error:  # it is told all the same, unless the hub is restarted
            log.warning("an announcement could not be written down: %s", error)


def _ogg(sound: Sequence[Packet]) -> bytes:
    """Recorded packets go to other devices as they are: Opus decodes at any rate. Only what is longer than the packets that
    the hub has announced would overflow the device's buffer, and is cut anew. Blocking."""
    if any(packet_ms(packet.data) > FRAME_MS for packet in sound):
        sound = encode_all(decode_all([packet.data for packet in sound], RATE))
    return write_ogg(sound, RATE)


def _packets(ogg: bytes) -> tuple[Packet, ...]:
    return tuple(Packet(data, packet_ms(data)) for data in read_ogg(ogg))


__all__ = ["LONGEST_LIFE", "LONGEST_TEXT", "Messenger", "Said", "Sent", "TooMuch"]
