// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

const (
	minPause = time.Second     // after the first failure of a chain …
	maxPause = time.Minute     // … doubling up to this
	minAgain = time.Minute     // before a published segment is offered again to hubs that lack it …
	maxAgain = 2 * time.Hour   // … doubling up to this, and this at once where all its hubs have it
	idle     = 5 * time.Second // a blocked Take looks again at least so often
)

// Item is a segment that is to be published now.
type Item struct {
	Segment   *journal.Segment
	Acked     []edge.ID // hubs that have it
	Published bool      // a majority has it; it is offered once more for the copies that it lacks
}

// Take waits for segments that may be published now and returns up to limit of them, in the order of their chains. Each
// stays with the caller until he hands it to Ack, and may be published at the same time as the others: the segments of
// an epoch are not given out before the epoch's own first segment is published. After a failure a chain pauses and then
// tries one segment before it gives out more. Segments of former incarnations and of segments published on one hub only
// come again by themselves. Errors: ctx.Err() and ErrClosed only.
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

// chosen is an item that was taken, and its place at that time.
type chosen struct {
	chain *chain
	item  item
}

// choose takes items, chain by chain in turn, and says how long to wait if there are none.
func (b *Outbox) choose(now time.Time, limit int) ([]chosen, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []chosen
	wait := idle
	b.turn++
	for more := true; more && len(out) < limit; {
		more = false
		for i := 0; i < len(b.ring) && len(out) < limit; i++ {
			c := b.ring[(b.turn+i)%len(b.ring)]
			if d := c.pause.Sub(now); d > 0 {
				wait = min(wait, d)
				continue
			}
			if it := c.take(); it != nil {
				out, more = append(out, chosen{c, *it}), true
			}
		}
	}
	for len(out) < limit && len(b.retries) > 0 {
		r := b.retries[0]
		if d := r.at.Sub(now); d > 0 {
			wait = min(wait, d)
			break
		}
		heap.Pop(&b.retries)
		if it := r.chain.find(r.seq); it != nil && !it.taken && it.state&published != 0 && b.chains[r.chain.id.Incarnation] == r.chain {
			it.taken = true
			r.chain.inFlight++
			out = append(out, chosen{r.chain, *it})
		}
	}
	return out, wait
}

// take returns the chain's next unpublished item, marked as taken, or nil.
func (c *chain) take() *item {
	if c.failures > 0 && c.inFlight > 0 {
		return nil // one is on its way to see whether it works again
	}
	for len(c.failed) > 0 {
		it := c.find(c.failed[0])
		if it == nil || it.taken || it.state != 0 {
			c.failed = c.failed[1:]
			continue
		}
		if !c.allowed(it) {
			return nil
		}
		c.failed = c.failed[1:]
		return c.mark(it)
	}
	for i, _ := c.index(c.next); i < len(c.items); i++ {
		it := &c.items[i]
		if it.taken || it.state != 0 {
			c.next = it.seq + 1
			continue
		}
		if !c.allowed(it) {
			return nil
		}
		c.next = it.seq + 1
		return c.mark(it)
	}
	return nil
}

// allowed reports whether the epoch's first segment is published, or is the item itself.
func (c *chain) allowed(it *item) bool {
	if it.kind == journal.KindEpoch {
		return true
	}
	first := c.find(it.epoch)
	return first == nil || first.state&published != 0
}

func (c *chain) mark(it *item) *item {
	it.taken = true
	c.inFlight++
	return it
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

// Ack takes an item back with the receipt of its publication, complete or not, as transport.Publisher returns it even
// with an error; an empty one says that it failed. What the receipt says is kept for the next write to the disk: losing
// it costs one publication more, which hubs answer as held already. Files whose segments are all forgettable are dropped.
func (b *Outbox) Ack(it Item, r transport.Receipt) error {
	err := b.acknowledge(it, r)
	b.signal()
	if errors.Is(err, wal.ErrFailed) {
		b.fail(err)
	}
	if err != nil {
		return fmt.Errorf("outbox: acknowledging seq %d: %w", it.Segment.Seq, err)
	}
	return nil
}

func (b *Outbox) acknowledge(it Item, r transport.Receipt) error {
	b.life.RLock()
	defer b.life.RUnlock()
	if b.closed {
		return ErrClosed
	}
	b.note(it, r)
	if b.log == nil || b.failed != nil {
		return nil
	}
	return b.dropDone()
}

// note records a receipt.
func (b *Outbox) note(i Item, r transport.Receipt) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.chains[i.Segment.Chain.Incarnation]
	if c == nil {
		return
	}
	it := c.find(i.Segment.Seq)
	if it == nil || it.hash != i.Segment.Hash {
		return
	}
	was, had := it.state, len(it.hubs)
	if r.Published() {
		it.state |= published
	}
	it.hubs = union(it.hubs, r.Acked)
	if was&published == 0 {
		c.rate(it.state&published != 0)
	}
	if was&published == 0 && it.state&published != 0 {
		b.counters.Published++
		b.unsent -= int64(it.size)
	}
	if r.Forgettable() {
		b.release(c, it, false)
		b.finish(c, it, published|forgettable)
		return
	}
	b.release(c, it, true)
	if len(it.hubs) > had || it.state != was {
		b.acks = append(b.acks, ackOf(c, it).frame())
	}
	if it.state&published != 0 {
		if r.Complete() {
			it.tries = 255
		}
		b.later(c, it)
	}
}

// rate makes a chain pause after a failure.
func (c *chain) rate(ok bool) {
	if ok {
		c.failures, c.pause = 0, time.Time{}
		return
	}
	now := time.Now()
	if now.Before(c.pause) {
		return // others were on their way when the first failed
	}
	c.failures++
	c.pause = now.Add(min(minPause<<min(c.failures-1, 10), maxPause))
}

// later offers a published item again some time, for the copies that it lacks. The caller holds mu.
func (b *Outbox) later(c *chain, it *item) {
	pause := min(minAgain<<min(it.tries, 10), maxAgain)
	if it.tries < 255 {
		it.tries++
	}
	heap.Push(&b.retries, retry{time.Now().Add(pause), c, it.seq})
}

// now offers a published item again at once. The caller holds mu.
func (b *Outbox) now(c *chain, it *item) { heap.Push(&b.retries, retry{time.Now(), c, it.seq}) }

// finish takes an item out for good and leaves an ack that says so. The caller holds mu; it is invalid afterwards.
func (b *Outbox) finish(c *chain, it *item, s state) {
	b.acks = append(b.acks, ack{incarnation: c.id.Incarnation, link: journal.Link{Seq: it.seq, Hash: it.hash}, state: s}.frame())
	if it.state&published == 0 {
		b.unsent -= int64(it.size)
	}
	b.live[it.file]--
	delete(b.tellers, it.order)
	c.remove(it.seq)
}
