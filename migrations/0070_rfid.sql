-- What kind of place a zone is, and how goods move there when somebody said so (fold::Mobility as JSON).
ALTER TABLE zone DROP COLUMN kind;
ALTER TABLE zone ADD COLUMN personality text NOT NULL DEFAULT 'shelf'
    CHECK (personality IN ('shelf', 'exit', 'sale', 'fitting'));
ALTER TABLE zone ADD COLUMN mobility jsonb;
-- What an antenna looks at: a zone, and a slot when its tags are units of one. At a door some look outside.
ALTER TABLE antenna ADD COLUMN slot text;
ALTER TABLE antenna ADD COLUMN outside boolean NOT NULL DEFAULT false;
ALTER TABLE antenna ADD FOREIGN KEY (facility, slot) REFERENCES slot;
CREATE INDEX antenna_zone ON antenna (facility, zone);
-- Every tag that is present or departed of late, as the fold has it. A tag is its EPC memory, upper-case hexadecimal.
CREATE TABLE tag (
    facility    text NOT NULL,
    tag         text NOT NULL,
    present     boolean NOT NULL,
    since       timestamptz NOT NULL,
    last_read   timestamptz NOT NULL,
    zone        text,
    device      text,
    antenna     smallint,
    slot        text,
    sku         text,
    probability real NOT NULL,
    PRIMARY KEY (facility, tag)
) WITH (fillfactor = 70);
CREATE INDEX tag_present ON tag (tag) WHERE present;
CREATE INDEX tag_zone ON tag (facility, zone, tag) WHERE present;
CREATE INDEX tag_sku ON tag (facility, sku, tag) WHERE present;
-- Offsets of the entries that an event about a tag rests on, its own included.
ALTER TABLE event ADD COLUMN evidence bigint[];
CREATE INDEX event_evidence ON event (shard, epoch, "offset") WHERE evidence IS NOT NULL;
-- What is told of a tag is asked for by tag.
ALTER TABLE event ADD COLUMN tag text;
CREATE INDEX event_tag ON event (tag, at) WHERE tag IS NOT NULL;
