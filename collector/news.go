// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// complete asks the hubs what else they hold of devices of whose chains something seems to be missing: news come in any order, and who may only now
// read a chain is told of its newest segments alone. So no gap is recorded that a question can close.
func (f *follower) complete(ctx context.Context, r *run, targets []*target) {
	torn := map[edge.ID][]*target{}
	for _, t := range targets {
		var from uint64
		var mark Mark
		if st := f.c.states[t.chain]; st != nil {
			from, mark = st.mark.next(), st.mark
		}
		n, ok := t.next(from)
		if ok && n > from && !mark.open(transport.Span{First: from, Last: n - 1}) && t.chain.Stream != journal.RewrapStream {
			torn[t.chain.Device] = append(torn[t.chain.Device], t)
		}
	}
	for device, list := range torn {
		f.askAbout(ctx, r, device, list)
	}
}

func (f *follower) askAbout(ctx context.Context, r *run, device edge.ID, list []*target) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	hubs := r.hubIDs()
	var mu sync.Mutex
	parallel(askWidth, len(hubs), func(i int) {
		held, err := f.c.cfg.Source.Held(ctx, hubs[i], device)
		if err != nil {
			f.c.log.Debug("hub not asked about a device", "hub", hubs[i].Short(), "device", device.Short(), "err", err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, h := range held {
			at := slices.IndexFunc(list, func(t *target) bool { return t.chain == h.Chain })
			if at < 0 {
				continue
			}
			list[at].add(hubs[i], h)
			f.mu.Lock()
			if k := f.known[h.Chain]; k != nil {
				k.add(hubs[i], h)
			}
			f.mu.Unlock()
		}
	})
}

// judge lets the news of hubs that said what was not so wait, ever longer: each costs a question.
func (f *follower) judge(ctx context.Context, r *run) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, hub := range r.liars() {
		m := f.muted[hub]
		if m == nil || time.Since(m.until) > backoffMax {
			m = &mute{pause: backoffMin}
			f.muted[hub] = m
		}
		if time.Now().Before(m.until) {
			continue
		}
		pause := m.pause
		m.until = time.Now().Add(pause)
		f.wg.Go(func() {
			if nap.For(ctx, pause) {
				f.ring()
			}
		})
		m.pause = min(2*m.pause, backoffMax)
	}
}

// liars returns the hubs that served something bad in this run.
func (r *run) liars() (out []edge.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, h := range r.hubs {
		if h.bad > 0 {
			out = append(out, h.Hub)
		}
	}
	return out
}

// clock says when something is due that is done at most once in a while. For one goroutine.
type clock struct {
	every time.Duration
	timer *time.Timer
	last  time.Time
	set   bool
}

func newClock(every time.Duration) *clock {
	c := &clock{every: every, timer: time.NewTimer(every), last: time.Now()}
	c.timer.Stop()
	return c
}

// due makes it tick, unless it is going to.
func (c *clock) due() {
	if !c.set {
		c.set = true
		c.timer.Reset(max(0, c.every-time.Since(c.last)))
	}
}

// ticked is for him who has read from the timer.
func (c *clock) ticked() { c.set, c.last = false, time.Now() }
