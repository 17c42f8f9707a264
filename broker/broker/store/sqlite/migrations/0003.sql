-- While a seek removes rows, a few at a time, `clearing` is 1: what is left of them counts no more, and
-- is removed at the next start if the broker ends before.
ALTER TABLE subscription ADD COLUMN clearing INTEGER NOT NULL DEFAULT 0;
