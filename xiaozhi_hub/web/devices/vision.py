"""Where devices with a camera send their photos (firmware main/boards/common/esp32_camera.cc).

From the picture to the answer the device does nothing else: it plays nothing and hears nothing. It takes status 200 only, reads
about 6 KiB, and waits 30 seconds. So whatever goes wrong is told in an answer with status 200, in time, in words to be spoken.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import BodyPartReader, web

from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.core.workers import Worker
from xiaozhi_hub.dialog.vision import NothingSeen, describe
from xiaozhi_hub.engines.vision import Vision, VisionRequest
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.protocol.identity import DeviceIdentity
from xiaozhi_hub.web.devices.photo import MOST_BYTES, BadPhoto, Photo, read_photo
from xiaozhi_hub.web.devices.reached import Reached
from xiaozhi_hub.web.requests.failures import Rejected
from xiaozhi_hub.web.requests.held import Held, Share
from xiaozhi_hub.web.requests.hosts import Address, parse_host

log = logging.getLogger(__name__)
PATH = "/mcp/vision/explain"
ANSWER_S = 23.0
"""From the first byte of the request to the answer; 25 are promised, 30 is when the device gives up."""
TOKEN_S = 600.0
"""A token is good for so long, and beyond that while the link is open for which it was made."""
MOST_REPLY_BYTES = 6143
_QUESTION_BYTES = 4096
_HELD_BYTES = (2 * MOST_BYTES, 6 * MOST_BYTES)
"""Of photos that are being sent, wait for their turn or are looked at: from one address, and from all."""
_MOST_PARTS = 8
_AT_ONCE = 4
_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Asked:
    """A photo that was asked about, to be kept with its turn."""

    device_id: str
    session_id: str
    jpeg: bytes
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class VisionParts:
    """What the rest of the hub gives."""

    texts: Texts
    engines: Callable[[], Sequence[Vision]]
    """Those that are ready, best first."""
    language_of: Callable[[str], str]
    """What is spoken with a device."""
    is_open: Callable[[str, str], bool]
    """Is this session of this device still open?"""
    keep: Callable[[Asked], Awaitable[None]]
    reached: Reached
    own_port: Callable[[], int]
    public_host: str | None = None


@dataclass(slots=True)
class _Grant:
    """Leave for one device to ask."""

    digest: str
    device_id: str
    session_id: str
    until: float
    busy: bool = False


class _Trouble(Exception):
    """The device is told the text ``vision.<key>``."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


