"""``xiaozhi-hub doctor``: look at the hub as a device does, and say what is wrong and what to do about it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from xiaozhi_hub.cli.options import add_config
from xiaozhi_hub.cli.table import cells, pad
from xiaozhi_hub.cli.words import Words, language_for, words_for

if TYPE_CHECKING:
    from xiaozhi_hub.doctor.finding import Finding

_LEVELS = ("ok", "warning", "error")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("doctor", help="cli.commands.doctor", description="cli.doctor.about")
    add_config(parser)
    parser.add_argument("--port", type=int, help="cli.doctor.help.port")
    parser.add_argument("--hub", metavar="HOST[:PORT]", help="cli.doctor.help.hub")
    parser.add_argument("--language", choices=("en", "zh-Hans"), help="cli.doctor.help.language")
    parser.add_argument("--json", action="store_true", help="cli.options.print_json")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what is found. Returns 1 when there is an error among it; warnings alone are no failure."""
    from dataclasses import replace

    from xiaozhi_hub.core.config import Config, load_config
    from xiaozhi_hub.doctor.address import Way
    from xiaozhi_hub.doctor.examination import examine, examine_from_afar
    from xiaozhi_hub.doctor.finding import Level, error
    from xiaozhi_hub.errors import ConfigErrors, HubError

    folder: Path = args.config.expanduser().resolve()
    findings: list[Finding] = []
    config, words = Config(folder), words_for()
    try:
        config = load_config(folder)
        words = words_for(config)
    except ConfigErrors as wrong:
        # The rest is looked at with the defaults: a mistake in a file need not be the only one.
        findings += [error("configuration_wrong", mistake=str(each)) for each in wrong.errors]
    if args.port is not None:
        config = replace(config, server=replace(config.server, port=args.port, http_port=args.port))
    if args.language or args.json:  # what programs read does not depend on the terminal
        words = Words(args.language or language_for(config, {}))
    width = max(cells(words(f"cli.doctor.level.{level}")) for level in _LEVELS)

    if args.hub:
        from xiaozhi_hub.web.requests.hosts import parse_host

        address = parse_host(args.hub)
        if address is None:
            raise HubError(words("cli.doctor.no_address", given=args.hub), hint=words("cli.doctor.no_address_do"))
        found: AsyncIterator[Finding] = examine_from_afar(Way(address.host, address.port or config.server.http_port))
    else:
        found = examine(config)

    def show(finding: Finding) -> None:
        if args.json:
            return
        print(
            f"{pad(words(f'cli.doctor.level.{finding.level}'), width)}  {finding.message(words.texts, words.language)}"
        )
        if hint := finding.hint(words.texts, words.language):
            print(f"{pad('', width)}  → {hint}")
        sys.stdout.flush()

    async def collect() -> None:
        async for finding in found:
            findings.append(finding)
            show(finding)

    for finding in findings:
        show(finding)
    asyncio.run(collect())
    if args.json:
        facts = [
            {
                "level": str(finding.level),
                "code": finding.code,
                "message": finding.message(words.texts, words.language),
                "hint": finding.hint(words.texts, words.language),
            }
            for finding in findings
        ]
        print(json.dumps({"findings": facts}, ensure_ascii=False, indent=1))
    return 1 if any(finding.level is Level.ERROR for finding in findings) else 0
