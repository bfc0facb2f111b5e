// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// Put keeps a segment. nil means that it is fsynced, now or before. Otherwise the error is a *transport.Refusal that
// says why, wraps ErrClosed, or is ctx.Err(), when ctx ended before the write began: once it has begun Put sees it
// through. Segments are proven in the caller's goroutine and share fsyncs, so many Puts at a time are cheapest. Put keeps
// no reference to segment.
func (s *Store) Put(ctx context.Context, segment []byte) error {
	return s.counted(s.put(ctx, segment, func(*journal.Segment) int64 {
		received, _ := s.clock.read()
		return received
	}, s.rates))
}

// PutDated implements transport.Mirror: it is Put of a segment that another hub received then, in ms since 1970, and no rate limits it.
func (s *Store) PutDated(ctx context.Context, segment []byte, received int64) error {
	return s.counted(s.put(ctx, segment, func(seg *journal.Segment) int64 { return s.believe(seg, received) }, nil))
}

func (s *Store) counted(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.stats.Puts++
	} else if r, ok := errors.AsType[*transport.Refusal](err); ok {
		s.stats.Refused[r.Reason]++
	}
	return err
}

func (s *Store) refuse(reason transport.Reason, detail string) error {
	return &transport.Refusal{Hub: s.o.Self, Reason: reason, Detail: detail}
}

func (s *Store) put(ctx context.Context, segment []byte, received func(*journal.Segment) int64, limit *rates) error {
	if s.isClosed() {
		return fmt.Errorf("store: putting: %w", ErrClosed)
	}
	seg, err := s.prove(segment)
	if err != nil {
		return err
	}
	fl, err := s.claim(ctx, seg)
	if err != nil || fl == nil {
		return err
	}
	defer s.land(seg, fl)
	if !limit.allow(seg.Chain.Device, len(segment)) {
		return s.refuse(transport.RefusedRate, fmt.Sprintf("%s writes more than %.0f bytes a second", seg.Chain.Device, float64(limit.limit)))
	}
	ms := received(seg)
	frame, past := timeFrame(frameDated, ms, segment), false
	err = s.append(ctx, write{frames: [][]byte{frame}, signer: seg.Chain.Device, room: s.reserve(), settle: func(at []wal.Pos) {
		past = !s.settle(seg, entry{hash: seg.Hash, spot: spotAt(at[0], len(frame)), received: seconds(ms)})
	}})
	if err == nil && past {
		return s.refuse(transport.RefusedPast, fmt.Sprintf("seq %d of %s was let go meanwhile", seg.Seq, seg.Chain))
	}
	return s.answer(err)
}

// answer turns an error of the log into a refusal.
func (s *Store) answer(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrClosed), errors.Is(err, wal.ErrClosed):
		return fmt.Errorf("store: putting: %w", ErrClosed)
	case errors.Is(err, wal.ErrFull):
		return s.refuse(transport.RefusedFull, err.Error())
	}
	return s.refuse(transport.RefusedFailed, err.Error())
}

// prove holds a segment against the fleet.
func (s *Store) prove(segment []byte) (*journal.Segment, error) {
	f := s.o.Fleet()
	seg, err := journal.Open(segment, f.ID())
	if err != nil {
		return nil, s.refuse(transport.RefusedInvalid, err.Error())
	}
	switch err = transport.Admit(f, seg); {
	case errors.Is(err, fleet.ErrRevoked):
		return nil, s.refuse(transport.RefusedRevoked, err.Error())
	case errors.Is(err, fleet.ErrNotMember):
		return nil, s.refuse(transport.RefusedNotAllowed, fmt.Sprintf("%s is not enrolled as a device: %v", seg.Chain.Device, err))
	case err != nil:
		return nil, s.refuse(transport.RefusedNotAllowed, err.Error())
	}
	return seg, nil
}

// decision is what tryClaim found: one field is set, or none when the segment is held already.
type decision struct {
	flight *flight       // the place is the caller's
	wait   chan struct{} // another Put decides first
	rival  *entry        // another segment stands in the place …
	yields bool          // … and a revocation says that it is not the one that counts
	past   *past         // the last segment that was let go contradicts seg
	next   *entry        // this successor must be seen to name seg as its predecessor
	err    error
}

// claim takes the place of a segment for the caller, who must land it. No flight and no error: it is held already.
func (s *Store) claim(ctx context.Context, seg *journal.Segment) (*flight, error) {
	var linked, displaced entry
	cut := s.scope(seg.Chain)
	for {
		d := s.tryClaim(seg, cut, linked, displaced)
		switch {
		case d.err != nil:
			return nil, d.err
		case d.wait != nil:
			select {
			case <-d.wait:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		case d.rival != nil:
			if err := s.fork(ctx, seg, *d.rival); err != nil && !d.yields {
				return nil, err
			}
			displaced = *d.rival
		case d.past != nil:
			return nil, s.forkPast(ctx, seg, *d.past)
		case d.next != nil:
			if err := s.checkNext(seg, *d.next); err != nil {
				return nil, err
			}
			linked = *d.next
		default:
			return d.flight, nil
		}
	}
}

func (s *Store) tryClaim(seg *journal.Segment, cut scope, linked, displaced entry) decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.chain(seg.Chain)
	if seg.Seq < h.past.floor {
		return s.refusePast(h, seg)
	}
	rival, taken := h.get(seg.Seq)
	vouched := cut.vouches(h, seg)
	switch {
	case taken && rival.hash == seg.Hash:
		return decision{}
	case taken && !vouched:
		return decision{rival: &rival}
	}
	if wait := h.contested(seg); wait != nil {
		return decision{wait: wait}
	}
	if hash, ok := h.before(seg.Seq); ok && hash != seg.Prev && !vouched {
		return decision{err: s.refuse(transport.RefusedFork, fmt.Sprintf("seq %d does not continue the seq %d that is held", seg.Seq, seg.Seq-1))}
	}
	if e, ok := h.get(seg.Seq + 1); ok && seg.Seq+1 != 0 && e != linked && !cut.ends(seg.Seq) {
		return decision{next: &e}
	}
	if taken && rival != displaced {
		return decision{rival: &rival, yields: true}
	}
	fl := &flight{hash: seg.Hash, prev: seg.Prev, done: make(chan struct{})}
	h.flights[seg.Seq] = fl
	return decision{flight: fl}
}

