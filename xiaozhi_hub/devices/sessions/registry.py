"""The devices that are connected now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.events import DeviceConnected, DeviceDisconnected
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.i18n import language_of
from xiaozhi_hub.devices.abilities.toolsets import DeviceTools
from xiaozhi_hub.devices.sessions.conversations import Conversations
from xiaozhi_hub.devices.sessions.open_mic import OpenMicSession
from xiaozhi_hub.devices.sessions.session import DeviceProfile, Session
from xiaozhi_hub.devices.waking.arbiter import WakeArbiter
from xiaozhi_hub.devices.waking.check import WakeCheck
from xiaozhi_hub.dialog.agent.keeping import Kept
from xiaozhi_hub.dialog.respond import Conversation
from xiaozhi_hub.dialog.turn_parts import TurnParts
from xiaozhi_hub.protocol.arrivals import SoundFigures
from xiaozhi_hub.protocol.link import Link

log = logging.getLogger(__name__)

TICK_SECONDS = 5.0
QUIET_SECONDS = 5.0
"""Without a word after which a conversation is taken to rest."""


class DeviceRegistry:
    """Serves links, one session for each device: the newest link wins."""

    def __init__(
        self,
        config: Config,
        bus: Bus,
        parts: TurnParts,
        tools: DeviceTools,
        locale_of: Callable[[str], str],
        area_of: Callable[[str], str] = lambda _: "",
    ) -> None:
        self._config = config
        self._bus = bus
        self._parts = parts
        self._tools = tools
        self._locale_of = locale_of
        self._area_of = area_of
        self._sessions: dict[str, Session] = {}
        self._lines: dict[str, dict[str, float]] = {}
        self._arbiter = WakeArbiter()
        self.wake_check = WakeCheck(parts.engines, config.conversation.check_wake_words)
        self._conversations = Conversations()
        self._closing = False

    def configure(self, config: Config) -> None:
        """The owner has set something else. How a conversation ends is up to what held when it began."""
        self._config = config
        self.wake_check.enabled = config.conversation.check_wake_words

    @property
    def sessions(self) -> Mapping[str, Session]:
        """The connected devices by id."""
        return self._sessions

    def sound_figures(self, device_id: str) -> SoundFigures | None:
        """How the sound of a connected device travels; None when its packets do not tell."""
        session = self._sessions.get(device_id)
        path = session.echo_path if session is not None else None
        return path.arrivals.figures() if path is not None else None

    def quiet(self) -> bool:
        """Nobody talks with the hub, nor has for some seconds."""
        now = asyncio.get_running_loop().time()
        return not any(session.busy or now - session.active_at < QUIET_SECONDS for session in self._sessions.values())

    @property
    def conversations(self) -> int:
        """Conversations that could be gone on with, on a link or lately ended."""
        return len(self._conversations)

    def dialogues(self, wall: float) -> list[Kept]:
        """What was talked about with language models, to go on with after a restart; *wall* is the time now."""
        held = self._conversations.all(asyncio.get_running_loop().time())
        return [Kept(device_id, talk.dialogue, wall - ago) for device_id, (talk, ago) in held.items()]

    def resume(self, kept: Iterable[Kept], wall: float) -> None:
        """Take dialogues in again, but those that ended too long ago."""
        now = asyncio.get_running_loop().time()
        for item in sorted(kept, key=lambda item: item.ended_at):
            self._conversations.resume(
                item.device_id, Conversation(dialogue=item.dialogue), now - max(0.0, wall - item.ended_at)
            )
        self._conversations.forget(now)

    async def forget(self, what: Forget) -> None:
        """Forget what was talked about with devices. What is too old to be gone on with goes by itself."""
        if what.before is not None:
            return
        if what.devices is None:
            self._conversations.drop_all()
        else:
            for device_id in what.devices:
                self._conversations.drop(device_id)

    def profile(self, device_id: str) -> DeviceProfile:
        """Language and area of a device: what the owner wrote, then its assistant's, then what it said of itself, then the
        hub's own."""
        written = self._config.devices.get(device_id)
        area = (written.area if written is not None else None) or self._area_of(device_id) or None
        spoken = self._parts.assistants.of(device_id, area).language
        locale = (written.language if written is not None else None) or spoken or self._locale_of(device_id)
        default = language_of(self._config.hub.language)
        return DeviceProfile(language_of(locale, default) if locale else default, area)

    def languages(self, known: Iterable[str]) -> set[str]:
        """Those that people speak with this hub: its own, and those of the devices of the configuration and of *known* ones."""
        devices = {*self._config.devices, *known}
        return {language_of(self._config.hub.language), *(self.profile(device_id).language for device_id in devices)}

    async def serve(self, link: Link) -> None:
        """Serve *link* until it ends."""
        if self._closing:
            await link.close("the hub stops")
            return
        device_id = link.device.id
        loop = asyncio.get_running_loop()
        conversation = self._conversations.open(device_id, loop.time())
        conversation.pending = None  # a question of the last conversation is not open any more
        conversation.over = False
        toolset = self._tools.open(link)
        session = (OpenMicSession if link.waits_for_wake else Session)(
            link,
            self._parts,
            lambda: self.profile(device_id),
            conversation,
            toolset,
            idle_seconds=self._config.conversation.idle_s,
            line_kept=lambda: self._line_kept(device_id),
            farewell=self._config.conversation.farewell,
            woken=self._arbiter.woken,
            check=self.wake_check,
        )
        old = self._sessions.get(device_id)
        self._sessions[device_id] = session
        try:
            if old is not None:
                await old.link.close("superseded by a newer connection of the same device")
            self._bus.tell(DeviceConnected(device_id, link.session_id))
            await session.run()
        finally:
            self._conversations.end(device_id, loop.time())
            self._tools.close(device_id, toolset)
            if self._sessions.get(device_id) is session:
                del self._sessions[device_id]
            self._bus.tell(DeviceDisconnected(device_id, link.session_id, link.close_reason))

    async def close(self) -> None:
        """End all conversations and begin none."""
        self._closing = True
        await asyncio.gather(*(session.link.close("the hub stops") for session in tuple(self._sessions.values())))

    def keep_line(self, device_id: str, key: str, until: float | None) -> None:
        """See `xiaozhi_hub.plugins.api.Announcer.keep_line`; *until* is loop time here."""
        lines = self._lines.setdefault(device_id, {})
        if until is None:
            lines.pop(key, None)
        else:
            lines[key] = until
        if not lines:
            del self._lines[device_id]

    def _line_kept(self, device_id: str) -> bool:
        now = asyncio.get_running_loop().time()
        return any(until > now for until in self._lines.get(device_id, {}).values())

    async def housekeeping(self) -> None:
        """Hang up on the silent, keep the others alive; runs until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self._conversations.forget(asyncio.get_running_loop().time())
            for session in tuple(self._sessions.values()):
                try:
                    await session.tick()
                except Exception:  # nobody else's link may be forgotten because of one
                    log.exception("%s cannot be looked after", session.device_id)
