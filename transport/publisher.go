// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// Putter sends one segment to one hub and returns nil once that hub has fsynced it. It is called concurrently.
type Putter interface {
	Put(ctx context.Context, hub edge.ID, segment []byte) error
}

// Publisher puts segments on the hubs of their bucket. Safe for concurrent use.
type Publisher struct {
	put     Putter
	fleet   func() *fleet.Fleet
	observe func(hub edge.ID, err error)
	limit   time.Duration
	life    context.Context
	stop    context.CancelFunc

	mu       sync.Mutex
	closed   bool
	puts     sync.WaitGroup
	changed  chan struct{} // closed and replaced when the fleet changed
	known    *fleet.Fleet
	enrolled []fleet.Grant // the hubs of known
}

// putLimit is how long one hub may take for its answer before it counts as missed; repair brings it later.
const putLimit = 30 * time.Second

// straggle is how long Publish waits for the rest once a segment is published but not yet forgettable.
const straggle = 500 * time.Millisecond

// NewPublisher returns a Publisher. fleet is asked anew with each answer of a hub, so hubs may come and go. Close it.
func NewPublisher(put Putter, fleet func() *fleet.Fleet) *Publisher {
	life, stop := context.WithCancel(context.Background())
	return &Publisher{put: put, fleet: fleet, observe: func(edge.ID, error) {}, limit: putLimit, life: life, stop: stop,
		changed: make(chan struct{})}
}

// Observe has f called with the answer of every hub, those that come after Publish has returned included; nil is an ack.
// Call it before the first Publish; f is called concurrently.
func (p *Publisher) Observe(f func(hub edge.ID, err error)) { p.observe = f }

// Close abandons what is under way and waits for it to end.
func (p *Publisher) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.puts.Wait()
}

// FleetChanged has the publications that are under way judged anew at once: by the hubs of the fleet as it is now, those that were revoked
// counting no more and those that came being asked. Without it they notice with the next answer of a hub.
func (p *Publisher) FleetChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Count returns what copies on the hubs in acked are worth now. Of a fleet without hubs it is a receipt without targets, which is not published.
func (p *Publisher) Count(c journal.Chain, seq uint64, acked []edge.ID) Receipt {
	_, hubs := p.hubs()
	return targets(hubs, c, seq, acked)
}

// Publish sends a segment to those hubs of its bucket that are not in acked, and returns as soon as it is forgettable or gone,
// or all hubs have answered, or ctx ends. Slower hubs still get it after Publish has returned. The error wraps
// ErrNotQuorum when the segment is neither published nor gone; the receipt is valid even then, and its Acked may be handed in
// next time.
func (p *Publisher) Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (Receipt, error) {
	w := &publication{p: p, seg: seg, acked: slices.Clone(acked), asked: map[edge.ID]bool{}, errs: map[edge.ID]error{}, later: map[edge.ID]error{},
		answers: make(chan answer), settled: make(chan struct{})}
	defer close(w.settled)
	var grace <-chan time.Time
	for {
		changed := p.changes()
		r, open, err := w.judge()
		if err != nil {
			return r, err
		}
		if r.Forgettable() || r.Gone() || open == 0 {
			return p.verdict(r, nil)
		}
		if grace == nil && r.Published() {
			t := time.NewTimer(straggle)
			defer t.Stop()
			grace = t.C
		}
		select {
		case a := <-w.answers:
			w.take(a)
		case <-changed:
		case <-grace:
			return p.verdict(r, nil)
		case <-ctx.Done():
			return p.verdict(w.unanswered(r), ctx.Err())
		}
	}
}

// publication is one call of Publish.
type publication struct {
	p       *Publisher
	seg     *journal.Segment
	acked   []edge.ID
	asked   map[edge.ID]bool
	errs    map[edge.ID]error // of those that answered
	order   []edge.ID         // in which they did
	later   map[edge.ID]error // of those that are asked again, why
	answers chan answer
	settled chan struct{}

	fleet   *fleet.Fleet
	targets []fleet.Grant // by it
}

type answer struct {
	hub   edge.ID
	err   error
	later bool // the hub is asked again
}

