"""Ways to the hub beside the WebSocket: who offers them, and what becomes of them when integrations come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.errors import EntryError
from xiaozhi_hub.protocol.device_messages import DeviceMessage, Ping
from xiaozhi_hub.protocol.hub_messages import Alert, HubMessage
from xiaozhi_hub.protocol.ota import CheckIn, DeviceIdentity
from xiaozhi_hub.protocol.transport import Transport, Transports
from xiaozhi_hub.web.devices.ota import CONTRIBUTION_SECONDS
from xiaozhi_hub.web.devices.transports import STARTING_SECONDS, transport_offer
from xiaozhi_hub.web.requests.hosts import Address

DEVICE = "02:00:00:00:00:01"


class Pigeon(Transport):
    """Carries messages to the devices it knows."""

    def __init__(self, name: str = "pigeon", *knows: str) -> None:
        self.name = name
        self.knows = knows
        self.carried: list[tuple[str, HubMessage]] = []

    def answer(self, check_in: CheckIn, host: str) -> Mapping[str, Any]:
        return {"pigeon": {"loft": host}}

    def awake(self) -> tuple[str, ...]:
        return self.knows

    async def push(self, device_id: str, message: HubMessage) -> bool:
        if device_id in self.knows:
            self.carried.append((device_id, message))
        return device_id in self.knows


async def test_a_message_goes_by_the_way_that_reaches_the_device() -> None:
    ways, near, far = Transports(), Pigeon("near"), Pigeon("far", DEVICE)
    ways.add(near, "one")
    ways.add(far, "two")
    assert ways.awake() == (DEVICE,)
    assert await ways.push(DEVICE, Alert("Hub", "hello"))
    assert not await ways.push("somebody else", Alert("Hub", "hello"))
    assert (len(near.carried), len(far.carried)) == (0, 1)


async def test_a_way_goes_with_its_integration() -> None:
    ways = Transports()
    ways.add(Pigeon("pigeon", DEVICE), "one")
    ways.remove_source("one")
    assert ways.get("pigeon") is None and ways.awake() == ()
    assert not await ways.push(DEVICE, Alert("Hub", "hello"))


@pytest.mark.parametrize("name", ["pigeon", "websocket"])
async def test_a_name_is_given_once(name: str) -> None:
    ways = Transports()
    ways.add(Pigeon(), "one")
    with pytest.raises(EntryError, match="already"):
        ways.add(Pigeon(name), "two")


async def test_a_listener_that_fails_disturbs_nobody(caplog: pytest.LogCaptureFixture) -> None:
    ways, heard = Transports(), list[tuple[str, DeviceMessage]]()

    def broken(device_id: str, message: DeviceMessage) -> None:
        raise ValueError("no")

    ways.listen(broken)
    stop = ways.listen(lambda *what: heard.append(what))
    ways.heard(DEVICE, Ping())
    stop()
    ways.heard(DEVICE, Ping())
    assert heard == [(DEVICE, Ping())]
    assert "a listener failed" in caplog.text


async def offered(ways: Transports, choice: str, answer: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a device is told when the owner's choice for it is *choice*."""
    told = answer if answer is not None else {}
    offer = transport_offer(ways, lambda device_id: choice if device_id == DEVICE else "websocket")
    await offer(CheckIn(DeviceIdentity(DEVICE)), Address("hub.local", 8003), told)
    return told


async def test_a_device_is_told_of_the_way_that_was_chosen_for_it() -> None:
    ways = Transports()
    ways.add(Pigeon(), "one")
    assert await offered(ways, "pigeon") == {"pigeon": {"loft": "hub.local"}}
    assert await offered(ways, "websocket") == {}


async def test_a_device_that_boots_with_the_hub_is_told_of_a_way_that_is_just_starting() -> None:
    ways = Transports()
    async with TaskScope("boot") as scope:
        asking = scope.start(offered(ways, "pigeon"), name="ask")
        await asyncio.sleep(0)
        assert not asking.done()
        ways.add(Pigeon(), "one")
        async with asyncio.timeout(20):
            assert await asking == {"pigeon": {"loft": "hub.local"}}


async def test_a_way_that_nobody_brings_is_said_once_and_not_waited_for_long(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = Transports()
    offer = transport_offer(ways, lambda _: "pigeon")
    answer: dict[str, Any] = {}
    assert STARTING_SECONDS < CONTRIBUTION_SECONDS, "the answer goes without what takes longer"
    monkeypatch.setattr("xiaozhi_hub.web.devices.transports.STARTING_SECONDS", 0.05)
    async with asyncio.timeout(20):
        for _ in range(2):
            await offer(CheckIn(DeviceIdentity(DEVICE)), Address("hub.local", 8003), answer)
    assert answer == {}
    assert caplog.text.count("no integration brings the transport pigeon") == 1


async def test_who_is_not_let_in_yet_gets_no_credentials() -> None:
    ways = Transports()
    ways.add(Pigeon(), "one")
    assert await offered(ways, "pigeon", {"activation": {"code": "123456"}}) == {"activation": {"code": "123456"}}
