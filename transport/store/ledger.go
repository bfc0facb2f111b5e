// SPDX-License-Identifier: Apache-2.0

package store

import (
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
)

// ledger says which frames of the log count, and where they are. Store.mu guards it.
type ledger struct {
	chains map[journal.Chain]*held
	proofs []proof
	forked map[journal.Chain][]uint64 // seqs of forks
	books  map[edge.ID]*book
	space  map[uint32]*fileSpace // by file of the log
	shares *shares

	clock   int64  // ms since 1970 that this hub's clock showed last and was believed; 0 = none is in the log
	clockAt spot   // of its frame
	undated int    // segments held whose receipt is not known
	newest  uint32 // receipt, of all that were ever held
}

// fileSpace is what the frames of one file take, in bytes: all that were written, and those that count.
type fileSpace struct{ total, live int64 }

// proof is a fork proof that is kept.
type proof struct {
	fork  journal.Fork
	chain journal.Chain
	seq   uint64
	at    spot
}

func newLedger() *ledger {
	return &ledger{chains: map[journal.Chain]*held{}, forked: map[journal.Chain][]uint64{}, books: map[edge.ID]*book{},
		space: map[uint32]*fileSpace{}, shares: &shares{used: map[edge.ID]int64{}}}
}

func (l *ledger) chain(c journal.Chain) *held {
	h := l.chains[c]
	if h == nil {
		h = &held{chain: c, flights: map[uint64]*flight{}}
		l.chains[c] = h
	}
	return h
}

// tidy takes a chain out of which nothing is left to know.
func (l *ledger) tidy(h *held) {
	if len(h.flights) == 0 && len(h.blocks) == 0 && h.past.floor == 0 {
		delete(l.chains, h.chain)
	}
}

// written counts a frame, which does not count yet.
func (l *ledger) written(at spot) {
	if l.space[at.file] == nil {
		l.space[at.file] = &fileSpace{}
	}
	l.space[at.file].total += int64(at.size) + logHead
}

// alive says that a frame counts that was written.
func (l *ledger) alive(at spot) { l.space[at.file].live += int64(at.size) + logHead }

// dead says that it does not count any more.
func (l *ledger) dead(at spot) {
	if f := l.space[at.file]; f != nil {
		f.live -= int64(at.size) + logHead
	}
}

// keep notes a segment whose frame was written; of two in one place the later one counts. Its signer was charged.
func (l *ledger) keep(h *held, seq, epoch uint64, e entry) {
	if old, was := h.replace(seq, e); was {
		l.forget(h, old)
	}
	h.note(epoch)
	l.alive(e.spot)
	if e.received == 0 {
		l.undated++
	}
	l.newest, h.newest = max(l.newest, e.received), max(h.newest, e.received)
}

// forget is for what was an entry of h and is none any more.
func (l *ledger) forget(h *held, e entry) {
	l.dead(e.spot)
	l.shares.give(h.chain.Device, int64(e.size))
	if e.received == 0 {
		l.undated--
	}
}

// remove forgets a segment, if it still is what the caller saw.
func (l *ledger) remove(h *held, seq uint64, seen entry) bool {
	ok := h.remove(seq, seen)
	if ok {
		l.forget(h, seen)
	}
	return ok
}

// letGo forgets all of a chain that is past, and returns how many segments that were.
func (l *ledger) letGo(h *held) (n int) {
	whole, here := h.block(h.past.floor)
	for i := range h.blocks[:whole] {
		b := &h.blocks[i]
		xor(&h.sum, &b.sum)
		h.n -= len(b.entries)
		n += len(b.entries)
		for _, e := range b.entries {
			l.forget(h, e)
		}
	}
	h.blocks = slices.Delete(h.blocks, 0, whole)
	for here {
		first, e, ok := h.from(0)
		if !ok || first >= h.past.floor {
			break
		}
		l.remove(h, first, e)
		n++
	}
	i, _ := slices.BinarySearch(h.epochs, h.past.floor)
	h.epochs = slices.Delete(h.epochs, 0, i)
	return n
}

// raise lets the floor of a chain be this one, if it is higher.
func (l *ledger) raise(h *held, p past) bool {
	if p.floor <= h.past.floor {
		return false
	}
	if h.past.floor > 0 {
		l.dead(h.past.at)
	}
	h.past, h.newest = p, max(h.newest, p.newest)
	l.alive(p.at)
	return true
}

// prove notes a fork proof.
func (l *ledger) prove(p proof) {
	l.proofs, l.forked[p.chain] = append(l.proofs, p), append(l.forked[p.chain], p.seq)
	l.alive(p.at)
}

// showed notes a time of this hub's clock.
func (l *ledger) showed(ms int64, at spot) {
	if l.clock > 0 {
		l.dead(l.clockAt)
	}
	l.clock, l.clockAt = ms, at
	l.alive(at)
}

// dating is a frameDate.
type dating struct {
	at  wal.Pos
	sec uint32
}

// dateAll lets datings, in the order of the log, count for what stands before them.
func (l *ledger) dateAll(all []dating) {
	l.undated, l.newest = 0, 0
	for _, h := range l.chains {
		h.newest = h.past.newest
		if len(all) > 0 {
			h.newest = min(h.newest, all[0].sec)
		}
		for b := range h.blocks {
			for i := range h.blocks[b].entries {
				e := &h.blocks[b].entries[i]
				at, _ := slices.BinarySearchFunc(all, e.pos(), func(d dating, p wal.Pos) int { return d.at.Compare(p) })
				if at < len(all) {
					e.date(all[at].sec)
				}
				if e.received == 0 {
					l.undated++
				}
				h.newest = max(h.newest, e.received)
			}
		}
		l.newest = max(l.newest, h.newest)
	}
}

// date says that a segment had been received then, or before.
func (e *entry) date(sec uint32) {
	if e.received == 0 || e.received > sec {
		e.received = sec
	}
}
