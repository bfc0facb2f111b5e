// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"time"

	"github.com/streembit/edge/internal/nap"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// Pauses before what is missing is asked for again.
const (
	overdueFirst = 5 * time.Second
	overdueLast  = 10 * time.Minute
)

// overdue is when what is missing is asked for again. A hub that claimed it may have been too busy for it, or about to restart, and does not speak of it again; the next
// news of the chain may be days away, or never come. For the follower's loop alone.
type overdue struct {
	due     chan struct{} // capacity 1
	pause   time.Duration
	missing uint64 // segments, when it was looked at last
	waiting bool
}

func newOverdue() *overdue { return &overdue{due: make(chan struct{}, 1), pause: overdueFirst} }

// look plans to ask again if hubs claim what is missing. The pause grows as long as nothing of it comes.
func (f *follower) look(ctx context.Context, l *overdue) {
	spans := f.overdueSpans()
	missing := uint64(0)
	for _, of := range spans {
		for _, s := range of {
			missing += s.Last - s.First + 1
		}
	}
	if missing == 0 || missing != l.missing {
		l.pause = overdueFirst
	}
	l.missing = missing
	if missing == 0 || l.waiting {
		return
	}
	l.waiting = true
	pause := l.pause
	l.pause = min(2*l.pause, overdueLast)
	f.wg.Go(func() {
		if nap.For(ctx, pause) {
			l.due <- struct{}{}
		}
	})
}

// again has what is missing asked for.
func (f *follower) again(l *overdue) {
	l.waiting = false
	spans := f.overdueSpans()
	f.mu.Lock()
	defer f.mu.Unlock()
	for chain, of := range spans {
		if t := f.known[chain]; t != nil {
			t.fresh = union(append(t.fresh, of...))
			f.dirty[chain] = true
			f.ring()
		}
	}
}

// overdueSpans are the gaps of which a hub claims something, and of which the device does not say itself that it has lost them.
func (f *follower) overdueSpans() map[journal.Chain][]transport.Span {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := map[journal.Chain][]transport.Span{}
	for chain, st := range f.c.states {
		t := f.known[chain]
		if t == nil {
			continue
		}
		for _, g := range st.mark.Gaps {
			if n, ok := t.next(g.First); ok && n <= g.Last && g.Explained == "" {
				out[chain] = append(out[chain], transport.Span{First: g.First, Last: g.Last})
			}
		}
	}
	return out
}
