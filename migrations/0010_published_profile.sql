-- Which profile contents a facility's journal already holds.
CREATE TABLE published_profile (
    facility text NOT NULL REFERENCES facility,
    hash     bytea NOT NULL REFERENCES profile (hash),
    PRIMARY KEY (facility, hash)
);
