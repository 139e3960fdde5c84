"""A real Wyoming server as people run it, wyoming-piper, with a tiny voice: the hub speaks through it, and notices its end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from house import integration
from tiny_piper import write_voice

from xiaozhi_hub.core.tasks import TaskScope
from xiaozhi_hub.engines.tts import SpeechRequest
from xiaozhi_hub.errors import StageError

pytest.importorskip("wyoming_piper", reason="wyoming-piper is not installed: no real server is tested")


async def answers(socket: Path) -> bool:
    """Its file is there before it takes anybody."""
    try:
        _, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def piper(folder: Path) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """Run the server with one voice that hums; yields where it listens."""
    for suffix in (".onnx", ".onnx.json"):  # the server looks into the folder itself
        (folder / f"hummer{suffix}").symlink_to(write_voice(folder, "hummer").with_suffix(suffix))
    socket = folder / "piper.sock"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "wyoming_piper", "--uri", f"unix://{socket}", "--voice", "hummer"),
        *("--data-dir", str(folder), "--download-dir", str(folder)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(180):
            while not await answers(socket):
                assert process.returncode is None, "wyoming-piper did not start"
                await asyncio.sleep(0.02)
        yield f"unix://{socket}", process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_hub_speaks_through_wyoming_piper_until_it_is_killed(tmp_path: Path) -> None:
    async with piper(tmp_path) as (uri, process), TaskScope("engines") as scope:
        service = integration("wyoming", "service").Service("piper", uri, 10.0)
        offers = integration("wyoming", "offers")
        info = await service.describe()
        (voice,) = offers.engines_of(service, info, offers.Offering({"en": "hummer"}, 0, scope))
        assert {"en", "zh-Hans"} <= set(voice.info.languages) and voice.info.streams_output
        short, long = (
            await speak(voice, "Good night."),
            await speak(voice, "Good night, and sleep well until the morning."),
        )
        assert 0.2 < short < long
        process.kill()
        await process.wait()
        async with asyncio.timeout(20):
            with pytest.raises(StageError):
                await speak(voice, "Good night.")


async def speak(voice: Any, text: str) -> float:
    """Seconds of sound."""
    async with aclosing(voice.speak(SpeechRequest(text, "en"))) as chunks:
        return sum([chunk.ms async for chunk in chunks]) / 1000
