// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// membership is the fleet as this member knows it. Every change is saved before it counts. Safe for concurrent use.
type membership struct {
	state  string // folder
	self   edge.ID
	clock  *wallClock
	record *record
	alarms *alarms
	logger *slog.Logger
	taken  func(*fleet.Fleet) // is told of each change, and must not wait; may be nil

	mu      sync.Mutex                  // one change at a time
	onDisk  [sha256.Size]byte           // of fleet.cbor as this program left or found it
	ends    []int64                     // when grants expire, sorted, ms since 1970 UTC
	expired int                         // of ends, by the clock
	known   *fleet.Fleet                // as of its floor
	now     atomic.Pointer[fleet.Fleet] // known, as of now
	moved   chan struct{}               // holds one token after now has become another
}

// newMembership takes the fleet that lies in the state folder.
func newMembership(f *fleet.Fleet, m *membership) (*membership, error) {
	enc, err := f.Encoded()
	if err != nil {
		return nil, err
	}
	m.onDisk, m.moved = sha256.Sum256(enc), make(chan struct{}, 1)
	m.put(f)
	return m, nil
}

// get returns the fleet as of now.
func (m *membership) get() *fleet.Fleet { return m.now.Load() }

// put makes f the fleet. The caller holds mu, or is alone.
func (m *membership) put(f *fleet.Fleet) {
	m.known, m.ends = f, nil
	for _, g := range f.Members() {
		if g.Expires != 0 {
			m.ends = append(m.ends, g.Expires)
		}
	}
	slices.Sort(m.ends)
	m.expired = -1
	m.look()
}

// look judges by the clock who has expired, and reports whether that changed. Time may go back too: a wrong clock that was put right.
func (m *membership) look() bool {
	at := m.clock.since(m.known.Floor())
	n, _ := slices.BinarySearch(m.ends, at.UnixMilli())
	if n == m.expired {
		return false
	}
	m.expired = n
	m.now.Store(m.known.AsOf(at))
	select {
	case m.moved <- struct{}{}:
	default: // told already, and not yet looked at
	}
	return true
}

// lookEvery is how often the clock is looked at for grants that have expired.
const lookEvery = 10 * time.Second

// watchClock calls changed whenever a grant has expired, until ctx ends.
func (m *membership) watchClock(ctx context.Context, changed func()) error {
	t := time.NewTicker(lookEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		m.mu.Lock()
		again := m.look()
		m.mu.Unlock()
		if again {
			changed()
		}
	}
}

// merge takes in what somebody offers; see p2p.Options.
func (m *membership) merge(b fleet.Bundle) (*fleet.Fleet, error) {
	return m.change(func(known *fleet.Fleet) (*fleet.Fleet, error) { return known.Merge(b) })
}

// change replaces the fleet by what next makes of it: saved first, then taken, then noted. It returns the fleet as it is now. An error of next that comes
// with a fleet (ErrFork) does not hinder.
func (m *membership) change(next func(known *fleet.Fleet) (*fleet.Fleet, error)) (*fleet.Fleet, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := next(m.known)
	if f == nil {
		return m.get(), err
	}
	if serr := m.take(f); serr != nil {
		return m.get(), errors.Join(err, serr)
	}
	return m.get(), err
}

// take saves f if it is new and makes it the fleet. The caller holds mu.
func (m *membership) take(f *fleet.Fleet) error {
	if f.Digest().Hash() == m.known.Digest().Hash() {
		return nil
	}
	f, err := m.save(f)
	if err != nil {
		m.alarms.raise(alarmSave, "", err.Error())
		return err
	}
	m.alarms.clear(alarmSave)
	before := m.known
	m.put(f)
	m.note(before, f)
	if m.taken != nil {
		m.taken(f)
	}
	return nil
}

// save writes f durably. A person may have put a newer file there meanwhile: it is merged in, so that nothing is lost that anybody knows.
func (m *membership) save(f *fleet.Fleet) (*fleet.Fleet, error) {
	path := filepath.Join(m.state, bundleName)
	found, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("saving fleet: %w", err)
	}
	if err == nil && sha256.Sum256(found) != m.onDisk {
		if theirs, err := fleet.Open(found, f.ID()); err == nil { // else it is of no use to anybody
			if f, err = f.Merge(theirs.Delta(fleet.Digest{})); f == nil {
				return nil, err
			}
		}
	}
	enc, err := f.Encoded()
	if err != nil {
		return nil, err
	}
	if err := fleet.WriteFile(path, enc, 0o644); err != nil {
		return nil, err
	}
	m.onDisk = sha256.Sum256(enc)
	if f.State().Version == m.known.State().Version {
		return f, nil
	}
	return f, pin{f.ID(), f.State().Version}.save(m.state)
}

