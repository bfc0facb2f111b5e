// SPDX-License-Identifier: Apache-2.0

package repair

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
)

// peer is another hub. Repairer.mu guards stats; the rest is of the goroutine that repairs.
type peer struct {
	id      edge.ID
	strikes int           // questions in a row that failed
	skip    int           // rounds in which it is not asked
	down    bool          // in this round
	slow    bool          // when it was last asked for segments
	time    time.Duration // that it may take still for what it is asked now
	asked   time.Time
	suspect string // what it promised in vain; "" = nothing
	warned  bool
	stats   PeerStats
}

const maxSkip = 4 // rounds that a hub which does not answer is left alone at most

func (p *peer) suspicious() bool { return p.suspect != "" }

// begin returns the hubs that are asked in this round, those first that were not for the longest time, but suspicious ones last.
func (r *Repairer) begin(f *fleet.Fleet, all bool) (todo []*peer) {
	r.memo.refresh(f)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stats.Running = true
	for id := range r.peers {
		if !f.Is(id, fleet.Hub) {
			delete(r.peers, id)
		}
	}
	for _, h := range f.Hubs() {
		if h.Member == r.o.Self {
			continue
		}
		p := r.peers[h.Member]
		if p == nil {
			p = &peer{id: h.Member, stats: PeerStats{Hub: h.Member}}
			r.peers[h.Member] = p
		}
		if p.skip > 0 {
			p.skip--
			continue
		}
		p.down = false
		todo = append(todo, p)
	}
	rand.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
	slices.SortStableFunc(todo, func(a, b *peer) int { return a.asked.Compare(b.asked) })
	if !all {
		todo = todo[:min(len(todo), peersEach)]
	}
	slices.SortStableFunc(todo, func(a, b *peer) int {
		switch {
		case a.suspicious() == b.suspicious():
			return 0
		case b.suspicious():
			return -1
		}
		return 1
	})
	return todo
}

// forgive has the next round ask all hubs.
func (r *Repairer) forgive() {
	for _, p := range r.peers {
		p.skip, p.strikes = 0, 0
	}
}

// ask compares with one hub and takes its marks; an error is of this hub's own.
func (r *Repairer) ask(ctx context.Context, w *work, p *peer, marks bool) error {
	p.time, p.asked = lookLimit, time.Now()
	err := r.look(ctx, w, p)
	if err == nil && marks {
		err = r.takeMarks(ctx, p)
	}
	if own := (localError{}); errors.As(err, &own) || ctx.Err() != nil {
		return errors.Join(ctx.Err(), err)
	}
	if err != nil {
		r.failed(p, err)
		return nil
	}
	if p.strikes > 0 {
		r.log.Info("repair: hub answers again", "hub", p.id)
	}
	p.strikes, p.skip = 0, 0
	r.mu.Lock()
	defer r.mu.Unlock()
	p.stats.Compared, p.stats.Error = time.Now(), ""
	p.stats.Lacking = w.lackingBy(p)
	return nil
}

// failed notes what another hub did wrong. One that is busy has done nothing wrong.
func (r *Repairer) failed(p *peer, err error) {
	p.down = true
	r.mu.Lock()
	p.stats.Failed++
	p.stats.Error = err.Error()
	r.mu.Unlock()
	if refused := (*transport.Refusal)(nil); errors.As(err, &refused) && refused.Reason == transport.RefusedBusy {
		return
	}
	if errors.Is(err, errLie) {
		r.distrust(p, err.Error())
	}
	if p.strikes == 0 {
		r.log.Info("repair: hub is passed over until it answers", "hub", p.id, "err", err)
	}
	p.skip = min(1<<min(p.strikes, 8)-1, maxSkip)
	p.strikes++
}

// distrust has a hub asked last from now on, because it says that it holds what it does not give.
func (r *Repairer) distrust(p *peer, why string) {
	p.suspect = why
	r.mu.Lock()
	p.stats.Suspect = why
	r.mu.Unlock()
	if !p.warned {
		p.warned = true
		r.log.Warn("repair: hub is not believed: it is asked only for what no other hub has", "hub", p.id, "why", why)
	}
}

// trust takes distrust back from a hub that kept a promise.
func (r *Repairer) trust(p *peer) {
	if !p.suspicious() {
		return
	}
	p.suspect = ""
	r.mu.Lock()
	defer r.mu.Unlock()
	p.stats.Suspect = ""
}
