// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"

	"golang.org/x/sync/errgroup"

	"github.com/streembit/edge/transport"
)

// lookAhead is how many buckets all chains together fetch before their turn: so one long chain is read from several hubs at a time, and the memory
// does not depend on how many chains there are. At most lookAhead units and three for each chain under way are kept, of unitBytes and a segment each:
// 38 MB if all were full. Measured with the rows: 30 MB for a million readings of one device, 21 MB for those of a thousand (bench, PullShapes).
const lookAhead = 6

// stretch is a part of a pass that is fetched by one goroutine, in one unit or, where segments are large, several.
type stretch struct {
	span  transport.Span
	hole  bool // nobody claims it
	units chan *unit
}

// fetchAll sends the pass's segments as units, in order and without holes between them. Buckets are fetched side by side, as far as there are
// places: one for each pass, so that every chain goes on, and some for all.
func (s *pass) fetchAll(ctx context.Context, out chan<- *unit) error {
	g, ctx := errgroup.WithContext(ctx)
	line := make(chan *stretch, lookAhead)
	g.Go(func() error {
		defer close(line)
		return s.fetchAhead(ctx, g, line)
	})
	g.Go(func() error {
		for st := range line {
			for u := range st.units {
				select {
				case out <- u:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
		return ctx.Err()
	})
	return g.Wait()
}

// fetchAhead starts the stretches in order. The first that is not read yet always runs, so nobody waits for ever for a place.
func (s *pass) fetchAhead(ctx context.Context, g *errgroup.Group, line chan<- *stretch) error {
	own := make(chan struct{}, 1)
	for cursor := s.first; cursor <= s.last && !s.again.isOver() && s.counts(cursor); {
		st := s.stretch(cursor)
		cursor = st.span.Last + 1
		places := own
		select {
		case own <- struct{}{}:
		case s.c.ahead <- struct{}{}:
			places = s.c.ahead
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		g.Go(func() error {
			defer func() { <-places }()
			defer close(st.units)
			return s.fetchStretch(ctx, st)
		})
		select {
		case line <- st:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// counts reports whether the fleet still lets a place count: a device may be revoked during a long pull.
func (s *pass) counts(seq uint64) bool {
	last, ok := transport.Extent(s.c.cfg.Fleet(), s.t.chain)
	return ok && (last == nil || seq <= last.Seq)
}

// stretch returns what comes next: a hole, or what hubs claim of a bucket.
func (s *pass) stretch(cursor uint64) *stretch {
	st := &stretch{units: make(chan *unit)}
	next, ok := s.t.next(cursor)
	switch {
	case !ok || next > s.last:
		st.span, st.hole = transport.Span{First: cursor, Last: s.last}, true
	case next > cursor:
		st.span, st.hole = transport.Span{First: cursor, Last: next - 1}, true
	default:
		_, end := s.t.chain.Bucket(cursor).Range()
		st.span = transport.Span{First: cursor, Last: min(end, s.last)}
	}
	return st
}

// fetchStretch fetches a stretch.
func (s *pass) fetchStretch(ctx context.Context, st *stretch) error {
	for span := st.span; ; {
		u := &unit{span: span}
		if !st.hole {
			u = s.fetchUnit(ctx, span)
		}
		select {
		case st.units <- u:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if u.span.Last >= span.Last {
			return nil
		}
		span.First = u.span.Last + 1
	}
}
