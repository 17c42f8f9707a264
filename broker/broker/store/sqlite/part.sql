-- Leaves of a store what belongs to one of its cells. Each statement is one of the parting.

-- name: part_topics
DELETE FROM topic WHERE cell_of(name) <> :cell

-- name: part_subscriptions
DELETE FROM subscription WHERE topic NOT IN (SELECT id FROM topic)

-- name: part_small_blocks
DELETE FROM small_block WHERE topic NOT IN (SELECT id FROM topic)

-- name: part_large_blocks
DELETE FROM large_block WHERE topic NOT IN (SELECT id FROM topic)

-- name: part_publish_keys
DELETE FROM publish_key WHERE topic NOT IN (SELECT id FROM topic)

-- name: part_id_runs
DELETE FROM id_run WHERE topic NOT IN (SELECT id FROM topic)

-- name: part_scheduled
DELETE FROM scheduled WHERE topic NOT IN (SELECT id FROM topic)

-- name: part_exceptions
DELETE FROM exception WHERE subscription NOT IN (SELECT id FROM subscription)

-- name: part_attempts
DELETE FROM attempt WHERE subscription NOT IN (SELECT id FROM subscription)

-- name: part_documents
DELETE FROM document WHERE cell_of(CASE
    WHEN key LIKE 'topic/%' THEN substr(key, 7)
    WHEN key LIKE 'subscription/%/%'
        THEN substr(key, 14, instr(substr(key, 14), '/') - 1)
END) <> :cell

-- name: part_topic_ids
-- Topics made from now on have other ids in each cell: the ids are part of the messages' names, and
-- the cells have the log's name in common.
UPDATE sqlite_sequence SET seq = seq + (:cell << 32) WHERE name = 'topic'
