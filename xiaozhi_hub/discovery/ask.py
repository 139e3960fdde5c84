"""Asking the local network, the way the firmware does: one small question to everyone, answered to the asker alone.

Such a question (RFC 6762 §6.7) comes from an ordinary port. It needs no mDNS service on this machine, no port 5353, no
default route, and it is the very packet by which devices look for the hub.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from xiaozhi_hub.discovery.dns import (
    TYPE_A,
    TYPE_PTR,
    TYPE_SRV,
    TYPE_TXT,
    Answer,
    NotDns,
    encode_question,
    parse_answer,
)
from xiaozhi_hub.discovery.interfaces import interface_addresses
from xiaozhi_hub.discovery.service import OTA_PATH, SERVICE_TYPE

log = logging.getLogger(__name__)
MDNS_GROUP = ("224.0.0.251", 5353)
ASK_AGAIN_AFTER = (0.25, 0.75, 2.0)
"""Seconds between repetitions of a question: packets get lost on Wi-Fi."""
_MOST_ANSWERS = 256


@dataclass(frozen=True, slots=True)
class FoundHub:
    """A hub that answered."""

    name: str
    """Unique on its network: ``xiaozhi-hub``."""
    address: str
    port: int
    ota_url: str
    """With the IP address, so that it works where names do not."""
    host: str
    """``xiaozhi-hub.local``"""
    version: str = ""


async def resolve_one_shot(
    host: str,
    interface: str | None = None,
    timeout: float = 3.0,  # noqa: ASYNC109 - when to stop asking, not a failure
) -> str | None:
    """Return the IPv4 address of a ``.local`` *host*, or None when nobody answers.

    *interface* is the own address of the one interface to ask on; the default asks on all.
    """
    wanted = host.rstrip(".").lower()
    async with aclosing(ask([(host, TYPE_A)], _ways(interface), timeout)) as answers:
        async for answer in answers:
            for record in answer.records:
                if record.type == TYPE_A and record.name == wanted:
                    return record.address
    return None


async def find_hubs(
    timeout: float,  # noqa: ASYNC109 - how long to collect, not a failure
    *,
    interface: str | None = None,
    only_first: bool = False,
) -> list[FoundHub]:
    """Return the hubs that answer within *timeout* seconds; with *only_first* as soon as one has."""
    found: dict[str, FoundHub] = {}
    async with aclosing(ask([(SERVICE_TYPE, TYPE_PTR)], _ways(interface), timeout)) as answers:
        async for answer in answers:
            for hub in _hubs_in(answer):
                found.setdefault(hub.name, hub)
            if found and only_first:
                break
    return list(found.values())


async def ask(
    questions: Sequence[tuple[str, int]],
    interfaces: Sequence[str],
    within_s: float,
    again_after: Sequence[float] = ASK_AGAIN_AFTER,
) -> AsyncGenerator[Answer, None]:
    """Ask for names and record types on the interfaces with these own addresses; yield what is answered within
    *within_s* seconds."""
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + within_s
    id_ = random.randrange(1, 0x10000)
    answers: asyncio.Queue[Answer] = asyncio.Queue(_MOST_ANSWERS)
    packets = [encode_question(id_, name, type_) for name, type_ in questions]
    ways: list[asyncio.DatagramTransport] = []
    repeats: list[asyncio.TimerHandle] = []

    def send() -> None:
        for way in ways:
            for packet in packets:
                way.sendto(packet, MDNS_GROUP)

    try:
        for interface in interfaces:
            if (way := await _open(interface, id_, answers)) is not None:
                ways.append(way)
        if not ways:
            return
        send()
        asked_at = loop.time()
        for pause in again_after:
            asked_at += pause
            if asked_at < ends_at:
                repeats.append(loop.call_at(asked_at, send))
        while (left := ends_at - loop.time()) > 0:
            try:
                answer = await asyncio.wait_for(answers.get(), left)
            except TimeoutError:
                return
            yield answer
    finally:
        for repeat in repeats:
            repeat.cancel()
        for way in ways:
            way.close()


class _Answers(asyncio.DatagramProtocol):
    def __init__(self, id_: int, answers: asyncio.Queue[Answer]) -> None:
        self._id = id_
        self._answers = answers

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        try:
            answer = parse_answer(data)
        except NotDns as error:
            log.debug("unusable answer from %s: %s", addr, error)
            return
        if answer.id == self._id:
            with suppress(asyncio.QueueFull):  # only a flood fills it
                self._answers.put_nowait(answer)

    def error_received(self, exc: Exception) -> None:
        log.debug("asking failed: %s", exc)


async def _open(interface: str, id_: int, answers: asyncio.Queue[Answer]) -> asyncio.DatagramTransport | None:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        # Naming the interface also makes it work without any route to the group.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)  # the hub may be on this very machine
        sock.bind((interface, 0))
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Answers(id_, answers), sock=sock)
    except OSError as error:
        sock.close()
        log.debug("cannot ask on %s: %s", interface, error)
        return None
    except BaseException:
        sock.close()
        raise
    return transport


def _ways(interface: str | None) -> Sequence[str]:
    """The interfaces to ask on. Loopback too: a hub on a machine without any network listens there."""
    return (interface,) if interface else (*interface_addresses(), "127.0.0.1")


def _hubs_in(answer: Answer) -> list[FoundHub]:
    hubs = []
    suffix = "." + SERVICE_TYPE.rstrip(".")
    for pointer in answer.records:
        if pointer.type != TYPE_PTR or not pointer.target.lower().endswith(suffix):
            continue
        instance = pointer.target.lower()
        service = next((r for r in answer.records if r.type == TYPE_SRV and r.name == instance), None)
        if service is None:
            continue
        host = service.target.lower()
        address = next((r.address for r in answer.records if r.type == TYPE_A and r.name == host), None)
        if address is None:
            continue
        text = next((r.text for r in answer.records if r.type == TYPE_TXT and r.name == instance), {})
        path = text.get("ota", OTA_PATH)
        hubs.append(
            FoundHub(
                name=pointer.target[: -len(suffix)],
                address=address,
                port=service.port,
                ota_url=f"http://{address}:{service.port}{path if path.startswith('/') else OTA_PATH}",
                host=service.target,
                version=text.get("version", ""),
            )
        )
    return hubs
