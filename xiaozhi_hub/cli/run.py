"""``xiaozhi-hub run``: start the hub, prove that it works, and serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import importlib.util
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from xiaozhi_hub.cli.options import add_config
from xiaozhi_hub.cli.words import Words, words_for

if TYPE_CHECKING:
    from xiaozhi_hub.core.config import Config
    from xiaozhi_hub.hub import Hub

log = logging.getLogger(__name__)
OTHER_FILES = 4096
"""Open at once beside the connections of devices: those that wait for a request (`xiaozhi_hub.web.requests.entrance.MOST_WAITING`),
databases, models, pipes to children."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("run", help="cli.commands.run", description="cli.run.about")
    add_config(parser, "cli.options.config_made")
    parser.add_argument("--host", metavar="H", help="cli.run.help.host")
    parser.add_argument("--port", type=_port, metavar="N", help="cli.run.help.port")
    parser.add_argument("--no-discovery", action="store_true", help="cli.run.help.no_discovery")
    parser.add_argument("--no-self-test", action="store_true", help="cli.run.help.no_self_test")
    parser.set_defaults(run=run)


def _port(text: str) -> int:
    """A TCP port; 0 is any that is free."""
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(words_for()("cli.run.no_port", given=text))
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Run until SIGTERM or Ctrl-C. Returns the exit code: 0 after a clean stop, 1 when the hub could not start."""
    signal.signal(signal.SIGTERM, _leave)  # until the hub listens to it: importing takes a second on a small board
    # Before numpy is imported: its threads only get into each other's way on products as small as the hub's.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from xiaozhi_hub.core.collector import building_to_last

    with building_to_last():  # a device that starts with the hub waits: looking for garbage costs a tenth of the start
        import xiaozhi_hub.threshold  # noqa: F401
        from xiaozhi_hub.core.config import ensure_config_folder, load_config
        from xiaozhi_hub.diagnostics import set_up_logging
        from xiaozhi_hub.errors import HubError

    folder: Path = args.config.resolve()
    try:
        ensure_config_folder(folder)

        def load() -> Config:
            return _with_arguments(load_config(folder), args)

        config = load()
        allow_open_files(config.limits.devices + OTHER_FILES)
        stop_logging = set_up_logging(config.log, secrets=[config.server.auth_key])
        try:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                return runner.run(_serve(config, load, self_test=not args.no_self_test))
        finally:
            stop_logging()
    except HubError as error:
        print(f"xiaozhi-hub: {error}", file=sys.stderr)
        return 1


def _leave(*_: object) -> None:
    """Nothing has been opened yet. Whoever tells it once more while it ends does not interrupt that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(0)


def allow_open_files(wanted: int) -> None:
    """Have the system let this process open *wanted* files, or as many as it may: most systems allow 1024 until a program asks
    for more, and each connection is one. Without one more to open, the hub could not even turn somebody away."""
    if sys.platform != "win32":
        import resource

        allowed, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most != resource.RLIM_INFINITY:
            wanted = min(wanted, most)
        if resource.RLIM_INFINITY != allowed < wanted:
            with contextlib.suppress(ValueError, OSError):  # macOS has a bound of its own that it does not tell here
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def _with_arguments(config: Config, args: argparse.Namespace) -> Config:
    """What the command line says wins over the files."""
    server = config.server
    if args.host:
        server = replace(server, ip=args.host)
    if args.port is not None:
        server = replace(server, port=args.port, http_port=args.port)
    discovery = replace(config.discovery, enabled=False) if args.no_discovery else config.discovery
    return replace(config, server=server, discovery=discovery)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where it is installed (the extra ``fast``), ours elsewhere."""
    if importlib.util.find_spec("uvloop") is None:
        from xiaozhi_hub.core.loop import new_event_loop

        return new_event_loop
    import uvloop

    log.warning(
        "uvloop is installed, and the hub runs on it: where hundreds of devices come back at once, those who are spoken to may hear "
        "gaps. Without it (pip uninstall uvloop) the hub takes a few at a time."
    )
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _serve(config: Config, load: Callable[[], Config], *, self_test: bool) -> int:
    from xiaozhi_hub.core.collector import collect_at_leisure
    from xiaozhi_hub.threshold import Threshold

    stop, hang_up = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    in_terminal = _is_terminal()

    def hung_up() -> None:
        if in_terminal and not _is_terminal():  # its window was closed
            stop.set()
        else:
            hang_up.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError):  # Windows has no handlers for the loop
            loop.add_signal_handler(number, stop.set)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, hung_up)
    async with Threshold(config) as threshold:
        hub = await asyncio.to_thread(_import_hub)  # devices are answered meanwhile
        async with hub.Hub(config, load=load, threshold=threshold) as running:
            async with asyncio.TaskGroup() as group:
                words = words_for(config, running.texts)
                stopping = group.create_task(stop.wait())
                started = group.create_task(_start(running, words, self_test))
                others = (
                    group.create_task(collect_at_leisure(running.devices.quiet)),
                    group.create_task(_reload_when(hang_up, running)),
                )
                await asyncio.wait((stopping, started), return_when=asyncio.FIRST_COMPLETED)
                if not stopping.done():
                    from xiaozhi_hub.cli.banner import banner  # it knows the hub

                    # A program that reads this line by line finds the lines in every language.
                    titles = words if sys.stdout.isatty() else Words("en", running.texts)
                    print(banner(running, started.result(), words, titles), flush=True)
                    await stopping
                for task in (started, *others):
                    task.cancel()
            log.info("stopping")
    return 0


def _import_hub() -> ModuleType:
    """Import all that the hub is made of; this takes longer than anything else until devices can speak with it."""
    from xiaozhi_hub.core.collector import building_to_last

    with building_to_last():
        return importlib.import_module("xiaozhi_hub.hub")


async def _reload_when(hang_up: asyncio.Event, hub: Hub) -> None:
    """Look at the configuration again whenever *hang_up* is set, and clear it. Never returns."""
    while True:
        await hang_up.wait()
        hang_up.clear()
        hub.reloading.soon()


def _is_terminal() -> bool:
    """Does a person look at what is printed?"""
    return sys.stdin is not None and not sys.stdin.closed and sys.stdin.isatty()


async def _start(hub: Hub, words: Words, self_test: bool) -> str:
    """Open everything to the outside, wait for the engines, and ask the hub one question. Returns the line about it."""
    await hub.announce()
    await hub.ready()
    if not self_test:
        return words("cli.run.self_test.not_asked")
    from xiaozhi_hub.cli.self_test import talk_to_yourself  # a whole device comes with it

    return await talk_to_yourself(hub, words)
