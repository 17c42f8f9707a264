-- A key's rows by their state, so that its first that is not held is found in one step, however many
-- are held, and whether any is leased or blocked as well.
DROP INDEX exception_key;
CREATE INDEX exception_key ON exception (subscription, key, state, seq)
    WHERE key IS NOT NULL AND state <> 'dead';
