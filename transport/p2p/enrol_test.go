// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/fleet/enroll"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// unclaimed is a device without a fleet, and what was offered to it.
type unclaimed struct {
	*p2p.Newcomer
	key    journal.SoftKey
	code   enroll.Code
	offers chan fleet.Bundle
}

func newcomer(t testing.TB, mdns bool) *unclaimed {
	t.Helper()
	u := &unclaimed{key: transporttest.NewKey(t), offers: make(chan fleet.Bundle, 8)}
	u.code = enroll.Code{Device: u.key.ID(), Secret: enroll.NewSecret()}
	var err error
	u.Newcomer, err = p2p.NewNewcomer(t.Context(), p2p.NewcomerOptions{Signer: u.key, Code: u.code, Listen: []string{tcpAddr}, MDNS: mdns,
		Offer: func(_ context.Context, _ enroll.Approval, b fleet.Bundle) error { u.offers <- b; return nil }})
	must(t, u, err)
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Error(err)
		}
	})
	return u
}

// operator is a member that may do everything.
func operator(t testing.TB, w *transporttest.World) *sailor {
	t.Helper()
	key := transporttest.NewKey(t)
	w.Grant(t, fleet.Grant{Member: key.ID(), Name: "operator", Roles: fleet.Operator, Rights: fleet.Everything()})
	return sail(t, key, w.Fleet(), nil)
}

func bootstrapOf(s *sailor) fleet.Bootstrap { return fleet.Bootstrap{ID: s.ID(), Addrs: s.Addrs()} }

// TestOffer_OnTheLAN: an operator finds a device by multicast DNS, and hands it the fleet directly; whoever has not seen the code cannot.
func TestOffer_OnTheLAN(t *testing.T) {
	w := transporttest.NewWorld(t, 0, 0)
	op := operator(t, w)
	device := newcomer(t, true)
	var found []p2p.Found
	transporttest.WaitFor(t, "the device is found", func() (bool, string) {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		var err error
		if found, err = p2p.Discover(ctx); err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(found, func(f p2p.Found) bool { return f.ID == device.ID() && len(f.Addrs) > 0 }), ""
	})
	to := found[slices.IndexFunc(found, func(f p2p.Found) bool { return f.ID == device.ID() })]
	w.Grant(t, fleet.Grant{Member: device.ID(), Name: "shed", Roles: fleet.Device})
	op.learn(w.Fleet())

	guessed := enroll.Code{Device: device.ID(), Secret: enroll.NewSecret()}
	if err := op.OfferTo(deadline(t), to, guessed.Approve(w.Fleet().ID(), op.ID())); !refusedFor(err, transport.RefusedInvalid) {
		t.Errorf("an offer by somebody who has not seen the code: %v", err)
	}
	other := enroll.Code{Device: op.ID(), Secret: device.code.Secret}
	if err := op.OfferTo(deadline(t), to, other.Approve(w.Fleet().ID(), op.ID())); !refusedFor(err, transport.RefusedInvalid) {
		t.Errorf("an approval of another device: %v", err)
	}
	if len(device.offers) != 0 {
		t.Fatal("an offer without proof reached the program")
	}
	if err := op.OfferTo(deadline(t), to, device.code.Approve(w.Fleet().ID(), op.ID())); err != nil {
		t.Fatal(err)
	}
	enc, err := (<-device.offers).Encode()
	must(t, enc, err)
	if f, err := fleet.Open(enc, w.Fleet().ID()); err != nil || !f.IsMember(device.ID()) {
		t.Errorf("what the device got is no fleet with it: %v", err)
	}
}

