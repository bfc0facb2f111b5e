-- SPDX-License-Identifier: Apache-2.0
-- +goose Up
CREATE TABLE schema_version (version INTEGER NOT NULL);
INSERT INTO schema_version VALUES (1);
CREATE TABLE device (id TEXT PRIMARY KEY, name TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE chain (
  id INTEGER PRIMARY KEY, fleet TEXT NOT NULL, device TEXT NOT NULL REFERENCES device(id), stream TEXT NOT NULL,
  incarnation TEXT NOT NULL, UNIQUE (device, stream, incarnation, fleet));
CREATE TABLE checkpoint (
  chain INTEGER PRIMARY KEY REFERENCES chain(id), seq INTEGER NOT NULL, hash BLOB NOT NULL, updated INTEGER NOT NULL);
CREATE TABLE reading (
  device TEXT NOT NULL, sensor TEXT NOT NULL, name TEXT NOT NULL, unit TEXT NOT NULL,
  ts INTEGER,                      -- ms since 1970 UTC; NULL while clock = 'unsynced'
  v REAL, vs TEXT, vb INTEGER,     -- exactly one is set
  chain INTEGER NOT NULL REFERENCES chain(id), seq INTEGER NOT NULL, idx INTEGER NOT NULL,
  boot TEXT NOT NULL, mono_ms INTEGER NOT NULL,  -- ms since that boot: the time as it was signed
  clock TEXT NOT NULL CHECK (clock IN ('synced', 'unsynced', 'restamped')),
  recv INTEGER NOT NULL,           -- ms since 1970 UTC, by the collector's clock
  PRIMARY KEY (chain, seq, idx)) WITHOUT ROWID;
CREATE INDEX reading_series ON reading (device, sensor, name, ts);
CREATE INDEX reading_unsynced ON reading (device, boot) WHERE clock = 'unsynced';
CREATE TABLE gap (
  chain INTEGER NOT NULL REFERENCES chain(id), first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL,
  reason TEXT NOT NULL,            -- why the collector did not get it
  explained TEXT NOT NULL,         -- what the device says about it, '' for nothing
  found INTEGER NOT NULL, closed INTEGER,        -- NULL while it is open
  prev_hash BLOB NOT NULL, last_hash BLOB NOT NULL);
CREATE UNIQUE INDEX gap_open ON gap (chain, first_seq) WHERE closed IS NULL;
CREATE TABLE fork (
  chain INTEGER NOT NULL REFERENCES chain(id), seq INTEGER NOT NULL, a BLOB NOT NULL, b BLOB NOT NULL,
  found INTEGER NOT NULL, PRIMARY KEY (chain, seq)) WITHOUT ROWID;
CREATE TABLE note (
  chain INTEGER NOT NULL REFERENCES chain(id), seq INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('clock', 'gap', 'continues')),
  boot TEXT, mono_ms INTEGER, wall INTEGER,      -- clock: that boot's mono_ms was wall
  reason TEXT, incarnation TEXT, first_seq INTEGER, last_seq INTEGER, segments INTEGER, readings INTEGER,
  hash BLOB,                                     -- continues: of last_seq of incarnation
  PRIMARY KEY (chain, seq)) WITHOUT ROWID;
CREATE VIEW readings AS
  SELECT strftime('%Y-%m-%d %H:%M:%f', r.ts / 1000.0, 'unixepoch') AS time, d.name AS device_name, r.sensor, r.name,
         coalesce(r.v, r.vs, r.vb) AS value, r.unit, c.stream, r.seq, r.idx, r.clock, r.device
  FROM reading r JOIN device d ON d.id = r.device JOIN chain c ON c.id = r.chain;
CREATE VIEW latest AS
  SELECT d.name AS device_name, r.sensor, r.name, coalesce(r.v, r.vs, r.vb) AS value, r.unit,
         strftime('%Y-%m-%d %H:%M:%f', max(coalesce(r.ts, r.recv)) / 1000.0, 'unixepoch') AS time, r.clock, r.device
  FROM reading r JOIN device d ON d.id = r.device GROUP BY r.device, r.sensor, r.name;
CREATE VIEW hourly AS
  SELECT d.name AS device_name, r.sensor, r.name, strftime('%Y-%m-%d %H:00', r.ts / 1000, 'unixepoch') AS hour,
         count(*) AS n, avg(r.v) AS mean, min(r.v) AS low, max(r.v) AS high, r.unit, r.device
  FROM reading r JOIN device d ON d.id = r.device WHERE r.v IS NOT NULL AND r.ts IS NOT NULL
  GROUP BY r.device, r.sensor, r.name, r.ts / 3600000;
