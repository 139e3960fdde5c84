"""The owner's view of devices, for programs on this machine: list, approve, invite, shut out, rename, open and close the door."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from xiaozhi_hub.devices.management import LONGEST_NAME, DeviceManagement, ManagedDevice
from xiaozhi_hub.devices.pairing.admission import PairingError
from xiaozhi_hub.devices.pairing.door import Opening
from xiaozhi_hub.devices.pairing.waiting import Waiting
from xiaozhi_hub.errors import ProtocolError
from xiaozhi_hub.web.programs.local import answer, local_only
from xiaozhi_hub.web.requests.body import read_json, text_field
from xiaozhi_hub.web.requests.failures import Rejected

_STATUS = {"code-unknown": 404, "device-unknown": 404, "too-many-tries": 429}
_CONFLICT = 409


class DevicesApi:
    """The endpoints below ``/api/devices``."""

    def __init__(self, management: Callable[[], Awaitable[DeviceManagement]]) -> None:
        self._management = management

    def routes(self) -> list[web.RouteDef]:
        def guarded(handler: Handler) -> Handler:
            return local_only(_told(handler))

        return [
            web.get("/api/devices", guarded(self._list)),
            web.post("/api/devices/approve", guarded(self._approve)),
            web.post("/api/devices/invite", guarded(self._invite)),
            web.post("/api/devices/open", guarded(self._open)),
            web.post("/api/devices/close", guarded(self._close)),
            web.post("/api/devices/revoke", guarded(self._revoke)),
            web.post("/api/devices/rename", guarded(self._rename)),
            web.post("/api/devices/forget", guarded(self._forget)),
            web.post("/api/history/forget", guarded(self._forget_said)),
        ]

    async def _list(self, _: web.Request) -> web.Response:
        overview = await (await self._management()).overview()
        return answer(
            {
                "success": True,
                "pairing": overview.mode,
                "door": told_opening(overview.opening),
                "waiting": [told_waiting(waiting) for waiting in overview.waiting],
                "devices": [asdict(device) for device in overview.devices],
            }
        )

    async def _approve(self, request: web.Request) -> web.Response:
        values = await read_json(request)
        device = text_field(values, "device", most=LONGEST_NAME)
        code = text_field(values, "code", most=LONGEST_NAME, required=not device)
        management = await self._management()
        return _done(await (management.confirm(device) if device else management.approve(code)))

    async def _invite(self, request: web.Request) -> web.Response:
        values = await read_json(request)
        name = text_field(values, "name", most=LONGEST_NAME, required=True)
        area = text_field(values, "area", most=LONGEST_NAME)
        invited = await (await self._management()).invite(name, area)
        return answer({"success": True, "device": asdict(invited.device), "token": invited.token})

    async def _revoke(self, request: web.Request) -> web.Response:
        device = text_field(await read_json(request), "device", most=LONGEST_NAME, required=True)
        return _done(await (await self._management()).revoke(device))

    async def _forget(self, request: web.Request) -> web.Response:
        device = text_field(await read_json(request), "device", most=LONGEST_NAME, required=True)
        found, pending = await (await self._management()).forget(device)
        return answer({"success": True, "device": asdict(found), "pending": list(pending)})

    async def _forget_said(self, request: web.Request) -> web.Response:
        """What was said goes, on one device or with ``everything`` on all; they may still come in."""
        values = await read_json(request)
        everything = values.get("everything", False)
        if not isinstance(everything, bool):
            raise ProtocolError("'everything' must be true or false.", code="field-invalid")
        device = text_field(values, "device", most=LONGEST_NAME, required=not everything)
        if everything and device:
            raise ProtocolError("Give either a 'device' or 'everything'.", code="field-invalid")
        pending = await (await self._management()).forget_said(device or None)
        return answer({"success": True, "pending": list(pending)})

    async def _rename(self, request: web.Request) -> web.Response:
        values = await read_json(request)
        device = text_field(values, "device", most=LONGEST_NAME, required=True)
        name = text_field(values, "name", most=LONGEST_NAME, required=True)
        area = text_field(values, "area", most=LONGEST_NAME) if values.get("area") is not None else None
        return _done(await (await self._management()).rename(device, name, area))

    async def _open(self, request: web.Request) -> web.Response:
        minutes = (await read_json(request)).get("minutes", 10)
        if isinstance(minutes, bool) or not isinstance(minutes, int | float):
            raise ProtocolError("'minutes' must be a number.", code="field-invalid")
        opening = (await self._management()).open_window(minutes)
        return answer({"success": True, "door": told_opening(opening)})

    async def _close(self, _: web.Request) -> web.Response:
        (await self._management()).close_door()
        return answer({"success": True, "door": None})


def _told(handler: Handler) -> Handler:
    async def told(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except PairingError as error:
            status = _STATUS.get(error.code, _CONFLICT)
            raise Rejected(status, error.message, code=error.code, hint=error.hint) from error

    return told


def _done(device: ManagedDevice) -> web.Response:
    return answer({"success": True, "device": asdict(device)})


def told_opening(opening: Opening | None) -> dict[str, Any] | None:
    """Why everybody is let in and until when, or None."""
    return None if opening is None else {"open": opening.kind, "until": opening.until}


def told_waiting(waiting: Waiting) -> dict[str, Any]:
    """A device that waits, without what only it and the hub know."""
    return {
        "id": waiting.device_id,
        "code": waiting.code,
        "address": waiting.address,
        "board": waiting.board,
        "firmware": waiting.firmware,
        "since": waiting.since,
    }


__all__ = ["DevicesApi", "told_opening", "told_waiting"]
