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
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// TestRevoke_CutEverywhereWithinSeconds: eight members, a revocation that one of them learns.
func TestRevoke_CutEverywhereWithinSeconds(t *testing.T) {
	w := transporttest.NewWorld(t, 5, 2)
	hubs := crew(t, w)
	op := operator(t, w)
	lost := sail(t, w.Devices[0], w.Fleet(), nil)
	stays := sail(t, w.Devices[1], w.Fleet(), nil)
	hubs[0].learn(w.Fleet())
	chain := w.Chain(t, w.Devices[0], "main")
	segs := chain.Many(3)
	all := append(slices.Clone(hubs), op, stays)
	for _, h := range hubs {
		ok(t, lost.Put(t.Context(), h.ID(), segs[0].Bytes()))
		if _, err := stays.Held(t.Context(), h.ID(), edge.ID{}); err != nil && !refusedFor(err, transport.RefusedNoRight) {
			t.Fatal(err)
		}
	}
	ok(t, op.SyncFleet(t.Context()))
	following := make(chan error, 1)
	go func() {
		following <- lost.Follow(t.Context(), hubs[2].ID(), func(transport.Held) error { return nil })
	}()
	agree(t, w.Fleet(), all...)

	began := time.Now()
	w.Revoke(t, lost.ID())
	op.learn(w.Fleet())
	agree(t, w.Fleet(), all...)
	transporttest.WaitFor(t, "no hub is connected to the revoked member, unless it came back as a stranger", func() (bool, string) {
		for _, h := range hubs {
			if connectedTo(h, lost.ID()) && !h.Visited(lost.ID()) {
				return false, h.ID().Short()
			}
		}
		return true, ""
	})
	took := time.Since(began)
	t.Logf("all of %d members know and have cut it after %s", len(all), took.Round(time.Millisecond))
	if took > 10*time.Second {
		t.Errorf("cutting a revoked member took %s, want seconds", took)
	}
	if err := <-following; err == nil {
		t.Error("its follow ended without an error")
	}
	for _, h := range hubs { // it comes back as a stranger, and gets nothing
		if err := lost.Put(deadline(t), h.ID(), segs[1].Bytes()); err == nil {
			t.Error("a hub takes segments of the revoked member")
		}
		ok(t, stays.Put(deadline(t), h.ID(), w.Chain(t, w.Devices[1], "main").Next(1).Bytes()))
	}
	var told *p2p.StandingError
	if err := lost.SyncFleet(deadline(t)); !errors.As(err, &told) || told.Standing != p2p.Revoked {
		t.Errorf("what the revoked member is told: %v", err)
	}
}

// TestRevoke_Hub: a hub that is revoked leaves routing tables, and what waits for it goes elsewhere at once.
func TestRevoke_Hub(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	hubs := crew(t, w)
	device := sail(t, w.Devices[0], w.Fleet(), nil)
	bad := hubs[2].ID()
	segs := w.Chain(t, w.Devices[0], "main").Many(2)
	for _, h := range hubs {
		ok(t, device.Put(t.Context(), h.ID(), segs[0].Bytes()))
	}
	transporttest.WaitFor(t, "the hub is in the routing tables", func() (bool, string) {
		return slices.Contains(hubs[0].Known(), bad) && slices.Contains(device.Known(), bad), ""
	})
	w.Revoke(t, bad)
	hubs[0].learn(w.Fleet())
	agree(t, w.Fleet(), hubs[0], hubs[1], device)
	transporttest.WaitFor(t, "the hub has left the tables and connections", func() (bool, string) {
		for _, s := range []*sailor{hubs[0], hubs[1], device} {
			if slices.Contains(s.Known(), bad) || connectedTo(s, bad) && s != device && !s.Visited(bad) {
				return false, s.ID().Short()
			}
		}
		return true, ""
	})
	if err := device.Put(deadline(t), bad, segs[1].Bytes()); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("a put on the revoked hub: %v", err)
	}
	p := transport.NewPublisher(device, device.now)
	defer p.Close()
	if r, err := p.Publish(deadline(t), segs[1], nil); err != nil || len(r.Targets) != 2 {
		t.Errorf("publishing: %v, %d hubs count", err, len(r.Targets))
	}
}

