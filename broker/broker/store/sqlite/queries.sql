-- name: insert_small_block
INSERT INTO small_block (topic, seq, key, attributes, data, stored_at, parts)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: insert_large_block
INSERT INTO large_block (topic, seq, key, attributes, data, stored_at, parts)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: insert_publish_key
-- REPLACE, because an id whose window has passed may come again.
INSERT OR REPLACE INTO publish_key (topic, source, id, seq, fingerprint, stored_at)
VALUES (?, ?, ?, ?, ?, ?)

-- name: insert_id_run
INSERT INTO id_run (topic, source, first, last, seq, stored_at, ids, fingerprints)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: find_id_run
-- What it has is read only where the id can be in it.
SELECT topic, source, first, last, seq, stored_at, ids, fingerprints FROM id_run
WHERE topic = ?1 AND source = ?2 AND last >= ?3 AND first = (
    SELECT max(first) FROM id_run WHERE topic = ?1 AND source = ?2 AND first <= ?3)

-- name: find_publish_key
SELECT seq, fingerprint, stored_at FROM publish_key WHERE topic = ? AND source = ? AND id = ?

-- name: find_publish_keys
-- CROSS, because the planner would go through all of the source.
SELECT known.id, known.seq, known.fingerprint, known.stored_at
FROM json_each(?3) AS wanted CROSS JOIN publish_key AS known
WHERE known.topic = ?1 AND known.source = ?2 AND known.id = wanted.value

-- name: sequences_of_id
-- Goes from source to source by the index: however many ids a source has, it costs two look-ups.
WITH RECURSIVE each (source, number) AS (
    SELECT min(source), 1 FROM publish_key WHERE topic = ?1
    UNION ALL
    SELECT (SELECT min(source) FROM publish_key WHERE topic = ?1 AND source > each.source), number + 1
    FROM each WHERE source IS NOT NULL AND number < ?4
), each_with_runs (source, number) AS (
    SELECT min(source), 1 FROM id_run WHERE topic = ?1
    UNION ALL
    SELECT (SELECT min(source) FROM id_run WHERE topic = ?1 AND source > each.source), number + 1
    FROM each_with_runs AS each WHERE source IS NOT NULL AND number < ?4
)
SELECT known.seq AS seq FROM each CROSS JOIN publish_key AS known
WHERE known.topic = ?1 AND known.source = each.source AND known.id = ?2 AND known.seq >= ?3
UNION
SELECT run.seq + place.key FROM each_with_runs AS each CROSS JOIN id_run AS run
CROSS JOIN json_each(run.ids) AS place
WHERE run.topic = ?1 AND run.source = each.source AND run.last >= ?2 AND run.first = (
        SELECT max(first) FROM id_run WHERE topic = ?1 AND source = each.source AND first <= ?2)
    AND place.value = ?2 AND run.seq + place.key >= ?3
ORDER BY seq

-- name: highest_ids
-- Of those that have a row, and of those in runs.
SELECT (SELECT max(id) FROM publish_key WHERE topic = ?1 AND source = ?2),
       (SELECT last FROM id_run WHERE topic = ?1 AND source = ?2 AND first = (
            SELECT max(first) FROM id_run WHERE topic = ?1 AND source = ?2))

-- name: update_topic_counts
UPDATE topic SET last_seq = ?, message_count = ?, bytes = ? WHERE id = ?

