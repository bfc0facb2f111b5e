// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Founding is what a new fleet begins with.
type Founding struct {
	Name     string
	Owner    journal.Signer // active owner key
	Spare    edge.ID        // public half of the spare
	Recovery []byte         // public reader key
	Hubs     []Bootstrap
}

// Found makes version 1 of a fleet's state and an empty log. An error wraps ErrBadState (a name, key or hub is not
// usable) or ErrTooLarge (more bootstrap hubs than MaxState holds).
func Found(f Founding, now time.Time) (*Fleet, error) {
	s := State{Format: 1, Version: 1, Name: f.Name, Owners: [2]edge.ID{f.Owner.ID(), f.Spare}, Recovery: f.Recovery,
		Hubs: f.Hubs, LogWriter: f.Owner.ID(), Time: now.UnixMilli()}
	rand.Read(s.LogLife[:])
	return (&Fleet{}).withState(f.Owner, s)
}

// Amend makes the next version of the state with other bootstrap hubs.
func (f *Fleet) Amend(owner journal.Signer, hubs []Bootstrap, now time.Time) (*Fleet, error) {
	s := f.next(now)
	s.Hubs = hubs
	return f.withState(owner, s)
}

// Rotate makes the next version of the state with other owner keys, signed by one of the present ones, and begins a new
// log in which all grants stand again. owner must be among the new owners too, because it signs that log; so the active
// key replaces the spare, or the spare the active, and both are replaced in two steps.
func (f *Fleet) Rotate(owner journal.Signer, owners [2]edge.ID, now time.Time) (*Fleet, error) {
	s := f.next(now)
	s.Owners, s.LogWriter = owners, owner.ID()
	rand.Read(s.LogLife[:])
	signed, err := signState(owner, s)
	if err != nil {
		return nil, fmt.Errorf("fleet: rotating owners: %w", err)
	}
	next, err := reopen(Bundle{States: append(slices.Clone(f.bundle.States), signed)}, f.id)
	if err != nil {
		return nil, fmt.Errorf("fleet: rotating owners: %w", err)
	}
	return next.Grant(owner, now, f.Members()...)
}

// next is the state's successor, without changes.
func (f *Fleet) next(now time.Time) State {
	s := f.state
	s.Version, s.Time = s.Version+1, max(now.UnixMilli(), s.Time)
	s.Prev = sha256.Sum256(f.bundle.States[len(f.bundle.States)-1])
	return s
}

func (f *Fleet) withState(owner journal.Signer, s State) (*Fleet, error) {
	signed, err := signState(owner, s)
	if err != nil {
		return nil, err
	}
	return reopen(Bundle{States: append(slices.Clone(f.bundle.States), signed), Log: f.bundle.Log}, f.id)
}

// signState refuses what members would refuse.
func signState(owner journal.Signer, s State) ([]byte, error) {
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("fleet: signing state: %w", err)
	}
	payload, err := journal.Encode(s)
	if err != nil {
		return nil, err
	}
	signed, err := journal.SignRecord(owner, journal.TypeState, payload)
	if err != nil {
		return nil, err
	}
	if len(signed) > MaxState {
		return nil, fmt.Errorf("fleet: signing state with %d bootstrap hubs: %d bytes of at most %d: name fewer hubs or fewer addresses of each: %w",
			len(s.Hubs), len(signed), MaxState, ErrTooLarge)
	}
	return signed, nil
}

// Grant appends the grants to the log, signed by the owner that writes it, in as few entries as hold them. Each call
// proves the whole bundle again, so grant many at once. An error wraps ErrBadGrant or ErrNotOwner.
func (f *Fleet) Grant(owner journal.Signer, now time.Time, grants ...Grant) (*Fleet, error) {
	w, err := f.logWriter(owner)
	if err != nil {
		return nil, err
	}
	entries, err := split(grants)
	if err != nil {
		return nil, err
	}
	b := Bundle{States: f.bundle.States, Log: slices.Clone(f.bundle.Log)}
	for _, entry := range entries {
		payload, err := journal.Encode(entry)
		if err != nil {
			return nil, err
		}
		seg, err := w.Plain(payload, len(entry), journal.Stamp{At: edge.Instant{Wall: now.UnixMilli()}})
		if err != nil {
			return nil, fmt.Errorf("fleet: granting: %w", err)
		}
		if err := w.Commit(seg); err != nil {
			return nil, fmt.Errorf("fleet: granting: %w", err)
		}
		b.Log = append(b.Log, seg.Bytes())
	}
	return reopen(b, f.id)
}

// maxEntry is the size in bytes beyond which a log entry takes no further grant; with one more it still fits a segment.
const maxEntry = 128 << 10

// split checks the grants and divides them among log entries.
func split(grants []Grant) (entries [][]Grant, err error) {
	first, size := 0, 0
	for i, g := range grants {
		if err := g.check(); err != nil {
			return nil, err
		}
		enc, err := journal.Encode(g)
		if err != nil {
			return nil, err
		}
		if size += len(enc); size > maxEntry || i+1-first == journal.MaxReadings || i+1 == len(grants) {
			entries = append(entries, grants[first:i+1])
			first, size = i+1, 0
		}
	}
	return entries, nil
}

func (f *Fleet) logWriter(owner journal.Signer) (*journal.Writer, error) {
	var tip *journal.Link
	if len(f.bundle.Log) > 0 {
		tip = &f.log
	}
	w, err := journal.ResumeWriter(f.logChain(), tip, owner)
	if err != nil {
		return nil, fmt.Errorf("fleet: granting with the key of %s, the log is written by %s: %w", owner.ID(), f.state.LogWriter, ErrNotOwner)
	}
	return w, nil
}

// reopen proves what was just made, so that nothing leaves this package that a member would refuse.
func reopen(b Bundle, id journal.FleetID) (*Fleet, error) {
	enc, err := b.Encode()
	if err != nil {
		return nil, err
	}
	return Open(enc, id)
}
