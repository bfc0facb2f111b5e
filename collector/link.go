// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

const (
	batchRows     = 10_000 // readings after which a batch is handed to the sink …
	batchSegments = 1_024  // … or segments
)

// linker proves that the segments of a pass continue the chain, opens them and makes batches.
type linker struct {
	*pass
	out     chan<- work
	link    *journal.Link
	restart bool                  // the place before is missing: the next segment begins anew
	last    *journal.Segment      // the newest accepted one
	refused map[journal.Hash]bool // hashes of segments at the place before that lost against another
	pending *Gap                  // a run of missing segments that has not ended yet
	w       work
}

func newLinker(s *pass, out chan<- work) *linker {
	l := &linker{pass: s, out: out, link: s.link, restart: s.restart}
	l.begin(s.first)
	return l
}

func (l *linker) begin(from uint64) {
	l.w = work{Batch: Batch{Chain: l.t.chain, Name: l.c.cfg.Fleet().NameOf(l.t.chain.Device), From: from, Received: l.now}}
}

func (l *linker) run(ctx context.Context, units <-chan *unit) error {
	for u := range units {
		if l.again.isOver() {
			continue // fetched ahead
		}
		if len(u.segs) == 0 {
			l.whyMissing(u.span, l.miss)
			continue
		}
		for seq := u.span.First; seq <= u.span.Last && !l.again.isOver(); seq++ {
			if err := l.step(ctx, u, seq); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return l.end(ctx)
}

// step settles one place of the chain.
func (l *linker) step(ctx context.Context, u *unit, seq uint64) error {
	g := u.at(seq)
	if g.seg == nil {
		place := transport.Span{First: seq, Last: seq}
		if why := u.why[seq]; why != nil {
			l.miss(place, why.Error())
		} else {
			l.whyMissing(place, l.miss)
		}
		return nil
	}
	seg := g.seg
	if err := l.check(seg); err != nil {
		var lost []*journal.Segment
		seg, lost = l.resolve(ctx, g, err)
		l.refused = map[journal.Hash]bool{}
		for _, s := range lost {
			l.refused[s.Hash] = true
		}
		if seg == nil {
			l.miss(transport.Span{First: seq, Last: seq}, "every copy is of another branch of a forked chain")
			return nil
		}
	} else {
		l.refused = nil
	}
	l.againstHead(seg)
	if l.again.ends(seg) {
		return nil
	}
	if err := l.accept(ctx, seg); err != nil {
		return err
	}
	if len(l.w.Readings) >= batchRows || l.w.segments >= batchSegments {
		return l.flush(ctx)
	}
	return nil
}

// check holds a segment against the place before it, and at the end of an old gap against the place after it.
func (l *linker) check(seg *journal.Segment) error {
	if l.refused[seg.Prev] {
		return fmt.Errorf("collector: seq %d continues a refused branch: %w", seg.Seq, journal.ErrFork)
	}
	if l.after != (journal.Hash{}) && seg.Seq == l.pass.last && seg.Hash != l.after {
		return fmt.Errorf("collector: seq %d is not what its successor names: %w", seg.Seq, journal.ErrFork)
	}
	if l.restart {
		return nil
	}
	return l.link.Check(&seg.Header)
}

// resolve looks at all copies of a place whose segment does not fit: the one that does is taken, the others are named
// and returned, and contradictions are kept as proofs.
func (l *linker) resolve(ctx context.Context, g got, cause error) (fit *journal.Segment, lost []*journal.Segment) {
	all := l.variants(ctx, g.seg.Seq, g)
	for _, v := range all {
		err := cause
		if v.seg != g.seg {
			err = l.check(v.seg)
		}
		if err == nil && fit == nil {
			fit = v.seg
			continue
		}
		if err == nil {
			err = fmt.Errorf("collector: another segment stands in its place: %w", journal.ErrFork)
		}
		lost = append(lost, v.seg)
		l.r.bad(Bad{Hub: v.hub, Chain: l.t.chain, Seq: v.seg.Seq, Err: err})
	}
	l.prove(all)
	if errors.Is(cause, journal.ErrFork) && l.link != nil && len(all) < 2 {
		l.prove(l.variants(ctx, l.link.Seq, got{seg: l.last}))
	}
	return fit, lost
}

// variants returns the different segments that the hubs have for a place, the given one first.
func (l *linker) variants(ctx context.Context, seq uint64, known got) []got {
	var out []got
	if known.seg != nil {
		out = append(out, known)
	}
	for _, cl := range l.holders(transport.Span{First: seq, Last: seq}) {
		if !l.r.up(cl.hub) || cl.hub == known.hub {
			continue
		}
		seg, err := l.fetchOne(ctx, cl.hub, seq)
		if err != nil {
			continue
		}
		same := false
		for _, o := range out {
			same = same || o.seg.Hash == seg.Hash
		}
		if !same {
			out = append(out, got{seg, cl.hub})
		}
	}
	return out
}

func (l *linker) prove(all []got) {
	if len(all) < 2 {
		return
	}
	l.fork(all[0].seg.Seq, all[0].seg.SignedHeader(), all[1].seg.SignedHeader())
}

func (l *linker) fork(seq uint64, a, b []byte) {
	f := Fork{Seq: seq, Proof: journal.Fork{A: a, B: b}}
	if _, _, err := f.Proof.Prove(l.t.chain.Fleet); err != nil {
		return
	}
	if l.r.fork(l.t.chain, f) {
		l.w.Forks = append(l.w.Forks, f)
	}
}

// againstHead compares a segment with the head that the DHT knew for its place.
func (l *linker) againstHead(seg *journal.Segment) {
	if h := l.t.head; h != nil && h.seq == seg.Seq && h.hash != seg.Hash {
		l.fork(seg.Seq, seg.SignedHeader(), h.signed)
	}
}

// accept takes a segment into the batch.
func (l *linker) accept(ctx context.Context, seg *journal.Segment) error {
	if l.pending != nil {
		l.pending.After = seg.Prev
		l.w.Gaps = append(l.w.Gaps, *l.pending)
		l.pending = nil
	}
	link := seg.Link()
	l.link, l.last, l.restart = &link, seg, false
	l.t.proven = max(l.t.proven, seg.Seq+1)
	l.w.segments++
	got, err := l.opener.open(ctx, seg, l.find)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		l.unreadable(seg, err)
		return nil
	}
	l.add(seg, got.readings)
	if got.sealed {
		l.w.sealed++
	}
	if got.note != nil {
		l.w.Notes = append(l.w.Notes, *got.note)
		l.r.note(l.t.chain, *got.note)
	}
	return nil
}

// add appends rows. The room for a batch is made once, for as many segments like this one as may still come: growing it
// step by step costs more than proving the segments does.
func (l *linker) add(seg *journal.Segment, readings []edge.Reading) {
	if l.w.Readings == nil && len(readings) > 0 {
		left := min(l.pass.last-seg.Seq, batchSegments)
		l.w.Readings = make([]Row, 0, min(int(left+1)*len(readings), batchRows+len(readings)))
	}
	for i, r := range readings {
		l.w.Readings = append(l.w.Readings, Row{Seq: seg.Seq, Index: i, Boot: seg.Boot, Reading: r})
	}
	l.w.verified += uint64(len(readings))
}

// unreadable records a segment that is proven and stands in its place, but whose readings cannot be had.
func (l *linker) unreadable(seg *journal.Segment, err error) {
	if !errors.Is(err, journal.ErrUnknownEpoch) && l.opener.lost[seg.Epoch] == nil {
		l.r.bad(Bad{Chain: l.t.chain, Seq: seg.Seq, Err: err})
	}
	g := Gap{First: seg.Seq, Last: seg.Seq, Reason: err.Error(), Found: l.now, Before: seg.Prev, After: seg.Hash}
	if n := len(l.w.Gaps); n > 0 && l.w.Gaps[n-1].Last+1 == g.First && l.w.Gaps[n-1].Reason == g.Reason {
		l.w.Gaps[n-1].Last, l.w.Gaps[n-1].After = g.Last, g.After
		return
	}
	l.w.Gaps = append(l.w.Gaps, g)
}

// miss records a run of places for which no good copy was found. The pass goes on after it.
func (l *linker) miss(span transport.Span, why string) {
	l.restart = true
	if l.again != nil && !l.st.mark.open(span) {
		l.again.missed = true
	}
	if l.pending != nil && l.pending.Reason == why {
		l.pending.Last = span.Last
		return
	}
	g := Gap{First: span.First, Last: span.Last, Reason: why, Found: l.now}
	if l.pending != nil {
		l.w.Gaps = append(l.w.Gaps, *l.pending)
	} else if l.link != nil && l.link.Seq+1 == g.First {
		g.Before = l.link.Hash
	}
	l.pending = &g
}

// flush hands over what ends with the newest accepted segment.
func (l *linker) flush(ctx context.Context) error {
	l.w.To = l.link.Seq
	if !l.fill {
		l.w.Mark = l.link
	}
	return l.send(ctx, l.link.Seq+1)
}

func (l *linker) send(ctx context.Context, next uint64) error {
	select {
	case l.out <- l.w:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	l.begin(next)
	return nil
}

// end hands over the rest. Places after everything that is proven are no gap: a hub only claimed to have them.
func (l *linker) end(ctx context.Context) error {
	if l.w.segments > 0 {
		tail := l.splitTail()
		if err := l.flush(ctx); err != nil {
			return err
		}
		l.w.Gaps = tail
	}
	if l.pending != nil {
		l.w.Gaps = append(l.w.Gaps, *l.pending)
	}
	if !l.fill {
		l.onlyProven()
	} else if n := len(l.w.Gaps); n > 0 && l.w.Gaps[n-1].Last == l.pass.last {
		l.w.Gaps[n-1].After = l.after
	}
	if n := len(l.w.Gaps); n > 0 {
		l.w.To = l.w.Gaps[n-1].Last
		return l.send(ctx, l.w.To+1)
	}
	if len(l.w.Forks) > 0 {
		l.w.From, l.w.To = 1, 0 // covers nothing
		return l.send(ctx, 0)
	}
	return nil
}

// splitTail takes those gaps out of the batch that lie after the newest accepted segment.
func (l *linker) splitTail() []Gap {
	for i, g := range l.w.Gaps {
		if g.First > l.link.Seq {
			tail := append([]Gap(nil), l.w.Gaps[i:]...)
			l.w.Gaps = l.w.Gaps[:i]
			return tail
		}
	}
	return nil
}

// onlyProven drops the missing places after the proven end and names the hubs that claimed them.
func (l *linker) onlyProven() {
	end := max(l.t.proven, l.first)
	var kept []Gap
	for _, g := range l.w.Gaps {
		if g.First < end {
			kept = append(kept, g.slice(g.First, min(g.Last, end-1)))
		}
	}
	l.w.Gaps = kept
	for _, cl := range l.t.holders(transport.Span{First: end, Last: ^uint64(0)}, nil) {
		if l.r.up(cl.hub) && !l.r.isBad(cl.hub, l.t.chain, end) {
			err := fmt.Errorf("collector: claims a segment that nothing proves: %w", errNotSent)
			l.r.bad(Bad{Hub: cl.hub, Chain: l.t.chain, Seq: end, Err: err})
		}
	}
}
