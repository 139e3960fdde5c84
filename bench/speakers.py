"""Devices that are answered all the time, in a process of their own: what they hear is not held up by what others do here.

    python bench/speakers.py http://127.0.0.1:8003/xiaozhi/ota/ --devices 50

Says ``ready`` when all have been answered once, goes on until its input ends, and then prints what they heard as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hub_process import FLEET_CORE, percentile, pin

from xiaozhi_hub.testing import FakeDevice, TurnResult

QUESTION = "echo please"
MOST_SECONDS = 300.0
START_SECONDS = 120.0
END_SECONDS = 30.0


@asynccontextmanager
async def speakers(ota_url: str, count: int) -> AsyncIterator[dict[str, Any]]:
    """Let *count* devices be answered while the block is entered; what they heard is in the mapping afterwards."""
    figures: dict[str, Any] = {}
    if not count:
        yield figures
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable, __file__, ota_url, "--devices", str(count),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):  # where it is allowed: others share their core
        os.setpriority(os.PRIO_PROCESS, process.pid, -15)
    try:
        async with asyncio.timeout(START_SECONDS):
            if await process.stdout.readline() != b"ready\n":
                raise RuntimeError("the speaking devices could not begin")
        yield figures
        process.stdin.close()
        async with asyncio.timeout(END_SECONDS):
            figures |= json.loads(await process.stdout.read())
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        await process.wait()


async def _talk(ota_url: str, count: int) -> dict[str, Any]:
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin, over.set)
    devices = [
        FakeDevice(listens=False, ota_url=ota_url, device_id=f"02:00:00:01:{n >> 8:02x}:{n & 255:02x}")
        for n in range(count)
    ]
    results: list[TurnResult] = []
    failures: list[str] = []
    stalls: list[float] = []

    async def talk(device: FakeDevice) -> None:
        while not over.is_set():
            try:
                results.append(await device.ask_text(QUESTION))
            except Exception as error:  # whatever it is, it is what we look for
                failures.append(f"{device.device_id}: {error}")
                await asyncio.sleep(0.5)

    async def watch() -> None:
        """This process's own lateness: what is late here was perhaps not late at the hub."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            stalls.append((time.monotonic() - began - 0.01) * 1000)

    for device in devices:
        await device.__aenter__()
        await device.connect()
    await devices[0].ask_text(QUESTION)
    print("ready", flush=True)
    watching = asyncio.create_task(watch())
    talks = []
    for device in devices:
        talks.append(asyncio.create_task(talk(device)))
        await asyncio.sleep(2.0 / count)
    async with asyncio.timeout(MOST_SECONDS):
        await over.wait()
        await asyncio.gather(*talks)
    watching.cancel()
    await asyncio.gather(*(device.__aexit__(None, None, None) for device in devices))
    first = [r.stamps["first_frame"] for r in results if "first_frame" in r.stamps]
    return {
        "speaking": count,
        "turns": len(results),
        "underruns": sum(r.underruns for r in results),
        "stall_ms_max": max((r.stall_ms for r in results), default=0.0),
        "first_frame_ms_p95": round(percentile(first, 0.95), 1),
        "own_lateness_ms_max": round(max(stalls, default=0.0), 1),
        "failures": failures[:10],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ota_url")
    parser.add_argument("--devices", type=int, default=50)
    args = parser.parse_args()
    if not 1 <= args.devices <= 500:
        parser.error("--devices takes 1 to 500")
    pin(FLEET_CORE)
    with contextlib.suppress(
        OSError
    ):  # where it is allowed: a device of its own is not held up by other devices either
        os.nice(-10)
    print(json.dumps(asyncio.run(_talk(args.ota_url, args.devices))))


if __name__ == "__main__":
    main()
