"""The hub that runs on this machine, for commands that ask it something."""

from __future__ import annotations

import argparse
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xiaozhi_hub.cli.options import add_again, add_config, add_json, add_port
from xiaozhi_hub.errors import HubError

SECONDS = 15.0


def add_options(parser: argparse.ArgumentParser) -> None:
    """Describe the options by which the hub is found."""
    add_config(parser)
    add_port(parser)
    add_json(parser)


def add_actions_options(actions: Mapping[str, argparse.ArgumentParser]) -> None:
    """Let the options by which the hub is found stand behind each of *actions* as well, and note which one is called."""
    add_again(actions, port=True, json=True)
    for name, action in actions.items():
        action.set_defaults(action=name)


def url_of(args: argparse.Namespace) -> str:
    """Where the hub of this configuration answers."""
    from xiaozhi_hub.core.config import load_config

    server = load_config(Path(args.config).resolve()).server
    ip = "127.0.0.1" if server.ip == "0.0.0.0" else server.ip
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{args.port or server.http_port}"


def ask_hub(url: str, path: str, values: dict[str, Any] | None, why: str) -> dict[str, Any]:
    """Return what the hub at *url* answers; *values* None only looks. `HubError` with its words, or when nobody answers:
    then *why* says what a running hub is needed for."""
    data = json.dumps(values).encode() if values is not None else None
    request = urllib.request.Request(f"{url}{path}", data=data, headers={"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business on this machine
    try:
        with opener.open(request, timeout=SECONDS) as reply:
            answer: dict[str, Any] = json.load(reply)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            try:
                told = json.load(error)
                raise HubError(told["error"], hint=told.get("hint", "")) from error
            except (ValueError, KeyError, TypeError):
                raise HubError(f"{url} answers with status {error.code}.", hint="Is that the hub?") from error
    except (OSError, ValueError) as error:
        raise HubError(
            f"No hub answers at {url}.",
            hint=f"Start it: xiaozhi-hub run. {why}; give its --port if it has another.",
        ) from error


__all__ = ["add_actions_options", "add_options", "ask_hub", "url_of"]