-- name: insert_scheduled
INSERT INTO scheduled
    (topic, deliver_at, source, message_id, key, attributes, data, fingerprint, stored_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: update_topic_scheduled
UPDATE topic SET scheduled_count = ?, scheduled_bytes = ? WHERE id = ?

-- name: find_scheduled
SELECT deliver_at, id, attributes, data FROM scheduled
WHERE topic = ? AND source = ? AND message_id = ?

-- name: list_scheduled
-- Of other topics' messages only that they are there.
SELECT deliver_at, id, CASE topic WHEN ?1 THEN attributes END, CASE topic WHEN ?1 THEN data END
FROM scheduled WHERE (deliver_at, id) > (?2, ?3) ORDER BY deliver_at, id LIMIT ?4

-- name: due_scheduled
SELECT id, topic, message_id, source, key, attributes, data, fingerprint FROM scheduled
WHERE deliver_at <= ? ORDER BY deliver_at, id LIMIT ?

-- name: next_scheduled
SELECT id, deliver_at FROM scheduled ORDER BY deliver_at, id LIMIT ?

-- name: delete_scheduled
DELETE FROM scheduled WHERE id = ?

-- name: delete_waiting_key
DELETE FROM publish_key WHERE topic = ? AND source = ? AND id = ?

-- name: read_blocks
-- From the row on that has the first message after a seq; one more, for the first may end before.
-- Up to another seq, because the next row of each table is read whole, however far ahead it is.
SELECT seq, key, attributes, data, stored_at, parts FROM block
WHERE topic = ?1 AND seq <= ?4 AND seq >= coalesce((
        SELECT seq FROM block WHERE topic = ?1 AND seq <= ?2 + 1 ORDER BY seq DESC LIMIT 1), ?2)
ORDER BY seq LIMIT ?3 + 1

-- name: block_of
-- The one that may have a seq.
SELECT seq, key, attributes, data, stored_at, parts FROM block
WHERE topic = ?1 AND seq = (
    SELECT seq FROM block WHERE topic = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1)

-- name: block_at
-- The one that has a seq, else the next.
SELECT seq, key, x'', NULL, stored_at, parts FROM block
WHERE topic = ?1 AND seq >= coalesce((
        SELECT seq FROM block WHERE topic = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1), ?2)
    AND seq + coalesce(json_array_length(parts), 1) > ?2
ORDER BY seq LIMIT 1

-- name: list_topics
SELECT id, name, last_seq, message_count, bytes, first_seq, scheduled_count, scheduled_bytes
FROM topic WHERE name IS NOT NULL ORDER BY id

-- name: insert_topic
INSERT INTO topic (id, name) VALUES (?, ?)

-- name: last_ids
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'topic'), 0),
       coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'subscription'), 0)

-- name: unname_topic
UPDATE topic SET name = NULL WHERE id = ?

-- name: delete_topic_subscriptions
DELETE FROM subscription WHERE topic = ?

-- name: list_unnamed_topics
SELECT id FROM topic WHERE name IS NULL

-- name: delete_topic
DELETE FROM topic WHERE id = ?

-- name: list_subscriptions
SELECT id, topic, name, position, generation, replay_until, hold_until
FROM subscription ORDER BY id

-- name: insert_subscription
INSERT INTO subscription (id, topic, name, position) VALUES (?, ?, ?, ?)

-- name: update_position
UPDATE subscription SET position = ? WHERE id = ?

-- name: delete_subscription
DELETE FROM subscription WHERE id = ?

-- name: resume_leased
-- An attempt that was under way when the broker ended has no outcome: it is due at once.
UPDATE exception SET state = 'retry', due_at = 0 WHERE state = 'leased' AND due_at = 9e999

-- name: hold_behind_first
-- INDEXED BY, because the planner takes the primary key, whose cost grows with the square of the rows.
-- By the states one by one, because a key may have any number of rows in one of them.
UPDATE exception INDEXED BY exception_state SET state = 'held'
WHERE subscription = ? AND state = 'retry' AND seq > ? AND seq <= ? AND key IS NOT NULL AND EXISTS (
    SELECT 1 FROM exception AS before INDEXED BY exception_key
    WHERE before.subscription = exception.subscription AND before.key = exception.key
      AND before.key IS NOT NULL AND before.state <> 'dead'
      AND before.state IN ('retry', 'held', 'leased', 'blocked') AND before.seq < exception.seq)

