// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
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

// Found makes version 1 of a fleet's state and an empty log.
func Found(f Founding, now time.Time) (*Fleet, error) {
	if !journal.ValidStream(f.Name) {
		return nil, fmt.Errorf("fleet: founding %q: the name wants 1 to 32 of a-z 0-9 . _ -", f.Name)
	}
	if _, err := journal.NewReader(f.Recovery); err != nil {
		return nil, fmt.Errorf("fleet: founding %s: recovery key: %w", f.Name, err)
	}
	s := State{Format: 1, Version: 1, Name: f.Name, Owners: [2]edge.ID{f.Owner.ID(), f.Spare}, Recovery: f.Recovery,
		Hubs: f.Hubs, LogWriter: f.Owner.ID(), Time: now.UnixMilli()}
	rand.Read(s.LogLife[:])
	return (&Fleet{}).withState(f.Owner, s)
}

// Amend makes the next version of the state with other bootstrap hubs.
func (f *Fleet) Amend(owner journal.Signer, hubs []Bootstrap, now time.Time) (*Fleet, error) {
	s := f.state
	s.Hubs, s.Version, s.Time = hubs, s.Version+1, max(now.UnixMilli(), s.Time)
	s.Prev = sha256.Sum256(f.bundle.States[len(f.bundle.States)-1])
	return f.withState(owner, s)
}

func (f *Fleet) withState(owner journal.Signer, s State) (*Fleet, error) {
	payload, err := journal.Encode(s)
	if err != nil {
		return nil, err
	}
	signed, err := journal.SignRecord(owner, journal.TypeState, payload)
	if err != nil {
		return nil, err
	}
	b := Bundle{States: append(append([][]byte{}, f.bundle.States...), signed), Log: f.bundle.Log}
	return reopen(b, f.id)
}

// Grant appends grants to the log, signed by the owner that writes it.
func (f *Fleet) Grant(owner journal.Signer, now time.Time, grants ...Grant) (*Fleet, error) {
	payload, err := journal.Encode(grants)
	if err != nil {
		return nil, err
	}
	w, err := f.logWriter(owner)
	if err != nil {
		return nil, err
	}
	seg, err := w.Plain(payload, len(grants), journal.Stamp{At: edge.Instant{Wall: now.UnixMilli()}})
	if err != nil {
		return nil, fmt.Errorf("fleet: granting: %w", err)
	}
	return reopen(Bundle{States: f.bundle.States, Log: append(append([][]byte{}, f.bundle.Log...), seg.Bytes())}, f.id)
}

func (f *Fleet) logWriter(owner journal.Signer) (*journal.Writer, error) {
	var tip *journal.Link
	if len(f.bundle.Log) > 0 {
		tip = &f.log
	}
	w, err := journal.ResumeWriter(f.logChain(), tip, owner)
	if err != nil {
		return nil, fmt.Errorf("fleet: granting with the key of %s: %w", owner.ID(), ErrNotOwner)
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
