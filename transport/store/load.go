// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
	"slices"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
)

// loading is a ledger while the log is read.
type loading struct {
	*ledger
	store   *Store
	fleet   journal.FleetID
	dates   []dating
	skipped uint64
}

// load opens the log and builds the ledger anew. The caller has the store to himself or holds disk for writing.
func (s *Store) load(ctx context.Context) error {
	l := &loading{ledger: newLedger(), store: s, fleet: s.o.Fleet().ID()}
	log, rec, err := wal.Open(s.dir, wal.Options{FileSize: s.fileSize(), MaxFrame: journal.MaxSegment + frameHead, Quota: s.o.Quota,
		Logger: s.o.Logger, Wrap: s.o.Wrap}, func(p wal.Pos, frame []byte) error {
		l.frame(p, frame)
		return ctx.Err()
	})
	if err != nil {
		return fmt.Errorf("store: opening: %w", err)
	}
	if rec.Dropped > 0 || l.skipped > 0 {
		s.o.Logger.Warn("store: parts of the log are not readable", "dir", s.dir, "bytes", rec.Dropped, "reason", rec.Reason,
			"skipped_frames", l.skipped)
	}
	l.finish()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ledger != nil {
		for c, old := range s.chains { // puts under way go on
			if len(old.flights) > 0 {
				l.chain(c).flights = old.flights
			}
		}
	}
	s.log, s.failed = log, nil
	s.ledger = l.ledger
	s.stats.Skipped = l.skipped
	for f := range s.followers { // a write that failed may be durable all the same
		for c := range s.chains {
			f.tell(c, transport.Span{}, true)
		}
	}
	return nil
}

func (l *loading) frame(p wal.Pos, frame []byte) {
	at := spotAt(p, len(frame))
	l.written(at)
	if err := l.take(p, at, frame); err != nil {
		l.skipped++
		l.store.o.Logger.Warn("store: frame skipped", "dir", l.store.dir, "at", p.String(), "err", err)
	}
}

func (l *loading) take(p wal.Pos, at spot, frame []byte) error {
	switch frame[0] {
	case frameFork:
		return l.fork(at, frame[1:])
	case frameFloor:
		return l.floor(at, frame[1:])
	case frameMarks:
		w, err := peekMarks(frame[1:], l.fleet)
		if err == nil {
			l.mark(&w, at, nil)
		}
		return err
	case frameDate, frameClock:
		ms, _, err := splitTime(frame)
		switch {
		case err != nil:
			return err
		case frame[0] == frameDate:
			l.dates = append(l.dates, dating{p, seconds(ms)})
		default:
			l.showed(ms, at)
		}
		return nil
	}
	return l.segment(at, frame)
}

func (l *loading) fork(at spot, enc []byte) error {
	var f journal.Fork
	if err := journal.Decode(enc, &f); err != nil {
		return err
	}
	c, seq, err := f.Prove(l.fleet)
	if err != nil {
		return err
	}
	f.A, f.B = slices.Clone(f.A), slices.Clone(f.B)
	if slices.Contains(l.forked[c], seq) { // moved
		i := slices.IndexFunc(l.proofs, func(p proof) bool { return p.chain == c && p.seq == seq })
		l.dead(l.proofs[i].at)
		l.alive(at)
		l.proofs[i].at = at
		return nil
	}
	l.shares.charge(c.Device, int64(at.size))
	l.prove(proof{fork: f, chain: c, seq: seq, at: at})
	return nil
}

func (l *loading) floor(at spot, enc []byte) error {
	r, err := openFloor(enc)
	if err != nil {
		return err
	}
	if r.Chain.Fleet != l.fleet {
		return fmt.Errorf("store: floor of a chain of fleet %s: %w", r.Chain.Fleet, journal.ErrWrongFleet)
	}
	p := past{floor: r.Floor, why: transport.Past(r.Past), last: r.Last, at: at, newest: r.Time}
	if h := l.chain(r.Chain); !l.raise(h, p) && p.floor == h.past.floor { // moved
		l.dead(h.past.at)
		l.alive(at)
		h.past.at = at
	}
	return nil
}

func (l *loading) segment(at spot, frame []byte) error {
	ms, raw, err := segmentOf(frame)
	if err != nil {
		return err
	}
	h, hash, _, err := peek(raw)
	if err != nil {
		return err
	}
	if h.Chain.Fleet != l.fleet {
		return fmt.Errorf("store: segment of fleet %s: %w", h.Chain.Fleet, journal.ErrWrongFleet)
	}
	l.shares.charge(h.Chain.Device, int64(at.size))
	// Of two in one place the later one counts: it was taken in because the first was damaged, or did not count any more, or was moved.
	l.keep(l.chain(h.Chain), h.Seq, epochOf(&h), entry{hash: hash, spot: at, received: seconds(ms)})
	return nil
}

// finish does what wants the whole log to be known: what is past may stand behind what says so, and before.
func (l *loading) finish() {
	for _, h := range l.chains {
		l.letGo(h)
		l.tidy(h)
	}
	for i := len(l.dates) - 2; i >= 0; i-- { // each says at least what those behind it say
		l.dates[i].sec = min(l.dates[i].sec, l.dates[i+1].sec)
	}
	l.dateAll(l.dates)
}
