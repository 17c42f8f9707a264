-- create_sqlite:
CREATE TABLE IF NOT EXISTS {table} (
    subscriber TEXT PRIMARY KEY,
    secret TEXT NOT NULL
);

-- create_postgresql: the lock, because two CREATE … IF NOT EXISTS at once collide in the catalogue.
SELECT pg_advisory_xact_lock(7021990455);
CREATE TABLE IF NOT EXISTS {table} (
    subscriber TEXT PRIMARY KEY,
    secret TEXT NOT NULL
);

-- offer: store a secret unless there is one.
INSERT INTO {table} (subscriber, secret) VALUES (:subscriber, :secret)
ON CONFLICT DO NOTHING;

-- get:
SELECT secret FROM {table} WHERE subscriber = :subscriber;
