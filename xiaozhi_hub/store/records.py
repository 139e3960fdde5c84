"""Turns as rows: what `History` does inside one transaction. Blocking: for the store's own threads only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from xiaozhi_hub.core.characters import whole
from xiaozhi_hub.core.flow import Channel, Completeness, Outcome, ToolCall, TurnRecord, Wait, WaitReason

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.recordings import Recording

TITLE_LENGTH = 80
"""Characters of the first thing said that name a session."""


class ChatType(IntEnum):
    """Who or what a message comes from. 1, 2 and 3 are the numbers of the older servers."""

    USER = 1
    ASSISTANT = 2
    TOOL_CALL = 3
    TOOL_RESULT = 4
    SYSTEM = 5
    """Something that happened in the conversation: it was interrupted, it failed."""


@dataclass(frozen=True, slots=True)
class Message:
    """One entry of a conversation."""

    turn_id: str
    session_id: str
    device_id: str
    chat_type: ChatType
    content: str
    created_at: float
    """Seconds since the epoch."""
    audio_id: str | None = None
    id: int = 0
    """0 until it is stored."""
    agent_id: str = "default"
    person_id: str | None = None


def messages_of(record: TurnRecord, audio_in: str | None, audio_out: str | None) -> list[Message]:
    """Tell a turn as the messages of a conversation, in order."""
    asked_at = record.started_at + record.stamps.get("transcript", 0.0) / 1000
    answered_at = max(asked_at, record.started_at + record.stamps.get("reply", 0.0) / 1000)

    def message(kind: ChatType, content: str, at: float, audio: str | None = None) -> Message:
        who = (record.id, record.session_id, record.device_id)
        return Message(*who, kind, content, at, audio, agent_id=record.assistant)

    told: list[Message] = []
    if record.heard or audio_in:
        told.append(message(ChatType.USER, record.heard, asked_at, audio_in))
    for call in record.tool_calls:
        named = whole(json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False))
        told.append(message(ChatType.TOOL_CALL, named, asked_at))
        told.append(message(ChatType.TOOL_RESULT, call.result or call.error, asked_at))
    if record.said or audio_out:
        told.append(message(ChatType.ASSISTANT, record.said, answered_at, audio_out))
    if record.outcome in (Outcome.INTERRUPTED, Outcome.FAILED):
        what = f"{record.outcome}: {record.error}" if record.error else str(record.outcome)
        told.append(message(ChatType.SYSTEM, what, answered_at))
    return told


def put_turn(
    db: sqlite_utils.Database, record: TurnRecord, audio_in: Recording | None = None, audio_out: Recording | None = None
) -> None:
    """Write a turn and everything that belongs to it. The same id again replaces what was known of it."""
    record = _writable(record)
    if record.device_id:
        db.execute(
            "INSERT INTO device (id, first_seen_at, last_seen_at) VALUES (?, ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET last_seen_at = max(last_seen_at, excluded.last_seen_at)",
            (record.device_id, record.started_at, record.started_at),
        )
    db.execute(
        "INSERT INTO session (id, device_id, agent_id, started_at, ended_at) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (id) DO NOTHING",
        (record.session_id, record.device_id, record.assistant, record.started_at, record.started_at),
    )
    db.execute("DELETE FROM turn WHERE id = ?", (record.id,))
    for recording in (audio_in, audio_out):
        if recording is not None:
            db.execute(
                "INSERT INTO audio (id, bytes, ms, rate, created_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
                (recording.id, recording.bytes, recording.ms, recording.rate, record.started_at),
            )
    heard_in = audio_in.id if audio_in else None
    heard_out = audio_out.id if audio_out else None
    db.execute(
        "INSERT INTO turn (id, session_id, device_id, agent_id, started_at, channel, mode, language, heard, said, outcome,"
        " emotion, confidence, error, stamps, audio_in, audio_out, wait)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.session_id,
            record.device_id,
            record.assistant,
            record.started_at,
            str(record.channel),
            record.mode,
            record.language,
            record.heard,
            record.said,
            str(record.outcome),
            record.emotion,
            record.confidence,
            record.error,
            json.dumps(dict(record.stamps)),
            heard_in,
            heard_out,
            json.dumps(asdict(record.wait)) if record.wait is not None else None,
        ),
    )
    db.conn.executemany(
        "INSERT INTO tool_call (turn_id, position, name, arguments, result, data, error, ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (record.id, position, call.name, _json(call.arguments), call.result, _json(call.data), call.error, call.ms)
            for position, call in enumerate(record.tool_calls)
        ],
    )
    db.conn.executemany(
        "INSERT INTO message (turn_id, session_id, device_id, agent_id, chat_type, content, audio_id, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (m.turn_id, m.session_id, m.device_id, m.agent_id, int(m.chat_type), m.content, m.audio_id, m.created_at)
            for m in messages_of(record, heard_in, heard_out)
        ],
    )
    ended_at = record.started_at + max(record.stamps.values(), default=0.0) / 1000
    db.execute(
        "UPDATE session SET started_at = min(started_at, ?), ended_at = max(ended_at, ?),"
        " title = CASE title WHEN '' THEN ? ELSE title END WHERE id = ?",
        (record.started_at, ended_at, record.heard[:TITLE_LENGTH], record.session_id),
    )
    count_session(db, record.session_id)


def _writable(record: TurnRecord) -> TurnRecord:
    """The same without halves of characters: what engines and tools have said is anybody's."""
    calls = tuple(replace(call, result=whole(call.result), error=whole(call.error)) for call in record.tool_calls)
    return replace(
        record, heard=whole(record.heard), said=whole(record.said), error=whole(record.error), tool_calls=calls
    )


