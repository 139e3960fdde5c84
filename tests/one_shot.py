"""Asks for a host name as lwIP does and prints what lwIP would look at, as JSON. Needs nothing but Python.

One packet from a random port to the mDNS group, without the unicast bit, asked again after 1, 2 and 4 seconds:
python one_shot.py HOST OWN-ADDRESS
"""

from __future__ import annotations

import json
import random
import socket
import struct
import sys


def ask(host: str, own_address: str) -> dict[str, object]:
    id_ = random.randrange(1, 65536)
    labels = b"".join(bytes([len(part)]) + part.encode() for part in host.split("."))
    question = labels + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(own_address))
        sock.bind((own_address, 0))
        for wait in (1, 1, 2, 3):
            sock.settimeout(wait)
            sock.sendto(struct.pack("!6H", id_, 0x0100, 1, 0, 0, 0) + question, ("224.0.0.251", 5353))
            try:
                data, peer = sock.recvfrom(9000)
            except TimeoutError:
                continue
            return {"peer": peer, "same_id": data[:2] == struct.pack("!H", id_), **read(data, question)}
    raise SystemExit(f"nobody knows {host}")


def read(data: bytes, question: bytes) -> dict[str, object]:
    _, _, questions, count = struct.unpack_from("!4H", data)
    at, addresses, classes = 12 + len(question), [], []
    for _ in range(count):
        while data[at] not in (0, 0xC0):
            at += 1 + data[at]
        at += 2 if data[at] == 0xC0 else 1
        type_, class_, _, size = struct.unpack_from("!2HIH", data, at)
        if type_ == 1:
            addresses.append(socket.inet_ntoa(data[at + 10 : at + 14]))
            classes.append(class_)
        at += 10 + size
    echoed = questions == 1 and data[12 : 12 + len(question)] == question
    return {"question_echoed": echoed, "addresses": addresses, "classes": classes}


if __name__ == "__main__":
    print(json.dumps(ask(sys.argv[1], sys.argv[2])))
