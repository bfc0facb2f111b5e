-- SPDX-License-Identifier: Apache-2.0
-- The views of table reading. They are made anew when they are older than this, or of a table that was put aside; what others have built on them stays, so
-- columns are only ever added at the end.
CREATE OR REPLACE VIEW readings AS
  SELECT r.ts AS time, d.name AS device_name, r.sensor, r.name, coalesce(r.v::text, r.vs, r.vb::text) AS value, r.unit,
         c.stream, r.seq, r.idx, r.clock, r.device, coalesce(r.v, r.vb::integer) AS number
  FROM reading r JOIN device d ON d.id = r.device JOIN chain c ON c.id = r.chain;
CREATE OR REPLACE VIEW latest AS
  SELECT d.name AS device_name, s.sensor, s.name, coalesce(r.v::text, r.vs, r.vb::text) AS value, r.unit, coalesce(r.ts, r.recv) AS time, r.clock,
         s.device, coalesce(r.v, r.vb::integer) AS number
  FROM series s JOIN device d ON d.id = s.device CROSS JOIN LATERAL (
    SELECT * FROM (
      (SELECT v, vs, vb, unit, ts, recv, clock, seq, idx FROM reading x
        WHERE x.device = s.device AND x.sensor = s.sensor AND x.name = s.name AND x.ts IS NOT NULL ORDER BY ts DESC, seq DESC, idx DESC LIMIT 1)
      UNION ALL
      (SELECT v, vs, vb, unit, ts, recv, clock, seq, idx FROM reading x
        WHERE x.device = s.device AND x.sensor = s.sensor AND x.name = s.name AND x.ts IS NULL ORDER BY recv DESC, seq DESC, idx DESC LIMIT 1)) both_kinds
    ORDER BY coalesce(ts, recv) DESC, seq DESC, idx DESC LIMIT 1) r;
CREATE OR REPLACE VIEW hourly AS
  SELECT d.name AS device_name, r.sensor, r.name, date_trunc('hour', r.ts) AS hour,
         count(*) AS n, avg(r.v) AS mean, min(r.v) AS low, max(r.v) AS high, min(r.unit) AS unit, r.device
  FROM reading r JOIN device d ON d.id = r.device WHERE r.v IS NOT NULL AND r.ts IS NOT NULL
  GROUP BY r.device, d.name, r.sensor, r.name, date_trunc('hour', r.ts);
