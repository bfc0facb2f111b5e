BEGIN, isolation 2
prepare DECLARE @got int;
EXEC @got = sp_getapplock @Resource = N'streembit', @LockMode = N'Exclusive', @LockOwner = N'Transaction', @LockTimeout = 60000;
IF @got < 0 THROW 50001, N'another collector prepares the tables for more than a minute', 1;
exec []
prepare SELECT COUNT(*) FROM INFORMATION_SCHEMA.TABLES WHERE TABLE_SCHEMA = @p1 AND TABLE_NAME = N'schema_version'
query [our ]schema]
prepare IF SCHEMA_ID(@p1) IS NULL EXEC sp_executesql @p2
exec [our ]schema CREATE SCHEMA [our ]]schema]]
prepare CREATE TABLE [our ]]schema].device (id nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL PRIMARY KEY, name nvarchar(256) NOT NULL)
exec []
prepare CREATE TABLE [our ]]schema].chain (
  id bigint IDENTITY PRIMARY KEY, fleet nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, device nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL REFERENCES [our ]]schema].device(id), stream nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, incarnation nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
  UNIQUE (device, stream, incarnation, fleet))
exec []
prepare CREATE TABLE [our ]]schema].checkpoint (
  chain bigint NOT NULL PRIMARY KEY REFERENCES [our ]]schema].chain(id), seq bigint NOT NULL, hash binary(32) NOT NULL, updated datetime2(3) NOT NULL)
exec []
prepare CREATE TABLE [our ]]schema].reading (
  device nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, sensor nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, name nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, unit nvarchar(16) NOT NULL,
  ts datetime2(3) NULL, -- UTC; NULL while clock is unsynced: the device did not know the time
  v float NULL, vs nvarchar(max) NULL, vb bit NULL, -- exactly one is set
  chain bigint NOT NULL, seq bigint NOT NULL, idx int NOT NULL,
  boot nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, mono_ms bigint NOT NULL, -- milliseconds since that boot: the time as it was signed
  clock nvarchar(16) NOT NULL CHECK (clock IN (N'synced', N'unsynced', N'restamped')), recv datetime2(3) NOT NULL,
  PRIMARY KEY CLUSTERED (chain, seq, idx) WITH (DATA_COMPRESSION = PAGE))
exec []
prepare CREATE INDEX reading_series ON [our ]]schema].reading (device, sensor, name, ts) WITH (DATA_COMPRESSION = PAGE)
exec []
prepare CREATE INDEX reading_time ON [our ]]schema].reading (ts) WITH (DATA_COMPRESSION = PAGE)
exec []
prepare CREATE INDEX reading_unsynced ON [our ]]schema].reading (device, boot) WHERE clock = N'unsynced'
exec []
prepare CREATE TABLE [our ]]schema].gap (
  chain bigint NOT NULL REFERENCES [our ]]schema].chain(id), first_seq bigint NOT NULL, last_seq bigint NOT NULL,
  reason nvarchar(max) NOT NULL, explained nvarchar(256) NOT NULL, found datetime2(3) NOT NULL, closed datetime2(3) NULL,
  prev_hash binary(32) NOT NULL, last_hash binary(32) NOT NULL)
exec []
prepare CREATE UNIQUE INDEX gap_open ON [our ]]schema].gap (chain, first_seq) WHERE closed IS NULL
exec []
prepare CREATE TABLE [our ]]schema].fork (
  chain bigint NOT NULL REFERENCES [our ]]schema].chain(id), seq bigint NOT NULL, a varbinary(max) NOT NULL, b varbinary(max) NOT NULL,
  found datetime2(3) NOT NULL, PRIMARY KEY (chain, seq))
exec []
prepare CREATE TABLE [our ]]schema].note (
  chain bigint NOT NULL REFERENCES [our ]]schema].chain(id), seq bigint NOT NULL, kind nvarchar(16) NOT NULL CHECK (kind IN (N'clock', N'gap', N'continues')),
  boot nvarchar(64) COLLATE Latin1_General_100_BIN2 NULL, mono_ms bigint NULL, wall datetime2(3) NULL,
  reason nvarchar(256) NULL, incarnation nvarchar(64) COLLATE Latin1_General_100_BIN2 NULL, first_seq bigint NULL, last_seq bigint NULL, segments bigint NULL, readings bigint NULL,
  hash binary(32) NULL, PRIMARY KEY (chain, seq))
exec []
prepare CREATE VIEW [our ]]schema].readings AS
  SELECT r.ts AS time, d.name AS device_name, r.sensor, r.name, COALESCE(CONVERT(nvarchar(40), r.v, 3), r.vs, CASE r.vb WHEN 1 THEN N'true' ELSE N'false' END) AS value,
         r.unit, c.stream, r.seq, r.idx, r.clock, r.device
  FROM [our ]]schema].reading r JOIN [our ]]schema].device d ON d.id = r.device JOIN [our ]]schema].chain c ON c.id = r.chain
