-- What the API asks that the tables so far answer only by being read whole.
-- "Why is this number so": the movements of a slot, newest first.
-- By a hash of the slot: every movement is inserted here, and comparing numbers costs a third of comparing texts.
CREATE INDEX movement_slot ON movement (hashtextextended(slot, 0), epoch, "offset");
CREATE INDEX quarantine_facility ON quarantine (facility, epoch, "offset");
ALTER TABLE sku ADD COLUMN revision bigint NOT NULL DEFAULT 1;