-- name: free_first_held
-- But where one of the key is leased, also one that comes later: it has the key until it ends.
UPDATE exception INDEXED BY exception_state SET state = 'retry'
WHERE subscription = ? AND state = 'held' AND seq > ? AND seq <= ? AND NOT EXISTS (
    SELECT 1 FROM exception AS before INDEXED BY exception_key
    WHERE before.subscription = exception.subscription AND before.key = exception.key
      AND before.key IS NOT NULL AND before.state <> 'dead'
      AND before.state IN ('retry', 'held', 'blocked') AND before.seq < exception.seq)
  AND NOT EXISTS (
    SELECT 1 FROM exception AS other INDEXED BY exception_key
    WHERE other.subscription = exception.subscription AND other.key = exception.key
      AND other.key IS NOT NULL AND other.state <> 'dead' AND other.state = 'leased')

-- name: seek_rows
DELETE FROM exception
WHERE subscription = ?1 AND seq > ?2 AND seq <= ?3 AND (state <> 'dead' OR seq > ?4)

-- name: finish_seeks
-- At the start, of seeks that the end of the broker cut off.
DELETE FROM exception
WHERE subscription IN (SELECT id FROM subscription WHERE clearing) AND (state <> 'dead' OR seq > (
    SELECT position FROM subscription WHERE id = exception.subscription))

-- name: seeks_finished
UPDATE subscription SET clearing = 0 WHERE clearing

-- name: seek_finished
UPDATE subscription SET clearing = 0 WHERE id = ?

-- name: next_rows
SELECT max(seq) FROM (
    SELECT seq FROM exception WHERE subscription = ? AND seq > ? ORDER BY seq LIMIT ?)

-- name: next_rows_in
SELECT max(seq) FROM (
    SELECT seq FROM exception INDEXED BY exception_state
    WHERE subscription = ? AND state = ? AND seq > ? ORDER BY seq LIMIT ?)

-- name: seek_position
UPDATE subscription SET position = ?, generation = ?, replay_until = ?, clearing = 1 WHERE id = ?

-- name: update_hold
UPDATE subscription SET hold_until = ? WHERE id = ?

-- name: dead_all
SELECT seq, key FROM exception INDEXED BY exception_state
WHERE subscription = ? AND state = 'dead' AND seq > ? ORDER BY seq LIMIT ?

-- name: dead_some
SELECT seq, key FROM exception
WHERE subscription = ? AND state = 'dead' AND seq IN (SELECT value FROM json_each(?))

-- name: replay_dead
UPDATE exception SET state = 'retry', attempts = 0, due_at = 0, replayed = 1, since = ?
WHERE subscription = ? AND state = 'dead' AND seq IN (SELECT value FROM json_each(?))

-- name: hold_busy
-- Of those replayed. Also behind a lease or a blocked delivery, which a key cannot pass even if it
-- comes later.
UPDATE exception SET state = 'held'
WHERE subscription = ?1 AND seq IN (SELECT value FROM json_each(?2)) AND state = 'retry'
  AND key IS NOT NULL AND (
    key IN (SELECT value FROM json_each(?3)) OR EXISTS (
        SELECT 1 FROM exception AS other INDEXED BY exception_key
        WHERE other.subscription = ?1 AND other.key = exception.key AND other.key IS NOT NULL
          AND other.state <> 'dead' AND other.state IN ('leased', 'blocked')))

-- name: hold_behind_of
UPDATE exception INDEXED BY exception_key SET state = 'held'
WHERE subscription = ?1 AND key IN (SELECT value FROM json_each(?2)) AND key IS NOT NULL
  AND state <> 'dead' AND state = 'retry' AND EXISTS (
    SELECT 1 FROM exception AS before INDEXED BY exception_key
    WHERE before.subscription = ?1 AND before.key = exception.key AND before.key IS NOT NULL
      AND before.state <> 'dead' AND before.state IN ('retry', 'held', 'leased', 'blocked')
      AND before.seq < exception.seq)

-- name: free_all_held
UPDATE exception INDEXED BY exception_state SET state = 'retry'
WHERE subscription = ? AND state = 'held' AND seq > ? AND seq <= ?

-- name: subscriptions_with_rows
SELECT id FROM subscription
WHERE EXISTS (SELECT 1 FROM exception WHERE exception.subscription = subscription.id)

