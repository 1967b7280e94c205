-- Roll-ups of readings by the minute and the hour, written in the same statement as the readings they count.
CREATE TABLE reading_minute (
    at       timestamptz NOT NULL,
    last_at  timestamptz NOT NULL,
    min      double precision,
    max      double precision,
    sum      double precision,
    last     double precision,
    -- Numbers in it; 0 when all of them are texts, and then the figures are empty.
    count    bigint NOT NULL,
    device   text NOT NULL,
    name     text COLLATE "C" NOT NULL,
    PRIMARY KEY (device, name, at)
) PARTITION BY RANGE (at);
CREATE TABLE reading_minute_stray PARTITION OF reading_minute DEFAULT WITH (fillfactor = 70);
CREATE TABLE reading_hour (
    at       timestamptz NOT NULL,
    last_at  timestamptz NOT NULL,
    min      double precision,
    max      double precision,
    sum      double precision,
    last     double precision,
    count    bigint NOT NULL,
    device   text NOT NULL,
    name     text COLLATE "C" NOT NULL,
    PRIMARY KEY (device, name, at)
) PARTITION BY RANGE (at);
CREATE TABLE reading_hour_stray PARTITION OF reading_hour DEFAULT WITH (fillfactor = 70);
-- What is there already.
INSERT INTO reading_minute (at, last_at, min, max, sum, last, count, device, name)
SELECT date_bin('1 minute', at, 'epoch'), max(at), min(value), max(value), sum(value),
       (array_agg(value ORDER BY at DESC, tie DESC) FILTER (WHERE value IS NOT NULL))[1], count(value), device, name
FROM reading GROUP BY 1, device, name;
INSERT INTO reading_hour (at, last_at, min, max, sum, last, count, device, name)
SELECT date_bin('1 hour', at, 'epoch'), max(at), min(value), max(value), sum(value),
       (array_agg(value ORDER BY at DESC, tie DESC) FILTER (WHERE value IS NOT NULL))[1], count(value), device, name
FROM reading GROUP BY 1, device, name;
