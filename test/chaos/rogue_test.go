// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
)

// rogue is a hub's store that is honest until it turns.
type rogue struct {
	transport.Store
	kind  string
	fleet journal.FleetID

	mu     sync.Mutex
	turned bool
	old    []transport.Held         // when it turned
	claims map[journal.Chain]uint64 // the highest seq that it acknowledged since
}

// The kinds of rogues.
const (
	drops  = "acks and drops"
	stale  = "serves old heads"
	floods = "floods"
	frozen = "is frozen"
)

func (r *rogue) turn(ctx context.Context) error {
	old, err := r.Store.Held(ctx, edge.ID{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.turned, r.old, r.claims = true, old, map[journal.Chain]uint64{}
	return err
}

func (r *rogue) is(kind string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.turned && r.kind == kind
}

// Put implements transport.Keeper.
func (r *rogue) Put(ctx context.Context, segment []byte) error {
	switch {
	case r.is(frozen):
		<-ctx.Done()
		return ctx.Err()
	case !r.is(drops):
		return r.Store.Put(ctx, segment)
	}
	seg, err := journal.Open(segment, r.fleet)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.claims[seg.Chain] = max(r.claims[seg.Chain], seg.Seq)
	return nil
}

// Held implements transport.Shelf.
func (r *rogue) Held(ctx context.Context, device edge.ID) ([]transport.Held, error) {
	held, err := r.Store.Held(ctx, device)
	switch {
	case r.is(frozen):
		<-ctx.Done()
		return nil, ctx.Err()
	case r.is(stale):
		return r.old, nil
	case r.is(floods):
		return append(held, r.noise(held)...), err
	case r.is(drops):
		r.mu.Lock()
		defer r.mu.Unlock()
		for i, h := range held {
			if last := r.claims[h.Chain]; last > 0 {
				held[i].Spans = []transport.Span{{First: 0, Last: last}}
			}
		}
	}
	return held, err
}

// noise is chains that nobody ever wrote, as long as a chain can be.
func (r *rogue) noise(like []transport.Held) (all []transport.Held) {
	for _, h := range like {
		for range 1000 {
			_, _ = rand.Read(h.Chain.Incarnation[:]) // it does not fail
			all = append(all, transport.Held{Chain: h.Chain, Spans: []transport.Span{{First: 0, Last: 1 << 40}}})
		}
	}
	return all
}

// Fetch implements transport.Shelf.
func (r *rogue) Fetch(ctx context.Context, c journal.Chain, span transport.Span, visit func([]byte) error) error {
	switch {
	case r.is(frozen):
		<-ctx.Done()
		return ctx.Err()
	case r.is(floods):
		garbage := bytes.Repeat([]byte{0xd2}, 60<<10)
		for ctx.Err() == nil {
			if err := visit(garbage); err != nil {
				return err
			}
		}
		return ctx.Err()
	case r.is(stale):
		for _, h := range r.old {
			if last, ok := h.Last(); ok && h.Chain == c {
				return r.Store.Fetch(ctx, c, transport.Span{First: span.First, Last: min(span.Last, last)}, visit)
			}
		}
		return nil
	}
	return r.Store.Fetch(ctx, c, span, visit)
}

// TestRogueHubs has one hub of five turn rogue while a device publishes; of the four honest ones one dies before anybody pulls. The control's fleet
// has the rogue only.
func TestRogueHubs(t *testing.T) {
	for _, kind := range []string{drops, stale, floods, frozen} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel() // they wait for limits most of the time
			tr := begin(t, "one hub of five "+kind, 1, 5)
			tr.controlled = "only that hub"
			t.Run("arms", func(t *testing.T) { // ends when both have
				t.Run("trial", func(t *testing.T) {
					t.Parallel()
					for range tr.rounds {
						tr.main.add(beside(tr.with(t), kind))
					}
				})
				t.Run("control", func(t *testing.T) {
					t.Parallel()
					tr.control = only(tr.with(t), kind)
				})
			})
			tr.end()
		})
	}
}

