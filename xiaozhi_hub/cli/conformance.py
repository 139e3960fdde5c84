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
from xiaozhi_hub.cli.words import Words, words_for
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
        help="cli.commands.conformance",
        description="cli.conformance.about",
    )
    parser.add_argument("url", metavar="URL", help="cli.conformance.help.url")
    parser.add_argument("--profile", choices=tuple(PROFILES), default="2.4.2", help="cli.conformance.help.profile")
    parser.add_argument("--only", metavar="P-01,P-02", help="cli.conformance.help.only")
    parser.add_argument("--quick", action="store_true", help="cli.conformance.help.quick")
    parser.add_argument("--json", action="store_true", help="cli.conformance.help.json")
    parser.add_argument("--wav", type=Path, metavar="FILE", help="cli.conformance.help.wav")
    parser.add_argument("--long-wav", type=Path, metavar="FILE", help="cli.conformance.help.long_wav")
    parser.add_argument("--say", metavar="TEXT", default=SHORT, help="cli.conformance.help.say")
    parser.add_argument("--say-long", metavar="TEXT", default=LONG, help="cli.conformance.help.say_long")
    parser.add_argument("--say-volume", metavar="TEXT", default=VOLUME, help="cli.conformance.help.say_volume")
    parser.add_argument("--language", default="en-US", metavar="LOCALE", help="cli.conformance.help.language")
    parser.add_argument("--token", default="", help="cli.conformance.help.token")
    parser.add_argument("--device-id", default="", metavar="MAC", help="cli.conformance.help.device_id")
    parser.add_argument("--approve", metavar="COMMAND", help="cli.conformance.help.approve")
    parser.add_argument("--host", default="", help="cli.conformance.help.host")
    parser.add_argument("--time-zone", default="", metavar="ZONE", help="cli.conformance.help.time_zone")
    parser.add_argument("--name", default="", metavar="NAME.local", help="cli.conformance.help.name")
    parser.add_argument("--at-once", type=int, default=4, metavar="N", help="cli.conformance.help.at_once")
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
    # What programs read is in one language.
    why = (Words("en") if args.json else words_for())("cli.conformance.skipped")
    skipped = [Result(check, "n/a", why) for check in wanted if check not in checks]
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
        words = words_for()
        message = words("cli.conformance.no_check", numbers=words.joined(sorted(unknown)))
        raise HubError(
            message if unknown else words("cli.conformance.no_number"),
            hint=words("cli.conformance.no_check_do", first=CHECKS[0].number, last=CHECKS[-1].number),
        )
    return [check for check in CHECKS if check.number in numbers]


def _server(args: argparse.Namespace, voice: Voice) -> Server:
    scheme = urlsplit(args.url).scheme
    if scheme not in ("http", "https", "ws", "wss"):
        words = words_for()
        raise HubError(words("cli.conformance.no_server", url=args.url), hint=words("cli.conformance.no_server_do"))
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
    arguments = command.split()

    async def approve(code: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(argument.replace("{code}", code) for argument in arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(APPROVE_SECONDS):
                status = await process.wait()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            late = words_for()("cli.conformance.approve_late", command=arguments[0], seconds=APPROVE_SECONDS)
            raise HubError(late) from error
        if status != 0:
            raise HubError(words_for()("cli.conformance.approve_failed", command=arguments[0], status=status))

    return approve


async def _voice(args: argparse.Namespace, say: Say) -> Voice:
    def recorded(path: Path) -> PcmChunk:
        try:
            return read_wav(path.read_bytes())
        except OSError as error:
            raise HubError(words_for()("cli.files.unreadable", file=path, why=error.strerror)) from error

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
    told = {"passed": counts["pass"], "failed": counts["fail"], "not_applicable": counts["n/a"]}
    lines.append(words_for()("cli.conformance.counts", **told))
    return lines


__all__ = ["add_parser", "chosen", "run", "table"]
