"""The little of the DNS message format (RFC 1035 §4) that asking one question takes. Pure: bytes in, values out."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

TYPE_A = 1
TYPE_PTR = 12
TYPE_TXT = 16
TYPE_SRV = 33
_CLASS_IN = 1
_CACHE_FLUSH = 0x8000
_RESPONSE = 0x8000
_RECURSION_DESIRED = 0x0100  # lwIP sets it in its one-shot queries; responders ignore it
_MOST_RECORDS = 200
_MOST_LABELS = 64


class NotDns(Exception):
    """The bytes are no usable DNS message."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of an answer; only the fields of its own type are filled."""

    name: str
    """Lower-case, without the last dot."""
    type: int
    ttl: int
    address: str = ""
    target: str = ""
    """PTR: the service instance; SRV: the host. As written by the responder, without the last dot."""
    port: int = 0
    text: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A response to a question."""

    id: int
    records: tuple[Record, ...]
    """Answers first, in the order in which they came, then the additional records."""


def encode_question(id_: int, name: str, type_: int) -> bytes:
    """Return a query with one question, as firmware asks it: without the unicast-response bit."""
    labels = b"".join(bytes([len(part)]) + part for part in name.rstrip(".").encode().split(b"."))
    head = struct.pack("!6H", id_, _RECURSION_DESIRED, 1, 0, 0, 0)
    return head + labels + b"\0" + struct.pack("!2H", type_, _CLASS_IN)


def parse_answer(data: bytes) -> Answer:
    """Read a response; raises `NotDns` for anything else. Records of unknown types are left out."""
    try:
        id_, flags, questions, *counts = struct.unpack_from("!6H", data)
        if not flags & _RESPONSE:
            raise NotDns("a question")
        at = 12
        for _ in range(questions):
            at = _name(data, at)[1] + 4
        records = []
        for _ in range(min(sum(counts), _MOST_RECORDS)):
            record, at = _record(data, at)
            if record is not None:
                records.append(record)
    except (struct.error, IndexError, UnicodeDecodeError, OSError) as error:
        raise NotDns(str(error)) from error
    return Answer(id_, tuple(records))


def _record(data: bytes, at: int) -> tuple[Record | None, int]:
    name, at = _name(data, at)
    type_, class_, ttl, size = struct.unpack_from("!2HIH", data, at)
    at, name = at + 10, name.lower()
    end = at + size
    if end > len(data):
        raise NotDns("cut short")
    if class_ & ~_CACHE_FLUSH != _CLASS_IN:
        return None, end
    if type_ == TYPE_A:
        return Record(name, type_, ttl, address=socket.inet_ntoa(data[at:end])), end
    if type_ == TYPE_PTR:
        return Record(name, type_, ttl, target=_name(data, at)[0]), end
    if type_ == TYPE_SRV:
        port = struct.unpack_from("!H", data, at + 4)[0]
        return Record(name, type_, ttl, port=port, target=_name(data, at + 6)[0]), end
    if type_ == TYPE_TXT:
        return Record(name, type_, ttl, text=_text(data[at:end])), end
    return None, end


def _name(data: bytes, at: int) -> tuple[str, int]:
    """Read the name at *at*; return it and where the data goes on."""
    labels: list[str] = []
    after: int | None = None
    while size := data[at]:
        if size >= 0xC0:  # a pointer: only backwards, so that a malicious message cannot make a loop
            target = (size & 0x3F) << 8 | data[at + 1]
            if target >= at:
                raise NotDns("a name that points forwards")
            after, at = after if after is not None else at + 2, target
            continue
        if size > 63 or len(labels) >= _MOST_LABELS or at + 1 + size > len(data):
            raise NotDns("a bad name")
        labels.append(data[at + 1 : at + 1 + size].decode())
        at += 1 + size
    return ".".join(labels), after if after is not None else at + 1


def _text(data: bytes) -> dict[str, str]:
    values: dict[str, str] = {}
    at = 0
    while at < len(data):
        item = data[at + 1 : at + 1 + data[at]].decode(errors="replace")
        key, _, value = item.partition("=")
        values.setdefault(key.lower(), value)
        at += 1 + data[at]
    return values