class VisionDoor:
    """Hands out addresses with tokens, takes photos, and answers."""

    def __init__(self, parts: VisionParts) -> None:
        self._parts = parts
        self._grants: OrderedDict[str, _Grant] = OrderedDict()
        self._worker = Worker("photos")
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._held = Held(*_HELD_BYTES)

    def routes(self) -> list[web.RouteDef]:
        return [web.post(PATH, self._explain)]

    async def close(self) -> None:
        await self._worker.close()

    @property
    def busy(self) -> int:
        """Devices whose photo is being read or looked at."""
        return sum(grant.busy for grant in self._grants.values())

    @property
    def held(self) -> int:
        """Bytes of the photos that have come, in part or whole, and are not answered."""
        return self._held.total

    async def read_picture(self, data: bytes) -> Photo:
        """Check a picture that came on another way; raises `BadPhoto`."""
        return await self._worker.run(read_photo, data)

    def offer(self, device: DeviceIdentity, session_id: str) -> tuple[str, str] | None:
        """Return the address and the token for ``capabilities.vision`` of MCP's ``initialize``, or None: nothing here can see.

        The token is for this device. It lasts as long as the session is open, ten minutes at least; the next offer to the
        device ends it.
        """
        if not self._parts.engines():
            return None
        token = secrets.token_urlsafe(24)
        grant = _Grant(_digest(token), device.id, session_id, time.monotonic() + TOKEN_S)
        self._grants[device.id] = grant
        self._grants.move_to_end(device.id)
        if len(self._grants) > _REMEMBERED:
            self._grants.popitem(last=False)
        address = self._address_for(device)
        return f"http://{address.host}:{address.port}{PATH}", token

    def _address_for(self, device: DeviceIdentity) -> Address:
        """The way it came, because that way is known to work: the check-in tells the port too, the WebSocket does not."""
        public = parse_host(self._parts.public_host) if self._parts.public_host else None
        came = self._parts.reached.get(device.id) or parse_host(device.host) or Address("127.0.0.1")
        chosen = public or came
        return Address(chosen.host, (public and public.port) or came.port or self._parts.own_port())

    # -- the request ----------------------------------------------------------------------------------------------

    async def _explain(self, request: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        grant = self._granted(request)
        if grant.busy:
            return self._sorry(grant, "busy")
        grant.busy = True
        try:
            # It counts until the answer is known: many may wait for one of few places.
            with self._held.share(request.remote or "") as share:
                async with asyncio.timeout(ANSWER_S):
                    answer = await self._answer(request, grant, share)
        except _Trouble as trouble:
            return self._sorry(grant, trouble.key)
        except TimeoutError:
            log.warning("a photo of %s was not answered in time", grant.device_id)
            return self._sorry(grant, "slow")
        except Exception:  # the border of the HTTP request: the device takes nothing but status 200
            log.exception("a photo of %s was not answered", grant.device_id)
            return self._sorry(grant, "failed")
        finally:
            grant.busy = False
        log.info("a photo of %s was answered in %.1f s", grant.device_id, time.monotonic() - began)
        return _reply({"success": True, "action": "RESPONSE", "response": answer})

    def _granted(self, request: web.Request) -> _Grant:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        digest = _digest(token.strip())
        # By a digest: how long a comparison takes tells nothing about the token.
        grant = next((each for each in self._grants.values() if each.digest == digest), None)
        named = request.headers.get("Device-Id", "").strip().lower()
        if (
            grant is None
            or scheme.lower() != "bearer"
            or (named and named != grant.device_id)
            or not (grant.until > time.monotonic() or self._parts.is_open(grant.device_id, grant.session_id))
        ):
            raise Rejected(401, "This needs the token that the hub gave to the device.", code="vision-token-invalid")
        return grant

    async def _answer(self, request: web.Request, grant: _Grant, share: Share) -> str:
        question, data = await self._read(request, share)
        engines = self._parts.engines()
        language = self._parts.language_of(grant.device_id)
        question = question or self._parts.texts.text("vision.question", language)
        if not engines:
            raise _Trouble("no_engine")
        async with self._places:
            try:
                photo = await self._worker.run(read_photo, data)
            except BadPhoto as error:
                log.info("%s sent no usable photo: %s", grant.device_id, error)
                raise _Trouble("bad_photo") from error
            del data
            share.shrink(len(photo.jpeg))
            try:
                answer = await describe(engines, VisionRequest(photo.jpeg, question, language))
            except NothingSeen as error:
                raise _Trouble("failed") from error
        await self._keep(grant, photo, question, answer)
        return answer

    async def _read(self, request: web.Request, share: Share) -> tuple[str, bytes]:
        """Read the parts ``question`` and ``file``; what else there is counts against the limit and is left out."""
        question, photo = "", None
        try:
            parts = await request.multipart()
            for _ in range(_MOST_PARTS):
                part = await parts.next()
                if part is None:
                    break
                if not isinstance(part, BodyPartReader):
                    raise _Trouble("unreadable")
                data = bytearray()
                while piece := await part.read_chunk(64 * 1024):
                    if share.size + len(piece) > MOST_BYTES + _QUESTION_BYTES:
                        raise _Trouble("too_large")
                    if not share.takes(len(piece)):
                        raise _Trouble("busy")
                    data += piece
                if part.name == "question":
                    question = data[:_QUESTION_BYTES].decode("utf-8", "ignore").strip()
                elif part.name == "file":
                    photo = bytes(data)
                del data  # not twice while the next part is waited for
        except _Trouble:
            raise
        except ConnectionError as error:
            log.info("a photo request ended before the photo was there")
            raise _Trouble("failed") from error  # nobody is there to be told
        except asyncio.CancelledError:
            raise
        except Exception as error:  # a body is anybody's; the parser tells of a broken one in many ways
            log.info("a photo request is broken: %s", error or type(error).__name__)
            raise _Trouble("unreadable") from error
        if photo is None:
            raise _Trouble("no_photo")
        return question, photo

    async def _keep(self, grant: _Grant, photo: Photo, question: str, answer: str) -> None:
        try:
            await self._parts.keep(Asked(grant.device_id, grant.session_id, photo.jpeg, question, answer))
        except HubError as error:
            log.warning("a photo of %s is not kept: %s", grant.device_id, error)

    def _sorry(self, grant: _Grant, key: str) -> web.Response:
        message = self._parts.texts.text(f"vision.{key}", self._parts.language_of(grant.device_id))
        return _reply({"success": False, "message": message})


def _reply(values: dict[str, Any]) -> web.Response:
    """An answer that the device can read: whole, short, with its length."""
    body = json.dumps(values, ensure_ascii=False).encode()
    text = str(values.get("response", ""))
    while len(body) > MOST_REPLY_BYTES and text:
        text = text[: -1 - (len(body) - MOST_REPLY_BYTES) // 4]  # no character takes more than four bytes
        body = json.dumps(values | {"response": f"{text.rstrip()}…"}, ensure_ascii=False).encode()
    response = web.Response(body=body, content_type="application/json")
    response.force_close()  # what is left of a request that was not read to its end is nobody's
    return response


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogateescape")).hexdigest()


__all__ = ["PATH", "Asked", "VisionDoor", "VisionParts"]
