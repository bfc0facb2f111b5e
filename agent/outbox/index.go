// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"cmp"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// state is how far a segment got.
type state uint8

const (
	published   state = 1 << iota // fsynced by a majority of its hubs
	forgettable                   // and by two at least: the device's copy may go
	givenUp                       // dropped: under quota pressure, told in a gap; or past, says every hub that counts
)

// done reports whether the outbox has nothing more to do with the segment.
func (s state) done() bool { return s&(forgettable|givenUp) != 0 }

// item is one segment that is not done, about 100 bytes. Outbox.mu guards it.
type item struct {
	seq, epoch, order uint64
	hash              journal.Hash
	file, off         uint32
	size              uint32 // of the frame in bytes
	count             uint32 // readings
	hubs              []edge.ID
	kind              journal.Kind
	state             state
	taken             bool // Take gave it out and no Ack came back yet
	tells             bool // it is a gap note
	tries             uint8
}

func (it *item) pos() wal.Pos { return wal.Pos{File: uint64(it.file), Off: int64(it.off)} }

// chain is what the outbox knows of one chain. Outbox.mu guards it.
type chain struct {
	id      journal.Chain
	tip     *journal.Link
	order   uint64
	spooled uint64
	items   []item           // by seq, none done
	epoch   uint64           // of the newest segment
	own     *journal.Keyring // opens what was sealed in it since Open; nil until it is renewed. Its stream's mutex guards it.

	next       uint64   // unpublished items from this seq on were not taken yet, but for those that were taken from recent on
	recent     uint64   // of a backlog: the newest are taken from here on
	newestNext bool     // the next one is of the newest
	failed     []uint64 // taken before, to be tried again, ascending
	inFlight   int
	failures   int       // in a row
	pause      time.Time // nothing is taken before
}

func (c *chain) index(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(c.items, seq, func(it item, seq uint64) int { return cmp.Compare(it.seq, seq) })
}

// find returns the item of a segment that is not done. It is valid until items are added or removed.
func (c *chain) find(seq uint64) *item {
	if i, ok := c.index(seq); ok {
		return &c.items[i]
	}
	return nil
}

func (c *chain) insert(it item) {
	i, _ := c.index(it.seq)
	c.items = slices.Insert(c.items, i, it)
}

// remove takes out an item that is done.
func (c *chain) remove(seq uint64) {
	i, ok := c.index(seq)
	if !ok {
		return
	}
	if i > len(c.items)/2 {
		c.items = slices.Delete(c.items, i, i+1)
		return
	}
	// Segments are acknowledged near the front as a rule: move the few before it, not the many behind.
	copy(c.items[1:i+1], c.items[:i])
	c.items[0] = item{}
	c.items = c.items[1:]
}

// advance notes a segment as the newest, if it is.
func (c *chain) advance(l journal.Link, epoch, order, spooled uint64) {
	if c.tip == nil || l.Seq >= c.tip.Seq {
		c.tip, c.epoch = &l, max(c.epoch, epoch)
	}
	c.order, c.spooled = max(c.order, order), max(c.spooled, spooled)
}

// live returns the runs of seqs that are not done.
func (c *chain) live() []transport.Span {
	var out []transport.Span
	for _, it := range c.items {
		if n := len(out); n > 0 && out[n-1].Last+1 == it.seq {
			out[n-1].Last = it.seq
			continue
		}
		out = append(out, transport.Span{First: it.seq, Last: it.seq})
	}
	return out
}

// needed reports whether an unpublished epoch segment must be kept because its key still seals something.
func (c *chain) needed(it *item, current bool) bool {
	if it.kind != journal.KindEpoch {
		return false
	}
	if current && it.seq == c.epoch {
		return true
	}
	i, _ := c.index(it.seq + 1)
	return i < len(c.items) && c.items[i].epoch == it.seq
}

// retry is a published segment that is to be offered again to the hubs that lack it.
type retry struct {
	at    time.Time
	chain *chain
	seq   uint64
}

// retries is a heap (container/heap) by time.
type retries []retry

func (r retries) Len() int           { return len(r) }
func (r retries) Less(i, j int) bool { return r[i].at.Before(r[j].at) }
func (r retries) Swap(i, j int)      { r[i], r[j] = r[j], r[i] }

// Push is heap.Interface.
func (r *retries) Push(x any) {
	*r = append(*r, x.(retry)) //nolint:errcheck // only later pushes, and only a retry; anything else must be loud
}

// Pop is heap.Interface.
func (r *retries) Pop() any {
	last := (*r)[len(*r)-1]
	*r = (*r)[:len(*r)-1]
	return last
}
