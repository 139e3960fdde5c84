"""``xiaozhi-hub firmware``: which firmware lies in the folder, which device may have it, and how far it has come."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.cli.options import add_again, add_config
from xiaozhi_hub.errors import HubError

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config
    from xiaozhi_hub.firmware.image import Image
    from xiaozhi_hub.firmware.shelf import Stocked
    from xiaozhi_hub.store.rollouts import Offer, Release, Rollouts


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("firmware", help="list and release firmware", description=__doc__)
    add_config(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="show the images, what is released, and what became of it")
    listing.add_argument("--json", action="store_true", help="print JSON")
    release = actions.add_parser("release", help="let devices have a version: one first, then the rest")
    release.add_argument("board")
    release.add_argument("version")
    first = release.add_mutually_exclusive_group()
    first.add_argument(
        "--canary", metavar="DEVICE", help="the device that tries it first (default: the first that comes)"
    )
    first.add_argument("--all", action="store_true", help="let all devices of the board have it at once")
    stop = actions.add_parser("stop", help="give a version to nobody any more")
    stop.add_argument("board")
    stop.add_argument("version")
    pin = actions.add_parser("pin", help="let a device have one version and no other")
    pin.add_argument("device", help="its MAC address")
    pin.add_argument("version", help="the version; hold for the one it has; none to take the pin out")
    add_again(actions.choices)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Work on the hub's database, beside a hub that may be running; it takes notice at the next check-in."""
    from xiaozhi_hub.core.config import load_config

    return asyncio.run(_run(load_config(args.config.expanduser().resolve()), args))


async def _run(config: Config, args: argparse.Namespace) -> int:
    from xiaozhi_hub.firmware.shelf import firmware_shelf
    from xiaozhi_hub.store.database import Database
    from xiaozhi_hub.store.rollouts import Rollouts

    shelf = firmware_shelf(config.config_dir / "firmware")
    database = Database(config.data_dir / "hub.db")
    try:
        await database.open()
        stock, store = await shelf.stock(), Rollouts(database)
        if args.action == "list":
            await _list(store, stock, config, as_json=args.json)
        elif args.action == "release":
            await _release(store, stock, args)
        elif args.action == "stop":
            await _stop(store, args)
        else:
            await _pin(store, config, args)
        return 0
    finally:
        await database.close()
        await shelf.close()


async def _list(store: Rollouts, stock: Sequence[Stocked[Image]], config: Config, *, as_json: bool) -> None:
    releases, offers = await store.releases(), await store.offers()
    pins = await store.pins() | {id: device.firmware for id, device in config.devices.items() if device.firmware}
    if as_json:
        facts = {
            "images": [_image_facts(item) for item in stock],
            "releases": [_release_facts(release) for release in releases],
            "offers": [_offer_facts(offer) for offer in offers],
            "pins": pins,
        }
        print(json.dumps(facts, ensure_ascii=False, indent=1))
        return
    by_version = {(release.board, release.version): release for release in releases}
    if not stock:
        print(f"There is no firmware in {config.config_dir / 'firmware'}: put images there as <board>/<version>.bin")
    for item in stock:
        image = item.content
        about = f"{image.chip}, {image.bytes / 2**20:.1f} MiB" if image is not None else f"unusable: {item.problem}"
        print(f"{item.board}  {item.name}  {about}  {_state(by_version.pop((item.board, item.name), None))}")
    for release in by_version.values():
        print(f"{release.board}  {release.version}  the file is gone  {_state(release)}")
    for offer in offers:
        when = datetime.fromtimestamp(offer.offered_at).strftime("%m-%d %H:%M")
        print(f"  {when}  {offer.device_id}  {offer.from_version} → {offer.version}  {_progress(offer)}")
    for device, version in sorted(pins.items()):
        print(f"  pinned  {device}  {version}")


async def _release(store: Rollouts, stock: Sequence[Stocked[Image]], args: argparse.Namespace) -> None:
    from xiaozhi_hub.store.rollouts import ReleaseState

    item = next((item for item in stock if (item.board, item.name) == (args.board, args.version)), None)
    if item is None:
        there = ", ".join(f"{item.board} {item.name}" for item in stock) or "none"
        raise HubError(f"There is no image {args.board}/{args.version}.bin.", hint=f"There are: {there}.")
    if item.content is None:
        raise HubError(f"{item.path} cannot be given to a device: {item.problem}.")
    canary = _device(args.canary) if args.canary else ""
    state = ReleaseState.RELEASED if args.all else ReleaseState.CANARY
    await store.release(args.board, args.version, state, time.time(), canary=canary)
    who = (
        "every device of the board"
        if args.all
        else f"{canary or 'the first device of the board that comes'}, then the rest"
    )
    print(f"{args.board} {args.version} is offered at the next start to {who}.")


async def _stop(store: Rollouts, args: argparse.Namespace) -> None:
    from xiaozhi_hub.store.rollouts import ReleaseState

    if all((release.board, release.version) != (args.board, args.version) for release in await store.releases()):
        raise HubError(f"{args.board} {args.version} was not released.")
    await store.release(args.board, args.version, ReleaseState.STOPPED, time.time(), reason="stopped by hand")
    print(f"{args.board} {args.version} is given to nobody any more.")


async def _pin(store: Rollouts, config: Config, args: argparse.Namespace) -> None:
    from xiaozhi_hub.firmware.versions import is_sendable
    from xiaozhi_hub.store.rollouts import HOLD

    device = _device(args.device)
    written = config.devices.get(device)
    if written is not None and written.firmware:
        place = config.place(("devices", device, "firmware"))
        raise HubError(f"{device} is pinned to {written.firmware} in {place}.", hint="Change it there.")
    version = None if args.version == "none" else args.version
    if version not in (None, HOLD) and not is_sendable(version):
        raise HubError(
            f"{version} is no firmware version.", hint="It is made of whole numbers and dots, such as 2.4.2."
        )
    await store.pin(device, version)
    told = {None: "gets what is released", HOLD: "keeps the version it has"}
    print(f"{device} {told.get(version, f'gets version {version} and no other')}.")


def _device(given: str) -> str:
    return given.strip().lower().replace("-", ":")


def _state(release: Release | None) -> str:
    if release is None:
        return "not released"
    if release.state == "canary":
        return f"tried first by {release.canary or 'the first device that comes'}"
    return f"{release.state}{f': {release.reason}' if release.reason else ''}"


def _progress(offer: Offer) -> str:
    if offer.result:
        return str(offer.result)
    if offer.delivered_at is not None:
        return "delivered; the device has not come back yet"
    return "being fetched" if offer.fetched_at is not None else f"offered {offer.times} ×"


def _image_facts(item: Stocked[Image]) -> dict[str, Any]:
    image = item.content
    facts: dict[str, Any] = {"board": item.board, "version": item.name, "problem": item.problem}
    if image is not None:
        facts |= {"chip": image.chip, "project": image.project, "bytes": image.bytes, "sha256": image.sha256}
    return facts


def _release_facts(release: Release) -> dict[str, Any]:
    return {
        "board": release.board,
        "version": release.version,
        "state": str(release.state),
        "canary": release.canary,
        "reason": release.reason,
        "changed_at": release.changed_at,
    }


def _offer_facts(offer: Offer) -> dict[str, Any]:
    return {
        "device": offer.device_id,
        "version": offer.version,
        "from": offer.from_version,
        "offered_at": offer.offered_at,
        "progress": _progress(offer),
    }
