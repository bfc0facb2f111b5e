// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// idle is how long a blocked Take waits at most before it looks again.
const idle = 5 * time.Second

// Item is a segment that is to be published now.
type Item struct {
	Segment   *journal.Segment
	Acked     []edge.ID // hubs that have it
	Published bool      // a majority has it; it is offered once more for the copies that it lacks
}

// Take waits for segments that may be published now and returns up to limit of them, in the order of their chains; where
// more than backlog wait in a chain, every second one is the oldest of those that came last, so that new readings do not
// wait for the old ones. Each stays with the caller until he hands it to Ack, and may be published at the same time as the
// others: the segments of an epoch are not given out before the epoch's own first segment is published. After a failure a
// chain pauses, for a time that has a part by chance, and then tries one segment before it gives out more. Segments of
// former incarnations and of segments published on one hub only come again by themselves. Errors: ctx.Err() and ErrClosed
// only.
func (b *Outbox) Take(ctx context.Context, limit int) ([]Item, error) {
	for {
		wanted, wait := b.choose(time.Now(), limit)
		if len(wanted) > 0 && !b.readable() {
			b.putBack(wanted)
			wanted, wait = nil, idle
		}
		items, err := b.readAll(wanted)
		switch {
		case len(items) > 0:
			b.signal() // there may be more for another caller
			return items, nil
		case errors.Is(err, ErrClosed):
			return nil, err
		case err != nil:
			b.o.Logger.Warn("outbox: a segment cannot be read now, it is tried again", "err", err, "pause", idle)
			err = nil
			wait = idle
		case len(wanted) > 0:
			continue // none can be read any more; they are not offered again
		}
		t := time.NewTimer(wait)
		select {
		case <-b.wake:
		case <-t.C:
		case <-b.done:
			err = fmt.Errorf("outbox: taking: %w", ErrClosed)
		case <-ctx.Done():
			err = ctx.Err()
		}
		t.Stop()
		if err != nil {
			return nil, err
		}
	}
}

// readable reports whether Take need not wait until a write opens the log again after an error of the disk.
func (b *Outbox) readable() bool {
	b.life.RLock()
	defer b.life.RUnlock()
	return b.log != nil
}

func (b *Outbox) readAll(wanted []chosen) ([]Item, error) {
	var out []Item
	for n, w := range wanted {
		seg, err := b.read(w)
		if err != nil {
			b.putBack(wanted[n:])
			if len(out) > 0 {
				return out, nil
			}
			return nil, err
		}
		if seg != nil {
			out = append(out, Item{Segment: seg, Acked: slices.Clone(w.item.hubs), Published: w.item.state&published != 0})
		}
	}
	return out, nil
}

// putBack undoes choose.
func (b *Outbox) putBack(items []chosen) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, w := range items {
		if it := w.chain.find(w.item.seq); it != nil {
			b.release(w.chain, it, true)
			if it.state&published != 0 {
				b.later(w.chain, it)
			}
		}
	}
}

// release ends a taking. The caller holds mu.
func (b *Outbox) release(c *chain, it *item, failed bool) {
	if it.taken {
		it.taken = false
		c.inFlight--
	}
	if it.state == 0 && failed {
		if i, found := slices.BinarySearch(c.failed, it.seq); !found {
			c.failed = slices.Insert(c.failed, i, it.seq)
		}
	}
}

// read returns the segment of an item. nil and no error: it is gone, by pressure meanwhile or by damage, which counts as
// a gap.
func (b *Outbox) read(w chosen) (*journal.Segment, error) {
	b.life.RLock()
	defer b.life.RUnlock()
	if b.closed {
		return nil, fmt.Errorf("outbox: reading: %w", ErrClosed)
	}
	if b.log == nil {
		return nil, fmt.Errorf("outbox: reading: %w", b.failed)
	}
	return b.readLocked(w)
}

// readLocked is read for a caller that holds life and knows that the log is open.
func (b *Outbox) readLocked(w chosen) (*journal.Segment, error) {
	for {
		frame, err := b.log.Read(w.item.pos())
		var seg *journal.Segment
		if err == nil {
			seg, err = b.prove(w, frame)
		}
		if err == nil {
			return seg, nil
		}
		if !errors.Is(err, wal.ErrCorrupt) && !errors.Is(err, wal.ErrGone) && !errors.Is(err, syscall.EIO) && !errors.Is(err, errDamaged) {
			return nil, fmt.Errorf("outbox: reading seq %d of %s: %w", w.item.seq, w.chain.id, err)
		}
		if moved, ok := b.moved(w); ok {
			w.item = moved
			continue
		}
		b.damaged(w, err)
		return nil, nil
	}
}

var errDamaged = errors.New("segment in the outbox is not what was put there")

func (b *Outbox) prove(w chosen, frame []byte) (*journal.Segment, error) {
	_, _, raw, err := parseSegment(frame)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	seg, err := journal.OpenFrom(raw, w.chain.id, w.item.seq)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return seg, nil
}

// moved returns the item at its present place, if that is another one.
func (b *Outbox) moved(w chosen) (item, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	it := w.chain.find(w.item.seq)
	if it == nil || it.pos() == w.item.pos() {
		return item{}, false
	}
	return *it, true
}

// damaged makes a gap of an item that cannot be read back.
func (b *Outbox) damaged(w chosen, cause error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	it := w.chain.find(w.item.seq)
	if it == nil {
		return
	}
	b.o.Logger.Error("outbox: segment cannot be read back", "chain", w.chain.id.String(), "seq", it.seq, "published", it.state&published != 0, "err", cause)
	b.release(w.chain, it, false)
	if it.state&published == 0 {
		b.lose(w.chain, it, journal.GapRecovery)
	}
	b.finish(w.chain, it, givenUp)
}
