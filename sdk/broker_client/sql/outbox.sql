-- create_sqlite: AUTOINCREMENT, because a relay that comes late may delete only ids it has seen.
CREATE TABLE IF NOT EXISTS {table} (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    partitionkey TEXT,
    event TEXT NOT NULL,
    created_at REAL NOT NULL,
    refusal TEXT,
    retry_at REAL
);
CREATE INDEX IF NOT EXISTS {table}_refused ON {table} (topic, partitionkey, id)
    WHERE retry_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS {table}_lease (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at REAL NOT NULL
);

-- create_postgresql: the lock, because two CREATE … IF NOT EXISTS at once collide in the catalogue.
SELECT pg_advisory_xact_lock(7021990455);
CREATE TABLE IF NOT EXISTS {table} (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic TEXT NOT NULL,
    partitionkey TEXT,
    event TEXT NOT NULL,
    created_at DOUBLE PRECISION NOT NULL,
    refusal TEXT,
    retry_at DOUBLE PRECISION
);
CREATE INDEX IF NOT EXISTS {table}_refused ON {table} (topic, partitionkey, id)
    WHERE retry_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS {table}_lease (
    id INTEGER PRIMARY KEY,
    owner TEXT NOT NULL,
    expires_at DOUBLE PRECISION NOT NULL
);

-- add: append one row, in the caller's transaction.
INSERT INTO {table} (topic, partitionkey, event, created_at)
VALUES (:topic, :partitionkey, :event, :now);

-- peek: say whether there may be a row to publish and nobody else publishes.
SELECT 1 FROM {table}
WHERE (retry_at IS NULL OR retry_at <= :now)
  AND NOT EXISTS (
      SELECT 1 FROM {table}_lease WHERE owner <> :owner AND expires_at > :now
  )
LIMIT 1;

-- lease: take the lease, or keep it; no row changes while it is another's.
INSERT INTO {table}_lease (id, owner, expires_at) VALUES (1, :owner, :until)
ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, expires_at = excluded.expires_at
WHERE {table}_lease.owner = excluded.owner OR {table}_lease.expires_at <= :now;

-- release: let the next relay take the lease at once.
UPDATE {table}_lease SET expires_at = 0 WHERE id = 1 AND owner = :owner;

-- page: the first rows to publish; a row that was refused holds back the later ones of its key.
SELECT id, topic, partitionkey, event, refusal FROM {table} AS candidate
WHERE (retry_at IS NULL OR retry_at <= :now)
  AND NOT EXISTS (
      SELECT 1 FROM {table} AS earlier
      WHERE earlier.retry_at > :now
        AND earlier.topic = candidate.topic
        AND earlier.partitionkey = candidate.partitionkey
        AND earlier.id < candidate.id
  )
ORDER BY id
LIMIT :limit;

-- delete_sqlite: remove published rows; ids is a JSON array.
DELETE FROM {table} WHERE id IN (SELECT value FROM json_each(:ids));

-- delete_postgresql: remove published rows; ids is a JSON array.
DELETE FROM {table} WHERE id = ANY (
    ARRAY(SELECT CAST(value AS bigint) FROM json_array_elements_text(CAST(:ids AS json)))
);

-- refuse: keep a row that the broker refused, with the reason, and try it again later.
UPDATE {table} SET refusal = :refusal, retry_at = :retry_at WHERE id = :id;
