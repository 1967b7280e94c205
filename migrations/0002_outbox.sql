-- What the fold decided: the committed outbox, and the levels it adds up to. One writer a shard.
CREATE TABLE shard (
    id           smallint PRIMARY KEY,
    epoch        integer NOT NULL,
    "offset"     bigint NOT NULL,
    term         bigint NOT NULL,
    fold_version integer NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE movement (
    shard        smallint NOT NULL,
    epoch        integer NOT NULL,
    "offset"     bigint NOT NULL,
    ordinal      smallint NOT NULL,
    delta        bigint NOT NULL,
    level_after  bigint NOT NULL,
    at           timestamptz NOT NULL,
    seq          bigint,
    confidence   smallint NOT NULL,
    fold_version integer NOT NULL,
    facility     text NOT NULL,
    slot         text NOT NULL,
    sku          text NOT NULL,
    cause        text NOT NULL,
    device       text,
    boot         text,
    principal    text,
    -- Offsets of further entries it rests on; its own is not repeated.
    evidence     bigint[],
    why          text,
    PRIMARY KEY (shard, epoch, "offset", ordinal)
);
CREATE INDEX movement_at ON movement USING brin (at) WITH (autosummarize = on);
CREATE TABLE event (
    shard     smallint NOT NULL,
    epoch     integer NOT NULL,
    "offset"  bigint NOT NULL,
    ordinal   smallint NOT NULL,
    at        timestamptz NOT NULL,
    facility  text NOT NULL,
    kind      text NOT NULL,
    device    text,
    slot      text,
    sku       text,
    principal text,
    detail    text NOT NULL,
    PRIMARY KEY (shard, epoch, "offset", ordinal)
);
CREATE TABLE level (
    facility   text NOT NULL,
    slot       text NOT NULL,
    sku        text NOT NULL,
    quantity   bigint NOT NULL,
    fresh_at   timestamptz NOT NULL,
    changed_at timestamptz NOT NULL,
    "offset"   bigint NOT NULL,
    confidence smallint NOT NULL,
    source     text NOT NULL,
    planned    boolean NOT NULL,
    PRIMARY KEY (facility, slot, sku)
) WITH (fillfactor = 50);
CREATE TABLE sku_total (
    facility text NOT NULL,
    sku      text NOT NULL,
    quantity bigint NOT NULL,
    PRIMARY KEY (facility, sku)
) WITH (fillfactor = 50);
CREATE TABLE discrepancy (
    shard      smallint NOT NULL,
    epoch      integer NOT NULL,
    "offset"   bigint NOT NULL,
    ordinal    smallint NOT NULL,
    facility   text NOT NULL,
    slot       text NOT NULL,
    sku        text,
    kind       text NOT NULL,
    opened_at  timestamptz NOT NULL,
    closed_at  timestamptz,
    detail     text NOT NULL,
    PRIMARY KEY (shard, epoch, "offset", ordinal)
);
CREATE INDEX discrepancy_open ON discrepancy (facility, opened_at) WHERE closed_at IS NULL;
-- Journaled = applied + duplicate + quarantined + rejected, a device and hour; absolute values, so writing twice is harmless.
CREATE TABLE ledger (
    facility    text NOT NULL,
    device      text NOT NULL,
    hour        timestamptz NOT NULL,
    journaled   bigint NOT NULL,
    applied     bigint NOT NULL,
    duplicate   bigint NOT NULL,
    quarantined bigint NOT NULL,
    rejected    bigint NOT NULL,
    source_lost bigint NOT NULL,
    PRIMARY KEY (facility, device, hour)
) WITH (fillfactor = 50);
CREATE TABLE quarantine (
    shard    smallint NOT NULL,
    epoch    integer NOT NULL,
    "offset" bigint NOT NULL,
    facility text NOT NULL,
    at       timestamptz NOT NULL,
    device   text,
    stream   text,
    reason   text NOT NULL,
    rejected boolean NOT NULL,
    detail   text NOT NULL,
    raw      bytea,
    PRIMARY KEY (shard, epoch, "offset")
);
-- Frames that movements rest on, copied before the journal is trimmed.
CREATE TABLE evidence (
    shard       smallint NOT NULL,
    epoch       integer NOT NULL,
    "offset"    bigint NOT NULL,
    received_at timestamptz NOT NULL,
    kind        smallint NOT NULL,
    payload     bytea NOT NULL,
    PRIMARY KEY (shard, epoch, "offset")
);
-- Readers of the journal or the outbox that trimming waits for.
CREATE TABLE cursor (
    name       text NOT NULL,
    shard      smallint NOT NULL,
    epoch      integer NOT NULL,
    "offset"   bigint NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, shard)
);
