-- Commands are listed by device, newest first, and forgotten some time after they ended.
CREATE INDEX command_device ON command (device, made_at DESC, key DESC);
CREATE INDEX command_ended ON command (changed_at) WHERE state NOT IN ('queued', 'sent');
