"""Input for a hub that is nearly what devices send. From one seed always the same."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

from xiaozhi_hub.protocol.binary import pack
from xiaozhi_hub.testing import PROFILES, quiet
from xiaozhi_hub.testing.check_in import system_report

OPUS = quiet()
PATH = "/xiaozhi/v1/"
MESSAGES: tuple[dict[str, Any], ...] = (
    {"session_id": "", "type": "listen", "state": "start", "mode": "auto"},
    {"session_id": "", "type": "listen", "state": "start", "mode": "manual"},
    {"session_id": "", "type": "listen", "state": "start", "mode": "realtime"},
    {"session_id": "", "type": "listen", "state": "stop"},
    {"session_id": "", "type": "listen", "state": "detect", "text": "question"},
    {"session_id": "", "type": "abort", "reason": "wake_word_detected"},
    {
        "session_id": "",
        "type": "mcp",
        "payload": {"jsonrpc": "2.0", "id": 1, "result": {"tools": [], "nextCursor": "a"}},
    },
    {"session_id": "", "type": "mcp", "payload": {"jsonrpc": "2.0", "id": 2, "error": {"message": "no"}}},
    {
        "session_id": "",
        "type": "iot",
        "update": True,
        "descriptors": [{"name": "Speaker", "methods": {}, "properties": {}}],
    },
    {"session_id": "", "type": "iot", "update": True, "states": [{"name": "Speaker", "state": {"volume": 70}}]},
    {"session_id": "", "type": "ping"},
    {"session_id": "", "type": "hello", "version": 1},
)
GOODBYE = {"session_id": "", "type": "goodbye"}
"""Ends the connection, so it comes seldom."""
HELLO = {
    "type": "hello",
    "version": 1,
    "features": {"mcp": True, "aec": True, "glyph_push": True},
    "text_font": {"bundle": "noto-v1", "charset": "common", "size": 20, "bpp": 4},
    "transport": "websocket",
    "audio_params": {"format": "opus", "sample_rate": 16000, "channels": 1, "frame_duration": 60},
}
NUMBERS = (0, -1, 1, 2, 3, 60, 2**31 - 1, 2**31, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308)
TEXTS = (
    "",
    " ",
    "\x00",
    "\n",
    '"',
    "\\",
    "你好小智",
    "😀" * 9,
    "a" * 5000,
    "\ud800",
    "../../etc/passwd",
    "%s%n",
    "<b>",
    "-1",
    "NaN",
)


class Maker:
    """Makes inputs of all kinds from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def value(self, depth: int = 0) -> Any:
        """Any JSON value."""
        choice = self.random.randrange(9 if depth < 4 else 6)
        if choice < 2:
            return self.random.choice(NUMBERS)
        if choice < 4:
            return self.random.choice(TEXTS)
        if choice == 4:
            return self.random.choice((None, True, False))
        if choice == 5:
            return "".join(chr(self.random.randrange(0xD7FF)) for _ in range(self.random.randrange(12)))
        if choice == 6:
            return [self.value(depth + 1) for _ in range(self.random.randrange(4))]
        return {str(self.random.choice(TEXTS)): self.value(depth + 1) for _ in range(self.random.randrange(4))}

    def changed(self, value: Any) -> Any:
        """*value* with something wrong somewhere in it."""
        if isinstance(value, dict) and value and self.random.random() < 0.85:
            copy = dict(value)
            name = self.random.choice(list(copy))
            match self.random.randrange(5):
                case 0:
                    del copy[name]
                case 1:
                    copy[self.random.choice(TEXTS)] = self.value()
                case _:
                    copy[name] = self.changed(copy[name])
            return copy
        if isinstance(value, list) and value and self.random.random() < 0.7:
            copy = list(value)
            copy[self.random.randrange(len(copy))] = self.changed(copy[0])
            return copy * self.random.choice((1, 1, 2))
        return self.value()

    def text(self, *templates: Any) -> bytes:
        """JSON that is nearly right, or nearly JSON."""
        value = self.random.choice(templates)
        for _ in range(self.random.randrange(4)):
            value = self.changed(value)
        try:
            data = json.dumps(value, ensure_ascii=self.random.random() < 0.5).encode(errors="surrogatepass")
        except (ValueError, TypeError):
            data = b"{}"
        if self.random.random() < 0.25:
            data = self.spoilt(data)
        if self.random.random() < 0.01:
            data = self.random.choice((b"[", b'{"a":')) * self.random.randrange(20_000)
        return data

    def spoilt(self, data: bytes) -> bytes:
        """*data* after an accident."""
        at, to = sorted((self.random.randrange(len(data) + 1), self.random.randrange(len(data) + 1)))
        match self.random.randrange(5):
            case 0:
                return data[:at]
            case 1:
                return data[:at] + data[to:]
            case 2:
                return data[:at] + self.random.randbytes(self.random.randrange(1, 6)) + data[at:]
            case 3:
                return data[:to] + data[at:]
            case _:
                return bytes(
                    byte ^ (1 << self.random.randrange(8)) if self.random.random() < 0.03 else byte for byte in data
                )

    def binary(self, version: int) -> bytes:
        """A sound frame of a framing, nearly."""
        opus = self.random.choice(OPUS)
        if self.random.random() < 0.5:
            opus = self.random.choice(
                (self.spoilt(opus), self.random.randbytes(self.random.randrange(200)), b"", opus * 30)
            )
        frame = pack(version, opus, self.random.getrandbits(32))
        if version == 2 and self.random.random() < 0.5:
            fields = [2, 0, 0, 0, len(opus)]
            fields[self.random.randrange(5)] = self.random.choice((0, 1, 2, 3, 0xFFFF, len(opus) + 1))
            frame = struct.pack(">HHIII", *fields) + opus
        if version == 3 and self.random.random() < 0.5:
            frame = struct.pack(">BBH", self.random.randrange(256), 0, self.random.randrange(65536)) + opus
        return self.spoilt(frame) if self.random.random() < 0.2 else frame

    def raw_frame(self) -> bytes:
        """A WebSocket frame that may break any rule of RFC 6455."""
        payload = self.random.choice(
            (self.text(*MESSAGES)[:300], self.random.randbytes(self.random.randrange(130)), b"")
        )
        head = bytes(
            [
                self.random.choice(
                    (0x81, 0x82, 0x01, 0x00, 0x80, 0x88, 0x89, 0x8A, 0xC1, 0xF2, self.random.randrange(256))
                )
            ]
        )
        size = (
            len(payload)
            if self.random.random() < 0.8
            else self.random.choice((0, 125, 126, 65535, 65536, 2**40, 2**63))
        )
        masked = 0x80 if self.random.random() < 0.9 else 0
        if size < 126:
            head += bytes([masked | size])
        elif size < 65536:
            head += bytes([masked | 126]) + struct.pack(">H", size)
        else:
            head += bytes([masked | 127]) + struct.pack(">Q", size)
        return head + (b"\x00" * 4 if masked else b"") + payload

    def device_id(self) -> str:
        return "02:f2:" + ":".join(f"{self.random.randrange(256):02x}" for _ in range(4))

    def request(self, first: str, headers: dict[str, str], body: bytes = b"") -> bytes:
        """An HTTP request, nearly."""
        fields = [(name, value) for name, value in headers.items() if self.random.random() > 0.05]
        for _ in range(self.random.randrange(3)):
            if not fields:
                break
            at = self.random.randrange(len(fields))
            name, value = fields[at]
            match self.random.randrange(5):
                case 0:
                    fields[at] = (name, str(self.random.choice(TEXTS)).replace("\n", " "))
                case 1:
                    fields.append((name, value))
                case 2:
                    fields[at] = (name.swapcase(), value)
                case 3:
                    fields[at] = (name, str(self.random.choice(NUMBERS))[:300])
                case _:
                    fields.append(("X-" + "a" * self.random.choice((1, 100, 9000)), "b"))
        head = "\r\n".join([first, *(f"{name}: {value}" for name, value in fields)]) + "\r\n\r\n"
        data = head.encode("utf-8", errors="replace")
        return (self.spoilt(data) if self.random.random() < 0.15 else data) + body

    def handshake(self) -> bytes:
        first = self.random.choice(
            (f"GET {PATH} HTTP/1.1",) * 6
            + ("GET /xiaozhi/v1 HTTP/1.1", "POST /xiaozhi/v1/ HTTP/1.1", f"GET {PATH}?a=%ff HTTP/1.0")
        )
        return self.request(
            first,
            {
                "Host": "127.0.0.1",
                "Authorization": "Bearer x",
                "Client-Id": "3b0f7c1e-9a52-4a0e-8f3d-5d2f0c7e6a11",
                "Connection": "Upgrade",
                "Device-Id": self.device_id(),
                "Protocol-Version": str(self.random.choice((1, 2, 3, 0, 9, -1, "x", "2.0"))),
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
                "Sec-WebSocket-Version": "13",
                "Upgrade": "websocket",
            },
        )

    def check_in(self) -> bytes:
        id_ = self.device_id()
        body = self.text(system_report(id_, "c", "en-US", PROFILES["2.4.2"]))
        path = self.random.choice(("/xiaozhi/ota/", "/xiaozhi/ota", "/xiaozhi/ota/activate", "/xiaozhi/ota//"))
        size = len(body) if self.random.random() < 0.9 else self.random.choice((0, len(body) + 5, 10**9, -1))
        headers = {
            "Host": "127.0.0.1",
            "Accept-Language": "en-US",
            "Activation-Version": self.random.choice(("1", "2", "x")),
            "Client-Id": "3b0f7c1e-9a52-4a0e-8f3d-5d2f0c7e6a11",
            "Connection": "close",
            "Content-Length": str(size),
            "Content-Type": "application/json",
            "Device-Id": id_,
            "User-Agent": "bread-compact-wifi/2.4.2",
        }
        if self.random.random() < 0.1:
            del headers["Content-Length"]
            headers["Transfer-Encoding"] = "chunked"
            body = f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
            body = self.spoilt(body) if self.random.random() < 0.5 else body
        return self.request(f"POST {path} HTTP/1.1", headers, body)
