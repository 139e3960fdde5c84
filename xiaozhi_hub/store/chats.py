"""Conversations as they are shown: by device, by session, by page. Blocking: for the store's own threads only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xiaozhi_hub.core.flow import TurnRecord
from xiaozhi_hub.store.records import Message, read_messages, read_turns

if TYPE_CHECKING:
    import sqlite_utils


@dataclass(frozen=True, slots=True)
class ChatPage:
    """One page of messages, newest first."""

    messages: tuple[Message, ...]
    total: int
    page: int
    size: int


@dataclass(frozen=True, slots=True)
class ChatSession:
    """One conversation."""

    id: str
    device_id: str
    agent_id: str
    started_at: float
    ended_at: float
    reason: str
    """Why it ended; empty while nobody knows."""
    title: str
    turn_count: int
    message_count: int
    turns: tuple[TurnRecord, ...]
    """Those that were asked for, in the order of time."""
    messages: tuple[Message, ...]
    """Of these turns."""


@dataclass(frozen=True, slots=True)
class ChatStatistics:
    """How much a device and its people have talked, in all that is kept."""

    sessions: int
    turns: int
    messages: int
    user_messages: int
    ai_messages: int
    tool_calls: int


@dataclass(frozen=True, slots=True)
class ChatHistory:
    """The newest conversations of one device."""

    device_id: str
    sessions: tuple[ChatSession, ...]
    """Newest first."""
    statistics: ChatStatistics
    last_updated: float | None
    """When the last message came; None when there is none."""


def read_session(db: sqlite_utils.Database, session_id: str, after: Message | None, limit: int) -> list[Message]:
    """The messages of a session in the order of time, beginning after the message *after*."""
    further = "" if after is None else "AND (created_at, id) > (?, ?) "
    place = () if after is None else (after.created_at, after.id)
    query = f"WHERE session_id = ? {further}ORDER BY created_at, id LIMIT ?"
    return read_messages(db, query, (session_id, *place, limit))


def read_page(db: sqlite_utils.Database, device_id: str, page: int, size: int) -> ChatPage:
    """One page of a device's messages, newest first."""
    (total,) = db.execute("SELECT count(*) FROM message WHERE device_id = ?", (device_id,)).fetchone()
    query = "WHERE device_id = ? ORDER BY created_at DESC, id DESC LIMIT ? OFFSET ?"
    return ChatPage(tuple(read_messages(db, query, (device_id, size, (page - 1) * size))), total, page, size)


def read_history(db: sqlite_utils.Database, device_id: str, limit: int) -> ChatHistory:
    """The conversations that the newest *limit* turns of a device belong to."""
    turns = read_turns(db, "WHERE device_id = ? ORDER BY started_at DESC, id DESC LIMIT ?", (device_id, limit))
    turns.reverse()
    turn_ids = json.dumps([turn.id for turn in turns])
    messages = read_messages(
        db, "WHERE turn_id IN (SELECT value FROM json_each(?)) ORDER BY created_at, id", (turn_ids,)
    )
    rows = db.query(
        "SELECT * FROM session WHERE id IN (SELECT session_id FROM turn WHERE id IN (SELECT value FROM json_each(?)))"
        " ORDER BY started_at DESC, id DESC",
        (turn_ids,),
    )
    sessions = tuple(
        ChatSession(
            id=row["id"],
            device_id=row["device_id"],
            agent_id=row["agent_id"],
            started_at=row["started_at"],
            ended_at=row["ended_at"],
            reason=row["reason"],
            title=row["title"],
            turn_count=row["turns"],
            message_count=row["messages"],
            turns=tuple(turn for turn in turns if turn.session_id == row["id"]),
            messages=tuple(message for message in messages if message.session_id == row["id"]),
        )
        for row in rows
    )
    return ChatHistory(device_id, sessions, *_statistics(db, device_id))


def _statistics(db: sqlite_utils.Database, device_id: str) -> tuple[ChatStatistics, float | None]:
    session_count, turn_count = db.execute(
        "SELECT count(DISTINCT session_id), count(*) FROM turn WHERE device_id = ?", (device_id,)
    ).fetchone()
    message_count, user_count, ai_count, newest = db.execute(
        "SELECT count(*), ifnull(sum(chat_type = 1), 0), ifnull(sum(chat_type = 2), 0), max(created_at)"
        " FROM message WHERE device_id = ?",
        (device_id,),
    ).fetchone()
    (call_count,) = db.execute(
        "SELECT count(*) FROM tool_call JOIN turn ON turn.id = tool_call.turn_id WHERE turn.device_id = ?", (device_id,)
    ).fetchone()
    return ChatStatistics(session_count, turn_count, message_count, user_count, ai_count, call_count), newest


__all__ = ["ChatHistory", "ChatPage", "ChatSession", "ChatStatistics", "read_history", "read_page", "read_session"]
