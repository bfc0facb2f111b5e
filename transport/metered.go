// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Courier is the way to the hubs over an uplink whose bytes cost money. It is called concurrently.
type Courier interface {
	Putter
	// Connected reports whether a hub can be reached without another handshake.
	Connected(hub edge.ID) bool
	// Confirm has a hub that holds the run of want hand it on to the other hubs of its bucket, and visits the signature of each one's custody as it
	// comes, until visit returns false. storer is what the hub says: only the signature proves it.
	Confirm(ctx context.Context, hub edge.ID, want journal.Custody, visit func(storer edge.ID, signature []byte) bool) error
}

const (
	// gatherFull ends the gathering early: so many segments pay for the signatures of a majority of twenty.
	gatherFull = 16
	// confirmLimit is how long a hub may take to hand a run on.
	confirmLimit = 30 * time.Second
	// A hub that failed is left alone between these, one that lied for lieBench.
	benchFirst = 5 * time.Second
	benchLast  = 5 * time.Minute
	lieBench   = time.Hour
)

// ErrLie is wrapped when a hub showed what no hub has signed.
var ErrLie = errors.New("the hub showed a proof that is none")

// Metered publishes with one copy of each segment on the uplink: to one hub, which hands it on and brings back the others' signatures. It trusts
// that hub no further than any other: what counts is the answer of the hub itself for its own copy, and for the others what they signed over a fresh
// nonce. Segments of one bucket are gathered for a while, so that they share the signatures. Safe for concurrent use. Close it.
type Metered struct {
	*Publisher
	to     Courier
	gather time.Duration
	log    *slog.Logger

	mu    sync.Mutex
	runs  map[gatherKey]*gathering
	bench map[edge.ID]bench
	last  edge.ID // the hub that was used last
}

// bench is how long a hub is left alone.
type bench struct {
	until time.Time
	fails int
}

type gatherKey struct {
	chain  journal.Chain
	bucket uint64
	hub    edge.ID
}

// gathering is what one hub was given of one bucket and has not been asked about.
type gathering struct {
	key    gatherKey
	segs   []*journal.Segment
	timer  *time.Timer
	done   chan struct{} // closed once proofs and err are settled
	proofs map[uint64][]edge.ID
	err    error
}

// NewMetered returns a Metered that waits up to gather for more segments of a bucket before it asks for signatures.
func NewMetered(p *Publisher, to Courier, gather time.Duration, log *slog.Logger) *Metered {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Metered{Publisher: p, to: to, gather: gather, log: log, runs: map[gatherKey]*gathering{}, bench: map[edge.ID]bench{}}
}

// Publish is Publisher.Publish. It returns once the segment is published, or it is known that one hub cannot bring that about: then the next call
// goes to another one.
func (m *Metered) Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (Receipt, error) {
	r := m.Count(seg.Chain, seg.Seq, acked)
	if len(r.Targets) == 0 {
		return Receipt{}, fmt.Errorf("transport: publishing: %w: %w", ErrNotQuorum, ErrNoHubs)
	}
	if r.Forgettable() {
		return r, nil
	}
	hub, errs := m.carry(ctx, seg, r)
	r = r.because(errs)
	if hub == (edge.ID{}) {
		return m.verdict(r, ctx.Err())
	}
	acked = union(acked, hub)
	if r = m.Count(seg.Chain, seg.Seq, acked); !r.Forgettable() && len(r.Targets) > 1 {
		g, err := m.join(hub, seg)
		if err != nil {
			return r, err
		}
		select {
		case <-g.done:
			r = m.Count(seg.Chain, seg.Seq, union(acked, g.proofs[seg.Seq]...))
			if g.err != nil {
				errs = append(errs, g.err)
			}
		case <-ctx.Done():
		}
	}
	return m.verdict(r.because(errs), ctx.Err())
}

// carry brings the segment to one hub of its bucket, the one that was used last where it may be, and returns it; zero if none took it.
func (m *Metered) carry(ctx context.Context, seg *journal.Segment, r Receipt) (hub edge.ID, errs []error) {
	for _, id := range m.order(r) {
		if slices.Contains(r.Acked, id) {
			return id, errs
		}
		err := insist(ctx, m.life.Done(), func() error { return m.to.Put(ctx, id, seg.Bytes()) }, func(error) {})
		if m.life.Err() == nil && ctx.Err() == nil {
			m.observe(id, err)
		}
		if err == nil {
			m.use(id)
			return id, errs
		}
		if errs = append(errs, err); ctx.Err() != nil {
			return edge.ID{}, errs
		}
		if !errors.As(err, new(*Refusal)) { // a refusal is about the segment, as a rule
			m.rest(id, false)
		}
	}
	return edge.ID{}, errs
}

// order returns the hubs to try: the last one used, the others by their distance, those on the bench at the end.
func (m *Metered) order(r Receipt) []edge.ID {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	rank := func(id edge.ID) int {
		switch {
		case now.Before(m.bench[id].until):
			return 2
		case id == m.last || m.last == (edge.ID{}) && m.to.Connected(id):
			return 0
		}
		return 1
	}
	ids := r.ids()
	slices.SortStableFunc(ids, func(a, b edge.ID) int { return cmp.Compare(rank(a), rank(b)) })
	return ids
}

