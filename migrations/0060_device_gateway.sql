-- A device that does not speak for itself: the device in whose name a bridge or network server publishes for it.
ALTER TABLE device ADD COLUMN gateway text REFERENCES device CHECK (gateway <> id);
CREATE INDEX device_gateway ON device (gateway) WHERE gateway IS NOT NULL;
