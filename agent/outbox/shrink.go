// SPDX-License-Identifier: Apache-2.0

package outbox

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// The log frees whole files from its beginning only. Under pressure what must stay of the first file is written again
// at the end, so that the first file can go: published copies go first, then the oldest unpublished segments.

// makeRoom frees files until need bytes fit and enough is left to move a file's segments. The caller holds life.
func (b *Outbox) makeRoom(need int64) {
	reserve := 2*b.o.fileSize() + maxFrame
	for b.log.Size()+need > b.o.Quota-reserve {
		if !b.shrink() {
			return // the log's own quota has the last word
		}
	}
}

// shrink makes the log smaller by at least a file, and reports false if it cannot.
func (b *Outbox) shrink() bool {
	b.shrinking.Lock()
	defer b.shrinking.Unlock()
	before := b.log.Size()
	files := int(b.log.End().File - b.first)
	for i := range 2*files + 2 {
		b.mu.Lock()
		if b.first >= b.pinned() {
			b.mu.Unlock()
			return false
		}
		if i > files || b.log.Size()-b.unsent < b.o.fileSize()+b.log.End().Off {
			b.giveUp(b.o.fileSize())
		}
		b.mu.Unlock()
		if err := b.compact(); err != nil {
			if !errors.Is(err, wal.ErrFull) { // else the caller finds out by itself
				b.o.Logger.Error("outbox: making room", "dir", b.o.Dir, "err", err)
			}
			return false
		}
		if b.log.Size() < before {
			return true
		}
	}
	return false
}

// giveUp loses the oldest unpublished segments until their frames make up a number of bytes. The caller holds mu.
func (b *Outbox) giveUp(bytes int64) {
	at := make(map[*chain]int, len(b.ring))
	for bytes > 0 {
		var oldest *chain
		for _, c := range b.ring {
			for at[c] < len(c.items) && !b.expendable(c, &c.items[at[c]]) {
				at[c]++
			}
			if at[c] < len(c.items) && (oldest == nil || c.items[at[c]].order < oldest.items[at[oldest]].order) {
				oldest = c
			}
		}
		if oldest == nil {
			return
		}
		it := &oldest.items[at[oldest]]
		bytes -= int64(it.size)
		b.counters.GivenUp++
		b.counters.LostRead += uint64(it.count)
		b.lose(oldest, it, journal.GapQuota)
		b.finish(oldest, it, givenUp) // the next item is at the same index now
	}
}

func (b *Outbox) expendable(c *chain, it *item) bool {
	return it.state == 0 && !it.taken && !c.needed(it, b.current(c))
}

// current reports whether a stream writes the chain, or may go on with it.
func (b *Outbox) current(c *chain) bool {
	s := b.streams[c.id.Stream]
	return s != nil && s.chain == c
}

// lose adds a segment to the gaps of its stream; if it told of a gap itself, that gap is to be told again. The caller
// holds mu and takes the item out afterwards.
func (b *Outbox) lose(c *chain, it *item, why journal.GapReason) {
	name := c.id.Stream
	if g, ok := b.tellers[it.order]; ok {
		b.gaps[name] = append(b.gaps[name], g)
		b.dirty[g.ID] = true
	}
	for i := range b.gaps[name] {
		g := &b.gaps[name][i]
		if g.Note.Reason == why && g.Note.Incarnation == c.id.Incarnation && g.Note.Segments > 0 && g.Note.To+1 == it.seq {
			g.Note.To, g.Note.Segments, g.Note.Readings = it.seq, g.Note.Segments+1, g.Note.Readings+uint64(it.count)
			b.dirty[g.ID] = true
			return
		}
	}
	b.gapID++
	b.dirty[b.gapID] = true
	b.gaps[name] = append(b.gaps[name], gap{ID: b.gapID, Stream: name, Note: journal.GapNote{Reason: why,
		Incarnation: c.id.Incarnation, From: it.seq, To: it.seq, Segments: 1, Readings: uint64(it.count)}})
}

// compact writes what must stay of the first file again and drops it. The caller holds shrinking.
func (b *Outbox) compact() error {
	moving := b.clearFirst()
	var frames [][]byte
	kept := moving[:0]
	for _, w := range moving {
		frame, err := b.log.Read(w.item.pos())
		if err != nil {
			b.damaged(w, err)
			continue
		}
		frames, kept = append(frames, frame), append(kept, w)
		if len(w.item.hubs) > 0 {
			frames = append(frames, ackOf(w.chain, &w.item).frame())
		}
	}
	pos, err := b.checkpoint(frames)
	if err != nil {
		return err
	}
	b.mu.Lock()
	i := 0
	for _, w := range kept {
		if it := w.chain.find(w.item.seq); it != nil {
			b.live[it.file]--
			it.file, it.off = uint32(pos[i].File), uint32(pos[i].Off)
			b.live[it.file]++
		}
		if i++; len(w.item.hubs) > 0 {
			i++
		}
	}
	b.mu.Unlock()
	return b.dropTo(b.first + 1)
}