exec []
prepare CREATE VIEW [our ]]schema].latest AS
  SELECT d.name AS device_name, r.sensor, r.name, COALESCE(CONVERT(nvarchar(40), r.v, 3), r.vs, CASE r.vb WHEN 1 THEN N'true' ELSE N'false' END) AS value,
         r.unit, COALESCE(r.ts, r.recv) AS time, r.clock, r.device
  FROM (SELECT x.*, ROW_NUMBER() OVER (PARTITION BY x.device, x.sensor, x.name ORDER BY COALESCE(x.ts, x.recv) DESC, x.seq DESC, x.idx DESC) AS age
        FROM [our ]]schema].reading x) r JOIN [our ]]schema].device d ON d.id = r.device WHERE r.age = 1
exec []
prepare CREATE VIEW [our ]]schema].hourly AS
  SELECT d.name AS device_name, r.sensor, r.name, DATEADD(hour, DATEDIFF(hour, '20000101', r.ts), CAST('20000101' AS datetime2(0))) AS hour,
         COUNT_BIG(*) AS n, AVG(r.v) AS mean, MIN(r.v) AS low, MAX(r.v) AS high, MIN(r.unit) AS unit, r.device
  FROM [our ]]schema].reading r JOIN [our ]]schema].device d ON d.id = r.device WHERE r.v IS NOT NULL AND r.ts IS NOT NULL
  GROUP BY r.device, d.name, r.sensor, r.name, DATEADD(hour, DATEDIFF(hour, '20000101', r.ts), CAST('20000101' AS datetime2(0)))
exec []
prepare CREATE TABLE [our ]]schema].schema_version (version int NOT NULL PRIMARY KEY)
exec []
prepare INSERT INTO [our ]]schema].schema_version (version) VALUES (1)
exec []
prepare SELECT MAX(version) FROM [our ]]schema].schema_version
query []
COMMIT
BEGIN, isolation 2
prepare SELECT id FROM [our ]]schema].chain WITH (UPDLOCK, ROWLOCK) WHERE device = @p1 AND stream = @p2 AND incarnation = @p3 AND fleet = @p4
query [12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH main 01000000000000000000000000000000 07000000000000000000000000000000]
prepare UPDATE [our ]]schema].device SET name = @p2 WHERE id = @p1 AND name <> @p2
exec [12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH o'Brien]
prepare SELECT seq, hash FROM [our ]]schema].checkpoint WHERE chain = @p1
query [42]
prepare SELECT chain, first_seq, last_seq, reason, explained, found, prev_hash, last_hash
		FROM [our ]]schema].gap WHERE closed IS NULL AND chain = @p1 ORDER BY chain, first_seq
query [42]
prepare DELETE FROM [our ]]schema].gap WHERE chain = @p1 AND first_seq = @p2 AND closed IS NULL
exec [42 8]
prepare INSERT INTO [our ]]schema].gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (@p1, @p2, @p3, @p4, @p5, @p6, @p7, @p8, @p9)
exec [42 8 9 lost  1970-01-01 00:00:00 +0000 UTC 2023-11-14 22:21:40 +0000 UTC [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0] [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]]
prepare INSERT INTO [our ]]schema].gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (@p1, @p2, @p3, @p4, @p5, @p6, @p7, @p8, @p9)
exec [42 10 20 lost  1970-01-01 00:00:00 +0000 UTC <nil> [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0] [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]]
prepare INSERT INTO [our ]]schema].gap (chain, first_seq, last_seq, reason, explained, found, closed, prev_hash, last_hash)
		VALUES (@p1, @p2, @p3, @p4, @p5, @p6, @p7, @p8, @p9)
exec [42 6 7 lost  2023-11-14 22:21:40 +0000 UTC <nil> [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0] [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]]
prepare UPDATE [our ]]schema].checkpoint SET seq = @p2, hash = @p3, updated = @p4 WHERE chain = @p1;
		IF @@ROWCOUNT = 0 INSERT INTO [our ]]schema].checkpoint (chain, seq, hash, updated) VALUES (@p1, @p2, @p3, @p4)
exec [42 9 [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0] 2023-11-14 22:21:40 +0000 UTC]
prepare CREATE TABLE #incoming (sensor nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, name nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL,
	unit nvarchar(16) NOT NULL, ts datetime2(3) NULL, v float NULL, vs nvarchar(max) NULL, vb bit NULL, seq bigint NOT NULL, idx int NOT NULL,
	boot nvarchar(64) COLLATE Latin1_General_100_BIN2 NOT NULL, mono_ms bigint NOT NULL, clock nvarchar(16) NOT NULL)
