"""MQTT 3.1.1 on the wire, as far as the server of devices needs it. Pure: bytes in, values out.

Source: OASIS MQTT Version 3.1.1; section numbers are those of that document.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xiaozhi_hub.plugins.api import ProtocolError

LEVEL = 4
"""Of the protocol: 3.1.1."""
ACCEPTED, WRONG_LEVEL, WRONG_ID, UNAVAILABLE, WRONG_PASSWORD, NOT_AUTHORISED = range(6)
"""Return codes of CONNACK (3.2.2.3)."""
SUBSCRIBE_FAILED = 0x80
_CONNECT, _CONNACK, _PUBLISH, _PUBACK = 1, 2, 3, 4
_SUBSCRIBE, _SUBACK, _UNSUBSCRIBE, _UNSUBACK, _PINGREQ, _PINGRESP, _DISCONNECT = 8, 9, 10, 11, 12, 13, 14
_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Connect:
    """The first packet of a client. Of a client that speaks another level of the protocol only the level is read."""

    level: int
    client_id: str = ""
    username: str = ""
    password: bytes = b""
    keepalive: int = 0
    """Seconds; 0 when the client promises nothing."""
    clean: bool = True


@dataclass(frozen=True, slots=True)
class Publish:
    """A message of the client."""

    topic: str
    payload: bytes
    id: int | None = None
    """To be acknowledged under this number; None with QoS 0."""


@dataclass(frozen=True, slots=True)
class PubAck:
    """The client has a message."""

    id: int


@dataclass(frozen=True, slots=True)
class Subscribe:
    """The client wants what is published under these filters."""

    id: int
    filters: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """The client no longer wants it."""

    id: int


@dataclass(frozen=True, slots=True)
class PingReq:
    """The client is there, and asks whether the server is."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """The client goes."""


Packet = Connect | Publish | PubAck | Subscribe | Unsubscribe | PingReq | Disconnect


# -- what clients send --------------------------------------------------------------------------------------------


class PacketReader:
    """Cuts the bytes of one connection into packets."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """Bytes of the largest packet that is taken, without its header."""
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Yield the packets that *data* completes. Raises `ProtocolError` for what no client may send; the connection cannot
        go on then."""
        self._buffer += data
        while (size := self._size()) is not None:
            start, end = size
            if len(self._buffer) < end:
                return
            head, body = self._buffer[0], bytes(self._buffer[start:end])
            del self._buffer[:end]
            yield parse(head, body)

    def _size(self) -> tuple[int, int] | None:
        """Where the body of the first packet begins and ends; None when its length has not come whole (2.2.3)."""
        length = 0
        for index in range(1, len(self._buffer)):
            byte = self._buffer[index]
            length |= (byte & 0x7F) << 7 * (index - 1)
            if length > self.limit:
                raise _wrong(f"a packet of more than {self.limit} bytes")
            if byte < 0x80:
                return index + 1, index + 1 + length
            if index == _LENGTH_BYTES:
                raise _wrong("a packet whose length has no end")
        return None


def parse(head: int, body: bytes) -> Packet:
    """Understand one packet: its first byte, and what follows the length."""
    kind, flags = head >> 4, head & 0x0F
    if kind == _PUBLISH:
        return _publish(flags, _Body(body))
    if flags != (0b0010 if kind in (_SUBSCRIBE, _UNSUBSCRIBE) else 0):
        raise _wrong("a packet with flags that are reserved")
    rest = _Body(body)
    packet: Packet
    match kind:
        case 1:
            return _connect(rest)
        case 4:
            packet = PubAck(rest.packet_id())
        case 8:
            packet = _subscribe(rest)
        case 10:
            packet = Unsubscribe(rest.packet_id())
            rest.text()  # one at least
            while rest:
                rest.text()
        case 12:
            packet = PingReq()
        case 14:
            packet = Disconnect()
        case _:
            raise _wrong(f"a packet of kind {kind}, which this server does not take")
    rest.end()
    return packet


