-- Seeks, blocked and replayed deliveries, leases that outlive a restart, messages with a time of
-- their own.

-- `generation` counts seeks; messages at or below `replay_until` were handed out before one of them.
-- Nothing is sent before `hold_until`: the endpoint asked for that.
ALTER TABLE subscription ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN replay_until INTEGER NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN hold_until REAL NOT NULL DEFAULT 0;

-- Messages before `first_seq` are no longer part of the log. What is left of them has rows in
-- exception, and goes with these.
ALTER TABLE topic ADD COLUMN first_seq INTEGER NOT NULL DEFAULT 1;

-- `since` is when the row came into its state. A `leased` row whose due_at is infinite belongs to a
-- request that is out; one with a time is a lease that lapses then.
CREATE TABLE exception_2 (
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    key          TEXT,
    state        TEXT NOT NULL CHECK (state IN ('retry', 'held', 'leased', 'blocked', 'dead')),
    attempts     INTEGER NOT NULL,
    due_at       REAL NOT NULL,
    reason       TEXT NOT NULL,
    replayed     INTEGER NOT NULL DEFAULT 0,
    since        REAL NOT NULL DEFAULT 0,
    PRIMARY KEY (subscription, seq)
) STRICT, WITHOUT ROWID;
INSERT INTO exception_2 (subscription, seq, key, state, attempts, due_at, reason, since)
    SELECT subscription, seq, key, CASE state WHEN 'leased' THEN 'retry' ELSE state END, attempts,
           CASE state WHEN 'leased' THEN 0 ELSE due_at END, reason, unixepoch() FROM exception;
DROP TABLE exception;
ALTER TABLE exception_2 RENAME TO exception;
CREATE INDEX exception_due ON exception (subscription, due_at)
    WHERE state IN ('retry', 'leased');
CREATE INDEX exception_key ON exception (subscription, key, seq)
    WHERE key IS NOT NULL AND state <> 'dead';
CREATE INDEX exception_state ON exception (subscription, state, seq);
CREATE INDEX exception_dead ON exception (subscription, since) WHERE state = 'dead';

-- Attempts are numbered anew after a replay, so that their number alone does not name them.
CREATE TABLE attempt_2 (
    id           INTEGER PRIMARY KEY,
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    attempt      INTEGER NOT NULL,
    at           REAL NOT NULL,
    status       INTEGER,
    error        TEXT NOT NULL,
    duration_ms  INTEGER NOT NULL,
    answer       TEXT NOT NULL
) STRICT;
INSERT INTO attempt_2 (subscription, seq, attempt, at, status, error, duration_ms, answer)
    SELECT subscription, seq, attempt, at, status, error, duration_ms, answer FROM attempt
    ORDER BY at;
DROP TABLE attempt;
ALTER TABLE attempt_2 RENAME TO attempt;
CREATE INDEX attempt_delivery ON attempt (subscription, seq);

-- Messages that join the log when they are due; ties join in the order of `id`. Their identities are
-- in publish_key, with seq 0 and the time at which they are due. A topic counts them apart.
ALTER TABLE topic ADD COLUMN scheduled_count INTEGER NOT NULL DEFAULT 0;
ALTER TABLE topic ADD COLUMN scheduled_bytes INTEGER NOT NULL DEFAULT 0;
CREATE TABLE scheduled (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    topic       INTEGER NOT NULL,
    deliver_at  REAL NOT NULL,
    source      TEXT NOT NULL,
    message_id  TEXT NOT NULL,
    key         TEXT,
    attributes  BLOB NOT NULL,
    data        BLOB,
    fingerprint BLOB,
    stored_at   REAL NOT NULL,
    UNIQUE (topic, source, message_id)
) STRICT;
CREATE INDEX scheduled_due ON scheduled (deliver_at, id);

-- Fingerprints of schema 1 cannot be compared with today's. A repeat is still recognised by its id.
UPDATE publish_key SET fingerprint = x'';
CREATE INDEX publish_key_age ON publish_key (topic, stored_at);
