"""P-16: the hub is found by name (§1.3)."""

from __future__ import annotations

import asyncio
import secrets
import socket
import struct
from urllib.parse import urlsplit

from xiaozhi_hub.conformance.bench import Bench
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.verdict import Broken, NotApplicable

GROUP = ("224.0.0.251", 5353)
ASK_AT = (0.0, 1.0, 2.0)
"""As lwIP asks (dns.c)."""
_RECURSION_DESIRED = 0x0100
_HEADER = struct.Struct(">HHHHHH")
_RECORD = struct.Struct(">HHIH")
_A, _IN = 1, 1


@check("P-16", "A legacy unicast mDNS A query gets a unicast reply: same ID, question echoed, an A record of class 1.")
async def legacy_unicast(bench: Bench) -> str:
    name = bench.known.mdns_name or urlsplit(bench.server.ota_url or bench.server.ws_url or "").hostname or ""
    if not name.endswith(".local"):
        raise NotApplicable("The server is not asked by a .local name.", hint="Give it with --name.")
    number = secrets.randbelow(0xFFFF) + 1
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    question = labels + b"\x00" + struct.pack(">HH", _A, _IN)
    query = _HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0) + question
    reply = await _ask(query, bench.known.mdns_server or GROUP)
    if reply is None:
        raise Broken(f"nobody answers a legacy unicast query for {name}")
    given, flags, questions, answers, _, _ = _HEADER.unpack_from(reply)
    expect(given == number, f"the reply has id {given}, the query {number}")
    expect(bool(flags & 0x8000), "the reply is no response")
    expect(questions == 1, f"the reply holds {questions} questions; lwIP wants the one it asked")
    expect(reply[_HEADER.size :].lower().startswith(question.lower()), "the question is not echoed as it was asked")
    expect(answers >= 1, "the reply holds no answer")
    at = _HEADER.size + len(question)
    for _ in range(answers):
        at = _after_name(reply, at)
        kind, class_, ttl, size = _RECORD.unpack_from(reply, at)
        at += _RECORD.size + size
        if kind == _A:
            expect(class_ == _IN, f"the A record has class {class_:#06x}; lwIP takes only 0x0001")
            expect(size == 4, f"an A record of {size} bytes")
            return f"{socket.inet_ntoa(reply[at - 4 : at])}, {ttl} s"
    raise Broken("the reply holds no A record; the device has no IPv6")


def _after_name(packet: bytes, at: int) -> int:
    while at < len(packet):
        size = packet[at]
        if size >= 0xC0:
            return at + 2
        at += 1 + size
        if size == 0:
            return at
    raise Broken("the reply is cut off")


async def _ask(query: bytes, to: tuple[str, int]) -> bytes | None:
    """Send *query* from an ordinary port until something answers that very port."""
    loop = asyncio.get_running_loop()
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        began = loop.time()
        for at, until in zip(ASK_AT, (*ASK_AT[1:], 4.0), strict=True):
            del at
            await loop.sock_sendto(sock, query, to)
            try:
                async with asyncio.timeout_at(began + until):
                    while True:
                        reply, _ = await loop.sock_recvfrom(sock, 2048)
                        if len(reply) > _HEADER.size and reply[:2] == query[:2]:
                            return reply
            except TimeoutError:
                continue
    return None