-- name: rows_above
SELECT seq FROM exception WHERE subscription = ? AND seq > ?

-- name: leases
SELECT seq, key, due_at FROM exception INDEXED BY exception_state
WHERE subscription = ? AND state = 'leased' AND seq > ? AND due_at < 9e999 ORDER BY seq LIMIT ?

-- name: first_of
SELECT min(seq) FROM (
    SELECT (SELECT min(seq) FROM exception INDEXED BY exception_key
            WHERE subscription = ?1 AND key = ?2 AND key IS NOT NULL AND state <> 'dead'
              AND state = ahead.column1) AS seq
    FROM (VALUES ('retry'), ('leased'), ('blocked')) AS ahead)

-- name: firsts
SELECT chosen.value, min(e.seq)
FROM json_each(?1) AS chosen
     CROSS JOIN (VALUES ('retry'), ('held'), ('leased'), ('blocked')) AS owed
     CROSS JOIN exception AS e INDEXED BY exception_key
WHERE e.subscription = ?2 AND e.key = chosen.value AND e.key IS NOT NULL AND e.state <> 'dead'
  AND e.state = owed.column1 AND e.seq = (
    SELECT min(seq) FROM exception INDEXED BY exception_key
    WHERE subscription = ?2 AND key = chosen.value AND key IS NOT NULL AND state <> 'dead'
      AND state = owed.column1)
GROUP BY chosen.value

-- name: waiting_keys
-- From key to key, however many rows each has.
WITH RECURSIVE waiting (key) AS (
    SELECT min(key) FROM exception INDEXED BY exception_key
    WHERE subscription = ?1 AND key > ?2 AND key IS NOT NULL AND state <> 'dead'
    UNION ALL
    SELECT (
        SELECT min(key) FROM exception INDEXED BY exception_key
        WHERE subscription = ?1 AND key > waiting.key AND key IS NOT NULL AND state <> 'dead')
    FROM waiting WHERE waiting.key IS NOT NULL
    LIMIT ?3)
SELECT key FROM waiting WHERE key IS NOT NULL

-- name: waiting_among
SELECT value FROM json_each(?1) WHERE EXISTS (
    SELECT 1 FROM exception INDEXED BY exception_key
    WHERE subscription = ?2 AND key = value AND key IS NOT NULL AND state <> 'dead')

-- name: put_exception
INSERT OR REPLACE INTO exception
    (subscription, seq, key, state, attempts, due_at, reason, replayed, since)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)

-- name: drop_exception
DELETE FROM exception WHERE subscription = ? AND seq = ?

