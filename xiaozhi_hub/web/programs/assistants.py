"""Who answers on which device, for programs on this machine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from xiaozhi_hub.devices.management import LONGEST_NAME, DeviceManagement, ManagedDevice
from xiaozhi_hub.devices.pairing.admission import PairingError
from xiaozhi_hub.dialog.assistants.assistants import DEFAULT, Assistant, Assistants
from xiaozhi_hub.dialog.assistants.switching import Switching
from xiaozhi_hub.web.programs.local import answer, local_only
from xiaozhi_hub.web.requests.body import read_json, text_field
from xiaozhi_hub.web.requests.failures import Rejected


class AssistantsApi:
    """``GET /api/assistants`` and ``POST /api/assistants/choose``."""

    def __init__(
        self,
        assistants: Assistants,
        switching: Switching,
        management: Callable[[], Awaitable[DeviceManagement]],
    ) -> None:
        self._assistants = assistants
        self._switching = switching
        self._management = management

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/api/assistants", local_only(self._list)),
            web.post("/api/assistants/choose", local_only(self._choose)),
        ]

    async def _list(self, _: web.Request) -> web.Response:
        devices = (await (await self._management()).overview()).devices
        return answer(
            {
                "success": True,
                "assistants": [_told(assistant) for assistant in self._assistants.all()],
                "devices": [self._told_device(device) for device in devices],
            }
        )

    async def _choose(self, request: web.Request) -> web.Response:
        values = await read_json(request)
        wanted = text_field(values, "device", most=LONGEST_NAME, required=True)
        called = text_field(values, "assistant", most=LONGEST_NAME) or DEFAULT
        assistant = self._assistants.by_name(called)
        if assistant is None:
            there = ", ".join(each.id for each in self._assistants.all())
            raise Rejected(
                404, f"There is no assistant {called}.", code="assistant-unknown", hint=f"There are: {there}."
            )
        try:
            device = await (await self._management()).find(wanted)
        except PairingError as error:
            raise Rejected(404, error.message, code=error.code, hint=error.hint) from error
        await self._switching.switch(device.id, assistant.id)
        return answer({"success": True, "device": self._told_device(device)})

    def _told_device(self, device: ManagedDevice) -> dict[str, Any]:
        return {
            "id": device.id,
            "name": device.name,
            "area": device.area,
            "assistant": self._assistants.of(device.id, device.area).id,
            "chosen": device.id in self._assistants.chosen,
        }


def _told(assistant: Assistant) -> dict[str, Any]:
    return {
        "id": assistant.id,
        "name": assistant.called,
        "language": assistant.language,
        "voice": assistant.voice,
        "speed": assistant.speed,
        "asr": assistant.asr,
        "llm": assistant.llm,
        "tts": assistant.tts,
        "memory": assistant.memory,
    }


__all__ = ["AssistantsApi"]
