"""P-42 … P-46: connections that stay, end, or are lost (§3.8, §3.9)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from xiaozhi_hub.conformance.bench import Bench
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.conversation import asked
from xiaozhi_hub.conformance.talk import still_answers
from xiaozhi_hub.conformance.timeline import Timeline
from xiaozhi_hub.conformance.verdict import Broken
from xiaozhi_hub.conformance.wire import PING, Socket

ASK_EVERY_SECONDS = 15.0
QUIET_SECONDS = 60.0
CLOSE_SECONDS = 2.0
FREE_SECONDS = 5.0


@check("P-42", "A client that answers no pings stays connected for 5 minutes while it streams audio.", slow=True)
async def no_pongs(bench: Bench) -> str:
    deaf = replace(bench.profile, answers_pings=False)
    async with bench.device(profile=deaf) as watched:
        began = watched.timeline.now
        while (left := began + bench.times.pongless - watched.timeline.now) > 0:
            try:
                await asked(bench, watched)
            except Broken as error:
                raise Broken(f"after {watched.timeline.now - began:.0f} s: {error}") from error
            await asyncio.sleep(min(ASK_EVERY_SECONDS, max(0.0, left)))
            if not watched.fake.connected:
                raise Broken(f"the server hangs up after {watched.timeline.now - began:.0f} s")
        return f"{bench.times.pongless:.0f} s"


@check(
    "P-43", "On an open channel something is sent at least every 60 s, or the hub closes it before 110 s.", slow=True
)
async def keepalive(bench: Bench) -> str:
    async with bench.greeted() as socket:
        timeline = socket.timeline
        longest = 0.0
        for _ in range(bench.times.quiet_spells):
            began = timeline.now
            try:
                await timeline.until("frame", partial(_came, timeline, began), QUIET_SECONDS + 1)
            except Broken:
                if timeline.closed_at is None:
                    await timeline.quiet(49)
                if timeline.closed_at is None:
                    raise Broken("110 s without a frame: the device takes the channel to be dead") from None
                return f"closed after {timeline.closed_at - began:.0f} s of quiet"
            longest = max(longest, timeline.now - began)
        return f"a frame after {longest:.0f} s at the latest"


@check(
    "P-44",
    "The hub ends a conversation by closing; TCP is closed 2 s after the close frame, answered or not.",
    slow=True,
)
async def hang_up(bench: Bench) -> str:
    async with bench.greeted() as socket:
        timeline = socket.timeline
        began = timeline.now
        try:
            await timeline.until(
                "close frame",
                lambda: socket.close_frame_at or timeline.closed_at,
                bench.times.ending,
            )
        except Broken as error:
            if timeline.closed_at is None:
                raise Broken(
                    f"nobody speaks, and after {bench.times.ending:.0f} s the channel is still open"
                ) from error
        if socket.close_frame_at is None:
            return "TCP closed without a close frame"
        await timeline.quiet(CLOSE_SECONDS)
        if timeline.closed_at is None:
            raise Broken(f"TCP is open {CLOSE_SECONDS:.0f} s after the close frame, which no device answers")
        took = timeline.closed_at - socket.close_frame_at
        return f"ended after {socket.close_frame_at - began:.0f} s, TCP {took * 1000:.0f} ms later"


@check("P-45", "A lost connection frees the device within 5 s; a second socket of the device supersedes the first.")
async def newest_wins(bench: Bench) -> str:
    async with bench.greeted() as first:
        async with bench.greeted() as second:
            try:
                await first.timeline.until(
                    "end of the first socket", lambda: first.close_frame_at or first.timeline.closed_at, FREE_SECONDS
                )
            except Broken as error:
                if first.alive:
                    raise Broken("the first socket stays open beside the second") from error
            await still_answers(second, bench)
            second.cut()
            gone_at = first.timeline.now
        if bench.known.connected is not None:
            while bench.device_id in bench.known.connected():
                expect(
                    first.timeline.now - gone_at < FREE_SECONDS, "the device is still held to be connected after 5 s"
                )
                await asyncio.sleep(0.05)
    async with bench.greeted() as third:
        await still_answers(third, bench)
    return "seen from inside too" if bench.known.connected is not None else "seen from outside"


@check("P-46", "The hub answers client pings.")
async def pong(bench: Bench) -> str:
    async with bench.greeted() as socket:
        began = socket.timeline.now
        for count, payload in enumerate((b"", b"20 seconds"), 1):
            await socket.send_frame(PING, payload)
            await socket.timeline.until("pong", partial(_ponged, socket, count), 2)
            expect(socket.pongs[-1] == payload, "the pong does not carry what the ping did")
        return f"{(socket.timeline.now - began) * 1000:.0f} ms"


def _ponged(socket: Socket, count: int) -> bool:
    return len(socket.pongs) >= count


def _came(timeline: Timeline, since: float) -> bool:
    return next(timeline.received(since), None) is not None