class _Body:
    """Reads the fields of a packet one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        if len(piece) < count:
            raise _wrong("a packet that is shorter than it says")
        self._at += count
        return piece

    def number(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def byte(self) -> int:
        return self.take(1)[0]

    def binary(self) -> bytes:
        return self.take(self.number())

    def text(self) -> str:
        try:
            text = self.binary().decode()
        except UnicodeDecodeError as error:
            raise _wrong("a text that is not UTF-8") from error
        if "\0" in text:
            raise _wrong("a text that holds a null character")  # 1.5.3
        return text

    def packet_id(self) -> int:
        if (number := self.number()) == 0:
            raise _wrong("a packet id of 0")
        return number

    def rest(self) -> bytes:
        return self.take(len(self._data) - self._at)

    def end(self) -> None:
        if self:
            raise _wrong("a packet that is longer than its content")


def _connect(body: _Body) -> Connect:
    name, level = body.text(), body.byte()
    if name not in ("MQTT", "MQIsdp"):
        raise _wrong("a client of another protocol")
    if name != "MQTT" or level != LEVEL:
        return Connect(level if name == "MQTT" else 0)
    flags = body.byte()
    has_name, has_password, has_will = flags & 0x80, flags & 0x40, flags & 0x04
    if flags & 0x01 or (has_password and not has_name) or (not has_will and flags & 0x38) or flags & 0x18 == 0x18:
        raise _wrong("a CONNECT with flags that contradict each other")  # 3.1.2
    keepalive = body.number()
    client_id = body.text()
    if has_will:  # nobody is told when a device goes, so what it leaves is read over
        body.text()
        body.binary()
    username = body.text() if has_name else ""
    password = body.binary() if has_password else b""
    body.end()
    return Connect(level, client_id, username, password, keepalive, bool(flags & 0x02))


def _publish(flags: int, body: _Body) -> Publish:
    qos = flags >> 1 & 0b11
    if qos > 1:
        raise _wrong(f"a message with QoS {qos}; this server takes 0 and 1")
    if flags & 0b1000 and not qos:
        raise _wrong("a message that is repeated although nobody acknowledges it")  # 3.3.1.1
    topic = body.text()
    if not topic or "+" in topic or "#" in topic:
        raise _wrong("a message under a topic that cannot be")  # 3.3.2.1
    number = body.packet_id() if qos else None
    return Publish(topic, body.rest(), number)


def _subscribe(body: _Body) -> Subscribe:
    number = body.packet_id()
    filters: list[str] = []
    while body or not filters:
        filters.append(body.text())
        if body.byte() > 2:
            raise _wrong("a subscription with an unknown QoS")
    return Subscribe(number, tuple(filters))


def _wrong(what: str) -> ProtocolError:
    return ProtocolError(what, code="packet-invalid", close=True)


# -- what the server sends ----------------------------------------------------------------------------------------


def connack(code: int) -> bytes:
    """The answer to CONNECT. The server keeps no sessions, so it never says that one was present."""
    return _packet(_CONNACK, bytes((0, code)))


def publish(topic: str, payload: bytes) -> bytes:
    """A message with QoS 0."""
    return _packet(_PUBLISH, _text(topic) + payload)


def puback(number: int) -> bytes:
    return _packet(_PUBACK, number.to_bytes(2, "big"))


def suback(number: int, codes: bytes) -> bytes:
    """The answer to SUBSCRIBE: for each filter the QoS that is granted, or `SUBSCRIBE_FAILED`."""
    return _packet(_SUBACK, number.to_bytes(2, "big") + codes)


def unsuback(number: int) -> bytes:
    return _packet(_UNSUBACK, number.to_bytes(2, "big"))


def pingresp() -> bytes:
    return _packet(_PINGRESP, b"")


def _packet(kind: int, body: bytes) -> bytes:
    length, rest = bytearray(), len(body)
    while True:
        rest, digit = rest >> 7, rest & 0x7F
        length.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes((kind << 4, *length)) + body


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data
