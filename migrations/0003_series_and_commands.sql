-- Time series: a partition a day, made ahead and dropped whole; stray clocks fall into the default one.
CREATE TABLE reading (
    at       timestamptz NOT NULL,
    value    double precision,
    facility text NOT NULL,
    device   text NOT NULL,
    name     text NOT NULL,
    text     text
) PARTITION BY RANGE (at);
CREATE TABLE reading_stray PARTITION OF reading DEFAULT;
CREATE INDEX reading_device ON reading (device, at);
-- Commands to devices: each has a key, an expiry and a state.
CREATE TABLE command (
    key        text PRIMARY KEY,
    facility   text NOT NULL,
    device     text NOT NULL REFERENCES device,
    principal  text NOT NULL,
    name       text NOT NULL,
    payload    jsonb NOT NULL,
    state      text NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'sent', 'acked', 'done', 'failed', 'expired')),
    made_at    timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    error      text
);
CREATE INDEX command_pending ON command (device, made_at) WHERE state IN ('queued', 'sent');
-- Devices that tried to connect but are not enrolled.
CREATE TABLE seen_device (
    name     text PRIMARY KEY,
    peer     text NOT NULL,
    reason   text NOT NULL,
    first_at timestamptz NOT NULL DEFAULT now(),
    last_at  timestamptz NOT NULL DEFAULT now(),
    times    bigint NOT NULL DEFAULT 1
);
