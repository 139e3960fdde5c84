"""Ports for programs that are told theirs before they start."""

from __future__ import annotations

import itertools
import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def _beyond_the_systems() -> range:
    """Ports that the system gives to nobody who asks for any: what a test looks up now is not given to another before its own
    program has started."""
    first = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32768
    return range(max(1024, first - 20_000), first) if first > 2048 else range(61_000, 65_000)


_PORTS = _beyond_the_systems()
# Where a run of tests begins is left to chance, as several may be going on; within it no port comes twice.
_following = itertools.count(random.SystemRandom().randrange(len(_PORTS)))


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nobody listens."""
    for number in itertools.islice(_following, len(_PORTS)):
        port = _PORTS[number % len(_PORTS)]
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
