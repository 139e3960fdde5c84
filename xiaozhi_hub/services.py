"""What devices are served beside the conversation: new firmware, looking at photos, and the way to a hub that has moved.

Opened when the hub has its store and all its parts; until then a device is answered without them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from xiaozhi_hub.core.config import Config
from xiaozhi_hub.core.flow import TurnInfo
from xiaozhi_hub.core.forgetting import Forget
from xiaozhi_hub.core.i18n import Texts
from xiaozhi_hub.devices.abilities.mcp import VisionOffer
from xiaozhi_hub.devices.sessions.registry import DeviceRegistry
from xiaozhi_hub.dialog.vision import Eyes
from xiaozhi_hub.engines.registry import EngineRegistry
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.firmware.rollout import Rollout
from xiaozhi_hub.firmware.shelf import assets_shelf, firmware_shelf
from xiaozhi_hub.front import Front
from xiaozhi_hub.protocol.link import Link
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.devices import Devices
from xiaozhi_hub.store.moves import Moves
from xiaozhi_hub.store.photos import Photos
from xiaozhi_hub.store.rollouts import Release, Rollouts
from xiaozhi_hub.web.devices.firmware import FirmwareDoor
from xiaozhi_hub.web.devices.ota import Contribution
from xiaozhi_hub.web.devices.vision import Asked, VisionDoor, VisionParts


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the hub lends."""

    config: Config
    texts: Texts
    engines: EngineRegistry
    devices: Callable[[], DeviceRegistry]
    front: Front
    start: Callable[[Coroutine[Any, Any, None], str], object]
    """Runs something under a name until it ends or the hub does."""
    problem: Callable[[str, str, str], None]
    """Shows a problem: code, message, hint."""
    solved: Callable[[str], object]
    nobody: str
    """The id of a device that is none: the hub's own self-test."""


