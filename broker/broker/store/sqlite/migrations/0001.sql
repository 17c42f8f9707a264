-- The log: messages per topic, in order of appending.
-- AUTOINCREMENT, so that a topic made anew under an old name shares nothing with the one before.
-- A dropped topic has no name; its messages are removed a few at a time, then the row.
CREATE TABLE topic (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT UNIQUE,
    last_seq      INTEGER NOT NULL DEFAULT 0,
    message_count INTEGER NOT NULL DEFAULT 0,
    bytes         INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE message (
    topic      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    key        TEXT,             -- the ordering key: CloudEvents' partitionkey
    attributes BLOB NOT NULL,    -- a JSON object: the event without its data
    data       BLOB,             -- the bytes the endpoint gets; NULL: the event has none
    stored_at  REAL NOT NULL,
    PRIMARY KEY (topic, seq)
) STRICT, WITHOUT ROWID;

-- Ids that publishers chose, so that a repeat is recognised. In the order of the id, because ids made
-- from the time (UUIDv7) then all go to the table's end, whatever its size.
CREATE TABLE publish_key (
    topic       INTEGER NOT NULL,
    source      TEXT NOT NULL,
    id          TEXT NOT NULL,
    seq         INTEGER NOT NULL,
    fingerprint BLOB NOT NULL,
    stored_at   REAL NOT NULL,
    PRIMARY KEY (topic, source, id)
) STRICT, WITHOUT ROWID;

-- Every message at or below the position is settled, unless it has a row in exception.
CREATE TABLE subscription (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    topic    INTEGER NOT NULL REFERENCES topic (id),
    name     TEXT NOT NULL,
    position INTEGER NOT NULL,
    UNIQUE (topic, name)
) STRICT;

CREATE TABLE exception (
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    key          TEXT,
    state        TEXT NOT NULL CHECK (state IN ('retry', 'held', 'leased', 'dead')),
    attempts     INTEGER NOT NULL,
    due_at       REAL NOT NULL,
    reason       TEXT NOT NULL,
    PRIMARY KEY (subscription, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX exception_due ON exception (subscription, due_at) WHERE state = 'retry';
CREATE INDEX exception_key ON exception (subscription, key, seq)
    WHERE key IS NOT NULL AND state <> 'dead';

-- Failed attempts only.
CREATE TABLE attempt (
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    at           REAL NOT NULL,
    status       INTEGER,
    error        TEXT NOT NULL,
    duration_ms  INTEGER NOT NULL,
    answer       TEXT NOT NULL,
    PRIMARY KEY (subscription, seq, attempt)
) STRICT, WITHOUT ROWID;

-- Configuration of topics and subscriptions: small JSON documents with a revision.
CREATE TABLE document (
    key      TEXT PRIMARY KEY,
    body     TEXT NOT NULL,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: what tells this log's messages from those of every other broker.
CREATE TABLE log (
    id         TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
