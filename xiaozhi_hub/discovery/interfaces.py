"""The network interfaces of this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

import ifaddr

LOOPBACK = "127.0.0.1"
_INNER = ("docker", "br-", "virbr", "lxcbr", "lxdbr", "podman", "cni", "flannel")
"""Beginnings of the names of bridges to containers and virtual machines on this machine."""


def interface_addresses(adapters: Iterable[ifaddr.Adapter] | None = None) -> tuple[str, ...]:
    """The first IPv4 address of every interface but loopback; those that lead out of this machine first.

    Addresses on one interface share its network's cable, so one of them is enough to be heard there.
    """
    chosen: dict[str, str] = {}
    for adapter in ifaddr.get_adapters() if adapters is None else adapters:
        for address in adapter.ips:
            if isinstance(address.ip, str) and _reachable(address.ip):
                chosen.setdefault(adapter.name, address.ip)
    return tuple(chosen[name] for name in sorted(chosen, key=lambda name: name.startswith(_INNER)))


def own_addresses() -> frozenset[str]:
    """Every IPv4 address of this machine."""
    adapters = ifaddr.get_adapters()
    return frozenset(address.ip for adapter in adapters for address in adapter.ips if isinstance(address.ip, str))


def _reachable(address: str) -> bool:
    ip = ipaddress.IPv4Address(address)
    return not (ip.is_loopback or ip.is_multicast or ip.is_unspecified)
