--
-- PostgreSQL database dump
--


-- Dumped from database version 15.20 (Debian 15.20-0+deb12u1)
-- Dumped by pg_dump version 15.20 (Debian 15.20-0+deb12u1)

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: streembit; Type: SCHEMA; Schema: -; Owner: -
--

CREATE SCHEMA streembit;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: chain; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.chain (
    id bigint NOT NULL,
    fleet text NOT NULL,
    device text NOT NULL,
    stream text NOT NULL,
    incarnation text NOT NULL
);


--
-- Name: chain_id_seq; Type: SEQUENCE; Schema: streembit; Owner: -
--

ALTER TABLE streembit.chain ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME streembit.chain_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: checkpoint; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.checkpoint (
    chain bigint NOT NULL,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    updated timestamp with time zone NOT NULL
);


--
-- Name: device; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.device (
    id text NOT NULL,
    name text NOT NULL
);


--
-- Name: fork; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.fork (
    chain bigint NOT NULL,
    seq bigint NOT NULL,
    a bytea NOT NULL,
    b bytea NOT NULL,
    found timestamp with time zone NOT NULL
);


--
-- Name: gap; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.gap (
    chain bigint NOT NULL,
    first_seq bigint NOT NULL,
    last_seq bigint NOT NULL,
    reason text NOT NULL,
    explained text NOT NULL,
    found timestamp with time zone NOT NULL,
    closed timestamp with time zone,
    prev_hash bytea NOT NULL,
    last_hash bytea NOT NULL
);


--
-- Name: reading; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.reading (
    device text NOT NULL,
    sensor text NOT NULL,
    name text NOT NULL,
    unit text NOT NULL,
    ts timestamp with time zone,
    v double precision,
    vs text,
    vb boolean,
    chain bigint NOT NULL,
    seq bigint NOT NULL,
    idx integer NOT NULL,
    boot text NOT NULL,
    mono_ms bigint NOT NULL,
    clock text NOT NULL,
    recv timestamp with time zone NOT NULL,
    CONSTRAINT reading_clock_check CHECK ((clock = ANY (ARRAY['synced'::text, 'unsynced'::text, 'restamped'::text])))
);


--
-- Name: COLUMN reading.ts; Type: COMMENT; Schema: streembit; Owner: -
--

COMMENT ON COLUMN streembit.reading.ts IS 'NULL while clock is unsynced: the device did not know the time';


--
-- Name: COLUMN reading.v; Type: COMMENT; Schema: streembit; Owner: -
--

COMMENT ON COLUMN streembit.reading.v IS 'exactly one of v, vs, vb is set';


--
-- Name: COLUMN reading.mono_ms; Type: COMMENT; Schema: streembit; Owner: -
--

COMMENT ON COLUMN streembit.reading.mono_ms IS 'milliseconds since the boot: the time as it was signed';


--
-- Name: hourly; Type: VIEW; Schema: streembit; Owner: -
--

CREATE VIEW streembit.hourly AS
 SELECT d.name AS device_name,
    r.sensor,
    r.name,
    date_trunc('hour'::text, r.ts) AS hour,
    count(*) AS n,
    avg(r.v) AS mean,
    min(r.v) AS low,
    max(r.v) AS high,
    min(r.unit) AS unit,
    r.device
   FROM (streembit.reading r
     JOIN streembit.device d ON ((d.id = r.device)))
  WHERE ((r.v IS NOT NULL) AND (r.ts IS NOT NULL))
  GROUP BY r.device, d.name, r.sensor, r.name, (date_trunc('hour'::text, r.ts));


--
-- Name: latest; Type: VIEW; Schema: streembit; Owner: -
--

CREATE VIEW streembit.latest AS
 SELECT DISTINCT ON (r.device, r.sensor, r.name) d.name AS device_name,
    r.sensor,
    r.name,
    COALESCE((r.v)::text, r.vs, (r.vb)::text) AS value,
    r.unit,
    COALESCE(r.ts, r.recv) AS "time",
    r.clock,
    r.device
   FROM (streembit.reading r
     JOIN streembit.device d ON ((d.id = r.device)))
  ORDER BY r.device, r.sensor, r.name, COALESCE(r.ts, r.recv) DESC, r.seq DESC, r.idx DESC;


