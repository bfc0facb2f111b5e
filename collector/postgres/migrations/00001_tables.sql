-- SPDX-License-Identifier: Apache-2.0
-- +goose Up
CREATE TABLE schema_version (version integer NOT NULL);
INSERT INTO schema_version VALUES (1);
CREATE TABLE device (id text PRIMARY KEY, name text NOT NULL);
CREATE TABLE chain (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, fleet text NOT NULL, device text NOT NULL REFERENCES device(id),
  stream text NOT NULL, incarnation text NOT NULL, UNIQUE (device, stream, incarnation, fleet));
CREATE TABLE checkpoint (
  chain bigint PRIMARY KEY REFERENCES chain(id), seq bigint NOT NULL, hash bytea NOT NULL, updated timestamptz NOT NULL);
CREATE TABLE reading (
  device text NOT NULL, sensor text NOT NULL, name text NOT NULL, unit text NOT NULL,
  ts timestamptz,
  v double precision, vs text, vb boolean,
  chain bigint NOT NULL, seq bigint NOT NULL, idx integer NOT NULL,
  boot text NOT NULL, mono_ms bigint NOT NULL,
  clock text NOT NULL CHECK (clock IN ('synced', 'unsynced', 'restamped')),
  recv timestamptz NOT NULL,
  PRIMARY KEY (chain, seq, idx));
COMMENT ON COLUMN reading.ts IS 'NULL while clock is unsynced: the device did not know the time';
COMMENT ON COLUMN reading.mono_ms IS 'milliseconds since the boot: the time as it was signed';
COMMENT ON COLUMN reading.v IS 'exactly one of v, vs, vb is set';
CREATE INDEX reading_series ON reading (device, sensor, name, ts);
CREATE INDEX reading_time ON reading USING brin (ts);
CREATE INDEX reading_unsynced ON reading (device, boot) WHERE clock = 'unsynced';
CREATE TABLE gap (
  chain bigint NOT NULL REFERENCES chain(id), first_seq bigint NOT NULL, last_seq bigint NOT NULL,
  reason text NOT NULL, explained text NOT NULL, found timestamptz NOT NULL, closed timestamptz,
  prev_hash bytea NOT NULL, last_hash bytea NOT NULL);
CREATE UNIQUE INDEX gap_open ON gap (chain, first_seq) WHERE closed IS NULL;
CREATE TABLE fork (
  chain bigint NOT NULL REFERENCES chain(id), seq bigint NOT NULL, a bytea NOT NULL, b bytea NOT NULL,
  found timestamptz NOT NULL, PRIMARY KEY (chain, seq));
CREATE TABLE note (
  chain bigint NOT NULL REFERENCES chain(id), seq bigint NOT NULL,
  kind text NOT NULL CHECK (kind IN ('clock', 'gap', 'continues')),
  boot text, mono_ms bigint, wall timestamptz,
  reason text, incarnation text, first_seq bigint, last_seq bigint, segments bigint, readings bigint,
  hash bytea,
  PRIMARY KEY (chain, seq));
CREATE VIEW readings AS
  SELECT r.ts AS time, d.name AS device_name, r.sensor, r.name, coalesce(r.v::text, r.vs, r.vb::text) AS value, r.unit,
         c.stream, r.seq, r.idx, r.clock, r.device
  FROM reading r JOIN device d ON d.id = r.device JOIN chain c ON c.id = r.chain;
CREATE VIEW latest AS
  SELECT DISTINCT ON (r.device, r.sensor, r.name) d.name AS device_name, r.sensor, r.name,
         coalesce(r.v::text, r.vs, r.vb::text) AS value, r.unit, coalesce(r.ts, r.recv) AS time, r.clock, r.device
  FROM reading r JOIN device d ON d.id = r.device
  ORDER BY r.device, r.sensor, r.name, coalesce(r.ts, r.recv) DESC, r.seq DESC, r.idx DESC;
CREATE VIEW hourly AS
  SELECT d.name AS device_name, r.sensor, r.name, date_trunc('hour', r.ts) AS hour,
         count(*) AS n, avg(r.v) AS mean, min(r.v) AS low, max(r.v) AS high, min(r.unit) AS unit, r.device
  FROM reading r JOIN device d ON d.id = r.device WHERE r.v IS NOT NULL AND r.ts IS NOT NULL
  GROUP BY r.device, d.name, r.sensor, r.name, date_trunc('hour', r.ts);
