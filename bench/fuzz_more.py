"""Malformed MQTT packets, datagrams and photos, and how they are brought to a hub. `fuzz.py` runs them with the rest."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from fuzz_inputs import HELLO, MESSAGES, OPUS, TEXTS, Maker
from PIL import Image

MQTT_DEVICES = tuple(f"02:f3:00:00:00:{number:02x}" for number in range(64))
UDP_HELLO = {**HELLO, "version": 3, "transport": "udp"}
CLIENT_ID = "3b0f7c1e-9a52-4a0e-8f3d-5d2f0c7e6a11"
PINGREQ, PINGRESP = b"\xc0\x00", b"\xd0\x00"
BOUNDARY = "----ESP32_CAMERA_BOUNDARY"
ANSWER_SECONDS = 15.0
PARTIAL_SECONDS = 0.3


class MoreMaker:
    """Makes what is no HTTP and no WebSocket, and photos."""

    def __init__(self, maker: Maker) -> None:
        self.make, self.random = maker, maker.random
        self._pictures = tuple(_picture(kind) for kind in ("JPEG", "PNG", "WEBP", "GIF"))

    # -- MQTT -----------------------------------------------------------------------------------------------------

    def connect(self, client_id: str, username: str, password: str, *, sound: bool = False) -> bytes:
        """A CONNECT, nearly; without a fault when *sound*."""
        if sound:
            return packet(0x10, text("MQTT") + b"\x04\xc2\x00\x3c" + text(client_id) + text(username) + text(password))
        pick = self.random.choice
        name, level = pick(("MQTT",) * 8 + ("MQIsdp", "", "mqtt")), pick((4,) * 8 + (3, 5, 0, 255))
        flags = self.random.randrange(256) if self.random.random() < 0.3 else pick((0xC2, 0xC2, 0x02, 0xF6, 0xC0))
        fields = [client_id, username, password, pick(TEXTS)]
        if self.random.random() < 0.5:
            fields[self.random.randrange(4)] = pick(TEXTS)
        body = text(name) + bytes((level, flags)) + struct.pack(">H", self.random.randrange(65536))
        return self._maybe_spoilt(packet(0x10, body + b"".join(text(field) for field in fields[: pick((3, 3, 4, 1))])))

    def packet(self) -> bytes:
        """What a client sends after CONNECT, nearly."""
        pick, number = self.random.choice, struct.pack(">H", self.random.choice((0, 1, 2, 65535)))
        if self.random.random() < 0.75:
            payload = self.make.text(*MESSAGES, UDP_HELLO)
            topic = pick(("device-server",) * 9 + TEXTS)
            qos = pick((0, 0, 0, 1, 2, 3))
            data = packet(0x30 | qos << 1 | pick((0, 0, 1, 8)), text(topic) + (number if qos else b"") + payload)
        else:
            head, body = pick(
                (
                    (0x40, number),
                    (0x82, number + text(pick(("devices/x", "#", *TEXTS))) + bytes((pick((0, 1, 2, 3)),))),
                    (0xA2, number + text(pick(("devices/x", *TEXTS)))),
                    (0xC0, b""),
                    (0xC0, b"x"),
                    (0x10, text("MQTT")),
                    (0xE0, b"x"),
                    (self.random.randrange(256), self.random.randbytes(self.random.randrange(20))),
                )
            )
            data = packet(head, body)
        return self._maybe_spoilt(data, 0.05)

    def _maybe_spoilt(self, data: bytes, share: float = 0.2) -> bytes:
        return self.make.spoilt(data) if self.random.random() < share else data

    # -- UDP ------------------------------------------------------------------------------------------------------

    def datagram(self, key: bytes, nonce: bytes, sequence: int) -> bytes:
        """Sealed sound of a conversation, nearly."""
        pick = self.random.choice
        opus = pick((*OPUS[:4], b"", self.random.randbytes(self.random.randrange(200)), self.random.randbytes(1484)))
        kind, flags, _, ssrc = struct.unpack(">BBHI", nonce[:8])
        fields: list[int] = [kind, flags, len(opus), ssrc, self.random.getrandbits(32), sequence]
        if self.random.random() < 0.4:
            limits = (255, 255, 65535, 2**32 - 1, 2**32 - 1, 2**32 - 1)
            at = self.random.randrange(6)
            fields[at] = pick((0, 1, limits[at], (fields[at] + pick((-1, 1, 3000, 3001))) & limits[at]))
        header = struct.pack(">BBHIII", *fields)
        data = header + Cipher(algorithms.AES(key), modes.CTR(header)).encryptor().update(opus)
        return (
            self._maybe_spoilt(data) if self.random.random() < 0.95 else self.random.randbytes(pick((0, 9, 40, 9000)))
        )

    # -- photos ---------------------------------------------------------------------------------------------------

    def photo(self, device_id: str, token: str) -> bytes:
        """A photo with a question, nearly as a camera uploads it."""
        pick = self.random.choice
        question = pick((b"What is this?", b"", b"\xff\xfe", "这是什么?".encode(), b"a" * 9000))
        picture = pick(self._pictures)
        picture = pick((picture, picture, self.make.spoilt(picture), self.random.randbytes(60), b""))
        parts = [
            ([b'Content-Disposition: form-data; name="question"'], question),
            ([b'Content-Disposition: form-data; name="file"; filename="camera.jpg"', b"Content-Type: image/jpeg"], picture),
        ]  # fmt: skip
        for _ in range(pick((0, 0, 0, 1, 2, 12))):
            head, content = pick(parts)
            head = [self.make.spoilt(line) if self.random.random() < 0.3 else line for line in head]
            if self.random.random() < 0.6:
                head.append(pick(_PART_HEADERS))
            parts[self.random.randrange(len(parts))] = (head, content)
            if self.random.random() < 0.3:
                parts.append((head, content))
        edge = b"--" + BOUNDARY.encode()
        body = b"".join(
            edge + b"\r\n" + b"\r\n".join(head) + b"\r\n\r\n" + content + b"\r\n" for head, content in parts
        )
        body += edge + pick((b"--\r\n", b"--\r\n", b"--\r\n", b"--", b"\r\n", b""))
        body = self._maybe_spoilt(body)
        kind = pick(
            (f"multipart/form-data; boundary={BOUNDARY}",) * 9
            + ("multipart/form-data", "multipart/mixed; boundary=", "image/jpeg", f'multipart/x; boundary="{BOUNDARY}')
        )
        headers = {
            "Host": "127.0.0.1",
            "Device-Id": device_id,
            "Client-Id": CLIENT_ID,
            "Authorization": f"Bearer {token}",
            "Content-Type": kind,
            "Connection": "close",
        }
        if self.random.random() < 0.1:
            headers["Content-Encoding"] = pick(("gzip", "deflate", "x"))
        if self.random.random() < 0.3:
            headers["Content-Length"] = str(
                len(body) if self.random.random() < 0.9 else pick((0, len(body) + 1, 10**9))
            )
        else:
            headers["Transfer-Encoding"] = "chunked"
            pieces = [body[at : at + 512] for at in range(0, len(body), 512)]
            body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"
            body = self._maybe_spoilt(body, 0.1)
        return self.make.request("POST /mcp/vision/explain HTTP/1.1", headers, body)


_PART_HEADERS = (
    b"Content-Transfer-Encoding: base64",
    b"Content-Transfer-Encoding: quoted-printable",
    b"Content-Transfer-Encoding: x",
    b"Content-Encoding: gzip",
    b"Content-Encoding: deflate",
    b"Content-Type: multipart/mixed; boundary=inner",
    b"Content-Type: multipart/mixed",
    b"Content-Type: text/plain; charset=x-none",
    b"Content-Length: -1",
    b"Content-Length: 3",
    b"no header at all",
    b"X: " + b"a" * 9000,
)


def _picture(kind: str) -> bytes:
    out = io.BytesIO()
    Image.linear_gradient("L").resize((24, 16)).convert("RGB").save(out, kind)
    return out.getvalue()


def packet(head: int, body: bytes) -> bytes:
    """An MQTT packet."""
    length, rest = bytearray(), len(body)
    while True:
        rest, digit = rest >> 7, rest & 0x7F
        length.append(digit | (0x80 if rest else 0))
        if not rest:
            return bytes((head, *length)) + body


def text(value: str) -> bytes:
    data = value.encode(errors="surrogatepass")
    return struct.pack(">H", len(data)) + data


async def read_packet(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Its first byte, and what follows the length."""
    head, length, shift = (await reader.readexactly(1))[0], 0, 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if digit < 0x80:
            return head, await reader.readexactly(length)


