"""The first part of the hub, which is open while the rest is still being fetched: the ports, the store, and who may come in.

A device that boots with the hub asks where to connect, and waits longer after every failed try (firmware application.cc). So all
that its answer needs is here, and nothing else: what this module imports, every start waits for. No audio, no engines, no
dialogue; a test keeps it so.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

from xiaozhi_hub.core.bus import Bus
from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.devices.acquaintance import Acquaintance
from xiaozhi_hub.devices.pairing.pairing import Pairing
from xiaozhi_hub.devices.pairing.tickets import Tickets
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.front import Front, FrontParts
from xiaozhi_hub.problems import Problems
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.protocol.transport import Transports
from xiaozhi_hub.storage import Storage
from xiaozhi_hub.store.devices import Device, Devices
from xiaozhi_hub.store.grants import Grants

SELF_TEST = "self-test"
"""The device id under which the hub talks with itself; nothing of it is remembered."""


class Threshold:
    """``async with Threshold(config) as threshold: async with Hub(config, threshold=threshold) as hub: …``

    Check-ins are answered from the moment it is entered; `HubError` when a port cannot be had.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        self.afterwards = AsyncExitStack()
        """What is closed when nobody can come in any more and nothing runs in *scope*."""
        self.scope = TaskScope("hub")
        self.bus = Bus()
        self.texts = Texts()
        self.problems = Problems()
        self.transports = Transports()
        self.storage = Storage(config.data_dir, self.problems)
        self.acquaintance = Acquaintance(self.scope, self.problems.show)
        self.known: tuple[Device, ...] = ()
        """The devices that have been here before."""
        shares = len(config.http.websocket_urls) > 0 and bool(config.server.auth_key)
        self.pairing = Pairing(config.pairing, self.bus, tickets=Tickets(config.server.auth_key) if shares else None)
        self.self_test_client_id = self.pairing.own_device(SELF_TEST)
        self.front = Front(FrontParts(config, self.texts, self.transports, self.pairing, self._check_in))

    async def __aenter__(self) -> Threshold:
        try:
            await self._open()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _open(self) -> None:
        enter = self._stack.push_async_callback
        enter(self.afterwards.aclose)
        enter(self.scope.close)
        # The ports open before the store, and close before it too: who is answered to the last is answered in full.
        enter(self.storage.close)
        enter(self.pairing.close)
        await self._stack.enter_async_context(self.front.listening())
        await self.storage.open()
        self.known = await self.acquaintance.load(Devices(self.storage.database))
        if len(self._config.http.websocket_urls) > 1 and not self._config.server.auth_key:
            self.problems.show(
                "sharing",
                "Devices are sent to other hubs, which cannot check their tokens.",
                "Set server: auth_key: to the same words on all of them.",
            )
        try:
            await self.pairing.load(Grants(self.storage.database))
        except StoreError as error:  # then nobody comes in
            self.problems.show("pairing", f"Which devices may come in is not known: {error.message}.", error.hint)

    def _check_in(self, check_in: CheckIn) -> None:
        """A device has asked for its configuration: remember it."""
        if not self.pairing.is_own(check_in.device.id) and self.pairing.is_kept(check_in.device):
            self.acquaintance.met(check_in)


__all__ = ["SELF_TEST", "Threshold"]
