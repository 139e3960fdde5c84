"""A hub that is killed in the middle of writing leaves a history that can be read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import sqlite_utils

from xiaozhi_hub.store.database import Database

WRITER = """
import asyncio, os, sys
from pathlib import Path
from xiaozhi_hub.audio.ogg import write_ogg
from xiaozhi_hub.core.flow import Channel, Outcome, Packet, ToolCall, TurnRecord
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.history import History

def sound():
    return tuple(Packet(b"\\x58" + os.urandom(300), 60.0) for _ in range(20))

async def main(folder: Path) -> None:
    db = Database(folder / "hub.db")
    await db.open()
    history = History(db, folder / "audio", write_ogg)
    for number in range(100_000):
        await history.add(TurnRecord(
            id=f"t{number}", session_id=f"s{number // 3}", device_id="d", started_at=float(number), channel=Channel.VOICE,
            mode="auto", language="en", heard="hello", said="Hello!", outcome=Outcome.ANSWERED,
            tool_calls=tuple(ToolCall("x.y", {}, "done") for _ in range(3)), audio_in=sound(), audio_out=sound(),
        ))
        print(number, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.mark.parametrize("turns", [1, 7, 20])
async def test_a_killed_hub_leaves_whole_turns_only(tmp_path: Path, turns: int) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) + 1 >= turns:
                break
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL

    def count(db: sqlite_utils.Database, table: str) -> int:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def look(db: sqlite_utils.Database) -> None:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        assert db.execute("PRAGMA foreign_key_check").fetchall() == []
        whole = count(db, "turn")
        assert whole >= turns, "what was confirmed before the crash must be there"
        assert count(db, "message") == whole * 8
        assert count(db, "tool_call") == whole * 3
        assert db.execute("SELECT sum(turns) FROM session").fetchone()[0] == whole
        recordings = list(db.query("SELECT audio, size FROM ai_agent_chat_audio"))
        assert len(recordings) == whole * 2
        for row in recordings:
            assert (tmp_path / "audio" / row["audio"]).stat().st_size == row["size"]

    database = Database(tmp_path / "hub.db")
    await database.open()
    await database.read(look)
    await database.close()
