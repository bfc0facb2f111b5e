// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// fileSize keeps a log at 32 files or so, because room is made by the file.
func (o *Options) fileSize() int64 { return min(max(o.Quota/32, 32<<10), 1<<20) }

// seen is what the scan found out about one chain.
type seen struct {
	*chain
	marks      map[uint64]mark
	checkpoint *checkpoint
}

// mark is what the scan found out about one seq.
type mark struct {
	item    item
	present bool // its segment was found
}

// loader rebuilds the index from the log.
type loader struct {
	b       *Outbox
	chains  map[journal.Incarnation]*seen
	gaps    map[uint64]gap // by id
	told    map[uint64]gap // by id, as segments tell them
	tellers map[uint64]gap // by the order of the segment
	skipped int
	order   uint64
	gapID   uint64
	dropped bool // files were dropped from the log's beginning at some time
	any     bool
	first   uint64 // file
}

// load opens the log and builds the index anew. The caller has the outbox to himself or holds life for writing.
func (b *Outbox) load(ctx context.Context) (Recovery, error) {
	l := &loader{b: b, chains: map[journal.Incarnation]*seen{}, gaps: map[uint64]gap{}, told: map[uint64]gap{}, tellers: map[uint64]gap{}}
	log, found, err := wal.Open(filepath.Join(b.o.Dir, "log"), wal.Options{FileSize: b.o.fileSize(), MaxFrame: maxFrame, Quota: b.o.Quota,
		Logger: b.o.Logger, Wrap: b.o.Wrap}, func(p wal.Pos, frame []byte) error {
		l.visit(p, frame)
		return ctx.Err()
	})
	if err != nil {
		return Recovery{}, fmt.Errorf("outbox: opening: %w", err)
	}
	rec := Recovery{Clean: found.Clean && l.skipped == 0, Dropped: found.Dropped, Reason: found.Reason, Skipped: l.skipped}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log, b.failed, b.first = log, nil, l.first
	if !l.any {
		b.first = log.End().File
	}
	if !rec.Clean {
		rec.Gaps = l.lost()
	}
	rec.Pending = l.install(rec.Clean)
	if rec.Dropped > 0 || rec.Skipped > 0 || len(rec.Gaps) > 0 {
		b.o.Logger.Warn("outbox: the log is damaged, streams begin a new incarnation", "dir", b.o.Dir, "bytes", rec.Dropped,
			"reason", rec.Reason, "skipped", rec.Skipped, "gaps", len(rec.Gaps))
	}
	return rec, nil
}

func (l *loader) visit(p wal.Pos, frame []byte) {
	if !l.any {
		l.any, l.dropped, l.first = true, p.File > 1, p.File
	}
	if err := l.take(p, frame); err != nil {
		l.skipped++
		l.b.o.Logger.Warn("outbox: frame skipped", "dir", l.b.o.Dir, "at", p.String(), "err", err)
	}
}

func (l *loader) take(p wal.Pos, frame []byte) error {
	switch frame[0] {
	case frameSegment, frameGapNote:
		return l.segment(p, frame)
	case frameAck:
		a, err := parseAck(frame)
		if err != nil {
			return err
		}
		l.ack(a)
		return nil
	case frameGap:
		var g gap
		if err := journal.Decode(frame[1:], &g); err != nil {
			return err
		}
		l.gaps[g.ID], l.gapID = g, max(l.gapID, g.ID)
		return nil
	case frameCheckpoint:
		return l.mark(frame)
	}
	return fmt.Errorf("outbox: frame of kind %q: %w", frame[0], journal.ErrMalformed)
}

func (l *loader) chain(stream string, inc journal.Incarnation, tag [8]byte) (*seen, error) {
	s := l.chains[inc]
	if s == nil {
		id, ours := l.b.o.chainOf(stream, inc, tag)
		if !ours {
			return nil, fmt.Errorf("outbox: stream %q, incarnation %s: %w", stream, inc, journal.ErrForeignChain)
		}
		s = &seen{chain: &chain{id: id}, marks: map[uint64]mark{}}
		l.chains[inc] = s
	}
	if s.id.Stream != stream {
		return nil, fmt.Errorf("outbox: incarnation %s is of stream %q: %w", inc, s.id.Stream, journal.ErrForeignChain)
	}
	return s, nil
}