-- name: put_attempt
INSERT INTO attempt (subscription, seq, attempt, at, status, error, duration_ms, answer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: trim_attempts
DELETE FROM attempt WHERE subscription = ?1 AND seq = ?2 AND id <= (
    SELECT id FROM attempt WHERE subscription = ?1 AND seq = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)

-- name: list_attempts
SELECT seq, attempt, at, status, error, duration_ms, answer FROM (
    SELECT * FROM attempt WHERE subscription = ? AND seq = ? ORDER BY id DESC LIMIT ?)
ORDER BY id

-- name: due
SELECT seq, key, state, attempts, due_at, reason, replayed, since
FROM exception
WHERE subscription = ? AND state IN ('retry', 'leased') AND due_at <= ? AND due_at < 9e999
ORDER BY due_at, seq LIMIT ?

-- name: next_due_at
SELECT seq, due_at FROM exception
WHERE subscription = ? AND state IN ('retry', 'leased') AND due_at < 9e999
ORDER BY due_at LIMIT ?

-- name: held
-- Up to the key's first row in another state: to ask of each row whether one stands before it costs
-- the square of their number. A lease stands before all.
SELECT e.seq, e.key, e.state, e.attempts, e.due_at, e.reason, e.replayed, e.since
FROM exception AS e INDEXED BY exception_key
WHERE e.subscription = ?1 AND e.key = ?2 AND e.key IS NOT NULL AND e.seq > ?3
  AND e.state <> 'dead' AND e.state = 'held' AND e.seq < coalesce((
    SELECT min(seq) FROM (
        SELECT (SELECT min(seq) FROM exception INDEXED BY exception_key
                WHERE subscription = ?1 AND key = ?2 AND key IS NOT NULL AND state <> 'dead'
                  AND state = ahead.column1) AS seq
        FROM (VALUES ('retry'), ('blocked')) AS ahead
        UNION ALL
        SELECT 0 WHERE EXISTS (
            SELECT 1 FROM exception INDEXED BY exception_key
            WHERE subscription = ?1 AND key = ?2 AND key IS NOT NULL AND state <> 'dead'
              AND state = 'leased'))), 9e999)
ORDER BY e.seq LIMIT ?4

-- name: row
SELECT seq, key, state, attempts, due_at, reason, replayed, since
FROM exception
WHERE subscription = ? AND seq = ?

-- name: leased_among
-- CROSS, because the planner goes through all rows of the subscription.
SELECT e.seq, e.key, e.state, e.attempts, e.due_at, e.reason, e.replayed, e.since
FROM json_each(?2) AS chosen CROSS JOIN exception AS e
WHERE e.subscription = ?1 AND e.seq = chosen.value AND e.state = 'leased'

-- name: rows
SELECT seq, key, state, attempts, due_at, reason, replayed, since
FROM exception INDEXED BY exception_state
WHERE subscription = ? AND state = ? AND seq > ? ORDER BY seq LIMIT ?

-- name: count_rows
SELECT state, count(*), min(seq) FROM exception WHERE subscription = ? GROUP BY state

-- name: count_all_rows
SELECT subscription, state, count(*), min(seq) FROM exception GROUP BY subscription, state

-- name: count_blocked_keys
SELECT count(DISTINCT key) FROM exception
WHERE subscription = ? AND key IS NOT NULL AND state IN ('held', 'blocked')

-- name: list_documents
SELECT key, body, revision FROM document

-- name: document_body
SELECT body FROM document WHERE key = ?

-- name: put_document
INSERT OR REPLACE INTO document (key, body, revision) VALUES (?, ?, ?)

-- name: delete_document
DELETE FROM document WHERE key = ?

-- name: delete_documents_below
DELETE FROM document WHERE key >= ?1 || '/' AND key < ?1 || '0'

-- name: insert_log
INSERT INTO log (id, created_at) VALUES (?, ?)

-- name: log_row
SELECT id, created_at FROM log

-- name: delete_log
DELETE FROM log

-- name: log_id
SELECT id FROM log

-- Retention. What is deleted is read first, by readers: the writer is held up for the deletion only.

-- name: oldest
-- From the row on that has a seq; one more, for the first may end before.
SELECT seq, stored_at, length(attributes) + coalesce(length(data), 0), parts FROM block
WHERE topic = ?1 AND seq >= coalesce((
        SELECT seq FROM block WHERE topic = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1), ?2)
ORDER BY seq LIMIT ?3 + 1

-- name: first_owed
SELECT min(seq) FROM (
    SELECT position + 1 AS seq FROM subscription WHERE topic = ?1
    UNION ALL
    SELECT (SELECT min(seq) FROM exception
            WHERE exception.subscription = subscription.id AND state = owed.column1 AND seq >= ?2)
    FROM subscription, (VALUES ('retry'), ('held'), ('leased'), ('blocked')) AS owed
    WHERE subscription.topic = ?1)

-- name: first_owed_to
SELECT min(seq) FROM (
    SELECT position + 1 AS seq FROM subscription WHERE id = ?1
    UNION ALL
    SELECT (SELECT min(seq) FROM exception WHERE subscription = ?1 AND state = owed.column1)
    FROM (VALUES ('retry'), ('held'), ('leased'), ('blocked')) AS owed)

-- name: seqs_with_rows
-- From the first on of the message's row that has a seq.
SELECT DISTINCT exception.seq
FROM subscription JOIN exception ON exception.subscription = subscription.id
WHERE subscription.topic = ?1 AND exception.seq <= ?3 AND exception.seq >= coalesce((
    SELECT seq FROM block WHERE topic = ?1 AND seq <= ?2 ORDER BY seq DESC LIMIT 1), ?2)

-- name: blocks_among
-- The rows with several messages that have these among them.
SELECT seq, key, attributes, data, stored_at, parts FROM block
WHERE topic = ?1 AND parts IS NOT NULL AND seq IN (
    SELECT (
        SELECT seq FROM block WHERE topic = ?1 AND seq <= value ORDER BY seq DESC LIMIT 1)
    FROM json_each(?2))
ORDER BY seq

-- name: delete_small_blocks
-- Of several messages, a row goes with the last, whichever are to stay. What ends before ?2 is a dead
-- letter that has been kept: in this table it may be the last row at or before it.
DELETE FROM small_block
WHERE topic = ?1 AND seq >= coalesce((
        SELECT max(seq) FROM small_block WHERE topic = ?1 AND seq <= ?2), ?2)
    AND seq < ?3 AND seq + coalesce(json_array_length(parts), 1) BETWEEN ?2 + 1 AND ?3
    AND (parts IS NOT NULL OR seq NOT IN (SELECT value FROM json_each(?4)))

-- name: delete_large_blocks
DELETE FROM large_block
WHERE topic = ?1 AND seq >= coalesce((
        SELECT max(seq) FROM large_block WHERE topic = ?1 AND seq <= ?2), ?2)
    AND seq < ?3 AND seq + coalesce(json_array_length(parts), 1) BETWEEN ?2 + 1 AND ?3
    AND (parts IS NOT NULL OR seq NOT IN (SELECT value FROM json_each(?4)))

-- name: update_topic_first
UPDATE topic SET first_seq = ?, message_count = ?, bytes = ? WHERE id = ?

-- name: topics_with_kept
SELECT id FROM topic WHERE name IS NOT NULL
    AND EXISTS (
        SELECT 1 FROM block
        WHERE topic = topic.id AND seq < topic.first_seq AND parts IS NULL)

-- name: kept
SELECT seq, length(attributes) + coalesce(length(data), 0) FROM block
WHERE topic = ? AND seq > ? AND seq < ? AND parts IS NULL ORDER BY seq LIMIT ?

-- name: delete_small_kept
DELETE FROM small_block WHERE topic = ? AND seq IN (SELECT value FROM json_each(?))

-- name: delete_large_kept
DELETE FROM large_block WHERE topic = ? AND seq IN (SELECT value FROM json_each(?))

-- name: dead_since
SELECT seq FROM exception
WHERE subscription = ? AND state = 'dead' AND since <= ? AND seq <= ? ORDER BY since LIMIT ?

-- name: drop_dead
-- +since, because the planner goes through all that are as old.
DELETE FROM exception
WHERE subscription = ? AND state = 'dead' AND +since <= ?
    AND seq IN (SELECT value FROM json_each(?))

-- name: ids_of_topic
SELECT source, id, stored_at FROM publish_key WHERE topic = ? LIMIT ?

-- name: id_runs_of_topic
SELECT source, first FROM id_run WHERE topic = ? LIMIT ?

-- name: expired_id_runs
SELECT source, first FROM id_run WHERE topic = ? AND stored_at <= ? ORDER BY stored_at LIMIT ?

-- name: delete_id_run
DELETE FROM id_run WHERE topic = ? AND source = ? AND first = ?

-- name: expired_ids
SELECT source, id, stored_at FROM publish_key
WHERE topic = ? AND stored_at <= ? AND seq <> 0 ORDER BY stored_at LIMIT ?

-- name: oldest_id
SELECT min(stored_at) FROM (
    SELECT min(stored_at) AS stored_at FROM publish_key WHERE topic = ?1
    UNION ALL
    SELECT min(stored_at) FROM id_run WHERE topic = ?1)

-- name: oldest_ids
SELECT id, (
    SELECT min(stored_at) FROM (
        SELECT min(stored_at) AS stored_at FROM publish_key WHERE publish_key.topic = topic.id
        UNION ALL
        SELECT min(stored_at) FROM id_run WHERE id_run.topic = topic.id))
FROM topic WHERE name IS NOT NULL

-- name: delete_publish_key
DELETE FROM publish_key WHERE topic = ? AND source = ? AND id = ? AND stored_at = ?

-- name: scheduled_of_topic
SELECT id FROM scheduled WHERE topic = ? LIMIT ?

-- name: delete_scheduled_ids
DELETE FROM scheduled WHERE id IN (SELECT value FROM json_each(?))

-- name: rows_without_subscription
-- From each subscription to the next, by the index, however many rows there are.
WITH RECURSIVE with_rows (id) AS (
    SELECT min(subscription) FROM exception
    UNION
    SELECT (SELECT min(subscription) FROM exception WHERE subscription > with_rows.id)
    FROM with_rows WHERE id IS NOT NULL
), with_attempts (id) AS (
    SELECT min(subscription) FROM attempt
    UNION
    SELECT (SELECT min(subscription) FROM attempt WHERE subscription > with_attempts.id)
    FROM with_attempts WHERE id IS NOT NULL
)
SELECT id FROM with_rows WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM subscription)
UNION
SELECT id FROM with_attempts WHERE id IS NOT NULL AND id NOT IN (SELECT id FROM subscription)

