"""P-60: firmware from before MCP (§9)."""

from __future__ import annotations

from dataclasses import replace

from xiaozhi_hub.conformance.bench import Bench
from xiaozhi_hub.conformance.check import check, expect
from xiaozhi_hub.conformance.conversation import asked
from xiaozhi_hub.conformance.talk import mcp_requests
from xiaozhi_hub.testing import PROFILES


@check("P-60", "A v1.6-style client (no features, empty session_id, iot messages) completes a full voice turn.")
async def old_client(bench: Bench) -> str:
    old = replace(PROFILES["1.6.2"], version=bench.profile.version, queue_packets=bench.profile.queue_packets)
    async with bench.device(profile=old) as watched:
        for _ in range(2):
            result, _ = await asked(bench, watched)
            expect(bool(result.packets), "the answer has no sound")
        expect(not mcp_requests(watched.timeline), "the hub sends MCP to a device without features")
        sent = watched.timeline.told("iot")
        expect(len(sent) >= 2, "the device described nothing")
        ids = {seen.message.get("session_id") for seen in watched.timeline.frames if seen.sent and seen.message}
        expect(ids <= {"", None}, "the device sent a session id")
        expect(not watched.fake.complaints, "; ".join(watched.fake.complaints))
        return f"{len(result.packets)} packets, overflows {result.overflows}"
