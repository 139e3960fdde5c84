"""How the database came to look as it does: numbered steps, each run once, each in its own transaction.

A step is never changed after a release; a new one is added below. ``tests/store_schema_v<n>.sql`` keeps what step *n* led to,
so that every upgrade path stays tested.

The old servers of this family had the tables ``ai_agent_chat_history``, ``ai_agent_chat_audio`` and ``ai_device``. They are views
here, with the old columns, for tools that were made for them.
"""

from __future__ import annotations

import sqlite_utils
from sqlite_utils import Migrations

MIGRATIONS = Migrations("xiaozhi_hub")


@MIGRATIONS()
def m001_history_and_schedule(db: sqlite_utils.Database) -> None:
    """Devices, sessions, turns with all that belongs to them, and what is due."""
    db.executescript(
        """
        CREATE TABLE device (
            id TEXT PRIMARY KEY,
            client_id TEXT NOT NULL DEFAULT '',
            name TEXT NOT NULL DEFAULT '',
            agent_id TEXT NOT NULL DEFAULT 'default',
            board TEXT NOT NULL DEFAULT '',
            firmware TEXT NOT NULL DEFAULT '',
            user_agent TEXT NOT NULL DEFAULT '',
            language TEXT NOT NULL DEFAULT '',
            address TEXT NOT NULL DEFAULT '',
            keep_audio INTEGER NOT NULL DEFAULT 1,
            first_seen_at REAL NOT NULL,
            last_seen_at REAL NOT NULL
        ) STRICT;

        CREATE TABLE session (
            id TEXT PRIMARY KEY,
            device_id TEXT NOT NULL,
            agent_id TEXT NOT NULL DEFAULT 'default',
            started_at REAL NOT NULL,
            ended_at REAL NOT NULL,
            reason TEXT NOT NULL DEFAULT '',
            title TEXT NOT NULL DEFAULT '',
            turns INTEGER NOT NULL DEFAULT 0,
            messages INTEGER NOT NULL DEFAULT 0
        ) STRICT;
        CREATE INDEX session_device ON session (device_id, started_at);

        CREATE TABLE audio (
            id TEXT PRIMARY KEY,
            bytes INTEGER NOT NULL,
            ms REAL NOT NULL,
            rate INTEGER NOT NULL,
            created_at REAL NOT NULL
        ) STRICT;

        CREATE TABLE turn (
            id TEXT PRIMARY KEY,
            session_id TEXT NOT NULL REFERENCES session (id) ON DELETE CASCADE,
            device_id TEXT NOT NULL,
            agent_id TEXT NOT NULL DEFAULT 'default',
            started_at REAL NOT NULL,
            channel TEXT NOT NULL,
            mode TEXT NOT NULL,
            language TEXT NOT NULL,
            heard TEXT NOT NULL,
            said TEXT NOT NULL,
            outcome TEXT NOT NULL,
            emotion TEXT NOT NULL,
            confidence REAL,
            error TEXT NOT NULL,
            stamps TEXT NOT NULL CHECK (json_valid(stamps)),
            audio_in TEXT REFERENCES audio (id),
            audio_out TEXT REFERENCES audio (id)
        ) STRICT;
        CREATE INDEX turn_session ON turn (session_id, started_at);
        CREATE INDEX turn_device ON turn (device_id, started_at, id);
        CREATE INDEX turn_time ON turn (started_at, id);
        CREATE INDEX turn_audio_in ON turn (audio_in) WHERE audio_in IS NOT NULL;
        CREATE INDEX turn_audio_out ON turn (audio_out) WHERE audio_out IS NOT NULL;

        CREATE TABLE tool_call (
            turn_id TEXT NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            name TEXT NOT NULL,
            arguments TEXT NOT NULL CHECK (json_valid(arguments)),
            result TEXT NOT NULL,
            data TEXT NOT NULL CHECK (json_valid(data)),
            error TEXT NOT NULL,
            ms REAL NOT NULL,
            PRIMARY KEY (turn_id, position)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE message (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            turn_id TEXT NOT NULL REFERENCES turn (id) ON DELETE CASCADE,
            session_id TEXT NOT NULL,
            device_id TEXT NOT NULL,
            agent_id TEXT NOT NULL DEFAULT 'default',
            person_id TEXT,
            chat_type INTEGER NOT NULL CHECK (chat_type BETWEEN 1 AND 5),
            content TEXT NOT NULL,
            audio_id TEXT,
            created_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX message_turn ON message (turn_id);
        CREATE INDEX message_session ON message (session_id, created_at);
        CREATE INDEX message_device_session ON message (device_id, session_id, created_at);
        CREATE INDEX message_device_time ON message (device_id, created_at);
        CREATE INDEX message_agent ON message (agent_id, created_at);

        CREATE TABLE schedule (
            domain TEXT NOT NULL,
            id TEXT NOT NULL,
            at REAL NOT NULL,
            payload TEXT NOT NULL CHECK (json_valid(payload)),
            PRIMARY KEY (domain, id)
        ) STRICT, WITHOUT ROWID;

        CREATE VIEW ai_agent_chat_history AS
            SELECT id, device_id AS mac_address, agent_id, session_id, chat_type, content,
                   strftime('%Y-%m-%d %H:%M:%f', created_at, 'unixepoch') AS created_at,
                   device_id, person_id AS student_id, audio_id
            FROM message;

        CREATE VIEW ai_agent_chat_audio AS
            SELECT id, substr(id, 1, 2) || '/' || id || '.ogg' AS audio, bytes AS size, ms AS duration_ms,
                   strftime('%Y-%m-%d %H:%M:%f', created_at, 'unixepoch') AS created_at
            FROM audio;

        CREATE VIEW ai_device AS
            SELECT id, id AS mac_address, name AS alias, agent_id, board, firmware AS app_version, user_agent, language,
                   strftime('%Y-%m-%d %H:%M:%f', last_seen_at, 'unixepoch') AS last_connected_at,
                   strftime('%Y-%m-%d %H:%M:%f', first_seen_at, 'unixepoch') AS create_date
            FROM device;

        CREATE VIEW v_chat_summary AS
            SELECT device_id, device_id AS mac_address, agent_id, session_id,
                   count(*) AS message_count,
                   strftime('%Y-%m-%d %H:%M:%f', min(created_at), 'unixepoch') AS session_start,
                   strftime('%Y-%m-%d %H:%M:%f', max(created_at), 'unixepoch') AS session_end,
                   sum(chat_type = 1) AS user_messages,
                   sum(chat_type = 2) AS ai_messages
            FROM message
            GROUP BY device_id, agent_id, session_id;
        """
    )


