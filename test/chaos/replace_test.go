// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/mem"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/transporttest"
)

// TestHubsReplaced replaces half of 40 hubs by empty ones, round after round and the other half the next time, the device being gone since before
// the first. In every other round they are new members, and those that they replace are revoked.
func TestHubsReplaced(t *testing.T) {
	t.Parallel() // it waits most of the time
	tr := begin(t, "half of 40 hubs replaced by empty ones, the device is gone, repair on", 4, 8)
	tr.main = replace(tr, tr.rounds, true)
	tr.controlled = "repair off"
	tr.control = replace(tr, 2, false)
	tr.end()
}

func replace(tr *trial, rounds int, mended bool) outcome {
	tr.Helper()
	l := newLab(tr.T, plan{hubs: 40, devices: 1})
	d := l.newDevice(0, byTheBook)
	segments := 640 // each is verified some 40 times under the race detector
	if long() {
		segments = 2000
	}
	d.seal(segments)
	d.awaitPublished()
	tip := d.box.Status().Tips["main"]
	chain := d.box.Status().Streams["main"]
	d.gone()
	var r *repairs
	if mended {
		r = startRepairs(l)
		defer r.stop()
	}
	var order []int // two rounds replace every hub
	for round := range rounds {
		began := time.Now()
		if round%2 == 0 {
			order = tr.rng.Perm(len(l.hub))
		}
		var lost []*hub
		for _, i := range order[round%2*len(l.hub)/2:][:len(l.hub)/2] {
			lost = append(lost, l.hub[i])
		}
		for _, h := range lost { // all are away before the first comes back
			r.end(h)
			l.kill(h)
			l.empty(h)
		}
		if round%2 == 1 {
			l.renew(lost)
		}
		for _, h := range lost {
			l.revive(h)
			r.begin(h)
		}
		if mended {
			r.kick()
			r.awaitCopies(chain, tip.Seq)
			tr.Logf("round %d: repaired in %s", round, time.Since(began).Round(time.Millisecond))
		}
	}
	o, _ := l.pull(d)
	return o
}

// renew makes hubs, which are down, new members, and revokes those that they were.
func (l *lab) renew(hubs []*hub) {
	l.Helper()
	var grants []fleet.Grant
	for _, h := range hubs {
		old := h.key.ID()
		g, _ := l.world.Fleet().Member(old)
		h.key = transporttest.NewKey(l)
		g.Member = h.key.ID()
		g.Name = fmt.Sprintf("hub-%x", g.Member[:8])
		grants = append(grants, g)
		l.world.Revoke(l, old)
	}
	l.world.Grant(l, grants...)
	for _, h := range hubs { // a store names its hub
		check(l, h.store.Close())
		h.store = l.openStore(h)
	}
}

// awaitCopies waits until each segment of a chain is on all hubs of its bucket.
func (r *repairs) awaitCopies(c journal.Chain, last uint64) {
	r.lab.Helper()
	awaitProgress(r.lab, "all copies", func() (int, string) {
		lacking, of := r.lab.lacking(c, last)
		if of == nil {
			return 0, ""
		}
		st := r.all[of].Stats()
		st.Peers = nil
		return lacking, fmt.Sprintf("%d copies are lacking, for example of a hub whose repair says %+v", lacking, st)
	})
}

// lacking counts the copies of a chain that the hubs of its buckets do not hold, and returns the last of those hubs, nil for none.
func (l *lab) lacking(c journal.Chain, last uint64) (n int, of *hub) {
	l.Helper()
	byID, ids := map[edge.ID]*hub{}, []edge.ID{}
	for _, h := range l.hub {
		byID[h.key.ID()], ids = h, append(ids, h.key.ID())
	}
	for first := uint64(0); first <= last; first += journal.BucketSize {
		for _, id := range transport.Place(c.Bucket(first).Key(), ids) {
			end := min(last, first+journal.BucketSize-1)
			lacks := end - first + 1
			held, err := byID[id].store.Held(l.Context(), c.Device)
			check(l, err)
			for _, h := range held {
				for _, s := range h.Spans {
					if h.Chain == c && s.First <= end && s.Last >= first {
						lacks -= min(s.Last, end) - max(s.First, first) + 1
					}
				}
			}
			if lacks > 0 {
				n, of = n+int(lacks), byID[id]
			}
		}
	}
	return n, of
}

// repairs is a Repairer for each hub that is up. nil: none.
type repairs struct {
	lab *lab
	all map[*hub]*repairing
}

type repairing struct {
	*repair.Repairer
	stop context.CancelFunc
	done sync.WaitGroup
}

func startRepairs(l *lab) *repairs {
	r := &repairs{lab: l, all: map[*hub]*repairing{}}
	for _, h := range l.hub {
		r.begin(h)
	}
	return r
}

func (r *repairs) begin(h *hub) {
	if r == nil {
		return
	}
	r.lab.Helper()
	rep, err := repair.New(repair.Options{Self: h.key.ID(), Fleet: r.lab.world.Fleet, Local: h.store, Peers: h.node.(*mem.Node),
		Rate: 1 << 30, Every: time.Second, Settle: 50 * time.Millisecond})
	check(r.lab, err)
	ctx, cancel := context.WithCancel(context.Background())
	w := &repairing{Repairer: rep, stop: cancel}
	w.done.Go(func() { _ = rep.Run(ctx) }) // it returns nil
	r.all[h] = w
}

func (r *repairs) end(h *hub) {
	if r == nil {
		return
	}
	r.all[h].stop()
	r.all[h].done.Wait()
	delete(r.all, h)
}

func (r *repairs) kick() {
	for _, w := range r.all {
		w.Kick()
	}
}

func (r *repairs) stop() {
	for h := range r.all {
		r.end(h)
	}
}
