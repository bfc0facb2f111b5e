// SPDX-License-Identifier: Apache-2.0

package peers_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/streembit/edge/bench/peers/load"
	"github.com/streembit/edge/collector/sinktest"
)

// batches is how the collector's sinks are called in the report.
const batches = "collector's batches into "

// benchSinks writes rows as the collector does, beside each server's own bulk loader, which keeps no checkpoint. Tables and indexes, points and
// messages are the same.
func benchSinks(b *testing.B, e extent, r *report) {
	for _, section := range []struct {
		name string
		run  func(*testing.B, extent, *report)
	}{{"sqlite", sinkSQLite}, {"postgres", sinkPostgres}, {"mariadb", sinkMariaDB}, {"influxdb", sinkInfluxDB}, {"nats", sinkNATS}, {"mosquitto", sinkMosquitto}} {
		b.Run(section.name, func(b *testing.B) { section.run(b, e, r) })
	}
}

// beside lets both write in turns and judges their CPU.
func beside(b *testing.B, e extent, r *report, into string, sink *client, loader string, bulk *client) (readings int) {
	b.Helper()
	into = batches + into
	task := load.Task{Do: "write", Readings: e.of(200_000, 10_000)}
	for range e.rounds {
		r.add(loader, bulk.do(task))
		r.add(into, sink.do(task))
	}
	r.judge(goal{what: "rows into a server, CPU per reading, both ends", load: into + ", 10 000 a batch", ours: r.of(into, totalCPU),
		peer: loader, theirs: r.of(loader, totalCPU), unit: "µs"})
	return e.rounds * task.Readings
}

// needs leaves the section if a program is missing.
func (r *report) needs(b *testing.B, programs ...string) {
	b.Helper()
	for i := 0; i < len(programs); i += 2 {
		_, err := exec.LookPath(programs[i])
		if _, sbin := exec.LookPath("/usr/sbin/" + programs[i]); err != nil && sbin != nil {
			r.skip(b, "%s is missing: apt-get install --no-install-recommends %s", programs[i], programs[i+1])
		}
	}
}

func sinkSQLite(b *testing.B, e extent, r *report) {
	r.needs(b, "sqlite3", "sqlite3")
	dir := b.TempDir()
	wrote := beside(b, e, r, "SQLite", startClient(b, load.Spec{Role: "sqlite", Dir: dir}, nil),
		"sqlite3 .import into the same table", startClient(b, load.Spec{Role: "sqlite3", Dir: dir}, nil))
	for _, db := range []string{"readings.db", "bulk.db"} {
		out, err := exec.Command("sqlite3", filepath.Join(dir, db), "SELECT count(*) FROM reading").Output()
		must(b, err)
		holds(b, db, strings.TrimSpace(string(out)), wrote)
	}
}

// holds fails if a table has not what was written to it: some loaders only warn of rows that they leave out.
func holds(b *testing.B, what, got string, want int) {
	b.Helper()
	if got != strconv.Itoa(want) {
		b.Errorf("%s holds %s readings, want %d", what, got, want)
	}
}

func sinkPostgres(b *testing.B, e extent, r *report) {
	r.needs(b, "psql", "postgresql-client")
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb"); len(found) == 0 { // the pattern is right
		r.skip(b, "PostgreSQL is missing: apt-get install --no-install-recommends postgresql")
	}
	server := sinktest.NewServer(b)
	sink := startClient(b, load.Spec{Role: "postgres", Addr: server.DSN}, nil)
	bulk := startClient(b, load.Spec{Role: "psql", Addr: server.DSN, Dir: b.TempDir()}, nil)
	sink.tree, bulk.tree = server.PID(), server.PID()
	beside(b, e, r, "PostgreSQL", sink, "psql \\copy into the same table", bulk)
}

