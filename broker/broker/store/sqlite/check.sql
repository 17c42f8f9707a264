-- What has to hold in a store that no broker uses. Each query tells of faults, one a row.

-- name: log_identity
SELECT 'there are ' || count(*) || ' log ids' FROM log HAVING count(*) <> 1

-- name: topic_counts
SELECT 'topic ' || name || ' says it has ' || message_count || ' messages of ' || bytes
    || ' bytes from ' || first_seq || ' to ' || last_seq || ', and has ' || found || ' of ' || size
    || ' bytes from ' || coalesce(first, '-') || ' to ' || coalesce(last, '-')
FROM (
    SELECT topic.*, coalesce(held.found, 0) AS found, held.first, held.last,
           coalesce(held.size, 0) AS size
    FROM topic LEFT JOIN (
        SELECT topic.id AS topic, sum(following - max(seq, first_seq)) AS found,
               min(max(seq, first_seq)) AS first, max(following) - 1 AS last,
               sum(bytes_from(first_seq, seq, size, parts)) AS size
        FROM (
            SELECT topic, seq, seq + messages_of(parts) AS following,
                   length(attributes) + coalesce(length(data), 0) AS size, parts
            FROM block) AS row
        JOIN topic ON topic.id = row.topic AND row.following > topic.first_seq
        GROUP BY topic.id) AS held
        ON held.topic = topic.id
    WHERE topic.name IS NOT NULL)
WHERE found <> message_count OR size <> bytes OR found <> last_seq - first_seq + 1
    OR first <> first_seq OR last <> last_seq

-- name: topic_scheduled
SELECT 'topic ' || name || ' says that ' || scheduled_count || ' messages of ' || scheduled_bytes
    || ' bytes wait for their time, and has ' || found || ' of ' || size || ' bytes'
FROM (
    SELECT topic.*, count(scheduled.id) AS found,
           coalesce(sum(length(scheduled.attributes) + coalesce(length(scheduled.data), 0)), 0)
               AS size
    FROM topic LEFT JOIN scheduled ON scheduled.topic = topic.id
    WHERE topic.name IS NOT NULL GROUP BY topic.id)
WHERE found <> scheduled_count OR size <> scheduled_bytes

-- name: topic_ids
SELECT 'topic number ' || id || ' is above the highest ever given' FROM topic
WHERE id > coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'topic'), 0)

-- name: message_topic
SELECT 'there are ' || count(*) || ' messages of a topic that does not exist, number ' || topic
FROM block WHERE topic NOT IN (SELECT id FROM topic) GROUP BY topic

-- name: message_place
SELECT 'the rows of topic number ' || topic || ' from messages ' || seq || ' and ' || following
    || ' on overlap'
FROM (
    SELECT topic, seq, messages, lead(seq) OVER (PARTITION BY topic ORDER BY seq) AS following
    FROM (SELECT topic, seq, messages_of(parts) AS messages FROM block))
WHERE seq + messages > following

-- name: message_gone
SELECT 'the row of topic number ' || topic || ' from message ' || seq || ' on is before the log''s first'
FROM block AS message JOIN topic ON topic.id = topic AND seq < first_seq
WHERE parts IS NOT NULL AND seq + messages_of(parts) <= first_seq

-- name: message_content
SELECT fault.value FROM block AS m
CROSS JOIN json_each(faults_of(m.topic, m.seq, m.key, m.attributes, m.data, m.parts)) AS fault

-- name: message_unneeded
-- From the two tables one after the other, because older SQLite joins a view of both as a whole.
SELECT count(*) FROM (
    SELECT id, seq FROM topic JOIN small_block ON topic = id AND seq < first_seq WHERE parts IS NULL
    UNION ALL
    SELECT id, seq FROM topic JOIN large_block ON topic = id AND seq < first_seq WHERE parts IS NULL
) AS kept
WHERE NOT EXISTS (
    SELECT 1 FROM subscription JOIN exception ON exception.subscription = subscription.id
    WHERE subscription.topic = kept.id AND exception.seq = kept.seq)

-- name: id_topic
SELECT 'there are ' || count(*) || ' ids of a topic that does not exist, number ' || topic
FROM publish_key WHERE topic NOT IN (SELECT id FROM topic) GROUP BY topic

