"""All hooks, in one place. An integration implements the ones it needs in its ``__init__.py``.

    from xiaozhi_hub.plugins.api import hookimpl

    @hookimpl
    def register_tools(register, hub, entry):
        register(set_timer)

Take only the arguments you need. The hub calls every implementation by itself, with a time limit, and survives whatever
it does: an implementation that raises or hangs makes its own entry *failed* and nothing else.
Order of one entry's start: `entry_context` is entered first, then the ``register_*`` hooks run; on reload or stop all that
was registered is taken back and the context is left.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pluggy

from xiaozhi_hub.engines.base import Engine
from xiaozhi_hub.entities.base import Entity
from xiaozhi_hub.plugins.entries import Entry
from xiaozhi_hub.plugins.hub_api import HubApi
from xiaozhi_hub.protocol.transport import Transport
from xiaozhi_hub.tools.base import Tool

PROJECT = "xiaozhi_hub"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """The contract. Arguments are passed by name."""

    @hookspec
    def entry_context(self, hub: HubApi, entry: Entry) -> AbstractAsyncContextManager[None]:  # type: ignore[empty-body]
        """Hold what the entry needs while it runs: connect before the ``yield``, disconnect after it.

        Raise `NotReady` to be started again later, `NeedsAttention` when the owner must do something first. Keep what the
        other hooks need in ``entry.runtime``.
        """

    @hookspec
    def register_engines(self, register: Callable[[Engine], None], hub: HubApi, entry: Entry) -> None:
        """Contribute engines."""

    @hookspec
    def register_tools(self, register: Callable[[Tool], None], hub: HubApi, entry: Entry) -> None:
        """Contribute tools."""

    @hookspec
    def register_entities(self, register: Callable[[Entity], None], hub: HubApi, entry: Entry) -> None:
        """Contribute entities. Areas that they name come into being."""

    @hookspec
    def register_transports(self, register: Callable[[Transport], None], hub: HubApi, entry: Entry) -> None:
        """Contribute ways for devices to reach the hub. What is said over them goes to ``hub.serve_link``; open and close
        their ports in `entry_context`."""

    @hookspec
    def register_sentences(self, register: Callable[[Path], None], hub: HubApi, entry: Entry) -> None:
        """Contribute sentence files beyond those in the integration's ``sentences/`` folder, which are found by
        themselves."""
