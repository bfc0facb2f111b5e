// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"path/filepath"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/influx"
	"github.com/streembit/edge/collector/mqtt"
	"github.com/streembit/edge/collector/mysql"
	"github.com/streembit/edge/collector/nats"
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
	checkpoints := filepath.Join(s.Dir, "checkpoints.db")
	var err error
	switch s.Role {
	case "sqlite":
		c.to, err = sqlite.Open(ctx, filepath.Join(s.Dir, "readings.db"))
	case "postgres":
		c.to, err = postgres.Open(ctx, s.Addr, "")
	case "mysql":
		c.to, err = mysql.Open(ctx, s.Addr, "")
	case "influx":
		c.to, err = influx.Open(ctx, influx.Config{URL: "http://" + s.Addr, Database: "readings", User: s.User, Password: s.Password}, checkpoints)
	case "nats":
		c.to, err = nats.Open(ctx, nats.Config{URL: "nats://" + s.Addr}, checkpoints)
	case "mqttsink":
		c.to, err = mqtt.Open(ctx, mqtt.Config{URL: "mqtt://" + s.Addr, ClientID: "collector"}, checkpoints)
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
