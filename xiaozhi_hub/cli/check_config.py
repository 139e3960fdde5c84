"""``xiaozhi-hub check-config``: read the configuration as the hub would, and say what is wrong with it."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from xiaozhi_hub.core.checking import check_options
from xiaozhi_hub.core.config import MAIN_FILE, Config, load_config
from xiaozhi_hub.errors import ConfigError, ConfigErrors, HubError

SHOWN_ERRORS = 50


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Describe the command line."""
    parser = subparsers.add_parser(
        "check-config",
        help="say whether the configuration is right",
        description="Read the configuration as the hub would. Exit code 1 when something is wrong with it.",
    )
    parser.add_argument(
        "-c",
        "--config",
        type=Path,
        default=Path("config"),
        metavar="DIR",
        help="the configuration folder (default: config)",
    )


def run(args: argparse.Namespace) -> int:
    """Print ``OK`` and a summary, or every mistake with its file and line."""
    folder = Path(args.config).expanduser()
    try:
        config = load_config(folder)
        check_integrations(config)
    except ConfigErrors as wrong:
        for error in wrong.errors[:SHOWN_ERRORS]:
            print(error, file=sys.stderr)
        count = len(wrong.errors)
        if count > SHOWN_ERRORS:
            print(f"… and {count - SHOWN_ERRORS} more", file=sys.stderr)
        print(f"{count} mistake{'s' if count != 1 else ''} in {folder}", file=sys.stderr)
        return 1
    print(f"OK  {folder}")
    for line in summary(config):
        print(f"    {line}")
    return 0


def check_integrations(config: Config) -> None:
    """Raise `ConfigErrors` for integrations that do not exist and for options that they do not take."""
    from xiaozhi_hub.plugins.loader import find_integrations  # a mistake in the files themselves is told without it

    known, errors = find_integrations(config.config_dir / "integrations")
    for domain, options in config.integrations.items():
        place = config.place(("integrations", domain))
        if domain not in known:
            near = get_close_matches(domain, list(known), 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are: {', '.join(sorted(known))}."
            errors.append(ConfigError(f'there is no integration "{domain}".', place, hint=hint))
        elif options is not False and (known[domain].folder / "config.py").is_file():
            try:
                _check_options_of(domain, known[domain].folder, options, config)
            except ConfigErrors as wrong:
                errors.extend(wrong.errors)
            except HubError as error:
                print(f"{place}: its options were not checked. {error}", file=sys.stderr)
    if errors:
        raise ConfigErrors(errors)


def _check_options_of(domain: str, folder: Path, options: Mapping[str, Any] | bool | None, config: Config) -> None:
    from xiaozhi_hub.plugins.loader import NAMESPACE, import_integration

    raw = options if isinstance(options, Mapping) else {}
    try:
        import_integration(folder)
        module = importlib.import_module(f"{NAMESPACE}.{domain}.config")
    except Exception as error:  # an integration is anybody's code, and importing it may fail in any way
        raise HubError(f"It cannot be loaded ({type(error).__name__}: {error}).") from error
    check_options(module.SCHEMA, raw, lambda path: config.place(("integrations", domain, *path)))


def summary(config: Config) -> list[str]:
    """What the configuration comes to, without anything secret."""
    on = [domain for domain, options in config.integrations.items() if options is not False]
    off = [domain for domain, options in config.integrations.items() if options is False]
    engines = [
        f"{role} {', '.join(ids)}" for role in ("vad", "asr", "tts", "llm") if (ids := getattr(config.voice, role))
    ]
    lines = [
        f"name          {config.hub.name}.local, language {config.hub.language}",
        f"listens       {config.server.ip}, ports {config.server.http_port} and {config.server.port}",
        f"data          {config.data_dir}",
        f"integrations  {', '.join(on) or 'none beyond the built-in ones'}",
    ]
    if off:
        lines.append(f"switched off  {', '.join(off)}")
    if engines:
        lines.append(f"engines       {'; '.join(engines)}")
    if config.devices:
        lines.append(f"devices       {', '.join(device.name for device in config.devices.values())}")
    if not (config.config_dir / MAIN_FILE).exists():
        lines.append(f"(there is no {MAIN_FILE} yet: these are the defaults)")
    return lines
