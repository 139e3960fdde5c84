"""``xiaozhi-hub integrations``: what there is, what is on, what is missing, and how it is in the hub that runs. It needs none."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from xiaozhi_hub.cli.local_hub import ask_hub, url_of
from xiaozhi_hub.cli.options import add_config
from xiaozhi_hub.core.config import Config, load_config
from xiaozhi_hub.core.places import builtin
from xiaozhi_hub.errors import ConfigErrors, HubError, NeedsAttention
from xiaozhi_hub.plugins.loader import check_requirements, find_integrations
from xiaozhi_hub.plugins.manifest import Manifest


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "integrations",
        help="list the integrations and what they need",
        description="List the integrations: which are on, where they come from, and what is missing for them. "
        "Of a hub that runs, also how each of them is. Exit code 1 when one that is on cannot work.",
    )
    add_config(parser)
    parser.add_argument("--port", type=int, help="the hub's port, where it was started with --port")


def run(args: argparse.Namespace) -> int:
    """Print one line for each integration; below it the command that installs what is missing."""
    try:
        config = load_config(Path(args.config).expanduser())
    except ConfigErrors as wrong:
        for error in wrong.errors:
            print(error, file=sys.stderr)
        return 1
    own = config.config_dir / "integrations"
    running = _running(args)
    found, errors = find_integrations(own)
    usable = True
    rows = []
    for domain, manifest in sorted(found.items()):
        on = is_on(config, manifest)
        missing = missing_for(manifest)
        usable = usable and not (on and missing)
        state = (f"on{_why(config, domain)}" if on else f"off{_why(config, domain)}", _source(manifest, own))
        rows.append((domain, manifest.version, *state, manifest.name, missing or _now(running.get(domain))))
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    for row in rows:
        columns = "  ".join(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True))
        print(f"{columns}  {row[4]}")
        for line in row[5]:
            print(f"    {line}")
    for error in errors:
        print(error, file=sys.stderr)
    for domain, options in config.integrations.items():
        if domain not in found and options is not False:
            usable = False
            place = config.place(("integrations", domain))
            print(f'{place}: there is no integration "{domain}".', file=sys.stderr)
    return 0 if usable and not errors else 1


def _running(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The entries of the hub that runs, by domain; none where no hub runs."""
    try:
        entries = ask_hub(url_of(args), "/api/integrations", None, "")["entries"]
        return {entry["domain"]: entry for entry in entries}
    except (HubError, KeyError, TypeError):
        return {}


def _now(entry: dict[str, str] | None) -> list[str]:
    """How an integration is in the hub that runs; nothing where all is well."""
    if entry is None or (entry["state"] == "ready" and not entry["reason"]):
        return []
    return [f"{entry['state']}: {entry['reason']}", *([entry["hint"]] if entry["hint"] else [])]


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


def _why(config: Config, domain: str) -> str:
    return " (configuration)" if domain in config.integrations else " (default)"


def _source(manifest: Manifest, own: Path) -> str:
    if manifest.folder.parent == own:
        return "own"
    return "built in" if manifest.folder.parent == builtin("integrations") else "package"


__all__ = ["add_parser", "is_on", "missing_for", "run"]