exec []
prepare INSERTBULK {"TableName":"#incoming","ColumnsName":["sensor","name","unit","ts","v","vs","vb","seq","idx","boot","mono_ms","clock"],"Options":{"CheckConstraints":false,"FireTriggers":false,"KeepNulls":false,"KilobytesPerBatch":0,"RowsPerBatch":0,"Order":null,"Tablock":false}}
exec [bme280-0 temperature Cel 2023-11-14 22:13:25 +0000 UTC 1666.6666666666667 <nil> <nil> 5 0 09000000000000000000000000000000 5000 synced]
exec [bme280-0 temperature Cel <nil> 1667 <nil> <nil> 5 1 09000000000000000000000000000000 5001 unsynced]
exec [s log  <nil> <nil> x'y <nil> 9 0 00000000000000000000000000000000 0 unsynced]
exec [s door  <nil> <nil> <nil> true 9 1 00000000000000000000000000000000 0 unsynced]
exec []
prepare INSERT INTO [our ]]schema].reading (device, sensor, name, unit, ts, v, vs, vb, chain, seq, idx, boot, mono_ms, clock, recv)
		SELECT @p1, i.sensor, i.name, i.unit, i.ts, i.v, i.vs, i.vb, @p2, i.seq, i.idx, i.boot, i.mono_ms, i.clock, @p3 FROM #incoming i
		WHERE NOT EXISTS (SELECT 1 FROM [our ]]schema].reading r WHERE r.chain = @p2 AND r.seq = i.seq AND r.idx = i.idx)
exec [12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH 42 2023-11-14 22:21:40 +0000 UTC]
prepare DROP TABLE #incoming
exec []
prepare INSERT INTO [our ]]schema].note (chain, seq, kind, boot, mono_ms, wall) SELECT @p1, @p2, N'clock', @p3, @p4, @p5 WHERE NOT EXISTS (SELECT 1 FROM [our ]]schema].note WHERE chain = @p1 AND seq = @p2)
exec [42 8 09000000000000000000000000000000 5 2023-11-14 22:13:20.005 +0000 UTC]
prepare INSERT INTO [our ]]schema].note (chain, seq, kind, reason, incarnation, first_seq, last_seq, segments, readings) SELECT @p1, @p2, N'gap', @p3, @p4, @p5, @p6, @p7, @p8 WHERE NOT EXISTS (SELECT 1 FROM [our ]]schema].note WHERE chain = @p1 AND seq = @p2)
exec [42 8 outbox quota 00000000000000000000000000000000 1 2 2 20]
prepare INSERT INTO [our ]]schema].note (chain, seq, kind, incarnation, last_seq, hash) SELECT @p1, @p2, N'continues', @p3, @p4, @p5 WHERE NOT EXISTS (SELECT 1 FROM [our ]]schema].note WHERE chain = @p1 AND seq = @p2)
exec [42 9 00000000000000000000000000000000 4 [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0]]
prepare INSERT INTO [our ]]schema].fork (chain, seq, a, b, found) SELECT @p1, @p2, @p3, @p4, @p5
			WHERE NOT EXISTS (SELECT 1 FROM [our ]]schema].fork WHERE chain = @p1 AND seq = @p2)
exec [42 3 [1] [2] 2023-11-14 22:21:40 +0000 UTC]
prepare SELECT TOP 1 n.mono_ms, n.wall FROM [our ]]schema].note n JOIN [our ]]schema].chain c ON c.id = n.chain
			WHERE n.kind = N'clock' AND n.boot = @p1 AND c.device = @p2 ORDER BY n.seq, n.chain
query [09000000000000000000000000000000 12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH]
prepare UPDATE [our ]]schema].reading SET clock = N'restamped',
			ts = DATEADD(millisecond, CAST((@p1 + mono_ms) % 86400000 AS int), DATEADD(day, CAST((@p1 + mono_ms) / 86400000 AS int), CAST('19700101' AS datetime2(3))))
			WHERE clock = N'unsynced' AND device = @p2 AND boot = @p3
exec [1700000000000 12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH 09000000000000000000000000000000]
prepare SELECT TOP 1 n.mono_ms, n.wall FROM [our ]]schema].note n JOIN [our ]]schema].chain c ON c.id = n.chain
			WHERE n.kind = N'clock' AND n.boot = @p1 AND c.device = @p2 ORDER BY n.seq, n.chain
query [00000000000000000000000000000000 12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH]
prepare UPDATE g SET explained = n.reason FROM [our ]]schema].gap g JOIN [our ]]schema].chain gc ON gc.id = g.chain
		JOIN [our ]]schema].chain nc ON nc.device = gc.device AND nc.stream = gc.stream JOIN [our ]]schema].note n ON n.chain = nc.id
		WHERE g.explained = N'' AND g.closed IS NULL AND gc.device = @p1 AND gc.stream = @p2 AND n.incarnation = gc.incarnation
		AND n.kind = N'gap' AND n.segments > 0 AND n.first_seq <= g.last_seq AND n.last_seq >= g.first_seq
exec [12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH main]
COMMIT
BEGIN, isolation 2
prepare DELETE FROM [our ]]schema].checkpoint WHERE chain = -1
exec []
COMMIT
BEGIN, isolation 6
prepare SELECT c.id, c.fleet, CONCAT(c.device, N'/', c.stream, N'/', c.incarnation), p.seq, p.hash
		FROM [our ]]schema].chain c LEFT JOIN [our ]]schema].checkpoint p ON p.chain = c.id
query []
prepare SELECT chain, first_seq, last_seq, reason, explained, found, prev_hash, last_hash
		FROM [our ]]schema].gap WHERE closed IS NULL AND 1 = 1 ORDER BY chain, first_seq
query []
ROLLBACK