// contested returns what to wait for when a segment on its way to the disk is in the place of seg or does not link to it.
func (h *held) contested(seg *journal.Segment) chan struct{} {
	if fl := h.flights[seg.Seq]; fl != nil {
		return fl.done
	}
	if fl := h.flights[seg.Seq-1]; fl != nil && seg.Seq > 0 && fl.hash != seg.Prev {
		return fl.done
	}
	if fl := h.flights[seg.Seq+1]; fl != nil && seg.Seq+1 != 0 && fl.prev != seg.Hash {
		return fl.done
	}
	return nil
}

// checkNext refuses seg if its successor, which is held, names another predecessor.
func (s *Store) checkNext(seg *journal.Segment, next entry) error {
	raw, _, err := s.read(seg.Chain, seg.Seq+1, next)
	if err != nil || raw == nil { // unreadable: it is not held any more
		return s.answer(err)
	}
	h, _, _, err := peek(raw)
	if err != nil {
		return s.refuse(transport.RefusedFailed, err.Error())
	}
	if h.Prev != seg.Hash {
		return s.refuse(transport.RefusedFork, fmt.Sprintf("the seq %d that is held does not continue this seq %d", seg.Seq+1, seg.Seq))
	}
	return nil
}

// settle notes that a segment is durable. It reports false if its place is past by now.
func (s *Store) settle(seg *journal.Segment, e entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.chains[seg.Chain] // a chain with a flight is never taken out
	s.written(e.spot)
	if seg.Seq < h.past.floor {
		s.shares.give(seg.Chain.Device, int64(e.size))
		return false
	}
	s.keep(h, seg.Seq, epochOf(&seg.Header), e) // instead of another one only where a revocation vouches for seg
	if before, ok := h.get(seg.Seq - 1); ok && seg.Seq > 0 && before.hash != seg.Prev {
		s.remove(h, seg.Seq-1, before) // of a branch that does not count
	}
	s.announce(seg.Chain, seg.Seq)
	return true
}

// land ends a flight, whether it reached the disk or not.
func (s *Store) land(seg *journal.Segment, fl *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(fl.done)
	h := s.chains[seg.Chain]
	delete(h.flights, seg.Seq)
	s.tidy(h)
}

// fork answers a segment whose place is taken by another, and keeps the proof. It returns nil when the other one turns
// out to be unreadable: then the place is free.
func (s *Store) fork(ctx context.Context, seg *journal.Segment, rival entry) error {
	raw, _, err := s.read(seg.Chain, seg.Seq, rival)
	if err != nil || raw == nil {
		return s.answer(err)
	}
	_, _, signed, err := peek(raw)
	if err != nil {
		return s.refuse(transport.RefusedFailed, err.Error())
	}
	return s.provenFork(ctx, seg, signed)
}

// provenFork answers a segment that a signed header contradicts, and keeps the two as a proof.
func (s *Store) provenFork(ctx context.Context, seg *journal.Segment, signed []byte) error {
	if err := s.keepProof(ctx, seg, journal.Fork{A: slices.Clone(signed), B: slices.Clone(seg.SignedHeader())}); err != nil {
		s.o.Logger.Error("store: proof of a fork could not be kept", "chain", seg.Chain.String(), "seq", seg.Seq, "err", err)
	}
	return s.refuse(transport.RefusedFork, fmt.Sprintf("another segment stands at seq %d of %s", seg.Seq, seg.Chain))
}

// keepProof makes the first proof for a place durable.
func (s *Store) keepProof(ctx context.Context, seg *journal.Segment, proved journal.Fork) error {
	if _, _, err := proved.Prove(seg.Chain.Fleet); err != nil {
		return err
	}
	enc, err := journal.Encode(proved)
	if err != nil {
		return err
	}
	s.proving.Lock() // one at a time, so that a place gets one proof
	defer s.proving.Unlock()
	s.mu.Lock()
	known := s.forked[seg.Chain]
	s.mu.Unlock()
	if len(known) >= maxForks || slices.Contains(known, seg.Seq) {
		return nil
	}
	frame := frameOf(frameFork, enc)
	return s.append(ctx, write{frames: [][]byte{frame}, signer: seg.Chain.Device, room: 2 * s.moving(), settle: func(at []wal.Pos) {
		s.mu.Lock()
		defer s.mu.Unlock()
		p := proof{fork: proved, chain: seg.Chain, seq: seg.Seq, at: spotAt(at[0], len(frame))}
		s.written(p.at)
		s.ledger.prove(p)
		s.o.Logger.Error("store: FORK: a device signed two segments for one place; its key was cloned or its log rolled back",
			"chain", seg.Chain.String(), "seq", seg.Seq, "device", seg.Chain.Device.String())
	}})
}
