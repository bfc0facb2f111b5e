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
	ring   *journal.Keyring
	sealed map[uint64]bool  // epochs that are wrapped for others only
	lost   map[uint64]error // epochs whose key could not be got in this pass
}

func newOpener(key journal.ReaderKey) *opener {
	return &opener{ring: journal.NewKeyring(key), sealed: map[uint64]bool{}, lost: map[uint64]error{}}
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
	if o.sealed[seg.Epoch] {
		return opened{sealed: true}, nil
	}
	out, err := o.read(seg)
	if !errors.Is(err, journal.ErrUnknownEpoch) {
		return out, err
	}
	if err := o.recall(ctx, seg, find); err != nil {
		return opened{}, err
	}
	if o.sealed[seg.Epoch] {
		return opened{sealed: true}, nil
	}
	return o.read(seg)
}

func (o *opener) learn(seg *journal.Segment) (opened, error) {
	var out opened
	after, err := o.ring.Learn(seg)
	if after != nil && after.Last.Seq <= maxSeq {
		out.note = &Note{Seq: seg.Seq, After: after}
	}
	if errors.Is(err, journal.ErrNotReader) {
		o.sealed[seg.Epoch], err = true, nil
	}
	return out, err
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
		n, err := o.ring.Note(seg)
		if err == nil {
			err = checkNote(n)
		}
		if err != nil {
			return opened{}, err
		}
		return opened{note: &Note{Seq: seg.Seq, Clock: n.Clock, Gap: n.Gap}}, nil
	}
	readings, err := o.ring.Readings(seg)
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
