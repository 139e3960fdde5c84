"""Conversations as programs are told of them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from xiaozhi_hub.core.flow import ToolCall, TurnRecord
from xiaozhi_hub.store.history import ChatHistory, ChatSession, Message


def told_history(history: ChatHistory) -> dict[str, Any]:
    """The conversations of one device, newest first, their turns and messages in the order of time."""
    turns = sorted((turn for session in history.sessions for turn in session.turns), key=lambda t: t.started_at)
    return {
        "success": True,
        "device_id": history.device_id,
        "real_time_sessions": [_told_session(session) for session in history.sessions],
        "turns": [told_turn(turn) for turn in turns],
        "statistics": asdict(history.statistics),
        "last_updated": told_time(history.last_updated),
    }


def told_turn(turn: TurnRecord) -> dict[str, Any]:
    return {
        "turn_id": turn.id,
        "session_id": turn.session_id,
        "started_at": told_time(turn.started_at),
        "channel": turn.channel.value,
        "language": turn.language,
        "message": turn.heard,
        "response": turn.said,
        "outcome": turn.outcome.value,
        "error": turn.error,
        "tool_calls": told_calls(turn.tool_calls),
        "timings": dict(turn.stamps),
    }


def told_calls(calls: tuple[ToolCall, ...]) -> list[dict[str, Any]]:
    return [
        {"name": call.name, "arguments": call.arguments, "result": call.result, "error": call.error, "ms": call.ms}
        for call in calls
    ]


def told_time(at: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat() if at is not None else None


def _told_session(session: ChatSession) -> dict[str, Any]:
    return {
        "session_id": session.id,
        "agent_id": session.agent_id,
        "title": session.title,
        "started_at": told_time(session.started_at),
        "ended_at": told_time(session.ended_at),
        "reason": session.reason,
        "turn_count": session.turn_count,
        "message_count": session.message_count,
        "messages": [_told_message(message) for message in session.messages],
    }


def _told_message(message: Message) -> dict[str, Any]:
    return {
        "turn_id": message.turn_id,
        "chat_type": int(message.chat_type),
        "role": message.chat_type.name.lower(),
        "content": message.content,
        "created_at": told_time(message.created_at),
    }


__all__ = ["told_calls", "told_history", "told_time", "told_turn"]
