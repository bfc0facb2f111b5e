// SPDX-License-Identifier: Apache-2.0

package store

import (
	"math"
	"math/bits"
	"slices"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// spot is where a frame is.
type spot struct {
	file uint32
	off  uint32 // maxFile keeps offsets far below 4 GiB
	size uint32 // bytes of the frame
}

func (p spot) pos() wal.Pos { return wal.Pos{File: uint64(p.file), Off: int64(p.off)} }

func spotAt(p wal.Pos, size int) spot {
	return spot{file: uint32(p.File), off: uint32(p.Off), size: uint32(size)}
}

// entry is one segment held: 48 bytes, so that a million of them stay below 60 MB.
type entry struct {
	hash journal.Hash
	spot
	received uint32 // s since 1970, rounded up; 0 = not known
}

// seconds rounds up, so that nothing gets older by it.
func seconds(ms int64) uint32 { return uint32(min((ms+999)/1000, math.MaxUint32)) }

// block is what is held of one bucket. A hub has whole buckets or nothing, so blocks are full as a rule.
type block struct {
	index   uint64
	mask    uint64  // bit i: seq index*BucketSize+i is held
	entries []entry // of the set bits, in order
	sum     journal.Hash
	at      *transport.Spot // where its hubs are looked for; nil = not computed yet
}

// flight is a segment on its way to the disk.
type flight struct {
	hash, prev journal.Hash
	done       chan struct{} // closed when it is held or has failed
}

// held is the index of one chain. Store.mu guards it.
type held struct {
	chain   journal.Chain
	blocks  []block // by index
	n       int     // segments held
	sum     journal.Hash
	epochs  []uint64 // that what is held belongs to, by the seq of their first segment, in order; some may be of what was held once
	flights map[uint64]*flight
	past    past
	newest  uint32 // receipt of all that was ever held
}

// past is what was held of a chain once and is not any more.
type past struct {
	floor uint64 // all below
	why   transport.Past
	last  journal.Link // of the last segment below that was held; only if floor > 0
	at    spot         // of the floorRecord

	newest uint32 // receipt of the chain when the floor was raised
}

func (h *held) block(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(h.blocks, seq/journal.BucketSize, func(b block, i uint64) int {
		switch {
		case b.index < i:
			return -1
		case b.index > i:
			return 1
		}
		return 0
	})
}

// place returns the bit of seq and its rank among the entries of its block.
func (b *block) place(seq uint64) (bit uint64, rank int) {
	bit = 1 << (seq % journal.BucketSize)
	return bit, bits.OnesCount64(b.mask & (bit - 1))
}

func (h *held) get(seq uint64) (entry, bool) {
	i, ok := h.block(seq)
	if !ok {
		return entry{}, false
	}
	b := &h.blocks[i]
	bit, rank := b.place(seq)
	if b.mask&bit == 0 {
		return entry{}, false
	}
	return b.entries[rank], true
}

// below returns the last segment held below a seq.
func (h *held) below(seq uint64) (uint64, entry, bool) {
	i, here := h.block(seq)
	if here {
		b := &h.blocks[i]
		bit, rank := b.place(seq)
		if m := b.mask & (bit - 1); m != 0 {
			return b.index*journal.BucketSize + uint64(63-bits.LeadingZeros64(m)), b.entries[rank-1], true
		}
	}
	if i == 0 {
		return 0, entry{}, false
	}
	b := &h.blocks[i-1]
	return b.index*journal.BucketSize + uint64(63-bits.LeadingZeros64(b.mask)), b.entries[len(b.entries)-1], true
}

// last returns the highest seq held.
func (h *held) last() (uint64, bool) {
	seq, _, ok := h.below(math.MaxUint64)
	return seq, ok
}

// set changes what is known of a segment that is held.
func (h *held) set(seq uint64, e entry) {
	i, _ := h.block(seq)
	_, rank := h.blocks[i].place(seq)
	h.blocks[i].entries[rank] = e
}

// before returns the hash of what stands before seq, if that is known.
func (h *held) before(seq uint64) (hash journal.Hash, ok bool) {
	if seq == 0 {
		return hash, false
	}
	if e, held := h.get(seq - 1); held {
		return e.hash, true
	}
	return h.past.last.Hash, h.past.floor > 0 && h.past.last.Seq == seq-1
}

// put notes a segment; it reports false, and changes nothing, when the seq is held already.
func (h *held) put(seq uint64, e entry) bool {
	i, ok := h.block(seq)
	if !ok {
		h.blocks = slices.Insert(h.blocks, i, block{index: seq / journal.BucketSize})
	}
	b := &h.blocks[i]
	bit, rank := b.place(seq)
	if b.mask&bit != 0 {
		return false
	}
	b.mask |= bit
	b.entries = slices.Insert(b.entries, rank, e)
	h.digest(b, seq, e.hash)
	h.n++
	return true
}

// digest adds a segment to the sums, or takes it out of them.
func (h *held) digest(b *block, seq uint64, hash journal.Hash) {
	d := transport.Digest(seq, hash)
	xor(&b.sum, &d)
	xor(&h.sum, &d)
}

func xor(sum, d *journal.Hash) {
	for i, x := range d {
		sum[i] ^= x
	}
}

// note notes that a segment that is held belongs to an epoch.
func (h *held) note(epoch uint64) {
	if i, known := slices.BinarySearch(h.epochs, epoch); !known {
		h.epochs = slices.Insert(h.epochs, i, epoch)
	}
}

// replace notes a segment in place of the one that is held, if any, and returns that.
func (h *held) replace(seq uint64, e entry) (old entry, was bool) {
	if h.put(seq, e) {
		return entry{}, false
	}
	i, _ := h.block(seq)
	b := &h.blocks[i]
	_, rank := b.place(seq)
	old, b.entries[rank] = b.entries[rank], e
	h.digest(b, seq, old.hash)
	h.digest(b, seq, e.hash)
	return old, true
}

// remove forgets a segment that cannot be read any more, if it still is what the caller saw.
func (h *held) remove(seq uint64, seen entry) bool {
	if e, ok := h.get(seq); !ok || e != seen {
		return false
	}
	i, _ := h.block(seq)
	b := &h.blocks[i]
	bit, rank := b.place(seq)
	b.mask &^= bit
	b.entries = slices.Delete(b.entries, rank, rank+1)
	h.digest(b, seq, seen.hash)
	h.n--
	if b.mask == 0 {
		h.blocks = slices.Delete(h.blocks, i, i+1)
	}
	return true
}

// spans returns the runs of seqs held.
func (h *held) spans() []transport.Span {
	var out []transport.Span
	for _, b := range h.blocks {
		for m := b.mask; m != 0; {
			low := bits.TrailingZeros64(m)
			run := bits.TrailingZeros64(^(m >> low))
			first := b.index*journal.BucketSize + uint64(low)
			out = merge(out, transport.Span{First: first, Last: first + uint64(run) - 1})
			if low+run >= 64 {
				break
			}
			m &^= (1<<run - 1) << low
		}
	}
	return out
}

// from returns the first segment held at or after seq.
func (h *held) from(seq uint64) (uint64, entry, bool) {
	for i, _ := h.block(seq); i < len(h.blocks); i++ {
		b := &h.blocks[i]
		m, rank := b.mask, 0
		if b.index == seq/journal.BucketSize {
			var bit uint64
			bit, rank = b.place(seq)
			m &^= bit - 1
		}
		if m != 0 {
			return b.index*journal.BucketSize + uint64(bits.TrailingZeros64(m)), b.entries[rank], true
		}
	}
	return 0, entry{}, false
}

// merge adds a span to sorted spans that do not touch.
func merge(spans []transport.Span, s transport.Span) []transport.Span {
	i := len(spans) // almost always the new one comes last
	for i > 0 && spans[i-1].First > s.Last {
		i--
	}
	if i < len(spans) && spans[i].First == s.Last+1 {
		s.Last = spans[i].Last
		spans = slices.Delete(spans, i, i+1)
	}
	if i > 0 && spans[i-1].Last+1 >= s.First {
		spans[i-1].Last = max(spans[i-1].Last, s.Last)
		return spans
	}
	return slices.Insert(spans, i, s)
}
