"""How many devices one core carries: listening, speaking, in dialogue, idle, and all coming back at once.

    python bench/fleet.py listening --devices 100
    python bench/fleet.py speaking --devices 300
    python bench/fleet.py dialogue --devices 150 --turns 3
    python bench/fleet.py idle --devices 200
    python bench/fleet.py storm --devices 1000 --speaking 50
    python bench/fleet.py abort --devices 10 --turns 20

The hub is pinned to core 0 and the devices to core 1. ``--engines instant`` (the scripted engines of the echo integration) shows the
hub's own share, ``--engines default`` the shipped voice loop. Load goes to 127.0.0.1 only and every run is bounded.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

from hub_process import FLEET_CORE, HubProcess, percentile, pin, running_hub
from returning import Returning, Tools
from speakers import speakers

from xiaozhi_hub.core.flow import PcmChunk
from xiaozhi_hub.testing import FakeDevice, TurnResult, Utterance

INSTANT = """
voice:
  vad: echo
  asr: echo
  tts: echo
  llm: echo
  silence: {complete_ms: 200, extendable_ms: 200, unfinished_ms: 200}
history:
  enabled: false
integrations:
  echo:
    asr: {say: "echo please"}
    tts: {ms: 4000}
    llm: {otherwise: "This is the answer."}
  silero_vad: false
  phrases: false
  espeak: false
  clock: false
limits:
  devices: 2000
"""
DEFAULT = """
history:
  audio: false
integrations:
  demo:
limits:
  devices: 2000
