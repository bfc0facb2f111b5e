-- SPDX-License-Identifier: Apache-2.0
-- +goose Up
UPDATE schema_version SET version = 2; -- programs that know version 1 only must not write here

-- Which collectors write here, for sharing the work. Losing it in a crash costs nothing.
CREATE UNLOGGED TABLE collector (id text PRIMARY KEY, seen timestamptz NOT NULL);

-- What each device measures, so that "latest" need not look at every reading.
CREATE TABLE series (
  device text NOT NULL REFERENCES device(id), sensor text NOT NULL, name text NOT NULL, unit text NOT NULL, PRIMARY KEY (device, sensor, name));
INSERT INTO series SELECT DISTINCT ON (device, sensor, name) device, sensor, name, unit FROM reading;

DROP VIEW readings;
DROP VIEW latest;
CREATE VIEW readings AS
  SELECT r.ts AS time, d.name AS device_name, r.sensor, r.name, coalesce(r.v::text, r.vs, r.vb::text) AS value,
         coalesce(r.v, r.vb::integer) AS number, r.unit, c.stream, r.seq, r.idx, r.clock, r.device
  FROM reading r JOIN device d ON d.id = r.device JOIN chain c ON c.id = r.chain;
CREATE VIEW latest AS
  SELECT d.name AS device_name, s.sensor, s.name, coalesce(r.v::text, r.vs, r.vb::text) AS value,
         coalesce(r.v, r.vb::integer) AS number, r.unit, coalesce(r.ts, r.recv) AS time, r.clock, s.device
  FROM series s JOIN device d ON d.id = s.device CROSS JOIN LATERAL (
    SELECT * FROM (
      (SELECT v, vs, vb, unit, ts, recv, clock, seq, idx FROM reading x
        WHERE x.device = s.device AND x.sensor = s.sensor AND x.name = s.name AND x.ts IS NOT NULL ORDER BY ts DESC, seq DESC, idx DESC LIMIT 1)
      UNION ALL
      (SELECT v, vs, vb, unit, ts, recv, clock, seq, idx FROM reading x
        WHERE x.device = s.device AND x.sensor = s.sensor AND x.name = s.name AND x.ts IS NULL ORDER BY recv DESC, seq DESC, idx DESC LIMIT 1)) both_kinds
    ORDER BY coalesce(ts, recv) DESC, seq DESC, idx DESC LIMIT 1) r;

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
