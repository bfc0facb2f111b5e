// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"container/heap"
	"time"

	"github.com/streembit/edge/journal"
)

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

// backlog is how many unpublished segments may wait in a chain before the newest are given out beside the oldest.
const backlog = 64

// take returns the chain's next unpublished item, marked as taken, or nil: the oldest, and of a backlog the newest in turn with it.
// After a second failure in a row it is another one each time, so that one segment that no hub takes does not stop the others.
func (c *chain) take() *item {
	if c.failures > 0 && c.inFlight > 0 {
		return nil // one is on its way to see whether it works again
	}
	lanes := []func() *item{c.again, c.untaken, c.newest}
	begin := 0
	if c.failures > 0 {
		begin = (c.failures - 1) % len(lanes)
	} else if c.newestNext {
		begin = len(lanes) - 1
	}
	for i := range lanes {
		if it := lanes[(begin+i)%len(lanes)](); it != nil {
			c.newestNext = !c.newestNext
			it.taken = true
			c.inFlight++
			return it
		}
	}
	return nil
}

// again returns the first item that came back, if it may be taken.
func (c *chain) again() *item {
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
		return it
	}
	return nil
}

// untaken returns the first item that was not taken yet, if it may be.
func (c *chain) untaken() *item { return c.from(&c.next) }

// newest returns the first item that may be taken of those that came last; nil while there is no backlog before them. Its epoch's own segment comes
// first.
func (c *chain) newest() *item {
	if len(c.items) == 0 {
		return nil
	}
	last := c.items[len(c.items)-1].seq
	if c.recent = max(c.recent, c.next); last >= c.recent+backlog {
		c.recent = last
	}
	if c.recent == c.next {
		return nil
	}
	i, _ := c.index(c.recent)
	for i < len(c.items) && (c.items[i].taken || c.items[i].state != 0) {
		i++
	}
	if i < len(c.items) && !c.allowed(&c.items[i]) {
		if first := c.find(c.items[i].epoch); !first.taken {
			return first
		}
		return nil
	}
	return c.from(&c.recent)
}

// from returns the first item at or after a seq that was not taken and may be, and moves the seq past it.
func (c *chain) from(seq *uint64) *item {
	for i, _ := c.index(*seq); i < len(c.items); i++ {
		it := &c.items[i]
		if it.taken || it.state != 0 {
			*seq = it.seq + 1
			continue
		}
		if !c.allowed(it) {
			return nil
		}
		*seq = it.seq + 1
		return it
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