--
-- Name: note; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.note (
    chain bigint NOT NULL,
    seq bigint NOT NULL,
    kind text NOT NULL,
    boot text,
    mono_ms bigint,
    wall timestamp with time zone,
    reason text,
    incarnation text,
    first_seq bigint,
    last_seq bigint,
    segments bigint,
    readings bigint,
    hash bytea,
    CONSTRAINT note_kind_check CHECK ((kind = ANY (ARRAY['clock'::text, 'gap'::text, 'continues'::text])))
);


--
-- Name: readings; Type: VIEW; Schema: streembit; Owner: -
--

CREATE VIEW streembit.readings AS
 SELECT r.ts AS "time",
    d.name AS device_name,
    r.sensor,
    r.name,
    COALESCE((r.v)::text, r.vs, (r.vb)::text) AS value,
    r.unit,
    c.stream,
    r.seq,
    r.idx,
    r.clock,
    r.device
   FROM ((streembit.reading r
     JOIN streembit.device d ON ((d.id = r.device)))
     JOIN streembit.chain c ON ((c.id = r.chain)));


--
-- Name: schema_version; Type: TABLE; Schema: streembit; Owner: -
--

CREATE TABLE streembit.schema_version (
    version integer NOT NULL
);


--
-- Data for Name: chain; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.chain OVERRIDING SYSTEM VALUE VALUES (1, '07000000000000000000000000000000', '12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'main', '01000000000000000000000000000000');
INSERT INTO streembit.chain OVERRIDING SYSTEM VALUE VALUES (2, '07000000000000000000000000000000', '12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'main', '01000000000000000000000000000000');


--
-- Data for Name: checkpoint; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.checkpoint VALUES (1, 9, '\x0109000000000000000000000000000000000000000000000000000000000000', '2023-11-14 22:21:40+00');
INSERT INTO streembit.checkpoint VALUES (2, 9, '\x0109000000000000000000000000000000000000000000000000000000000000', '2023-11-14 22:21:40+00');


--
-- Data for Name: device; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.device VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'roof');
INSERT INTO streembit.device VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'cellar');


--
-- Data for Name: fork; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.fork VALUES (2, 5, '\x01', '\x02', '2023-11-14 22:21:40+00');


--
-- Data for Name: gap; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.gap VALUES (1, 5, 6, 'no hub holds it', '', '2023-11-14 22:21:40+00', NULL, '\x0000000000000000000000000000000000000000000000000000000000000000', '\x0000000000000000000000000000000000000000000000000000000000000000');
INSERT INTO streembit.gap VALUES (2, 5, 6, 'no hub holds it', '', '2023-11-14 22:21:40+00', NULL, '\x0000000000000000000000000000000000000000000000000000000000000000', '\x0000000000000000000000000000000000000000000000000000000000000000');


