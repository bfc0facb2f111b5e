// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/mem"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/transporttest"
)

// disk is a hub's store; both the one in memory and the one on disk are.
type disk interface {
	transport.Store
	repair.Local
}

// rig is hubs of one fleet on a network in memory, within a synctest bubble.
type rig struct {
	*transporttest.World
	net  *mem.Network
	hubs map[edge.ID]*hub
	segs []*journal.Segment
}

type hub struct {
	key     journal.SoftKey
	disk    disk
	counted *counted
	node    *mem.Node
	*repair.Repairer
	stop func()
}

// counted is a hub's disk that counts what repair brings.
type counted struct {
	disk
	bytes atomic.Int64
}

func (c *counted) PutDated(ctx context.Context, segment []byte, received int64) error {
	c.bytes.Add(int64(len(segment)))
	return c.disk.PutDated(ctx, segment, received)
}

func newRig(t *testing.T, w *transporttest.World) *rig {
	t.Helper()
	r := &rig{World: w, net: mem.NewNetwork(w.Fleet), hubs: map[edge.ID]*hub{}}
	for _, k := range w.Hubs {
		r.join(t, k, transporttest.NewStore(w.Fleet, 0))
	}
	t.Cleanup(func() {
		for _, h := range r.hubs {
			h.stop()
		}
	})
	return r
}

// join brings a hub up with a store, without repair.
func (r *rig) join(t *testing.T, key journal.SoftKey, d disk) *hub {
	t.Helper()
	if old := r.hubs[key.ID()]; old != nil {
		old.stop()
	}
	c := &counted{disk: d}
	h := &hub{key: key, disk: d, counted: c, node: r.net.Join(key.ID(), d), stop: func() {}}
	r.hubs[key.ID()] = h
	return h
}

// repair starts the hub's repairer.
func (r *rig) repair(t *testing.T, h *hub, change ...func(*repair.Options)) {
	t.Helper()
	o := repair.Options{Self: h.key.ID(), Fleet: r.Fleet, Local: h.counted, Peers: h.node}
	for _, f := range change {
		f(&o)
	}
	var err error
	if h.Repairer, err = repair.New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Errorf("repairing: %v", err)
		}
	})
	h.stop = func() { cancel(); running.Wait() }
}

func (r *rig) repairAll(t *testing.T, change ...func(*repair.Options)) {
	t.Helper()
	for _, h := range r.hubs {
		r.repair(t, h, change...)
	}
}

// publish puts segments where they belong, as a device does that has all hubs.
func (r *rig) publish(t *testing.T, segs ...*journal.Segment) {
	t.Helper()
	for _, s := range segs {
		for _, id := range r.place(s) {
			if err := r.hubs[id].disk.Put(t.Context(), s.Bytes()); err != nil {
				t.Fatalf("publishing seq %d: %v", s.Seq, err)
			}
		}
	}
	r.segs = append(r.segs, segs...)
}

func (r *rig) place(s *journal.Segment) []edge.ID {
	var ids []edge.ID
	for _, h := range r.Fleet().Hubs() {
		ids = append(ids, h.Member)
	}
	return transport.Place(s.Chain.Bucket(s.Seq).Key(), ids)
}

// has asks a disk itself.
func (h *hub) has(t *testing.T, s *journal.Segment) bool {
	t.Helper()
	found := false
	err := h.disk.FetchDated(t.Context(), s.Chain, transport.Span{First: s.Seq, Last: s.Seq}, func([]byte, int64) error { found = true; return nil })
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// missing counts the copies that are not where they belong, and the segments of which there is none at all.
func (r *rig) missing(t *testing.T) (copies, lost int, bytes int64) {
	t.Helper()
	for _, s := range r.segs {
		there := 0
		place := r.place(s)
		for _, id := range place {
			if h := r.hubs[id]; h != nil && h.has(t, s) {
				there++
			}
		}
		copies += len(place) - there
		bytes += int64(len(place)-there) * int64(len(s.Bytes()))
		if there == 0 && !slices.ContainsFunc(slices.Collect(maps.Values(r.hubs)), func(h *hub) bool { return h.has(t, s) }) {
			lost++
		}
	}
	return copies, lost, bytes
}

// whole waits, in the bubble's time, until all copies are where they belong.
func (r *rig) whole(t *testing.T, within time.Duration) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		copies, lost, _ := r.missing(t)
		if copies == 0 {
			return time.Since(began)
		}
		if time.Since(began) > within {
			for _, h := range r.hubs {
				if s := h.Repairer; s != nil && h.Stats().Lacking > 0 {
					t.Logf("hub %s: %+v", h.key.ID().Short(), h.Stats())
				}
			}
			t.Fatalf("%d copies are missing after %s, %d segments lost", copies, within, lost)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
	}
}

// replace puts another hub, with nothing, in the place of one.
func (r *rig) replace(t *testing.T, id edge.ID) *hub {
	t.Helper()
	r.hubs[id].stop()
	r.net.Kill(id)
	delete(r.hubs, id)
	key := transporttest.NewKey(t)
	r.Revoke(t, id)
	r.Grant(t, fleet.Grant{Member: key.ID(), Name: fmt.Sprintf("hub-%x", key.ID().Bytes()[30:]), Roles: fleet.Hub})
	return r.join(t, key, transporttest.NewStore(r.Fleet, 0))
}
