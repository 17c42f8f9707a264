-- name: insert_message
INSERT INTO message (topic, seq, key, attributes, data, stored_at) VALUES (?, ?, ?, ?, ?, ?)

-- name: insert_publish_key
-- REPLACE, because an id whose window has passed may come again.
INSERT OR REPLACE INTO publish_key (topic, source, id, seq, fingerprint, stored_at)
VALUES (?, ?, ?, ?, ?, ?)

-- name: find_publish_key
SELECT seq, fingerprint, stored_at FROM publish_key WHERE topic = ? AND source = ? AND id = ?

-- name: highest_publish_id
SELECT max(id) FROM publish_key WHERE topic = ? AND source = ?

-- name: update_topic_counts
UPDATE topic SET last_seq = ?, message_count = ?, bytes = ? WHERE id = ?

-- name: read_messages
SELECT seq, key, attributes, data, stored_at FROM message
WHERE topic = ? AND seq > ? ORDER BY seq LIMIT ?

-- name: stored_at
SELECT stored_at FROM message WHERE topic = ? AND seq >= ? ORDER BY seq LIMIT 1

-- name: first_seq
SELECT min(seq) FROM message WHERE topic = ?

-- name: list_topics
SELECT id, name, last_seq, message_count, bytes FROM topic WHERE name IS NOT NULL ORDER BY id

-- name: insert_topic
INSERT INTO topic (id, name) VALUES (?, ?)

-- name: last_ids
SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'topic'), 0),
       coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'subscription'), 0)

-- name: unname_topic
UPDATE topic SET name = NULL WHERE id = ?

-- name: delete_topic_subscription_attempts
DELETE FROM attempt WHERE subscription IN (SELECT id FROM subscription WHERE topic = ?)

-- name: delete_topic_exceptions
DELETE FROM exception WHERE subscription IN (SELECT id FROM subscription WHERE topic = ?)

-- name: delete_topic_subscriptions
DELETE FROM subscription WHERE topic = ?

-- name: list_unnamed_topics
SELECT id FROM topic WHERE name IS NULL

-- name: purge_messages
DELETE FROM message WHERE topic = ?1 AND seq <= (
    SELECT max(seq) FROM (SELECT seq FROM message WHERE topic = ?1 ORDER BY seq LIMIT ?2))

-- name: purge_publish_keys
DELETE FROM publish_key WHERE topic = ?1 AND (source, id) IN (
    SELECT source, id FROM publish_key WHERE topic = ?1 LIMIT ?2)

-- name: holds_anything
SELECT EXISTS (SELECT 1 FROM message WHERE topic = ?1)
    OR EXISTS (SELECT 1 FROM publish_key WHERE topic = ?1)

-- name: delete_topic
DELETE FROM topic WHERE id = ?

-- name: list_subscriptions
SELECT id, topic, name, position FROM subscription ORDER BY id

-- name: insert_subscription
INSERT INTO subscription (id, topic, name, position) VALUES (?, ?, ?, ?)

-- name: update_position
UPDATE subscription SET position = ? WHERE id = ?

-- name: delete_subscription
DELETE FROM subscription WHERE id = ?

-- name: delete_exceptions
DELETE FROM exception WHERE subscription = ?

-- name: delete_attempts
DELETE FROM attempt WHERE subscription = ?

-- name: resume_leased
-- An attempt that was under way when the broker ended has no outcome: it is due at once.
UPDATE exception SET state = 'retry', due_at = 0 WHERE state = 'leased'

-- name: hold_behind_first_of_key
UPDATE exception SET state = 'held'
WHERE subscription = ? AND state = 'retry' AND key IS NOT NULL AND EXISTS (
    SELECT 1 FROM exception AS before
    WHERE before.subscription = exception.subscription AND before.key = exception.key
      AND before.state <> 'dead' AND before.seq < exception.seq)

-- name: free_first_of_key
UPDATE exception SET state = 'retry', due_at = 0
WHERE subscription = ? AND state = 'held' AND NOT EXISTS (
    SELECT 1 FROM exception AS before
    WHERE before.subscription = exception.subscription AND before.key = exception.key
      AND before.key IS NOT NULL AND before.state <> 'dead' AND before.seq < exception.seq)

-- name: hold_behind_first_of_all
UPDATE exception SET state = 'held'
WHERE subscription = ?1 AND state = 'retry' AND seq > (
    SELECT min(seq) FROM exception WHERE subscription = ?1 AND state <> 'dead')

-- name: free_first_of_all
UPDATE exception SET state = 'retry', due_at = 0
WHERE subscription = ?1 AND state = 'held' AND seq = (
    SELECT min(seq) FROM exception WHERE subscription = ?1 AND state <> 'dead')

-- name: free_all_held
UPDATE exception SET state = 'retry', due_at = 0 WHERE subscription = ? AND state = 'held'

-- name: subscriptions_with_rows
SELECT DISTINCT subscription FROM exception

-- name: rows_above
SELECT seq FROM exception WHERE subscription = ? AND seq > ?

-- name: waiting_keys
SELECT DISTINCT key FROM exception
WHERE subscription = ? AND key IS NOT NULL AND state <> 'dead'

-- name: put_exception
INSERT OR REPLACE INTO exception (subscription, seq, key, state, attempts, due_at, reason)
VALUES (?, ?, ?, ?, ?, ?, ?)

-- name: drop_exception
DELETE FROM exception WHERE subscription = ? AND seq = ?

-- name: drop_attempts
DELETE FROM attempt WHERE subscription = ? AND seq = ?

-- name: put_attempt
INSERT OR REPLACE INTO attempt
    (subscription, seq, attempt, at, status, error, duration_ms, answer)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)

-- name: due
SELECT e.seq, e.key, e.state, e.attempts, e.due_at, e.reason,
       m.seq, m.key, m.attributes, m.data, m.stored_at
FROM exception AS e JOIN message AS m ON m.topic = ? AND m.seq = e.seq
WHERE e.subscription = ? AND e.state = 'retry' AND e.due_at <= ?
ORDER BY e.due_at, e.seq LIMIT ?

-- name: next_due_at
SELECT seq, due_at FROM exception
WHERE subscription = ? AND state = 'retry' ORDER BY due_at LIMIT ?

-- name: held
SELECT e.seq, e.key, e.state, e.attempts, e.due_at, e.reason,
       m.seq, m.key, m.attributes, m.data, m.stored_at
FROM exception AS e JOIN message AS m ON m.topic = ? AND m.seq = e.seq
WHERE e.subscription = ? AND e.key = ? AND e.seq > ? AND e.state = 'held'
ORDER BY e.seq LIMIT ?

-- name: held_of_all
SELECT e.seq, e.key, e.state, e.attempts, e.due_at, e.reason,
       m.seq, m.key, m.attributes, m.data, m.stored_at
FROM exception AS e JOIN message AS m ON m.topic = ? AND m.seq = e.seq
WHERE e.subscription = ? AND e.seq > ? AND e.state = 'held'
ORDER BY e.seq LIMIT ?

-- name: count_rows
SELECT state, count(*), min(seq), count(DISTINCT key) FROM exception
WHERE subscription = ? GROUP BY state

-- name: list_documents
SELECT key, body, revision FROM document

-- name: put_document
INSERT OR REPLACE INTO document (key, body, revision) VALUES (?, ?, ?)

-- name: delete_document
DELETE FROM document WHERE key = ?

-- name: delete_documents_below
DELETE FROM document WHERE key >= ?1 || '/' AND key < ?1 || '0'

-- name: insert_log
INSERT INTO log (id, created_at) VALUES (?, ?)

-- name: log_id
SELECT id FROM log