// clearFirst takes the published items out of the first file and returns the others.
func (b *Outbox) clearFirst() []chosen {
	b.mu.Lock()
	defer b.mu.Unlock()
	var moving []chosen
	for _, c := range b.ring {
		for i := 0; i < len(c.items); {
			it := &c.items[i]
			switch {
			case uint64(it.file) != b.first:
				i++
			case it.state&published != 0:
				b.counters.Forgotten++
				b.release(c, it, false)
				b.finish(c, it, published|givenUp)
			default:
				moving = append(moving, chosen{c, *it})
				i++
			}
		}
	}
	return moving
}

// dropDone drops the files at the log's beginning in which nothing is left to do, unless somebody else is at it.
func (b *Outbox) dropDone() error {
	if !b.shrinking.TryLock() {
		return nil
	}
	defer b.shrinking.Unlock()
	to := b.first
	b.mu.Lock()
	end := b.pinned()
	for to < end && b.live[uint32(to)] == 0 {
		delete(b.live, uint32(to))
		to++
	}
	many := len(b.acks) >= maxAcks
	b.mu.Unlock()
	if to == b.first {
		if many {
			return b.flush()
		}
		return nil
	}
	if _, err := b.checkpoint(nil); err != nil {
		return err
	}
	return b.dropTo(to)
}

// pinned returns the first file that must stay because it is written to, or because a segment was put there that the
// index does not know yet. The caller holds mu.
func (b *Outbox) pinned() uint64 {
	file := b.log.End().File
	for p := range b.pins {
		file = min(file, p)
	}
	return file
}

// pin keeps the files that the next write may reach until unpin is called.
func (b *Outbox) pin() (unpin func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	file := b.log.End().File
	b.pins[file]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.pins[file]--; b.pins[file] == 0 {
			delete(b.pins, file)
		}
	}
}

// maxAcks is how many acks wait in memory for the next segment before they are written by themselves.
const maxAcks = 256

func (b *Outbox) dropTo(file uint64) error {
	_, err := b.log.Drop(wal.Pos{File: file})
	if err != nil {
		return err
	}
	b.first = file
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.spent, func(f uint32, _ map[string]Tally) bool { return uint64(f) < file })
	return nil
}

// checkpoint makes frames durable together with all that the log must still say when its first files are gone. The
// caller holds shrinking.
func (b *Outbox) checkpoint(frames [][]byte) ([]wal.Pos, error) {
	b.mu.Lock()
	for _, list := range b.gaps {
		for _, g := range list {
			b.dirty[g.ID] = true
		}
	}
	for id := range b.telling {
		b.dirty[id] = true
	}
	frames = append(frames, b.control()...)
	for inc, c := range b.chains {
		if len(c.items) == 0 && !b.current(c) {
			delete(b.chains, inc)
			b.ring = slices.DeleteFunc(b.ring, func(o *chain) bool { return o == c })
			continue
		}
		if c.tip == nil {
			continue
		}
		f, err := cborFrame(frameCheckpoint, checkpoint{Tag: tagOf(c.id), Stream: c.id.Stream, Incarnation: c.id.Incarnation,
			Tip: *c.tip, Order: c.order, Spooled: c.spooled, Live: c.live()})
		if err != nil {
			b.mu.Unlock()
			return nil, err
		}
		frames = append(frames, f)
	}
	b.mu.Unlock()
	if len(frames) == 0 {
		return nil, nil
	}
	return b.log.Append(context.Background(), frames...)
}

// control returns the frames that wait for the next write. The caller holds mu.
func (b *Outbox) control() [][]byte {
	var frames [][]byte
	byID := maps.Clone(b.telling)
	for _, list := range b.gaps {
		for _, g := range list {
			byID[g.ID] = g
		}
	}
	for id := range b.dirty {
		if g, ok := byID[id]; ok {
			if f, err := cborFrame(frameGap, g); err == nil { // a gap of our own making always encodes
				frames = append(frames, f)
			}
		}
	}
	clear(b.dirty)
	frames = append(frames, b.acks...)
	b.acks = nil
	return frames
}

func ackOf(c *chain, it *item) ack {
	return ack{incarnation: c.id.Incarnation, link: journal.Link{Seq: it.seq, Hash: it.hash}, state: it.state, hubs: it.hubs}
}
