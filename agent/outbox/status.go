// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"fmt"
	"math"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Status is what an outbox holds and what it did since Open.
type Status struct {
	Pending   int   // segments that are not published
	Held      int   // published, but not on two hubs yet
	Readings  int64 // in pending segments
	Bytes     int64 // on disk
	Quota     int64
	Sealed    uint64 // segments made since Open
	Published uint64 // segments that became published since Open
	Forgotten uint64 // segments of which the copy was dropped while only one hub had it, since Open: quota pressure
	GivenUp   uint64 // segments dropped before they were published, since Open: quota pressure, or a fork
	LostRead  uint64 // readings in them
	Past      uint64 // segments that hubs say were let go before they were published, since Open: too late, or published before a power cut
	PastRead  uint64 // readings in them
	Fallen    uint64 // segments that were published and are not any more, since Open: their hubs are none now
	Renewed   uint64 // incarnations given up because of a fork, since Open
	Resealed  uint64 // segments that were sealed again in another incarnation for it, since Open
	Forks     int    // places that somebody else with the device's key took: see Forks
	Gaps      int    // gaps that no segment tells yet
	LastSync  time.Duration
	MeanSync  time.Duration
	Failed    string                   // why the disk takes nothing, "" if it does
	Streams   map[string]journal.Chain // the chain that each stream writes
	Tips      map[string]journal.Link  // and its last segment
	Oldest    string                   // the oldest pending segment, "CHAIN seq N"; "" if none
}

// Status returns the present numbers.
func (b *Outbox) Status() Status {
	b.life.RLock()
	defer b.life.RUnlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	st, oldest := b.counters, uint64(math.MaxUint64)
	st.Forks = len(b.forks)
	st.Quota, st.Streams, st.Tips = b.o.Quota, map[string]journal.Chain{}, map[string]journal.Link{}
	for _, c := range b.chains {
		for i := range c.items {
			it := &c.items[i]
			if it.state&published != 0 {
				st.Held++
				continue
			}
			if it.order < oldest {
				oldest, st.Oldest = it.order, fmt.Sprintf("%s seq %d", c.id, it.seq)
			}
			st.Pending++
			st.Readings += int64(it.count)
		}
	}
	for name, s := range b.streams {
		if s.chain != nil {
			st.Streams[name] = s.chain.id
			if s.chain.tip != nil {
				st.Tips[name] = *s.chain.tip
			}
		}
	}
	for _, g := range b.gaps {
		st.Gaps += len(g)
	}
	if b.failed != nil {
		st.Failed = b.failed.Error()
	}
	if b.log != nil {
		w := b.log.Stats()
		st.Bytes, st.LastSync, st.MeanSync = b.log.Size(), w.LastSync, w.MeanSync
	}
	return st
}

// Tally counts segments of one state.
type Tally struct {
	Segments int
	Readings int64
	Bytes    int64 // of their frames in the log
}

func (t *Tally) add(readings, size uint32) {
	t.Segments++
	t.Readings += int64(readings)
	t.Bytes += int64(size)
}

// Backlog is what is still here of one stream.
type Backlog struct {
	Pending       Tally    // not published
	Published     Tally    // on a majority of their hubs, and not on two
	Forgettable   Tally    // on two hubs at least, and still on the disk: their file goes when all in it is
	OldestPending *Waiting // nil: none
	Oldest        *Waiting // the oldest that is not forgettable; nil: none
}

// Waiting is a segment that is not forgettable.
type Waiting struct {
	Chain     journal.Chain
	Seq       uint64
	Published bool
	Boot      journal.BootID // the boot in which it was sealed …
	At        edge.Instant   // … and its newest reading's time in that; zero while the disk cannot be read
}

// Backlogs returns what is still here of each stream. It reads the oldest segments back from the disk.
func (b *Outbox) Backlogs() map[string]Backlog {
	b.life.RLock()
	defer b.life.RUnlock()
	out, pending, oldest := b.tally()
	for name, l := range out {
		l.OldestPending, l.Oldest = b.waiting(pending[name]), b.waiting(oldest[name])
		out[name] = l
	}
	return out
}

// tally counts, and finds the oldest segments of each stream.
func (b *Outbox) tally() (out map[string]Backlog, pending, oldest map[string]*chosen) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out, pending, oldest = map[string]Backlog{}, map[string]*chosen{}, map[string]*chosen{}
	for name := range b.streams {
		out[name] = Backlog{}
	}
	older := func(than *chosen, c *chain, it *item) *chosen {
		if than == nil || it.order < than.item.order {
			return &chosen{c, *it}
		}
		return than
	}
	for _, c := range b.chains {
		name := c.id.Stream
		l := out[name]
		for i := range c.items {
			it := &c.items[i]
			oldest[name] = older(oldest[name], c, it)
			if it.state&published != 0 {
				l.Published.add(it.count, it.size)
				continue
			}
			l.Pending.add(it.count, it.size)
			pending[name] = older(pending[name], c, it)
		}
		out[name] = l
	}
	for _, streams := range b.spent {
		for name, t := range streams {
			l := out[name]
			l.Forgettable.Segments += t.Segments
			l.Forgettable.Readings += t.Readings
			l.Forgettable.Bytes += t.Bytes
			out[name] = l
		}
	}
	return out, pending, oldest
}

// waiting reads an item's time. The caller holds life.
func (b *Outbox) waiting(w *chosen) *Waiting {
	if w == nil {
		return nil
	}
	out := &Waiting{Chain: w.chain.id, Seq: w.item.seq, Published: w.item.state&published != 0}
	if b.log == nil || b.closed {
		return out
	}
	if seg, err := b.readLocked(*w); err == nil && seg != nil {
		out.Boot, out.At = seg.Boot, seg.At()
	}
	return out
}

// spend notes that a forgettable segment stays on the disk for a while. The caller holds mu.
func (b *Outbox) spend(file uint32, stream string, readings, size uint32) {
	if b.spent[file] == nil {
		b.spent[file] = map[string]Tally{}
	}
	t := b.spent[file][stream]
	t.add(readings, size)
	b.spent[file][stream] = t
}
