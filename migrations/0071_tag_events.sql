-- What was told of a facility's tags, newest first.
CREATE INDEX event_tag_facility ON event (facility, at) WHERE tag IS NOT NULL;
-- Where a cycle count was journaled whose call comes again.
CREATE INDEX event_cycle_count ON event (facility, at) WHERE kind = 'cycle_count';