// judge returns the receipt by the fleet as it is now and how many of its hubs have not answered; hubs that were not asked yet are asked.
func (w *publication) judge() (r Receipt, open int, err error) {
	if f, hubs := w.p.hubs(); f != w.fleet {
		w.fleet, w.targets = f, targets(hubs, w.seg.Chain, w.seg.Seq, nil).Targets
	}
	if len(w.targets) == 0 {
		return Receipt{}, 0, fmt.Errorf("transport: publishing: %w: %w", ErrNotQuorum, ErrNoHubs)
	}
	r.Targets, r.Waited = w.targets, len(w.later) > 0
	for _, t := range r.Targets {
		switch {
		case slices.Contains(w.acked, t.Member):
			r.Acked = append(r.Acked, t.Member)
		case w.errs[t.Member] == nil:
			open++
		}
	}
	for _, hub := range w.order {
		if slices.ContainsFunc(r.Targets, func(t fleet.Grant) bool { return t.Member == hub }) {
			r.Errors = append(r.Errors, w.errs[hub])
			if refused(w.errs[hub], RefusedPast) {
				r.Past = append(r.Past, hub)
			}
		}
	}
	return r, open, w.send(r)
}

func (w *publication) take(a answer) {
	switch {
	case a.later:
		w.later[a.hub] = a.err
	case a.err == nil:
		w.acked = append(w.acked, a.hub)
	default:
		w.errs[a.hub] = a.err
		w.order = append(w.order, a.hub)
	}
}

// unanswered adds what those hubs said last that would have been asked again.
func (w *publication) unanswered(r Receipt) Receipt {
	for _, t := range r.Targets {
		if err := w.later[t.Member]; err != nil && w.errs[t.Member] == nil && !slices.Contains(r.Acked, t.Member) {
			r.Errors = append(r.Errors, err)
		}
	}
	return r
}

func (p *Publisher) verdict(r Receipt, cause error) (Receipt, error) {
	if r.Published() || r.Gone() {
		return r, nil
	}
	if len(r.Errors) > 0 {
		if cause != nil {
			cause = fmt.Errorf("%w: %w", cause, r.Errors[0])
		} else {
			cause = r.Errors[0]
		}
	}
	wanted := fmt.Sprintf("%d needed", r.Need())
	if len(r.Acked) >= r.Need() {
		wanted = "all on one site: a hub of another site is needed"
	}
	err := fmt.Errorf("transport: publishing: %d of %d hubs have it, %s: %w", len(r.Acked), len(r.Targets), wanted, ErrNotQuorum)
	if cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return r, err
}

func (p *Publisher) changes() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// hubs returns the fleet as it is now and its hubs. They are looked up once for each fleet: it may have ten thousand members.
func (p *Publisher) hubs() (*fleet.Fleet, []fleet.Grant) {
	f := p.fleet()
	p.mu.Lock()
	defer p.mu.Unlock()
	if f != p.known {
		p.known, p.enrolled = f, f.Hubs()
	}
	return f, p.enrolled
}

// targets is the receipt of a segment among the hubs.
func targets(hubs []fleet.Grant, c journal.Chain, seq uint64, acked []edge.ID) Receipt {
	byID := make(map[edge.ID]fleet.Grant, len(hubs))
	ids := make([]edge.ID, 0, len(hubs))
	for _, h := range hubs {
		byID[h.Member] = h
		ids = append(ids, h.Member)
	}
	var r Receipt
	for _, id := range Place(c.Bucket(seq).Key(), ids) {
		r.Targets = append(r.Targets, byID[id])
		if slices.Contains(acked, id) {
			r.Acked = append(r.Acked, id)
		}
	}
	return r
}

// send starts one put per hub that has no copy and was not asked yet. They outlive the call that began them, up to the limit; but a hub
// that says "later" is asked again only until the call is settled, so that it holds nothing up.
func (w *publication) send(r Receipt) error {
	p := w.p
	p.mu.Lock() // so that no put begins once Close waits
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("transport: publishing: %w: %w", ErrNotQuorum, ErrClosed)
	}
	for _, t := range r.Targets {
		if w.asked[t.Member] || slices.Contains(r.Acked, t.Member) {
			continue
		}
		w.asked[t.Member] = true
		p.puts.Go(func() { w.put(t.Member) })
	}
	return nil
}

func (w *publication) put(hub edge.ID) {
	p := w.p
	err := insist(p.life, w.settled, func() error {
		ctx, cancel := context.WithTimeout(p.life, p.limit)
		defer cancel()
		return p.put.Put(ctx, hub, w.seg.Bytes())
	}, func(why error) { w.answer(answer{hub, why, true}) })
	if p.life.Err() == nil {
		p.observe(hub, err)
	}
	w.answer(answer{hub, err, false})
}

// answer tells the call, unless it has returned.
func (w *publication) answer(a answer) {
	select {
	case w.answers <- a:
	case <-w.settled:
	}
}
