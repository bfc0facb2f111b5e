// SPDX-License-Identifier: Apache-2.0

package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/postgres"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/journal"
)

// batchRows is what the collector hands to a sink at once.
const batchRows = 10_000

// sink writes batches as the collector does, a segment of 1 000 readings after the other.
type sink struct {
	to    collector.Sink
	chain journal.Chain
	seq   uint64
}

func openSink(ctx context.Context, s Spec) (client, error) {
	c := &sink{chain: journal.Chain{Stream: "main"}}
	c.chain.Device[0] = 1
	var err error
	if s.Role == "sqlite" {
		c.to, err = sqlite.Open(ctx, filepath.Join(s.Dir, "readings.db"))
	} else {
		c.to, err = postgres.Open(ctx, s.Addr, "")
	}
	return c, err
}

func (c *sink) do(ctx context.Context, t Task, m *meter) error {
	rows := weather()
	m.start()
	for left := t.Readings; left > 0; left -= batchRows {
		b := collector.Batch{Chain: c.chain, Name: "bench", From: c.seq, Received: time.Now(), Readings: make([]collector.Row, 0, batchRows)}
		for i := range min(left, batchRows) {
			b.Readings = append(b.Readings, collector.Row{Seq: c.seq + uint64(i/1000), Index: i % 1000, Boot: journal.BootID{1}, Reading: rows[i%pool]})
		}
		b.To = c.seq + uint64((len(b.Readings)-1)/1000)
		b.Mark = &journal.Link{Seq: b.To, Hash: journal.Hash{1, byte(b.To), byte(b.To >> 8), byte(b.To >> 16)}}
		if err := c.to.Write(ctx, b); err != nil {
			return err
		}
		c.seq = b.To + 1
	}
	m.stop(t.Readings)
	return nil
}

func (c *sink) close() error { return c.to.Close() }

// copier is PostgreSQL's own bulk loader: psql reads a CSV file that is there before the clock starts into a table of the same form, keys and indexes.
type copier struct {
	dsn, dir string
	seq      int
}

func openCopier(s Spec) (client, error) {
	c := &copier{dsn: s.Addr, dir: s.Dir}
	_, err := c.psql("CREATE TABLE IF NOT EXISTS public.bulk (LIKE streembit.reading INCLUDING ALL)")
	return c, err
}

func (c *copier) psql(command string) (time.Duration, error) {
	cmd := exec.Command("psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--command="+command, c.dsn)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("load: psql: %w: %s", err, out)
	}
	return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
}

func (c *copier) do(_ context.Context, t Task, m *meter) error {
	file := filepath.Join(c.dir, "bulk.csv")
	if err := c.write(file, t.Readings); err != nil {
		return err
	}
	m.start()
	cpu, err := c.psql(`\copy public.bulk FROM '` + file + `' CSV`)
	if err != nil {
		return err
	}
	m.stop(t.Readings)
	m.r.CPU += cpu
	return nil
}

func (c *copier) write(file string, n int) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := bufio.NewWriter(f)
	device, boot, recv := edge.ID{1}.String(), journal.BootID{1}.String(), time.Now().UTC().Format(time.RFC3339)
	rows := weather()
	for i := range n {
		r := &rows[i%pool]
		fmt.Fprintf(w, "%s,%s,%s,%s,%s,%g,,,1,%d,%d,%s,%d,synced,%s\n", device, r.Sensor, r.Quantity.Name, r.Unit,
			r.At.Time().Format("2006-01-02T15:04:05.000Z"), r.Value, c.seq+i/1000, i%1000, boot, r.At.Mono, recv) // w keeps its first error
	}
	c.seq += (n-1)/1000 + 1
	return w.Flush()
}

func (c *copier) close() error { return nil }