def count_session(db: sqlite_utils.Database, session_id: str) -> None:
    db.execute(
        "UPDATE session SET turns = (SELECT count(*) FROM turn WHERE session_id = session.id),"
        " messages = (SELECT count(*) FROM message WHERE session_id = session.id) WHERE id = ?",
        (session_id,),
    )


def _json(value: Any) -> str:
    return whole(json.dumps(dict(value), ensure_ascii=False, default=str))


def read_turns(db: sqlite_utils.Database, where: str, parameters: Sequence[Any]) -> list[TurnRecord]:
    """Read turns with their tool calls, without their sound. *where* is our own text, never a person's."""
    rows = list(db.query(f"SELECT * FROM turn {where}", parameters))
    calls: dict[str, list[ToolCall]] = {}
    for row in db.query(
        "SELECT * FROM tool_call WHERE turn_id IN (SELECT value FROM json_each(?)) ORDER BY turn_id, position",
        (json.dumps([row["id"] for row in rows]),),
    ):
        calls.setdefault(row["turn_id"], []).append(
            ToolCall(
                row["name"],
                json.loads(row["arguments"]),
                row["result"],
                json.loads(row["data"]),
                row["error"],
                row["ms"],
            )
        )
    return [
        TurnRecord(
            id=row["id"],
            session_id=row["session_id"],
            device_id=row["device_id"],
            started_at=row["started_at"],
            channel=Channel(row["channel"]),
            mode=row["mode"],
            language=row["language"],
            heard=row["heard"],
            said=row["said"],
            outcome=Outcome(row["outcome"]),
            emotion=row["emotion"],
            confidence=row["confidence"],
            error=row["error"],
            stamps=json.loads(row["stamps"]),
            tool_calls=tuple(calls.get(row["id"], ())),
            assistant=row["agent_id"],
            wait=_wait(row["wait"]),
        )
        for row in rows
    ]


def _wait(written: str | None) -> Wait | None:
    if written is None:
        return None
    known = json.loads(written)
    after, reason = known.pop("after"), WaitReason(known.pop("reason"))
    return Wait(after=Completeness(after) if after else None, reason=reason, **known)


def read_messages(db: sqlite_utils.Database, where: str, parameters: Sequence[Any]) -> list[Message]:
    """Read messages. *where* is our own text, never a person's."""
    query = f"SELECT {_MESSAGE} FROM message {where}"
    return [Message(**{**row, "chat_type": ChatType(row["chat_type"])}) for row in db.query(query, parameters)]


_MESSAGE = "id, turn_id, session_id, device_id, agent_id, person_id, chat_type, content, audio_id, created_at"


def delete_turns_before(db: sqlite_utils.Database, cutoff: float) -> int:
    """Delete what is older than *cutoff*; return how many turns that were."""
    touched = [
        row["session_id"] for row in db.query("SELECT DISTINCT session_id FROM turn WHERE started_at < ?", (cutoff,))
    ]
    gone = db.execute("DELETE FROM turn WHERE started_at < ?", (cutoff,)).rowcount
    _tidy(db, touched)
    return gone


def delete_device(db: sqlite_utils.Database, device_id: str) -> int:
    """Delete a device and everything of it; return how many turns that were."""
    gone = delete_turns_of(db, device_id)
    db.execute("DELETE FROM device WHERE id = ?", (device_id,))
    return gone


def delete_turns_of(db: sqlite_utils.Database, device_id: str) -> int:
    """Delete what was said on a device; return how many turns that were."""
    touched = [
        row["session_id"] for row in db.query("SELECT DISTINCT session_id FROM turn WHERE device_id = ?", (device_id,))
    ]
    gone = db.execute("DELETE FROM turn WHERE device_id = ?", (device_id,)).rowcount
    _tidy(db, touched)
    return gone


def _tidy(db: sqlite_utils.Database, sessions: Iterable[str]) -> None:
    for session_id in sessions:
        count_session(db, session_id)
    db.execute("DELETE FROM session WHERE turns = 0")
    db.execute(
        "DELETE FROM audio WHERE NOT EXISTS (SELECT 1 FROM turn WHERE audio_in = audio.id)"
        " AND NOT EXISTS (SELECT 1 FROM turn WHERE audio_out = audio.id)"
    )


__all__ = [
    "ChatType",
    "Message",
    "count_session",
    "delete_device",
    "delete_turns_before",
    "delete_turns_of",
    "messages_of",
    "put_turn",
    "read_messages",
    "read_turns",
]
