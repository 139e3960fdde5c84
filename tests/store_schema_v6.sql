BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'xiaozhi_hub','m001_history_and_schedule','2026-11-21 15:46:19.903993+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'xiaozhi_hub','m002_pairing','2026-11-21 15:46:19.906065+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'xiaozhi_hub','m003_firmware_photos_and_moving','2026-11-21 15:46:19.909378+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'xiaozhi_hub','m004_announcements','2026-11-21 15:46:19.911580+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'xiaozhi_hub','m005_memory','2026-11-21 15:46:19.913162+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'xiaozhi_hub','m006_habits','2026-11-21 15:46:19.914862+00:00');
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
CREATE TABLE announcement_receipt (
            announcement_id TEXT NOT NULL REFERENCES announcement (id) ON DELETE CASCADE,
            device_id TEXT NOT NULL,
            state TEXT NOT NULL,
            changed_at REAL NOT NULL,
            PRIMARY KEY (announcement_id, device_id)
        ) STRICT, WITHOUT ROWID;
CREATE TABLE audio (
            id TEXT PRIMARY KEY,
            bytes INTEGER NOT NULL,
            ms REAL NOT NULL,
            rate INTEGER NOT NULL,
            created_at REAL NOT NULL
        ) STRICT;
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
        , area TEXT NOT NULL DEFAULT '') STRICT;
INSERT INTO "device" VALUES('02:00:00:00:00:01','','','default','','','','','',1,1800000000.0,1800000000.0,'');
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
PRAGMA writable_schema=ON;
INSERT INTO sqlite_master(type,name,tbl_name,rootpage,sql)VALUES('table','fact_words','fact_words',0,'CREATE VIRTUAL TABLE fact_words USING fts5 (words, tokenize = ''porter unicode61 remove_diacritics 2'')');
CREATE TABLE 'fact_words_config'(k PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO "fact_words_config" VALUES('version',4);
CREATE TABLE 'fact_words_content'(id INTEGER PRIMARY KEY, c0);
CREATE TABLE 'fact_words_data'(id INTEGER PRIMARY KEY, block BLOB);
INSERT INTO "fact_words_data" VALUES(1,X'');
INSERT INTO "fact_words_data" VALUES(10,X'00000000000000');
CREATE TABLE 'fact_words_docsize'(id INTEGER PRIMARY KEY, sz BLOB);
CREATE TABLE 'fact_words_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID;
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
CREATE TABLE firmware_release (
            board TEXT NOT NULL,
            version TEXT NOT NULL,
            state TEXT NOT NULL,
            canary TEXT NOT NULL DEFAULT '',
            reason TEXT NOT NULL DEFAULT '',
            changed_at REAL NOT NULL,
            PRIMARY KEY (board, version)
        ) STRICT, WITHOUT ROWID;
CREATE TABLE habit (
            device_id TEXT NOT NULL,
            shape TEXT NOT NULL,
            ended REAL NOT NULL,
            went_on REAL NOT NULL,
            changed_at REAL NOT NULL,
            PRIMARY KEY (device_id, shape)
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
INSERT INTO "message" VALUES(1,'turn-1','session-1','02:00:00:00:00:01','default',NULL,1,'what time is it',NULL,1800000001.21);
INSERT INTO "message" VALUES(2,'turn-1','session-1','02:00:00:00:00:01','default',NULL,3,'{"name": "clock.get_time", "arguments": {}}',NULL,1800000001.21);
INSERT INTO "message" VALUES(3,'turn-1','session-1','02:00:00:00:00:01','default',NULL,4,'It is 9:41 PM.',NULL,1800000001.21);
INSERT INTO "message" VALUES(4,'turn-1','session-1','02:00:00:00:00:01','default',NULL,2,'It is 9:41 PM.',NULL,1800000001.215);
CREATE TABLE moved_device (
            device_id TEXT PRIMARY KEY,
            moved_to TEXT NOT NULL,
            told_at REAL NOT NULL
        ) STRICT, WITHOUT ROWID;
CREATE TABLE pairing (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            key TEXT NOT NULL,
            first_start_at REAL NOT NULL,
            closed_at REAL
        ) STRICT;
CREATE TABLE pause_habit (
            device_id TEXT PRIMARY KEY,
            lengths TEXT NOT NULL CHECK (json_valid(lengths)),
            changed_at REAL NOT NULL
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
CREATE TABLE schedule (
            domain TEXT NOT NULL,
            id TEXT NOT NULL,
            at REAL NOT NULL,
            payload TEXT NOT NULL CHECK (json_valid(payload)),
            PRIMARY KEY (domain, id)
        ) STRICT, WITHOUT ROWID;
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
INSERT INTO "session" VALUES('session-1','02:00:00:00:00:01','default',1800000000.0,1800000002.9,'','what time is it',1,4);
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
INSERT INTO "tool_call" VALUES('turn-1',0,'clock.get_time','{}','It is 9:41 PM.','{}','',0.4);
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
        , wait TEXT CHECK (wait IS NULL OR json_valid(wait))) STRICT;
INSERT INTO "turn" VALUES('turn-1','session-1','02:00:00:00:00:01','default',1800000000.0,'voice','auto','en','what time is it','It is 9:41 PM.','answered','neutral',NULL,'','{"transcript": 1210.0, "reply": 1215.0, "played": 2900.0}',NULL,NULL,NULL);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX session_device ON session (device_id, started_at);
CREATE INDEX turn_session ON turn (session_id, started_at);
CREATE INDEX turn_device ON turn (device_id, started_at, id);
CREATE INDEX turn_time ON turn (started_at, id);
CREATE INDEX turn_audio_in ON turn (audio_in) WHERE audio_in IS NOT NULL;
CREATE INDEX turn_audio_out ON turn (audio_out) WHERE audio_out IS NOT NULL;
CREATE INDEX message_turn ON message (turn_id);
CREATE INDEX message_session ON message (session_id, created_at);
CREATE INDEX message_device_session ON message (device_id, session_id, created_at);
CREATE INDEX message_device_time ON message (device_id, created_at);
CREATE INDEX message_agent ON message (agent_id, created_at);
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
CREATE INDEX device_token_device ON device_token (device_id);
CREATE INDEX photo_turn ON photo (turn_id);
CREATE INDEX photo_device ON photo (device_id);
CREATE INDEX photo_time ON photo (created_at);
CREATE INDEX announcement_time ON announcement (created_at, id);
CREATE INDEX announcement_receipt_device ON announcement_receipt (device_id);
CREATE INDEX announcement_receipt_waiting ON announcement_receipt (announcement_id) WHERE state = 'waiting';
CREATE INDEX fact_text ON fact (text COLLATE NOCASE, person);
PRAGMA writable_schema=OFF;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('message',4);
COMMIT;
