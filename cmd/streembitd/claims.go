// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// queueName is the file of a hub's queue.
const queueName = "claims.cbor"

// desk is a hub's part in the enrolment of others: it is p2p.Enrolment towards strangers and p2p.Desk towards operators.
type desk struct {
	self    edge.ID
	members *membership
	clock   *wallClock
	queue   *enroll.Queue
	policy  *executor
	record  *record
	logger  *slog.Logger
}

// Why a claim is refused.
var (
	errUnknownToken = errors.New("no operator has announced this token, as far as this hub knows")
	errTokenExpired = errors.New("this token has expired")
	errTokenUsed    = errors.New("this token has been used as often as it may")
	errWasRevoked   = errors.New("this key was revoked: reset the device")
	errOtherHub     = errors.New("the claim was made for another hub or another fleet")
)

// Claim implements p2p.Enrolment. Whoever does not know a token's random id gets nothing into the queue.
func (d *desk) Claim(p p2p.Pending) error {
	now := time.Now()
	added, err := false, d.judge(p.Claim)
	if err == nil {
		added, err = d.queue.Add(enroll.Waiting{Claim: p.Claim, Addr: p.Addr, At: now.UnixMilli()}, now)
	}
	if err == nil && !added {
		d.policy.poke()
		return nil
	}
	if err == nil {
		d.logger.Info("claim queued", "device", p.Claim.Device, "token", fmt.Sprintf("%x", p.Claim.Token), "addr", p.Addr)
		d.record.decided(evClaim, p.Claim.Device.String(), fmt.Sprintf("token %x", p.Claim.Token), "from "+p.Addr+", calls itself "+p.Claim.Name)
		d.policy.poke()
		return nil
	}
	d.record.refused(evBadClaim, p.Claim.Device.String(), fmt.Sprintf("token %x", p.Claim.Token), fmt.Errorf("from %s: %w", p.Addr, err))
	reason := transport.RefusedNoRight
	switch {
	case errors.Is(err, enroll.ErrQueueFull):
		reason = transport.RefusedBusy
	case errors.Is(err, enroll.ErrBadProof), errors.Is(err, errOtherHub):
		reason = transport.RefusedInvalid
	}
	return &transport.Refusal{Hub: d.self, Reason: reason, Detail: err.Error()}
}

// judge says what can be said without an operator.
func (d *desk) judge(c enroll.Claim) error {
	f := d.members.get()
	if c.Hub != d.self || c.Fleet != f.ID() { // the transport has compared both, and the device, with those that spoke
		return errOtherHub
	}
	_, _, err := d.policy.prove(f, c)
	return err
}

// usable says whether a policy may still bring this device in.
func usable(f *fleet.Fleet, clock *wallClock, p fleet.Policy, used int, known bool, device edge.ID) error {
	_, revoked, former := f.Former(device)
	switch {
	case !known:
		return errUnknownToken
	case revoked != nil:
		return errWasRevoked
	case former:
		return fmt.Errorf("its membership has expired, ask an operator: %w", fleet.ErrNotMember)
	case f.IsMember(device):
		return errors.New("it is a member already")
	case clock.since(f.Floor()).UnixMilli() > p.Expires:
		return errTokenExpired
	case used >= int(p.Uses):
		return errTokenUsed
	}
	return nil
}

// Approval implements p2p.Enrolment.
func (d *desk) Approval(device edge.ID) (enroll.Approval, bool) {
	return d.queue.Approval(device, time.Now())
}

// Claims implements p2p.Desk.
func (d *desk) Claims(edge.ID) ([]p2p.Pending, error) {
	f := d.members.get()
	var out []p2p.Pending
	for _, w := range d.queue.Waiting(time.Now()) {
		if !f.IsMember(w.Claim.Device) {
			out = append(out, p2p.Pending{Claim: w.Claim, Addr: w.Addr, At: w.At})
		}
	}
	return out, nil
}

// Drop implements p2p.Desk.
func (d *desk) Drop(operator, device edge.ID) error {
	there, err := d.queue.Drop(time.Now(), device)
	if err == nil && there {
		d.record.decided(evDropped, operator.String(), device.String(), "")
	}
	return err
}

// Deposit implements p2p.Desk.
func (d *desk) Deposit(operator edge.ID, a enroll.Approval) error {
	err := error(nil)
	switch {
	case a.Fleet != d.members.get().ID():
		err = errors.New("the approval is for another fleet")
	case a.Operator != operator:
		err = errors.New("the approval names another operator")
	default:
		err = d.queue.Deposit(a, time.Now())
	}
	if err != nil {
		d.record.refused(evBadApprove, operator.String(), a.Device.String(), err)
		return &transport.Refusal{Hub: d.self, Reason: transport.RefusedInvalid, Detail: err.Error()}
	}
	d.record.decided(evDeposit, operator.String(), a.Device.String(), "")
	return nil
}

// settled forgets the claims of those who are members by now.
func (d *desk) settled() {
	f, now := d.members.get(), time.Now()
	var done []edge.ID
	for _, w := range d.queue.Waiting(now) {
		if f.IsMember(w.Claim.Device) {
			done = append(done, w.Claim.Device)
		}
	}
	if _, err := d.queue.Drop(now, done...); err != nil {
		d.logger.Warn("claims of members stay in the queue", "err", err)
	}
}
