-- A row may have several messages that follow one another in the log. Then `attributes` and `data` have
-- those of all, one behind the other, and `parts` is a JSON array with an array for each: its key, where its
-- attributes end, where its data ends (~ that, which is negative, if it has none), in bytes, and its time, null
-- where that is of the one before. `seq` and `stored_at` are of the first, `key` is null.
ALTER TABLE message ADD COLUMN parts TEXT;

-- The messages one by one.
CREATE VIEW each_message (topic, seq, key, attributes, data, stored_at) AS
SELECT topic, seq, key, attributes, data, stored_at FROM message WHERE parts IS NULL
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
    FROM message AS m CROSS JOIN json_each(iif(json_valid(m.parts), m.parts, '[]')) AS part
    WHERE m.parts IS NOT NULL);
