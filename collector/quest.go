// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/transport"
)

const (
	patience = 2 * time.Second // a hub may be silent so long before another one is asked beside it
	sideways = 3               // hubs that are asked for one unit at the same time
	attempts = 2               // for a hub that failed midway
)

// quest fills one unit: from the hub that answers best, from others what that one lacks, and from another one beside it when it is silent.
type quest struct {
	*pull
	u      *unit
	order  []claim
	tries  map[edge.ID]int
	asking map[edge.ID]time.Time // since when
	ended  chan outcome
}

type outcome struct {
	hub edge.ID
	err error
}

// fetchUnit asks those who claim something of a span until all is there or nobody is left to ask.
func (p *pull) fetchUnit(ctx context.Context, span transport.Span) *unit {
	u := &unit{span: span, segs: make([]got, span.Last-span.First+1), why: map[uint64]error{}, seen: time.Now()}
	q := &quest{pull: p, u: u, order: p.holders(span), tries: map[edge.ID]int{}, asking: map[edge.ID]time.Time{}, ended: make(chan outcome)}
	done := p.c.shelf.wait(ctx, p.t.chain.Bucket(span.First))
	defer done()
	p.c.shelf.fill(u, p.t)
	q.run(ctx)
	p.c.shelf.keep(u, p.t.chain)
	p.r.lacking(p.t, u)
	return u
}

func (q *quest) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	silence := time.NewTimer(patience)
	defer silence.Stop()
	for ctx.Err() == nil && !q.u.whole() {
		if len(q.asking) == 0 && !q.ask(ctx, &wg) {
			return
		}
		select {
		case o := <-q.ended:
			q.heard(o)
		case <-ctx.Done():
		case <-silence.C:
			rest := patience - q.u.silent()
			if rest <= 0 {
				q.impatient()
				if len(q.asking) < sideways {
					q.ask(ctx, &wg)
				}
				rest = patience
			}
			silence.Reset(rest)
		}
	}
}

func (q *quest) heard(o outcome) {
	delete(q.asking, o.hub)
	if q.tries[o.hub]++; o.err == nil {
		q.tries[o.hub] = attempts // what it did not send it does not have
	}
}

// ask asks the next hub that has something to give; false if there is none.
func (q *quest) ask(ctx context.Context, wg *sync.WaitGroup) bool {
	for round := range attempts {
		for i := range q.order {
			cl := &q.order[i]
			_, busy := q.asking[cl.hub]
			if busy || q.tries[cl.hub] != round || !q.r.up(cl.hub) {
				continue
			}
			runs := q.u.missing(cl)
			if len(runs) == 0 {
				continue
			}
			q.asking[cl.hub] = time.Now()
			wg.Go(func() {
				err := q.fetchRuns(ctx, cl.hub, runs)
				select {
				case q.ended <- outcome{cl.hub, err}:
				case <-ctx.Done():
				}
			})
			return true
		}
	}
	return false
}

// fetchRuns asks one hub for several runs and notes how fast it was.
func (q *quest) fetchRuns(ctx context.Context, hub edge.ID, runs []transport.Span) error {
	done := q.c.paces.begin(hub)
	began, n := time.Now(), uint64(0)
	defer func() { done(time.Since(began), n) }()
	for _, want := range runs {
		if want.First > q.u.last() {
			return nil
		}
		if err := q.fetchInto(ctx, q.u, hub, want); err != nil {
			return err
		}
		n += want.Last - want.First + 1
	}
	return nil
}

// impatient notes who has let the others be asked.
func (q *quest) impatient() {
	for hub, since := range q.asking {
		if time.Since(since) >= patience {
			q.c.paces.slow(hub)
			q.r.slow(hub)
		}
	}
}

// silent returns for how long no segment came.
func (u *unit) silent() time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	return time.Since(u.seen)
}

// holders returns those who claim something of a span: who served bad copies last, then by how fast each has been and how much it is asked for
// now, then as the bucket's place says, so that all readers do not ask the same one.
func (p *pull) holders(span transport.Span) []claim {
	out := p.t.holders(span, p.r.hubIDs())
	cost := map[edge.ID]float64{}
	for _, c := range out {
		cost[c.hub] = p.c.paces.cost(c.hub)
		if p.r.distrusts(c.hub) {
			cost[c.hub] += 1e9
		}
	}
	slices.SortStableFunc(out, func(a, b claim) int {
		switch x, y := cost[a.hub], cost[b.hub]; {
		case x < y:
			return -1
		case x > y:
			return 1
		}
		return 0
	})
	return out
}

// paces remembers how fast hubs have been, between pulls too. Safe for concurrent use.
type paces struct {
	mu  sync.Mutex
	all map[edge.ID]*pace
}

type pace struct {
	seconds float64   // for a segment, smoothed; 0 = not known
	noted   time.Time // when that was
	busy    int       // requests under way
}

func (p *paces) of(hub edge.ID) *pace {
	h := p.all[hub]
	if h == nil {
		h = &pace{}
		p.all[hub] = h
	}
	return h
}

// begin counts a request; done ends it, with the time that it took and the segments that were asked for.
func (p *paces) begin(hub edge.ID) (done func(took time.Duration, segments uint64)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(hub).busy++
	return func(took time.Duration, segments uint64) {
		p.mu.Lock()
		defer p.mu.Unlock()
		h := p.of(hub)
		h.busy--
		if segments > 0 {
			h.note(took.Seconds() / float64(segments))
		}
	}
}

func (h *pace) note(seconds float64) {
	if h.seconds == 0 {
		h.seconds = seconds
	}
	h.seconds += 0.3 * (seconds - h.seconds)
	h.noted = time.Now()
}

// slow notes that a hub was silent for longer than patience.
func (p *paces) slow(hub edge.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of(hub).note(patience.Seconds())
}

// cost is what it takes to wait for one more request. What is known is worth half as much each minute, so that a hub that was slow once gets
// another chance.
func (p *paces) cost(hub edge.ID) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.of(hub)
	return h.seconds * float64(h.busy+1) * math.Exp2(-time.Since(h.noted).Minutes())
}

// errSlow is what is said of a hub that others had to stand in for.
var errSlow = fmt.Errorf("it was silent for %v, others were asked beside it", patience)
