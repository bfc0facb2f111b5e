// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// pull brings one chain up to date.
type pull struct {
	c   *Collector
	r   *run
	t   *target
	st  *state
	now time.Time

	few  bool  // chains are pulled: what costs a look-up for each may be done
	gone letGo // what a majority of the hubs has let go
}

// fewChains are so many that a look-up in the DHT for each, some 12 ms of CPU over all hubs, is not felt.
const fewChains = 16

func (c *Collector) pull(r *run, t *target, st *state) *pull {
	return &pull{c: c, r: r, t: t, st: st, now: time.Now().UTC()}
}

// pass is one walk over consecutive segments: the chain from its mark to its end, or one old gap.
type pass struct {
	*pull
	first, last uint64
	fill        bool          // an old gap: the mark does not move
	link        *journal.Link // of segment first-1
	restart     bool          // segment first-1 is not known
	after       journal.Hash  // that segment last must have; zero = not known
	opener      *opener
	again       *again // pulled once more for keys that came late; nil: not so
}

// cut takes from the target what a revocation took from the chain; false: nothing is left.
func (p *pull) cut() bool {
	last, ok := p.c.cfg.Fleet().Extent(p.t.chain)
	p.t.last = last
	if ok && last == nil {
		return true
	}
	end := uint64(0)
	if ok {
		end = last.Seq + 1
	}
	for i := range p.t.claims {
		p.t.claims[i].clip(end)
	}
	p.t.proven = min(p.t.proven, end)
	return ok
}

// work is a batch with what is counted once it is committed.
type work struct {
	Batch
	segments, verified, sealed, refused uint64
}

func (p *pull) run(ctx context.Context) error {
	p.r.chain(p.t.chain, func(*ChainReport) {}) // the chain is in the report even if nothing happens
	if !p.cut() {
		return ctx.Err()
	}
	p.learnHead(ctx)
	p.learnGone()
	p.cut()
	from := p.st.mark.next()
	p.proveClaims(ctx, from)
	for _, g := range slices.Clone(p.st.mark.Gaps) {
		if g.Last >= from || !p.worthwhile(g) {
			continue
		}
		if err := p.fillGap(g).run(ctx); err != nil {
			return err
		}
	}
	end := max(p.t.proven, p.t.end())
	if end <= from {
		return ctx.Err()
	}
	if n, ok := p.t.next(from); (!ok || n >= end) && p.st.mark.open(transport.Span{First: from, Last: end - 1}) && !p.changed(from, end-1) {
		return ctx.Err() // all that is known to be there is known to be missing
	}
	clear(p.st.opener.lost)
	s := &pass{pull: p, first: from, last: end - 1, link: p.st.mark.Link, opener: p.st.opener}
	return s.run(ctx)
}

// learnGone takes in what the hubs say they have let go.
func (p *pull) learnGone() {
	if p.gone = p.t.gone(p.r.hubIDs()); p.gone.floor > p.st.gone {
		p.st.gone = p.gone.floor
	}
	p.t.proven = max(p.t.proven, p.gone.floor)
	if high := p.t.highest(); high.floor > p.t.proven && high.floor > p.t.end() {
		why := fmt.Sprintf("hub %s says that it let go all up to seq %d: %s", p.r.name(high.hub), high.floor-1, high.past)
		p.r.chain(p.t.chain, func(c *ChainReport) { c.Unproven = why })
	}
}

// worthwhile reports whether a pass over an old gap may bring something: segments that a hub claims, since it was tried last, or a better reason.
func (p *pull) worthwhile(g Gap) bool {
	n, ok := p.t.next(g.First)
	if !ok || n > g.Last {
		return p.changed(g.First, g.Last)
	}
	return p.t.fresh == nil || slices.ContainsFunc(p.t.fresh, func(s transport.Span) bool { return s.First <= g.Last && s.Last >= g.First })
}

