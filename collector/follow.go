// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Back-off between attempts to reach a hub or the sink again.
const (
	backoffMin = time.Second
	backoffMax = time.Minute
)

// What one hub may tell: above it, it waits, and with it nobody else.
const (
	newsRate  = 2000    // chains in a second: as many devices that each close a batch then
	newsBurst = 1 << 14 // what a hub holds, told at the beginning
)

// Follow pulls everything and then, until ctx ends, what the hubs say they have just stored; report is called after each pull that brought something.
// A hub or a sink that fails is tried again after a pause that doubles up to a minute; nothing is polled. What the sink has is told to the hubs
// (Config.Signer) at most once a minute. It returns nil when ctx ended, and an error when the source cannot follow.
func (c *Collector) Follow(ctx context.Context, report func(Report)) error {
	src, ok := c.cfg.Source.(FollowSource)
	if !ok {
		return errors.New("collector: following: this source cannot follow: pull instead")
	}
	f := &follower{c: c, src: src, bell: make(chan struct{}, 1), known: map[journal.Chain]*target{}, dirty: map[journal.Chain]bool{},
		hubs: map[edge.ID]bool{}, lost: map[edge.ID]bool{}, muted: map[edge.ID]*mute{}, strange: map[journal.Chain]*target{}}
	defer f.wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.share = newShare()
	if err := c.load(ctx); err == nil { // the sink is open now: who else is there?
		if roster, ok := As[Roster](c.cfg.Sink); ok {
			f.present(ctx, roster)
		}
	}
	f.wg.Go(func() { f.attend(ctx) })
	round, end := f.round(ctx)
	first, err := c.Pull(round)
	shared := errors.Is(context.Cause(round), errReshared)
	end(nil)
	if err != nil && ctx.Err() == nil && !shared {
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

	mu      sync.Mutex
	known   map[journal.Chain]*target
	dirty   map[journal.Chain]bool
	strange map[journal.Chain]*target // told of, and not wanted as far as the fleet is known: a hub may know it better
	hubs    map[edge.ID]bool          // followed
	lost    map[edge.ID]bool          // of these, those that cannot be now

	reshared bool                    // the devices were, since the last round began
	endRound context.CancelCauseFunc // ends the one that is under way
	agreed   time.Time               // when the marks of what others pull were read
	touched  time.Time               // when a hub told something
	muted    map[edge.ID]*mute       // those that said what was not so
}

// mute is how long a hub's news wait.
type mute struct {
	until time.Time
	pause time.Duration
}

// maxStrange bounds the chains that are kept for a change of the fleet.
const maxStrange = 4096

func (f *follower) loop(ctx context.Context, report func(Report)) {
	pause := backoffMin
	marks := newClock(markEvery)
	defer marks.timer.Stop()
	missing := newOverdue()
	for {
		f.followHubs(ctx)
		f.look(ctx, missing)
		select {
		case <-ctx.Done():
			return
		case <-f.c.changed:
			f.fleetChanged()
			continue
		case <-marks.timer.C:
			marks.ticked()
			f.wg.Go(func() { f.c.marker.tell(ctx, func(edge.ID) bool { return true }) })
			continue
		case <-missing.due:
			f.again(missing)
			continue
		case <-f.bell:
		}
		r := newRun(f.c)
		round, end := f.round(ctx)
		targets := f.take()
		f.complete(round, r, targets)
		err := f.c.rounds(round, r, targets)
		cause := context.Cause(round)
		end(nil)
		if got := r.finish(f.c.states); got.Segments > 0 || err != nil && !errors.Is(cause, errReshared) {
			report(got)
		}
		f.judge(ctx, r)
		if err == nil {
			pause = backoffMin
			if f.c.marker.note(time.Now()) {
				marks.due()
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if errors.Is(cause, errReshared) {
			f.putBack(targets)
			continue
		}
		f.c.log.Error("pull failed, trying again", "err", err, "pause", pause)
		f.putBack(targets)
		if !nap.For(ctx, pause/2+rand.N(pause)) {
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

// follow follows one hub, again and again, as long as it is enrolled. A hub that comes and goes is asked ever less often.
func (f *follower) follow(ctx context.Context, hub edge.ID) {
	defer f.leave(hub)
	limit := rate.NewLimiter(newsRate, newsBurst)
	pause := backoffMin
	for {
		began := time.Now()
		err := f.src.Follow(ctx, hub, func(h transport.Held) error {
			if err := limit.Wait(ctx); err != nil {
				return err
			}
			f.touch(hub, h)
			return nil
		})
		if ctx.Err() != nil {
			return
		}
		if !slices.Contains(newRun(f.c).hubIDs(), hub) {
			return
		}
		f.setLost(hub, true)
		if time.Since(began) > backoffMax {
			pause = backoffMin
		}
		f.c.log.Warn("hub lost, trying again", "hub", hub.Short(), "err", err, "pause", pause)
		if !nap.For(ctx, pause/2+rand.N(pause)) { // jitter: all collectors must not come back at once
			return
		}
		pause = min(2*pause, backoffMax)
	}
}

// leave forgets a hub that is followed no more.
func (f *follower) leave(hub edge.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.hubs, hub)
	delete(f.lost, hub)
	for _, t := range f.known {
		t.forget(hub)
	}
}

// touch notes what a hub holds now.
func (f *follower) touch(hub edge.ID, h transport.Held) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.lost, hub)
	f.touched = time.Now()
	if !f.c.wanted(h.Chain) && !f.c.isRewraps(h.Chain) {
		t := f.strange[h.Chain]
		if t == nil && len(f.strange) >= maxStrange {
			return
		}
		if t == nil {
			t = &target{chain: h.Chain}
			f.strange[h.Chain] = t
		}
		t.add(hub, h)
		return
	}
	t := f.known[h.Chain]
	if t == nil {
		t = &target{chain: h.Chain, noHead: true}
		f.known[h.Chain] = t
	}
	t.add(hub, h)
	t.fresh = union(append(t.fresh, h.Spans...))
	f.dirty[h.Chain] = true
	if m := f.muted[hub]; m == nil || !time.Now().Before(m.until) {
		f.ring()
	}
}

func (f *follower) ring() {
	select {
	case f.bell <- struct{}{}:
	default:
	}
}

// fleetChanged looks again at what was not wanted before.
func (f *follower) fleetChanged() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for chain, t := range f.strange {
		if !f.c.wanted(chain) && !f.c.isRewraps(chain) {
			continue
		}
		delete(f.strange, chain)
		t.noHead, t.fresh = true, []transport.Span{}
		f.known[chain], f.dirty[chain] = t, true
		f.ring()
	}
}

// take returns copies of the dirty chains' targets, so that hubs may go on talking.
func (f *follower) take() []*target {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []*target
	for chain := range f.dirty {
		if !f.c.mine(chain) {
			continue // it stays dirty, for when it comes over
		}
		t := f.known[chain]
		out = append(out, t.clone())
		t.fresh = []transport.Span{}
		delete(f.dirty, chain)
	}
	return out
}

func (f *follower) putBack(targets []*target) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, t := range targets {
		if k := f.known[t.chain]; k != nil {
			k.fresh = union(slices.Concat(k.fresh, t.fresh))
			f.dirty[t.chain] = true
		}
	}
	f.ring()
}
