// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

	mu     sync.Mutex
	closed bool
	puts   sync.WaitGroup
}

// putLimit is how long one hub may take for one segment before it counts as missed; repair brings it later.
const putLimit = 30 * time.Second

// straggle is how long Publish waits for the rest once a segment is published but not yet forgettable.
const straggle = 500 * time.Millisecond

// busyPause is the least time before a hub whose queue is full is asked again.
const busyPause = 10 * time.Millisecond

// NewPublisher returns a Publisher. fleet is asked anew for each segment, so hubs may come and go. Close it.
func NewPublisher(put Putter, fleet func() *fleet.Fleet) *Publisher {
	life, stop := context.WithCancel(context.Background())
	return &Publisher{put: put, fleet: fleet, observe: func(edge.ID, error) {}, limit: putLimit, life: life, stop: stop}
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

// Publish sends a segment to those hubs of its bucket that are not in acked, and returns as soon as it is forgettable,
// or all hubs have answered, or ctx ends. Slower hubs still get it after Publish has returned. The error wraps
// ErrNotQuorum when the segment is not published yet; the receipt is valid even then, and its Acked may be handed in
// next time.
func (p *Publisher) Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (Receipt, error) {
	r, err := p.targets(seg, acked)
	if err != nil {
		return r, err
	}
	settled := make(chan struct{})
	defer close(settled)
	answers, err := p.send(r, seg.Bytes(), settled)
	if err != nil {
		return r, err
	}
	var grace <-chan time.Time
	for open := len(r.Targets) - len(r.Acked); open > 0 && !r.Forgettable(); open-- {
		if grace == nil && r.Published() {
			t := time.NewTimer(straggle)
			defer t.Stop()
			grace = t.C
		}
		select {
		case a := <-answers:
			if a.err == nil {
				r.Acked = append(r.Acked, a.hub)
			} else {
				r.Errors = append(r.Errors, a.err)
			}
		case <-grace:
			return r, nil
		case <-ctx.Done():
			return p.verdict(r, ctx.Err())
		}
	}
	return p.verdict(r, nil)
}

func (p *Publisher) verdict(r Receipt, cause error) (Receipt, error) {
	if r.Published() {
		return r, nil
	}
	if cause == nil && len(r.Errors) > 0 {
		cause = r.Errors[0]
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

func (p *Publisher) targets(seg *journal.Segment, acked []edge.ID) (Receipt, error) {
	hubs := p.fleet().Hubs()
	if len(hubs) == 0 {
		return Receipt{}, fmt.Errorf("transport: publishing: %w: %w", ErrNotQuorum, ErrNoHubs)
	}
	byID := make(map[edge.ID]fleet.Grant, len(hubs))
	ids := make([]edge.ID, 0, len(hubs))
	for _, h := range hubs {
		byID[h.Member] = h
		ids = append(ids, h.Member)
	}
	var r Receipt
	for _, id := range Place(seg.Chain.Bucket(seg.Seq).Key(), ids) {
		r.Targets = append(r.Targets, byID[id])
		if slices.Contains(acked, id) {
			r.Acked = append(r.Acked, id)
		}
	}
	return r, nil
}

type answer struct {
	hub edge.ID
	err error
}

// send starts one put per hub that has no copy yet. They outlive the call that began them, up to the limit; but a hub
// whose queue is full is asked again only until the call is settled, so that a frozen one holds nothing up.
func (p *Publisher) send(r Receipt, segment []byte, settled <-chan struct{}) (<-chan answer, error) {
	p.mu.Lock() // so that no put begins once Close waits
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("transport: publishing: %w: %w", ErrNotQuorum, ErrClosed)
	}
	answers := make(chan answer, len(r.Targets))
	for _, t := range r.Targets {
		if slices.Contains(r.Acked, t.Member) {
			continue
		}
		p.puts.Go(func() {
			ctx, cancel := context.WithTimeout(p.life, p.limit)
			defer cancel()
			err := p.put.Put(ctx, t.Member, segment)
			for busy(err) && pause(settled) {
				err = p.put.Put(ctx, t.Member, segment)
			}
			if p.life.Err() == nil {
				p.observe(t.Member, err)
			}
			answers <- answer{t.Member, err}
		})
	}
	return answers, nil
}

func busy(err error) bool {
	var r *Refusal
	return errors.As(err, &r) && r.Reason == RefusedBusy
}

// pause waits a moment and reports whether the call is still open.
func pause(settled <-chan struct{}) bool {
	t := time.NewTimer(busyPause + rand.N(busyPause))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-settled:
		return false
	}
}