// changed reports whether hubs have let go what is recorded as missing for another reason.
func (p *pull) changed(first, last uint64) bool {
	return slices.ContainsFunc(p.st.mark.Gaps, func(g Gap) bool {
		return g.First <= last && g.Last >= first && g.First < p.gone.floor && !strings.HasPrefix(g.Reason, letGoWords)
	})
}

// fillGap is the pass over an old gap. It has its own keys, because those of the chain's tip are newer.
func (p *pull) fillGap(g Gap) *pass {
	s := &pass{pull: p, first: g.First, last: g.Last, fill: true, after: g.After, opener: p.c.opener(p.t.chain)}
	switch {
	case g.First == 0:
	case g.Before != journal.Hash{}:
		s.link = &journal.Link{Seq: g.First - 1, Hash: g.Before}
	default:
		s.restart = true
	}
	return s
}

// run fetches and verifies, links and opens, and writes, each in its own goroutine, at most one step ahead of the
// next: so memory is bounded by a few units whatever the length of the chain.
func (s *pass) run(ctx context.Context) error {
	s.opener.blame = func(o offered, err error) {
		s.r.bad(Bad{By: o.by, Chain: s.t.chain, Seq: o.rewrap.Epoch, Err: fmt.Errorf("a rewrap of this epoch's key is false: %w", err)})
	}
	g, ctx := errgroup.WithContext(ctx)
	units, works := make(chan *unit), make(chan work)
	g.Go(func() error {
		defer close(units)
		return s.fetchAll(ctx, units)
	})
	g.Go(func() error {
		defer close(works)
		return newLinker(s, works).run(ctx, units)
	})
	g.Go(func() error {
		for w := range works {
			if err := s.write(ctx, w); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("collector: pulling %s: %w", s.t.chain, err)
	}
	return nil
}

// write commits a batch. A reading that the sink cannot hold is kept elsewhere, or its segment becomes a gap, so that one reading does not stop the
// chain for ever.
func (s *pass) write(ctx context.Context, w work) error {
	for {
		err := s.c.cfg.Sink.Write(ctx, w.Batch)
		poison, ok := errors.AsType[*PoisonError](err)
		if !ok {
			if err == nil {
				s.committed(w)
			}
			return err
		}
		s.c.log.Error("reading refused by the sink", "chain", s.t.chain, "err", err)
		if s.c.cfg.Dead == nil {
			if !w.setAside(poison, s.now) {
				return err
			}
		} else if dead := w.bury(s.c, poison); dead != nil {
			return errors.Join(err, dead)
		}
	}
}

// setAside takes a segment's readings out of the batch and records them as a gap; false if there are none.
func (w *work) setAside(p *PoisonError, now time.Time) bool {
	before := len(w.Readings)
	w.Readings = slices.DeleteFunc(slices.Clone(w.Readings), func(r Row) bool { return r.Seq == p.Seq })
	if len(w.Readings) == before {
		return false
	}
	w.Gaps = append(slices.Clone(w.Gaps), Gap{First: p.Seq, Last: p.Seq, Reason: "refused by the sink: " + p.Error(), Found: now})
	sortGaps(w.Gaps)
	return true
}

// committed brings the state and the report in line with the sink.
func (s *pass) committed(w work) {
	m := &s.st.mark
	m.Gaps = w.Regap(m.Gaps, m.Link).Apply(m.Gaps)
	if w.Mark != nil && (m.Link == nil || w.Mark.Seq > m.Link.Seq) {
		m.Link = w.Mark
	}
	s.c.readings.Add(uint64(len(w.Readings)))
	s.c.segments.Add(w.segments)
	s.c.dead.Add(w.refused)
	s.r.chain(s.t.chain, func(cr *ChainReport) {
		cr.Segments += w.segments
		cr.Verified += w.verified
		cr.Readings += uint64(len(w.Readings))
		cr.Sealed += w.sealed
		cr.Refused += w.refused
	})
}
