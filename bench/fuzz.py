"""Throw malformed input at a hub: upgrades, hellos, messages, binary frames 1–3, raw WebSocket frames, check-ins, photos,
MQTT packets, datagrams.

    python bench/fuzz.py --count 20000
    python bench/fuzz.py --count 5000 --seed 7 --kind message --kind binary
    python bench/fuzz.py --count 1000000 --at-once 16 --apart --progress

The input is made from what devices send, by a seeded generator, so that a run can be repeated. The hub runs in this process with
scripted engines, or with ``--apart`` in one of its own, so that its memory can be told from the fuzzer's. What must
hold: no exception is logged or lost, every connection gets its answer or its end, the hub answers a device afterwards, and no
task is left.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent))

from fuzz_inputs import GOODBYE, HELLO, MESSAGES, PATH, Maker
from fuzz_more import MQTT_DEVICES, MoreMaker, MoreWays, seeing_server
from hub_process import watched_hub

from xiaozhi_hub.conformance.wire import PING, NoUpgrade, Socket, open_socket
from xiaozhi_hub.testing import FakeDevice, running_hub

CONFIGURATION = """
voice: {vad: echo, asr: echo, tts: echo, llm: echo, vision: openai_compatible}
history: {enabled: false}
limits: {devices: 2000, frames_per_second: 1000, json_per_second: 1000}
devices: {%s}
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  echo: {asr: {say: "question"}, llm: {otherwise: "An answer."}}
  openai_compatible: {url: "%s", llm: false, asr: false, tts: false}
  mqtt_udp: {port: 0, udp_port: 0}
"""
"""The answer does not repeat what was written: the scripted voice takes 100 MB to say 2,000 letters in tones."""
KINDS = {
    "handshake": 1, "ota": 1, "hello": 2, "message": 5, "binary": 5, "frame": 2, "photo": 1, "mqtt": 4, "udp": 4
}  # fmt: skip
"""How often each comes; those that need a connection of their own for each input take the most time."""
PER_CONNECTION = 40
"""Messages or frames that share a connection."""
ANSWER_SECONDS = 15.0
PARTIAL_SECONDS = 0.3
"""A request that is not answered by then lacks its end."""
TASK_SECONDS = 15.0
RSS_SECONDS = 5.0


@dataclass
class Findings:
    """What went wrong, and how much was tried."""

    inputs: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    """How connections ended."""
    wrong: list[str] = field(default_factory=list)
    rss_mb: list[float] = field(default_factory=list)
    """What a hub in a process of its own used: at the start, every few seconds, and at the end."""
    objects: dict[str, int] = field(default_factory=dict)
    """… and how many more objects of a kind it held at the end than at the start."""

    def memory(self) -> dict[str, Any]:
        """The hub's memory at the start and the end, and at each tenth of the way between them."""
        seen = self.rss_mb
        tenths = [seen[round(part * (len(seen) - 1) / 10)] for part in range(11)] if seen else []
        return {"start": seen[0], "most": max(seen), "end": seen[-1], "tenths": tenths} if seen else {}

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
            "photo": self.photos,
        }
        more = MoreWays(
            self._ask,
            MoreMaker(maker),
            findings.note,
            lambda kind: findings.inputs.update((kind,)),
            lambda how: findings.ends.update((how,)),
        )
        self._more = more.make
        self.kinds |= {"mqtt": more.mqtt, "udp": more.datagrams}

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

    async def _ask(self, data: bytes) -> bytes:
        """The whole answer to a request that is in order."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(data)
                return await reader.read()
        finally:
            writer.close()

    async def _open(self, version: int = 1, device_id: str = "") -> Socket:
        id_ = device_id or self.make.device_id()
        headers = [("Host", self._host), ("Device-Id", id_), ("Protocol-Version", str(version))]
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

    async def photos(self, count: int) -> None:
        """Photos of a camera that was told a token."""
        device_id = self.make.device_id()
        async with await self._open(device_id=device_id) as socket:
            await self._hello(socket)
            token = await socket.timeline.until("a token for photos", lambda: _token(socket), ANSWER_SECONDS)
            for _ in range(count):
                await self._http("photo", self._more.photo(device_id, token))

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
    """Feed a hub in this process *count* inputs; return what went wrong."""
    found = Findings()
    listener, loop = Listener(found), asyncio.get_running_loop()
    logging.getLogger().addHandler(listener)
    loop.set_exception_handler(
        lambda _, context: found.note(f"lost: {context.get('message')} {context.get('exception')!r}")
    )
    try:
        async with seeing_server() as model, running_hub(folder, configuration(model)) as hub:
            before = set(asyncio.all_tasks())
            await _feed(Fuzzer(hub.local_url, Maker(seed), found), count, kinds, at_once)
            await _answers(f"{hub.local_url}/xiaozhi/ota/", found)
            await _nothing_left(before, found)
    finally:
        logging.getLogger().removeHandler(listener)
        loop.set_exception_handler(None)
    return found


async def fuzz_apart(
    count: int,
    seed: int,
    kinds: tuple[str, ...] = (),
    at_once: int = 8,
    most_seconds: float = math.inf,
    progress: bool = False,
) -> Findings:
    """Feed a hub in a process of its own *count* inputs; what it logs is looked at, and what it uses and holds is noted."""
    found = Findings()
    async with seeing_server() as model, watched_hub(configuration(model)) as (hub, held):
        before = await held()
        found.rss_mb.append(hub.usage().rss_mb)

        async def watch() -> None:
            while True:
                await asyncio.sleep(RSS_SECONDS)
                found.rss_mb.append(hub.usage().rss_mb)
                if progress:
                    tried, wrong = sum(found.inputs.values()), len(found.wrong)
                    print(f"{tried} inputs, {wrong} wrong, {found.rss_mb[-1]} MB", file=sys.stderr, flush=True)

        watching = asyncio.create_task(watch())
        try:
            await _feed(Fuzzer(hub.url, Maker(seed), found), count, kinds, at_once, most_seconds)
        finally:
            watching.cancel()
        await _answers(hub.ota_url, found)
        found.rss_mb.append(hub.usage().rss_mb)
        ends_at = time.monotonic() + TASK_SECONDS
        while left := Counter((after := await held())["tasks"]) - Counter(before["tasks"]):
            if time.monotonic() > ends_at:
                found.note(f"left running: {left.most_common(20)}")
                break
            await asyncio.sleep(0.5)
        grown = {kind: number - before["objects"].get(kind, 0) for kind, number in after["objects"].items()}
        found.objects = dict(Counter(grown).most_common(12))
        _look_through(hub.log, found)
    return found


def _look_through(log: Path, found: Findings) -> None:
    """Note each error in a hub's log, with the end of what is written under it."""
    under = ""
    with log.open(encoding="utf-8", errors="replace") as lines:
        for line in [*lines, "0"]:
            if under and line[:1].isdigit():
                found.note(f"logged: {under[:200]} … {under[-600:]}")
                under = ""
            if under or " ERROR" in line or " CRITICAL" in line or "never retrieved" in line:
                under += line