func sinkMariaDB(b *testing.B, e extent, r *report) {
	r.needs(b, "mariadbd", "mariadb-server", "mariadb-install-db", "mariadb-server", "mariadb", "mariadb-client")
	server := sinktest.MariaDB(b)
	sink, bulk := sinktest.MySQLDatabase(b, server), sinktest.MySQLDatabase(b, server)
	wrote := beside(b, e, r, "MariaDB", startClient(b, load.Spec{Role: "mysql", Addr: sink}, []int{server.PID()}), "mariadb LOAD DATA LOCAL INFILE into the same table",
		startClient(b, load.Spec{Role: "mariadb", Addr: bulk, Dir: b.TempDir()}, []int{server.PID()}))
	for _, dsn := range []string{sink, bulk} {
		holds(b, dsn, fmt.Sprint(sinktest.MySQLQuery(b, dsn, "SELECT count(*) FROM reading")[0][0]), wrote)
	}
}

func sinkInfluxDB(b *testing.B, e extent, r *report) {
	r.needs(b, "influxd", "influxdb", "influx", "influxdb-client")
	server := sinktest.InfluxDB(b)
	const user, password = "admin", "right-one"
	host, port, _ := strings.Cut(server.Addr, ":")
	for _, q := range []string{"CREATE USER " + user + " WITH PASSWORD '" + password + "' WITH ALL PRIVILEGES", "CREATE DATABASE readings", "CREATE DATABASE bulk"} {
		cmd := exec.Command("influx", "-host", host, "-port", port, "-execute", q)
		cmd.Env = append(os.Environ(), "INFLUX_USERNAME="+user, "INFLUX_PASSWORD="+password)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.Fatalf("influx: %v: %s", err, out)
		}
	}
	spec := load.Spec{Role: "influx", Addr: server.Addr, User: user, Password: password, Dir: b.TempDir()}
	sink := startClient(b, spec, []int{server.PID()})
	spec.Role = "influx-import"
	beside(b, e, r, "InfluxDB", sink, "influx -import of the same points", startClient(b, spec, []int{server.PID()}))
}

func sinkNATS(b *testing.B, e extent, r *report) {
	r.needs(b, "nats-server", "nats-server")
	server := sinktest.NATS(b, "")
	beside(b, e, r, "NATS JetStream", startClient(b, load.Spec{Role: "nats", Addr: server.Addr, Dir: b.TempDir()}, []int{server.PID()}),
		"nats.go async, the same messages made before", startClient(b, load.Spec{Role: "natsplain", Addr: server.Addr}, []int{server.PID()}))
	r.note("NATS has no bulk loader, and Debian not its CLI: nats.go publishes the packs of SenML that the sink would make, 100 in flight, into a stream of its own.")
}

func sinkMosquitto(b *testing.B, e extent, r *report) {
	r.needs(b, "mosquitto", "mosquitto", "mosquitto_pub", "mosquitto-clients")
	server := sinktest.Mosquitto(b, "allow_anonymous true")
	beside(b, e, r, "mosquitto", startClient(b, load.Spec{Role: "mqttsink", Addr: server.Addr, Dir: b.TempDir()}, []int{server.PID()}),
		"mosquitto_pub -l, the same messages made before", startClient(b, load.Spec{Role: "mosquitto_pub", Addr: server.Addr, Dir: b.TempDir()}, []int{server.PID()}))
}

// cpuBelow returns what a process and all below it have used, those included that have ended and were waited for.
func cpuBelow(b *testing.B, pid int) (sum time.Duration) {
	b.Helper()
	if pid == 0 {
		return 0
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	must(b, err)
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+2:]))
		counted := fields[11:13] // utime and stime
		if file == fmt.Sprintf("/proc/%d/stat", pid) {
			counted = fields[11:15] // and those of its ended children
		} else if fields[1] != strconv.Itoa(pid) {
			continue
		}
		for _, f := range counted {
			ticks, err := strconv.ParseInt(f, 10, 64)
			must(b, err)
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}