-- name: rows_of_subscription
SELECT seq FROM exception WHERE subscription = ? ORDER BY seq LIMIT ?

-- name: delete_rows
DELETE FROM exception WHERE subscription = ? AND seq IN (SELECT value FROM json_each(?))

-- name: subscriptions_with_attempts
SELECT id FROM subscription
WHERE EXISTS (SELECT 1 FROM attempt WHERE attempt.subscription = subscription.id)

-- name: attempts_of_subscription
SELECT id FROM attempt WHERE subscription = ? ORDER BY seq LIMIT ?

-- name: surplus_attempts
SELECT seq FROM attempt WHERE subscription = ? ORDER BY seq DESC LIMIT 1 OFFSET ?

-- name: settled_attempts
SELECT id, seq FROM attempt
WHERE subscription = ?1 AND seq >= ?2 AND seq < ?3 AND NOT EXISTS (
    SELECT 1 FROM exception WHERE subscription = ?1 AND exception.seq = attempt.seq)
ORDER BY seq LIMIT ?4

-- name: delete_attempt_ids
DELETE FROM attempt WHERE id IN (SELECT value FROM json_each(?))

-- name: too_old_rows
SELECT seq, key FROM exception INDEXED BY exception_state
WHERE subscription = ? AND state = ? AND seq < ? AND (replayed = 0 OR since < ?)
ORDER BY seq LIMIT ?

