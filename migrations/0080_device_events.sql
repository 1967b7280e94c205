-- What was told of a facility's devices, newest first.
CREATE INDEX event_device ON event (facility, at)
    WHERE kind IN ('device_rebooted', 'source_loss', 'listening', 'deaf', 'reader_trouble');
