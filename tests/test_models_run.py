"""Models from a stick run in the real libraries, and ``models recommend`` says how long they took."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from tiny_piper import write_voice
from tiny_whisper import write_whisper

from xiaozhi_hub.cli import main


async def test_what_is_carried_here_is_run_and_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stick, config = tmp_path / "stick", tmp_path / "config"
    write_whisper(stick / "my-whisper")
    write_voice(stick, "en_US-hum-low")
    expected = {"my-whisper", "en_US-hum-low"}
    if _has_llama():
        from tiny_gguf import write_tiny_gguf

        (stick / "llm").mkdir()
        write_tiny_gguf(stick / "llm" / "mine.gguf", {"week": "A week has seven days."})
        expected.add("mine")
    command = ["models", "-c", str(config), "--port", "1"]
    assert await asyncio.to_thread(main, [*command, "import", str(stick)]) == 0
    capsys.readouterr()
    assert await asyncio.to_thread(main, [*command, "recommend", "--json"]) == 0
    told = capsys.readouterr()
    timed = json.loads(told.out)["own"]
    assert set(timed) == expected, told.err
    assert all(0 < seconds < 30 for seconds in timed.values())
    kept = json.loads((config / "data" / "models" / "board.json").read_text())
    assert set(kept["timed"]) == expected
    assert not (config / "data" / "hub.db").exists(), "the hub that ran them is nobody's hub"


def _has_llama() -> bool:
    try:
        import llama_cpp  # noqa: F401
    except ImportError:
        return False
    return True
