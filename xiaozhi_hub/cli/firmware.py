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
from xiaozhi_hub.cli.words import Words, words_for
from xiaozhi_hub.errors import HubError

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config
    from xiaozhi_hub.firmware.image import Image
    from xiaozhi_hub.firmware.shelf import Stocked
    from xiaozhi_hub.store.rollouts import Offer, Release, Rollouts


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("firmware", help="cli.commands.firmware", description="cli.firmware.about")
    add_config(parser)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="cli.firmware.help.list")
    listing.add_argument("--json", action="store_true", help="cli.options.print_json")
    release = actions.add_parser("release", help="cli.firmware.help.release")
    release.add_argument("board", help="cli.firmware.help.board")
    release.add_argument("version", help="cli.firmware.help.version")
    first = release.add_mutually_exclusive_group()
    first.add_argument("--canary", metavar="DEVICE", help="cli.firmware.help.canary")
    first.add_argument("--all", action="store_true", help="cli.firmware.help.all")
    stop = actions.add_parser("stop", help="cli.firmware.help.stop")
    stop.add_argument("board", help="cli.firmware.help.board")
    stop.add_argument("version", help="cli.firmware.help.version")
    pin = actions.add_parser("pin", help="cli.firmware.help.pin")
    pin.add_argument("device", help="cli.firmware.help.device")
    pin.add_argument("version", help="cli.firmware.help.pin_version")
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

    words = words_for(config)
    shelf = firmware_shelf(config.config_dir / "firmware")
    database = Database(config.data_dir / "hub.db")
    try:
        await database.open()
        stock, store = await shelf.stock(), Rollouts(database)
        if args.action == "list":
            await _list(store, stock, config, words, as_json=args.json)
        elif args.action == "release":
            await _release(store, stock, args, words)
        elif args.action == "stop":
            await _stop(store, args, words)
        else:
            await _pin(store, config, args, words)
        return 0
    finally:
        await database.close()
        await shelf.close()


async def _list(
    store: Rollouts, stock: Sequence[Stocked[Image]], config: Config, words: Words, *, as_json: bool
) -> None:
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
        print(words("cli.firmware.empty", folder=config.config_dir / "firmware"))
    for item in stock:
        image = item.content
        about = words("cli.firmware.unusable", problem=item.problem)
        if image is not None:
            about = f"{image.chip}, {image.bytes / 2**20:.1f} MiB"
        print(f"{item.board}  {item.name}  {about}  {_state(by_version.pop((item.board, item.name), None), words)}")
    for release in by_version.values():
        print(f"{release.board}  {release.version}  {words('cli.firmware.file_gone')}  {_state(release, words)}")
    for offer in offers:
        when = datetime.fromtimestamp(offer.offered_at).strftime("%m-%d %H:%M")
        print(f"  {when}  {offer.device_id}  {offer.from_version} → {offer.version}  {_progress(offer, words)}")
    for device, version in sorted(pins.items()):
        print(f"  {words('cli.firmware.pinned')}  {device}  {version}")


async def _release(store: Rollouts, stock: Sequence[Stocked[Image]], args: argparse.Namespace, words: Words) -> None:
    from xiaozhi_hub.store.rollouts import ReleaseState

    item = next((item for item in stock if (item.board, item.name) == (args.board, args.version)), None)
    if item is None:
        there = words.joined(f"{item.board} {item.name}" for item in stock) or words("cli.firmware.none")
        raise HubError(
            words("cli.firmware.no_image", board=args.board, version=args.version),
            hint=words("cli.firmware.no_image_do", names=there),
        )
    if item.content is None:
        raise HubError(words("cli.firmware.bad_image", path=item.path, problem=item.problem))
    canary = _device(args.canary) if args.canary else ""
    state = ReleaseState.RELEASED if args.all else ReleaseState.CANARY
    await store.release(args.board, args.version, state, time.time(), canary=canary)
    whom = "all" if args.all else "one" if canary else "first"
    print(words(f"cli.firmware.to_{whom}", board=args.board, version=args.version, device=canary))


async def _stop(store: Rollouts, args: argparse.Namespace, words: Words) -> None:
    from xiaozhi_hub.store.rollouts import ReleaseState

    if all((release.board, release.version) != (args.board, args.version) for release in await store.releases()):
        raise HubError(words("cli.firmware.not_released", board=args.board, version=args.version))
    await store.release(
        args.board, args.version, ReleaseState.STOPPED, time.time(), reason=words("cli.firmware.by_hand")
    )
    print(words("cli.firmware.stopped", board=args.board, version=args.version))


async def _pin(store: Rollouts, config: Config, args: argparse.Namespace, words: Words) -> None:
    from xiaozhi_hub.firmware.versions import is_sendable
    from xiaozhi_hub.store.rollouts import HOLD

    device = _device(args.device)
    written = config.devices.get(device)
    if written is not None and written.firmware:
        place = config.place(("devices", device, "firmware"))
        raise HubError(
            words("cli.firmware.pinned_in", device=device, version=written.firmware, place=place),
            hint=words("cli.firmware.pinned_in_do"),
        )
    version = None if args.version == "none" else args.version
    if version not in (None, HOLD) and not is_sendable(version):
        raise HubError(words("cli.firmware.no_version", version=version), hint=words("cli.firmware.no_version_do"))
    await store.pin(device, version)
    told = {None: "gets_released", HOLD: "keeps"}.get(version, "gets")
    print(words(f"cli.firmware.{told}", device=device, version=version))


def _device(given: str) -> str:
    return given.strip().lower().replace("-", ":")


def _state(release: Release | None, words: Words) -> str:
    if release is None:
        return words("cli.firmware.unreleased")
    if release.state == "canary":
        key = "cli.firmware.first_by" if release.canary else "cli.firmware.first_comer"
        return words(key, device=release.canary)
    state = words.named("cli.firmware.state", str(release.state))
    return words("cli.firmware.because", state=state, reason=release.reason) if release.reason else state


def _progress(offer: Offer, words: Words) -> str:
    if offer.result:
        return words.named("cli.firmware.result", str(offer.result))
    if offer.delivered_at is not None:
        return words("cli.firmware.delivered")
    return words("cli.firmware.fetching" if offer.fetched_at is not None else "cli.firmware.offered", times=offer.times)


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
        "progress": _progress(offer, Words("en")),  # programs read it
    }
