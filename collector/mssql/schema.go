// SPDX-License-Identifier: Apache-2.0

package mssql

import "strings"

// version is the version of the tables that this package makes and knows.
const version = 1

// tables returns the batches that make the tables of a schema: those of package postgres, but for tables series and collector and the views devices, gaps
// and alarms. Names and ids are compared byte by byte, times are UTC. A view must be alone in its batch.
func tables(schema string) []string {
	out := []string{
		`CREATE TABLE SCHEMA.device (id ID NOT NULL PRIMARY KEY, name nvarchar(256) NOT NULL)`,
		`CREATE TABLE SCHEMA.chain (
  id bigint IDENTITY PRIMARY KEY, fleet ID NOT NULL, device ID NOT NULL REFERENCES SCHEMA.device(id), stream ID NOT NULL, incarnation ID NOT NULL,
  UNIQUE (device, stream, incarnation, fleet))`,
		`CREATE TABLE SCHEMA.checkpoint (
  chain bigint NOT NULL PRIMARY KEY REFERENCES SCHEMA.chain(id), seq bigint NOT NULL, hash binary(32) NOT NULL, updated datetime2(3) NOT NULL)`,
		`CREATE TABLE SCHEMA.reading (
  device ID NOT NULL, sensor ID NOT NULL, name ID NOT NULL, unit nvarchar(16) NOT NULL,
  ts datetime2(3) NULL, -- UTC; NULL while clock is unsynced: the device did not know the time
  v float NULL, vs nvarchar(max) NULL, vb bit NULL, -- exactly one is set
  chain bigint NOT NULL, seq bigint NOT NULL, idx int NOT NULL,
  boot ID NOT NULL, mono_ms bigint NOT NULL, -- milliseconds since that boot: the time as it was signed
  clock nvarchar(16) NOT NULL CHECK (clock IN (N'synced', N'unsynced', N'restamped')), recv datetime2(3) NOT NULL,
  PRIMARY KEY CLUSTERED (chain, seq, idx) WITH (DATA_COMPRESSION = PAGE))`,
		`CREATE INDEX reading_series ON SCHEMA.reading (device, sensor, name, ts) WITH (DATA_COMPRESSION = PAGE)`,
		`CREATE INDEX reading_time ON SCHEMA.reading (ts) WITH (DATA_COMPRESSION = PAGE)`,
		`CREATE INDEX reading_unsynced ON SCHEMA.reading (device, boot) WHERE clock = N'unsynced'`,
		`CREATE TABLE SCHEMA.gap (
  chain bigint NOT NULL REFERENCES SCHEMA.chain(id), first_seq bigint NOT NULL, last_seq bigint NOT NULL,
  reason nvarchar(max) NOT NULL, explained nvarchar(256) NOT NULL, found datetime2(3) NOT NULL, closed datetime2(3) NULL,
  prev_hash binary(32) NOT NULL, last_hash binary(32) NOT NULL)`,
		`CREATE UNIQUE INDEX gap_open ON SCHEMA.gap (chain, first_seq) WHERE closed IS NULL`,
		`CREATE TABLE SCHEMA.fork (
  chain bigint NOT NULL REFERENCES SCHEMA.chain(id), seq bigint NOT NULL, a varbinary(max) NOT NULL, b varbinary(max) NOT NULL,
  found datetime2(3) NOT NULL, PRIMARY KEY (chain, seq))`,
		`CREATE TABLE SCHEMA.note (
  chain bigint NOT NULL REFERENCES SCHEMA.chain(id), seq bigint NOT NULL, kind nvarchar(16) NOT NULL CHECK (kind IN (N'clock', N'gap', N'continues')),
  boot ID NULL, mono_ms bigint NULL, wall datetime2(3) NULL,
  reason nvarchar(256) NULL, incarnation ID NULL, first_seq bigint NULL, last_seq bigint NULL, segments bigint NULL, readings bigint NULL,
  hash binary(32) NULL, PRIMARY KEY (chain, seq))`,
		`CREATE VIEW SCHEMA.readings AS
  SELECT r.ts AS time, d.name AS device_name, r.sensor, r.name, COALESCE(CONVERT(nvarchar(40), r.v, 3), r.vs, CASE r.vb WHEN 1 THEN N'true' ELSE N'false' END) AS value,
         r.unit, c.stream, r.seq, r.idx, r.clock, r.device
  FROM SCHEMA.reading r JOIN SCHEMA.device d ON d.id = r.device JOIN SCHEMA.chain c ON c.id = r.chain`,
		`CREATE VIEW SCHEMA.latest AS
  SELECT d.name AS device_name, r.sensor, r.name, COALESCE(CONVERT(nvarchar(40), r.v, 3), r.vs, CASE r.vb WHEN 1 THEN N'true' ELSE N'false' END) AS value,
         r.unit, COALESCE(r.ts, r.recv) AS time, r.clock, r.device
  FROM (SELECT x.*, ROW_NUMBER() OVER (PARTITION BY x.device, x.sensor, x.name ORDER BY COALESCE(x.ts, x.recv) DESC, x.seq DESC, x.idx DESC) AS age
        FROM SCHEMA.reading x) r JOIN SCHEMA.device d ON d.id = r.device WHERE r.age = 1`,
		`CREATE VIEW SCHEMA.hourly AS
  SELECT d.name AS device_name, r.sensor, r.name, DATEADD(hour, DATEDIFF(hour, '20000101', r.ts), CAST('20000101' AS datetime2(0))) AS hour,
         COUNT_BIG(*) AS n, AVG(r.v) AS mean, MIN(r.v) AS low, MAX(r.v) AS high, MIN(r.unit) AS unit, r.device
  FROM SCHEMA.reading r JOIN SCHEMA.device d ON d.id = r.device WHERE r.v IS NOT NULL AND r.ts IS NOT NULL
  GROUP BY r.device, d.name, r.sensor, r.name, DATEADD(hour, DATEDIFF(hour, '20000101', r.ts), CAST('20000101' AS datetime2(0)))`,
		`CREATE TABLE SCHEMA.schema_version (version int NOT NULL PRIMARY KEY)`,
		`INSERT INTO SCHEMA.schema_version (version) VALUES (1)`,
	}
	fill := strings.NewReplacer("SCHEMA", quote(schema), " ID ", " nvarchar(64) COLLATE Latin1_General_100_BIN2 ")
	for i := range out {
		out[i] = fill.Replace(out[i])
	}
	return out
}

// quote makes an identifier.
func quote(name string) string { return "[" + strings.ReplaceAll(name, "]", "]]") + "]" }