func (l *loader) segment(p wal.Pos, frame []byte) error {
	m, told, _, err := parseSegment(frame)
	if err != nil {
		return err
	}
	if l.b.doubts[m.hash] {
		return nil
	}
	s, err := l.chain(m.stream, m.incarnation, m.tag)
	if err != nil {
		return err
	}
	if m.seq > journal.MaxSeq || m.epoch > m.seq {
		return fmt.Errorf("outbox: seq %d, epoch %d: %w", m.seq, m.epoch, journal.ErrMalformed)
	}
	k, known := s.marks[m.seq]
	if known && k.item.hash != m.hash {
		return fmt.Errorf("outbox: %s seq %d: %w", s.id, m.seq, journal.ErrFork)
	}
	k.present = true
	k.item.seq, k.item.epoch, k.item.order, k.item.hash, k.item.kind = m.seq, m.epoch, m.order, m.hash, m.kind
	k.item.file, k.item.off, k.item.size, k.item.count = uint32(p.File), uint32(p.Off), uint32(len(frame)), m.count
	k.item.tells = told != nil
	s.marks[m.seq] = k
	s.advance(journal.Link{Seq: m.seq, Hash: m.hash}, m.epoch, m.order, m.spooled)
	l.order = max(l.order, m.order)
	if told != nil {
		l.told[told.ID] = *told
		l.tellers[m.order] = *told
		l.gapID = max(l.gapID, told.ID)
	}
	return nil
}

// ack notes what became of a segment, even if the segment itself is not found: then nothing is lost.
func (l *loader) ack(a ack) {
	s := l.chains[a.incarnation]
	if s == nil || a.link.Seq > journal.MaxSeq {
		return // all of its segments are gone
	}
	k, known := s.marks[a.link.Seq]
	if known && k.item.hash != a.link.Hash {
		return
	}
	k.item.seq, k.item.hash = a.link.Seq, a.link.Hash
	k.item.state |= a.state
	k.item.hubs = union(k.item.hubs, a.hubs)
	s.marks[a.link.Seq] = k
	s.advance(a.link, 0, 0, 0)
}

func (l *loader) mark(frame []byte) error {
	var c checkpoint
	if err := journal.Decode(frame[1:], &c); err != nil {
		return err
	}
	for _, live := range c.Live {
		if live.First > live.Last || live.Last > c.Tip.Seq || c.Tip.Seq > journal.MaxSeq {
			return fmt.Errorf("outbox: checkpoint of seq %d to %d, tip %d: %w", live.First, live.Last, c.Tip.Seq, journal.ErrMalformed)
		}
	}
	s, err := l.chain(c.Stream, c.Incarnation, c.Tag)
	if err != nil {
		return err
	}
	s.checkpoint = &c
	s.advance(c.Tip, 0, c.Order, c.Spooled)
	l.order = max(l.order, c.Order)
	return nil
}

// lost finds the segments that were durable once and cannot be found any more, or cannot be read by anyone because the
// segment with their epoch's key is lost, and makes gaps of them.
func (l *loader) lost() []journal.GapNote {
	var out []journal.GapNote
	for _, s := range l.sorted() {
		missing := map[uint64]bool{}
		for _, span := range s.expected(l.dropped) {
			if n := uint64(l.b.o.Quota / ackSize); span.Last-span.First > n {
				span.First = span.Last - n // the log never held more
			}
			for seq := span.First; seq <= span.Last; seq++ {
				k := s.marks[seq]
				if k.item.state != 0 || k.present && !missing[k.item.epoch] {
					continue
				}
				missing[seq] = true
				if known(l.gaps, s.id.Incarnation, seq) || known(l.told, s.id.Incarnation, seq) {
					continue
				}
				if k.present {
					k.item.state = givenUp
					s.marks[seq] = k
				}
				out = grow(out, s.id.Incarnation, seq, uint64(k.item.count))
			}
		}
	}
	for _, n := range out {
		l.gapID++
		l.gaps[l.gapID] = gap{ID: l.gapID, Stream: l.chains[n.Incarnation].id.Stream, Note: n}
	}
	return out
}

// grow adds a lost segment to the last gap, or begins another one.
func grow(gaps []journal.GapNote, inc journal.Incarnation, seq, readings uint64) []journal.GapNote {
	if n := len(gaps) - 1; n >= 0 && gaps[n].Incarnation == inc && gaps[n].To+1 == seq {
		gaps[n].To++
		gaps[n].Segments++
		gaps[n].Readings += readings
		return gaps
	}
	return append(gaps, journal.GapNote{Reason: journal.GapRecovery, Incarnation: inc, From: seq, To: seq, Segments: 1, Readings: readings})
}

