-- create_sqlite:
CREATE TABLE IF NOT EXISTS {table} (
    consumer TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    received_at REAL NOT NULL,
    PRIMARY KEY (consumer, source, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS {table}_received_at ON {table} (received_at);

-- create_postgresql: the lock, because two CREATE … IF NOT EXISTS at once collide in the catalogue.
SELECT pg_advisory_xact_lock(7021990455);
CREATE TABLE IF NOT EXISTS {table} (
    consumer TEXT NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    received_at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (consumer, source, id)
);
CREATE INDEX IF NOT EXISTS {table}_received_at ON {table} (received_at);

-- record: one row changes the first time, none on a repeat; a repeat at the same moment waits here.
INSERT INTO {table} (consumer, source, id, received_at)
VALUES (:consumer, :source, :id, :now)
ON CONFLICT DO NOTHING;

-- find:
SELECT 1 FROM {table} WHERE consumer = :consumer AND source = :source AND id = :id;

-- forget: for every consumer, or the one that is named.
DELETE FROM {table}
WHERE source = :source AND id = :id AND consumer = COALESCE(:consumer, consumer);

-- purge:
DELETE FROM {table} WHERE received_at < :before;
