"""``xiaozhi-hub device``: be a XiaoZhi device. Ask the hub something and hear its answer, in real time."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import shutil
import sys
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from xiaozhi_hub.audio.ogg import write_ogg
from xiaozhi_hub.audio.opus import decode_all
from xiaozhi_hub.audio.pcm import read_wav, write_wav
from xiaozhi_hub.cli.done import what_was_done
from xiaozhi_hub.cli.voice import say
from xiaozhi_hub.cli.waterfall import device_spans, draw
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.discovery import find_hubs
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing import FakeDevice, NoAnswer, TurnResult

DISCOVER_SECONDS = 5.0
APPROVAL_SECONDS = 300.0
"""How long a person has to approve this device, where the hub asks for that."""
PLAYERS = (("pw-play",), ("paplay",), ("aplay", "-q"), ("afplay",), ("ffplay", "-nodisp", "-autoexit", "-v", "error"))
"""Programs that play a WAV file; the first one that is installed does."""

Say = Callable[[str, str], Awaitable[PcmChunk]]
"""Speaks a text in a locale such as ``en-US``."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "device",
        help="be a device: ask the hub something and hear its answer",
        description="Be a complete XiaoZhi device: find the hub, check in, connect, ask in real time, hear the answer.",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--discover", action="store_true", help="find the hub on the local network")
    where.add_argument("--ota", metavar="URL", help="the OTA address that the hub shows at its start")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wav", type=Path, metavar="FILE", help="ask with a recording")
    what.add_argument("--say", metavar="TEXT", help="ask with a synthesised voice")
    what.add_argument("--text", metavar="TEXT", help="ask with a text, without any sound")
    parser.add_argument(
        "--mode",
        choices=("auto", "manual", "realtime"),
        default="auto",
        help="auto: the hub finds the end of the question (default); manual: push-to-talk; realtime: full duplex",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each answer")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the answer's sound as Ogg Opus")
    parser.add_argument("--play", action="store_true", help="play the answer's sound")
    parser.add_argument(
        "--stay", type=float, default=0.0, metavar="SECONDS", help="stay and hear what else comes, such as timers"
    )
    parser.add_argument("--device-id", metavar="MAC", help="which device to be (default: one of this machine)")
    parser.add_argument("--language", default="en-US", metavar="LOCALE", help="the device's language (default: en-US)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, say: Say = say) -> int:
    """Ask, and show the answer. *say* is the voice for ``--say``."""
    return asyncio.run(_talk(args, say))


async def _talk(args: argparse.Namespace, say: Say) -> int:
    question = await _question(args, say)
    ota_url = args.ota if args.ota is not None else await _discover()
    device_id = args.device_id or own_id()
    async with FakeDevice(
        ota_url=ota_url,
        device_id=device_id,
        client_id=own_client_id(),
        language=args.language,
        mode=args.mode,
    ) as device:
        if device.activation is not None:
            print(
                f"waits   {device.activation.message}  (xiaozhi-hub devices approve {device.activation.code})",
                file=sys.stderr,
            )
            await device.activated(APPROVAL_SECONDS)
        show = _Show(args, lambda heard: what_was_done(ota_url, device_id, device.session_id, heard))
        try:
            asked = device.ask(question) if question is not None else device.ask_text(args.text)
            await show.answer(await asked)
        except NoAnswer as error:
            await show.answer(error.result, error.message)
            return 1
        ends_at = asyncio.get_running_loop().time() + args.stay
        while (left := ends_at - asyncio.get_running_loop().time()) > 0:
            try:
                await show.answer(await device.next_answer(left))
            except NoAnswer:
                break
    return 0


async def _question(args: argparse.Namespace, say: Say) -> PcmChunk | None:
    """The sound to ask with; None asks with a text."""
    if args.wav is not None:
        try:
            return read_wav(args.wav.read_bytes())
        except OSError as error:
            raise HubError(f"{args.wav} cannot be read: {error.strerror}.") from error
    if args.say is not None:
        return await say(args.say, args.language)
    return None


async def _discover() -> str:
    hubs = await find_hubs(DISCOVER_SECONDS, only_first=True)
    if not hubs:
        raise HubError(
            f"No hub answered on this network within {DISCOVER_SECONDS:g} s.",
            hint="Is one running? Otherwise give its address with --ota.",
        )
    print(f"found   {hubs[0].name} at {hubs[0].ota_url}", file=sys.stderr)
    return hubs[0].ota_url


def own_id() -> str:
    """Return the id of this machine as a device: always the same, and never that of real hardware."""
    digest = hashlib.sha256(f"xiaozhi-hub device {uuid.getnode()}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def own_client_id() -> str:
    """Return the Client-Id of this user's device: random, and always the same. Hubs take it for a part of the proof."""
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "xiaozhi-hub"
    path = folder / "client-id"
    try:
        if kept := path.read_text(encoding="ascii").strip():
            return kept
    except (OSError, ValueError):
        pass
    made = str(uuid.uuid4())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
            file.write(made + "\n")
    except OSError:
        pass  # then it is another one next time, which hubs that approve devices ask about again
    return made


class _Show:
    """Shows answers as they come."""

    def __init__(self, args: argparse.Namespace, done: Callable[[str], Awaitable[list[str]]]) -> None:
        """*done* returns what the hub did about what it heard."""
        self._done = done
        self._json: bool = args.json
        self._save: Path | None = args.save
        self._play: bool = args.play
        self._count = 0

    async def answer(self, result: TurnResult, error: str = "") -> None:
        """Print one answer; save and play it where that was asked for."""
        self._count += 1
        if self._json:
            facts = {**result.summary(), **({"error": error} if error else {})}
            print(json.dumps(facts, ensure_ascii=False), flush=True)
        else:
            plain = not (sys.stdout.encoding or "").lower().startswith("utf")
            done = await self._done(result.heard) if result.heard else []
            print("\n".join(lines(result, error, done, plain=plain)), flush=True)
        if not result.packets:
            return
        if self._save is not None:
            path = self._save if self._count == 1 else self._save.with_stem(f"{self._save.stem}-{self._count}")
            try:
                path.write_bytes(write_ogg(result.packets, result.rate))
            except OSError as problem:
                raise HubError(f"{path} cannot be written: {problem.strerror}.") from problem
            print(f"saved   {path}", file=sys.stderr)
        if self._play:
            await play(decode_all([packet.data for packet in result.packets], result.rate))


def lines(result: TurnResult, error: str = "", done: Sequence[str] = (), *, plain: bool = False) -> list[str]:
    """An answer as people read it."""
    shown = []
    if result.asked:
        shown.append(f"heard   {result.heard or '(nothing)'}")
    else:
        shown.append("unasked")
    shown += [f"did     {call}" for call in done]
    shown.append(f"said    {result.said or '(nothing)'}")
    if result.emotion:
        shown.append(f"face    {result.emotion}")
    shown += [f"alert   {alert.status}: {alert.message}" for alert in result.alerts]
    troubles = [
        f"{count} {what}"
        for count, what in (
            (result.underruns, f"gaps in the sound, {result.stall_ms:.0f} ms together"),
            (result.overflows, "packets too many for the device's queue"),
            (result.dropped_early, "packets while the device was not speaking"),
            (result.unplayable, "packets that cannot be played"),
        )
        if count
    ]
    if result.cut_short:
        troubles.append("the hub did not wait for the end of the question")
    shown += [f"trouble {trouble}" for trouble in troubles]
    if error:
        shown.append(f"failed  {error}")
    shown += [f"  {line}" for line in draw(device_spans(result.stamps), plain=plain)]
    if result.asked and "first_voice" in result.stamps:
        shown.append(f"  {result.stamps['first_voice'] / 1000:.2f} s from the last word to the first sound")
    return shown


async def play(sound: PcmChunk) -> None:
    """Play *sound* with whatever this machine has."""
    player = next((command for command in PLAYERS if shutil.which(command[0])), None)
    if player is None:
        names = ", ".join(command[0] for command in PLAYERS)
        raise HubError("Nothing on this machine plays sound.", hint=f"Install one of {names}, or use --save.")
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(write_wav(sound))
        file.flush()
        process = await asyncio.create_subprocess_exec(*player, file.name)
        if await process.wait() != 0:
            raise HubError(f"{player[0]} could not play the answer.")


__all__ = ["Say", "add_parser", "lines", "own_client_id", "own_id", "play", "run"]