// known reports whether a gap names the segment already.
func known(gaps map[uint64]gap, inc journal.Incarnation, seq uint64) bool {
	for _, g := range gaps {
		if n := g.Note; n.Incarnation == inc && n.Segments > 0 && n.From <= seq && seq <= n.To {
			return true
		}
	}
	return false
}

// expected returns the seqs that the log should hold, or what became of them.
func (s *seen) expected(dropped bool) []transport.Span {
	if s.tip == nil {
		return nil
	}
	first := uint64(0)
	var spans []transport.Span
	if c := s.checkpoint; c != nil {
		spans, first = append(spans, c.Live...), c.Tip.Seq+1
	} else if dropped { // how much of the beginning was dropped is not known
		first = s.tip.Seq
		for seq := range s.marks {
			first = min(first, seq)
		}
	}
	if first <= s.tip.Seq {
		spans = append(spans, transport.Span{First: first, Last: s.tip.Seq})
	}
	return spans
}

// sorted returns the chains, oldest first.
func (l *loader) sorted() []*seen {
	var out []*seen
	for _, s := range l.chains {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *seen) int {
		return cmp.Or(cmp.Compare(a.order, b.order), slices.Compare(a.id.Incarnation[:], b.id.Incarnation[:]))
	})
	return out
}

// install replaces the outbox's index by what was found and returns how many segments are not done. The caller holds mu.
func (l *loader) install(clean bool) int {
	b, pending := l.b, 0
	b.chains, b.gaps = map[journal.Incarnation]*chain{}, map[string][]gap{}
	b.ring, b.retries, b.unsent, b.acks = nil, nil, 0, nil
	b.telling, b.tellers, b.dirty, b.live = map[uint64]gap{}, map[uint64]gap{}, map[uint64]bool{}, map[uint32]int{}
	b.pins, b.spent = map[uint64]int{}, map[uint32]map[string]Tally{}
	b.order, b.gapID = max(b.order, l.order), max(b.gapID, l.gapID)
	newest := map[string]*chain{}
	for _, s := range l.sorted() {
		for _, k := range s.marks {
			switch {
			case k.present && !k.item.state.done():
				s.items = append(s.items, k.item)
			case k.present && k.item.state&forgettable != 0:
				b.spend(k.item.file, s.id.Stream, k.item.count, k.item.size)
			}
		}
		slices.SortFunc(s.items, func(a, b item) int { return cmp.Compare(a.seq, b.seq) })
		for i := range s.items {
			b.adopt(s.chain, &s.items[i])
			if g, ok := l.tellers[s.items[i].order]; ok {
				b.tellers[s.items[i].order] = g
			}
		}
		pending += len(s.items)
		b.chains[s.id.Incarnation] = s.chain
		b.ring = append(b.ring, s.chain)
		newest[s.id.Stream] = s.chain
	}
	for _, id := range slices.Sorted(maps.Keys(l.gaps)) {
		if _, told := l.told[id]; !told {
			b.gaps[l.gaps[id].Stream] = append(b.gaps[l.gaps[id].Stream], l.gaps[id])
			b.dirty[id] = true
		}
	}
	b.restart(newest, clean)
	return pending
}

// adopt counts an item that is not done and sees that it is published.
func (b *Outbox) adopt(c *chain, it *item) {
	b.live[it.file]++
	if it.state&published == 0 {
		b.unsent += int64(it.size)
		return
	}
	b.later(c, it)
}

// restart tells the streams with what to go on.
func (b *Outbox) restart(newest map[string]*chain, clean bool) {
	if b.streams == nil {
		b.streams = map[string]*stream{}
	}
	for name, c := range newest {
		s := b.streams[name]
		if s == nil {
			s = &stream{name: name, spooled: b.consumed()[name]}
			b.streams[name] = s
		}
		former := c.id.Device != b.o.Signer.ID() // ended for good; a continuation can name only what the same key signed
		s.chain, s.resume, s.open, s.writer = c, clean && !former, false, nil
		if !clean && !former && c.tip != nil {
			s.after = &journal.Continuation{Incarnation: c.id.Incarnation, Last: *c.tip}
		}
	}
	for name, s := range b.streams { // written to before, and nothing of it is left
		if newest[name] == nil {
			s.chain, s.resume, s.open, s.writer = nil, false, false, nil
		}
	}
}

// union adds to have what it lacks.
func union(have, add []edge.ID) []edge.ID {
	for _, h := range add {
		if !slices.Contains(have, h) {
			have = append(have, h)
		}
	}
	return have
}