// reload takes in a fleet.cbor that a person has put there. Whatever it is, the file then holds what this member knows.
func (m *membership) reload() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := filepath.Join(m.state, bundleName)
	found, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading fleet: %w", err)
	}
	if sha256.Sum256(found) == m.onDisk {
		return nil
	}
	b, err := fleet.DecodeBundle(found)
	if err == nil && len(b.States) == 0 {
		err = fmt.Errorf("it holds no fleet state: %w", fleet.ErrBadState)
	}
	var next *fleet.Fleet
	if err == nil {
		next, err = m.known.Merge(b)
	}
	switch {
	case errors.Is(err, fleet.ErrWrongFleet):
		m.alarms.raise(alarmOwner, m.self.String(), "another fleet's "+bundleName+" was put into the state folder and refused: "+err.Error())
		m.record.refused(evBadOwner, "", path, err)
	case errors.Is(err, fleet.ErrFork):
		m.alarms.raise("fork", m.self.String(), err.Error())
	case err == nil && next.Digest().Hash() == m.known.Digest().Hash():
		err = fmt.Errorf("it holds nothing new: %w", fleet.ErrRollback)
	case err == nil:
		return m.take(next)
	}
	if next != nil {
		err = errors.Join(err, m.take(next))
	}
	_, serr := m.save(m.known)
	return errors.Join(err, serr)
}

// maxNoted is how many changes of one kind are written to the audit log singly at once: a first meeting may bring thousands.
const maxNoted = 100

// note writes down what changed.
func (m *membership) note(before, after *fleet.Fleet) {
	if v := after.State().Version; v != before.State().Version {
		m.record.decided(evState, "", after.ID().String(), fmt.Sprintf("version %d, after %d", v, before.State().Version))
		m.logger.Info("fleet state taken", "version", v)
	}
	grants, revoked := 0, 0
	for _, g := range after.Members() {
		if old, was := before.Member(g.Member); was && old.Serial == g.Serial {
			continue
		}
		if grants++; grants <= maxNoted {
			m.record.decided(evGrant, "", g.Member.String(), fmt.Sprintf("%s: %s", g.Name, g.Roles))
		}
	}
	for _, r := range after.Revoked() {
		if _, old, was := before.Former(r.Member); was && old != nil && old.Serial == r.Serial {
			continue
		}
		if revoked++; revoked <= maxNoted {
			m.record.decided(evRevoke, "", r.Member.String(), r.Reason)
		}
	}
	for _, p := range after.Policies() {
		if _, _, was := before.Policy(p.ID); !was {
			m.record.decided(evPolicy, p.Executor.String(), fmt.Sprintf("%x", p.ID), fmt.Sprintf("%d times %s until %s", p.Uses, p.Roles, time.UnixMilli(p.Expires).UTC().Format(time.DateTime)))
		}
	}
	if grants > maxNoted || revoked > maxNoted {
		m.record.decided(evState, "", after.ID().String(), fmt.Sprintf("%d grants and %d revocations in all came at once", grants, revoked))
	}
	m.logger.Info("fleet changed", "version", after.State().Version, "members", len(after.Members()), "granted", grants, "revoked", revoked)
	m.noteIgnored(after)
}

func (m *membership) noteIgnored(f *fleet.Fleet) {
	if n := f.Ignored(); n > 0 {
		m.alarms.raise(alarmIgnored, "", fmt.Sprintf("%d entries stand in the fleet's logs that their signers had no right to make: streembit fleet show tells whose", n))
	}
}

// standing says in a word what the fleet thinks of this member.
func (m *membership) standing() string {
	f := m.get()
	if f.IsMember(m.self) {
		return standingMember
	}
	switch _, revoked, former := f.Former(m.self); {
	case revoked != nil:
		return "revoked"
	case former:
		return "expired"
	}
	return "stranger"
}
