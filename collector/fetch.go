// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	// unitBytes ends a unit early, so that a few of them per chain fit any memory.
	unitBytes = 1 << 20
	// stall is how long a hub may send nothing before it is left.
	stall = 20 * time.Second
)

var (
	errFull    = errors.New("unit is full")
	errStalled = fmt.Errorf("the hub sent nothing for %v: %w", stall, transport.ErrUnreachable)
)

// unit is what the hubs gave for a run of segments that lies within one bucket, or a hole that nobody claims. While it is filled several requests
// may write to it; afterwards it belongs to the linker.
type unit struct {
	mu   sync.Mutex
	span transport.Span
	segs []got // by seq - span.First; none for a hole
	why  map[uint64]error
	size int    // bytes
	top  uint64 // highest seq that was got
	full bool   // it was ended early
	seen time.Time
}

// got is a proven segment and the hub it came from; seg is nil where none was proven.
type got struct {
	seg *journal.Segment
	hub edge.ID
}

// at returns what the unit has of seq.
func (u *unit) at(seq uint64) got {
	if len(u.segs) == 0 || seq > u.span.Last {
		return got{}
	}
	return u.segs[seq-u.span.First]
}

// missing returns the runs that the hub claims and the unit does not have.
func (u *unit) missing(cl *claim) []transport.Span {
	u.mu.Lock()
	defer u.mu.Unlock()
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

// whole reports whether nothing is missing.
func (u *unit) whole() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return !slices.ContainsFunc(u.segs, func(g got) bool { return g.seg == nil })
}

// last returns where the unit ends now.
func (u *unit) last() uint64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.span.Last
}

// fetchInto takes a run from one hub. Bad segments are named and left for the next hub; the error is about the hub.
func (p *pull) fetchInto(ctx context.Context, u *unit, hub edge.ID, run transport.Span) error {
	run.Last = min(run.Last, u.last())
	want, visits := run.First, uint64(0)
	full := false
	err := p.fetch(ctx, hub, run, func(raw []byte) error {
		if visits++; visits > 2*(run.Last-run.First+1) {
			return fmt.Errorf("collector: hub %s sends more than was asked for", hub.Short())
		}
		if full = u.cutIfFull(want); full {
			return errFull
		}
		want = p.take(u, hub, run, want, bytes.Clone(raw))
		return nil
	})
	switch {
	case full:
		return nil
	case err == nil:
		if asked := run.Last - run.First + 1; visits < asked {
			p.r.withheld(hub, asked-visits)
		}
		u.blame(run, fmt.Errorf("hub %s claims it: %w", hub.Short(), errNotSent))
		return nil
	case ctx.Err() == nil:
		p.r.failed(hub, err)
		u.blame(run, fmt.Errorf("hub %s: %w", hub.Short(), err))
	}
	return err
}

// take proves one segment that stands where want is expected, and returns what is expected next.
func (p *pull) take(u *unit, hub edge.ID, run transport.Span, want uint64, raw []byte) uint64 {
	seg, err := journal.OpenFrom(raw, p.t.chain, want)
	if err == nil {
		if err = p.t.check(seg); err != nil {
			seg = nil
		}
	}
	if errors.Is(err, journal.ErrBadSeq) {
		if other, openErr := journal.Open(raw, p.t.chain.Fleet); openErr == nil {
			seg = other
		}
	}
	if seg != nil && seg.Seq >= run.First && seg.Seq <= run.Last && u.put(got{seg, hub}, len(raw)) {
		if seg.Seq >= want { // the hub skipped what it does not have
			return seg.Seq + 1
		}
	}
	if err == nil && seg.Seq == want { // another hub was faster
		return want + 1
	}
	if err == nil {
		err = fmt.Errorf("collector: seq %d was not asked for: %w", seg.Seq, journal.ErrBadSeq)
	}
	p.r.bad(Bad{Hub: hub, Chain: p.t.chain, Seq: min(want, run.Last), Err: err})
	if seg == nil { // it does not even say what it is: it stands for the one that was expected
		u.blame(transport.Span{First: want, Last: want}, fmt.Errorf("the copy of hub %s is bad: %w", hub.Short(), err))
		want++
	}
	return want
}

// put keeps a segment in its place; false if there is one already, or no place.
func (u *unit) put(g got, size int) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.seen = time.Now()
	if g.seg.Seq > u.span.Last || u.at(g.seg.Seq).seg != nil {
		return false
	}
	u.segs[g.seg.Seq-u.span.First] = g
	u.size += size
	u.top = max(u.top, g.seg.Seq)
	return true
}

// blame notes why the segments of a run are missing, if they are and nothing is known yet.
func (u *unit) blame(run transport.Span, why error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for seq := run.First; seq <= min(run.Last, u.span.Last); seq++ {
		if u.at(seq).seg == nil && u.why[seq] == nil {
			u.why[seq] = why
		}
	}
}

// cutIfFull ends a unit that has enough bytes at the last segment that it has. What is missing before that is still asked for.
func (u *unit) cutIfFull(want uint64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.size <= unitBytes || want <= u.top {
		return false
	}
	n := len(u.segs)
	for n > 1 && u.segs[n-1].seg == nil {
		n--
	}
	u.segs, u.span.Last, u.full = u.segs[:n], u.span.First+uint64(n)-1, true
	return true
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
	for _, cl := range p.holders(transport.Span{First: seq, Last: seq}) {
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
