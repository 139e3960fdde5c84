"""What was said and done: every turn with its messages, tool calls, stamps and sound."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from xiaozhi_hub.core.flow import Channel, Outcome, TurnRecord
from xiaozhi_hub.store import chats, records
from xiaozhi_hub.store.chats import ChatHistory, ChatPage, ChatSession, ChatStatistics
from xiaozhi_hub.store.recordings import Container, Recording, Recordings
from xiaozhi_hub.store.records import ChatType, Message

if TYPE_CHECKING:
    import sqlite_utils

    from xiaozhi_hub.store.database import Database

log = logging.getLogger(__name__)

QUEUE_TURNS = 1000
"""Turns that may wait for the disk. Beyond that new ones are not remembered."""
MAX_ROWS = 500
"""Most rows that one question returns, whatever was asked for."""
DEVICE_RATE = 16000
HUB_RATE = 24000
_DAY = 86400.0


@dataclass(frozen=True, slots=True)
class TurnAudio:
    """Where the sound of a turn lies; None where none was kept."""

    heard: Path | None = None
    said: Path | None = None


class History:
    """Remembers turns.

    *container* makes Ogg files of packets. With *enabled* off nothing is remembered, with *keep_audio* off no sound. Failures are
    `StoreError`; whoever calls `add` logs them and goes on, since a conversation never depends on its record.
    """

    def __init__(
        self,
        db: Database,
        audio_dir: Path,
        container: Container,
        *,
        enabled: bool = True,
        keep_audio: bool = True,
        keep_days: int = 30,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._db = db
        self._recordings = Recordings(audio_dir, container)
        self._enabled = enabled
        self._keep_audio = keep_audio
        self._keep_days = keep_days
        self._now = now
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.dropped = 0
        """Turns that were not remembered because too many waited."""

    def configure(self, *, enabled: bool, keep_audio: bool, keep_days: int) -> None:
        """The owner wants it otherwise: what is written from now on, and the next `apply_retention`, do so."""
        self._enabled, self._keep_audio, self._keep_days = enabled, keep_audio, keep_days

    # -- writing --------------------------------------------------------------------------------------------------

    async def add(self, record: TurnRecord) -> None:
        """Remember a turn: all of it or nothing. Returns when it is written; the same id again replaces it.

        When `QUEUE_TURNS` wait already, the turn is dropped and counted.
        """
        if not self._enabled:
            return
        if self._waiting >= QUEUE_TURNS:
            self.dropped += 1
            if self.dropped == 1 or self.dropped % 100 == 0:
                log.warning("the disk does not keep up: %d turns were not remembered", self.dropped)
            return
        self._waiting += 1
        try:
            async with self._turn:
                await self._add(record)
        finally:
            self._waiting -= 1

    async def _add(self, record: TurnRecord, heard: bytes | None = None) -> None:
        if not record.session_id:
            record = replace(record, session_id=record.id)
        sound_in: Recording | None = None
        sound_out: Recording | None = None
        if (
            self._keep_audio
            and (record.audio_in or record.audio_out or heard)
            and await self._may_keep(record.device_id)
        ):

            def save() -> tuple[Recording | None, Recording | None]:
                kept = self._recordings
                spoken = kept.save_file(heard, 0.0, DEVICE_RATE) if heard else kept.save(record.audio_in, DEVICE_RATE)
                return spoken, kept.save(record.audio_out, HUB_RATE)

            sound_in, sound_out = await self._db.work(save)
        await self._db.write(lambda db: records.put_turn(db, record, sound_in, sound_out))

    async def _may_keep(self, device_id: str) -> bool:
        def ask(db: sqlite_utils.Database) -> bool:
            row = db.execute("SELECT keep_audio FROM device WHERE id = ?", (device_id,)).fetchone()
            return row is None or bool(row[0])

        return await self._db.read(ask)

    async def session_ended(self, session_id: str, reason: str, at: float) -> None:
        """Note when and why a conversation ended."""
        await self._db.write(
            lambda db: (
                db.execute(
                    "UPDATE session SET ended_at = max(ended_at, ?), reason = ? WHERE id = ?", (at, reason, session_id)
                ).rowcount
            )
        )

    async def save_chat_record(
        self,
        session_id: str,
        user_text: str,
        ai_response: str,
        audio_data: bytes | None = None,
        *,
        device_id: str = "",
        language: str = "en",
        record_id: str = "",
    ) -> str:
        """Remember one exchange from elsewhere, such as an import; return its id.

        *audio_data* is an Ogg Opus file of what the person said. With a *record_id* that is known already the record is replaced,
        so importing twice changes nothing.
        """
        record = TurnRecord(
            id=record_id or uuid.uuid4().hex,
            session_id=session_id,
            device_id=device_id,
            started_at=self._now(),
            channel=Channel.TEXT if audio_data is None else Channel.VOICE,
            mode="",
            language=language,
            heard=user_text,
            said=ai_response,
            outcome=Outcome.ANSWERED,
        )
        async with self._turn:
            known = await self.turn(record.id)
            if known is not None:
                record = replace(record, started_at=known.started_at)
            await self._add(record, audio_data)
        return record.id

    upsert_chat_record = save_chat_record
    """The name that older servers give to saving under a known id."""

    # -- forgetting -----------------------------------------------------------------------------------------------

    async def apply_retention(self, now: float) -> int:
        """Forget what is older than the owner wishes, and recordings that nothing speaks of; return how many turns went.

        With ``keep_days`` 0 everything stays. Call it now and then.
        """
        gone = 0
        if self._keep_days > 0:
            cutoff = now - self._keep_days * _DAY
            async with self._turn:
                gone = await self._db.write(lambda db: records.delete_turns_before(db, cutoff))
        await self._sweep()
        return gone

    async def forget_device(self, device_id: str) -> int:
        """Delete a device and everything that was ever said to it, recordings too; return how many turns went.

        What is due on it stays with the integrations that scheduled it.
        """
        async with self._turn:
            gone = await self._db.write(lambda db: records.delete_device(db, device_id))
        await self._sweep()
        return gone

    async def forget_all(self) -> int:
        """Delete what was ever said, recordings too; devices stay known. Return how many turns went."""
        async with self._turn:
            gone = await self._db.write(lambda db: records.delete_turns_before(db, math.inf))
        await self._sweep()
        return gone

    async def forget_turns(self, device_ids: Collection[str]) -> int:
        """Delete what was ever said on these devices, recordings too; they stay known. Return how many turns went."""
        async with self._turn:
            gone = await self._db.write(lambda db: sum(records.delete_turns_of(db, id) for id in device_ids))
        await self._sweep()
        return gone

    async def _sweep(self) -> None:
        """Remove files that no row speaks of. One shelf at a time, so that turns can be written in between."""
        for shelf in await self._db.work(self._recordings.shelves):
            async with self._turn:  # nobody is between a file and its row now
                known = await self._db.read(
                    lambda db, shelf=shelf: {  # type: ignore[misc]  # bound now, as the loop goes on
                        row[0]
                        for row in db.execute("SELECT id FROM audio WHERE id >= ? AND id < ?", (shelf, shelf + "g"))
                    }
                )

                def remove(shelf: str = shelf, known: set[str] = known) -> None:
                    self._recordings.remove_unfinished(shelf)
                    for id in self._recordings.on_shelf(shelf):
                        if id not in known:
                            self._recordings.remove(id)

                await self._db.work(remove)

    # -- reading --------------------------------------------------------------------------------------------------

    async def turns(
        self, limit: int = 50, device_id: str | None = None, before: TurnRecord | None = None
    ) -> list[TurnRecord]:
        """Return turns with their tool calls, newest first and without sound; *before* is the last one of the page before."""
        where: list[str] = []
        parameters: list[object] = []
        if device_id is not None:
            where.append("device_id = ?")
            parameters.append(device_id)
        if before is not None:
            where.append("(started_at, id) < (?, ?)")
            parameters += [before.started_at, before.id]
        condition = f"WHERE {' AND '.join(where)} " if where else ""
        query = f"{condition}ORDER BY started_at DESC, id DESC LIMIT ?"
        return await self._db.read(lambda db: records.read_turns(db, query, (*parameters, _capped(limit))))

    async def turn(self, id: str) -> TurnRecord | None:
        found = await self._db.read(lambda db: records.read_turns(db, "WHERE id = ?", (id,)))
        return found[0] if found else None

    async def messages(self, turn_id: str) -> list[Message]:
        """Return one turn as messages."""
        return await self._db.read(
            lambda db: records.read_messages(db, "WHERE turn_id = ? ORDER BY created_at, id", (turn_id,))
        )

    async def audio(self, turn_id: str) -> TurnAudio:
        """Return where the Ogg Opus files of a turn lie."""

        def look(db: sqlite_utils.Database) -> TurnAudio:
            row = db.execute("SELECT audio_in, audio_out FROM turn WHERE id = ?", (turn_id,)).fetchone()
            paths = [self._recordings.path(id) if id else None for id in row or (None, None)]
            return TurnAudio(*(path if path is not None and path.exists() else None for path in paths))

        return await self._db.read(look)

    async def get_chat_history_by_session_id(
        self, session_id: str, limit: int = 100, after: Message | None = None
    ) -> list[Message]:
        """Return the messages of a session in the order of time; *after* is the last one of the page before."""
        return await self._db.read(lambda db: chats.read_session(db, session_id, after, _capped(limit)))

    async def get_recent_chat_records(self, device_id: str, limit: int = 10) -> list[Message]:
        """Return the newest messages of a device, newest first."""
        return list((await self.get_chat_history_page(device_id, 1, limit)).messages)

    async def get_chat_history_page(self, device_id: str, page: int = 1, size: int = 20) -> ChatPage:
        """Return one page of a device's messages, newest first; pages count from 1."""
        return await self._db.read(lambda db: chats.read_page(db, device_id, max(1, page), _capped(size)))

    async def chat_history(self, device_id: str, limit: int = 100) -> ChatHistory:
        """Return the conversations that the newest *limit* turns of a device belong to, and its statistics."""
        return await self._db.read(lambda db: chats.read_history(db, device_id, _capped(limit)))


def _capped(limit: int) -> int:
    return max(1, min(limit, MAX_ROWS))


__all__ = [
    "ChatHistory",
    "ChatPage",
    "ChatSession",
    "ChatStatistics",
    "ChatType",
    "History",
    "Message",
    "TurnAudio",
]
