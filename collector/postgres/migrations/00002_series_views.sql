-- SPDX-License-Identifier: Apache-2.0
-- +goose Up
UPDATE schema_version SET version = 2; -- programs that know version 1 only must not write here

-- Which collectors write here, for sharing the work. Losing it in a crash costs nothing.
CREATE UNLOGGED TABLE collector (id text PRIMARY KEY, seen timestamptz NOT NULL);

-- What each device measures, so that "latest" need not look at every reading.
CREATE TABLE series (
  device text NOT NULL REFERENCES device(id), sensor text NOT NULL, name text NOT NULL, unit text NOT NULL, PRIMARY KEY (device, sensor, name));
INSERT INTO series SELECT DISTINCT ON (device, sensor, name) device, sensor, name, unit FROM reading;

CREATE VIEW gaps AS
  SELECT d.name AS device_name, c.stream, c.incarnation, g.first_seq, g.last_seq, g.last_seq - g.first_seq + 1 AS segments,
         g.reason, g.explained, g.found, g.closed, c.device
  FROM gap g JOIN chain c ON c.id = g.chain JOIN device d ON d.id = c.device;
CREATE VIEW devices AS
  SELECT d.name AS device_name, count(DISTINCT c.stream) AS streams, count(*) AS chains, max(p.updated) AS last_written,
         coalesce(sum((SELECT sum(g.last_seq - g.first_seq + 1) FROM gap g WHERE g.chain = c.id AND g.closed IS NULL)), 0)::bigint AS missing_segments,
         coalesce(sum((SELECT count(*) FROM fork f WHERE f.chain = c.id)), 0)::bigint AS forks, d.id AS device
  FROM device d JOIN chain c ON c.device = d.id LEFT JOIN checkpoint p ON p.chain = c.id GROUP BY d.id, d.name;
CREATE VIEW alarms AS
  SELECT f.found AS time, d.name AS device_name, 'fork' AS kind,
         format('two signed segments claim seq %s of stream %s: the device is cloned or was turned back', f.seq, c.stream) AS detail, c.device
  FROM fork f JOIN chain c ON c.id = f.chain JOIN device d ON d.id = c.device
  UNION ALL
  SELECT g.found, d.name, CASE WHEN g.explained = '' THEN 'missing' ELSE 'lost' END,
         format('segments %s to %s of stream %s: %s', g.first_seq, g.last_seq, c.stream, coalesce(nullif(g.explained, ''), g.reason)), c.device
  FROM gap g JOIN chain c ON c.id = g.chain JOIN device d ON d.id = c.device WHERE g.closed IS NULL;
COMMENT ON VIEW alarms IS 'fork: call somebody; missing: may still come; lost: the device itself says that it is gone';
