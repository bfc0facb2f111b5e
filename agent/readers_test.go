// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/transporttest"
)

// values is a sink that keeps the numbers, and the marks as sinks do.
type values struct {
	mu    sync.Mutex
	got   map[float64]bool
	marks map[journal.Chain]collector.Mark
}

func newValues() *values {
	return &values{got: map[float64]bool{}, marks: map[journal.Chain]collector.Mark{}}
}

func (v *values) Marks(context.Context) (map[journal.Chain]collector.Mark, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return maps.Clone(v.marks), nil
}

func (v *values) Write(_ context.Context, b collector.Batch) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.marks[b.Chain]
	move, err := b.Advance(m.Link)
	if err != nil {
		return err
	}
	m.Gaps = b.Regap(m.Gaps, m.Link).Apply(m.Gaps)
	if move {
		m.Link = b.Mark
	}
	v.marks[b.Chain] = m
	for _, r := range b.Readings {
		v.got[r.Value] = true
	}
	return nil
}

func (v *values) Close() error { return nil }

// has reports how many of the readings first+1 … first+n are there.
func (v *values) has(first, n int) (count int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := range n {
		if v.got[float64(first+i+1)] {
			count++
		}
	}
	return count
}

// The whole way, from the sensor through a real outbox and real stores to collectors: who is removed reads nothing that is sealed afterwards, who
// comes reads from then on, and the rest once another reader hands the keys on.
func TestReaders_RemovedAndNewOnTheWholeWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.close()
		stays, goes, comes := transporttest.NewKey(t), transporttest.NewKey(t), transporttest.NewKey(t)
		keys := map[*journal.SoftKey]journal.ReaderKey{}
		grant := func(name string, who *journal.SoftKey) {
			k, err := journal.GenerateReaderKey()
			check(t, err)
			keys[who] = k
			c.Grant(t, fleet.Grant{Member: who.ID(), Name: name, Roles: fleet.Collector, Reader: k.Public(),
				Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"main"}}}})
		}
		config := func(who *journal.SoftKey, sink collector.Sink) collector.Config {
			return collector.Config{Source: c, Sink: sink, Fleet: c.Fleet, Key: keys[who], Reader: who.ID()}
		}
		pull := func(who *journal.SoftKey, sink collector.Sink) {
			t.Helper()
			cfg := config(who, sink)
			if !c.Fleet().May(who.ID(), fleet.Read, c.Devices[0].ID(), "main") {
				cfg.Reader = c.Reader.ID() // it heeds nothing and somebody serves it
			}
			one, err := collector.New(cfg)
			check(t, err)
			_, err = one.Pull(t.Context())
			check(t, err)
		}
		grant("stays", &stays)
		grant("goes", &goes)
		a, stop := c.device(t.TempDir(), 1000)
		time.Sleep(30 * time.Second)
		gone := time.Now()
		c.Grant(t, fleet.Grant{Member: goes.ID(), Name: "goes", Roles: fleet.Device}) // no reader any more
		a.FleetChanged()
		time.Sleep(30 * time.Second)
		grant("comes", &comes)
		a.FleetChanged()
		time.Sleep(30 * time.Second)
		stop()
		if time.Since(gone) < time.Minute {
			t.Fatal("the clock does not run")
		}
		sinks := map[*journal.SoftKey]*values{}
		for _, who := range []*journal.SoftKey{&stays, &goes, &comes} {
			sinks[who] = newValues()
			pull(who, sinks[who])
		}
		// A batch lasts five seconds; what was not sealed when a reader went or came is sealed for those who read then.
		if n := sinks[&stays].has(1000, 85); n != 85 {
			t.Errorf("who reads all the time has %d of 85", n)
		}
		if n := sinks[&goes].has(1000, 24); n != 24 {
			t.Errorf("who went has %d of the 24 sealed before", n)
		}
		if n := sinks[&goes].has(1030, 60); n != 0 {
			t.Errorf("who went reads %d of what was sealed after", n)
		}
		if before, after := sinks[&comes].has(1000, 54), sinks[&comes].has(1062, 20); before != 0 || after != 20 {
			t.Errorf("who came reads %d from before and %d of 20 from after", before, after)
		}
		done, err := collector.Rewrap(t.Context(), config(&stays, nil), collector.Rewrapping{Signer: stays, To: comes.ID(),
			Publish: func(ctx context.Context, seg *journal.Segment) error {
				for hub := range c.stores {
					if err := c.Put(ctx, hub, seg.Bytes()); err != nil {
						return err
					}
				}
				return nil
			}})
		check(t, err)
		pull(&comes, sinks[&comes])
		if n := sinks[&comes].has(1000, 85); n != 85 || done.Handed != 2 || done.Had != 1 {
			t.Errorf("with the keys of %+v it has %d of 85", done, n)
		}
	})
}
