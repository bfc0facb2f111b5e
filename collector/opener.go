// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"context"
	"errors"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// opener reads the proven segments of one chain with the reader's key.
type opener struct {
	ring   *ring
	epoch  uint64                       // the newest that was learnt here: what else the ring knows of the chain may be a key that did not fit
	known  bool                         // there is one
	offers func(epoch uint64) []offered // rewraps of the chain's epochs for this reader
	blame  func(o offered, err error)   // told of a rewrap that is a lie
	sealed map[uint64]int               // epochs that are wrapped for others only, and how many rewraps were tried
	lost   map[uint64]error             // epochs whose key could not be got in this pass

	start *journal.Segment // of the newest epoch that a rewrap opens …
	tried int              // … and how many of its offers were tried, the one in use included
}

func (c *Collector) opener(chain journal.Chain) *opener {
	return &opener{ring: c.ring(chain), sealed: map[uint64]int{}, lost: map[uint64]error{},
		offers: func(epoch uint64) []offered { return c.rewraps.of(chain, epoch) }, blame: func(offered, error) {}}
}

// opened is what a segment gave. sealed: its epoch is for other readers.
type opened struct {
	readings []edge.Reading
	note     *Note
	sealed   bool
}

// open reads a segment; find brings the segment that starts its epoch, should that not be known yet (after a restart,
// or when a gap is filled). An error means that nobody can read the segment as it stands.
func (o *opener) open(ctx context.Context, seg *journal.Segment, find func(context.Context, uint64) (*journal.Segment, error)) (opened, error) {
	switch seg.Kind {
	case journal.KindEpoch:
		return o.learn(seg)
	case journal.KindReadings, journal.KindNote:
	default:
		return opened{}, nil
	}
	if o.isSealed(seg.Epoch) {
		return opened{sealed: true}, nil
	}
	if !o.known || o.epoch != seg.Epoch {
		if err := o.recall(ctx, seg, find); err != nil {
			return opened{}, err
		}
		if o.isSealed(seg.Epoch) {
			return opened{sealed: true}, nil
		}
	}
	out, err := o.read(seg)
	for errors.Is(err, journal.ErrSealed) && o.start != nil && o.start.Epoch == seg.Epoch {
		o.blame(o.offers(seg.Epoch)[o.tried-1], err)
		if !o.tryOffers() {
			return opened{sealed: true}, nil
		}
		out, err = o.read(seg)
	}
	return out, err
}

// isSealed reports whether an epoch is for others, and no rewrap has come since that was found out.
func (o *opener) isSealed(epoch uint64) bool {
	tried, sealed := o.sealed[epoch]
	if sealed && len(o.offers(epoch)) > tried {
		delete(o.sealed, epoch)
		o.known = false // its start is fetched again and learnt
		return false
	}
	return sealed
}

func (o *opener) learn(seg *journal.Segment) (opened, error) {
	var out opened
	after, err := o.ring.learn(seg)
	o.epoch, o.known = seg.Epoch, err == nil || errors.Is(err, journal.ErrNotReader)
	if after != nil && after.Last.Seq <= maxSeq {
		out.note = &Note{Seq: seg.Seq, After: after}
	}
	if o.start = nil; errors.Is(err, journal.ErrNotReader) {
		o.start, o.tried = seg, 0
		o.tryOffers()
		err = nil
	}
	return out, err
}

// tryOffers takes the key of the next rewrap that opens. False, and the epoch is sealed: there is none.
func (o *opener) tryOffers() bool {
	list := o.offers(o.start.Epoch)
	for o.tried < len(list) {
		offer := list[o.tried]
		o.tried++
		err := o.ring.use(func(k *journal.Keyring) error { return k.LearnRewrap(o.start, offer.by, offer.rewrap) })
		if err == nil {
			return true
		}
		o.blame(offer, err)
	}
	o.sealed[o.start.Epoch], o.start = len(list), nil
	return false
}

// recall fetches the start of the segment's epoch.
func (o *opener) recall(ctx context.Context, seg *journal.Segment, find func(context.Context, uint64) (*journal.Segment, error)) error {
	if err := o.lost[seg.Epoch]; err != nil {
		return err
	}
	start, err := find(ctx, seg.Epoch)
	if err == nil {
		_, err = o.learn(start)
	}
	if err != nil {
		err = fmt.Errorf("the key of epoch %d is not to be had: %w", seg.Epoch, err)
		o.lost[seg.Epoch] = err
	}
	return err
}

func (o *opener) read(seg *journal.Segment) (opened, error) {
	if seg.Kind == journal.KindNote {
		n, err := o.ring.note(seg)
		if err == nil {
			err = checkNote(n)
		}
		if err != nil {
			return opened{}, err
		}
		return opened{note: &Note{Seq: seg.Seq, Clock: n.Clock, Gap: n.Gap}}, nil
	}
	readings, err := o.ring.readings(seg)
	if err != nil {
		return opened{}, err
	}
	return opened{readings: readings}, nil
}

// checkNote refuses what no device means and no database can count with.
func checkNote(n journal.Note) error {
	switch c, g := n.Clock, n.Gap; {
	case (c == nil) == (g == nil):
		return fmt.Errorf("collector: a note says not exactly one thing: %w", journal.ErrMalformed)
	case c != nil && (c.Mono < 0 || c.Mono > maxTime || c.Wall <= 0 || c.Wall > maxTime):
		return fmt.Errorf("collector: clock note of %d ms since boot, %d ms since 1970: %w", c.Mono, c.Wall, journal.ErrMalformed)
	case g != nil && max(g.From, g.To, g.Segments, g.Readings) > maxSeq:
		return fmt.Errorf("collector: gap note of seq %d to %d: %w", g.From, g.To, journal.ErrMalformed)
	}
	return nil
}
