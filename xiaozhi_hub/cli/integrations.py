"""``xiaozhi-hub integrations``: what there is, what is on, what is missing, and how it is in the hub that runs. It needs none."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xiaozhi_hub.cli.local_hub import LocalHub
from xiaozhi_hub.cli.options import add_config
from xiaozhi_hub.cli.table import table
from xiaozhi_hub.cli.words import Words, words_for
from xiaozhi_hub.core.config import Config, load_config
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.errors import ConfigErrors, HubError, NeedsAttention
from xiaozhi_hub.plugins.loader import check_requirements, find_integrations
from xiaozhi_hub.plugins.manifest import Manifest


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "integrations",
        help="cli.commands.integrations",
        description="cli.integrations.about",
    )
    add_config(parser)
    parser.add_argument("--port", type=int, help="cli.options.port")


def run(args: argparse.Namespace) -> int:
    """Print one line for each integration; below it the command that installs what is missing."""
    try:
        config = load_config(Path(args.config).expanduser())
    except ConfigErrors as wrong:
        for error in wrong.errors:
            print(error, file=sys.stderr)
        return 1
    words = words_for(config)
    own = config.config_dir / "integrations"
    running = _running(LocalHub(config, args.port))
    found, errors = find_integrations(own)
    usable = True
    rows = []
    for domain, manifest in sorted(found.items()):
        on = is_on(config, manifest)
        missing = missing_for(manifest)
        usable = usable and not (on and missing)
        why = words("cli.integrations.configured" if domain in config.integrations else "cli.integrations.default")
        state = words("cli.integrations.on" if on else "cli.integrations.off", why=why)
        row = (domain, manifest.version, state, words(f"cli.integrations.{_source(manifest, own)}"), manifest.name)
        rows.append((row, missing or _now(running.get(domain), words)))
    for line, (_, notes) in zip(table([row for row, _ in rows]), rows, strict=True):
        print(line)
        for note in notes:
            print(f"    {note}")
    for error in errors:
        print(error, file=sys.stderr)
    for domain, options in config.integrations.items():
        if domain not in found and options is not False:
            usable = False
            place = config.place(("integrations", domain))
            print(words("cli.integrations.unknown", place=place, domain=domain), file=sys.stderr)
    return 0 if usable and not errors else 1


def _running(hub: LocalHub) -> dict[str, dict[str, str]]:
    """The entries of the hub that runs, by domain; none where no hub runs."""
    try:
        entries = hub.ask("/api/integrations", None, "cli.check_config.why")["entries"]
        return {entry["domain"]: entry for entry in entries}
    except (HubError, KeyError, TypeError):
        return {}


def _now(entry: dict[str, str] | None, words: Words) -> list[str]:
    """How an integration is in the hub that runs; nothing where all is well."""
    if entry is None or (entry["state"] == "ready" and not entry["reason"]):
        return []
    told = words("cli.integrations.now", state=words.named("cli.entry", entry["state"]), reason=entry["reason"])
    return [told, *([entry["hint"]] if entry["hint"] else [])]


def is_on(config: Config, manifest: Manifest) -> bool:
    """Tell whether the hub would set this integration up."""
    if manifest.domain in config.integrations:
        return config.integrations[manifest.domain] is not False
    return manifest.default


def missing_for(manifest: Manifest) -> list[str]:
    """Say what is not installed and how to install it; nothing when all is there."""
    try:
        check_requirements(manifest)
    except NeedsAttention as error:
        return [error.message, error.hint]
    return []


def _source(manifest: Manifest, own: Path) -> str:
    if manifest.folder.parent == own:
        return "own"
    return "built_in" if manifest.folder.parent == builtin("integrations") else "package"


__all__ = ["add_parser", "is_on", "missing_for", "run"]