// TestHubList_Change: a role that is taken or given takes effect without a new connection.
func TestHubList_Change(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	hubs := crew(t, w)
	for _, h := range hubs {
		ok(t, h.SyncFleet(t.Context()))
	}
	third := hubs[2].ID()
	device := sail(t, w.Devices[0], w.Fleet(), nil)
	segs := w.Chain(t, w.Devices[0], "main").Many(3)
	ok(t, errors.Join(device.Put(t.Context(), third, segs[0].Bytes()), device.Put(t.Context(), hubs[0].ID(), segs[0].Bytes())))
	grant, _ := w.Fleet().Member(third)
	grant.Roles = fleet.Device
	w.Grant(t, grant)
	hubs[0].learn(w.Fleet())
	agree(t, w.Fleet(), hubs...)
	transporttest.WaitFor(t, "it is no hub", func() (bool, string) {
		return !slices.Contains(hubs[0].Known(), third) && !slices.Contains(hubs[1].Known(), third), ""
	})
	if !connectedTo(hubs[0], third) && !connectedTo(hubs[1], third) {
		t.Error("it is still a member, and was disconnected")
	}
	agree(t, w.Fleet(), device)
	transporttest.WaitFor(t, "nothing is put on it any more", func() (bool, string) {
		return errors.Is(device.Put(deadline(t), third, segs[1].Bytes()), transport.ErrUnreachable), ""
	})
	grant.Roles = fleet.Hub
	w.Grant(t, grant)
	hubs[1].learn(w.Fleet())
	agree(t, w.Fleet(), hubs...)
	transporttest.WaitFor(t, "it is a hub again", func() (bool, string) {
		return slices.Contains(hubs[0].Known(), third) || slices.Contains(hubs[1].Known(), third), ""
	})
	agree(t, w.Fleet(), device)
	ok(t, device.Put(deadline(t), third, segs[2].Bytes()))
}

// TestNewcomer_IntroducesItself: a device whose grant a hub has not heard of brings it.
func TestNewcomer_IntroducesItself(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	hub := crew(t, w)[0]
	key := transporttest.NewKey(t)
	w.Grant(t, fleet.Grant{Member: key.ID(), Name: "fresh", Roles: fleet.Device})
	device := sail(t, key, w.Fleet(), nil)
	if hub.now().IsMember(key.ID()) {
		t.Fatal("the hub knows it already")
	}
	ok(t, device.SyncFleet(deadline(t)))
	agree(t, w.Fleet(), hub)
	ok(t, device.Put(deadline(t), hub.ID(), w.Chain(t, key, "main").Next(1).Bytes()))
}

// TestStranger_CannotIntroduceItself: a grant that nobody entitled made, another one's grant, and another fleet's leave no trace.
func TestStranger_CannotIntroduceItself(t *testing.T) {
	w, other := transporttest.NewWorld(t, 1, 0), transporttest.NewWorld(t, 0, 0)
	hub := crew(t, w)[0]
	key := transporttest.NewKey(t)
	other.Grant(t, fleet.Grant{Member: key.ID(), Name: "fresh", Roles: fleet.Device},
		fleet.Grant{Member: hub.ID(), Name: "hub", Roles: fleet.Hub, Addrs: hub.Addrs()})
	foreign := sail(t, key, other.Fleet(), nil)
	var told *p2p.StandingError
	if err := foreign.SyncFleet(deadline(t)); !errors.As(err, &told) || told.Standing != p2p.Stranger {
		t.Errorf("with another fleet's grant: %v", err)
	}
	w.Grant(t, fleet.Grant{Member: transporttest.NewKey(t).ID(), Name: "neighbour", Roles: fleet.Device})
	thief := sail(t, transporttest.NewKey(t), w.Fleet(), nil) // a bundle that does not name it
	if err := thief.SyncFleet(deadline(t)); !errors.As(err, &told) || told.Standing != p2p.Stranger {
		t.Errorf("with a bundle that names somebody else: %v", err)
	}
	carrier := newRawHost(t) // true entries, but none about itself
	if status, err := carrier.pushFleet(t, hub.Node, w.Fleet().Delta(hub.now().Digest())); err != nil || status[0] != byte(transport.RefusedNoRight) {
		t.Errorf("somebody else's grant: %q, %v", status, err)
	}
	if hub.merges != 0 {
		t.Errorf("%d offers reached the program", hub.merges)
	}
}

// TestStranger_BringsNewerState: owner-signed state is taken from anybody, so that a hub that was cut off learns of a rotation.
func TestStranger_BringsNewerState(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	hub := crew(t, w)[0]
	w.Amend(t, func(*fleet.State) {})
	if status, err := newRawHost(t).pushFleet(t, hub.Node, w.Fleet().Delta(hub.now().Digest())); err != nil || status[0] != 0 {
		t.Errorf("newer state: %q, %v", status, err)
	}
	agree(t, w.Fleet(), hub)
}