-- name: id_message
SELECT 'the id ' || publish_key.id || ' of source ' || source || ' in topic ' || topic.name
    || ' stands for message ' || publish_key.seq || ', which is another or missing'
FROM publish_key JOIN topic ON topic.id = publish_key.topic AND topic.name IS NOT NULL
WHERE publish_key.seq > topic.last_seq OR (publish_key.seq >= topic.first_seq AND NOT coalesce((
    SELECT is_message(publish_key.id, publish_key.source, publish_key.seq, seq, attributes, parts)
    FROM block WHERE topic = publish_key.topic AND seq = (
        SELECT seq FROM block
        WHERE topic = publish_key.topic AND seq <= publish_key.seq ORDER BY seq DESC LIMIT 1)), 0))

-- name: run_topic
SELECT 'there are ' || count(*) || ' runs of ids of a topic that does not exist, number ' || topic
FROM id_run WHERE topic NOT IN (SELECT id FROM topic) GROUP BY topic

-- name: run_content
SELECT 'the run of ids from ' || first || ' of source ' || source || ' in topic number ' || topic
    || ' does not have what it says'
FROM id_run WHERE NOT json_valid(ids) OR CASE WHEN json_valid(ids) THEN
    json_array_length(ids) = 0 OR length(fingerprints) % json_array_length(ids) <> 0
    OR json_extract(ids, '$[0]') IS NOT first OR json_extract(ids, '$[#-1]') IS NOT last
    OR EXISTS (
        SELECT 1 FROM (SELECT value, lag(value) OVER (ORDER BY key) AS before FROM json_each(ids))
        WHERE before >= value)
END

-- name: run_place
SELECT 'the runs of ids from ' || first || ' and from ' || following || ' of source ' || source
    || ' in topic number ' || topic || ' overlap'
FROM (
    SELECT *, lead(first) OVER (PARTITION BY topic, source ORDER BY first) AS following FROM id_run)
WHERE following <= last

-- name: run_message
-- Likewise.
WITH run AS NOT MATERIALIZED (
    SELECT id_run.topic, source, seq, ids, name, first_seq,
           seq + iif(json_valid(ids), json_array_length(ids), 0) AS following,
           coalesce((
               SELECT block.seq FROM block
               WHERE block.topic = id_run.topic AND block.seq <= id_run.seq
               ORDER BY block.seq DESC LIMIT 1), seq) AS since
    FROM id_run JOIN topic ON topic.id = id_run.topic AND name IS NOT NULL
)
SELECT 'the id ' || json_extract(other.value, '$[0]') || ' of source ' || source || ' in topic '
    || name || ' stands for message ' || json_extract(other.value, '$[1]') || ', which is another'
FROM (
    SELECT run.*, row.seq AS begin, attributes, parts FROM run JOIN small_block AS row
        ON row.topic = run.topic AND row.seq >= since AND row.seq < following
    UNION ALL
    SELECT run.*, row.seq AS begin, attributes, parts FROM run JOIN large_block AS row
        ON row.topic = run.topic AND row.seq >= since AND row.seq < following)
CROSS JOIN json_each(
    others_among(ids, source, seq, first_seq, begin, attributes, parts)) AS other

-- name: run_end
SELECT 'the run of ids from ' || first || ' of source ' || source || ' in topic ' || topic.name
    || ' stands for messages from ' || seq || ' on, of which not all were stored'
FROM id_run JOIN topic ON topic.id = id_run.topic AND topic.name IS NOT NULL
WHERE seq + iif(json_valid(ids), json_array_length(ids), 0) - 1 > last_seq

-- name: id_scheduled
SELECT 'the id ' || publish_key.id || ' of source ' || publish_key.source || ' in topic '
    || topic.name || ' stands for a message that waits, and there is none'
FROM publish_key JOIN topic ON topic.id = publish_key.topic AND topic.name IS NOT NULL
WHERE publish_key.seq = 0 AND NOT EXISTS (
    SELECT 1 FROM scheduled WHERE scheduled.topic = publish_key.topic
        AND scheduled.source = publish_key.source AND scheduled.message_id = publish_key.id)

-- name: scheduled_topic
SELECT 'there are ' || count(*) || ' waiting messages of a topic that does not exist, number '
    || topic
FROM scheduled WHERE topic NOT IN (SELECT id FROM topic) GROUP BY topic

