"""The device's end of its conversations with the hub, over a WebSocket or MQTT and UDP: opened, greeted, dropped, opened again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, Protocol

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.protocol.binary import pack
from xiaozhi_hub.testing.check_in import Address, MqttAddress, NoLink
from xiaozhi_hub.testing.device_log import DeviceLog, brief
from xiaozhi_hub.testing.line import Line
from xiaozhi_hub.testing.mqtt import Station
from xiaozhi_hub.testing.profile import FirmwareProfile
from xiaozhi_hub.testing.speech import FRAME_MS
from xiaozhi_hub.testing.udp_line import UdpLine

Watch = Callable[[float, bool, str | bytes], None]
"""``watch(at, sent, frame)``: told of each frame, sent by the device or not, at the moment (loop time) it passes."""


class Listener(Protocol):
    """Who is told what happens on the link. Times are loop times."""

    def text_came(self, text: str, now: float) -> Awaitable[None]:
        """A message of the hub; nothing else is read from this line until it has been dealt with."""
        ...

    def audio_came(self, frame: bytes, now: float) -> None:
        """A frame with sound, as it was framed."""
        ...

    def link_ended(self) -> None:
        """The hub has ended the conversation, or nobody is there any more."""
        ...


class DeviceLink:
    """One conversation at a time; the MQTT connection outlives them."""

    def __init__(
        self,
        device_id: str,
        client_id: str,
        profile: FirmwareProfile,
        log: DeviceLog,
        scope: TaskScope,
        listener: Listener,
        watch: Watch | None = None,
    ) -> None:
        self.line: Line | UdpLine | None = None
        self.station: Station | None = None
        """The MQTT connection, once there is one."""
        self.framing = 1
        """The version of the binary framing of this conversation."""
        self.session_id = ""
        self.close_code: int | None = None
        """Of the last conversation, None while it lives or when it ended without a close frame."""
        self.watch = watch
        self._device_id = device_id
        self._client_id = client_id
        self._profile = profile
        self._log = log
        self._scope = scope
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._greeted: asyncio.Future[None] | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self.line is not None and not self.line.ended

    # -- opening and ending ---------------------------------------------------------------------------------------

    async def reach(self, mqtt: MqttAddress) -> Station:
        """The MQTT connection is made at the start of the device, and again when it is gone."""
        if self.station is None or self.station.ended:
            self.station = await Station.connect(mqtt, self._scope, self._on_published)
        return self.station

    async def open(self, address: Address) -> None:
        """Connect and exchange hellos. Raises `NoLink`."""
        self.framing = self._profile.protocol_version or address.version
        headers = {
            "Client-Id": self._client_id,
            "Device-Id": self._device_id,
            "Protocol-Version": str(self.framing),
        }
        try:
            line: Line | UdpLine
            if address.mqtt is not None:
                line = UdpLine(await self.reach(address.mqtt), self._log.complain)
                self.framing, self.session_id = 1, ""
            else:
                line = await Line.open(address, headers, answers_pings=self._profile.answers_pings)
            self.line, self.close_code = line, None
            self._greeted = self._loop.create_future()
            self._reader = self._scope.start(self._read(line), name="reader")
            await self.send_json(self._hello(line), session=False)
            async with asyncio.timeout(self._profile.hello_seconds):
                await self._greeted
            await line.open_sound()
        except TimeoutError as error:
            raise NoLink(f"The hub did not say hello within {self._profile.hello_seconds:g} s.") from error

    def _hello(self, line: Line | UdpLine) -> dict[str, Any]:
        version = line.version if isinstance(line, UdpLine) else self.framing
        hello: dict[str, Any] = {"type": "hello", "version": version}
        if self._profile.features is not None:
            hello["features"] = dict.fromkeys(self._profile.features, True)
            if self._profile.text_font is not None:
                hello["features"]["glyph_push"] = True
                hello["text_font"] = dict(self._profile.text_font)
        hello["transport"] = line.transport
        hello["audio_params"] = {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": FRAME_MS}
        return hello

    def takes(self, hello: Mapping[str, Any]) -> bool:
        """Take the hub's hello; False when the device ignores it, and runs into its timeout."""
        if not isinstance(hello.get("transport"), str):
            self._log.complain("hello without transport: the device crashes")
        if self._greeted is None or self._greeted.done():
            self._log.complain("a second hello: the next connection would not wait for its own")
            return False
        line = self.line
        if line is None or hello.get("transport") != line.transport or not line.accepts(hello):
            return False
        self.session_id = str(hello.get("session_id") or self.session_id)
        return True

    def greeted(self) -> None:
        """The hello that was taken has been dealt with: the device goes on."""
        assert self._greeted is not None
        self._greeted.set_result(None)

    def not_greeted(self) -> None:
        """The conversation is over: nobody waits for a hello any more."""
        if self._greeted is not None and not self._greeted.done():
            self._greeted.set_exception(NoLink("The hub ended the connection instead of saying hello."))

    async def say_goodbye(self) -> None:
        """The person ends the conversation: over MQTT that is said."""
        self._log.note("→", "hangs up")
        if isinstance(self.line, UdpLine):
            await self.send_json({"type": "goodbye"})

    def hear_goodbye(self, message: Mapping[str, Any]) -> None:
        """The hub ends the conversation, which only MQTT has a message for."""
        if isinstance(self.line, UdpLine) and message.get("session_id") in (None, self.session_id):
            self.line.end()

    async def drop(self) -> None:
        """End the conversation as devices do: without a close frame. The MQTT connection stays."""
        line, self.line = self.line, None
        reader, self._reader = self._reader, None
        if line is not None:
            await line.drop()
        if reader is not None:
            reader.cancel()
            await asyncio.wait([reader])

    async def close(self) -> None:
        """End the MQTT connection too."""
        if self.station is not None:
            await self.station.close()

    # -- reading --------------------------------------------------------------------------------------------------

    async def _read(self, line: Line | UdpLine) -> None:
        async with aclosing(line.frames()) as frames:
            async for frame in frames:
                now = self._loop.time()
                if self.watch is not None:
                    self.watch(now, False, frame)
                if isinstance(frame, str):
                    await self._listener.text_came(frame, now)
                else:
                    self._listener.audio_came(frame, now)
        self.close_code = line.close_code
        self._log.note("←", "hangs up" + (f" ({line.close_code})" if line.close_code else " without a close frame"))
        self._listener.link_ended()

    async def _on_published(self, text: str) -> None:
        await self._listener.text_came(text, self._loop.time())

    # -- sending --------------------------------------------------------------------------------------------------

    async def send_json(self, message: Mapping[str, Any], *, session: bool = True) -> None:
        """Send a message; with the session's id, as firmware that keeps it does."""
        self._log.note("→", brief(message))
        if session:
            message = {"session_id": self.session_id if self._profile.stores_session_id else "", **message}
        await self.write(json.dumps(message, ensure_ascii=False))

    async def send_audio(self, opus: bytes, timestamp: int = 0) -> None:
        """Send a packet of sound."""
        await self.write(pack(self.framing, opus, timestamp))

    async def write(self, data: str | bytes) -> None:
        """Send a frame as it is; when nobody is there any more, the conversation ends."""
        if self.watch is not None:
            self.watch(self._loop.time(), True, data)
        if self.line is not None and not self.line.ended and not await self.line.write(data):
            self._log.note("·", "the connection is gone")
            self._listener.link_ended()
        elif not self.connected and self.station is not None and isinstance(data, str):
            await self.station.publish(data)


__all__ = ["DeviceLink", "Listener", "Watch"]
