-- Calibrations of load cells: mass = (raw - zero) * scale. Every one that was applied is kept under the revision that published
-- it; of a cell the newest counts, as long as the cell carries that slot, until it is tared or its enrolled zero is changed.
CREATE TABLE calibration (
    facility  text NOT NULL REFERENCES facility,
    revision  bigint NOT NULL,
    device    text NOT NULL REFERENCES device,
    channel   text NOT NULL,
    slot      text NOT NULL,
    zero_mg   bigint NOT NULL,
    scale_ppm bigint NOT NULL CHECK (scale_ppm > 0),
    known_mg  bigint NOT NULL CHECK (known_mg > 0),
    error_mg  bigint NOT NULL,
    principal text NOT NULL,
    made_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (facility, revision)
);
CREATE INDEX calibration_cell ON calibration (device, channel, revision DESC);
