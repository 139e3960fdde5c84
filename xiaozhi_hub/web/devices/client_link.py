"""A plain client's connection, made to look like a device's: texts, recordings and pictures become what a session understands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from aiohttp import WSCloseCode, web

from xiaozhi_hub.audio.opus import PACKET_BYTES, PACKET_MS, packet_ms
from xiaozhi_hub.audio.pcm import BadAudio
from xiaozhi_hub.audio.transcode import OpusToSamples, SamplesToOpus
from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.core.i18n import Texts, language_of
from xiaozhi_hub.devices.waking.words import is_wake_word
from xiaozhi_hub.dialog.vision import Eyes
from xiaozhi_hub.errors import HubError, ProtocolError
from xiaozhi_hub.protocol.client import (
    ClientError,
    ClientGreeting,
    ClientHello,
    ClientMistake,
    ClientSound,
    SentPicture,
    SentSound,
    WrittenText,
    parse_client_message,
)
from xiaozhi_hub.protocol.device_messages import (
    Abort,
    DeviceHello,
    DeviceMessage,
    ListenDetect,
    ListenStart,
    ListenStop,
)
from xiaozhi_hub.protocol.hub_messages import HubMessage, TtsStart, TtsStop
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.web.devices.photo import MOST_BYTES, BadPhoto, Photo
from xiaozhi_hub.web.devices.websocket import DeviceLimits, WebSocketLink
from xiaozhi_hub.web.requests.failures import Rejected

log = logging.getLogger(__name__)
MOST_SOUND_MS = 15_000.0
"""So much sound may come at once, as much as a session's microphone holds; beyond that it has to come as it is spoken."""
SOUND_PACE = 1.5
"""How much faster than time it may come in the long run."""
PICTURES = 8
"""So many may be on their way at once, from all clients together."""
PICTURE_S = 30.0
"""In which a picture must have come."""


@dataclass(frozen=True, slots=True)
class ClientParts:
    """What the rest of the hub gives to clients' connections."""

    texts: Texts
    language_of: Callable[[str], str]
    """What is spoken with a client, by its id."""
    read_picture: Callable[[bytes], Awaitable[Photo]]
    """Raises `BadPhoto`."""
    eyes: Eyes
    pictures: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PICTURES))
    """Held while a picture is on its way."""


