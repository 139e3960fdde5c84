"""Small networks for tests: network namespaces joined by cables (veth pairs). Needs root and ``ip``."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_CLONE_NEWNET = 0x40000000
_numbers = itertools.count()


class Namespace:
    """A machine of its own as far as the network goes: no interface but loopback until a cable is plugged in."""

    def __init__(self) -> None:
        self.name = f"xz{os.getpid()}n{next(_numbers)}"
        _run("ip", "netns", "add", self.name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        """Run ``ip`` in here."""
        _run("ip", "-n", self.name, *arguments)

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs *arguments* in here."""
        return ["ip", "netns", "exec", self.name, *arguments]

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let this thread work in here. Sockets stay where they were made."""
        with Path("/proc/thread-self/ns/net").open() as home, Path("/var/run/netns", self.name).open() as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(home.fileno())

    def socket(self, kind: socket.SocketKind = socket.SOCK_DGRAM) -> socket.socket:
        with self.entered():
            return socket.socket(socket.AF_INET, kind)


class Network:
    """Makes machines and cables, and takes all away again."""

    def __init__(self) -> None:
        self._namespaces: list[Namespace] = []

    def machine(self) -> Namespace:
        namespace = Namespace()
        self._namespaces.append(namespace)
        return namespace

    def cable(self, one: Namespace, its_address: str, other: Namespace, other_address: str) -> tuple[str, str]:
        """Connect two machines; addresses as ``10.0.0.1/24``. No default route. Return the interfaces' names."""
        number = next(_numbers)
        names = f"xz{number}a", f"xz{number}b"
        _run(
            *("ip", "link", "add", names[0], "netns", one.name, "type", "veth"),
            *("peer", "name", names[1], "netns", other.name),
        )
        for namespace, name, address in ((one, names[0], its_address), (other, names[1], other_address)):
            namespace.ip("addr", "add", address, "dev", name)
            namespace.ip("link", "set", name, "up")
        return names

    def close(self) -> None:
        for namespace in self._namespaces:
            _run("ip", "netns", "del", namespace.name)


@pytest.fixture
def network() -> Iterator[Network]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and the command ip (iproute2)")
    network = Network()
    try:
        try:
            network.machine()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine does not allow network namespaces: {error.stderr.strip()}")
        yield network
    finally:
        network.close()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _enter(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
