"""Another machine that claims the name test-hub.local, for tests: python mdns_rival.py OWN-ADDRESS [answers]

It claims the name when a hub has announced it, once, and with "answers" whenever it is asked for it. It prints each packet of others
as JSON: whether that asks for the name, and the addresses of names in it with their lifetimes.
"""

from __future__ import annotations

import json
import socket
import struct
import sys

from xiaozhi_hub.discovery.dns import TYPE_A, NotDns, parse_answer

GROUP = ("224.0.0.251", 5353)
NAME, WIRE_NAME = "test-hub.local", b"\x08test-hub\x05local\x00"


def main(own: str, answers: bool) -> None:
    record = WIRE_NAME + struct.pack("!2HIH", TYPE_A, 0x8001, 120, 4) + socket.inet_aton(own)
    question = WIRE_NAME + struct.pack("!2H", TYPE_A, 1)
    claimed = False
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own))
        membership = socket.inet_aton(GROUP[0]) + socket.inet_aton(own)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
        sock.bind(("", GROUP[1]))
        print(json.dumps({"asks": False, "addresses": []}), flush=True)  # it listens
        while True:
            data, (peer, port) = sock.recvfrom(9000)
            if peer == own:
                continue
            asks, addresses = False, []
            try:
                addresses = [
                    (record.name, record.ttl) for record in parse_answer(data).records if record.type == TYPE_A
                ]
            except NotDns:
                asks = WIRE_NAME in data
            if (
                asks and claimed and answers
            ):  # as to one who is no responder (RFC 6762, 6.7): to itself, with its question
                sock.sendto(data[:2] + struct.pack("!5H", 0x8400, 1, 1, 0, 0) + question + record, (peer, port))
            if not claimed and any(name == NAME and ttl for name, ttl in addresses):
                claimed = True
                sock.sendto(struct.pack("!6H", 0, 0x8400, 0, 1, 0, 0) + record, GROUP)
            print(json.dumps({"asks": asks and claimed, "addresses": addresses}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:] == ["answers"])
