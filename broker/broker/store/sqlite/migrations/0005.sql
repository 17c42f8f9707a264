-- Ids of one publisher that rose from message to message of a request, above all of its ids that were
-- known then: a row for up to 128 of them. So no two runs of a source overlap, and an id can be in no
-- other than the one that begins last before it. An id that is in publish_key as well came again later,
-- its window over.
CREATE TABLE id_run (
    topic        INTEGER NOT NULL,
    source       TEXT NOT NULL,
    first        TEXT NOT NULL,     -- the lowest of the ids, and the highest
    last         TEXT NOT NULL,
    seq          INTEGER NOT NULL,  -- of the message with the first id; those of the others follow
    stored_at    REAL NOT NULL,
    ids          TEXT NOT NULL,     -- a JSON array, in their order
    fingerprints BLOB NOT NULL,     -- one behind the other, all of one length
    PRIMARY KEY (topic, source, first)
) STRICT, WITHOUT ROWID;
CREATE INDEX id_run_age ON id_run (topic, stored_at);