-- name: give_up_rows
UPDATE exception SET state = 'dead', reason = ?, due_at = 0, since = ?
WHERE subscription = ? AND seq IN (SELECT value FROM json_each(?))
    AND state IN ('retry', 'held', 'blocked')

-- name: give_up_new
INSERT OR IGNORE INTO exception (subscription, seq, key, state, attempts, due_at, reason, since)
SELECT ?1, seq, key, 'dead', 0, 0, ?2, ?3
FROM (
    SELECT m.seq + coalesce(part.key, 0) AS seq, coalesce(json_extract(part.value, '$[0]'), m.key) AS key
    FROM block AS m LEFT JOIN json_each(m.parts) AS part
    WHERE m.topic = ?4 AND m.seq < ?6 AND m.seq >= coalesce((
        SELECT seq FROM block WHERE topic = ?4 AND seq <= ?5 ORDER BY seq DESC LIMIT 1), ?5))
WHERE seq >= ?5 AND seq < ?6 AND (?7 = 'null' OR seq IN (SELECT value FROM json_each(?7)))

-- name: free_among
SELECT DISTINCT value FROM json_each(?1) WHERE NOT EXISTS (
    SELECT 1 FROM exception INDEXED BY exception_key
    WHERE subscription = ?2 AND key = value AND key IS NOT NULL AND state <> 'dead'
      AND state IN ('retry', 'leased', 'blocked'))
