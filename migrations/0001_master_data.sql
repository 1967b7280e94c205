-- Master data: what exists. Each change is published to the shard's journal through `publication`.
CREATE TABLE facility (
    id         text PRIMARY KEY,
    name       text NOT NULL,
    time_zone  text NOT NULL DEFAULT 'UTC',
    shard      smallint NOT NULL,
    revision   bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE zone (
    facility text NOT NULL REFERENCES facility,
    id       text NOT NULL,
    name     text NOT NULL,
    kind     text NOT NULL DEFAULT 'area',
    PRIMARY KEY (facility, id)
);
CREATE TABLE shelf (
    facility text NOT NULL REFERENCES facility,
    id       text NOT NULL,
    name     text NOT NULL,
    zone     text,
    PRIMARY KEY (facility, id),
    FOREIGN KEY (facility, zone) REFERENCES zone
);
CREATE TABLE slot (
    facility  text NOT NULL REFERENCES facility,
    id        text NOT NULL,
    shelf     text NOT NULL,
    name      text NOT NULL,
    receiving boolean NOT NULL DEFAULT false,
    PRIMARY KEY (facility, id),
    FOREIGN KEY (facility, shelf) REFERENCES shelf
);
CREATE UNIQUE INDEX slot_receiving ON slot (facility) WHERE receiving;
CREATE TABLE sku (
    id             text PRIMARY KEY,
    name           text NOT NULL,
    unit_weight_mg bigint CHECK (unit_weight_mg > 0),
    unit_sigma_mg  bigint NOT NULL DEFAULT 0 CHECK (unit_sigma_mg >= 0),
    gtin           text UNIQUE
);
CREATE TABLE planogram_line (
    facility text NOT NULL,
    slot     text NOT NULL,
    sku      text NOT NULL REFERENCES sku,
    source   text NOT NULL CHECK (source IN ('weight', 'scan', 'rfid')),
    capacity bigint,
    min      bigint,
    PRIMARY KEY (facility, slot, sku),
    FOREIGN KEY (facility, slot) REFERENCES slot
);
CREATE TABLE device (
    id         text PRIMARY KEY,
    facility   text NOT NULL REFERENCES facility,
    name       text NOT NULL,
    profile    text NOT NULL DEFAULT 'default',
    slot       text,
    revoked_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (facility, slot) REFERENCES slot
);
CREATE TABLE device_channel (
    device      text NOT NULL REFERENCES device,
    facility    text NOT NULL,
    channel     text NOT NULL,
    slot        text NOT NULL,
    division_mg bigint NOT NULL CHECK (division_mg > 0),
    noise_mg    bigint NOT NULL CHECK (noise_mg >= 0),
    capacity_mg bigint CHECK (capacity_mg > 0),
    zero_mg     bigint,
    PRIMARY KEY (device, channel),
    FOREIGN KEY (facility, slot) REFERENCES slot,
    UNIQUE (facility, slot)
);
-- Antennas of RFID readers and the zones they look at.
CREATE TABLE antenna (
    device   text NOT NULL REFERENCES device,
    facility text NOT NULL,
    port     smallint NOT NULL,
    zone     text NOT NULL,
    PRIMARY KEY (device, port),
    FOREIGN KEY (facility, zone) REFERENCES zone
);
-- Secrets are 256 bits made by the hub, so a plain hash cannot be guessed back.
CREATE TABLE credential (
    id         text PRIMARY KEY,
    device     text NOT NULL REFERENCES device,
    secret_sha256 bytea NOT NULL CHECK (length(secret_sha256) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
CREATE INDEX credential_device ON credential (device);
CREATE TABLE profile (
    hash       bytea PRIMARY KEY CHECK (length(hash) = 32),
    name       text NOT NULL,
    content    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
-- What the reconciler still has to append to a facility's journal; values as JSON, one row a transaction.
CREATE TABLE publication (
    facility     text NOT NULL REFERENCES facility,
    revision     bigint NOT NULL,
    principal    text NOT NULL,
    values_json  jsonb NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,
    PRIMARY KEY (facility, revision)
);
CREATE INDEX publication_pending ON publication (facility, revision) WHERE published_at IS NULL;
