"""A whole hub on a free port of this machine, for tests of the hub and of integrations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from xiaozhi_hub.core.config import Config, load_config
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.plugins.manager import Patience

READY_SECONDS = 120.0
"""On a machine that does much else; a second is usual."""
UNHURRIED = Patience(start=READY_SECONDS, stop=30.0)
"""With integrations, on the same machine."""


@asynccontextmanager
async def running_hub(folder: Path, configuration: str, patience: Patience = UNHURRIED) -> AsyncIterator[Hub]:
    """Run a hub with *configuration* (YAML) in *folder* while the block is entered; its engines have started.

    It follows the files in *folder* as any hub does; `Hub.reloading` takes them over at once.
    It listens on 127.0.0.1 only, on a port of its own (`Hub.local_url`), and announces nothing.
    """
    async with starting_hub(folder, configuration, patience) as hub:
        async with asyncio.timeout(READY_SECONDS):
            await hub.ready()
        yield hub


@asynccontextmanager
async def starting_hub(folder: Path, configuration: str, patience: Patience = UNHURRIED) -> AsyncIterator[Hub]:
    """As `running_hub`, but its engines may still be starting."""
    write_configuration(folder, configuration)

    def load() -> Config:
        return _at_home(load_config(folder))

    async with Hub(load(), patience, load) as hub:
        yield hub


def write_configuration(folder: Path, configuration: str) -> None:
    """Write *configuration* (YAML) into *folder*, as its owner does with an editor: from one moment to the next."""
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / ".configuration.yaml.new"
    draft.write_text(configuration, encoding="utf-8")
    draft.replace(folder / "configuration.yaml")


def _at_home(config: Config) -> Config:
    return replace(
        config,
        server=replace(config.server, ip="127.0.0.1", port=0, http_port=0),
        discovery=replace(config.discovery, enabled=False),
    )
