"""Who may have which firmware, and when: one device first, then the rest, and nobody any more once it went wrong.

`decide` is the whole policy, as a function of values. `Rollout` asks it at every check-in and remembers what it said.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from xiaozhi_hub.firmware.image import Image
from xiaozhi_hub.firmware.shelf import Shelf, Stocked
from xiaozhi_hub.firmware.versions import is_newer, numbers_of
from xiaozhi_hub.protocol.ota import CheckIn
from xiaozhi_hub.store.rollouts import Known, Offer, Release, ReleaseState, Result, Rollouts, new_ticket

log = logging.getLogger(__name__)
MOST_TIMES = 3
"""How often a device is offered what it does not even begin to fetch. An answer may get lost on the way to it."""
STOCK_PROJECT = "xiaozhi"
_AT_ONCE = 32
"""Questions to the store; after a power cut all devices come at the same moment."""


@dataclass(frozen=True, slots=True)
class Asker:
    """What counts of a device that checks in."""

    device_id: str
    board: str
    chip: str
    version: str
    project: str = STOCK_PROJECT


@dataclass(frozen=True, slots=True)
class Decision:
    """What to offer, and what changes."""

    offer: Offer | None = None
    changes: tuple[Release | Offer, ...] = ()
    """To be remembered; the offer is among them."""
    stopped: tuple[Release, ...] = ()
    finished: tuple[Offer, ...] = field(default=())
    """Offers whose end became known now."""


def decide(asker: Asker, images: Sequence[Image], known: Known, pin: str, now: float, *, room: bool = True) -> Decision:
    """Judge what was offered to *asker* before, and choose what to offer now.

    *images* are those of its board; *pin* is a version, `HOLD` (which is none), or empty; without *room* nothing new is offered.
    """
    releases = {release.version: release for release in known.releases}
    changed: dict[str, Release] = {}
    finished: list[Offer] = []
    waiting: dict[str, Offer] = {}
    for offer in known.offers:
        if offer.result is not Result.OPEN:
            continue
        judged = _judge(offer, asker)
        release = releases.get(offer.version)
        if judged is Result.OPEN:
            waiting[offer.version] = offer
            continue
        finished.append(replace(offer, result=judged))
        if release is None or release.board != offer.board:
            continue
        runs_it = numbers_of(asker.version) == numbers_of(offer.version)  # and not a later one, from elsewhere
        if runs_it and release.state is ReleaseState.CANARY and release.canary == asker.device_id:
            changed[release.version] = replace(release, state=ReleaseState.RELEASED, changed_at=now)
        elif judged is Result.FAILED and release.state is not ReleaseState.STOPPED:
            changed[release.version] = replace(
                release, state=ReleaseState.STOPPED, reason=_why(offer, asker), changed_at=now
            )
    releases.update(changed)
    stopped = tuple(release for release in changed.values() if release.state is ReleaseState.STOPPED)
    failed = {offer.version for offer in (*known.offers, *finished) if offer.result is Result.FAILED}
    offered: Offer | None = None
    if room:
        offered = _choose(asker, images, releases, waiting, failed, pin, now)
    if offered is not None and not pin:
        release = releases[offered.version]
        if release.state is ReleaseState.CANARY and not release.canary:
            changed[release.version] = replace(release, canary=asker.device_id, changed_at=now)
    changes: list[Release | Offer] = [*changed.values(), *finished]
    if offered is not None:
        changes.append(offered)
    return Decision(offered, tuple(changes), stopped, tuple(finished))


def _judge(offer: Offer, asker: Asker) -> Result:
    if numbers_of(asker.version) is None:
        return Result.OPEN  # it does not say what it runs
    if not is_newer(offer.version, asker.version):
        return Result.UPDATED
    # It came back as it was. What it never began to fetch may be an answer that got lost.
    if offer.fetched_at is None and offer.times < MOST_TIMES:
        return Result.OPEN
    return Result.FAILED


def _why(offer: Offer, asker: Asker) -> str:
    if offer.delivered_at is not None:
        did = "it had received the whole file"
    elif offer.fetched_at is not None:
        did = "it had received only a part of the file"
    else:
        did = f"it was offered the file {offer.times} times and never fetched it"
    return f"{asker.device_id} came back with {asker.version}: {did}"


def _choose(
    asker: Asker,
    images: Sequence[Image],
    releases: Mapping[str, Release],
    waiting: Mapping[str, Offer],
    failed: set[str],
    pin: str,
    now: float,
) -> Offer | None:
    allowed = [
        image.version.removeprefix("v")
        for image in images
        if image.project == asker.project and image.chip == asker.chip
    ]
    allowed = [
        version
        for version in allowed
        if is_newer(version, asker.version)
        and version not in failed
        and (version == pin if pin else _released(releases.get(version), asker.device_id))
    ]
    if not allowed:
        return None
    version = max(allowed, key=lambda each: numbers_of(each) or ())
    before = waiting.get(version)
    if before is not None:
        return replace(before, offered_at=now, times=before.times + 1, from_version=asker.version)
    return Offer(asker.device_id, asker.board, version, asker.version, new_ticket(), now)


def _released(release: Release | None, device_id: str) -> bool:
    if release is None or release.state is ReleaseState.STOPPED:
        return False
    return release.state is ReleaseState.RELEASED or release.canary in ("", device_id)


class Rollout:
    """Asks and remembers. *pins* are those of the configuration, which win over those in the store.

    *on_change* is called with a board and its release that has just been stopped, or with None when the board gets firmware.
    """

    def __init__(
        self,
        shelf: Shelf[Image],
        store: Rollouts,
        pins: Mapping[str, str],
        on_change: Callable[[str, Release | None], None] = lambda board, stopped: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._shelf = shelf
        self._store = store
        self._pins = pins
        self._on_change = on_change
        self._asking = asyncio.Semaphore(_AT_ONCE)
        self._now = now

    def configure(self, pins: Mapping[str, str]) -> None:
        """The owner has pinned other devices, or to other versions."""
        self._pins = pins

    async def offer(self, check_in: CheckIn, *, room: bool = True) -> Offer | None:
        """Take note of what the device runs now; return what it should install, if anything."""
        asker = Asker(
            check_in.device.id, check_in.board, check_in.chip, check_in.firmware, check_in.project or STOCK_PROJECT
        )
        images = images_for(await self._shelf.stock(), asker.board)
        if not images:
            return None  # as in most homes: nothing to look up, however many devices start at once

        def think(known: Known) -> tuple[Decision, Sequence[Release | Offer]]:
            pin = self._pins.get(asker.device_id) or known.pin
            decision = decide(asker, images, known, pin, self._now(), room=room)
            return decision, decision.changes

        # Nearly always nothing is to be written: then nobody waits for the disk.
        async with self._asking:
            decision, changes = think(await self._store.known(asker.device_id, asker.board))
            if changes:
                decision = await self._store.change(asker.device_id, asker.board, think)
        for offer in decision.finished:
            log.info("firmware %s on %s: %s", offer.version, asker.device_id, offer.result)
        for release in decision.stopped:
            log.warning("firmware %s for %s is stopped: %s", release.version, release.board, release.reason)
            self._on_change(release.board, release)
        if decision.offer is not None:
            self._on_change(asker.board, None)
        return decision.offer

    async def file(self, ticket: str) -> tuple[Offer, Stocked[Image]] | None:
        """What may be fetched with *ticket*; None when the offer does not stand (any more)."""
        offer = await self._store.offer(ticket)
        if offer is None or offer.result is not Result.OPEN:
            return None
        known = await self._store.known(offer.device_id, offer.board)
        pin = self._pins.get(offer.device_id) or known.pin
        release = next((each for each in known.releases if each.version == offer.version), None)
        if not (pin == offer.version if pin else _released(release, offer.device_id)):
            return None
        item = await self._shelf.find(offer.board, offer.version)
        return (offer, item) if item is not None else None

    async def fetched(self, offer: Offer) -> None:
        await self._store.fetching(offer.ticket, self._now(), delivered=False)

    async def delivered(self, offer: Offer) -> None:
        await self._store.fetching(offer.ticket, self._now(), delivered=True)

    async def turned_away(self, offer: Offer) -> None:
        """The hub could not serve the download: that is not the device's failure."""
        await self._store.turned_away(offer.ticket)


def images_for(stock: Sequence[Stocked[Image]], board: str) -> list[Image]:
    return [item.content for item in stock if item.board == board and item.content is not None]


__all__ = ["Asker", "Decision", "Rollout", "decide", "images_for"]
