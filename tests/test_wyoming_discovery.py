"""Wyoming services find the hub and are found by it, on a network of its own (mDNS must not leave the machine)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from netns import Network, network  # noqa: F401  # network is a fixture

HERE = Path(__file__).resolve().parent
SCRIPT = """
import asyncio, json, logging, sys
from pathlib import Path

from wyoming.zeroconf import HomeAssistantZeroconf
from wyoming_remote import Remote, serving
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from xiaozhi_hub.testing import running_hub

CONFIG = '''
integrations:
  clock: false
  silero_vad: false
  phrases: false
  espeak: false
  echo:
  wyoming: {discover: true, server: {port: 0, announce: true}}
'''
lines = []
TYPE = "_wyoming._tcp.local."


def names(hub):
    return sorted((e.id, e.rank) for e in hub.engines.all() if e.role == "asr" and e.id.startswith("wyoming/"))


async def until(true):
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.02)


class Lines(logging.Handler):
    def emit(self, record):
        lines.append(record.getMessage())


async def main():
    told = {}
    logging.getLogger().addHandler(Lines())
    async with running_hub(Path(sys.argv[1]), CONFIG) as hub:
        server = hub.plugins.entries[[e.domain for e in hub.plugins.entries].index("wyoming")].runtime
        zc = AsyncZeroconf(interfaces=["127.0.0.1"])
        info = AsyncServiceInfo(TYPE, f"xiaozhi-hub.{TYPE}")
        async with asyncio.timeout(30):
            while not await info.async_request(zc.zeroconf, 500):
                pass
        told["announced"] = [info.parsed_addresses(), info.port == server.port]
        told["before"] = names(hub)
        async with serving(Remote()) as remote:
            announcer = HomeAssistantZeroconf(int(remote.uri.rsplit(":", 1)[1]), name="my whisper", host="127.0.0.1")
            await announcer.register_server()
            await until(lambda: names(hub))
            told["found"] = names(hub)
            await announcer._aiozc.async_close()
            await until(lambda: not names(hub))
            told["after"] = names(hub)
        elsewhere = AsyncServiceInfo(TYPE, f"far.{TYPE}", port=10300, parsed_addresses=["198.51.100.7"])
        await (await zc.async_register_service(elsewhere))
        await until(lambda: any("not in this network" in line for line in lines))
        told["elsewhere"] = names(hub)
        await zc.async_close()
    print(json.dumps(told))


asyncio.run(main())
"""


def test_services_are_found_followed_and_told_of_the_hub_s_own(network: Network, tmp_path: Path) -> None:  # noqa: F811
    machine = network.machine()
    done = subprocess.run(
        machine.command(sys.executable, "-W", "ignore", "-c", SCRIPT, str(tmp_path / "config")),
        env={**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {
        "announced": [["127.0.0.1"], True],
        "before": [],
        "found": [["wyoming/my-whisper", -20], ["wyoming/my-whisper/tones-small", -20]],
        "after": [],
        "elsewhere": [],
    }
