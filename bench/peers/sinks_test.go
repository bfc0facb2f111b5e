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

const (
	intoSQLite   = "collector's batches into SQLite"
	intoPostgres = "collector's batches into PostgreSQL"
	bulkLoad     = "psql \\copy into the same table"
)

// benchSinks writes rows as the collector does, beside PostgreSQL's own bulk loader, which keeps no checkpoint and refuses the whole file for one row
// that is there already. Table and indexes are the same.
func benchSinks(b *testing.B, e extent, r *report) {
	if _, err := exec.LookPath("psql"); err != nil {
		r.skip(b, "psql is missing: apt-get install postgresql-client (%v)", err)
	}
	server := sinktest.NewServer(b)
	dir := b.TempDir()
	lite := startClient(b, load.Spec{Role: "sqlite", Dir: dir}, nil)
	post := startClient(b, load.Spec{Role: "postgres", Addr: server.DSN}, nil)
	bulk := startClient(b, load.Spec{Role: "psql", Addr: server.DSN, Dir: dir}, nil)
	post.tree, bulk.tree = server.PID(), server.PID()
	readings := e.of(200_000, 10_000)
	for range e.rounds {
		for _, s := range []side{{intoSQLite, lite, load.Task{Do: "write", Readings: readings}},
			{bulkLoad, bulk, load.Task{Do: "write", Readings: readings}}, {intoPostgres, post, load.Task{Do: "write", Readings: readings}}} {
			r.add(s.name, s.c.do(s.task))
		}
	}
	for _, name := range []string{intoSQLite, intoPostgres} {
		r.judge(goal{what: "rows into a database, CPU per reading, both ends", load: name + ", 10 000 a batch", ours: r.of(name, totalCPU),
			peer: bulkLoad, theirs: r.of(bulkLoad, totalCPU), unit: "µs"})
	}
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
