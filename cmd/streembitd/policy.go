// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	hexadecimal "encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/streembit/edge/cmd/internal/cli"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
)

// lifeName is the file that names this hub's own chain of the fleet log.
const lifeName = "life"

// executor carries out the policies that name this hub: it grants those that prove a token, without a person.
type executor struct {
	state   string
	key     journal.Signer
	members *membership
	clock   *wallClock
	record  *record
	logger  *slog.Logger
	changed func() // has the network told

	wake chan struct{}

	mu      sync.Mutex
	secrets map[string]opened // by what was sealed
}

// opened is a token's secret, or why this hub does not have it.
type opened struct {
	secret enroll.Secret
	err    error
}

// errNotMine: the policy's secret was sealed for somebody else, or this hub has lost its reader key.
var errNotMine = errors.New("the token's secret cannot be opened here")

// maxSecrets bounds the secrets in memory; opening one costs a fraction of a millisecond.
const maxSecrets = 256

// policy returns the policy of a token that names this hub, and the secret; ok is false if there is none. Of several, which only operators that
// contradict each other make, the first counts whose secret can be opened, so that none spoils the token of another.
func (x *executor) policy(f *fleet.Fleet, id fleet.TokenID) (p fleet.Policy, s enroll.Secret, ok bool, err error) {
	for _, own := range f.PolicyOf(id, x.key.ID()) {
		s, serr := x.secret(f, own)
		if serr == nil {
			return own, s, true, nil
		}
		p, ok, err = own, true, serr
	}
	return p, s, ok, err
}

func (x *executor) secret(f *fleet.Fleet, p fleet.Policy) (enroll.Secret, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	o, there := x.secrets[string(p.Sealed)]
	if !there {
		o.secret, o.err = x.open(f, p)
		if len(x.secrets) >= maxSecrets {
			clear(x.secrets)
		}
		x.secrets[string(p.Sealed)] = o
		if o.err != nil {
			x.logger.Error("policy cannot be carried out", "token", fmt.Sprintf("%x", p.ID), "err", o.err)
			x.record.refused(evBadPolicy, "", fmt.Sprintf("token %x", p.ID), o.err)
		}
	}
	return o.secret, o.err
}

func (x *executor) open(f *fleet.Fleet, p fleet.Policy) (enroll.Secret, error) {
	reader, err := fleet.LoadReaderKey(filepath.Join(x.state, readerName))
	if errors.Is(err, fs.ErrNotExist) {
		return enroll.Secret{}, fmt.Errorf("%w: there is no %s: streembitd id --reader makes one, then have this hub granted with it", errNotMine, readerName)
	}
	if err != nil {
		return enroll.Secret{}, err
	}
	s, err := enroll.OpenSecret(reader, f.ID(), p.ID, p.Sealed)
	if err != nil {
		return s, fmt.Errorf("%w: %w", errNotMine, err)
	}
	return s, nil
}

// prove says whether a claim may be granted. Under a policy that names another hub, only that one or the operator can tell whether it proves the secret.
func (x *executor) prove(f *fleet.Fleet, c enroll.Claim) (p fleet.Policy, mine bool, err error) {
	p, s, mine, err := x.policy(f, c.Token)
	if err != nil {
		return p, mine, err
	}
	used, known := 0, mine
	if all, n, there := f.Policy(c.Token); there && (!mine || all.Executor == p.Executor) {
		used, known = n, true
		if !mine {
			p = all
		}
	}
	if err := usable(f, x.clock, p, used, known, c.Device); err != nil || !mine {
		return p, mine, err
	}
	return p, mine, c.Check(s)
}

// poke has the queue looked at soon.
func (x *executor) poke() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// gather is how long claims are collected, so that a site that comes up at once makes few entries in the log.
const gather = 200 * time.Millisecond

// run grants what waits in the queue until ctx ends.
func (x *executor) run(ctx context.Context, d *desk) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-x.wake:
		}
		t := time.NewTimer(gather)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
		x.grantAll(d.queue.Waiting(time.Now()))
		d.settled()
	}
}

