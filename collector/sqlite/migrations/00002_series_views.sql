-- SPDX-License-Identifier: Apache-2.0
-- +goose Up
UPDATE schema_version SET version = 2; -- programs that know version 1 only must not write here

-- What each device measures, so that "latest" need not look at every reading.
CREATE TABLE series (
  device TEXT NOT NULL REFERENCES device(id), sensor TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL,
  PRIMARY KEY (device, sensor, name)) WITHOUT ROWID;
INSERT INTO series SELECT device, sensor, name, min(unit) FROM reading GROUP BY device, sensor, name;

DROP VIEW readings;
DROP VIEW latest;
CREATE VIEW readings AS
  SELECT strftime('%Y-%m-%d %H:%M:%f', r.ts / 1000.0, 'unixepoch') AS time, d.name AS device_name, r.sensor, r.name,
         coalesce(r.v, r.vs, r.vb) AS value, coalesce(r.v, r.vb) AS number, r.unit, c.stream, r.seq, r.idx, r.clock, r.device
  FROM reading r JOIN device d ON d.id = r.device JOIN chain c ON c.id = r.chain;
CREATE VIEW latest AS
  SELECT d.name AS device_name, r.sensor, r.name, coalesce(r.v, r.vs, r.vb) AS value, coalesce(r.v, r.vb) AS number, r.unit,
         strftime('%Y-%m-%d %H:%M:%f', max(coalesce(r.ts, r.recv)) / 1000.0, 'unixepoch') AS time, r.clock, r.device
  FROM (
    SELECT r.* FROM series s JOIN reading r ON (r.chain, r.seq, r.idx) = (SELECT chain, seq, idx FROM reading x
      WHERE x.device = s.device AND x.sensor = s.sensor AND x.name = s.name AND x.ts IS NOT NULL ORDER BY ts DESC, seq DESC, idx DESC LIMIT 1)
    UNION ALL
    SELECT r.* FROM series s JOIN reading r ON (r.chain, r.seq, r.idx) = (SELECT chain, seq, idx FROM reading x
      WHERE x.device = s.device AND x.sensor = s.sensor AND x.name = s.name AND x.ts IS NULL ORDER BY recv DESC, seq DESC, idx DESC LIMIT 1)) r
  JOIN device d ON d.id = r.device GROUP BY r.device, r.sensor, r.name;

CREATE VIEW gaps AS
  SELECT d.name AS device_name, c.stream, c.incarnation, g.first_seq, g.last_seq, g.last_seq - g.first_seq + 1 AS segments,
         g.reason, g.explained, strftime('%Y-%m-%d %H:%M:%f', g.found / 1000.0, 'unixepoch') AS found,
         strftime('%Y-%m-%d %H:%M:%f', g.closed / 1000.0, 'unixepoch') AS closed, c.device
  FROM gap g JOIN chain c ON c.id = g.chain JOIN device d ON d.id = c.device;
CREATE VIEW devices AS
  SELECT d.name AS device_name, count(DISTINCT c.stream) AS streams, count(*) AS chains,
         strftime('%Y-%m-%d %H:%M:%f', max(p.updated) / 1000.0, 'unixepoch') AS last_written,
         coalesce(sum((SELECT sum(g.last_seq - g.first_seq + 1) FROM gap g WHERE g.chain = c.id AND g.closed IS NULL)), 0) AS missing_segments,
         coalesce(sum((SELECT count(*) FROM fork f WHERE f.chain = c.id)), 0) AS forks, d.id AS device
  FROM device d JOIN chain c ON c.device = d.id LEFT JOIN checkpoint p ON p.chain = c.id GROUP BY d.id;
CREATE VIEW alarms AS
  SELECT strftime('%Y-%m-%d %H:%M:%f', f.found / 1000.0, 'unixepoch') AS time, d.name AS device_name, 'fork' AS kind,
         printf('two signed segments claim seq %d of stream %s: the device is cloned or was turned back', f.seq, c.stream) AS detail, c.device
  FROM fork f JOIN chain c ON c.id = f.chain JOIN device d ON d.id = c.device
  UNION ALL
  SELECT strftime('%Y-%m-%d %H:%M:%f', g.found / 1000.0, 'unixepoch'), d.name, CASE WHEN g.explained = '' THEN 'missing' ELSE 'lost' END,
         printf('segments %d to %d of stream %s: %s', g.first_seq, g.last_seq, c.stream, coalesce(nullif(g.explained, ''), g.reason)), c.device
  FROM gap g JOIN chain c ON c.id = g.chain JOIN device d ON d.id = c.device WHERE g.closed IS NULL;
