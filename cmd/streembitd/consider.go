// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
)

// errNoProof: a fleet that has granted this device without having seen its code or given it a token.
var errNoProof = errors.New("nothing proves that this device was meant: approve its code, or give it a token")

// consider takes a fleet if it proves that this device is meant for it and grants it what its config wants; nil means that it is saved. What decides is
// either the approval, which knows the code's secret, or the token, which names the fleet and its first owner. A device that has a token joins no other fleet.
func (n *newcomer) consider(a *enroll.Approval, b fleet.Bundle, from string) error {
	n.considering.Lock()
	defer n.considering.Unlock()
	if n.claimed {
		return errors.New("this device has just been taken into a fleet")
	}
	f, err := n.prove(a, b)
	event, who := evBadBundle, ""
	if a != nil {
		event, who = evBadApprove, a.Operator.String()
	}
	if errors.Is(err, fleet.ErrWrongFleet) {
		event = evBadOwner
	}
	if err == nil {
		err = n.suits(f)
	}
	if err != nil {
		n.refuse(event, who, from, err)
		return err
	}
	if err := f.Save(n.cfg.file(bundleName)); err != nil {
		return err
	}
	if err := (pin{f.ID(), f.State().Version}).save(n.cfg.State); err != nil {
		return err
	}
	n.finish(f, from)
	return nil
}

func (n *newcomer) refuse(event, who, from string, err error) {
	n.mu.Lock()
	n.once("refused "+from+err.Error(), func() { n.logger.Warn("a fleet was refused", "from", from, "err", err) })
	n.mu.Unlock()
	n.record.refused(event, who, from, err)
}

// prove opens the bundle and says whether it is one that this device obeys.
func (n *newcomer) prove(a *enroll.Approval, b fleet.Bundle) (*fleet.Fleet, error) {
	n.mu.Lock()
	token := n.token
	n.mu.Unlock()
	if a != nil {
		if err := a.Check(n.code); err != nil {
			if token == nil {
				return nil, err
			}
			a = nil // the token decides: whatever lay at the hub was for another code
		}
	}
	var pinned journal.FleetID
	switch {
	case token != nil && a != nil && a.Fleet != token.Fleet:
		return nil, fmt.Errorf("approval for fleet %s, the token names %s: %w", a.Fleet, token.Fleet, fleet.ErrWrongFleet)
	case token != nil:
		pinned = token.Fleet
		if err := ownedBy(token.Owner, b); err != nil {
			return nil, err
		}
	case a != nil:
		pinned = a.Fleet
	default:
		return nil, errNoProof
	}
	enc, err := b.Encode()
	if err != nil {
		return nil, err
	}
	f, err := fleet.Open(enc, pinned)
	if err != nil {
		return nil, err
	}
	if a != nil && token == nil && !f.Is(a.Operator, fleet.Operator) {
		return nil, fmt.Errorf("approval by %s, who is no operator of fleet %s: %w", a.Operator, f.State().Name, fleet.ErrNotAllowed)
	}
	return f, nil
}

// ownedBy checks who signed the first state. The fleet's id says so too, if nobody finds a second state with its first 16 bytes of SHA-256.
func ownedBy(owner edge.ID, b fleet.Bundle) error {
	if len(b.States) == 0 {
		return fmt.Errorf("no fleet state: %w", fleet.ErrNotOwner)
	}
	if _, err := journal.OpenRecord(owner, journal.TypeState, b.States[0]); err != nil {
		return fmt.Errorf("the token names owner %s: %w: %w", owner, fleet.ErrNotOwner, err)
	}
	return nil
}

// suits checks that the fleet has granted this device, now, and in the roles that the config wants.
func (n *newcomer) suits(f *fleet.Fleet) error {
	self := n.code.Device
	now := f.AsOf(n.clock.since(f.Floor()))
	if !now.IsMember(self) {
		return fmt.Errorf("fleet %s does not grant %s: %w", f.State().Name, self, fleet.ErrNotMember)
	}
	roles, err := rolesOf(now, self, n.cfg.Roles)
	if err == nil && len(roles) == 0 {
		err = fmt.Errorf("fleet %s grants %s neither device nor hub: %w", f.State().Name, self, errNotGranted)
	}
	return err
}

// finish hands the saved fleet over. The caller holds considering.
func (n *newcomer) finish(f *fleet.Fleet, from string) {
	n.claimed = true
	n.record.decided(evClaimed, "", f.ID().String(), fmt.Sprintf("%s, version %d, %s", f.State().Name, f.State().Version, from))
	n.logger.Info("taken into a fleet", "fleet", f.State().Name, "id", f.ID(), "by", from)
	n.done <- f
}

// eraseSecrets removes what a member needs no more: the secret of its code and the token with which it came. It runs at each start, since the
// first time may have been cut short. A token of another fleet is somebody who wants to take this member over.
func (p *program) eraseSecrets(f *fleet.Fleet) {
	p.eraseOne(p.cfg.file(claimName))
	for _, path := range p.cfg.tokens() {
		t, err := readToken(path)
		switch {
		case err != nil: // none, or nothing that anybody can use
		case t.Fleet != f.ID():
			why := fmt.Errorf("%s is a token of fleet %s, this member belongs to %s: %w", path, t.Fleet, f.ID(), fleet.ErrWrongFleet)
			p.record.refused(evBadOwner, t.Owner.String(), path, why)
			p.alarms.raise(alarmOwner, t.Fleet.String(), why.Error()+": streembitd reset --i-am-here, if it is meant to")
		default:
			p.eraseOne(path)
		}
	}
}

func (p *program) eraseOne(path string) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := erase(path); err != nil {
		p.record.decided(evNotErased, "", path, err.Error())
		p.alarms.raise(alarmErase, path, fmt.Sprintf("%v: whoever reads it may use it until it expires; erase it by hand (mount the boot partition writable)", err))
		return
	}
	p.record.decided(evErased, "", path, "")
	p.logger.Info("erased", "file", path)
}
