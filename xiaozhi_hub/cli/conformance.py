"""``xiaozhi-hub conformance``: run the protocol's checklist against a server, this hub or any other."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from xiaozhi_hub.audio.pcm import read_wav
from xiaozhi_hub.cli.voice import say
from xiaozhi_hub.conformance import CHECKS, Check, Known, Result, Server, Times, Voice, run_checks
from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.errors import HubError
from xiaozhi_hub.testing import PROFILES

SHORT = "what time is it"
LONG = "tell me a very long story, as long as you can"
VOLUME = "set the volume to thirty percent"
LOUD = "set the volume to three hundred percent"
REBOOT = "reboot the device"
APPROVE_SECONDS = 60.0

Say = Callable[[str, str], Awaitable[PcmChunk]]
"""Speaks a text in a locale such as ``en-US``."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "conformance",
        help="check a server against the device protocol",
        description="Run the protocol's checklist (P-01 to P-60) against a server. Exit code 1 when something fails.",
    )
    parser.add_argument("url", metavar="URL", help="the OTA address (http://…) or the WebSocket address (ws://…)")
    parser.add_argument(
        "--profile", choices=tuple(PROFILES), default="2.4.2", help="which firmware to be (default: 2.4.2)"
    )
    parser.add_argument("--only", metavar="P-01,P-02", help="these checks only")
    parser.add_argument("--quick", action="store_true", help="leave out what takes half a minute or longer")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="a recorded question (default: a synthesised voice)")
    parser.add_argument("--long-wav", type=Path, metavar="FILE", help="a recorded question with a long answer")
    parser.add_argument("--say", metavar="TEXT", default=SHORT, help=f'the short question (default: "{SHORT}")')
    parser.add_argument("--say-long", metavar="TEXT", default=LONG, help="the question with a long answer")
    parser.add_argument("--say-volume", metavar="TEXT", default=VOLUME, help="the wish that sets the volume")
    parser.add_argument("--language", default="en-US", metavar="LOCALE", help="of the voice (default: en-US)")
    parser.add_argument("--token", default="", help="for a WebSocket address")
    parser.add_argument("--device-id", default="", metavar="MAC", help="be this device; the checks run one by one")
    parser.add_argument("--approve", metavar="COMMAND", help="approves a device; {code} stands for its code")
    parser.add_argument("--host", default="", help="the host that the server tells to every device")
    parser.add_argument("--time-zone", default="", metavar="ZONE", help="the server's, such as Europe/Berlin")
    parser.add_argument("--name", default="", metavar="NAME.local", help="what it announces on the network")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="checks that run together (default: 4)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, say: Say = say) -> int:
    """Check, and print a table. *say* is the voice where no recordings are given."""
    return asyncio.run(_check(args, say))


async def _check(args: argparse.Namespace, say: Say) -> int:
    wanted = chosen(args.only)
    checks = [check for check in wanted if not (args.quick and check.slow)]
    server = _server(args, await _voice(args, say))
    profile = PROFILES[args.profile]

    def tell(result: Result) -> None:
        if not args.json:
            print(f"{result.check.number} {result.verdict}", file=sys.stderr, flush=True)

    results = await run_checks(checks, server, profile, at_once=max(1, args.at_once), tell=tell)
    skipped = [Result(check, "n/a", "Skipped: it takes long (--quick).") for check in wanted if check not in checks]
    results = sorted([*results, *skipped], key=lambda result: result.check.number)
    if args.json:
        document = {
            "url": args.url,
            "profile": args.profile,
            "summary": dict(Counter(result.verdict for result in results)),
            "checks": [result.as_json() for result in results],
        }
        print(json.dumps(document, ensure_ascii=False, indent=1))
    else:
        print("\n".join(table(results)))
    return 1 if any(result.verdict == "fail" for result in results) else 0


def chosen(only: str | None) -> list[Check]:
    """The checks that were asked for; all without a choice."""
    if only is None:
        return list(CHECKS)
    numbers = {number.strip().upper() for number in only.split(",") if number.strip()}
    unknown = numbers - {check.number for check in CHECKS}
    if unknown or not numbers:
        raise HubError(
            f"There is no check {', '.join(sorted(unknown)) or 'without a number'}.",
            hint=f"They are {CHECKS[0].number} to {CHECKS[-1].number}.",
        )
    return [check for check in CHECKS if check.number in numbers]


def _server(args: argparse.Namespace, voice: Voice) -> Server:
    scheme = urlsplit(args.url).scheme
    if scheme not in ("http", "https", "ws", "wss"):
        raise HubError(f"{args.url} is no address of a server.", hint="Give one that begins with http:// or ws://.")
    is_ota = scheme in ("http", "https")
    return Server(
        voice=voice,
        ota_url=args.url if is_ota else None,
        ws_url=None if is_ota else args.url,
        token=args.token,
        known=Known(host=args.host, time_zone=args.time_zone, mdns_name=args.name),
        times=Times(),
        approve=_approver(args.approve) if args.approve else None,
        device_id=args.device_id.lower(),
    )


def _approver(command: str) -> Callable[[str], Awaitable[None]]:
    words = command.split()

    async def approve(code: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(word.replace("{code}", code) for word in words),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(APPROVE_SECONDS):
                status = await process.wait()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise HubError(f"{words[0]} did not approve the device within {APPROVE_SECONDS:.0f} s.") from error
        if status != 0:
            raise HubError(f"{words[0]} could not approve the device: exit code {status}.")

    return approve


async def _voice(args: argparse.Namespace, say: Say) -> Voice:
    def recorded(path: Path) -> PcmChunk:
        try:
            return read_wav(path.read_bytes())
        except OSError as error:
            raise HubError(f"{path} cannot be read: {error.strerror}.") from error

    if args.wav is not None:
        short = recorded(args.wav)
        return Voice(short, recorded(args.long_wav) if args.long_wav is not None else short, text=args.say)
    texts = (args.say, args.say_long, args.say_volume, LOUD, REBOOT)
    short, long, volume, loud, reboot = [await say(text, args.language) for text in texts]
    if args.long_wav is not None:
        long = recorded(args.long_wav)
    return Voice(short, long, volume, loud, reboot=reboot, text=args.say)


def table(results: Sequence[Result]) -> list[str]:
    """The results as people read them: what failed comes with its claim."""
    lines = []
    for result in results:
        lines.append(f"{result.check.number}  {result.verdict:4}  {result.check.claim}")
        if result.reason:
            lines.append(f"{'':12}{'→ ' if result.verdict == 'fail' else ''}{result.reason}")
    counts = Counter(result.verdict for result in results)
    lines.append("")
    lines.append(f"{counts['pass']} passed, {counts['fail']} failed, {counts['n/a']} not applicable")
    return lines


__all__ = ["add_parser", "chosen", "run", "table"]
