-- Modbus buses and who is on them. A unit is a device like any other; only its link is the hub's.
CREATE TABLE bus (
    id         text PRIMARY KEY,
    facility   text NOT NULL REFERENCES facility,
    address    text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE bus_unit (
    device text PRIMARY KEY REFERENCES device,
    bus    text NOT NULL REFERENCES bus,
    unit   smallint NOT NULL CHECK (unit BETWEEN 0 AND 255),
    UNIQUE (bus, unit)
);
