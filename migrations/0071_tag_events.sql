-- What was told of a facility's tags, newest first.
CREATE INDEX event_tag_facility ON event (facility, at) WHERE tag IS NOT NULL;
