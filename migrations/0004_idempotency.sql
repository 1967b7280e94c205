-- What a stock-changing call was answered, by its Idempotency-Key: a repeat, also after a restart, gets the same answer.
CREATE TABLE idempotency (
    facility text NOT NULL,
    key      text NOT NULL,
    -- Of the call and its body: another body under the same key is refused.
    request_sha256 bytea NOT NULL CHECK (length(request_sha256) = 32),
    -- Where the call was journaled; empty while that is not known.
    shard    smallint,
    epoch    integer,
    "offset" bigint,
    made_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (facility, key)
);
-- Each new key takes a few old ones with it.
CREATE INDEX idempotency_age ON idempotency (made_at);
