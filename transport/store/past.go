// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"math"
	"math/bits"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
)

// An epoch has ended for a hub when a later one has begun. The last one of a chain has none behind it; more of it may still come, from the outbox
// of a device that is switched off or out of reach, and would be closed for ever if its key was gone.
const (
	quietTime  = 30 * 24 * time.Hour // of a chain after which no more of it is waited for
	followTime = 48 * time.Hour      // the same where the device has begun another chain since, or was revoked: an epoch lasts a day
)

// retention returns how long a chain is held after its first receipt, and who must have it before it may go earlier. Rewraps open what others hold
// for as long as that may be held, and are not for one collector to have.
func retention(f *fleet.Fleet, c journal.Chain) (maxAge time.Duration, required []edge.ID) {
	if c.Stream != journal.RewrapStream {
		return f.Retention(c.Device, c.Stream)
	}
	maxAge = fleet.DefaultMaxAge
	for _, r := range f.Retentions() {
		maxAge = max(maxAge, time.Duration(r.MaxAge)*time.Millisecond)
	}
	return maxAge, nil
}

// rule is what is asked of a chain before something of it may go.
type rule struct {
	before   uint32            // s since 1970: what was received then or earlier is old enough; 0 = nothing is
	now      uint32            // 0 = nobody knows
	quiet    time.Duration     // after which its last epoch has ended
	taken    map[edge.ID]*book // of each required collector; nil = it has not said anything that counts
	required bool              // there is one
}

// rules makes the rule of a chain.
func (l *ledger) rule(f *fleet.Fleet, c journal.Chain, age int64) rule {
	maxAge, required := retention(f, c)
	r := rule{now: uint32(age / 1000), quiet: quietTime, required: len(required) > 0, taken: map[edge.ID]*book{}}
	if s := age/1000 - int64(maxAge/time.Second); age > 0 && s > 0 {
		r.before = uint32(s)
	}
	for _, id := range required {
		r.taken[id] = nil
		if f.May(id, fleet.Read, c.Device, c.Stream) {
			r.taken[id] = l.books[id]
		}
	}
	return r
}

// old reports whether something was received long enough ago.
func (r *rule) old(received uint32) bool { return received != 0 && received <= r.before }

// collected reports whether each required collector has all of a chain up to a seq.
func (r *rule) collected(h *held, to uint64) bool {
	for _, b := range r.taken {
		if b.reaches(h) < to+1 {
			return false
		}
	}
	return r.required
}

// reaches returns the seq of the first segment that a collector does not have.
func (b *book) reaches(h *held) uint64 {
	if b == nil {
		return 0
	}
	m, ok := b.marks[h.chain]
	if e, held := h.get(m.Seq); !ok || held && e.hash != m.Hash {
		return 0
	}
	return m.Seq + 1
}

// floor returns how high the floor of a chain may rise: epoch by epoch, all before being gone.
func (r *rule) floor(h *held) (floor uint64, why transport.Past) {
	floor = h.past.floor
	for i := range h.epochs {
		next := uint64(math.MaxUint64) // where a later epoch begins
		if i+1 < len(h.epochs) {
			next = h.epochs[i+1]
		}
		var reason transport.Past
		switch {
		case next != math.MaxUint64 && r.collected(h, next-1):
			reason = transport.PastCollected
		case r.aged(h, floor, next):
			reason = transport.PastAge
		default:
			return floor, why
		}
		if why = reason; next != math.MaxUint64 {
			floor = next
		} else if last, ok := h.last(); ok {
			floor = last + 1
		}
	}
	return floor, why
}

// aged reports whether the epoch that ends before next has been held for long enough since it ended.
func (r *rule) aged(h *held, from, next uint64) bool {
	if r.before == 0 {
		return false
	}
	newest := uint32(0)
	for i, _ := h.block(from); i < len(h.blocks); i++ {
		b := &h.blocks[i]
		m := b.mask
		for _, e := range b.entries {
			seq := b.index*journal.BucketSize + uint64(bits.TrailingZeros64(m))
			m &= m - 1
			if !r.old(e.received) && seq >= from {
				return false // of this epoch, or the first that is held of a later one: then this one ended when that one came
			}
			if seq >= next {
				return true
			}
			newest = max(newest, e.received)
		}
	}
	// Nothing of a later epoch is held: it ends when the chain has been quiet.
	return newest > 0 && int64(newest)+int64(r.quiet/time.Second) <= int64(r.before)
}

// refusePast answers a segment below the floor of its chain. Store.mu is held.
func (s *Store) refusePast(h *held, seg *journal.Segment) decision {
	if h.past.last.Seq == seg.Seq && h.past.last.Hash != seg.Hash {
		p := h.past
		return decision{past: &p}
	}
	return decision{err: s.refuse(transport.RefusedPast, fmt.Sprintf("seq %d: below %d all is let go: %s", seg.Seq, h.past.floor, h.past.why))}
}

// forkPast keeps the proof that a segment contradicts the last one that was let go.
func (s *Store) forkPast(ctx context.Context, seg *journal.Segment, p past) error {
	frame, err := s.readFrame(p.at.pos())
	if err != nil {
		return s.refuse(transport.RefusedPast, fmt.Sprintf("seq %d: below %d all is let go", seg.Seq, p.floor))
	}
	r, err := openFloor(frame[1:])
	if err != nil || len(r.Proof) == 0 {
		return s.refuse(transport.RefusedFork, fmt.Sprintf("another segment stood at seq %d of %s", seg.Seq, seg.Chain))
	}
	return s.provenFork(ctx, seg, r.Proof)
}

// encode returns the frame that says what of a chain is past.
func (p *past) encode(c journal.Chain, signed []byte) ([]byte, error) {
	enc, err := journal.Encode(floorRecord{Chain: c, Floor: p.floor, Past: uint8(p.why), Last: p.last, Proof: signed, Time: p.newest})
	return frameOf(frameFloor, enc), err
}

// openFloor is its inverse.
func openFloor(enc []byte) (r floorRecord, err error) {
	if err := journal.Decode(enc, &r); err != nil {
		return r, err
	}
	bad := r.Last.Seq >= r.Floor || r.Last.Seq > journal.MaxSeq || r.Floor > journal.MaxSeq+1
	if len(r.Proof) > 0 {
		h, hash, err := peekHeader(r.Proof)
		bad = bad || err != nil || h.Chain != r.Chain || h.Seq != r.Last.Seq || hash != r.Last.Hash
	}
	if bad {
		return r, fmt.Errorf("store: floor %d of %s behind seq %d: %w", r.Floor, r.Chain, r.Last.Seq, journal.ErrMalformed)
	}
	return r, nil
}
