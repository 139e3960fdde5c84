"""Announcements for programs on this machine: say something on devices, and see who has heard it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from xiaozhi_hub.audio.ogg import read_ogg
from xiaozhi_hub.audio.opus import encode_all, packet_ms
from xiaozhi_hub.core.flow import Packet
from xiaozhi_hub.core.i18n import language_of, written_in
from xiaozhi_hub.devices.announcements.audience import Listener
from xiaozhi_hub.devices.announcements.messenger import LONGEST_LIFE, LONGEST_TEXT, Messenger, Said, TooMuch
from xiaozhi_hub.errors import ProtocolError, ToolError
from xiaozhi_hub.store.announcements import Announcement, Kind, Receipt
from xiaozhi_hub.web.programs.local import answer, local_only
from xiaozhi_hub.web.requests.body import read_body, read_json, text_field
from xiaozhi_hub.web.requests.failures import Rejected
from xiaozhi_hub.web.requests.sound_body import BYTES, SECONDS, decode

LONGEST_NAME = 64


class AnnouncementsApi:
    """``POST /api/announce`` and ``GET /api/announcements``."""

    def __init__(self, messenger: Callable[[], Awaitable[Messenger]]) -> None:
        self._messenger = messenger

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/api/announce", local_only(self._announce)),
            web.get("/api/announcements", local_only(self._list)),
        ]

    async def _announce(self, request: web.Request) -> web.Response:
        sound: tuple[Packet, ...] = ()
        values: dict[str, Any]
        if request.content_type == "application/json":
            values = await read_json(request)
        else:
            values = dict(request.query)
            body = await read_body(request, BYTES, SECONDS)
            sound = await asyncio.to_thread(_packets, body, request.content_type)
        text = text_field(values, "text", most=LONGEST_TEXT, required=not sound)
        device = text_field(values, "device", most=LONGEST_NAME)
        room = text_field(values, "room", most=LONGEST_NAME)
        everywhere = _is_true(values, "everywhere")
        if sum(map(bool, (device, room, everywhere))) != 1:
            raise ProtocolError("Say one of 'device', 'room' and 'everywhere'.", code="field-missing")
        said = Said(
            text=text,
            sound=sound,
            kind=Kind.MESSAGE if _is_true(values, "message") else Kind.ANNOUNCEMENT,
            language=language_of(text_field(values, "language", most=LONGEST_NAME), written_in(text)),
            seconds=_seconds(values),
        )
        messenger = await self._messenger()
        try:
            listeners = await messenger.audience.find("en", device=device, area=room, everywhere=everywhere)
            sent = await messenger.say(listeners, said)
        except ToolError as error:
            raise Rejected(404, error.message, code=error.code, hint="List: xiaozhi-hub devices") from error
        except TooMuch as error:
            raise Rejected(409, error.message, code=error.code, hint=error.hint) from error
        return answer(
            {
                "success": True,
                "id": sent.id,
                "now": [_told_listener(each) for each in sent.now],
                "shown": [_told_listener(each) for each in sent.shown],
                "later": [_told_listener(each) for each in sent.later],
            }
        )

    async def _list(self, _: web.Request) -> web.Response:
        messenger = await self._messenger()
        listed = await messenger.listed()
        return answer({"success": True, "announcements": [_told(messenger, *each) for each in listed]})


def _packets(body: bytes, content_type: str) -> tuple[Packet, ...]:
    """The sound as packets for devices; those of an Ogg Opus file as they are. Blocking."""
    sound = decode(body, content_type)
    if body[:4] == b"OggS":
        return tuple(Packet(data, packet_ms(data)) for data in read_ogg(body))
    return encode_all(sound)


def _is_true(values: dict[str, Any], name: str) -> bool:
    value = values.get(name, False)
    if value in ("true", "false"):  # in a query there are only texts
        return bool(value == "true")
    if not isinstance(value, bool):
        raise ProtocolError(f"{name!r} must be true or false.", code="field-invalid")
    return value


def _seconds(values: dict[str, Any]) -> float | None:
    value = values.get("expires_s")
    if value is None:
        return None
    try:
        seconds = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        seconds = float("nan")
    if not 1 <= seconds <= LONGEST_LIFE:
        raise ProtocolError(f"'expires_s' must be 1 to {LONGEST_LIFE:.0f} seconds.", code="field-invalid")
    return seconds


def _told_listener(listener: Listener) -> dict[str, str]:
    return {"device": listener.device_id, "name": listener.name, "area": listener.area}


def _told(messenger: Messenger, item: Announcement, receipts: tuple[Receipt, ...]) -> dict[str, Any]:
    return {
        "id": item.id,
        "kind": item.kind.value,
        "text": item.text,
        "language": item.language,
        "voice": bool(item.sound),
        "from": item.from_device,
        "created_at": item.created_at,
        "expires_at": item.expires_at,
        "receipts": [
            {
                "device": receipt.device_id,
                "name": messenger.name_of(receipt.device_id, item.language),
                "state": receipt.state.value,
                "at": receipt.at,
            }
            for receipt in receipts
        ],
    }


__all__ = ["AnnouncementsApi"]
