// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Back-off between attempts to reach a hub or the sink again.
const (
	backoffMin = time.Second
	backoffMax = time.Minute
)

// Follow pulls everything and then, until ctx ends, what the hubs say they have just stored; report is called after
// each pull that brought something. A hub or a sink that fails is tried again after a pause that doubles up to a
// minute; nothing is polled. It returns nil when ctx ended, and an error when the source cannot follow.
func (c *Collector) Follow(ctx context.Context, report func(Report)) error {
	src, ok := c.cfg.Source.(FollowSource)
	if !ok {
		return errors.New("collector: following: this source cannot follow: pull instead")
	}
	f := &follower{c: c, src: src, bell: make(chan struct{}, 1), known: map[journal.Chain]*target{}, dirty: map[journal.Chain]bool{}, hubs: map[edge.ID]bool{}}
	defer f.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	first, err := c.Pull(ctx)
	if err != nil && ctx.Err() == nil {
		c.log.Warn("pull failed, following", "err", err)
	}
	report(first)
	f.loop(ctx, report)
	return nil
}

// follower keeps what the hubs say, and wakes one loop that pulls.
type follower struct {
	c    *Collector
	src  FollowSource
	wg   sync.WaitGroup
	bell chan struct{} // rung when something is dirty

	mu    sync.Mutex
	known map[journal.Chain]*target
	dirty map[journal.Chain]bool
	hubs  map[edge.ID]bool // followed
}

func (f *follower) loop(ctx context.Context, report func(Report)) {
	pause := backoffMin
	for {
		f.followHubs(ctx)
		select {
		case <-ctx.Done():
			return
		case <-f.bell:
		}
		r := newRun(f.c)
		targets := f.take()
		err := f.c.rounds(ctx, r, targets)
		if got := r.finish(f.c.states); got.Segments > 0 || err != nil {
			report(got)
		}
		if err == nil {
			pause = backoffMin
			continue
		}
		if ctx.Err() != nil {
			return
		}
		f.c.log.Error("pull failed, trying again", "err", err, "pause", pause)
		f.putBack(targets)
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, backoffMax)
	}
}

// followHubs starts to follow hubs that are not followed yet: new ones may be enrolled at any time.
func (f *follower) followHubs(ctx context.Context) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, g := range f.c.cfg.Fleet().Hubs() {
		if hub := g.Member; !f.hubs[hub] {
			f.hubs[hub] = true
			f.wg.Go(func() { f.follow(ctx, hub) })
		}
	}
}

// follow follows one hub, again and again, as long as it is enrolled.
func (f *follower) follow(ctx context.Context, hub edge.ID) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.hubs, hub)
	}()
	pause := backoffMin
	for {
		err := f.src.Follow(ctx, hub, func(h transport.Held) error {
			pause = backoffMin
			f.touch(hub, h)
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		if !slices.Contains(newRun(f.c).hubIDs(), hub) {
			return
		}
		f.c.log.Warn("hub lost, trying again", "hub", hub.Short(), "err", err, "pause", pause)
		if !sleep(ctx, pause/2+rand.N(pause)) { // jitter: all collectors must not come back at once
			return
		}
		pause = min(2*pause, backoffMax)
	}
}

// touch notes what a hub holds now.
func (f *follower) touch(hub edge.ID, h transport.Held) {
	if !f.c.wanted(h.Chain) && !f.c.isRewraps(h.Chain) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t := f.known[h.Chain]
	if t == nil {
		t = &target{chain: h.Chain, noHead: true}
		f.known[h.Chain] = t
	}
	t.add(hub, h.Spans)
	f.dirty[h.Chain] = true
	f.ring()
}

func (f *follower) ring() {
	select {
	case f.bell <- struct{}{}:
	default:
	}
}

// take returns copies of the dirty chains' targets, so that hubs may go on talking.
func (f *follower) take() []*target {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*target
	for chain := range f.dirty {
		t := *f.known[chain]
		t.claims = slices.Clone(t.claims)
		for i := range t.claims {
			t.claims[i].spans = slices.Clone(t.claims[i].spans)
		}
		out = append(out, &t)
	}
	clear(f.dirty)
	return out
}

func (f *follower) putBack(targets []*target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range targets {
		if f.known[t.chain] != nil {
			f.dirty[t.chain] = true
		}
	}
	f.ring()
}

// sleep waits; false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
