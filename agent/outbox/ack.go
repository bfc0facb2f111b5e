// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"container/heap"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// Pauses; each lasts up to twice as long, by chance.
const (
	minPause      = time.Second      // after the first failure of a chain …
	maxPause      = 30 * time.Second // … doubling up to this
	minAgain      = time.Minute      // before a published segment is offered again to hubs that lack it …
	maxAgain      = 2 * time.Hour    // … doubling up to this, and this at once where all its hubs have it
	recountSpread = 5 * time.Second  // within which all that hubs lack is offered to them when the fleet changed
)

// Ack takes an item back with the receipt of its publication, complete or not, as transport.Publisher returns it even
// with an error; an empty one says that it failed. What the receipt says is kept for the next write to the disk: losing
// it costs one publication more, which hubs answer as held already. Files whose segments are all forgettable are dropped. What
// hubs say is past (transport.Receipt.Gone) is done with and counted: no hub will ever take it.
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
		c.rate(it.state&published != 0 || r.Gone())
	}
	if was&published == 0 && it.state&published != 0 {
		b.counters.Published++
		b.unsent -= int64(it.size)
	}
	if r.Forgettable() || it.state&published != 0 && r.Gone() {
		b.release(c, it, false)
		b.finish(c, it, published|forgettable)
		return
	}
	if r.Gone() {
		b.counters.Past++
		b.counters.PastRead += uint64(it.count)
		b.release(c, it, false)
		b.finish(c, it, givenUp)
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
	c.pause = now.Add(spread(min(minPause<<min(c.failures-1, 10), maxPause)))
}

// spread returns a time between d and twice d by chance, so that devices whose hub was away do not all come at once.
func spread(d time.Duration) time.Duration { return d + rand.N(d) }

// later offers a published item again some time, for the copies that it lacks. The caller holds mu.
func (b *Outbox) later(c *chain, it *item) {
	pause := min(minAgain<<min(it.tries, 10), maxAgain)
	if it.tries < 255 {
		it.tries++
	}
	heap.Push(&b.retries, retry{time.Now().Add(spread(pause)), c, it.seq})
}

// soon offers a published item again within seconds. The caller holds mu.
func (b *Outbox) soon(c *chain, it *item) {
	heap.Push(&b.retries, retry{time.Now().Add(rand.N(recountSpread)), c, it.seq})
}

// finish takes an item out for good and leaves an ack that says so. The caller holds mu; it is invalid afterwards.
func (b *Outbox) finish(c *chain, it *item, s state) {
	b.acks = append(b.acks, ack{incarnation: c.id.Incarnation, link: journal.Link{Seq: it.seq, Hash: it.hash}, state: s}.frame())
	if it.state&published == 0 {
		b.unsent -= int64(it.size)
	}
	b.live[it.file]--
	if s&forgettable != 0 {
		b.spend(it.file, c.id.Stream, it.count, it.size)
	}
	delete(b.tellers, it.order)
	c.remove(it.seq)
}
