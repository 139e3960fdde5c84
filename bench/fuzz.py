"""Throw malformed input at a hub: upgrades, hellos, messages, binary frames 1–3, raw WebSocket frames, check-ins.

    python bench/fuzz.py --count 1000000
    python bench/fuzz.py --count 5000 --seed 7 --kind message --kind binary

The input is made from what devices send, by a seeded generator, so that a run can be repeated. The hub runs in this process with
scripted engines. What must hold: no exception is logged or lost, every connection gets its answer or its end, the hub answers a
device afterwards, and no task is left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from xiaozhi_hub.conformance.wire import PING, NoUpgrade, Socket, open_socket
from xiaozhi_hub.protocol.binary import pack
from xiaozhi_hub.testing import PROFILES, FakeDevice, quiet, running_hub
from xiaozhi_hub.testing.check_in import system_report

CONFIGURATION = """
voice: {vad: echo, asr: echo, tts: echo, llm: echo}
history: {enabled: false}
limits: {devices: 2000, frames_per_second: 1000, json_per_second: 1000}
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  echo: {asr: {say: "question"}}
"""
PER_CONNECTION = 40
"""Messages or frames that share a connection."""
ANSWER_SECONDS = 15.0
PARTIAL_SECONDS = 0.3
"""A request that is not answered by then lacks its end."""
TASK_SECONDS = 15.0
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


@dataclass
class Findings:
    """What went wrong, and how much was tried."""

    inputs: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """How connections ended."""
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str) -> None:
        if len(self.wrong) < 50:
            self.wrong.append(what)


class Listener(logging.Handler):
    """Hears of everything that was logged as an error, or with an exception."""

    def __init__(self, findings: Findings) -> None:
        super().__init__(logging.WARNING)
        self._findings = findings

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info) if record.exc_info else ""
            self._findings.note(f"logged: {record.name}: {record.getMessage()[:300]} {trace[-1500:]}")


class Fuzzer:
    """Feeds one hub."""

    def __init__(self, url: str, maker: Maker, findings: Findings) -> None:
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port or 80
        self._ws = f"ws://{self._host}:{self._port}{PATH}"
        self.make = maker
        self.found = findings
        self.kinds: dict[str, Callable[[int], Any]] = {
            "handshake": self.handshakes,
            "ota": self.check_ins,
            "hello": self.hellos,
            "message": self.messages,
            "binary": self.binaries,
            "frame": self.frames,
        }

    async def handshakes(self, count: int) -> None:
        for _ in range(count):
            await self._http("handshake", self.make.handshake())

    async def check_ins(self, count: int) -> None:
        for _ in range(count):
            await self._http("ota", self.make.check_in())

    async def _http(self, kind: str, data: bytes) -> None:
        """Send a request and nothing more; the hub must answer or hang up."""
        self.found.inputs[kind] += 1
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(data)
                try:
                    async with asyncio.timeout(PARTIAL_SECONDS):
                        answer = await reader.read(64)
                except TimeoutError:  # half a request: the hub waits for the rest
                    answer = b""
                writer.write_eof()
                await reader.read()
            status = answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.") else "nothing"
            self.found.ends[f"{kind} {status}"] += 1
            if status.startswith("5") and status not in ("503", "501", "505"):
                self.found.note(f"{kind}: status {status} for {data[:600]!r}")
        except TimeoutError:
            self.found.note(f"{kind}: neither an answer nor an end within {ANSWER_SECONDS:.0f} s for {data[:600]!r}")
        except OSError:
            self.found.ends[f"{kind} reset"] += 1
        finally:
            writer.close()

    async def _open(self, version: int = 1) -> Socket:
        headers = [("Host", self._host), ("Device-Id", self.make.device_id()), ("Protocol-Version", str(version))]
        return await open_socket(self._ws, headers, framing=version)

    async def _hello(self, socket: Socket) -> None:
        await socket.send(HELLO)
        await socket.timeline.until_message("hello", within=ANSWER_SECONDS)

    async def _alive(self, kind: str, socket: Socket, last: bytes) -> None:
        """The hub has taken everything, or has hung up: it answers a ping."""
        await socket.send_frame(PING, b"?")
        try:
            await socket.timeline.until("pong", lambda: b"?" in socket.pongs or not socket.alive, ANSWER_SECONDS)
            self.found.ends[f"{kind} {'goes on' if socket.alive else 'ended'}"] += 1
        except Exception as error:  # whatever it is, it is what we look for
            self.found.note(f"{kind}: {error}, the last input was {last[:600]!r}")

    async def hellos(self, count: int) -> None:
        for _ in range(count):
            async with await self._open() as socket:
                self.found.inputs["hello"] += 1
                text = self.make.text(HELLO)
                await socket.send_frame(1, text)
                await self._alive("hello", socket, text)

    async def messages(self, count: int) -> None:
        await self._share("message", count, 1, lambda: (1, self.make.text(*MESSAGES * 8, GOODBYE)))

    async def binaries(self, count: int) -> None:
        version = self.make.random.choice((1, 2, 3))
        await self._share("binary", count, version, lambda: (2, self.make.binary(version)), listen=True)

    async def _share(
        self, kind: str, count: int, version: int, make: Callable[[], tuple[int, bytes]], *, listen: bool = False
    ) -> None:
        """Many inputs on one connection, for as long as that lives."""
        left = count
        while left > 0:
            async with await self._open(version) as socket:
                await self._hello(socket)
                if listen:
                    await socket.send(MESSAGES[self.make.random.randrange(3)])
                payload = b""
                while left > 0 and socket.alive:
                    opcode, payload = make()
                    self.found.inputs[kind] += 1
                    left -= 1
                    await socket.send_frame(opcode, payload)
                await self._alive(kind, socket, payload)

    async def frames(self, count: int) -> None:
        left = count
        while left > 0:
            async with await self._open() as socket:
                await self._hello(socket)
                for _ in range(min(left, 4)):
                    frame = self.make.raw_frame()
                    self.found.inputs["frame"] += 1
                    left -= 1
                    await socket.send_raw(frame)
                # It may wait for the rest of a frame that promised more: hang up in its middle, as a device does.
                await asyncio.sleep(0)
                self.found.ends["frame sent"] += 1


async def fuzz(folder: Path, count: int, seed: int, kinds: tuple[str, ...] = (), at_once: int = 8) -> Findings:
    """Feed a hub *count* inputs; return what went wrong."""
    found = Findings()
    listener, loop = Listener(found), asyncio.get_running_loop()
    logging.getLogger().addHandler(listener)
    loop.set_exception_handler(
        lambda _, context: found.note(f"lost: {context.get('message')} {context.get('exception')!r}")
    )
    try:
        async with running_hub(folder, CONFIGURATION) as hub:
            fuzzer = Fuzzer(hub.local_url, Maker(seed), found)
            chosen = kinds or tuple(fuzzer.kinds)
            before = set(asyncio.all_tasks())

            async def worker(share: int) -> None:
                while share > 0:
                    some = min(PER_CONNECTION, share)
                    kind = fuzzer.make.random.choice(chosen)
                    try:
                        await fuzzer.kinds[kind](some)
                    except NoUpgrade as error:
                        found.note(f"{kind}: {error}")
                    except OSError:
                        found.ends[f"{kind} refused"] += 1
                    share -= some

            shares = [count // at_once + (number < count % at_once) for number in range(at_once)]
            await asyncio.gather(*(worker(share) for share in shares))
            await _answers(f"{hub.local_url}/xiaozhi/ota/", found)
            await _nothing_left(before, found)
    finally:
        logging.getLogger().removeHandler(listener)
        loop.set_exception_handler(None)
    return found


async def _answers(ota_url: str, found: Findings) -> None:
    """A device comes and is answered."""
    try:
        async with FakeDevice(ota_url=ota_url, device_id="02:f2:ff:ff:ff:ff") as device:
            result = await device.ask_text("question")
            if not result.packets:
                found.note("afterwards a device gets an answer without sound")
    except Exception as error:  # whatever it is, it is what we look for
        found.note(f"afterwards a device is not answered: {error!r}")


async def _nothing_left(before: set[asyncio.Task[Any]], found: Findings) -> None:
    ends_at = time.monotonic() + TASK_SECONDS
    while True:
        left = {task for task in asyncio.all_tasks() - before if not task.done()} - {asyncio.current_task()}
        if not left:
            return
        if time.monotonic() > ends_at:
            found.note(f"left running: {sorted(task.get_name() for task in left)[:20]}")
            return
        await asyncio.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="how many inputs (default: 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--kind", action="append", default=[], choices=("handshake", "ota", "hello", "message", "binary", "frame")
    )
    parser.add_argument("--at-once", type=int, default=8, help="connections at the same time (default: 8)")
    args = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hub-fuzz-") as folder:
        found = asyncio.run(fuzz(Path(folder), args.count, args.seed, tuple(args.kind), args.at_once))
    seconds = time.monotonic() - began
    figures = {
        "inputs": sum(found.inputs.values()),
        "by_kind": dict(sorted(found.inputs.items())),
        "ends": dict(sorted(found.ends.items())),
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "wrong": found.wrong,
    }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
