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
from xiaozhi_hub.cli.table import pad
from xiaozhi_hub.cli.voice import say
from xiaozhi_hub.cli.waterfall import device_spans, draw
from xiaozhi_hub.cli.words import Words, words_for
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.discovery import find_hubs
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing import FakeDevice, NoAnswer, TurnResult

TITLE_CELLS = 8
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
        help="cli.commands.device",
        description="cli.device.about",
    )
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--discover", action="store_true", help="cli.device.help.discover")
    where.add_argument("--ota", metavar="URL", help="cli.device.help.ota")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--wav", type=Path, metavar="FILE", help="cli.device.help.wav")
    what.add_argument("--say", metavar="TEXT", help="cli.device.help.say")
    what.add_argument("--text", metavar="TEXT", help="cli.device.help.text")
    parser.add_argument(
        "--mode",
        choices=("auto", "manual", "realtime"),
        default="auto",
        help="cli.device.help.mode",
    )
    parser.add_argument("--json", action="store_true", help="cli.device.help.json")
    parser.add_argument("--save", type=Path, metavar="FILE", help="cli.device.help.save")
    parser.add_argument("--play", action="store_true", help="cli.device.help.play")
    parser.add_argument("--stay", type=float, default=0.0, metavar="SECONDS", help="cli.device.help.stay")
    parser.add_argument("--device-id", metavar="MAC", help="cli.device.help.device_id")
    parser.add_argument("--language", default="en-US", metavar="LOCALE", help="cli.device.help.language")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, say: Say = say) -> int:
    """Ask, and show the answer. *say* is the voice for ``--say``."""
    return asyncio.run(_talk(args, say))


async def _talk(args: argparse.Namespace, say: Say) -> int:
    words = words_for()
    question = await _question(args, say, words)
    ota_url = args.ota if args.ota is not None else await _discover(words)
    device_id = args.device_id or own_id()
    async with FakeDevice(
        ota_url=ota_url,
        device_id=device_id,
        client_id=own_client_id(),
        language=args.language,
        mode=args.mode,
    ) as device:
        if device.activation is not None:
            told = words("cli.device.waits", message=device.activation.message, code=device.activation.code)
            print(titled("waits", told, words), file=sys.stderr)
            await device.activated(APPROVAL_SECONDS)
        show = _Show(args, words, lambda heard: what_was_done(ota_url, device_id, device.session_id, heard, words))
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


async def _question(args: argparse.Namespace, say: Say, words: Words) -> PcmChunk | None:
    """The sound to ask with; None asks with a text."""
    if args.wav is not None:
        try:
            return read_wav(args.wav.read_bytes())
        except OSError as error:
            raise HubError(words("cli.files.unreadable", file=args.wav, why=error.strerror)) from error
    if args.say is not None:
        return await say(args.say, args.language)
    return None


async def _discover(words: Words) -> str:
    hubs = await find_hubs(DISCOVER_SECONDS, only_first=True)
    if not hubs:
        raise HubError(
            words("cli.device.nobody", seconds=DISCOVER_SECONDS),
            hint=words("cli.device.nobody_do"),
        )
    told = words("cli.device.found", name=hubs[0].name, url=hubs[0].ota_url)
    print(titled("found", told, words), file=sys.stderr)
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

    def __init__(self, args: argparse.Namespace, words: Words, done: Callable[[str], Awaitable[list[str]]]) -> None:
        """*done* returns what the hub did about what it heard."""
        self._words = words
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
            print("\n".join(lines(result, self._words, error, done, plain=plain)), flush=True)
        if not result.packets:
            return
        if self._save is not None:
            path = self._save if self._count == 1 else self._save.with_stem(f"{self._save.stem}-{self._count}")
            try:
                path.write_bytes(write_ogg(result.packets, result.rate))
            except OSError as problem:
                raise HubError(self._words("cli.files.unwritable", file=path, why=problem.strerror)) from problem
            print(titled("saved", str(path), self._words), file=sys.stderr)
        if self._play:
            await play(decode_all([packet.data for packet in result.packets], result.rate), self._words)


def titled(title: str, text: str, words: Words) -> str:
    """A line about an answer, behind what it is about."""
    return f"{pad(words(f'cli.device.label.{title}'), TITLE_CELLS)}{text}".rstrip()


def lines(
    result: TurnResult, words: Words, error: str = "", done: Sequence[str] = (), *, plain: bool = False
) -> list[str]:
    """An answer as people read it."""
    nothing = words("cli.device.nothing")
    told = [("heard", result.heard or nothing) if result.asked else ("unasked", "")]
    told += [("did", call) for call in done]
    told.append(("said", result.said or nothing))
    if result.emotion:
        told.append(("face", result.emotion))
    told += [("alert", f"{alert.status}: {alert.message}") for alert in result.alerts]
    told += [
        ("trouble", words(f"cli.device.{what}", count=count, ms=result.stall_ms))
        for what, count in (
            ("gaps", result.underruns),
            ("overflows", result.overflows),
            ("early", result.dropped_early),
            ("unplayable", result.unplayable),
        )
        if count
    ]
    if result.cut_short:
        told.append(("trouble", words("cli.device.cut_short")))
    if error:
        told.append(("failed", error))
    shown = [titled(title, text, words) for title, text in told]
    shown += [f"  {line}" for line in draw(device_spans(result.stamps, words), plain=plain)]
    if result.asked and "first_voice" in result.stamps:
        shown.append("  " + words("cli.device.delay", seconds=result.stamps["first_voice"] / 1000))
    return shown


async def play(sound: PcmChunk, words: Words) -> None:
    """Play *sound* with whatever this machine has."""
    player = next((command for command in PLAYERS if shutil.which(command[0])), None)
    if player is None:
        names = words.joined(command[0] for command in PLAYERS)
        raise HubError(words("cli.device.no_player"), hint=words("cli.device.no_player_do", names=names))
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        file.write(write_wav(sound))
        file.flush()
        process = await asyncio.create_subprocess_exec(*player, file.name)
        if await process.wait() != 0:
            raise HubError(words("cli.device.not_played", player=player[0]))


__all__ = ["Say", "add_parser", "lines", "own_client_id", "own_id", "play", "run", "titled"]