func (m *Metered) use(id edge.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = id
}

// rest puts a hub on the bench.
func (m *Metered) rest(id edge.ID, lied bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b := m.bench[id]
	wait := min(benchFirst<<min(b.fails, 10), benchLast)
	if lied {
		wait = lieBench
	}
	m.bench[id] = bench{time.Now().Add(wait), b.fails + 1}
}

// join adds a segment that the hub has to what it will be asked about.
func (m *Metered) join(hub edge.ID, seg *journal.Segment) (*gathering, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := gatherKey{seg.Chain, seg.Seq / journal.BucketSize, hub}
	g := m.runs[key]
	if g == nil {
		g = &gathering{key: key, done: make(chan struct{}), proofs: map[uint64][]edge.ID{}}
		if !m.owned(func() { m.confirm(g) }, g) {
			return nil, fmt.Errorf("transport: publishing: %w: %w", ErrNotQuorum, ErrClosed)
		}
		m.runs[key] = g
	}
	g.segs = append(g.segs, seg)
	if len(g.segs) >= gatherFull || seg.Seq%journal.BucketSize == journal.BucketSize-1 {
		g.timer.Reset(0)
		m.take(g)
	}
	return g, nil
}

// owned starts f once the gathering's time is over, as work that Close waits for.
func (m *Metered) owned(f func(), g *gathering) bool {
	m.Publisher.mu.Lock()
	defer m.Publisher.mu.Unlock()
	if m.closed {
		return false
	}
	g.timer = time.NewTimer(m.gather)
	m.puts.Go(func() {
		defer g.timer.Stop()
		select {
		case <-g.timer.C:
		case <-m.life.Done():
		}
		f()
	})
	return true
}

// take lets nobody join any more. The caller holds mu.
func (m *Metered) take(g *gathering) {
	if m.runs[g.key] == g {
		delete(m.runs, g.key)
	}
}

// confirm asks the hub about all that was gathered.
func (m *Metered) confirm(g *gathering) {
	m.mu.Lock()
	m.take(g)
	segs := g.segs
	m.mu.Unlock()
	defer close(g.done)
	slices.SortFunc(segs, func(a, b *journal.Segment) int { return cmp.Compare(a.Seq, b.Seq) })
	for len(segs) > 0 {
		n := 1
		for n < len(segs) && segs[n].Seq <= segs[n-1].Seq+1 {
			n++
		}
		proven, err := m.prove(g.key.hub, segs[0], segs[n-1])
		for _, s := range segs[:n] {
			g.proofs[s.Seq] = proven
		}
		if err != nil {
			g.err = err
		}
		segs = segs[n:]
	}
}

// prove returns the hubs that have signed that they hold a run.
func (m *Metered) prove(hub edge.ID, first, last *journal.Segment) (proven []edge.ID, err error) {
	if m.life.Err() != nil {
		return nil, ErrClosed
	}
	ctx, cancel := context.WithTimeout(m.life, confirmLimit)
	defer cancel()
	want := journal.Custody{Chain: last.Chain, From: first.Seq, To: last.Seq, Hash: last.Hash}
	rand.Read(want.Nonce[:])
	lie := error(nil)
	err = m.to.Confirm(ctx, hub, want, func(storer edge.ID, signature []byte) bool {
		r := m.Count(last.Chain, last.Seq, append([]edge.ID{hub}, proven...))
		c := want
		c.Storer = storer
		if !slices.Contains(r.ids(), storer) {
			lie = fmt.Errorf("transport: hub %s: %w: %s is no hub of this bucket", hub.Short(), ErrLie, storer.Short())
		} else if cerr := c.Check(signature); cerr != nil {
			lie = fmt.Errorf("transport: hub %s: %w: %w", hub.Short(), ErrLie, cerr)
		} else {
			proven = union(proven, storer)
			r = m.Count(last.Chain, last.Seq, append([]edge.ID{hub}, proven...))
		}
		return lie == nil && !r.Forgettable()
	})
	done := m.Count(last.Chain, last.Seq, append([]edge.ID{hub}, proven...)).Published()
	switch {
	case m.life.Err() != nil:
		return proven, ErrClosed
	case lie != nil:
		m.log.Error("ALARM: a hub lies about what others hold; it is left alone", "hub", hub, "err", lie)
		m.rest(hub, true)
		return proven, lie
	case done:
		m.mu.Lock()
		delete(m.bench, hub)
		m.mu.Unlock()
		return proven, nil
	}
	m.rest(hub, false)
	return proven, cmp.Or(err, fmt.Errorf("transport: hub %s handed seq %d to %d on to %d other hubs only", hub.Short(), first.Seq, last.Seq, len(proven)))
}

// union returns ids with more, each once, and leaves ids as it is.
func union(ids []edge.ID, more ...edge.ID) []edge.ID {
	out := slices.Clone(ids)
	for _, id := range more {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}
