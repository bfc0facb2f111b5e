// SPDX-License-Identifier: Apache-2.0

package collector_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/transport"
)

// common is a database in memory that several collectors write to, and that knows which of them are there.
type common struct {
	*memory
	wrote atomic.Int64 // batches, by whom it is that holds this one
	list  *list
}

type list struct {
	mu   sync.Mutex
	seen map[string]time.Time
}

func (c *common) Write(ctx context.Context, b collector.Batch) error {
	c.wrote.Add(1)
	return c.memory.Write(ctx, b)
}

func (c *common) Present(_ context.Context, who string, within time.Duration) ([]string, error) {
	c.list.mu.Lock()
	defer c.list.mu.Unlock()
	c.list.seen[who] = time.Now()
	return slices.DeleteFunc(slices.Collect(maps.Keys(c.list.seen)), func(w string) bool { return time.Since(c.list.seen[w]) > within }), nil
}

func (c *common) Absent(_ context.Context, who string) error {
	c.list.mu.Lock()
	defer c.list.mu.Unlock()
	delete(c.list.seen, who)
	return nil
}

// cable is a way to the hubs that can be cut.
type cable struct {
	crowded
	mu  sync.Mutex
	cut chan struct{} // closed: it is
}

func (c *cable) isCut() chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

func (c *cable) Follow(ctx context.Context, hub edge.ID, visit func(transport.Held) error) error {
	select {
	case <-c.isCut():
		return transport.ErrUnreachable
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.crowded.Follow(ctx, hub, visit) }()
	select {
	case err := <-ended:
		return err
	case <-c.isCut():
		cancel()
		return errors.Join(transport.ErrUnreachable, <-ended)
	}
}

// TestShare: two collectors share the devices of one database; who reaches no hub any more gives his up, and who leaves too; what hubs are told covers
// what the other one wrote.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(2, 12)
		var devices []*device
		for i := range 12 {
			d := w.device(i)
			d.epoch(nil)
			d.readings(2, 1)
			w.publish(d.all...)
			devices = append(devices, d)
		}
		db, here := newMemory(), &list{seen: map[string]time.Time{}}
		one, two := &common{memory: db, list: here}, &common{memory: db, list: here}
		line := &cable{crowded: crowded{w}, cut: make(chan struct{})}
		follow := func(sink collector.Sink, src collector.Source, change ...func(*collector.Config)) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error)
			c := w.collector(t, sink, append(change, func(c *collector.Config) { c.Source = src })...)
			go func() { done <- c.Follow(ctx, func(collector.Report) {}) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		stopOne := follow(one, line)
		time.Sleep(5 * time.Second)
		stopTwo := follow(two, crowded{w}, signing) // it alone tells the hubs
		time.Sleep(5 * time.Second)
		publish := func(what string, wait time.Duration) (first, second int64) {
			t.Helper()
			before := [2]int64{one.wrote.Load(), two.wrote.Load()}
			for _, d := range devices {
				w.publish(d.readings(1, 1)...)
			}
			time.Sleep(wait)
			db.mu.Lock()
			t.Log(what)
			same(t, db.rows, w.made)
			db.mu.Unlock()
			return one.wrote.Load() - before[0], two.wrote.Load() - before[1]
		}
		if a, b := publish("both are there", time.Second); a < 2 || b < 2 || a+b != 12 {
			t.Errorf("one wrote %d batches, two %d, want 12 in all", a, b)
		}
		time.Sleep(3 * time.Minute)
		for _, d := range devices {
			w.wantMark(t, d, len(d.all)-1, w.hubs...)
		}
		close(line.cut)
		synctest.Wait()
		if a, b := publish("one reaches no hub", 10*time.Second); a != 0 || b != 12 {
			t.Errorf("one wrote %d batches, two %d, want all 12", a, b)
		}
		line.mu.Lock()
		line.cut = make(chan struct{})
		line.mu.Unlock()
		time.Sleep(3 * time.Minute)
		if a, b := publish("one is back", time.Second); a < 2 || b < 2 || a+b != 12 {
			t.Errorf("one wrote %d batches, two %d, want 12 in all", a, b)
		}
		stopTwo()
		time.Sleep(1500 * time.Millisecond) // it said goodbye: nobody waits for the list to forget it
		if a, b := publish("two has left", time.Second); a != 12 || b != 0 {
			t.Errorf("one wrote %d batches, two %d, want all 12", a, b)
		}
		stopOne()
	})
}