@MIGRATIONS()
def m002_pairing(db: sqlite_utils.Database) -> None:
    """Which devices may come in, and what they prove it with."""
    db.executescript(
        """
        ALTER TABLE device ADD COLUMN area TEXT NOT NULL DEFAULT '';
        UPDATE device SET client_id = '';

        CREATE TABLE device_grant (
            device_id TEXT PRIMARY KEY,
            client TEXT NOT NULL,
            state TEXT NOT NULL CHECK (state IN ('in', 'out')),
            granted_by TEXT NOT NULL,
            changed_at REAL NOT NULL
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE device_token (
            hash TEXT PRIMARY KEY,
            device_id TEXT NOT NULL REFERENCES device_grant (device_id) ON DELETE CASCADE,
            issued_at REAL NOT NULL,
            used_at REAL,
            expires_at REAL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX device_token_device ON device_token (device_id);

        CREATE TABLE pairing (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            key TEXT NOT NULL,
            first_start_at REAL NOT NULL,
            closed_at REAL
        ) STRICT;
        """
    )


@MIGRATIONS()
def m003_firmware_photos_and_moving(db: sqlite_utils.Database) -> None:
    """Released firmware, who was offered it and what came of it, and devices that are to keep a version; photos that devices
    have asked about; devices that were told of the hub's new address."""
    db.executescript(
        """
        CREATE TABLE firmware_release (
            board TEXT NOT NULL,
            version TEXT NOT NULL,
            state TEXT NOT NULL,
            canary TEXT NOT NULL DEFAULT '',
            reason TEXT NOT NULL DEFAULT '',
            changed_at REAL NOT NULL,
            PRIMARY KEY (board, version)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE firmware_offer (
            device_id TEXT NOT NULL,
            board TEXT NOT NULL,
            version TEXT NOT NULL,
            from_version TEXT NOT NULL,
            ticket TEXT NOT NULL UNIQUE,
            offered_at REAL NOT NULL,
            times INTEGER NOT NULL,
            fetched_at REAL,
            delivered_at REAL,
            result TEXT NOT NULL,
            PRIMARY KEY (device_id, version)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE firmware_pin (
            device_id TEXT PRIMARY KEY,
            version TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE photo (
            id TEXT PRIMARY KEY,
            file TEXT NOT NULL,
            turn_id TEXT NOT NULL,
            session_id TEXT NOT NULL,
            device_id TEXT NOT NULL,
            question TEXT NOT NULL,
            answer TEXT NOT NULL,
            bytes INTEGER NOT NULL,
            created_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX photo_turn ON photo (turn_id);
        CREATE INDEX photo_device ON photo (device_id);
        CREATE INDEX photo_time ON photo (created_at);

        CREATE TABLE moved_device (
            device_id TEXT PRIMARY KEY,
            moved_to TEXT NOT NULL,
            told_at REAL NOT NULL
        ) STRICT, WITHOUT ROWID;
        """
    )


