// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
)

// reader is a collector without its database: survey, fetch, prove, open.
type reader struct {
	node  *p2p.Node
	fleet *fleet.Fleet
	key   journal.ReaderKey
}

func openReader(ctx context.Context, s Spec) (client, error) {
	node, f, err := join(ctx, s.States[0], s.Fleet, false)
	if err != nil {
		return nil, err
	}
	key, err := fleet.LoadReaderKey(filepath.Join(s.States[0], "reader.pem"))
	return &reader{node: node, fleet: f, key: key}, err
}

func (r *reader) do(ctx context.Context, t Task, m *meter) error {
	sink := &counter{}
	c, err := collector.New(collector.Config{Source: r.node, Sink: sink, Fleet: func() *fleet.Fleet { return r.fleet },
		Key: r.key, Devices: t.Devices})
	if err != nil {
		return err
	}
	m.start()
	report, err := c.Pull(ctx)
	if err != nil {
		return err
	}
	got := int(sink.readings.Load())
	m.stop(got)
	if got != t.Readings || !report.Complete() {
		return fmt.Errorf("load: pulled %d readings of %d: %s", got, t.Readings, report)
	}
	return nil
}

func (r *reader) close() error { return r.node.Close() }

// counter is a sink that counts what it is given and keeps nothing.
type counter struct{ readings atomic.Int64 }

// Marks returns none: every pull begins at the start.
func (c *counter) Marks(context.Context) (map[journal.Chain]collector.Mark, error) { return nil, nil }

// Write counts.
func (c *counter) Write(_ context.Context, batch collector.Batch) error {
	c.readings.Add(int64(len(batch.Readings)))
	return nil
}

// Close does nothing.
func (c *counter) Close() error { return nil }

// crowd is many members in one process, each with a connection to every hub that the fleet's bootstrap list names.
type crowd struct{ nodes []*p2p.Node }

func openCrowd(ctx context.Context, s Spec) (client, error) {
	c := &crowd{}
	for _, state := range s.States {
		n, f, err := join(ctx, state, s.Fleet, false)
		if err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, n)
		for _, hub := range f.Hubs() {
			if _, err := n.Held(ctx, hub.Member, n.ID()); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

func (c *crowd) do(context.Context, Task, *meter) error { return nil }

func (c *crowd) close() (err error) {
	for _, n := range c.nodes {
		err = errors.Join(err, n.Close())
	}
	return err
}