-- name: scheduled_content
SELECT 'the waiting message ' || message_id || ' of source ' || source || ' is not that event'
FROM scheduled WHERE CASE WHEN json_valid(CAST(attributes AS TEXT)) THEN
    json_extract(CAST(attributes AS TEXT), '$.id') IS NOT message_id
    OR json_extract(CAST(attributes AS TEXT), '$.source') IS NOT source
    OR key IS NOT CAST(json_extract(CAST(attributes AS TEXT), '$.partitionkey') AS TEXT)
ELSE true END

-- name: subscription_topic
SELECT 'subscription ' || subscription.name || ' is to a topic that does not exist, number '
    || topic
FROM subscription LEFT JOIN topic ON topic.id = subscription.topic
WHERE topic.name IS NULL

-- name: subscription_position
SELECT 'subscription ' || topic.name || '/' || subscription.name || ' is at ' || position
    || ', and the log goes from ' || first_seq || ' to ' || last_seq
FROM subscription JOIN topic ON topic.id = subscription.topic
WHERE position < first_seq - 1 OR position > last_seq

-- name: subscription_ids
SELECT 'subscription number ' || id || ' is above the highest ever given' FROM subscription
WHERE id > coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'subscription'), 0)

-- name: delivery_message
SELECT topic.name || '/' || subscription.name || ' has a ' || state || ' delivery of message '
    || exception.seq || ', which is missing or has another key'
FROM exception JOIN subscription ON subscription.id = exception.subscription
JOIN topic ON topic.id = subscription.topic
WHERE NOT coalesce((
    SELECT has_key(exception.key, exception.seq, seq, key, parts)
    FROM block WHERE topic = topic.id AND seq = (
        SELECT seq FROM block
        WHERE topic = topic.id AND seq <= exception.seq ORDER BY seq DESC LIMIT 1)), 0)

-- name: delivery_state
SELECT topic.name || '/' || subscription.name || ' has a delivery of message ' || exception.seq
    || ' that cannot be: ' || state || ', attempts ' || attempts || ', due at ' || due_at
FROM exception JOIN subscription ON subscription.id = exception.subscription
JOIN topic ON topic.id = subscription.topic
WHERE state NOT IN ('retry', 'held', 'leased', 'blocked', 'dead') OR attempts < 0
    OR (state = 'retry' AND due_at = 9e999)

-- name: delivery_place
SELECT topic.name || '/' || subscription.name || ' has a ' || state || ' delivery of message '
    || exception.seq || ', before the log''s first, ' || first_seq
FROM exception JOIN subscription ON subscription.id = exception.subscription
JOIN topic ON topic.id = subscription.topic
WHERE exception.seq < first_seq AND state <> 'dead' AND NOT replayed

-- name: delivery_unowned
SELECT count(*) FROM exception WHERE subscription NOT IN (SELECT id FROM subscription)

-- name: attempt_unowned
SELECT count(*) FROM attempt WHERE subscription NOT IN (SELECT id FROM subscription)

-- name: attempt_number
SELECT 'an attempt at message ' || seq || ' by subscription number ' || subscription
    || ' has the number ' || attempt
FROM attempt WHERE attempt < 1

-- name: document_of_topic
SELECT 'topic ' || name || ' has no configuration' FROM topic
WHERE name IS NOT NULL AND NOT EXISTS (SELECT 1 FROM document WHERE key = 'topic/' || name)

-- name: document_of_subscription
SELECT 'subscription ' || topic.name || '/' || subscription.name || ' has no configuration'
FROM subscription JOIN topic ON topic.id = subscription.topic WHERE NOT EXISTS (
    SELECT 1 FROM document WHERE key = 'subscription/' || topic.name || '/' || subscription.name)

-- name: document_unowned
SELECT 'there is a configuration for ' || key || ', which does not exist' FROM document
WHERE (key LIKE 'topic/%' AND key NOT IN (
        SELECT 'topic/' || name FROM topic WHERE name IS NOT NULL))
    OR (key LIKE 'subscription/%' AND key NOT IN (
        SELECT 'subscription/' || topic.name || '/' || subscription.name
        FROM subscription JOIN topic ON topic.id = subscription.topic))

-- name: documents
SELECT key, body FROM document ORDER BY key
