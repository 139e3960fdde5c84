"""The history keeps whole turns, answers quickly, and forgets when it is told to."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlite_utils

from xiaozhi_hub.audio.ogg import read_ogg, write_ogg
from xiaozhi_hub.core.flow import Channel, Outcome, Packet, ToolCall, TurnRecord
from xiaozhi_hub.errors import StoreError
from xiaozhi_hub.store.database import Database
from xiaozhi_hub.store.devices import Devices
from xiaozhi_hub.store.history import QUEUE_TURNS, ChatType, History

KITCHEN = "02:00:00:00:00:01"
OFFICE = "02:00:00:00:00:02"
DAY = 86400.0


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(tmp_path / "hub.db")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def history(db: Database, tmp_path: Path) -> History:
    return History(db, tmp_path / "audio", write_ogg)


def packets(seed: int, count: int = 5) -> tuple[Packet, ...]:
    """Packets with the first byte of a real one: 60 ms, mono."""
    return tuple(Packet(bytes([0x58, seed % 256, number]) + b"sound", 60.0) for number in range(count))


def turn(id: str, at: float = 1000.0, **values: Any) -> TurnRecord:
    record = TurnRecord(
        id=id,
        session_id="s1",
        device_id=KITCHEN,
        started_at=at,
        channel=Channel.VOICE,
        mode="auto",
        language="en",
        heard="turn on Bed Light",
        said="Bed Light is on.",
        outcome=Outcome.ANSWERED,
        emotion="happy",
        confidence=0.75,
        stamps={"transcript": 1200.0, "reply": 1250.0, "played": 2500.0},
        tool_calls=(ToolCall("home.turn_on", {"name": "Bed Light"}, "Bed Light is on.", {"state": "on"}, "", 1.5),),
    )
    return dataclasses.replace(record, **values)


def rows(query: str) -> Any:
    return lambda db: list(db.query(query))


def count_of(table: str) -> Any:
    return lambda db: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


async def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# -- remembering ------------------------------------------------------------------------------------------------------


async def test_a_turn_is_read_back_as_it_was_written(history: History) -> None:
    record = turn("t1", heard="打开床头灯", error="")
    await history.add(record)
    assert await history.turn("t1") == record
    assert await history.turn("t2") is None


async def test_a_turn_becomes_messages_in_the_order_of_the_conversation(history: History) -> None:
    await history.add(turn("t1", outcome=Outcome.INTERRUPTED))
    messages = await history.messages("t1")
    assert [message.chat_type for message in messages] == [
        ChatType.USER,
        ChatType.TOOL_CALL,
        ChatType.TOOL_RESULT,
        ChatType.ASSISTANT,
        ChatType.SYSTEM,
    ]
    assert json.loads(messages[1].content) == {"name": "home.turn_on", "arguments": {"name": "Bed Light"}}
    assert messages[0].created_at == pytest.approx(1001.2)
    assert messages[3].created_at == pytest.approx(1001.25)
    assert messages[4].content == "interrupted"


def test_chat_types_have_the_numbers_of_the_older_servers() -> None:
    assert (ChatType.USER, ChatType.ASSISTANT, ChatType.TOOL_CALL) == (1, 2, 3)


async def test_both_directions_of_sound_are_kept_packet_by_packet(history: History) -> None:
    spoken, answered = packets(1), packets(2, 7)
    await history.add(turn("t1", audio_in=spoken, audio_out=answered))
    audio = await history.audio("t1")
    assert audio.heard is not None and audio.said is not None
    assert read_ogg(audio.heard.read_bytes()) == [packet.data for packet in spoken]
    assert read_ogg(audio.said.read_bytes()) == [packet.data for packet in answered]


async def test_the_same_sound_is_kept_once(history: History, db: Database, tmp_path: Path) -> None:
    for number in range(3):
        await history.add(turn(f"t{number}", audio_out=packets(1)))
    assert len(await files_in(tmp_path / "audio")) == 1
    assert await db.read(count_of("audio")) == 1
    assert await db.read(count_of("ai_agent_chat_audio")) == 1


async def test_the_view_of_recordings_names_the_files(history: History, db: Database, tmp_path: Path) -> None:
    await history.add(turn("t1", audio_in=packets(1)))
    (row,) = await db.read(rows("SELECT * FROM ai_agent_chat_audio"))
    assert (tmp_path / "audio" / row["audio"]).stat().st_size == row["size"]
    assert row["duration_ms"] == 300


async def test_no_sound_is_kept_when_the_owner_does_not_want_it(db: Database, tmp_path: Path) -> None:
    history = History(db, tmp_path / "audio", write_ogg, keep_audio=False)
    await history.add(turn("t1", audio_in=packets(1), audio_out=packets(2)))
    assert not (tmp_path / "audio").exists()
    assert (await history.audio("t1")).heard is None
    assert (await history.turn("t1")) is not None


async def test_no_sound_is_kept_of_a_device_that_is_excepted(history: History, db: Database, tmp_path: Path) -> None:
    devices = Devices(db)
    await devices.seen(KITCHEN, 1.0)
    await devices.keep_audio(KITCHEN, False)
    await history.add(turn("t1", audio_in=packets(1)))
    await history.add(turn("t2", device_id=OFFICE, audio_in=packets(2)))
    assert (await history.audio("t1")).heard is None
    assert (await history.audio("t2")).heard is not None


async def test_nothing_is_remembered_when_history_is_off(db: Database, tmp_path: Path) -> None:
    history = History(db, tmp_path / "audio", write_ogg, enabled=False)
    await history.add(turn("t1", audio_in=packets(1)))
    assert await history.turns() == []
    assert not (tmp_path / "audio").exists()


async def test_the_same_id_again_replaces_the_turn(history: History, db: Database) -> None:
    await history.add(turn("t1"))
    await history.add(turn("t1", said="Bed Light is already on.", tool_calls=()))
    assert [record.said for record in await history.turns()] == ["Bed Light is already on."]
    assert await db.read(count_of("message")) == 2
    (session,) = await db.read(rows("SELECT * FROM session"))
    assert (session["turns"], session["messages"]) == (1, 2)


async def test_a_turn_without_a_session_is_a_session_of_its_own(history: History) -> None:
    await history.add(turn("t1", session_id="", device_id=""))
    record = await history.turn("t1")
    assert record is not None and record.session_id == "t1"


async def test_a_session_knows_when_it_was_why_it_ended_and_what_it_was_about(history: History) -> None:
    await history.add(turn("t1", 1000.0, heard=""))
    await history.add(turn("t2", 1010.0, heard="what time is it"))
    await history.session_ended("s1", "goodbye", 1100.0)
    (session,) = (await history.chat_history(KITCHEN)).sessions
    assert (session.started_at, session.ended_at, session.reason) == (1000.0, 1100.0, "goodbye")
    assert (session.title, session.turn_count) == ("what time is it", 2)


async def test_a_turn_with_halves_of_characters_is_remembered_without_them(history: History) -> None:
    half = "\ud83d"
    calls = (ToolCall("list.add", {"item": half}, f"Added {half}.", {half: half}, half, 1.0),)
    await history.add(turn("t1", heard=f"buy {half}", said=half, tool_calls=calls))
    (kept,) = await history.turns(10)
    assert (kept.heard, kept.said) == ("buy ?", "?")
    assert kept.tool_calls == (ToolCall("list.add", {"item": "?"}, "Added ?.", {"?": "?"}, "?", 1.0),)


async def test_a_failed_write_leaves_no_part_of_the_turn(history: History, db: Database) -> None:
    broken = turn("t1", confidence="not a number")
    with pytest.raises(StoreError):
        await history.add(broken)
    for table in ("turn", "message", "tool_call", "session", "device"):
        assert await db.read(count_of(table)) == 0, table
    await history.add(turn("t1"))
    assert await history.turn("t1") is not None


async def test_a_folder_of_recordings_that_cannot_be_written_is_told(db: Database, tmp_path: Path) -> None:
    (tmp_path / "audio").write_text("in the way")
    history = History(db, tmp_path / "audio", write_ogg)
    with pytest.raises(StoreError) as caught:
        await history.add(turn("t1", audio_in=packets(1)))
    assert caught.value.hint
    assert await history.turns() == []


async def test_turns_beyond_the_queue_are_dropped_and_counted(
    history: History, db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    slow = asyncio.ensure_future(db.write(lambda _: go_on.wait(10)))
    adding = [asyncio.ensure_future(history.add(turn(f"t{number}"))) for number in range(QUEUE_TURNS + 3)]
    await asyncio.gather(*adding[QUEUE_TURNS:])
    assert history.dropped == 3
    assert len([record for record in caplog.records if "not remembered" in record.message]) == 1
    for waiting in adding[1:QUEUE_TURNS]:
        waiting.cancel()
    go_on.set()
    await asyncio.gather(slow, *adding, return_exceptions=True)
    await history.add(turn("later"))
    assert await history.turn("later") is not None


async def test_an_imported_record_can_be_imported_twice(history: History) -> None:
    sound = write_ogg(packets(3), 16000)
    for _ in range(2):
        id = await history.upsert_chat_record(
            "old-session", "hello", "Hello!", sound, device_id=OFFICE, record_id="import-7"
        )
        assert id == "import-7"
    (record,) = await history.turns()
    assert (record.session_id, record.heard, record.said, record.device_id) == (
        "old-session",
        "hello",
        "Hello!",
        OFFICE,
    )
    audio = await history.audio("import-7")
    assert audio.heard is not None and audio.heard.read_bytes() == sound


# -- looking ----------------------------------------------------------------------------------------------------------


async def test_turns_come_newest_first_page_by_page(history: History) -> None:
    for number in range(7):
        await history.add(turn(f"t{number}", 1000.0 + number // 2))  # some begin at the same moment
    seen: list[str] = []
    before: TurnRecord | None = None
    while page := await history.turns(limit=3, before=before):
        seen += [record.id for record in page]
        before = page[-1]
    assert seen == [f"t{number}" for number in reversed(range(7))]


async def test_turns_of_one_device_only(history: History) -> None:
    await history.add(turn("t1"))
    await history.add(turn("t2", device_id=OFFICE, session_id="s2"))
    assert [record.id for record in await history.turns(device_id=OFFICE)] == ["t2"]


async def test_a_session_is_read_in_the_order_of_time_page_by_page(history: History) -> None:
    for number in reversed(range(4)):
        await history.add(turn(f"t{number}", 1000.0 + number * 10, heard=f"question {number}", tool_calls=()))
    first = await history.get_chat_history_by_session_id("s1", limit=5)
    second = await history.get_chat_history_by_session_id("s1", limit=5, after=first[-1])
    assert [message.content for message in (*first, *second) if message.chat_type is ChatType.USER] == [
        f"question {number}" for number in range(4)
    ]
    assert len(second) == 3


async def test_recent_records_are_the_newest_messages_of_a_device(history: History) -> None:
    for number in range(4):
        await history.add(turn(f"t{number}", 1000.0 + number * 10, said=f"answer {number}"))
    recent = await history.get_recent_chat_records(KITCHEN, limit=2)
    assert [message.content for message in recent][0] == "answer 3"
    assert len(recent) == 2
    assert len(await history.get_recent_chat_records(KITCHEN, limit=10**9)) == 16


@pytest.mark.parametrize("id", ["' OR '1'='1", "x'; DROP TABLE turn; --", "%", "\x00"])
async def test_what_people_write_is_never_taken_for_sql(history: History, id: str) -> None:
    await history.add(turn("t1"))
    assert await history.get_recent_chat_records(id) == []
    assert await history.get_chat_history_by_session_id(id) == []
    assert await history.turns(device_id=id) == []
    assert (await history.chat_history(id)).sessions == ()
    assert await history.turn(id) is None
    assert len(await history.turns()) == 1


async def test_messages_are_counted_in_pages(history: History) -> None:
    for number in range(3):
        await history.add(turn(f"t{number}", 1000.0 + number * 10))
    page = await history.get_chat_history_page(KITCHEN, page=3, size=5)
    assert (page.total, len(page.messages)) == (12, 2)


async def test_the_history_of_a_device_has_sessions_turns_and_statistics(history: History) -> None:
    await history.add(turn("t1", 1000.0))
    await history.add(turn("t2", 2000.0, session_id="s2", tool_calls=()))
    await history.add(turn("t3", 3000.0, session_id="s3", device_id=OFFICE))
    found = await history.chat_history(KITCHEN)
    assert [session.id for session in found.sessions] == ["s2", "s1"]
    assert found.sessions[1].turns[0].tool_calls[0].name == "home.turn_on"
    assert len(found.sessions[1].messages) == 4
    statistics = found.statistics
    assert (statistics.sessions, statistics.turns, statistics.messages) == (2, 2, 6)
    assert (statistics.user_messages, statistics.ai_messages, statistics.tool_calls) == (2, 2, 1)
    assert found.last_updated == pytest.approx(2001.25)


async def test_a_device_that_never_spoke_has_an_empty_history(history: History) -> None:
    found = await history.chat_history("nobody")
    assert (found.sessions, found.last_updated, found.statistics.messages) == ((), None, 0)


# -- names that older tools know --------------------------------------------------------------------------------------


async def test_the_older_names_have_the_older_columns(history: History, db: Database) -> None:
    await history.add(turn("t1", 0.5))
    row, *_ = await db.read(rows("SELECT * FROM ai_agent_chat_history ORDER BY id"))
    wanted = "id mac_address agent_id session_id chat_type content created_at device_id student_id".split()
    assert list(row)[: len(wanted)] == wanted
    assert (row["mac_address"], row["chat_type"], row["content"]) == (KITCHEN, 1, "turn on Bed Light")
    assert row["created_at"] == "1970-01-01 00:00:01.700"
    (device,) = await db.read(rows("SELECT * FROM ai_device"))
    assert device["mac_address"] == KITCHEN


async def test_the_summary_counts_a_session(history: History, db: Database) -> None:
    await history.add(turn("t1", 0.0))
    await history.add(turn("t2", 60.0, tool_calls=()))
    (row,) = await db.read(rows("SELECT * FROM v_chat_summary"))
    assert (row["device_id"], row["session_id"]) == (KITCHEN, "s1")
    assert (row["message_count"], row["user_messages"], row["ai_messages"]) == (6, 2, 2)
    assert (row["session_start"], row["session_end"]) == ("1970-01-01 00:00:01.200", "1970-01-01 00:01:01.250")


@pytest.mark.parametrize(
    ("query", "index"),
    [
        (
            "SELECT * FROM ai_agent_chat_history WHERE device_id = 'a' AND session_id = 's'",
            "message_device_session (device_id=? AND session_id=?)",
        ),
        (
            "SELECT * FROM message WHERE device_id = 'a' AND session_id = 's' AND created_at > 1 ORDER BY created_at",
            "message_device_session (device_id=? AND session_id=? AND created_at>?)",
        ),
        (
            "SELECT * FROM message WHERE agent_id = 'a' AND created_at > 1 ORDER BY created_at",
            "message_agent (agent_id=? AND created_at>?)",
        ),
        (
            "SELECT * FROM message WHERE session_id = 's' ORDER BY created_at, id LIMIT 9",
            "message_session (session_id=?)",
        ),
        (
            "SELECT * FROM message WHERE device_id = 'a' ORDER BY created_at DESC, id DESC LIMIT 9",
            "message_device_time (device_id=?)",
        ),
        (
            "SELECT * FROM turn WHERE device_id = 'a' AND (started_at, id) < (1, 't') ORDER BY started_at DESC, id DESC",
            "turn_device (device_id=? AND (started_at,id)<(?,?))",
        ),
        ("SELECT * FROM turn ORDER BY started_at DESC, id DESC LIMIT 9", "turn_time"),
    ],
)
async def test_questions_are_answered_by_an_index(db: Database, query: str, index: str) -> None:
    def plan(db: sqlite_utils.Database) -> str:
        return "\n".join(str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {query}"))

    told = await db.read(plan)
    assert index in told
    assert "TEMP B-TREE" not in told
    assert "SCAN message" not in told


# -- forgetting -------------------------------------------------------------------------------------------------------


async def test_what_is_too_old_is_forgotten_with_its_sound(history: History, db: Database, tmp_path: Path) -> None:
    await history.add(turn("old", 1 * DAY, session_id="s1", audio_in=packets(1), audio_out=packets(9)))
    await history.add(turn("new", 31 * DAY, session_id="s2", audio_in=packets(2), audio_out=packets(9)))
    assert await history.apply_retention(now=32 * DAY) == 1
    assert [record.id for record in await history.turns()] == ["new"]
    assert len(await files_in(tmp_path / "audio")) == 2, "what the new turn still uses must stay"
    assert await db.read(count_of("message")) == 4
    assert await db.read(count_of("session")) == 1
    audio = await history.audio("new")
    assert audio.heard is not None and audio.said is not None


async def test_a_session_that_lost_some_turns_counts_the_others(history: History) -> None:
    await history.add(turn("old", 1 * DAY))
    await history.add(turn("new", 31 * DAY))
    await history.apply_retention(now=32 * DAY)
    (session,) = (await history.chat_history(KITCHEN)).sessions
    assert (session.turn_count, session.message_count) == (1, 4)


async def test_zero_days_keep_everything(db: Database, tmp_path: Path) -> None:
    history = History(db, tmp_path / "audio", write_ogg, keep_days=0)
    await history.add(turn("old", 0.0))
    assert await history.apply_retention(now=10_000 * DAY) == 0
    assert len(await history.turns()) == 1


async def test_recordings_without_a_turn_are_swept_away(history: History, tmp_path: Path) -> None:
    await history.add(turn("t1", audio_in=packets(1)))
    kept = await files_in(tmp_path / "audio")
    shelf = tmp_path / "audio" / kept[0][:2]
    (shelf / f"{kept[0][:2]}{'0' * 62}.ogg").write_bytes(b"left by a crash")
    (shelf / ".unfinished.ogg").write_bytes(b"left by a crash")
    await history.apply_retention(now=1000.0)
    assert await files_in(tmp_path / "audio") == kept


async def test_a_device_can_be_forgotten_completely(history: History, db: Database, tmp_path: Path) -> None:
    await history.add(turn("t1", audio_in=packets(1), audio_out=packets(9)))
    await history.add(turn("t2", device_id=OFFICE, session_id="s2", audio_out=packets(9)))
    assert await history.forget_device(KITCHEN) == 1
    assert (await history.chat_history(KITCHEN)).sessions == ()
    assert await Devices(db).get(KITCHEN) is None
    assert len(await files_in(tmp_path / "audio")) == 1
    assert [record.id for record in await history.turns()] == ["t2"]


async def test_what_was_deleted_is_no_longer_in_the_file(history: History, db: Database, tmp_path: Path) -> None:
    await history.add(turn("t1", heard="the safe code is nine seven three one"))
    await history.forget_device(KITCHEN)
    await db.close()
    content = b"".join(path.read_bytes() for path in tmp_path.glob("hub.db*"))
    assert b"nine seven three one" not in content


# -- devices ----------------------------------------------------------------------------------------------------------


async def test_a_device_is_remembered_with_what_it_said_of_itself(db: Database) -> None:
    devices = Devices(db)
    await devices.seen(KITCHEN, 100.0, board="bread-compact-wifi", firmware="1.8.2", language="zh-CN")
    device = await devices.seen(KITCHEN, 200.0, firmware="1.9.0", address="192.168.1.30")
    assert (device.board, device.firmware, device.language) == ("bread-compact-wifi", "1.9.0", "zh-CN")
    assert (device.first_seen_at, device.last_seen_at, device.address) == (100.0, 200.0, "192.168.1.30")
    assert await devices.get(KITCHEN) == device
    assert await devices.get(OFFICE) is None


async def test_devices_are_listed_by_when_they_were_last_seen(db: Database, history: History) -> None:
    devices = Devices(db)
    await devices.seen(KITCHEN, 100.0)
    await devices.seen(OFFICE, 200.0)
    await history.add(turn("t1", at=300.0))
    assert [device.id for device in await devices.all()] == [KITCHEN, OFFICE]
