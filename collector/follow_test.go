// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/transport"
)

// Follow says what the hub holds, then what it gets, as the real one does.
func (w *world) Follow(ctx context.Context, hub edge.ID, visit func(transport.Held) error) error {
	held, err := w.Held(ctx, hub, edge.ID{})
	if err != nil {
		return err
	}
	events := make(chan transport.Held, 10_000)
	w.mu.Lock()
	w.follows[hub] = events
	w.mu.Unlock()
	for _, h := range held {
		if err := visit(h); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h, ok := <-events:
			if !ok {
				return transport.ErrUnreachable
			}
			if err := visit(h); err != nil {
				return err
			}
		}
	}
}

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(3, 2)
		d := w.device(0)
		d.epoch(nil)
		w.publish(d.readings(3, 2)...)
		w.publish(d.all[0])
		sink := newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		var reports []collector.Report
		c := w.collector(t, sink)
		go func() { done <- c.Follow(ctx, func(r collector.Report) { reports = append(reports, r) }) }()
		arrived := func(what string) {
			t.Helper()
			synctest.Wait()
			sink.mu.Lock()
			defer sink.mu.Unlock()
			t.Log(what)
			same(t, sink.rows, w.made)
		}
		arrived("the first pull")
		for range 5 {
			w.publish(d.readings(2, 3)...)
			arrived("new segments of a known chain")
		}
		other := w.device(1)
		other.epoch(nil)
		other.readings(4, 1)
		w.publish(other.all...)
		arrived("a new chain")
		before := w.fetches
		time.Sleep(24 * time.Hour) // nothing happens, so nothing is asked
		if w.fetches != before {
			t.Errorf("%d fetches in a quiet day", w.fetches-before)
		}
		// A hub is lost; what only it gets meanwhile arrives when it is back.
		w.mu.Lock()
		close(w.follows[w.hubs[0]])
		delete(w.follows, w.hubs[0])
		w.down[w.hubs[0]] = transport.ErrUnreachable
		w.mu.Unlock()
		synctest.Wait()
		for _, s := range d.readings(2, 1) {
			w.store(w.hubs[0], s)
		}
		w.mu.Lock()
		delete(w.down, w.hubs[0])
		w.mu.Unlock()
		time.Sleep(3 * time.Minute)
		arrived("after the hub came back")
		// The sink fails for a while.
		sink.mu.Lock()
		sink.fail = context.DeadlineExceeded
		sink.mu.Unlock()
		w.publish(d.readings(2, 1)...)
		synctest.Wait()
		sink.mu.Lock()
		sink.fail = nil
		sink.mu.Unlock()
		time.Sleep(3 * time.Minute)
		arrived("after the sink came back")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if len(reports) < 7 {
			t.Errorf("%d reports", len(reports))
		}
	})
}
