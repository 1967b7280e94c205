-- A reading has an identity, so that writing it again changes nothing: `tie` sets readings of one microsecond apart.
ALTER TABLE reading ADD COLUMN tie smallint NOT NULL DEFAULT 0;
ALTER TABLE reading ALTER COLUMN name TYPE text COLLATE "C";
-- What was written before keeps every row.
UPDATE reading r SET tie = n.tie
FROM (SELECT tableoid AS part, ctid AS row,
             row_number() OVER (PARTITION BY device, at, name ORDER BY tableoid, ctid) - 1 AS tie
      FROM reading) n
WHERE n.tie > 0 AND (r.tableoid, r.ctid) = (n.part, n.row);
DROP INDEX reading_device;
-- Newest first by device is how readings are listed, and the cursor of that list is this very key.
CREATE UNIQUE INDEX reading_identity ON reading (device, at, tie, name);