class ClientLink(WebSocketLink):
    """As `WebSocketLink`, with other words on the wire. *arrive* checks a client's token and returns who it is."""

    def __init__(
        self,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        device: DeviceIdentity,
        limits: DeviceLimits,
        parts: ClientParts,
        arrive: Callable[[ClientHello], Awaitable[DeviceIdentity]],
    ) -> None:
        super().__init__(ws, transport, device, limits)
        self._parts = parts
        self._arrive = arrive
        self._language = ""
        self._sound = ClientSound()
        self._said: Iterator[DeviceMessage | Packet] = iter(())
        self._listening = False
        self._to_opus: SamplesToOpus | None = None
        self._to_samples: OpusToSamples | None = None
        self._sound_left = MOST_SOUND_MS
        self._sound_at = 0.0

    @property
    def language(self) -> str:
        """What the client is spoken to in."""
        return self._parts.language_of(self.device.id) if self.device.id else language_of(self._language, "en")

    async def greet(self, framing: str | None, within_s: float) -> None:
        """Wait for a hello that can be used, let the client in and answer. What else comes is complained about."""
        try:
            async with asyncio.timeout(within_s):
                while (frame := await self._frame()) is not None:
                    if (hello := await self._hello(frame)) is not None:
                        await self._welcome(hello)
                        return
        except TimeoutError:
            raise ProtocolError(f"no hello within {within_s:g} s", code="hello-missing", close=True) from None
        raise ProtocolError(self.close_reason, code="hello-missing", close=True)

    async def _hello(self, frame: str | bytes) -> ClientHello | None:
        try:
            message = parse_client_message(frame) if isinstance(frame, str) else None
            if not isinstance(message, ClientHello):
                raise ClientMistake("hello_missing")
        except ClientMistake as mistake:
            await self._complain(mistake)
            return None
        return message

    async def _welcome(self, hello: ClientHello) -> None:
        self._language = hello.language
        try:
            self.device = await self._arrive(hello)
        except Rejected:
            await self._complain(ClientMistake("token_wrong"))
            raise
        self._sound = hello.sound
        self.waits_for_wake = hello.wake
        self.shows_captions = hello.captions
        # Nothing else that devices can do: a client has no tools, and its packets say themselves how long they are.
        self.hello = DeviceHello(frame_ms=hello.sound.frame_ms)
        await self.send(ClientGreeting(self.device.id, hello.sound))

    # -- client → session -----------------------------------------------------------------------------------------

    async def next_message(self) -> DeviceMessage | Packet | None:
        """What the client says, in the words of devices; None when the link has ended."""
        while not self.close_reason:
            try:
                if (message := next(self._said, None)) is not None:
                    if isinstance(message, Packet):
                        await asyncio.sleep(
                            0
                        )  # a recording comes at once; others want to be served between its packets
                    return message
                if (frame := await self._frame()) is not None:
                    self._said = await self._understand(frame)
            except ClientMistake as mistake:
                await self._complain(mistake)
            except HubError as error:  # such as no Opus on this machine
                await self.send(ClientError(error.code, error.message))
        self._parts.eyes.forget(self.session_id)
        for codec in (self._to_opus, self._to_samples):
            if codec is not None:
                codec.close()
        self._to_opus = self._to_samples = None
        return None

    async def _understand(self, frame: str | bytes) -> Iterator[DeviceMessage | Packet]:
        if isinstance(frame, bytes):
            wanted = self._listening or self.waits_for_wake
            return self._packets((frame,), ends=False) if wanted else iter(())
        message = parse_client_message(frame)
        match message:
            case ClientHello():
                raise ClientMistake("second_hello")
            case WrittenText(text=text):
                if is_wake_word(text):  # which a session takes as a sign of life, and not as a question
                    raise ClientMistake("wake_word")
                self._parts.eyes.forget(self.session_id)
                return self._asked(text)
            case SentSound(pieces=pieces):
                if self._listening:
                    return self._packets(pieces, ends=False)
                packets = self._packets(pieces, ends=True)
                return _chain(iter((Abort(), ListenStart("manual"))), packets, iter((ListenStop(),)))
            case SentPicture():
                return await self._shown(message)
            case ListenStart():
                self._check_sound()
                self._listening = True
                # What is being said is interrupted: a session takes a bare `start` in its midst as meant for later.
                return iter((Abort(), message))
            case ListenStop():
                was, self._listening = self._listening, False
                return _chain(self._rest() if was else iter(()), iter((message,)))
            case Abort():
                self._listening = False
                return iter((message,))
            case _:
                return iter((message,))

    def _asked(self, text: str) -> Iterator[DeviceMessage | Packet]:
        self._listening = False
        return iter((ListenDetect(text),))

    def _check_sound(self) -> None:
        if self._sound.format == "none":
            raise ClientMistake("no_sound")

    def _packets(self, pieces: tuple[bytes, ...], *, ends: bool) -> Iterator[Packet]:
        """Check sound and return it as packets; with *ends* it is a whole recording."""
        self._check_sound()
        if self._sound.format == "opus":
            packets = [Packet(piece, packet_ms(piece)) for piece in pieces]
            if any(not 0 < each.ms <= PACKET_MS or len(each.data) > PACKET_BYTES for each in packets):
                raise ClientMistake("sound_invalid")
            self._spend(sum(each.ms for each in packets))
            return iter(packets)
        self._spend(sum(map(len, pieces)) / (2 * self._sound.channels) / self._sound.rate * 1000)
        if self._to_opus is None:
            self._to_opus = SamplesToOpus(self._sound.rate, self._sound.channels)
        try:
            for piece in pieces:
                self._to_opus.feed(piece)
        except BadAudio as error:
            raise ClientMistake("sound_invalid") from error
        return self._rest() if ends else _taken(self._to_opus)

    def _rest(self) -> Iterator[Packet]:
        """The end of a recording, which may be shorter than a packet."""
        if self._to_opus is None:
            return iter(())
        self._to_opus.finish()
        return _taken(self._to_opus)

    def _spend(self, ms: float) -> None:
        now = self._loop.time()
        self._sound_left = min(MOST_SOUND_MS, self._sound_left + (now - self._sound_at) * 1000 * SOUND_PACE)
        self._sound_at = now
        if ms > self._sound_left:
            raise ClientMistake("sound_too_much", seconds=round(MOST_SOUND_MS / 1000))
        self._sound_left -= ms

    async def _shown(self, picture: SentPicture) -> Iterator[DeviceMessage | Packet]:
        """Take a picture in, check it, and ask about it."""
        self._parts.eyes.forget(self.session_id)
        if picture.size > MOST_BYTES:
            raise ClientMistake("picture_too_large", most=MOST_BYTES // 2**20)
        if is_wake_word(picture.question):
            raise ClientMistake("wake_word")
        if self._parts.pictures.locked():
            raise ClientMistake("picture_later")
        async with self._parts.pictures:
            data = picture.data or await self._pieces(picture.size)
            try:
                photo = await self._parts.read_picture(data)
            except BadPhoto as error:
                log.info("%s sent no usable picture: %s", self.device.id, error)
                raise ClientMistake("picture_invalid") from error
        self._parts.eyes.show(self.session_id, photo.jpeg)
        return self._asked(picture.question or self._parts.texts.text("vision.question", self.language))

    async def _pieces(self, size: int) -> bytes:
        """Collect the binary messages of a picture. A text message between them gives it up, and is lost with it."""
        data = bytearray()
        try:
            async with asyncio.timeout(PICTURE_S):
                while len(data) < size:
                    frame = await self._frame()
                    if not isinstance(frame, bytes) or len(data) + len(frame) > size:
                        raise ClientMistake("picture_unfinished")
                    data += frame
        except TimeoutError as error:
            raise ClientMistake("picture_unfinished") from error
        return bytes(data)

    # -- session → client -----------------------------------------------------------------------------------------

    async def send(self, message: HubMessage) -> None:
        if isinstance(message, TtsStart):
            self._listening = False  # what the microphone sends from now on is nobody's
        if isinstance(message, TtsStop) and self._to_samples is not None and (rest := self._to_samples.finish()):
            await self._send(self._ws.send_bytes, rest)
        await super().send(message)

    async def send_audio(self, packet: Packet) -> None:
        match self._sound.format:
            case "opus":
                await self._send(self._ws.send_bytes, packet.data)
            case "pcm" if not self.close_reason:
                if self._to_samples is None:
                    self._to_samples = OpusToSamples(self._sound.rate)
                if samples := self._to_samples.convert(packet):
                    await self._send(self._ws.send_bytes, samples)
            case _:
                self.sent_at = self._loop.time()  # the client is there and follows the answer in writing

    async def _complain(self, mistake: ClientMistake) -> None:
        self.dropped += 1
        message = self._parts.texts.text(f"client.{mistake.key}", self.language, **mistake.values)
        await self.send(ClientError(mistake.code, message))
        if mistake.close:
            await self.close(message, WSCloseCode.POLICY_VIOLATION)


def _taken(codec: SamplesToOpus) -> Iterator[Packet]:
    """Encode as late as possible: one packet at a time."""
    while (packet := codec.take()) is not None:
        yield packet


def _chain(*parts: Iterator[DeviceMessage | Packet] | Iterator[Packet]) -> Iterator[DeviceMessage | Packet]:
    for part in parts:
        yield from part


__all__ = ["ClientLink", "ClientParts"]
