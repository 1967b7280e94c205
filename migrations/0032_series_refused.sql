-- Readings that a series store would never take, for people to look at. Bounded: the oldest make room.
CREATE TABLE series_refused (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The store's place in table cursor.
    store   text NOT NULL,
    at      timestamptz NOT NULL,
    tie     smallint NOT NULL,
    device  text NOT NULL,
    name    text NOT NULL,
    value   double precision,
    text    text,
    why     text NOT NULL,
    -- The journal entries it came with end here.
    epoch   integer NOT NULL,
    "offset" bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    -- A write that is repeated refuses the same reading again.
    UNIQUE (store, device, at, tie, name)
);