"""
MOST_CHECK_INS = 10
"""At once, before a storm."""
MOST_TRIES = 5
"""A hub that is very late answers without a token rather than not at all."""
REST_SECONDS = 2.0
"""Between coming and going, for what is still to be told of tools."""


def murmur(seconds: float) -> Utterance:
    """Something that counts as speech: a tone that wavers like syllables."""
    time_ = np.arange(int(16000 * seconds)) / 16000
    wave = np.sin(2 * math.pi * 180 * time_) * (0.6 + 0.4 * np.sin(2 * math.pi * 4 * time_)) * 9000
    return Utterance.of(PcmChunk(wave.astype(np.int16), 16000))


def mac(number: int) -> str:
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


async def fleet(hub: HubProcess, count: int, gap: float = 0.01) -> list[FakeDevice]:
    """Connect *count* devices, one after the other."""
    devices = []
    for number in range(count):
        device = FakeDevice(listens=False, ota_url=hub.ota_url, device_id=mac(number))
        await device.__aenter__()
        await device.connect()
        devices.append(device)
        await asyncio.sleep(gap)
    return devices


async def leave(devices: list[FakeDevice]) -> None:
    await asyncio.gather(*(device.__aexit__(None, None, None) for device in devices))


def report(results: list[TurnResult], **more: object) -> dict[str, object]:
    """The figures of some turns."""
    first = [r.stamps["first_frame"] for r in results if "first_frame" in r.stamps]
    return {
        "turns": len(results),
        "underruns": sum(r.underruns for r in results),
        "overflows": sum(r.overflows for r in results),
        "first_frame_ms_p50": round(percentile(first, 0.5), 1),
        "first_frame_ms_p95": round(percentile(first, 0.95), 1),
        "lead_ms_max": round(max((r.lead_ms for r in results), default=0.0)),
        **more,
    }


async def speaking(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """All devices are answered at the same time, with a phrase that is kept."""
    devices = await fleet(hub, args.devices)
    await devices[0].ask_text("echo please")
    before, began = hub.usage(), time.perf_counter()

    async def talk(number: int, device: FakeDevice) -> list[TurnResult]:
        await asyncio.sleep(2.0 * number / len(devices))
        return [await device.ask_text("echo please") for _ in range(args.turns)]

    results = [r for rs in await asyncio.gather(*(talk(n, d) for n, d in enumerate(devices))) for r in rs]
    after, wall = hub.usage(), time.perf_counter() - began
    await leave(devices)
    return report(results, hub_core_percent=round((after.cpu_s - before.cpu_s) / wall * 100, 1))


async def dialogue(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """Each device asks, listens, and asks again."""
    devices = await fleet(hub, args.devices)
    question = murmur(1.5)
    before, began = hub.usage(), time.perf_counter()

    async def talk(number: int, device: FakeDevice) -> list[TurnResult]:
        await asyncio.sleep(5.0 * number / len(devices))
        return [await device.ask(question) for _ in range(args.turns)]

    results = [r for rs in await asyncio.gather(*(talk(n, d) for n, d in enumerate(devices))) for r in rs]
    after, wall = hub.usage(), time.perf_counter() - began
    await leave(devices)
    minutes = args.devices * wall / 60
    return report(results, cpu_s_per_device_minute=round((after.cpu_s - before.cpu_s) / minutes, 4))


async def together(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """All devices are spoken to at the same instant."""
    devices = await fleet(hub, args.devices)
    question = murmur(1.5)
    await devices[0].ask(question)
    results = list(await asyncio.gather(*(device.ask(question) for device in devices)))
    await leave(devices)
    return report(results)


async def listening(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """All microphones are open and nobody speaks: room noise is streamed."""
    devices = await fleet(hub, args.devices)
    for device in devices:
        await device.press_button()
    await asyncio.sleep(3)
    before, began = hub.usage(), time.perf_counter()
    await asyncio.sleep(args.seconds)
    after, wall = hub.usage(), time.perf_counter() - began
    still = sum(device.connected for device in devices)
    await leave(devices)
    percent = (after.cpu_s - before.cpu_s) / wall * 100
    return {
        "devices": args.devices,
        "still_connected": still,
        "hub_core_percent": round(percent, 1),
        "devices_on_one_core": round(args.devices / percent * 100) if percent else None,
    }


async def idle(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """All are connected and do nothing."""
    alone = hub.usage()
    devices = await fleet(hub, args.devices)
    await asyncio.sleep(3)
    full = hub.usage()
    await leave(devices)
    await asyncio.sleep(3)
    return {
        "rss_mb": alone.rss_mb,
        "pss_mb": alone.pss_mb,
        "kb_per_connection": round((full.pss_mb - alone.pss_mb) * 1024 / args.devices, 1),
        "threads_per_connection": round((full.threads - alone.threads) / args.devices, 2),
        "pss_mb_after": hub.usage().pss_mb,
    }


async def abort(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """Each device asks and says ``abort`` in the middle of the answer: how long do frames keep coming?"""
    after: list[float] = []
    over: list[float] = []

    async def talk(number: int) -> None:
        loop, heard_at = asyncio.get_running_loop(), 0.0

        def watch(now: float, outgoing: bool, frame: str | bytes) -> None:
            nonlocal heard_at
            if isinstance(frame, bytes) and not outgoing:
                heard_at = now

        device = FakeDevice(listens=False, ota_url=hub.ota_url, device_id=mac(number), watch=watch)
        async with device:
            await device.connect()
            await asyncio.sleep(number * 0.05)
            for turn in range(args.turns):
                began = loop.time()
                asking = asyncio.create_task(device.ask_text("echo please"))
                async with asyncio.timeout(10):
                    while heard_at < began:
                        await asyncio.sleep(0.003)
                await asyncio.sleep(0.2 + 0.037 * turn % 0.3)
                said = loop.time()
                await device.abort()
                await asyncio.wait([asking], timeout=10)
                over.append((loop.time() - said) * 1000)
                await asyncio.sleep(0.3)
                after.append(max(0.0, (heard_at - said) * 1000))

    await asyncio.gather(*(talk(number) for number in range(args.devices)))
    return {
        "aborts": len(after),
        "last_frame_ms_p50": round(percentile(after, 0.5), 1),
        "last_frame_ms_p99": round(percentile(after, 0.99), 1),
        "last_frame_ms_max": round(max(after), 1),
        "turn_over_ms_p99": round(percentile(over, 0.99), 1),
    }


async def storm(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """All lose their link and come back at the same instant, while ``--speaking`` others are being answered."""
    with contextlib.suppress(
        OSError
    ):  # a crowd that is late is still a crowd; those who are spoken to must not be late by it
        os.setpriority(os.PRIO_PROCESS, 0, 0)
    together = asyncio.Semaphore(MOST_CHECK_INS)
    seconds, hub_seconds = [], []
    lost, whys = 0, set[str]()

    async def check_in(number: int) -> FakeDevice:
        device = FakeDevice(listens=False, ota_url=hub.ota_url, device_id=mac(number))
        async with together:
            for _ in range(MOST_TRIES):
                await device.check_in()
                if "token" in device.ota_answer["websocket"]:
                    return device
        raise RuntimeError(f"{device.device_id} gets no token")

    met = await asyncio.gather(*(check_in(number) for number in range(args.devices)))
    tools = Tools()
    async with speakers(hub.ota_url, args.speaking) as heard:
        for visit in range(args.rounds + 1):
            devices = [Returning(d.device_id, d.client_id, d.ota_answer["websocket"]["token"], tools) for d in met]
            used, began = hub.usage().cpu_s, time.perf_counter()
            outcomes = await asyncio.gather(*(device.connect(hub.port) for device in devices), return_exceptions=True)
            took = time.perf_counter() - began
            lost += sum(outcome is not None for outcome in outcomes)
            whys |= {repr(outcome)[:150] for outcome in outcomes if outcome is not None}
            await asyncio.sleep(REST_SECONDS)
            if visit:  # at the first, they show a new token: that is written down, and so a little more
                seconds.append(round(took, 3))
                hub_seconds.append(round(hub.usage().cpu_s - used, 3))
            for device in devices:
                device.hang_up()
            await asyncio.sleep(REST_SECONDS)
    return {
        "all_greeted_s": seconds,
        "median_s": sorted(seconds)[len(seconds) // 2],
        "hub_cpu_s": hub_seconds,
        "not_greeted": lost,
        "why": sorted(whys)[:5],
        **heard,
    }


async def interrupt(hub: HubProcess, args: argparse.Namespace) -> dict[str, object]:
    """One always listening device is spoken into, again and again: how long does the hub go on?"""
    question = murmur(1.0)
    went_on = []
    async with FakeDevice(ota_url=hub.ota_url, device_id="02:00:00:00:00:01", mode="realtime") as device:
        await device.say(question)
        for _ in range(args.turns):
            await device.speaking()
            await asyncio.sleep(0.5)
            went_on.append(await device.interrupt(question))
    return {"ms_p50": round(percentile(went_on, 0.5), 1), "ms_p95": round(percentile(went_on, 0.95), 1)}


SCENARIOS = {f.__name__: f for f in (listening, speaking, dialogue, together, idle, storm, abort, interrupt)}


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speaking", type=int, default=0, help="devices that are answered during a storm")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--engines", choices=("instant", "default"), default=None)
    parser.add_argument("--max-seconds", type=float, default=300)
    args = parser.parse_args()
    if not 1 <= args.devices <= 1000:
        parser.error("--devices takes 1 to 1000")
    engines = args.engines or ("default" if args.scenario in ("listening", "idle") else "instant")
    pin(FLEET_CORE)
    async with asyncio.timeout(args.max_seconds), running_hub(INSTANT if engines == "instant" else DEFAULT) as hub:
        figures = await SCENARIOS[args.scenario](hub, args)
    print(json.dumps({"scenario": args.scenario, "engines": engines, "devices": args.devices, **figures}, indent=1))


if __name__ == "__main__":
    asyncio.run(main())