class DeviceServices:
    """Holds the parts, and what they need of the store once it is open."""

    def __init__(self, hub: Surroundings) -> None:
        self._hub = hub
        self._config = config = hub.config
        self._images = firmware_shelf(config.config_dir / "firmware")
        self._rollout: Rollout | None = None
        self._photos: Photos | None = None
        self._moves: Moves | None = None
        self._known: Devices | None = None
        self.firmware = FirmwareDoor(
            self._images,
            assets_shelf(config.config_dir / "assets"),
            lambda: self._rollout,
            most_at_once=config.limits.downloads,
        )
        self.vision = VisionDoor(
            VisionParts(
                texts=hub.texts,
                engines=lambda: hub.engines.visions(self._config.voice.vision),
                language_of=lambda id: hub.devices().profile(id).language,
                is_open=self._is_open,
                keep=self._keep_photo,
                reached=hub.front.reached,
                own_port=lambda: hub.front.port,
                public_host=config.http.public_host,
            )
        )
        self.eyes = Eyes(hub.texts, lambda: hub.engines.visions(self._config.voice.vision), self._keep_picture)
        self._forwarding = hub.front.forwarding
        if self._forwarding is not None:
            self._forwarding.told = self._told_of_move

    def offer_vision(self, link: Link) -> VisionOffer | None:
        """Where this device may ask about its photos; None while nothing here can look at them."""
        offer = self.vision.offer(link.device, link.session_id)
        return VisionOffer(*offer) if offer is not None else None

    def routes(self) -> list[web.RouteDef]:
        return [*self.firmware.routes(), *self.vision.routes()]

    def contributions(self) -> tuple[Contribution, ...]:
        """What is added to the answers to check-ins."""
        return (self.firmware.contribute,)

    @property
    def photos(self) -> Photos:
        """The photos that are kept; there once the store is open."""
        assert self._photos is not None, "the store is not open"
        return self._photos

    async def open(self, database: Database, folder: Path) -> None:
        """Begin to remember: the store is there."""
        config = self._config
        history = config.history
        self._photos = Photos(
            database, folder / "photos", keep=history.enabled and history.photos, keep_days=history.keep_days
        )
        self._known, self._moves = Devices(database), Moves(database)
        self._rollout = Rollout(self._images, Rollouts(database), _pins(config), self._firmware_changed)
        self._hub.start(self._look_through(), "firmware")
        if self._forwarding is not None:
            await self._tell_of_move()

    def configure(self, config: Config) -> None:
        """The owner has set something else: other firmware for devices, eyes, photos to keep."""
        self._config = config
        history = config.history
        self.photos.configure(keep=history.enabled and history.photos, keep_days=history.keep_days)
        if self._rollout is not None:
            self._rollout.configure(_pins(config))

    async def _look_through(self) -> None:
        """Check what lies in the folder before devices ask: reading large files takes its time."""
        await self._images.stock()

    async def apply_retention(self, now: float) -> None:
        """Forget what is older than the owner wishes."""
        if self._photos is not None:
            await self._photos.apply_retention(now)

    async def forget(self, what: Forget) -> None:
        """Delete photos; those that are too old go with `apply_retention`."""
        if self._photos is None or what.before is not None:
            return
        if what.devices is None:
            await self._photos.forget_all()
        else:
            for device_id in what.devices:
                await self._photos.forget_device(device_id)

    async def close(self) -> None:
        await self.firmware.close()
        await self.vision.close()

    # -- firmware -------------------------------------------------------------------------------------------------

    def _firmware_changed(self, board: str, stopped: Release | None) -> None:
        if stopped is None:
            self._hub.solved(f"firmware-{board}")
            return
        self._hub.problem(
            f"firmware-{board}",
            f"Firmware {stopped.version} for {board} is not given to devices any more: {stopped.reason}.",
            f"See: xiaozhi-hub firmware list. To try again: xiaozhi-hub firmware release {board} {stopped.version}",
        )

    # -- photos ---------------------------------------------------------------------------------------------------

    def _is_open(self, device_id: str, session_id: str) -> bool:
        session = self._hub.devices().sessions.get(device_id)
        return session is not None and session.link.session_id == session_id

    async def _keep_photo(self, asked: Asked) -> None:
        session = self._hub.devices().sessions.get(asked.device_id)
        turn_id = session.turn_id if session is not None and self._is_open(asked.device_id, asked.session_id) else ""
        await self.photos.add(
            asked.jpeg,
            turn_id=turn_id,
            session_id=asked.session_id,
            device_id=asked.device_id,
            question=asked.question,
            answer=asked.answer,
            at=time.time(),
        )

    async def _keep_picture(self, turn: TurnInfo, jpeg: bytes, question: str, answer: str) -> None:
        await self._keep_photo(Asked(turn.device_id, turn.session_id, jpeg, question, answer))

    # -- moving ---------------------------------------------------------------------------------------------------

    def _told_of_move(self, device_id: str, at: float) -> None:
        # Beside the answer: the device does not wait for the disk.
        if device_id != self._hub.nobody:
            self._hub.start(self._note_move(device_id, at), "moved")

    async def _note_move(self, device_id: str, at: float) -> None:
        if self._moves is None:
            return  # the hub is still starting; the device is listed after its next start
        try:
            await self._moves.told(device_id, self._config.http.moved_to, at)
        except StoreError as error:
            self._hub.problem("history", f"Devices are not remembered: {error.message}", error.hint)
        await self._tell_of_move()

    async def _tell_of_move(self) -> None:
        """Say on the page who knows of the new address and who does not."""
        if self._moves is None or self._known is None:
            return
        to, names = self._config.http.moved_to, self._config.devices
        try:
            told = await self._moves.who(to)
            known = {device.id for device in await self._known.all()} | set(told)
        except StoreError:
            return
        waiting = [names[id].name if id in names else id for id in sorted(known - set(told))]
        if waiting:
            hint = f"{len(told)} of {len(known)} devices know. Restart the others: {', '.join(waiting)}."
        else:
            hint = f"All {len(known)} devices know."
        self._hub.problem("moved", f"This hub has moved to {to}.", hint)


def _pins(config: Config) -> dict[str, str]:
    return {id: device.firmware for id, device in config.devices.items() if device.firmware}


__all__ = ["DeviceServices", "Surroundings"]