class MoreWays:
    """Brings them to one hub. *note* is told what is wrong; *tried* and *ended* count."""

    def __init__(
        self,
        ask: Callable[[bytes], Any],
        maker: MoreMaker,
        note: Callable[[str], None],
        tried: Callable[[str], None],
        ended: Callable[[str], None],
    ) -> None:
        self._ask, self.make = ask, maker
        self._note, self._tried, self._ended = note, tried, ended
        self._free = list(MQTT_DEVICES)
        self._told: dict[str, dict[str, Any]] = {}

    async def mqtt(self, count: int) -> None:
        """Whole connections that prove nothing, or packets of devices that have proven who they are."""
        async with self._device() as told:
            names = (told["client_id"], told["username"], told["password"])
            if self.make.random.random() < 0.3:
                for _ in range(count):
                    data = self.make.connect(*names)
                    self._tried("mqtt")
                    async with self._connected(told, data):
                        pass
                return
            left = count
            while left > 0:
                async with self._connected(told, self.make.connect(*names, sound=True)) as (_, writer):
                    while left > 0 and not writer.is_closing():
                        self._tried("mqtt")
                        left -= 1
                        writer.write(self.make.packet())
                        await writer.drain()
                        await asyncio.sleep(0)

    async def datagrams(self, count: int) -> None:
        """Sound of a conversation that was begun as devices do."""
        async with self._device() as told:
            names = (told["client_id"], told["username"], told["password"])
            async with self._connected(told, self.make.connect(*names, sound=True)) as (reader, writer):
                writer.write(packet(0x30, text("device-server") + json.dumps(UDP_HELLO).encode()))
                async with asyncio.timeout(ANSWER_SECONDS):
                    hello: dict[str, Any] = {}
                    while hello.get("type") != "hello":
                        head, body = await read_packet(reader)
                        hello = json.loads(body[2 + int.from_bytes(body[:2], "big") :]) if head == 0x30 else {}
                udp = hello["udp"]
                key, nonce = bytes.fromhex(udp["key"]), bytes.fromhex(udp["nonce"])
                mode = self.make.random.choice(("auto", "manual", "realtime"))
                listen = json.dumps({"type": "listen", "state": "start", "mode": mode}).encode()
                writer.write(packet(0x30, text("device-server") + listen))
                await writer.drain()
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.setblocking(False)
                    for number in range(count):
                        self._tried("udp")
                        try:
                            sender.sendto(self.make.datagram(key, nonce, number + 1), (udp["server"], udp["port"]))
                        except BlockingIOError:  # as the network does
                            self._ended("udp lost")
                        if number % 8 == 7:
                            await asyncio.sleep(0.001)

    @asynccontextmanager
    async def _device(self) -> AsyncIterator[dict[str, Any]]:
        """A device that the owner moved to MQTT, and what it is told at its check-in."""
        device_id = self._free.pop()
        try:
            if device_id not in self._told:
                head = f"Host: 127.0.0.1\r\nDevice-Id: {device_id}\r\nClient-Id: {CLIENT_ID}\r\nConnection: close"
                answer = await self._ask(
                    f"POST /xiaozhi/ota/ HTTP/1.1\r\n{head}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
                )
                self._told[device_id] = json.loads(answer.partition(b"\r\n\r\n")[2])["mqtt"]
            yield self._told[device_id]
        finally:
            self._free.append(device_id)

    @asynccontextmanager
    async def _connected(
        self, told: dict[str, Any], first: bytes
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect and send *first*. When the block is left, a ping must be answered, or the connection end with ours."""
        host, _, port = told["endpoint"].partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        how, got = "hangs up", b""
        try:
            writer.write(first)
            try:
                yield reader, writer
                writer.write(PINGREQ)
                async with asyncio.timeout(PARTIAL_SECONDS):
                    while PINGRESP not in got:
                        piece = await reader.read(65536)
                        if not piece:
                            break
                        got = got[-1:] + piece
                    else:
                        how = "goes on"
            except TimeoutError:  # half a packet: the hub waits for the rest
                how = "waits"
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write_eof()
                while await reader.read(65536):
                    pass
            self._ended(f"mqtt {how}")
        except TimeoutError:
            self._note(f"mqtt: no end within {ANSWER_SECONDS:.0f} s, the first input was {first[:600]!r}")
        except (OSError, asyncio.IncompleteReadError):
            self._ended("mqtt reset")
        finally:
            writer.close()


@asynccontextmanager
async def seeing_server() -> AsyncIterator[str]:
    """A server with a model that sees, and always the same; yields the address of its API."""

    def last(values: dict[str, Any]) -> web.Response:
        response = web.json_response(values)
        response.force_close()  # connections that stay would be tasks that stay
        return response

    async def models(request: web.Request) -> web.Response:
        return last({"object": "list", "data": [{"id": "tiny-vl"}]})

    async def chat(request: web.Request) -> web.Response:
        url = (await request.json())["messages"][1]["content"][1]["image_url"]["url"]
        Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).verify()
        return last({"choices": [{"message": {"role": "assistant", "content": "A red mug on a desk."}}]})

    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/chat/completions", chat)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
