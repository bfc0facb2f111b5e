// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// maxBook bounds what is kept of the signed records of one collector, in bytes: some 40 000 chains. Of more, those records are given up that say
// least; what they spoke of is held until its age.
const maxBook = 4 << 20

// book is what one collector said. Store.mu guards it.
type book struct {
	marks map[journal.Chain]mark // the highest of each chain
	size  int64                  // of the records
}

// mark is how far a collector has a chain.
type mark struct {
	journal.Link
	in *record
}

// record is a signed journal.Watermarks that is kept while one of its marks is the highest.
type record struct {
	at   spot
	wins int
}

// mark lets a record count that was written at a spot. seen is nil while the log is read: what is held may be known only later.
func (l *ledger) mark(w *journal.Watermarks, at spot, seen []journal.Watermark) {
	b := l.books[w.Collector]
	if b == nil {
		b = &book{marks: map[journal.Chain]mark{}}
		l.books[w.Collector] = b
	}
	if seen == nil {
		seen = w.Marks
	}
	r := &record{at: at}
	for _, m := range seen {
		old, known := b.marks[m.Chain]
		if known && (old.Seq > m.Link.Seq || old.Seq == m.Link.Seq && old.Hash != m.Link.Hash) {
			continue // what says the same again may be the same record, moved
		}
		b.marks[m.Chain] = mark{m.Link, r}
		if known && old.in == r {
			continue
		}
		r.wins++
		if known {
			l.lose(b, old.in)
		}
	}
	if r.wins > 0 {
		l.alive(at)
		b.size += int64(at.size)
	}
	for b.size > maxBook {
		l.giveUp(b)
	}
}

// lose takes one mark from a record.
func (l *ledger) lose(b *book, r *record) {
	if r.wins--; r.wins == 0 {
		l.dead(r.at)
		b.size -= int64(r.at.size)
	}
}

// giveUp forgets the record that says least, the oldest of several.
func (l *ledger) giveUp(b *book) {
	var least *record
	for _, m := range b.marks {
		if least == nil || m.in.wins < least.wins || m.in.wins == least.wins && m.in.at.pos().Compare(least.at.pos()) < 0 {
			least = m.in
		}
	}
	l.unsay(b, least)
}

// unsay forgets a record.
func (l *ledger) unsay(b *book, r *record) {
	for c, m := range b.marks {
		if m.in == r {
			delete(b.marks, c)
			l.lose(b, r)
		}
	}
}

// peekMarks reads a record that was proven before it was written.
func peekMarks(signed []byte, f journal.FleetID) (w journal.Watermarks, err error) {
	payload, err := journal.PeekRecord(signed)
	if err != nil {
		return w, err
	}
	if err := journal.Decode(payload, &w); err != nil {
		return w, err
	}
	if w.Fleet != f {
		return w, fmt.Errorf("store: watermarks of fleet %s: %w", w.Fleet, journal.ErrWrongFleet)
	}
	return w, nil
}

// Mark implements transport.Bookkeeper: it takes the signed watermarks of a collector of the fleet, whoever brings them. Marks of chains that the
// collector may not read, marks below what is known and marks that contradict a segment that is held change nothing. Otherwise the error is a
// *transport.Refusal, wraps ErrClosed, or is ctx.Err().
func (s *Store) Mark(ctx context.Context, signed []byte) error {
	f := s.o.Fleet()
	w, err := journal.OpenWatermarks(signed, f.ID())
	if err != nil {
		return s.refuse(transport.RefusedInvalid, err.Error())
	}
	if !f.Is(w.Collector, fleet.Collector) {
		return s.refuse(transport.RefusedNotAllowed, fmt.Sprintf("%s is no collector of the fleet", w.Collector))
	}
	news := s.news(f, &w)
	if len(news) == 0 {
		return nil
	}
	if !s.rates.allow(w.Collector, len(signed)) {
		return s.refuse(transport.RefusedRate, fmt.Sprintf("%s marks more than its share", w.Collector))
	}
	frame := frameOf(frameMarks, signed)
	return s.answer(s.append(ctx, write{frames: [][]byte{frame}, room: 2 * s.moving(), settle: func(at []wal.Pos) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p := spotAt(at[0], len(frame))
		s.written(p)
		s.mark(&w, p, news)
	}}))
}

// news returns which marks of a proven record are new and may count.
func (s *Store) news(f *fleet.Fleet, w *journal.Watermarks) (out []journal.Watermark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.books[w.Collector]
	for _, m := range w.Marks {
		if b != nil {
			if old, known := b.marks[m.Chain]; known && old.Seq >= m.Link.Seq {
				continue
			}
		}
		if h := s.chains[m.Chain]; h != nil && h.contradicts(m.Link) || !f.May(w.Collector, fleet.Read, m.Chain.Device, m.Chain.Stream) {
			continue
		}
		out = append(out, m)
	}
	return out
}

// contradicts reports whether another segment stands at a link.
func (h *held) contradicts(l journal.Link) bool {
	if e, ok := h.get(l.Seq); ok {
		return e.hash != l.Hash
	}
	return h.past.floor > 0 && h.past.last.Seq == l.Seq && h.past.last.Hash != l.Hash
}

// Marks implements transport.Bookkeeper: it visits, oldest first, the newest signed records that together say all that this hub knows of
// what collectors have. The slice is visit's to keep.
func (s *Store) Marks(ctx context.Context, visit func(signed []byte) error) error {
	for _, at := range s.records() {
		if err := ctx.Err(); err != nil {
			return err
		}
		frame, err := s.readFrame(at.pos())
		if err != nil {
			if s.isClosed() {
				return err
			}
			continue // moved, or superseded meanwhile; a damaged one is as good as unsaid
		}
		if err := visit(frame[1:]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) records() []spot {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[spot]struct{}{}
	for _, b := range s.books {
		for _, m := range b.marks {
			all[m.in.at] = struct{}{}
		}
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b spot) int { return a.pos().Compare(b.pos()) })
}
