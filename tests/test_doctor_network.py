"""The doctor on a network: on the hub's own machine, and from the place of a device."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from netns import Namespace, Network, network  # noqa: F401  # network is a fixture
from test_network import HUB, PORT, QUIET, end, hub, start, two_machines


async def doctor(namespace: Namespace, folder: Path, *arguments: str) -> tuple[int | None, dict[str, str]]:
    """What it finds there: levels by code, and its exit code."""
    process = await start(namespace, "-m", "xiaozhi_hub", "doctor", "-c", str(folder), "--json", *arguments)
    try:
        async with asyncio.timeout(180):
            shown, beside = await process.communicate()
        assert not beside, beside.decode()
        told: list[dict[str, Any]] = json.loads(shown)["findings"]
        return process.returncode, {finding["code"]: finding["level"] for finding in told}
    finally:
        await end(process)


async def test_the_name_the_addresses_and_the_way_of_a_device_are_found_well_or_not(
    network: Network,  # noqa: F811
    tmp_path: Path,
) -> None:
    (tmp_path / "configuration.yaml").write_text(QUIET)
    home, device = two_machines(network)
    async with hub(home, tmp_path):
        code, found = await doctor(home, tmp_path, "--port", str(PORT))
        assert code == 0
        assert {"port", "ota", "websocket_locked", "name", "isolation"} <= set(found)
        assert "ok" == found["ota"] == found["websocket_locked"] == found["name"]

        by_name = ("--hub", f"xiaozhi-hub.local:{PORT}")
        code, found = await doctor(device, tmp_path / "none", *by_name)
        assert (code, found) == (0, {"name": "ok", "ota": "ok", "websocket_locked": "ok"})

        # What a Wi-Fi does that keeps its guests apart, or a firewall: the name is heard, the way is barred.
        device.ip("route", "add", "unreachable", HUB)
        code, found = await doctor(device, tmp_path / "none", *by_name)
        assert (code, found["name"], found["ota_unreachable"]) == (1, "ok", "error")
    code, found = await doctor(device, tmp_path / "none", *by_name)
    assert (code, found) == (1, {"name_unanswered": "warning", "name_nowhere": "error"})
