// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// Bundle is the whole proof: every signed state from version 1 and every segment of the fleet log. It is what hubs
// hold and what a member keeps as fleet.cbor.
type Bundle struct {
	_      struct{} `cbor:",toarray"`
	States [][]byte // COSE_Sign1, version 1 first
	Log    [][]byte // journal segments, seq 0 first
}

// maxBundle bounds a decoded bundle: 10 000 members fit with room to spare.
const maxBundle = 64 << 20

// Encode writes the bundle's one canonical form.
func (b Bundle) Encode() ([]byte, error) { return journal.Encode(b) }

// Open proves an encoded bundle of the fleet that pinned names (zero: whatever fleet it is, for first contact only).
// Each state must be signed by an owner that the state before it names, the first by its own active owner.
func Open(encoded []byte, pinned journal.FleetID) (*Fleet, error) {
	if len(encoded) > maxBundle {
		return nil, fmt.Errorf("fleet: opening bundle of %d bytes: %w", len(encoded), ErrTooLarge)
	}
	var b Bundle
	if err := journal.Decode(encoded, &b); err != nil {
		return nil, fmt.Errorf("fleet: opening bundle: %w", err)
	}
	f := &Fleet{members: map[edge.ID]Grant{}, bundle: b}
	if err := f.applyStates(b.States); err != nil {
		return nil, err
	}
	if pinned != (journal.FleetID{}) && pinned != f.id {
		return nil, fmt.Errorf("fleet: opening bundle of %s, this member belongs to %s: %w", f.id, pinned, ErrWrongFleet)
	}
	if err := f.applyLog(b.Log); err != nil {
		return nil, err
	}
	return f, nil
}

// Newer returns an error that wraps ErrRollback unless f is known or continues it: same fleet, states and log at
// least as long and beginning with the known ones. A later state may begin another log (Rotate); then the known log
// need not continue. Where the two contradict each other the error wraps ErrFork too: an owner key signed two
// histories. Keep the known one and raise an alarm.
func (f *Fleet) Newer(known *Fleet) error {
	if known == nil {
		return nil
	}
	if f.id != known.id {
		return fmt.Errorf("fleet: %s after %s: %w", f.id, known.id, ErrWrongFleet)
	}
	err := extends(f.bundle.States, known.bundle.States)
	if err == nil && f.logChain() == known.logChain() {
		err = extends(f.bundle.Log, known.bundle.Log)
	}
	if err != nil {
		return fmt.Errorf("fleet: version %d, %d log entries after version %d, %d log entries: %w",
			f.state.Version, len(f.bundle.Log), known.state.Version, len(known.bundle.Log), err)
	}
	return nil
}

func extends(longer, shorter [][]byte) error {
	for i := range min(len(longer), len(shorter)) {
		if !bytes.Equal(longer[i], shorter[i]) {
			return fmt.Errorf("entry %d differs: %w: %w", i, ErrFork, ErrRollback)
		}
	}
	if len(longer) < len(shorter) {
		return ErrRollback
	}
	return nil
}

// Encoded returns the bundle that was proven.
func (f *Fleet) Encoded() ([]byte, error) { return f.bundle.Encode() }

func (f *Fleet) applyStates(states [][]byte) error {
	if len(states) == 0 {
		return fmt.Errorf("fleet: opening bundle: no fleet state: %w", ErrNotOwner)
	}
	var prev journal.Hash
	for i, signed := range states {
		s, err := openState(signed, f.state.Owners, i == 0)
		if err != nil {
			return err
		}
		if s.Version != uint64(i)+1 || s.Prev != prev {
			return fmt.Errorf("fleet: opening state %d: version %d does not continue the one before: %w", i+1, s.Version, ErrRollback)
		}
		prev = sha256.Sum256(signed)
		if i == 0 {
			f.id = journal.FleetID(prev[:16])
		}
		f.state = s
	}
	return nil
}

func openState(signed []byte, owners [2]edge.ID, first bool) (State, error) {
	if len(signed) > MaxState {
		return State{}, fmt.Errorf("fleet: opening state of %d bytes: %w", len(signed), ErrTooLarge)
	}
	candidates := owners[:]
	if first {
		claimed, err := journal.PeekRecord(signed)
		if err != nil {
			return State{}, fmt.Errorf("fleet: opening state: %w", err)
		}
		var s State
		if err := journal.Decode(claimed, &s); err != nil {
			return State{}, fmt.Errorf("fleet: opening state: %w", err)
		}
		candidates = s.Owners[:1]
	}
	for _, owner := range candidates {
		payload, err := journal.OpenRecord(owner, journal.TypeState, signed)
		if errors.Is(err, journal.ErrForeignSigner) {
			continue
		}
		if err != nil {
			return State{}, fmt.Errorf("fleet: opening state: %w", err)
		}
		var s State
		if err := journal.Decode(payload, &s); err != nil {
			return State{}, fmt.Errorf("fleet: opening state: %w", err)
		}
		if err := s.check(); err != nil {
			return State{}, fmt.Errorf("fleet: opening state: %w", err)
		}
		return s, nil
	}
	return State{}, fmt.Errorf("fleet: opening state: %w", ErrNotOwner)
}

// logStream is the stream name of fleet logs; devices cannot publish under it.
const logStream = "fleet"

func (f *Fleet) logChain() journal.Chain {
	return journal.Chain{Fleet: f.id, Device: f.state.LogWriter, Stream: logStream, Incarnation: f.state.LogLife}
}

// applyLog walks the log: one chain, begun by the owner, whose entries are grants.
func (f *Fleet) applyLog(log [][]byte) error {
	var last *journal.Link
	for i, raw := range log {
		seg, err := journal.Open(raw, f.id)
		if err != nil {
			return fmt.Errorf("fleet: opening log entry %d: %w", i, err)
		}
		if seg.Chain != f.logChain() || seg.Kind != journal.KindFleet || !f.isOwner(seg.Chain.Device) {
			return fmt.Errorf("fleet: opening log entry %d by %s: %w", i, seg.Chain.Device, ErrNotOwner)
		}
		if err := last.Check(&seg.Header); err != nil {
			return fmt.Errorf("fleet: opening log entry %d: %w", i, err)
		}
		var grants []Grant
		if err := journal.Decode(seg.Plain(), &grants); err != nil {
			return fmt.Errorf("fleet: opening log entry %d: %w", i, err)
		}
		if len(grants) != int(seg.Count) {
			return fmt.Errorf("fleet: opening log entry %d: it counts %d grants and holds %d: %w", i, seg.Count, len(grants), ErrBadGrant)
		}
		for _, g := range grants {
			if err := g.check(); err != nil {
				return fmt.Errorf("fleet: opening log entry %d: %w", i, err)
			}
			f.members[g.Member] = g
		}
		l := seg.Link()
		last, f.log = &l, l
	}
	return nil
}