--
-- Data for Name: note; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.note VALUES (1, 3, 'clock', '05000000000000000000000000000000', 5, '2023-11-14 22:13:20.005+00', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO streembit.note VALUES (1, 4, 'continues', NULL, NULL, NULL, NULL, '00000000000000000000000000000000', NULL, 4, NULL, NULL, '\x0000000000000000000000000000000000000000000000000000000000000000');
INSERT INTO streembit.note VALUES (2, 3, 'clock', '05000000000000000000000000000000', 5, '2023-11-14 22:13:20.005+00', NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO streembit.note VALUES (2, 4, 'continues', NULL, NULL, NULL, NULL, '00000000000000000000000000000000', NULL, 4, NULL, NULL, '\x0000000000000000000000000000000000000000000000000000000000000000');


--
-- Data for Name: reading; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20+00', 0, NULL, NULL, 1, 0, 0, '09000000000000000000000000000000', 0, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20.001+00', 0.3333333333333333, NULL, NULL, 1, 0, 1, '09000000000000000000000000000000', 1, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20.002+00', 0.6666666666666666, NULL, NULL, 1, 0, 2, '09000000000000000000000000000000', 2, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20.003+00', 1, NULL, NULL, 1, 0, 3, '09000000000000000000000000000000', 3, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21+00', 333.3333333333333, NULL, NULL, 1, 1, 0, '09000000000000000000000000000000', 1000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21.001+00', 333.6666666666667, NULL, NULL, 1, 1, 1, '09000000000000000000000000000000', 1001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21.002+00', 334, NULL, NULL, 1, 1, 2, '09000000000000000000000000000000', 1002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21.003+00', 334.3333333333333, NULL, NULL, 1, 1, 3, '09000000000000000000000000000000', 1003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22+00', 666.6666666666666, NULL, NULL, 1, 2, 0, '09000000000000000000000000000000', 2000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22.001+00', 667, NULL, NULL, 1, 2, 1, '09000000000000000000000000000000', 2001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22.002+00', 667.3333333333334, NULL, NULL, 1, 2, 2, '09000000000000000000000000000000', 2002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22.003+00', 667.6666666666666, NULL, NULL, 1, 2, 3, '09000000000000000000000000000000', 2003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23+00', 1000, NULL, NULL, 1, 3, 0, '09000000000000000000000000000000', 3000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23.001+00', 1000.3333333333334, NULL, NULL, 1, 3, 1, '09000000000000000000000000000000', 3001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23.002+00', 1000.6666666666666, NULL, NULL, 1, 3, 2, '09000000000000000000000000000000', 3002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23.003+00', 1001, NULL, NULL, 1, 3, 3, '09000000000000000000000000000000', 3003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24+00', 1333.3333333333333, NULL, NULL, 1, 4, 0, '09000000000000000000000000000000', 4000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24.001+00', 1333.6666666666667, NULL, NULL, 1, 4, 1, '09000000000000000000000000000000', 4001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24.002+00', 1334, NULL, NULL, 1, 4, 2, '09000000000000000000000000000000', 4002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24.003+00', 1334.3333333333333, NULL, NULL, 1, 4, 3, '09000000000000000000000000000000', 4003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27+00', 2333.3333333333335, NULL, NULL, 1, 7, 0, '09000000000000000000000000000000', 7000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27.001+00', 2333.6666666666665, NULL, NULL, 1, 7, 1, '09000000000000000000000000000000', 7001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27.002+00', 2334, NULL, NULL, 1, 7, 2, '09000000000000000000000000000000', 7002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27.003+00', 2334.3333333333335, NULL, NULL, 1, 7, 3, '09000000000000000000000000000000', 7003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28+00', 2666.6666666666665, NULL, NULL, 1, 8, 0, '09000000000000000000000000000000', 8000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28.001+00', 2667, NULL, NULL, 1, 8, 1, '09000000000000000000000000000000', 8001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28.002+00', 2667.3333333333335, NULL, NULL, 1, 8, 2, '09000000000000000000000000000000', 8002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28.003+00', 2667.6666666666665, NULL, NULL, 1, 8, 3, '09000000000000000000000000000000', 8003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29+00', 3000, NULL, NULL, 1, 9, 0, '09000000000000000000000000000000', 9000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29.001+00', 3000.3333333333335, NULL, NULL, 1, 9, 1, '09000000000000000000000000000000', 9001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29.002+00', 3000.6666666666665, NULL, NULL, 1, 9, 2, '09000000000000000000000000000000', 9002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29.003+00', 3001, NULL, NULL, 1, 9, 3, '09000000000000000000000000000000', 9003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'host', 'state', '', NULL, NULL, 'up', NULL, 1, 9, 4, '04000000000000000000000000000000', 77, 'unsynced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9tGaPdJo5jmCpadQ971nfiq4kLcQjeBPYTfutBTtckPH', 'relay', 'on', '', '2023-11-14 22:13:20.078+00', NULL, NULL, true, 1, 9, 5, '05000000000000000000000000000000', 78, 'restamped', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20+00', 0, NULL, NULL, 2, 0, 0, '09000000000000000000000000000000', 0, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20.001+00', 0.3333333333333333, NULL, NULL, 2, 0, 1, '09000000000000000000000000000000', 1, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20.002+00', 0.6666666666666666, NULL, NULL, 2, 0, 2, '09000000000000000000000000000000', 2, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:20.003+00', 1, NULL, NULL, 2, 0, 3, '09000000000000000000000000000000', 3, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21+00', 333.3333333333333, NULL, NULL, 2, 1, 0, '09000000000000000000000000000000', 1000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21.001+00', 333.6666666666667, NULL, NULL, 2, 1, 1, '09000000000000000000000000000000', 1001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21.002+00', 334, NULL, NULL, 2, 1, 2, '09000000000000000000000000000000', 1002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:21.003+00', 334.3333333333333, NULL, NULL, 2, 1, 3, '09000000000000000000000000000000', 1003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22+00', 666.6666666666666, NULL, NULL, 2, 2, 0, '09000000000000000000000000000000', 2000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22.001+00', 667, NULL, NULL, 2, 2, 1, '09000000000000000000000000000000', 2001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22.002+00', 667.3333333333334, NULL, NULL, 2, 2, 2, '09000000000000000000000000000000', 2002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:22.003+00', 667.6666666666666, NULL, NULL, 2, 2, 3, '09000000000000000000000000000000', 2003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23+00', 1000, NULL, NULL, 2, 3, 0, '09000000000000000000000000000000', 3000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23.001+00', 1000.3333333333334, NULL, NULL, 2, 3, 1, '09000000000000000000000000000000', 3001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23.002+00', 1000.6666666666666, NULL, NULL, 2, 3, 2, '09000000000000000000000000000000', 3002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:23.003+00', 1001, NULL, NULL, 2, 3, 3, '09000000000000000000000000000000', 3003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24+00', 1333.3333333333333, NULL, NULL, 2, 4, 0, '09000000000000000000000000000000', 4000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24.001+00', 1333.6666666666667, NULL, NULL, 2, 4, 1, '09000000000000000000000000000000', 4001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24.002+00', 1334, NULL, NULL, 2, 4, 2, '09000000000000000000000000000000', 4002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:24.003+00', 1334.3333333333333, NULL, NULL, 2, 4, 3, '09000000000000000000000000000000', 4003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27+00', 2333.3333333333335, NULL, NULL, 2, 7, 0, '09000000000000000000000000000000', 7000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27.001+00', 2333.6666666666665, NULL, NULL, 2, 7, 1, '09000000000000000000000000000000', 7001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27.002+00', 2334, NULL, NULL, 2, 7, 2, '09000000000000000000000000000000', 7002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:27.003+00', 2334.3333333333335, NULL, NULL, 2, 7, 3, '09000000000000000000000000000000', 7003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28+00', 2666.6666666666665, NULL, NULL, 2, 8, 0, '09000000000000000000000000000000', 8000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28.001+00', 2667, NULL, NULL, 2, 8, 1, '09000000000000000000000000000000', 8001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28.002+00', 2667.3333333333335, NULL, NULL, 2, 8, 2, '09000000000000000000000000000000', 8002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:28.003+00', 2667.6666666666665, NULL, NULL, 2, 8, 3, '09000000000000000000000000000000', 8003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29+00', 3000, NULL, NULL, 2, 9, 0, '09000000000000000000000000000000', 9000, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29.001+00', 3000.3333333333335, NULL, NULL, 2, 9, 1, '09000000000000000000000000000000', 9001, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29.002+00', 3000.6666666666665, NULL, NULL, 2, 9, 2, '09000000000000000000000000000000', 9002, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'bme280-0', 'temperature', 'Cel', '2023-11-14 22:13:29.003+00', 3001, NULL, NULL, 2, 9, 3, '09000000000000000000000000000000', 9003, 'synced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'host', 'state', '', NULL, NULL, 'up', NULL, 2, 9, 4, '04000000000000000000000000000000', 77, 'unsynced', '2023-11-14 22:21:40+00');
INSERT INTO streembit.reading VALUES ('12D3KooW9xAz382syaFvEGkNecHEZeaJ1MBBSbHJ8KyoPNmtLZ3d', 'relay', 'on', '', '2023-11-14 22:13:20.078+00', NULL, NULL, true, 2, 9, 5, '05000000000000000000000000000000', 78, 'restamped', '2023-11-14 22:21:40+00');


--
-- Data for Name: schema_version; Type: TABLE DATA; Schema: streembit; Owner: -
--

INSERT INTO streembit.schema_version VALUES (1);


--
-- Name: chain_id_seq; Type: SEQUENCE SET; Schema: streembit; Owner: -
--

SELECT pg_catalog.setval('streembit.chain_id_seq', 2, true);


--
-- Name: chain chain_device_stream_incarnation_fleet_key; Type: CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.chain
    ADD CONSTRAINT chain_device_stream_incarnation_fleet_key UNIQUE (device, stream, incarnation, fleet);


--
-- Name: chain chain_pkey; Type: CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.chain
    ADD CONSTRAINT chain_pkey PRIMARY KEY (id);


--
-- Name: checkpoint checkpoint_pkey; Type: CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.checkpoint
    ADD CONSTRAINT checkpoint_pkey PRIMARY KEY (chain);


--
-- Name: device device_pkey; Type: CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.device
    ADD CONSTRAINT device_pkey PRIMARY KEY (id);


--
-- Name: fork fork_pkey; Type: CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.fork
    ADD CONSTRAINT fork_pkey PRIMARY KEY (chain, seq);


--
-- Name: note note_pkey; Type: CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.note
    ADD CONSTRAINT note_pkey PRIMARY KEY (chain, seq);


--
-- Name: reading reading_pkey; Type: CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.reading
    ADD CONSTRAINT reading_pkey PRIMARY KEY (chain, seq, idx);


--
-- Name: gap_open; Type: INDEX; Schema: streembit; Owner: -
--

CREATE UNIQUE INDEX gap_open ON streembit.gap USING btree (chain, first_seq) WHERE (closed IS NULL);


--
-- Name: reading_series; Type: INDEX; Schema: streembit; Owner: -
--

CREATE INDEX reading_series ON streembit.reading USING btree (device, sensor, name, ts);


--
-- Name: reading_time; Type: INDEX; Schema: streembit; Owner: -
--

CREATE INDEX reading_time ON streembit.reading USING brin (ts);


--
-- Name: reading_unsynced; Type: INDEX; Schema: streembit; Owner: -
--

CREATE INDEX reading_unsynced ON streembit.reading USING btree (device, boot) WHERE (clock = 'unsynced'::text);


--
-- Name: chain chain_device_fkey; Type: FK CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.chain
    ADD CONSTRAINT chain_device_fkey FOREIGN KEY (device) REFERENCES streembit.device(id);


--
-- Name: checkpoint checkpoint_chain_fkey; Type: FK CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.checkpoint
    ADD CONSTRAINT checkpoint_chain_fkey FOREIGN KEY (chain) REFERENCES streembit.chain(id);


--
-- Name: fork fork_chain_fkey; Type: FK CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.fork
    ADD CONSTRAINT fork_chain_fkey FOREIGN KEY (chain) REFERENCES streembit.chain(id);


--
-- Name: gap gap_chain_fkey; Type: FK CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.gap
    ADD CONSTRAINT gap_chain_fkey FOREIGN KEY (chain) REFERENCES streembit.chain(id);


--
-- Name: note note_chain_fkey; Type: FK CONSTRAINT; Schema: streembit; Owner: -
--

ALTER TABLE ONLY streembit.note
    ADD CONSTRAINT note_chain_fkey FOREIGN KEY (chain) REFERENCES streembit.chain(id);


--
-- PostgreSQL database dump complete
--


