"""Whom a request was meant for: reading and checking the ``Host`` header."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from aiohttp import web

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)\.?(?::(\d{{1,5}}))?")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45})\](?::(\d{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """A host and perhaps a port, as somebody wrote them."""

    host: str
    port: int | None = None


def parse_host(text: str) -> Address | None:
    """Read an IPv4 address or a host name with or without a port; None when it is neither.

    Devices speak IPv4 only and take what they are told as it is, so nothing else will do for them.
    """
    match = _HOST.fullmatch(text.strip())
    if match is None or len(text) > 253:
        return None
    host, port = match[1], int(match[2]) if match[2] else None
    if port is not None and not 0 < port < 65536:
        return None
    if host.replace(".", "").isdigit() and not _is_ip(host):
        return None
    return Address(host, port)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a connection ends."""

    host: str
    port: int


def local_address(request: web.Request) -> Endpoint:
    """The address and port of this machine that the request arrived on."""
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    if not name:
        raise web.HTTPBadRequest(text="the connection is gone")
    return Endpoint(str(name[0]).removeprefix("::ffff:"), int(name[1]))


def is_safe_for_pages(text: str, public_host: str | None) -> bool:
    """May a request with this ``Host`` header see pages and APIs?

    A web page elsewhere can point a name of its own at this machine and then have the visitor's browser read from it
    (DNS rebinding). It cannot do that with an IP address, nor with a ``.local`` name.
    """
    if match := _IPV6.fullmatch(text.strip()):
        return _is_ip(match[1])
    address = parse_host(text)
    if address is None:
        return False
    host = address.host.lower()
    public = parse_host(public_host) if public_host else None
    return (
        _is_ip(host)
        or host == "localhost"
        or host.endswith((".local", ".localhost"))
        or (public is not None and host == public.host.lower())
    )


def is_loopback(request: web.Request) -> bool:
    """Does the request come from this very machine, and not through a proxy on it?

    A hub that listens on one address of the machine only is reached from the machine itself by that address: both ends
    of the connection are then the same.
    """
    if request.headers.keys() & {"Forwarded", "X-Forwarded-For", "X-Real-IP"}:
        return False
    try:
        address = ipaddress.ip_address((request.remote or "").split("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback) or str(mapped or address) == local_address(request).host


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
