// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/collector"
)

// TestFollow_AsksAgain: what hubs told of and could not give at that moment arrives, though nobody tells of it again. What never comes is asked for ever more seldom,
// and what no hub claims not at all.
func TestFollow_AsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, 1)
		d := w.device(0)
		d.epoch(nil)
		d.readings(3, 2)
		w.publish(d.all[:2]...)
		sink := newMemory()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		c := w.collector(t, sink)
		go func() { done <- c.Follow(ctx, func(collector.Report) {}) }()
		synctest.Wait()
		busy := d.all[2]
		for _, h := range w.hubs {
			w.put(h, busy.Chain, busy.Seq, nil)
		}
		w.publish(d.all[3])
		synctest.Wait()
		missing := func() int {
			sink.mu.Lock()
			defer sink.mu.Unlock()
			return len(w.made) - len(sink.rows)
		}
		if missing() != 2 {
			t.Fatalf("%d readings are missing, want those of one segment", missing())
		}
		fetches := func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.fetches
		}
		before := fetches()
		time.Sleep(24 * time.Hour)
		if n := fetches() - before; n == 0 || n > 4*24*6 {
			t.Errorf("asked %d times in a day", n)
		}
		w.mu.Lock()
		for _, h := range w.hubs {
			w.stores[h][busy.Chain][busy.Seq] = busy.Bytes()
		}
		w.mu.Unlock()
		time.Sleep(11 * time.Minute)
		if missing() != 0 {
			t.Errorf("%d readings are still missing", missing())
		}
		before = fetches()
		time.Sleep(24 * time.Hour)
		if n := fetches() - before; n != 0 {
			t.Errorf("asked %d times for nothing", n)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