// TestOldFleet_Offered: a member that holds on to an old fleet pushes all of it; it changes nothing.
func TestOldFleet_Offered(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	raw := newRawHost(t)
	w.Grant(t, fleet.Grant{Member: raw.key.ID(), Name: "stale", Roles: fleet.Device})
	old := w.Fleet().Delta(fleet.Digest{})
	hub := crew(t, w)[0]
	w.Amend(t, func(*fleet.State) {})
	w.Revoke(t, w.Devices[0].ID())
	hub.learn(w.Fleet())
	if status, err := raw.pushFleet(t, hub.Node, old); err != nil || len(status) != 1 || status[0] != 0 {
		t.Errorf("pushing what is known: %v, %v", status, err)
	}
	if hub.merges == 0 {
		t.Error("the old fleet did not reach the program, so nothing is shown")
	}
	if hub.now().Digest().Hash() != w.Fleet().Digest().Hash() || hub.now().IsMember(w.Devices[0].ID()) {
		t.Error("an old fleet was taken in")
	}
}

// TestForkedFleet_Offered: the first one stays and the alarm is raised once.
func TestForkedFleet_Offered(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	hub := crew(t, w)[0]
	fork := w.Fork(t)
	fork.Grant(t, fleet.Grant{Member: transporttest.NewKey(t).ID(), Name: "theirs", Roles: fleet.Device})
	w.Grant(t, fleet.Grant{Member: transporttest.NewKey(t).ID(), Name: "ours", Roles: fleet.Device})
	hub.learn(w.Fleet())
	device := sail(t, w.Devices[0], fork.Fleet(), nil)
	for range 3 {
		_ = device.SyncFleet(deadline(t))
	}
	transporttest.WaitFor(t, "alarms at both", func() (bool, string) { return len(hub.raised()) > 0 && len(device.raised()) > 0, "" })
	for _, s := range []*sailor{hub, device} {
		a := s.raised()
		if len(a) != 1 || a[0].Kind != p2p.AlarmFork || !errors.Is(a[0].Err, fleet.ErrFork) {
			t.Errorf("alarms: %+v", a)
		}
	}
	if hub.now().Digest().Hash() != w.Fleet().Digest().Hash() || device.now().Digest().Hash() != fork.Fleet().Digest().Hash() {
		t.Error("what was known first did not stay")
	}
}

// TestReading_NeedsTheRight: default deny, and a follow ends when the right goes.
func TestReading_NeedsTheRight(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 2)
	hubs := crew(t, w)
	hub := hubs[0].ID()
	device, other := sail(t, w.Devices[0], w.Fleet(), nil), sail(t, w.Devices[1], w.Fleet(), nil)
	reader := sail(t, w.Reader, w.Fleet(), nil)
	chain := w.Chain(t, w.Devices[0], "main")
	seg := chain.Next(1)
	ok(t, device.Put(t.Context(), hub, seg.Bytes()))
	fetch := func(s *sailor) (n int, err error) {
		err = s.Fetch(deadline(t), hub, seg.Chain, transport.Span{Last: 9}, func([]byte) error { n++; return nil })
		return n, err
	}
	for name, s := range map[string]*sailor{"its device": device, "a reader": reader, "a hub": hubs[1]} {
		if n, err := fetch(s); n != 1 || err != nil {
			t.Errorf("%s: %d segments, %v", name, n, err)
		}
	}
	if n, err := fetch(other); n != 0 || !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("another device: %d segments, %v", n, err)
	}
	if _, err := other.Held(deadline(t), hub, device.ID()); !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("what is held, to another device: %v", err)
	}
	got, ended := make(chan transport.Held, 16), make(chan error, 1)
	go func() {
		ended <- reader.Follow(context.WithoutCancel(t.Context()), hub, func(h transport.Held) error { got <- h; return nil })
	}()
	<-got
	grant, _ := w.Fleet().Member(reader.ID())
	grant.Rights = []fleet.Right{{Do: fleet.Read, On: []string{"device-1"}, What: []string{"*"}}}
	w.Grant(t, grant)
	hubs[0].learn(w.Fleet())
	select {
	case err := <-ended:
		if !refusedFor(err, transport.RefusedNoRight) {
			t.Errorf("the follow ended with %v", err)
		}
	case <-time.After(transporttest.Limit):
		t.Fatal("the follow goes on without the right")
	}
	if n, err := fetch(reader); n != 0 || !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("fetching without the right: %d segments, %v", n, err)
	}
	ok(t, other.Put(t.Context(), hub, w.Chain(t, w.Devices[1], "main").Next(1).Bytes()))
	if held, err := reader.Held(deadline(t), hub, edge.ID{}); err != nil || len(held) != 1 || held[0].Chain.Device != other.ID() {
		t.Errorf("what the reader may see: %v, %v", held, err)
	}
}
