-- What the API asks that the tables so far answer only by being read whole.
-- "Why is this number so": the movements of a slot, newest first.
CREATE INDEX movement_slot ON movement (facility, slot, epoch, "offset", ordinal);
CREATE INDEX quarantine_facility ON quarantine (facility, epoch, "offset");
ALTER TABLE sku ADD COLUMN revision bigint NOT NULL DEFAULT 1;
