-- What the operator of a serial scanner is doing. Frames carry it; this is what a scanner begins with after a restart.
CREATE TABLE scanner (
    device   text PRIMARY KEY REFERENCES device,
    mode     text NOT NULL CHECK (mode IN ('', '-', 'receive', 'pick', 'count')),
    slot     text,
    operator text,
    set_at   timestamptz NOT NULL DEFAULT now()
);
