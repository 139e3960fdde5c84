"""The hubs that the conformance suite looks at: each with the setting that some claims are about."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import ClientSession
from esp_image import image
from free_ports import free_port
from seeing_model import Server as Model
from seeing_model import serving
from tone_words import spoken as said

from xiaozhi_hub.conformance import Known, Server, Times, Voice
from xiaozhi_hub.conformance.mqtt import second_device_id
from xiaozhi_hub.conformance.run import device_id
from xiaozhi_hub.core.flow import PcmChunk, TurnInfo
from xiaozhi_hub.hub import Hub
from xiaozhi_hub.store.rollouts import ReleaseState, Rollouts
from xiaozhi_hub.testing import PROFILES, starting_hub

TIME_ZONE = "America/New_York"
TIMES = Times(pongless=50.0, quiet_spells=1, ending=30.0, lead_ms=450.0)
"""Shorter than the checklist's so that the suite is: 50 s outlast the 20 + 20 s after which WebSocket libraries cut a client
that sends no pongs. The lead is the hub's own 300 ms, one packet, and what this machine's timers add."""
STORY = " ".join(
    f"Part {number} of the story: a fox went over the hill and came to a river with {number} boats."
    for number in range(20)
)
NEW = "99.0.0"
BOARDS = sorted({profile.board for profile in PROFILES.values()})
BASE = """
hub: {{time_zone: {zone}}}
voice: {{vad: echo, asr: echo, tts: echo, llm: echo}}
conversation: {{idle_s: {idle}}}
{more}
integrations:
  silero_vad: false
  phrases: false
  espeak: false
  clock: false
  echo:
    asr: {{{asr}}}
    tts: {{{tts}}}
    llm:
      {llm}
      rules: [{{heard: "long story", say: "{story}"}}]
      otherwise: "This is the answer."
