// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	// unitBytes ends a unit early, so that three of them per chain fit any memory.
	unitBytes = 2 << 20
	// stall is how long a hub may send nothing before it is left.
	stall = 20 * time.Second
)

var (
	errFull    = errors.New("unit is full")
	errStalled = fmt.Errorf("the hub sent nothing for %v: %w", stall, transport.ErrUnreachable)
)

// unit is what the hubs gave for a run of segments that lies within one bucket, or a hole that nobody claims.
type unit struct {
	span transport.Span
	segs []got // by seq - span.First; none for a hole
	why  map[uint64]error
	size int    // bytes
	top  uint64 // highest seq that was got
}

// got is a proven segment and the hub it came from; seg is nil where none was proven.
type got struct {
	seg *journal.Segment
	hub edge.ID
}

// at returns what the unit has of seq.
func (u *unit) at(seq uint64) got {
	if len(u.segs) == 0 {
		return got{}
	}
	return u.segs[seq-u.span.First]
}

// fetchAll sends the pass's segments as units, in order and without holes between them.
func (s *pass) fetchAll(ctx context.Context, out chan<- *unit) error {
	for cursor := s.first; ; {
		u := s.nextUnit(ctx, cursor)
		select {
		case out <- u:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if u.span.Last >= s.last || s.again.isOver() {
			return nil
		}
		cursor = u.span.Last + 1
	}
}

func (s *pass) nextUnit(ctx context.Context, cursor uint64) *unit {
	next, ok := s.t.next(cursor)
	if !ok || next > s.last {
		return &unit{span: transport.Span{First: cursor, Last: s.last}}
	}
	if next > cursor {
		return &unit{span: transport.Span{First: cursor, Last: next - 1}}
	}
	_, bucketEnd := s.t.chain.Bucket(cursor).Range()
	return s.fetchUnit(ctx, transport.Span{First: cursor, Last: min(bucketEnd, s.last)})
}

// fetchUnit asks the holders one after the other for what is still missing, a second time if a hub failed midway.
func (s *pass) fetchUnit(ctx context.Context, span transport.Span) *unit {
	u := &unit{span: span, segs: make([]got, span.Last-span.First+1), why: map[uint64]error{}}
	for range 2 {
		failed := false
		for _, cl := range s.t.holders(span, s.r.hubIDs()) {
			for _, want := range u.missing(cl) {
				if ctx.Err() != nil || !s.r.up(cl.hub) || want.First > u.span.Last {
					break
				}
				failed = s.fetchInto(ctx, u, cl.hub, want) != nil || failed
			}
		}
		if !failed {
			break
		}
	}
	return u
}

// missing returns the runs that the hub claims and the unit does not have.
func (u *unit) missing(cl claim) []transport.Span {
	var out []transport.Span
	for _, c := range cl.within(u.span) {
		open := false
		for seq := c.First; seq <= c.Last; seq++ {
			switch {
			case u.at(seq).seg != nil:
				open = false
			case open:
				out[len(out)-1].Last = seq
			default:
				out, open = append(out, transport.Span{First: seq, Last: seq}), true
			}
		}
	}
	return out
}

// fetchInto takes a run from one hub. Bad segments are named and left for the next hub; the error is about the hub.
func (s *pass) fetchInto(ctx context.Context, u *unit, hub edge.ID, run transport.Span) error {
	run.Last = min(run.Last, u.span.Last)
	want, visits := run.First, uint64(0)
	full := false
	err := s.fetch(ctx, hub, run, func(raw []byte) error {
		if visits++; visits > 2*(run.Last-run.First+1) {
			return fmt.Errorf("collector: hub %s sends more than was asked for", hub.Short())
		}
		if full = u.size > unitBytes && want > u.top; full {
			return errFull
		}
		want = s.take(u, hub, run, want, bytes.Clone(raw))
		return nil
	})
	if full {
		u.cut()
		return nil
	}
	if err != nil {
		if ctx.Err() == nil {
			s.r.failed(hub, err)
		}
		u.blame(run, fmt.Errorf("hub %s: %w", hub.Short(), err))
		return err
	}
	u.blame(run, fmt.Errorf("hub %s claims it: %w", hub.Short(), errNotSent))
	return nil
}

// take proves one segment that stands where want is expected, and returns what is expected next.
func (s *pass) take(u *unit, hub edge.ID, run transport.Span, want uint64, raw []byte) uint64 {
	seg, err := journal.OpenFrom(raw, s.t.chain, want)
	if err == nil {
		if err = s.t.check(seg); err != nil {
			seg = nil
		}
	}
	if errors.Is(err, journal.ErrBadSeq) {
		if other, openErr := journal.Open(raw, s.t.chain.Fleet); openErr == nil {
			seg = other
		}
	}
	fits := seg != nil && seg.Seq >= run.First && seg.Seq <= run.Last && u.at(seg.Seq).seg == nil
	if fits {
		u.segs[seg.Seq-u.span.First] = got{seg, hub}
		u.size += len(raw)
		u.top = max(u.top, seg.Seq)
		if seg.Seq >= want { // the hub skipped what it does not have
			return seg.Seq + 1
		}
	}
	if err == nil {
		err = fmt.Errorf("collector: seq %d was not asked for: %w", seg.Seq, journal.ErrBadSeq)
	}
	s.r.bad(Bad{Hub: hub, Chain: s.t.chain, Seq: min(want, run.Last), Err: err})
	if seg == nil { // it does not even say what it is: it stands for the one that was expected
		u.blame(transport.Span{First: want, Last: want}, fmt.Errorf("the copy of hub %s is bad: %w", hub.Short(), err))
		want++
	}
	return want
}

// blame notes why the segments of a run are missing, if they are and nothing is known yet.
func (u *unit) blame(run transport.Span, why error) {
	for seq := run.First; seq <= min(run.Last, u.span.Last); seq++ {
		if u.at(seq).seg == nil && u.why[seq] == nil {
			u.why[seq] = why
		}
	}
}

// cut ends the unit at the last segment that it has.
func (u *unit) cut() {
	n := len(u.segs)
	for n > 1 && u.segs[n-1].seg == nil {
		n--
	}
	u.segs, u.span.Last = u.segs[:n], u.span.First+uint64(n)-1
}

// fetch is Source.Fetch with a limit on silence.
func (p *pull) fetch(ctx context.Context, hub edge.ID, span transport.Span, visit func([]byte) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer silence.Stop()
	err := p.c.cfg.Source.Fetch(ctx, hub, p.t.chain, span, func(raw []byte) error {
		silence.Reset(stall)
		return visit(raw)
	})
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, errStalled) {
		return cause
	}
	return err
}

// find gets one segment from whoever has a good copy.
func (p *pull) find(ctx context.Context, seq uint64) (*journal.Segment, error) {
	err := fmt.Errorf("seq %d: %s", seq, p.r.absent())
	for _, cl := range p.t.holders(transport.Span{First: seq, Last: seq}, p.r.hubIDs()) {
		if !p.r.up(cl.hub) {
			continue
		}
		seg, e := p.fetchOne(ctx, cl.hub, seq)
		if e == nil {
			return seg, nil
		}
		err = fmt.Errorf("seq %d: hub %s: %w", seq, cl.hub.Short(), e)
	}
	return nil, err
}
