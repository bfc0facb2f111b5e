// SPDX-License-Identifier: Apache-2.0

package mysql

// Engines of tables.
const (
	inInnoDB = ` ENGINE=InnoDB`
	inMemory = ` ENGINE=MEMORY`
)

// steps bring the tables from each version to the next, beginning with none at all. MySQL commits each statement by itself, so a step can be done
// again: what an interrupted start left is completed by the next.
func steps() [][]string {
	return [][]string{tables(), {
		// Which collectors write here, for sharing the work. Losing it costs nothing, so it need not cost a write to the disk each second.
		`CREATE TABLE IF NOT EXISTS collector (id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY, seen datetime(6) NOT NULL)` + inMemory,
	}}
}

// tables are those of package postgres, but for table series and the views devices, gaps and alarms. Names and ids are compared byte by byte; times are
// UTC. schema_version is the last, since it says that the others are there.
func tables() []string {
	const options = inInnoDB + ` DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin`
	const id = ` CHARACTER SET ascii COLLATE ascii_bin NOT NULL`
	return []string{
		`CREATE TABLE IF NOT EXISTS device (id varchar(64)` + id + ` PRIMARY KEY, name varchar(255) NOT NULL)` + options,
		`CREATE TABLE IF NOT EXISTS chain (
  id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY, fleet varchar(32)` + id + `, device varchar(64)` + id + `,
  stream varchar(64)` + id + `, incarnation varchar(32)` + id + `,
  UNIQUE KEY chain_name (device, stream, incarnation, fleet), FOREIGN KEY (device) REFERENCES device(id))` + options,
		`CREATE TABLE IF NOT EXISTS checkpoint (
  chain bigint NOT NULL PRIMARY KEY, seq bigint NOT NULL, hash binary(32) NOT NULL, updated datetime(3) NOT NULL,
  FOREIGN KEY (chain) REFERENCES chain(id))` + options,
		`CREATE TABLE IF NOT EXISTS reading (
  device varchar(64)` + id + `, sensor varchar(64)` + id + `, name varchar(64)` + id + `, unit varchar(16) NOT NULL,
  ts datetime(3) NULL COMMENT 'UTC; NULL while clock is unsynced: the device did not know the time',
  v double COMMENT 'exactly one of v, vs, vb is set', vs text, vb boolean,
  chain bigint NOT NULL, seq bigint NOT NULL, idx integer NOT NULL,
  boot varchar(32)` + id + `, mono_ms bigint NOT NULL COMMENT 'milliseconds since the boot: the time as it was signed',
  clock enum('synced', 'unsynced', 'restamped') NOT NULL, recv datetime(3) NOT NULL,
  PRIMARY KEY (chain, seq, idx), KEY reading_series (device, sensor, name, ts), KEY reading_time (ts),
  KEY reading_clock (clock, device, boot))` + options,
		`CREATE TABLE IF NOT EXISTS gap (
  chain bigint NOT NULL, first_seq bigint NOT NULL, last_seq bigint NOT NULL, reason text NOT NULL, explained varchar(255) NOT NULL,
  found datetime(3) NOT NULL, closed datetime(3) NULL, prev_hash binary(32) NOT NULL, last_hash binary(32) NOT NULL,
  open_seq bigint AS (IF(closed IS NULL, first_seq, NULL)) STORED,
  UNIQUE KEY gap_open (chain, open_seq), FOREIGN KEY (chain) REFERENCES chain(id))` + options,
		`CREATE TABLE IF NOT EXISTS fork (
  chain bigint NOT NULL, seq bigint NOT NULL, a blob NOT NULL, b blob NOT NULL, found datetime(3) NOT NULL,
  PRIMARY KEY (chain, seq), FOREIGN KEY (chain) REFERENCES chain(id))` + options,
		`CREATE TABLE IF NOT EXISTS note (
  chain bigint NOT NULL, seq bigint NOT NULL, kind enum('clock', 'gap', 'continues') NOT NULL,
  boot varchar(32) CHARACTER SET ascii COLLATE ascii_bin, mono_ms bigint, wall datetime(3),
  reason varchar(255), incarnation varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
  first_seq bigint, last_seq bigint, segments bigint, readings bigint, hash binary(32),
  PRIMARY KEY (chain, seq), KEY note_boot (boot), FOREIGN KEY (chain) REFERENCES chain(id))` + options,
		`CREATE OR REPLACE VIEW readings AS
  SELECT r.ts AS time, d.name AS device_name, r.sensor, r.name, coalesce(CAST(r.v AS char), r.vs, IF(r.vb, 'true', 'false')) AS value, r.unit,
         c.stream, r.seq, r.idx, r.clock, r.device
  FROM reading r JOIN device d ON d.id = r.device JOIN chain c ON c.id = r.chain`,
		`CREATE OR REPLACE VIEW latest AS
  SELECT d.name AS device_name, r.sensor, r.name, coalesce(CAST(r.v AS char), r.vs, IF(r.vb, 'true', 'false')) AS value, r.unit,
         coalesce(r.ts, r.recv) AS time, r.clock, r.device
  FROM (SELECT x.*, row_number() OVER (PARTITION BY x.device, x.sensor, x.name ORDER BY coalesce(x.ts, x.recv) DESC, x.seq DESC, x.idx DESC) AS age
        FROM reading x) r JOIN device d ON d.id = r.device WHERE r.age = 1`,
		`CREATE OR REPLACE VIEW hourly AS
  SELECT d.name AS device_name, r.sensor, r.name, CAST(date_format(r.ts, '%Y-%m-%d %H:00:00') AS datetime) AS hour,
         count(*) AS n, avg(r.v) AS mean, min(r.v) AS low, max(r.v) AS high, min(r.unit) AS unit, r.device
  FROM reading r JOIN device d ON d.id = r.device WHERE r.v IS NOT NULL AND r.ts IS NOT NULL
  GROUP BY r.device, d.name, r.sensor, r.name, CAST(date_format(r.ts, '%Y-%m-%d %H:00:00') AS datetime)`,
		`CREATE TABLE IF NOT EXISTS schema_version (version integer NOT NULL PRIMARY KEY)` + options,
	}
}
