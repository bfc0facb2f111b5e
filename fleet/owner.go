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

// Found makes version 1 of a fleet's state and an empty log. An error wraps ErrBadState (a name, key or hub is not
// usable) or ErrTooLarge (more bootstrap hubs than MaxState holds).
func Found(f Founding, now time.Time) (*Fleet, error) {
	s := State{Format: 1, Version: 1, Name: f.Name, Owners: [2]edge.ID{f.Owner.ID(), f.Spare}, Recovery: f.Recovery,
		Hubs: f.Hubs, LogWriter: f.Owner.ID(), Time: now.UnixMilli()}
	rand.Read(s.LogLife[:])
	return (&Fleet{}).withState(f.Owner, s)
}

// Amend makes the next version of the state: change gets a copy of the present one and may set Hubs, UpdateRoot and Recovery. The state's
// time becomes now, which may lie before the one that stands there: an owner may so take back a wrong clock.
func (f *Fleet) Amend(owner journal.Signer, now time.Time, change func(*State)) (*Fleet, error) {
	s := f.next(now)
	amended := s
	change(&amended)
	s.Hubs, s.UpdateRoot, s.Recovery = amended.Hubs, amended.UpdateRoot, amended.Recovery
	return f.withState(owner, s)
}

// Rotate makes the next version of the state with other owner keys, signed by one of the present ones, and begins a new log in which
// all that the owner's log says stands again, up to the segments that keep counts (negative: all): fewer when a stolen key wrote the
// last ones. owner must be among the new owners too, because it signs that log; so the active key replaces the spare, or the spare
// the active, and both are replaced in two steps.
func (f *Fleet) Rotate(owner journal.Signer, owners [2]edge.ID, keep int, now time.Time) (*Fleet, error) {
	s := f.next(now)
	s.Owners, s.LogWriter = owners, owner.ID()
	rand.Read(s.LogLife[:])
	signed, err := signState(owner, s)
	if err != nil {
		return nil, fmt.Errorf("fleet: rotating owners: %w", err)
	}
	var again []Entry
	if len(f.logs) > 0 && f.logs[0].chain == f.ownerChain() {
		for i, said := range f.logs[0].said {
			if keep < 0 || i < keep {
				again = append(again, said.entries...)
			}
		}
	}
	chain := journal.Chain{Fleet: f.id, Device: s.LogWriter, Stream: logStream, Incarnation: s.LogLife}
	segments, err := f.write(chain, owner, now, again)
	if err != nil {
		return nil, fmt.Errorf("fleet: rotating owners: %w", err)
	}
	return f.Merge(Bundle{States: [][]byte{signed}, Logs: [][][]byte{segments}}) // together: operators stand on the owner's log
}

// next is the state's successor, without changes.
func (f *Fleet) next(now time.Time) State {
	s := f.state
	s.Version, s.Time = s.Version+1, now.UnixMilli()
	s.Prev = sha256.Sum256(f.states[len(f.states)-1])
	return s
}

func (f *Fleet) withState(owner journal.Signer, s State) (*Fleet, error) {
	signed, err := signState(owner, s)
	if err != nil {
		return nil, err
	}
	return f.Merge(Bundle{States: [][]byte{signed}})
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