// TestClaim_QueuedThenGranted is the way by a token, and by an approval left at a hub.
func TestClaim_QueuedThenGranted(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	d := &desk{approvals: map[edge.ID]enroll.Approval{}}
	hub := sail(t, w.Hubs[0], w.Fleet(), func(o *p2p.Options) { asHub(w)(o); o.Enrol, o.Desk = d, d })
	g, _ := w.Fleet().Member(hub.ID())
	g.Addrs = hub.Addrs()
	w.Grant(t, g)
	op := operator(t, w)
	hub.learn(w.Fleet())
	tok := enroll.NewToken(w.Fleet(), time.Now().Add(time.Hour))
	device, at := newcomer(t, false), bootstrapOf(hub)

	if err := device.ClaimAt(deadline(t), at, tok.Claim(device.ID(), hub.ID(), "shed")); err != nil {
		t.Fatal(err)
	}
	if r, err := device.PollApproval(deadline(t), at); err != nil || r.Granted || !r.Bundle.Empty() {
		t.Errorf("before the grant: %+v, %v", r, err)
	}
	queue, err := op.Claims(deadline(t), hub.ID())
	if err != nil || len(queue) != 1 || queue[0].Claim.Device != device.ID() || queue[0].Addr == "" || queue[0].Claim.Check(tok.Secret) != nil {
		t.Fatalf("queue: %+v, %v", queue, err)
	}
	if err := op.Deposit(deadline(t), hub.ID(), device.code.Approve(w.Fleet().ID(), op.ID())); err != nil {
		t.Fatal(err)
	}
	if r, err := device.PollApproval(deadline(t), at); err != nil || r.Granted || r.Approval != nil {
		t.Errorf("approved and not granted: %+v, %v", r, err)
	}
	w.Grant(t, fleet.Grant{Member: device.ID(), Name: "shed", Roles: fleet.Device})
	op.learn(w.Fleet()) // passes it on to the hub
	agree(t, w.Fleet(), hub)
	r, err := device.PollApproval(deadline(t), at)
	if err != nil || !r.Granted || r.Approval == nil || r.Approval.Check(device.code) != nil {
		t.Fatalf("after the grant: %+v, %v", r, err)
	}
	enc, err := r.Bundle.Encode()
	must(t, enc, err)
	if f, err := fleet.Open(enc, w.Fleet().ID()); err != nil || !f.IsMember(device.ID()) {
		t.Errorf("the fleet that the hub gave: %v", err)
	}
	if err := op.DropClaim(deadline(t), hub.ID(), device.ID()); err != nil || len(d.claims) != 0 {
		t.Errorf("dropping: %v, %d left", err, len(d.claims))
	}
	if _, err := sail(t, w.Devices[0], w.Fleet(), nil).Claims(deadline(t), hub.ID()); !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("a device reads the queue: %v", err)
	}
}

// TestClaim_RelayedOrReplayed: a hub takes a claim from its own device alone, and only if it was made for this hub and this fleet.
func TestClaim_RelayedOrReplayed(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 0)
	d := &desk{approvals: map[edge.ID]enroll.Approval{}}
	hub := sail(t, w.Hubs[0], w.Fleet(), func(o *p2p.Options) { asHub(w)(o); o.Enrol, o.Desk = d, d })
	tok, at := enroll.NewToken(w.Fleet(), time.Now().Add(time.Hour)), bootstrapOf(hub)
	device, thief := newcomer(t, false), newcomer(t, false)
	elsewhere := enroll.NewToken(transporttest.NewWorld(t, 1, 0).Fleet(), time.Now().Add(time.Hour))
	for name, c := range map[string]enroll.Claim{
		"another hub's claim, relayed":      tok.Claim(thief.ID(), w.Hubs[1].ID(), "shed"),
		"another device's claim, overheard": tok.Claim(device.ID(), hub.ID(), "shed"),
		"another fleet's":                   elsewhere.Claim(thief.ID(), hub.ID(), "shed"),
		"a name that moves a cursor":        tok.Claim(thief.ID(), hub.ID(), "\x1b[2J"),
	} {
		if err := thief.ClaimAt(deadline(t), at, c); !refusedFor(err, transport.RefusedInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(d.claims) != 0 {
		t.Errorf("%d of them are queued", len(d.claims))
	}
	if err := device.ClaimAt(deadline(t), at, tok.Claim(device.ID(), hub.ID(), "shed")); err != nil || len(d.claims) != 1 {
		t.Errorf("the device's own: %v, %d queued", err, len(d.claims))
	}
}

// TestOffer_SecondOwner: a member refuses every offer, whoever makes it.
func TestOffer_SecondOwner(t *testing.T) {
	w, other := transporttest.NewWorld(t, 1, 0), transporttest.NewWorld(t, 0, 0)
	hub := sail(t, w.Hubs[0], w.Fleet(), asHub(w))
	code := enroll.Code{Device: hub.ID(), Secret: enroll.NewSecret()}
	robber := operator(t, other)
	err := robber.OfferTo(deadline(t), p2p.Found{ID: hub.ID(), Addrs: hub.Addrs()}, code.Approve(other.Fleet().ID(), robber.ID()))
	if !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("offer: %v", err)
	}
	if hub.merges != 0 || errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("%d merges, %v", hub.merges, err)
	}
	_ = robber.OfferTo(deadline(t), p2p.Found{ID: hub.ID(), Addrs: hub.Addrs()}, code.Approve(other.Fleet().ID(), robber.ID()))
	if all := hub.raised(); len(all) != 1 || all[0].Kind != p2p.AlarmOwner || all[0].Member != robber.ID() || !errors.Is(all[0].Err, fleet.ErrWrongFleet) {
		t.Errorf("alarms: %v", all)
	}
}
