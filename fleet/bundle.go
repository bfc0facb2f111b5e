// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Bundle is the proof of a fleet, or the part of it that somebody lacks: signed states and the segments of fleet logs. Whole,
// it is what hubs hold and what a member keeps as fleet.cbor.
type Bundle struct {
	_      struct{}   `cbor:",toarray"`
	States [][]byte   // COSE_Sign1, in the order of their versions; whole: from version 1
	Logs   [][][]byte // for each chain its journal segments in order; whole: from seq 0, the chains in their one order
}

// MaxBundle bounds an encoded bundle, whole or part, in bytes: 10 000 members fit with room to spare.
const MaxBundle = 64 << 20

// maxChains bounds the fleet logs of one bundle: operators and executors, each with its lives.
const maxChains = 4096

// Encode writes the bundle's one canonical form.
func (b Bundle) Encode() ([]byte, error) { return journal.Encode(b) }

// DecodeBundle reads what Encode wrote. It proves nothing.
func DecodeBundle(encoded []byte) (Bundle, error) {
	var b Bundle
	if len(encoded) > MaxBundle {
		return b, fmt.Errorf("fleet: reading bundle of %d bytes: %w", len(encoded), ErrTooLarge)
	}
	if err := journal.Decode(encoded, &b); err != nil {
		return b, fmt.Errorf("fleet: reading bundle: %w", err)
	}
	if len(b.Logs) > maxChains {
		return b, fmt.Errorf("fleet: reading bundle with %d logs: %w", len(b.Logs), ErrTooLarge)
	}
	return b, nil
}

// Open proves a whole encoded bundle of the fleet that pinned names (zero: whatever fleet it is, for first contact only).
// Each state must be signed by an owner that the state before it names, the first by its own active owner. Every log in it must count: a bundle
// has one form.
func Open(encoded []byte, pinned journal.FleetID) (*Fleet, error) {
	b, err := DecodeBundle(encoded)
	if err != nil {
		return nil, err
	}
	if len(b.States) == 0 {
		return nil, fmt.Errorf("fleet: opening bundle: no fleet state: %w", ErrNotOwner)
	}
	f, err := (&Fleet{id: pinned}).Merge(b)
	if err != nil {
		return nil, err
	}
	if again, err := f.Encoded(); err != nil || !bytes.Equal(again, encoded) {
		return nil, fmt.Errorf("fleet: opening bundle: it holds logs that do not count, or in another order: %w", errors.Join(ErrBadState, err))
	}
	return f, nil
}

// Encoded returns the whole bundle.
func (f *Fleet) Encoded() ([]byte, error) {
	b := Bundle{States: f.states, Logs: make([][][]byte, len(f.logs))}
	for i, l := range f.logs {
		b.Logs[i] = l.raw
	}
	enc, err := b.Encode()
	if err == nil && len(enc) > MaxBundle { // nobody could open it
		err = fmt.Errorf("fleet: writing bundle of %d bytes: %w", len(enc), ErrTooLarge)
	}
	return enc, err
}

// Merge proves what is new in b, whole or part, and returns the fleet with it; f does not change. What f knows is never undone: of two states
// of one version, and of two segments of one seq, the known one stays, and the error then wraps ErrFork beside a usable Fleet that has
// everything else. Any other error comes with no Fleet. Logs that nobody entitled signed are left out, and what is beyond a signer's share.
func (f *Fleet) Merge(b Bundle) (*Fleet, error) {
	next := &Fleet{id: f.id, state: f.state, states: slices.Clone(f.states), logs: slices.Clone(f.logs)}
	forked, err := next.addStates(b.States)
	if err != nil {
		return nil, err
	}
	var forks []fork
	for _, segments := range b.Logs {
		fork, err := next.addLog(segments)
		if err != nil {
			return nil, err
		}
		if fork != nil {
			forks = append(forks, *fork)
		}
	}
	next.settle()
	return next, errors.Join(forked, next.settleForks(forks))
}

