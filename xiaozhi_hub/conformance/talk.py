"""Speaking over a bare connection, and looking at what came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import chain, cycle
from typing import Any

from xiaozhi_hub.conformance.bench import Bench
from xiaozhi_hub.conformance.check import expect
from xiaozhi_hub.conformance.timeline import Answer, Seen, Timeline
from xiaozhi_hub.conformance.verdict import Broken
from xiaozhi_hub.conformance.wire import Socket
from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.protocol.binary import pack
from xiaozhi_hub.testing import Utterance, quiet

LONGEST_ANSWER = 150.0
_QUIET_PACKET_MS = 60


async def listen(socket: Socket, mode: str = "auto") -> None:
    """``listen start``."""
    await socket.send({"session_id": socket.session_id, "type": "listen", "state": "start", "mode": mode})


async def stream(socket: Socket, packets: Iterable[bytes], frame_ms: float) -> None:
    """Send packets at the pace of a microphone, by absolute time."""
    began = socket.timeline.now
    for number, packet in enumerate(packets):
        await asyncio.sleep(max(0.0, began + number * frame_ms / 1000 - socket.timeline.now))
        if not socket.alive:
            return
        await socket.send_binary(pack(socket.framing, packet))


@asynccontextmanager
async def microphone(socket: Socket, speech: Utterance) -> AsyncIterator[None]:
    """Speak, and stay quiet after that, while the block is entered. 60 ms of quiet fit any packet length."""
    async with TaskScope("conformance-microphone") as scope:

        async def speak() -> None:
            await stream(socket, speech.packets, speech.frame_ms)
            await stream(socket, cycle(quiet()), _QUIET_PACKET_MS)

        scope.start(speak(), name="speak")
        yield


async def ask(socket: Socket, speech: Utterance, bench: Bench, *, mode: str = "auto") -> Answer:
    """Ask one question and wait for its answer to the end."""
    timeline, began = socket.timeline, socket.timeline.now
    await listen(socket, mode)
    async with microphone(socket, speech):
        within = speech.end_ms / 1000 + bench.times.reply
        await timeline.until_message("tts", "start", since=began, within=within)
    await timeline.until_message("tts", "stop", since=began, within=LONGEST_ANSWER)
    return answers_since(timeline, began)[-1]


def answers_since(timeline: Timeline, since: float) -> list[Answer]:
    answers, _ = timeline.answers()
    return [answer for answer in answers if answer.start_at >= since]


async def still_answers(socket: Socket, bench: Bench) -> None:
    """The conversation goes on: a question gets its answer. `Broken` otherwise."""
    answer = await ask(socket, bench.voice.utterance(bench.voice.short), bench)
    expect(bool(answer.packets) or bench.known.fails, "the next question gets an answer without sound")


def mcp_requests(timeline: Timeline) -> list[tuple[Seen, dict[str, Any]]]:
    """The JSON-RPC messages of the server that want an answer; notifications are not among them."""
    found = []
    for seen in timeline.heard("mcp"):
        payload = seen.message.get("payload")
        if not isinstance(payload, dict):
            raise Broken(f"an mcp message whose payload is {payload!r}")
        if not str(payload.get("method", "")).startswith("notifications"):
            found.append((seen, payload))
    return found


def no_traffic(timeline: Timeline, since: float, what: str) -> None:
    """`Broken` if the server recognised or said anything since then."""
    for seen in chain(timeline.heard("stt", since=since), timeline.heard("tts", since=since), timeline.audio(since)):
        got = "sound" if seen.is_audio else f"{seen.message.get('type')} {seen.message.get('state', '')}".strip()
        raise Broken(f"{what}: the server sends {got}")


__all__ = ["answers_since", "ask", "listen", "mcp_requests", "microphone", "no_traffic", "still_answers", "stream"]
