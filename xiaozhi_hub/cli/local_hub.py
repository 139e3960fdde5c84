"""The hub that runs on this machine, for commands that ask it something."""

from __future__ import annotations

import argparse
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.cli.options import add_again, add_config, add_json, add_port
from xiaozhi_hub.cli.words import words_for
from xiaozhi_hub.errors import HubError

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config

SECONDS = 15.0
RESTART_SECONDS = 60.0
"""For what starts integrations anew: a model on a slow card takes its time, up to the 30 s that the hub gives it, after others have
let go of theirs."""


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


def local_hub(args: argparse.Namespace) -> LocalHub:
    """The hub of the configuration that *args* names."""
    from xiaozhi_hub.core.config import load_config

    return LocalHub(load_config(Path(args.config).resolve()), args.port)


class LocalHub:
    """Where the hub of *config* answers, on *port* if one is given; and ``words`` in which to tell what it says."""

    def __init__(self, config: Config, port: int | None = None) -> None:
        ip = "127.0.0.1" if config.server.ip == "0.0.0.0" else config.server.ip
        self._url = f"http://{f'[{ip}]' if ':' in ip else ip}:{port or config.server.http_port}"
        self.words = words_for(config)

    def ask(
        self, path: str, values: dict[str, Any] | None, why: str, *, within_s: float | None = None
    ) -> dict[str, Any]:
        """Return what the hub answers; *values* None only looks. `HubError` with its words, or when nobody answers: then the text
        *why* says what a running hub is needed for."""
        data = json.dumps(values).encode() if values is not None else None
        request = urllib.request.Request(f"{self._url}{path}", data=data, headers={"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no business on this machine
        try:
            with opener.open(request, timeout=SECONDS if within_s is None else within_s) as reply:
                answer: dict[str, Any] = json.load(reply)
                return answer
        except urllib.error.HTTPError as error:
            with error:
                try:
                    told = json.load(error)
                    raise HubError(told["error"], hint=told.get("hint", "")) from error
                except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
                    raise HubError(
                        self.words("cli.hub.status", url=self._url, status=error.code),
                        hint=self.words("cli.hub.status_do"),
                    ) from error
        # HTTPException: what answers there is no web server.
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise HubError(
                self.words("cli.hub.none", url=self._url), hint=self.words("cli.hub.none_do", why=self.words(why))
            ) from error


__all__ = ["LocalHub", "add_actions_options", "add_options", "local_hub"]
