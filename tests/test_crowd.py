"""When all devices come at once, they are greeted, and those who are spoken to do not wait behind them."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from xiaozhi_hub.audio.opus import silence
from xiaozhi_hub.core.loop import ACCEPTED_AT_ONCE, READY_AT_ONCE, new_event_loop
from xiaozhi_hub.testing import DeviceState, FakeDevice, TurnResult, running_hub
from xiaozhi_hub.web.app import listen

HOUSE = """
voice: {vad: echo, asr: echo, tts: echo, llm: echo}
history: {enabled: false}
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  clock: false
  echo: {tts: {ms: 1500}, llm: {otherwise: "A long answer."}}
"""
CROWD = 60
linux = pytest.mark.skipif(sys.platform != "linux", reason="only there the loop is ours")


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run on the loop that `xiaozhi-hub run` uses."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(work)


async def until(holds: Callable[[], bool], within: float = 20.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0)


def count_passes() -> Callable[[], int]:
    """Return what tells how often the loop has gone round."""
    loop, passes = asyncio.get_running_loop(), 0

    def tick() -> None:
        nonlocal passes
        passes += 1
        loop.call_soon(tick)

    loop.call_soon(tick)
    return lambda: passes


def speech(result: TurnResult) -> list[bytes]:
    """What was said. The silence before it depends on how soon the voice was there."""
    quiet = {packet.data for packet in silence(100)}
    return [packet.data for packet in result.packets if packet.data not in quiet]


def test_a_crowd_is_greeted_while_somebody_hears_every_packet_in_order(tmp_path: Path) -> None:
    async def work() -> None:
        async with (
            running_hub(tmp_path, HOUSE) as hub,
            FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", listens=False) as speaker,
        ):
            alone = await speaker.ask_text("tell me something")
            assert len(speech(alone)) >= 20
            url = f"ws://127.0.0.1:{hub.port}/xiaozhi/v1/"
            crowd = [
                FakeDevice(url=url, device_id=f"02:00:00:00:01:{number:02x}", listens=False) for number in range(CROWD)
            ]
            answer = asyncio.create_task(speaker.ask_text("tell me something"))
            await until(lambda: speaker.state is DeviceState.SPEAKING)
            await asyncio.gather(*(device.connect() for device in crowd))
            assert all(device.connected and device.session_id for device in crowd)
            await until(lambda: len(hub.devices.sessions) == CROWD + 1)
            assert speech(await answer) == speech(alone)
            await asyncio.gather(*(device.hang_up() for device in crowd))
            await until(lambda: len(hub.devices.sessions) == 1)
            assert speech(await speaker.ask_text("tell me something")) == speech(alone)

    run(work())


@linux
def test_one_pass_of_the_loop_serves_few_sockets_and_the_next_ones_serve_the_others() -> None:
    async def work() -> None:
        loop, passes, served = asyncio.get_running_loop(), count_passes(), dict[int, int]()
        with ExitStack() as stack:
            pairs = [tuple(map(stack.enter_context, socket.socketpair())) for _ in range(40)]

            def read(number: int) -> None:
                pairs[number][0].recv(1)
                served[number] = passes()

            for number, (here, there) in enumerate(pairs):
                loop.add_reader(here, read, number)
                there.send(b"x")
            await until(lambda: len(served) == len(pairs))
            for here, _ in pairs:
                loop.remove_reader(here)
        assert max(Counter(served.values()).values()) <= READY_AT_ONCE

    run(work())


@linux
def test_who_has_more_and_more_to_say_does_not_keep_the_others_from_being_heard() -> None:
    async def work() -> None:
        loop, served = asyncio.get_running_loop(), Counter[int]()
        with ExitStack() as stack:
            pairs = [tuple(map(stack.enter_context, socket.socketpair())) for _ in range(3 * READY_AT_ONCE)]
            for number, (here, there) in enumerate(pairs):
                loop.add_reader(here, served.update, [number])  # nothing is taken: it is always ready
                there.send(b"x")
            await until(lambda: served.total() >= 20 * len(pairs))
            for here, _ in pairs:
                loop.remove_reader(here)
        assert min(served[number] for number in range(len(pairs))) >= 10

    run(work())


def test_a_crowd_waits_in_the_system_and_is_taken_in_a_few_at_a_time() -> None:
    async def work() -> None:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        assert runner.server is not None
        server = await listen(runner.server, "127.0.0.1", 0)
        try:
            with ExitStack() as stack:
                for _ in range(CROWD):  # nobody takes them in meanwhile: the loop stands
                    stack.enter_context(socket.create_connection(server.sockets[0].getsockname(), timeout=5))
                passes, inside = count_passes(), [0]
                while inside[-1] < CROWD:
                    await asyncio.sleep(0)
                    inside.append(len(runner.server.connections))
                    assert passes() < 100 * CROWD
            at_once = max(after - before for before, after in zip(inside, inside[1:], strict=False))
            assert at_once <= ACCEPTED_AT_ONCE + 1  # later versions of Python take one more than they are told
        finally:
            server.close()
            await runner.cleanup()

    run(work())
