// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// ErrNoFork is wrapped by Renew when the two segments do not contradict each other.
var ErrNoFork = errors.New("the two segments prove no fork")

// Renew gives up an incarnation that somebody else with the device's key writes too: a clone, or this device from a copy of its card. mine is
// the outbox's segment, rival the proven other one that stands in its place, or that it does not link to. Both headers are kept (Forks). The stream begins
// a new incarnation that names the last link before mine, and what is not published from mine on is sealed again there; what was sealed
// before Open, whose keys the device does not have any more, becomes a gap that readers are told of. Nothing that was published changes.
//
// Call it for each segment that a hub refuses as a fork, before Ack. ErrNoEpoch: the stream was not started since Open, call it again then.
func (b *Outbox) Renew(ctx context.Context, mine, rival *journal.Segment) error {
	if !Contradicts(mine, rival) {
		return fmt.Errorf("outbox: renewing %s at seq %d: %w", mine.Chain, mine.Seq, ErrNoFork)
	}
	if err := b.keepFork(journal.Fork{A: slices.Clone(mine.SignedHeader()), B: slices.Clone(rival.SignedHeader())}); err != nil {
		return err
	}
	_, err := b.write(ctx, mine.Chain.Stream, func(s *stream) (*journal.Segment, error) {
		b.mu.Lock()
		c := b.chains[mine.Chain.Incarnation]
		b.mu.Unlock()
		if c == nil {
			return nil, nil // all of it is done
		}
		if s.chain == c {
			b.giveUpChain(s, mine)
		}
		return nil, b.sealAgain(s, c, mine.Seq)
	})
	return err
}

// Contradicts reports whether two segments of one chain cannot both stand in it.
func Contradicts(a, b *journal.Segment) bool {
	switch {
	case a.Chain != b.Chain:
		return false
	case a.Seq == b.Seq:
		return a.Hash != b.Hash
	case a.Seq == b.Seq+1:
		return a.Prev != b.Hash
	}
	return b.Seq == a.Seq+1 && b.Prev != a.Hash
}

// giveUpChain ends the stream's incarnation before a segment.
func (b *Outbox) giveUpChain(s *stream, from *journal.Segment) {
	b.o.Logger.Error("outbox: FORK: somebody else writes this device's chain: its key was copied, or its card; a new incarnation begins",
		"chain", from.Chain.String(), "seq", from.Seq)
	if s.writer != nil {
		s.chain.own = s.writer.Own()
		s.writer.Abandon()
	}
	s.writer, s.open, s.resume, s.after = nil, false, false, nil
	if from.Seq > 0 {
		s.after = &journal.Continuation{Incarnation: from.Chain.Incarnation, Last: journal.Link{Seq: from.Seq - 1, Hash: from.Prev}}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s.chain = nil
	b.counters.Renewed++
}

// sealAgain brings what is unpublished of c from a seq on into the stream's present incarnation. The caller holds s.mu.
func (b *Outbox) sealAgain(s *stream, c *chain, from uint64) error {
	for {
		w, ok := b.unpublished(c, from)
		if !ok {
			return nil
		}
		if w.item.kind == journal.KindEpoch { // its key goes with it
			b.replaced(w, false)
			continue
		}
		seg, err := b.readLocked(w)
		if err != nil {
			return err
		}
		if seg == nil {
			continue // damaged, which is a gap by now
		}
		if err := b.sealOne(s, c, w, seg); err != nil {
			return err
		}
	}
}

// unpublished returns the first unpublished item of the chain at or after a seq. An epoch comes after what it seals, so that its segments
// are not given out meanwhile.
func (b *Outbox) unpublished(c *chain, from uint64) (w chosen, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	i, _ := c.index(from)
	for ; i < len(c.items); i++ {
		it := c.items[i]
		if it.state != 0 {
			continue
		}
		if it.kind != journal.KindEpoch {
			return chosen{c, it}, true
		}
		if !ok {
			w, ok = chosen{c, it}, true
		}
	}
	return w, ok
}

// sealOne seals one segment's content anew.
func (b *Outbox) sealOne(s *stream, c *chain, w chosen, seg *journal.Segment) error {
	readings, note := contents(c.own, seg)
	if readings == nil && note == nil && !w.item.tells {
		b.replaced(w, true)
		return nil
	}
	at := journal.Stamp{Boot: seg.Boot, At: seg.At()}
	if err := b.prepare(s, at); err != nil {
		return err
	}
	var fresh *journal.Segment
	var err error
	switch {
	case w.item.tells: // told as any other gap that was not told
		b.replaced(w, false)
		return b.prepare(s, at)
	case readings != nil:
		fresh, err = s.writer.Readings(seg.Boot, readings)
	default:
		fresh, err = s.writer.Note(*note, at)
	}
	if err != nil {
		return err
	}
	if err := b.commit(s, fresh, nil, 0); err != nil {
		return err
	}
	b.replaced(w, false)
	return nil
}

// contents opens a segment with the device's own keys; nothing if it has them no more.
func contents(own *journal.Keyring, seg *journal.Segment) ([]edge.Reading, *journal.Note) {
	if own == nil {
		return nil, nil
	}
	if seg.Kind == journal.KindNote {
		n, err := own.Note(seg)
		if err != nil {
			return nil, nil
		}
		return nil, &n
	}
	readings, err := own.Readings(seg)
	if err != nil {
		return nil, nil
	}
	return readings, nil
}

// replaced takes an item out whose place is somebody else's; lost says that its content is.
func (b *Outbox) replaced(w chosen, lost bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	it := w.chain.find(w.item.seq)
	if it == nil || it.state != 0 {
		return
	}
	name := w.chain.id.Stream
	switch g, tells := b.tellers[it.order]; {
	case lost:
		b.counters.GivenUp++
		b.counters.LostRead += uint64(it.count)
		b.lose(w.chain, it, journal.GapFork)
	case tells:
		b.gaps[name] = append(b.gaps[name], g)
		b.dirty[g.ID] = true
	case it.kind != journal.KindEpoch:
		b.counters.Resealed++
	}
	b.release(w.chain, it, false)
	b.finish(w.chain, it, givenUp)
}

// Recount judges anew what is published and still here, after the fleet changed and after Open: count says what copies on hubs are worth now
// (transport.Publisher.Count). What fell below its quorum is given out again like what never was published, the rest is offered within seconds to the
// hubs that lack it. It returns how many fell.
func (b *Outbox) Recount(count func(c journal.Chain, seq uint64, acked []edge.ID) transport.Receipt) int {
	defer b.signal()
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retries = nil
	fell := 0
	for _, c := range b.ring {
		for i := 0; i < len(c.items); i++ {
			it := &c.items[i]
			if it.state&published == 0 {
				continue
			}
			r := count(c.id, it.seq, it.hubs)
			switch {
			case r.Forgettable():
				b.release(c, it, false)
				b.finish(c, it, published|forgettable)
				i--
				continue
			case !r.Published():
				fell++
				it.state &^= published
				b.unsent += int64(it.size)
				if !it.taken {
					b.release(c, it, true)
				}
			case !it.taken:
				it.tries = 0
				b.soon(c, it)
			}
		}
	}
	b.counters.Fallen += uint64(fell)
	return fell
}
