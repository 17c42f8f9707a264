-- A block that does not fit in a page with its place in the tree lies apart, as it came, and is found by an index.
-- In a tree of the blocks themselves, SQLite reads all of such a one to compare its place: 20 pages and more on
-- the way to where the next belongs. Small ones stay in the order of their places, those of a topic side by side:
-- to read or remove one after the other takes few pages, however many topics get a message at a time.
DROP VIEW each_message;
ALTER TABLE message RENAME TO small_block;   -- large ones of before are in it as well
CREATE TABLE large_block (
    topic      INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    key        TEXT,
    attributes BLOB NOT NULL,
    data       BLOB,
    stored_at  REAL NOT NULL,
    parts      TEXT
) STRICT;
CREATE UNIQUE INDEX large_block_seq ON large_block (topic, seq);

CREATE VIEW block (topic, seq, key, attributes, data, stored_at, parts) AS
SELECT topic, seq, key, attributes, data, stored_at, parts FROM small_block
UNION ALL
SELECT topic, seq, key, attributes, data, stored_at, parts FROM large_block;

-- The messages one by one.
CREATE VIEW each_message (topic, seq, key, attributes, data, stored_at) AS
SELECT topic, seq, key, attributes, data, stored_at FROM block WHERE parts IS NULL
UNION ALL
SELECT topic, first + place, json_extract(parts, '$[' || place || '][0]'),
       coalesce(substr(attributes, begin + 1, json_extract(parts, '$[' || place || '][1]') - begin), x''),
       iif(data_end < 0, NULL, coalesce(substr(data, max(data_begin, ~data_begin) + 1,
                                               data_end - max(data_begin, ~data_begin)), x'')),
       coalesce((
           SELECT json_extract(parts, '$[' || earlier.key || '][3]') AS changed
           FROM json_each(parts) AS earlier
           WHERE earlier.key <= place AND changed IS NOT NULL ORDER BY earlier.key DESC LIMIT 1), stored_at)
FROM (
    SELECT m.topic, m.seq AS first, m.attributes, m.data, m.stored_at, m.parts, part.key AS place,
           iif(part.key, json_extract(m.parts, '$[' || (part.key - 1) || '][1]'), 0) AS begin,
           iif(part.key, json_extract(m.parts, '$[' || (part.key - 1) || '][2]'), 0) AS data_begin,
           json_extract(m.parts, '$[' || part.key || '][2]') AS data_end
    FROM block AS m CROSS JOIN json_each(iif(json_valid(m.parts), m.parts, '[]')) AS part
    WHERE m.parts IS NOT NULL);
