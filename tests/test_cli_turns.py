"""The command ``xiaozhi-hub turns``, beside a hub that runs and after it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from xiaozhi_hub.audio.ogg import read_ogg
from xiaozhi_hub.cli import main
from xiaozhi_hub.testing import FakeDevice, running_hub

QUIET = """
voice: {vad: echo, asr: echo, tts: echo, llm: none}
integrations: {silero_vad: false, phrases: false, espeak: false, demo: , clock: , echo: {tts: {ms: 300}}}
"""
KITCHEN, OFFICE = "02:00:00:00:00:01", "02:00:00:00:00:02"


@pytest.fixture
async def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Of a hub that was asked three things on two devices. What the command showed beside it can be read."""
    folder = tmp_path / "config"
    async with running_hub(folder, QUIET) as hub:
        for device_id, text in (
            (KITCHEN, "set a timer for 5 minutes"),
            (OFFICE, "turn on the bed light"),
            (KITCHEN, "grobble the frimp"),
        ):
            async with FakeDevice(ota_url=f"{hub.local_url}/xiaozhi/ota/", device_id=device_id) as device:
                await device.ask_text(text)
        async with asyncio.timeout(20):
            while len(await hub.history.turns(10)) < 3:
                await asyncio.sleep(0.01)
        assert await asyncio.to_thread(main, ["turns", "-c", str(folder)]) == 0, "beside a hub that runs"
    return folder


async def look(folder: Path, *arguments: str, code: int = 0) -> None:
    assert await asyncio.to_thread(main, ["turns", "-c", str(folder), *arguments]) == code


async def test_turns_are_listed_the_newest_first(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    beside = capsys.readouterr().out
    await look(folder)
    listed = capsys.readouterr().out
    assert listed == beside
    odd, light, timer = listed.splitlines()
    assert KITCHEN in odd and "grobble the frimp → " in odd
    assert OFFICE in light and light.endswith("turn on the bed light → Turned on the Bed Light.")
    assert KITCHEN in timer and timer.endswith("set a timer for 5 minutes → 5 minute timer set.")
    await look(folder, "--limit", "1")
    assert capsys.readouterr().out.splitlines() == [odd]
    await look(folder, "--device", OFFICE)
    assert capsys.readouterr().out.splitlines() == [light]


async def test_a_turn_is_shown_with_what_was_done_and_its_waterfall(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    await look(folder, "--json")
    timer = [json.loads(line) for line in capsys.readouterr().out.splitlines()][-1]
    assert (timer["heard"], timer["said"]) == ("set a timer for 5 minutes", "5 minute timer set.")
    assert [(call["name"], call["arguments"]) for call in timer["tool_calls"]] == [
        ("clock.start_timer", {"minutes": 5})
    ]
    await look(folder, timer["id"])
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.endswith("set a timer for 5 minutes → 5 minute timer set.")
    above, below = lines[: lines.index("")], lines[lines.index("") + 1 :]
    assert above[0].split() == ["outcome", timer["outcome"]]
    assert 'clock.start_timer {"minutes": 5} → ' in above[-1]
    playing = next(line for line in below if line.startswith("playing"))
    assert "█" in playing and playing.endswith(" ms")
    await look(folder, timer["id"], "--json")
    assert json.loads(capsys.readouterr().out) == timer
    await look(folder, timer["id"], "--save-audio", str(tmp_path / "kept"))
    saved = Path(capsys.readouterr().out.splitlines()[-1])
    assert saved.parent == tmp_path / "kept"
    assert len(read_ogg(saved.read_bytes())) >= 5, "300 ms of sound"
    await look(folder, timer["id"], "--save-audio", str(saved), code=1)
    assert f"{saved} cannot be written: File exists." in capsys.readouterr().err


async def test_what_is_not_there_is_said(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await look(folder, "nothing", code=1)
    assert "There is no turn nothing. List them: xiaozhi-hub turns" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    await look(empty, code=1)
    assert "there is no database at " in capsys.readouterr().err
    assert list(empty.iterdir()) == [], "looking makes nothing"