// addStates continues the known states. A part may begin anywhere that is not beyond them.
func (f *Fleet) addStates(states [][]byte) (forked, err error) {
	for _, signed := range states {
		s, err := openState(signed, f.states, f.state)
		if errors.Is(err, errKnown) {
			continue
		}
		if errors.Is(err, ErrFork) {
			forked = errors.Join(forked, err)
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(f.states) == 0 {
			hash := sha256.Sum256(signed)
			id := journal.FleetID(hash[:16])
			if f.id != (journal.FleetID{}) && f.id != id {
				return nil, fmt.Errorf("fleet: opening bundle of %s, this member belongs to %s: %w", id, f.id, ErrWrongFleet)
			}
			f.id = id
		}
		f.state, f.states = s, append(f.states, signed)
	}
	return forked, nil
}

// errKnown: the state is there already.
var errKnown = errors.New("known")

func openState(signed []byte, known [][]byte, newest State) (State, error) {
	if len(signed) > MaxState {
		return State{}, fmt.Errorf("fleet: opening state of %d bytes: %w", len(signed), ErrTooLarge)
	}
	claimed, err := journal.PeekRecord(signed)
	if err != nil {
		return State{}, fmt.Errorf("fleet: opening state: %w", err)
	}
	var s State
	if err := journal.Decode(claimed, &s); err != nil {
		return State{}, fmt.Errorf("fleet: opening state: %w", err)
	}
	owners := newest.Owners[:]
	if len(known) == 0 {
		owners = s.Owners[:1]
	}
	if n := s.Version; n >= 1 && n <= uint64(len(known)) {
		if bytes.Equal(known[n-1], signed) {
			return State{}, errKnown
		}
		if n == 1 { // whoever makes a version 1 makes a fleet
			return State{}, fmt.Errorf("fleet: opening state 1: %w", ErrWrongFleet)
		}
		if owners, err = ownersBefore(known, n); err != nil {
			return State{}, err
		}
	}
	if err := proveState(signed, owners); err != nil {
		return State{}, err
	}
	if s.Version <= uint64(len(known)) {
		return State{}, fmt.Errorf("fleet: a second state of version %d, the first stays: an owner key is used by two: %w", s.Version, ErrFork)
	}
	var prev journal.Hash
	if len(known) > 0 {
		prev = sha256.Sum256(known[len(known)-1])
	}
	if s.Version != uint64(len(known))+1 || s.Prev != prev {
		return State{}, fmt.Errorf("fleet: opening state %d: it does not continue version %d: %w", s.Version, len(known), ErrRollback)
	}
	if err := s.check(); err != nil {
		return State{}, fmt.Errorf("fleet: opening state: %w", err)
	}
	return s, nil
}

// ownersBefore returns who could sign version n.
func ownersBefore(known [][]byte, n uint64) ([]edge.ID, error) {
	payload, err := journal.PeekRecord(known[n-2])
	var s State
	if err == nil {
		err = journal.Decode(payload, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("fleet: opening known state %d: %w", n-1, err)
	}
	return s.Owners[:], nil
}

func proveState(signed []byte, owners []edge.ID) error {
	for _, owner := range owners {
		_, err := journal.OpenRecord(owner, journal.TypeState, signed)
		if err == nil {
			return nil
		}
		if !errors.Is(err, journal.ErrForeignSigner) {
			return fmt.Errorf("fleet: opening state: %w", err)
		}
	}
	return fmt.Errorf("fleet: opening state: %w", ErrNotOwner)
}

// Newer returns an error that wraps ErrRollback unless f is known or continues it. Where the two contradict each other the error wraps ErrFork.
// A log may have gone when a state began another, or a revocation cut it.
func (f *Fleet) Newer(known *Fleet) error {
	if known == nil {
		return nil
	}
	if f.id != known.id {
		return fmt.Errorf("fleet: %s after %s: %w", f.id, known.id, ErrWrongFleet)
	}
	b, err := known.bundle(), error(nil)
	both, forked := f.Merge(b)
	switch {
	case both == nil:
		err = forked
	case forked != nil:
		err = fmt.Errorf("%w: %w", forked, ErrRollback)
	case both.Digest().Hash() != f.Digest().Hash():
		err = ErrRollback
	}
	if err != nil {
		return fmt.Errorf("fleet: version %d after version %d: %w", f.state.Version, known.state.Version, err)
	}
	return nil
}

func (f *Fleet) bundle() Bundle { return f.Delta(Digest{}) }