def configuration(model_url: str) -> str:
    devices = ", ".join(f'"{id_}": {{transport: mqtt}}' for id_ in MQTT_DEVICES)
    return CONFIGURATION % (devices, model_url)


def _token(socket: Socket) -> str | None:
    """What the hub gives to a camera with ``initialize`` of MCP."""
    for seen in socket.timeline.heard("mcp"):
        params = seen.message.get("payload", {}).get("params", {})
        if vision := params.get("capabilities", {}).get("vision"):
            return str(vision["token"])
    return None


async def _feed(
    fuzzer: Fuzzer, count: int, kinds: tuple[str, ...], at_once: int, most_seconds: float = math.inf
) -> None:
    ends_at = time.monotonic() + most_seconds
    chosen, found = kinds or tuple(KINDS), fuzzer.found

    async def worker(share: int) -> None:
        while share > 0 and time.monotonic() < ends_at:
            some = min(PER_CONNECTION, share)
            kind = fuzzer.make.random.choices(chosen, [KINDS[each] for each in chosen])[0]
            try:
                await fuzzer.kinds[kind](some)
            except NoUpgrade as error:
                found.note(f"{kind}: {error}")
            except OSError:
                found.ends[f"{kind} refused"] += 1
            share -= some

    shares = [count // at_once + (number < count % at_once) for number in range(at_once)]
    await asyncio.gather(*(worker(share) for share in shares))


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
            found.note(f"left running: {sorted(repr(task) for task in left)[:20]}")
            return
        await asyncio.sleep(0.05)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="how many inputs (default: 10000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", action="append", default=[], choices=KINDS)
    parser.add_argument("--at-once", type=int, default=8, help="connections at the same time (default: 8)")
    parser.add_argument(
        "--apart", action="store_true", help="run the hub in a process of its own, and watch its memory"
    )
    parser.add_argument("--most-seconds", type=float, default=math.inf, help="with --apart: end after so long anyway")
    parser.add_argument("--progress", action="store_true", help="with --apart: tell how far it is, every few seconds")
    args = parser.parse_args()
    began = time.monotonic()
    if args.apart:
        found = asyncio.run(
            fuzz_apart(args.count, args.seed, tuple(args.kind), args.at_once, args.most_seconds, args.progress)
        )
    else:
        with tempfile.TemporaryDirectory(prefix="hub-fuzz-") as folder:
            found = asyncio.run(fuzz(Path(folder), args.count, args.seed, tuple(args.kind), args.at_once))
    seconds = time.monotonic() - began
    figures = {
        "inputs": sum(found.inputs.values()),
        "by_kind": dict(sorted(found.inputs.items())),
        "ends": dict(sorted(found.ends.items())),
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "hub_rss_mb": found.memory(),
        "hub_objects_more": found.objects,
        "wrong": found.wrong,
    }
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    return 1 if found.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