// The most that a rogue may cost a collector beside the others: what a frozen hub's answers may take, and memory.
const (
	longestPull = 2 * time.Minute
	mostMemory  = 1 << 30 // bytes of heap of this whole process, other trials included
)

func beside(tr *trial, kind string) outcome {
	tr.Helper()
	which := tr.rng.IntN(5)
	bad := &rogue{kind: kind}
	l := newLab(tr.T, plan{real: true, hubs: 5, devices: 1, bad: func(i int, s transport.Store) transport.Store {
		if i != which {
			return s
		}
		bad.Store = s
		return bad
	}})
	bad.fleet = l.world.Fleet().ID()
	d := l.newDevice(0, byTheBook)
	d.seal(100)
	d.awaitPublished()
	check(tr, bad.turn(tr.Context()))
	d.seal(200)
	began := time.Now()
	d.awaitPublished()
	publishing := time.Since(began)
	if kind == frozen {
		swarm.WaitFor(tr, "the device's status to name the frozen hub", func() error {
			if d.agent.Status().HubErrors[l.hub[which].key.ID().String()] == "" {
				return errors.New("it does not")
			}
			return nil
		})
	}
	d.gone()
	l.kill(l.hub[(which+1+tr.rng.IntN(4))%5])
	stop := watchMemory()
	o, r := l.pull(d)
	memory := stop()
	tr.Logf("%s: published in %s, pulled in %s with %d MiB of heap; %s", kind, publishing.Round(time.Millisecond), r.Took.Round(time.Millisecond), memory>>20,
		named(r, l.hub[which].key.ID()))
	if r.Took > longestPull || memory > mostMemory {
		tr.Errorf("a hub that %s made the pull take %s and %d MiB", kind, r.Took, memory>>20)
	}
	// A hub that has less than others has done nothing that can be proven, and one that drops is noticed only by whoever asks it for what it dropped.
	if (kind == floods || kind == frozen) && named(r, l.hub[which].key.ID()) == "" {
		tr.Errorf("the report does not name the hub that %s:\n%s", kind, r)
	}
	return o
}

// only is the control.
func only(tr *trial, kind string) outcome {
	tr.Helper()
	bad := &rogue{kind: kind}
	l := newLab(tr.T, plan{real: true, hubs: 1, devices: 1, bad: func(_ int, s transport.Store) transport.Store {
		bad.Store = s
		return bad
	}})
	bad.fleet = l.world.Fleet().ID()
	d := l.newDevice(0, byTheBook)
	d.seal(100)
	d.awaitPublished()
	check(tr, bad.turn(tr.Context()))
	if d.seal(100); kind != frozen {
		d.awaitPublished()
	}
	notes := d.receipts()
	d.gone()
	path := filepath.Join(l.dir, "control.db")
	n := l.join(l.world.Reader, nil)
	defer n.Close()
	r, err := l.tryPull(n, path)
	tr.Logf("only a hub that %s: %v, %d segments missing", kind, err, r.Missing)
	return compare(tr, notes, path)
}

// named is what a collector's report says against a hub.
func named(r collector.Report, hub edge.ID) (text string) {
	for _, h := range r.Hubs {
		switch {
		case h.Hub != hub:
		case h.Err != nil:
			text = fmt.Sprintf("the report says of the hub: %v", h.Err)
		case h.Withheld > 0:
			text = fmt.Sprintf("the report says that the hub did not send %d segments", h.Withheld)
		case h.Lacks > 0:
			text = fmt.Sprintf("the report says that the hub lacks %d segments", h.Lacks)
		}
	}
	for _, b := range r.Bad {
		if b.Hub == hub {
			return fmt.Sprintf("the report names it for %d bad copies, the first: %s", r.BadCount, b)
		}
	}
	return text
}

// watchMemory returns a function that tells the largest heap since.
func watchMemory() (stop func() uint64) {
	done, most := make(chan struct{}), make(chan uint64)
	go func() {
		var top uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			top = max(top, m.HeapInuse)
			select {
			case <-done:
				most <- top
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 { close(done); return <-most }
}