"""


def configuration(*, idle: int = 100, asr: str = "", tts: str = "", llm: str = "word_delay: 0", more: str = "") -> str:
    return BASE.format(zone=TIME_ZONE, idle=idle, asr=asr, tts=tts, llm=llm, more=more, story=STORY)


def _mqtt_devices() -> list[str]:
    """Those of P-57 to P-59, whichever firmware they have; P-57 has two."""
    ids = [device_id(number, profile) for number in ("P-57", "P-58", "P-59") for profile in PROFILES.values()]
    return [*ids, *(second_device_id(device_id("P-57", profile), n) for profile in PROFILES.values() for n in (1, 2))]


SETTINGS: Mapping[str, tuple[str, Known]] = {
    "usual": (configuration(), Known(pairing=False)),
    "hasty": (configuration(idle=5), Known()),
    "asr fails": (configuration(asr="fail: true"), Known(fails=True)),
    "llm fails": (configuration(llm="fail: true"), Known(fails=True)),
    "tts fails": (configuration(tts="fail: true"), Known(fails=True)),
    "tts fails later": (configuration(tts="fail_after: 3"), Known(fails=True)),
    "loading": (configuration() + "  slow:\n", Known(loading=True)),
    "named": ("", Known()),
    "pairing": (configuration(more="devices: {pairing: approve}"), Known(pairing=True)),
    "firmware": (configuration(more="limits: {downloads: 20}"), Known()),
    "vision": (configuration(), Known(vision=True)),
    "mqtt": (
        configuration(
            idle=5, more=f"devices: {{{', '.join(f'{id_!r}: {{transport: mqtt}}' for id_ in _mqtt_devices())}}}"
        )
        + "  mqtt_udp: {port: 0, udp_port: 0}\n",
        Known(mqtt=True),
    ),
}
"""Configuration and what is known of it."""
WHERE: Mapping[str, tuple[str, ...]] = {
    "P-11": ("usual", "pairing"),
    "P-12": ("pairing",),
    "P-13": ("pairing",),
    "P-14": ("loading",),
    "P-15": ("firmware",),
    "P-16": ("named",),
    "P-18": ("usual", "pairing"),
    "P-30": ("usual", "asr fails", "llm fails", "tts fails", "tts fails later"),
    "P-44": ("hasty",),
    "P-53": ("usual", "vision"),
    "P-54": ("vision",),
    "P-55": ("vision",),
    "P-56": ("vision",),
    "P-57": ("mqtt",),
    "P-58": ("mqtt",),
    "P-59": ("mqtt",),
}
"""In which hubs a claim must hold; the others hold in the usual one."""


def places(number: str) -> tuple[str, ...]:
    return WHERE.get(number, ("usual",))


def spoken(text: str) -> PcmChunk:
    return said(text, before_ms=200)


def voice() -> Voice:
    return Voice(
        short=spoken("question"),
        long=spoken("long story"),
        volume=spoken("set the volume to thirty percent"),
        loud=spoken("set the volume to 300 percent"),
        photo=spoken("take a photo"),
        reboot=spoken("reboot"),
        text="question",
    )


@asynccontextmanager
async def houses(folder: Path, names: Sequence[str]) -> AsyncIterator[dict[str, Server | str]]:
    """Run the hubs called *names*; the value is why where one does not start."""
    speech = voice()
    async with AsyncExitStack() as stack:
        found: dict[str, Server | str] = {}

        async def one(name: str) -> None:
            try:
                enter = named_hub(folder) if name == "named" else house(folder / name.replace(" ", "-"), name, speech)
                found[name] = await stack.enter_async_context(enter)
            except Exception as error:  # the claims about this hub fail; the others are looked at all the same
                found[name] = f"the hub for this does not start: {type(error).__name__}: {error}"

        for name in names:
            await one(name)
        if isinstance(named := found.get("named"), Server):
            found["named"] = replace(named, voice=speech)
        yield found


@asynccontextmanager
async def house(folder: Path, name: str, speech: Voice) -> AsyncIterator[Server]:
    text, known = SETTINGS[name]
    async with AsyncExitStack() as stack:
        if name == "loading":
            _slow_integration(folder)
        if name == "firmware":
            _images(folder)
        if name == "vision":
            model = await stack.enter_async_context(serving(Model()))
            text += f"  openai_compatible: {{url: 'http://127.0.0.1:{model.port}/v1'}}\n"
        hub = await stack.enter_async_context(starting_hub(folder, text))
        if name != "loading":
            async with asyncio.timeout(120):
                await hub.ready()
        if name == "firmware":
            for board in BOARDS:
                await Rollouts(hub.database).release(board, NEW, ReleaseState.RELEASED, 0.0)
        yield Server(
            speech,
            ota_url=f"{hub.local_url}/xiaozhi/ota/",
            known=replace(
                known,
                time_zone=TIME_ZONE,
                device_ids=_device_ids(hub),
                connected=lambda: tuple(hub.devices.sessions),
                offered_tools=lambda: sorted(_offered(hub)),
            ),
            times=TIMES,
            approve=lambda code: _approve(hub, code),
        )


def _images(folder: Path) -> None:
    """New firmware for every board that asks."""
    for board in BOARDS:
        path = folder / "firmware" / board / f"{NEW}.bin"
        path.parent.mkdir(parents=True)
        path.write_bytes(image(NEW))


async def _approve(hub: Hub, code: str) -> None:
    """What the owner does."""
    async with (
        ClientSession() as http,
        http.post(f"{hub.local_url}/api/devices/approve", json={"code": code}) as reply,
    ):
        assert reply.status == 200, await reply.text()


def _device_ids(hub: Hub) -> Callable[[], Awaitable[Sequence[str]]]:
    async def ids() -> Sequence[str]:
        return [device.id for device in await hub.known_devices.all()]

    return ids


def _offered(hub: Hub) -> set[str]:
    model: Any = hub.engines.llms(["echo"])[0]
    offered: set[str] = set(model.offered)
    if "tools.use" in offered:  # by which a model may call whatever is not the owner's
        for device_id in hub.devices.sessions:
            asking = TurnInfo("turn", "session", device_id, "en")
            offered |= {tool.name for tool in hub.tools.all_for(asking) if not tool.owner_only}
    return offered


def _slow_integration(folder: Path) -> None:
    """Something that is not there yet, for as long as the hub runs."""
    own = folder / "integrations" / "slow"
    own.mkdir(parents=True)
    manifest = {"domain": "slow", "name": "S", "version": "1", "kinds": ["engines"], "online": False}
    (own / "manifest.json").write_text(json.dumps(manifest))
    (own / "__init__.py").write_text(
        "import asyncio, contextlib\n"
        "from xiaozhi_hub.plugins.api import hookimpl\n"
        "@hookimpl\n"
        "@contextlib.asynccontextmanager\n"
        "async def entry_context(entry):\n"
        "    await asyncio.Event().wait()\n"
        "    yield\n"
    )


@asynccontextmanager
async def named_hub(folder: Path) -> AsyncIterator[Server]:
    """A hub in a process of its own that announces itself on loopback: multicast must not leave a test."""
    own = folder / "named"
    own.mkdir()
    name = f"conformance-{os.getpid()}"
    port = free_port()
    (own / "configuration.yaml").write_text(f"hub: {{name: {name}}}\n")
    command = [sys.executable, "-m", "xiaozhi_hub", "run", "-c", str(own), "--host", "127.0.0.1", "--port", str(port)]
    with (own / "log").open("wb") as log:
        process = subprocess.Popen([*command, "--no-self-test"], stdout=log, stderr=log)
    try:
        ota = f"http://127.0.0.1:{port}/xiaozhi/ota/"
        async with asyncio.timeout(120):
            while f"{name}.local" not in (own / "log").read_text():
                assert process.poll() is None, (own / "log").read_text()
                await asyncio.sleep(0.05)
        known = Known(mdns_name=f"{name}.local", mdns_server=("127.0.0.1", 5353))
        yield Server(
            Voice(PcmChunk(np.zeros(0, np.int16), 16000), PcmChunk(np.zeros(0, np.int16), 16000)), ota, known=known
        )
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 20)
