-- only if: SELECT NOT EXISTS (SELECT 1 FROM message)
-- The rows of all topics are one behind the other, as they came, with an index of their places. Before, the table
-- itself was in the order of the places: on the way to one, SQLite read all of a block for each comparison, and
-- each topic had a page of its own to write. A file that has messages keeps the table it has, because a copy would
-- take as much room again; every statement is for both.
DROP TABLE message;
CREATE TABLE message (
    topic      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    key        TEXT,
    attributes BLOB NOT NULL,
    data       BLOB,
    stored_at  REAL NOT NULL,
    parts      TEXT
) STRICT;
CREATE UNIQUE INDEX message_seq ON message (topic, seq);