// grantAll grants those of the claims that a policy of this hub covers, in one entry if possible, and one by one if something hinders that.
func (x *executor) grantAll(claims []enroll.Waiting) {
	var mine []enroll.Claim
	f := x.members.get()
	for _, w := range claims {
		if _, _, ok, err := x.policy(f, w.Claim.Token); ok && err == nil && !f.IsMember(w.Claim.Device) {
			mine = append(mine, w.Claim)
		}
	}
	if len(mine) == 0 {
		return
	}
	if err := x.grant(mine); err != nil && len(mine) > 1 {
		for _, c := range mine {
			x.failed(c, x.grant([]enroll.Claim{c}))
		}
	} else if err != nil {
		x.failed(mine[0], err)
	}
}

func (x *executor) failed(c enroll.Claim, err error) {
	if err == nil {
		return
	}
	x.logger.Warn("not granted", "device", c.Device, "token", fmt.Sprintf("%x", c.Token), "err", err)
	x.record.refused(evBadPolicy, c.Device.String(), fmt.Sprintf("token %x", c.Token), err)
}

// grant appends the grants to this hub's own chain, saves and passes on. All or none.
func (x *executor) grant(claims []enroll.Claim) error {
	life, err := x.life()
	if err != nil {
		return err
	}
	_, err = x.members.change(func(f *fleet.Fleet) (*fleet.Fleet, error) {
		grants := make([]fleet.Grant, len(claims))
		for i, c := range claims {
			p, mine, err := x.prove(f, c)
			if err == nil && !mine {
				err = errNotMine
			}
			if err != nil {
				return nil, err
			}
			grants[i] = fleet.Grant{Member: c.Device, Name: memberName(c), Roles: p.Roles, Site: p.Site, Labels: p.Labels, Token: c.Token}
		}
		return f.Grant(fleet.Author{Key: x.key, Life: life}, x.clock.since(f.Floor()), grants...)
	})
	if err != nil {
		return err
	}
	for _, c := range claims {
		x.logger.Info("granted by token", "device", c.Device, "name", memberName(c), "token", fmt.Sprintf("%x", c.Token))
		x.record.decided(evExecuted, x.key.ID().String(), c.Device.String(), fmt.Sprintf("%s, token %x", memberName(c), c.Token))
	}
	x.changed()
	return nil
}

// memberName names a device that nobody has named: what it calls itself, with eight digits of its key, since a hundred of them come with one host name.
func memberName(c enroll.Claim) string {
	name := cleanName(c.Name)
	return fmt.Sprintf("%s-%x", cmp.Or(name[:min(len(name), 23)], "device"), c.Device[:4])
}

// life names this hub's own chain of the fleet log. It is made at the first use, and anew when a revocation has cut the old one, or when the
// chain was continued elsewhere: a state folder that was copied or restored from a backup must not sign two histories.
func (x *executor) life() (journal.Incarnation, error) {
	path := filepath.Join(x.state, lifeName)
	text, err := os.ReadFile(path)
	if err == nil {
		raw, derr := hexadecimal.DecodeString(strings.TrimSpace(string(text)))
		if derr != nil || len(raw) != len(journal.Incarnation{}) {
			return journal.Incarnation{}, cli.Try(fmt.Errorf("%s is damaged", path), "rm %s, and a new one is made", cli.Quote(path))
		}
		if life := journal.Incarnation(raw); !x.cut(life) {
			return life, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return journal.Incarnation{}, fmt.Errorf("reading life: %w", err)
	}
	return x.newLife()
}

func (x *executor) newLife() (life journal.Incarnation, err error) {
	rand.Read(life[:])
	return life, fleet.WriteFile(filepath.Join(x.state, lifeName), []byte(life.String()+"\n"), 0o600)
}

func (x *executor) cut(life journal.Incarnation) bool {
	f := x.members.get()
	c := journal.Chain{Fleet: f.ID(), Device: x.key.ID(), Stream: "fleet", Incarnation: life}
	return f.IsMember(x.key.ID()) && errors.Is(f.Accepts(c, math.MaxInt64, journal.Hash{}), fleet.ErrRevoked)
}

// forked begins a new chain when this hub's own was found to have two histories. b is what showed that.
func (x *executor) forked(b fleet.Bundle, id journal.FleetID) {
	life, err := x.life()
	if err != nil {
		return
	}
	for _, l := range b.Logs {
		for _, raw := range l {
			seg, err := journal.Open(raw, id)
			if err == nil && seg.Chain.Device == x.key.ID() && seg.Chain.Incarnation == life {
				_, err := x.newLife()
				x.logger.Error("this hub's own fleet log has two histories, it begins another: was its state folder restored or copied?", "err", err)
				return
			}
		}
	}
}