@MIGRATIONS()
def m004_announcements(db: sqlite_utils.Database) -> None:
    """What is to be told through devices, and what has become of it at each of them."""
    db.executescript(
        """
        CREATE TABLE announcement (
            id TEXT PRIMARY KEY,
            kind TEXT NOT NULL CHECK (kind IN ('announcement', 'message')),
            text TEXT NOT NULL,
            language TEXT NOT NULL,
            sound BLOB NOT NULL,
            from_device TEXT NOT NULL,
            from_session TEXT NOT NULL,
            created_at REAL NOT NULL,
            expires_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX announcement_time ON announcement (created_at, id);

        CREATE TABLE announcement_receipt (
            announcement_id TEXT NOT NULL REFERENCES announcement (id) ON DELETE CASCADE,
            device_id TEXT NOT NULL,
            state TEXT NOT NULL,
            changed_at REAL NOT NULL,
            PRIMARY KEY (announcement_id, device_id)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX announcement_receipt_device ON announcement_receipt (device_id);
        CREATE INDEX announcement_receipt_waiting ON announcement_receipt (announcement_id) WHERE state = 'waiting';
        """
    )


@MIGRATIONS()
def m005_memory(db: sqlite_utils.Database) -> None:
    """What people have asked the hub to remember, and its words for the search."""
    db.executescript(
        """
        CREATE TABLE fact (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            text TEXT NOT NULL,
            person TEXT NOT NULL,
            language TEXT NOT NULL,
            turn_id TEXT NOT NULL,
            device_id TEXT NOT NULL,
            noted_by TEXT NOT NULL,
            noted_at REAL NOT NULL
        ) STRICT;
        CREATE INDEX fact_text ON fact (text COLLATE NOCASE, person);

        CREATE VIRTUAL TABLE fact_words USING fts5 (words, tokenize = 'porter unicode61 remove_diacritics 2');
        """
    )


@MIGRATIONS()
def m006_habits(db: sqlite_utils.Database) -> None:
    """How people here end their sentences, and how long each turn has waited for that."""
    db.executescript(
        """
        ALTER TABLE turn ADD COLUMN wait TEXT CHECK (wait IS NULL OR json_valid(wait));

        CREATE TABLE habit (
            device_id TEXT NOT NULL,
            shape TEXT NOT NULL,
            ended REAL NOT NULL,
            went_on REAL NOT NULL,
            changed_at REAL NOT NULL,
            PRIMARY KEY (device_id, shape)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE pause_habit (
            device_id TEXT PRIMARY KEY,
            lengths TEXT NOT NULL CHECK (json_valid(lengths)),
            changed_at REAL NOT NULL
        ) STRICT, WITHOUT ROWID;
        """
    )


def known() -> frozenset[str]:
    """The names of all steps."""
    empty = sqlite_utils.Database(memory=True, execute_plugins=False)
    try:
        return frozenset(step.name for step in MIGRATIONS.pending(empty))
    finally:
        empty.close()


__all__ = ["MIGRATIONS", "known"]
