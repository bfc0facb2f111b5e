// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"errors"
	"slices"
	"sync"
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

// sailor is a member with a copy of the fleet of its own, as programs have it.
type sailor struct {
	*p2p.Node
	key    journal.SoftKey
	mu     sync.Mutex
	fleet  *fleet.Fleet
	merges int
	alarms []p2p.Alarm
}

func (s *sailor) now() *fleet.Fleet {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.fleet
}

func (s *sailor) merge(b fleet.Bundle) (*fleet.Fleet, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, err := s.fleet.Merge(b)
	if next != nil {
		s.fleet = next
	}
	s.merges++
	return s.fleet, err
}

// forget puts the copy back without telling anybody.
func (s *sailor) forget(f *fleet.Fleet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fleet = f
}

// learn is a change that did not come by the network.
func (s *sailor) learn(f *fleet.Fleet) {
	s.mu.Lock()
	s.fleet = f
	s.mu.Unlock()
	s.FleetChanged()
}

func (s *sailor) raised() []p2p.Alarm {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]p2p.Alarm(nil), s.alarms...)
}

// sail starts a member that knows f. Hubs listen and their addresses are not in the fleet: see dock.
func sail(t testing.TB, key journal.SoftKey, f *fleet.Fleet, change func(*p2p.Options)) *sailor {
	t.Helper()
	s := &sailor{key: key, fleet: f}
	o := p2p.Options{Signer: key, Fleet: s.now, Merge: s.merge, KeepAlive: time.Second, Boot: journal.BootID(key.ID().Bytes()[6:22]), Version: "test",
		Alarm: func(a p2p.Alarm) { s.mu.Lock(); defer s.mu.Unlock(); s.alarms = append(s.alarms, a) }}
	if change != nil {
		change(&o)
	}
	s.Node = startWith(t, o)
	return s
}

func asHub(w *transporttest.World) func(*p2p.Options) {
	return func(o *p2p.Options) {
		disk := transporttest.NewStore(o.Fleet, 0)
		o.Store, o.Mirror, o.Books, o.Listen = disk, disk, disk, []string{tcpAddr}
	}
}

// crew is hubs that know each other's addresses, all of one fleet.
func crew(t testing.TB, w *transporttest.World) (hubs []*sailor) {
	t.Helper()
	return crewWith(t, w, func(journal.SoftKey) func(*p2p.Options) { return asHub(w) })
}

func crewWith(t testing.TB, w *transporttest.World, options func(journal.SoftKey) func(*p2p.Options)) (hubs []*sailor) {
	t.Helper()
	var grants []fleet.Grant
	for _, h := range w.Hubs {
		s := sail(t, h, w.Fleet(), options(h))
		hubs = append(hubs, s)
		g, _ := w.Fleet().Member(h.ID())
		g.Addrs = s.Addrs()
		grants = append(grants, g)
	}
	w.Grant(t, grants...)
	for _, h := range hubs {
		h.learn(w.Fleet())
	}
	for _, h := range hubs {
		if err := h.Bootstrap(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return hubs
}

func agree(t testing.TB, want *fleet.Fleet, all ...*sailor) {
	t.Helper()
	transporttest.WaitFor(t, "all know the same fleet", func() (bool, string) {
		for _, s := range all {
			if s.now().Digest().Hash() != want.Digest().Hash() {
				return false, s.key.ID().Short()
			}
		}
		return true, ""
	})
}

func connectedTo(s *sailor, id edge.ID) bool {
	for _, p := range s.Peers() {
		if p.ID == id {
			return true
		}
	}
	return false
}

func refusedFor(err error, want transport.Reason) bool {
	var r *transport.Refusal
	return errors.As(err, &r) && r.Reason == want && r.Detail != ""
}

// desk is a hub's queue, in memory.
type desk struct {
	mu        sync.Mutex
	claims    []p2p.Pending
	approvals map[edge.ID]enroll.Approval
}

func (d *desk) Claim(p p2p.Pending) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claims = append(d.claims, p)
	return nil
}

func (d *desk) Approval(device edge.ID) (enroll.Approval, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, ok := d.approvals[device]
	return a, ok
}

func (d *desk) Claims(edge.ID) ([]p2p.Pending, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.claims), nil
}

func (d *desk) Drop(_, device edge.ID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claims = slices.DeleteFunc(d.claims, func(p p2p.Pending) bool { return p.Claim.Device == device })
	return nil
}

func (d *desk) Deposit(_ edge.ID, a enroll.Approval) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.approvals[a.Device] = a
	return nil
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
