// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"fmt"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
)

// TypeSuccession is the content type of both records of a succession.
const TypeSuccession = "application/vnd.streembit.succession+cbor"

// maxSuccession is more bytes than a signed succession has.
const maxSuccession = 1024

// Succession is a member's word that another key of its own is to take its place. Both keys sign it: nobody makes another one's key its successor, and nobody
// its own key another one's.
type Succession struct {
	_     struct{} `cbor:",toarray"`
	Fleet journal.FleetID
	Old   edge.ID
	New   edge.ID
}

// signedSuccession is a Succession as it travels: the same payload in two records.
type signedSuccession struct {
	_    struct{} `cbor:",toarray"`
	Says Succession
	Old  []byte // COSE_Sign1 by the old key …
	New  []byte // … and by the new one
}

// SignSuccession makes the record of a succession in a fleet. It has one form for the same keys.
func SignSuccession(in journal.FleetID, old, next journal.Signer) ([]byte, error) {
	s := signedSuccession{Says: Succession{Fleet: in, Old: old.ID(), New: next.ID()}}
	payload, err := journal.Encode(s.Says)
	if err == nil {
		s.Old, err = journal.SignRecord(old, TypeSuccession, payload)
	}
	if err == nil {
		s.New, err = journal.SignRecord(next, TypeSuccession, payload)
	}
	if err != nil {
		return nil, fmt.Errorf("fleet: signing succession: %w", err)
	}
	return journal.Encode(s)
}

// OpenSuccession proves a record of a succession in this fleet. The error wraps ErrWrongFleet, ErrBadGrant or one of package journal.
func OpenSuccession(in journal.FleetID, record []byte) (Succession, error) {
	var s signedSuccession
	if len(record) > maxSuccession {
		return Succession{}, fmt.Errorf("fleet: succession of %d bytes: %w", len(record), journal.ErrOversize)
	}
	if err := journal.Decode(record, &s); err != nil {
		return Succession{}, fmt.Errorf("fleet: succession: %w", err)
	}
	switch {
	case s.Says.Fleet != in:
		return Succession{}, fmt.Errorf("fleet: succession in fleet %s: %w", s.Says.Fleet, ErrWrongFleet)
	case s.Says.Old == s.Says.New:
		return Succession{}, fmt.Errorf("fleet: %s succeeds itself: %w", s.Says.Old, ErrBadGrant)
	}
	want, err := journal.Encode(s.Says)
	if err != nil {
		return Succession{}, err
	}
	for _, by := range []struct {
		key    edge.ID
		record []byte
	}{{s.Says.Old, s.Old}, {s.Says.New, s.New}} {
		payload, err := journal.OpenRecord(by.key, TypeSuccession, by.record)
		if err != nil {
			return Succession{}, fmt.Errorf("fleet: succession: %w", err)
		}
		if !bytes.Equal(payload, want) {
			return Succession{}, fmt.Errorf("fleet: succession: %s signed another one: %w", by.key, ErrBadGrant)
		}
	}
	return s.Says, nil
}

// Succeed grants the new key of a proven succession what the old one has: name, roles, place, labels, rights, reader key and end. The old key stays a member until
// Revoke takes it out, so that nothing that it still publishes is lost. The same fleet means that the new key has it all. An old key that is no member, and a new one
// that was anything else before, are refused: the error wraps ErrNotMember, ErrRevoked or ErrBadGrant.
func (f *Fleet) Succeed(a Author, now time.Time, s Succession) (*Fleet, error) {
	old, is := f.Member(s.Old)
	if !is {
		return nil, fmt.Errorf("fleet: key %s in place of %s: %w", s.New, s.Old, ErrNotMember)
	}
	if old.Roles != Device { // a hub's key decides where data lies, an operator's and a collector's are not a device's to replace
		return nil, fmt.Errorf("fleet: %s is %s: only a device makes itself a new key: %w", old.Name, old.Roles, ErrBadGrant)
	}
	if f.Succeeds(s) {
		return f, nil
	}
	if r := f.view.members[s.New]; r != nil || f.isOwner(s.New) {
		return nil, fmt.Errorf("fleet: key %s in place of %s: it was said of before: %w", s.New, old.Name, ErrBadGrant)
	}
	next := old
	next.Member, next.Serial, next.Token = s.New, 0, TokenID{}
	return f.Grant(a, now, next)
}

// SameDevice reports whether who is a member and its key the other one, or that of the device which has or had the other one: by the name, which operators give once.
func (f *Fleet) SameDevice(who, key edge.ID) bool {
	g, is := f.Member(who)
	old, known := f.view.known(key)
	return is && (who == key || known && g.Name == old.Name && g.Roles&Device != 0 && old.Roles&Device != 0)
}

// Succeeds reports whether the new key is a member in the old one's place, be the old one still a member or not.
func (f *Fleet) Succeeds(s Succession) bool {
	next, is := f.Member(s.New)
	old, known := f.view.known(s.Old)
	return is && known && next.Name == old.Name && next.Roles == old.Roles
}
