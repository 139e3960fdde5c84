"""A device that has proven who it is: what it says goes to its conversation, or to whoever waits for idle devices."""

from __future__ import annotations

import json
import logging

from xiaozhi_hub.plugins.api import (
    Config,
    DeviceHello,
    DeviceIdentity,
    Goodbye,
    HubApi,
    HubError,
    HubMessage,
    ProtocolError,
    RateLimit,
    TaskScope,
    TtsStart,
    parse_device_message,
)

from .connection import Connection
from .link import UdpLink
from .packets import publish
from .udp import UdpPort

log = logging.getLogger(__name__)

TOPIC = "devices/{}"
"""Under which a device is sent everything. The firmware does not look at it, and never subscribes."""
HELLOS_PER_SECOND = 1.0
HELLOS_AT_ONCE = 10


class ConnectedDevice:
    """Lives as long as its MQTT connection; has one conversation at a time, or none."""

    def __init__(
        self,
        connection: Connection,
        identity: DeviceIdentity,
        hub: HubApi,
        port: UdpPort,
        host: str,
        scope: TaskScope,
    ) -> None:
        self.identity = identity
        self.connection = connection
        self.link: UdpLink | None = None
        self.dropped = 0
        """Messages that were none."""
        self._hub = hub
        self._limits = hub.config.limits
        self._port = port
        self._host = host
        self._scope = scope
        self._topic = topic_of(identity.id)
        self._hellos = RateLimit(HELLOS_PER_SECOND, HELLOS_AT_ONCE)

    # -- from the device ------------------------------------------------------------------------------------------

    async def on_message(self, payload: bytes, now: float) -> None:
        """The device has published something."""
        try:
            text = payload.decode()
            message = parse_device_message(text)
        except (UnicodeDecodeError, ProtocolError) as error:
            if self.dropped == 0:  # once for each connection: a device that does it once does it often
                log.info("%s sent what is no message (%s); dropped, as will be more", self.identity.id, error)
            self.dropped += 1
            return
        link = self.link
        if isinstance(message, DeviceHello):
            await self._open(message, now)
        elif isinstance(message, Goodbye) and (link is None or not _means(text, link.session_id)):
            log.debug("%s says goodbye to a conversation that is over", self.identity.id)
        elif link is not None and not link.closed:
            await link.hear(message)
        else:
            self._hub.transports.heard(self.identity.id, message)

    async def _open(self, hello: DeviceHello, now: float) -> None:
        """Begin a conversation; one that is still open ends, because the device has forgotten it."""
        if hello.transport != "udp" or not self._hellos.allows(now):
            log.info("%s: hello for %s not answered", self.identity.id, hello.transport)
            return
        if self.link is not None:
            self.link.abandon("the device has begun anew")
        link = UdpLink(self._say, self._port, self.identity, hello, self._limits.frames_per_second)
        self.link = link
        await link.greet(self._host)
        self._scope.start(self._talk(link), name=f"link-{link.session_id}")

    async def _talk(self, link: UdpLink) -> None:
        try:
            await self._hub.serve_link(link)
        except HubError as error:
            log.warning("%s: %s", self.identity.id, error)
        except Exception:  # as for any connection: it is this conversation's end, and nobody else's
            log.exception("serving %s failed", self.identity.id)
        finally:
            await link.close("the conversation is over")
            if self.link is link:
                self.link = None
            log.debug("%s has ended its conversation: %s", self.identity.id, link.close_reason)

    # -- to the device --------------------------------------------------------------------------------------------

    async def push(self, message: HubMessage) -> bool:
        """Send a message, idle or not. A sleeping device shows a ``tts sentence_start``; it cannot be made to speak."""
        if not self._hub.admits(self.identity):
            await self.close("it is not let in any more")
            return False
        link = self.link if self.link is not None and not self.link.closed else None
        if link is None and isinstance(message, TtsStart):
            return False  # only the device can open the way for sound; without it, it would be mute and deaf
        return await self._say(message, link.session_id if link is not None else "")

    async def _say(self, message: HubMessage, session_id: str) -> bool:
        return await self.connection.send(publish(self._topic, message.json(session_id).encode()))

    async def close(self, reason: str) -> None:
        """End the conversation with a goodbye, then the connection."""
        if self.link is not None:
            await self.link.close(reason)
        self.connection.close()

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        if self.link is not None:
            self.link.abandon(reason)


def topic_of(device_id: str) -> str:
    """The topic of a device, without the characters that mean something in topics."""
    return TOPIC.format("".join(char if char.isalnum() else "_" for char in device_id))


def udp_host(config: Config, checked_in: str | None, local: str) -> str:
    """Where a device finds the port for sound: what the owner says, then how it reached the hub at its check-in, then
    the address that its connection has reached."""
    public = config.http.public_host or ""
    return ("" if ":" in public else public) or checked_in or local


def _means(goodbye: str, session_id: str) -> bool:
    """Does a goodbye end the conversation *session_id*? One that names none ends whichever there is."""
    said = json.loads(goodbye).get("session_id")
    return not said or said == session_id
