// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

func reachable(o *p2p.Options) { o.Reachable = true }

func awaitRelays(t *testing.T, s *sailor, want int) {
	t.Helper()
	transporttest.WaitFor(t, "places at relays", func() (bool, string) { return len(s.Relays()) >= want, "" })
}

// TestRelay_BetweenMembers: two members that nobody can dial speak to each other through a hub, and are cut when one of them is revoked.
func TestRelay_BetweenMembers(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 2)
	hubs := crew(t, w)
	device := sail(t, w.Devices[0], w.Fleet(), reachable)
	ok(t, device.Bootstrap(t.Context()))
	awaitRelays(t, device, 2)
	other := sail(t, w.Devices[1], w.Fleet(), nil)
	r, err := other.Reach(t.Context(), device.key.ID())
	if err != nil {
		t.Fatal(err)
	}
	if r.Direct || len(r.Steps) < 3 || r.Steps[len(r.Steps)-1].Err != nil {
		t.Errorf("%+v", r)
	}
	if again, err := other.Reach(t.Context(), device.key.ID()); err != nil || len(again.Steps) != 0 {
		t.Errorf("the open connection was not used: %+v, %v", again, err)
	}
	for _, p := range other.Peers() {
		if p.ID == device.key.ID() && p.Direct {
			t.Error("a relayed connection is shown as direct")
		}
	}
	w.Revoke(t, other.key.ID())
	for _, h := range hubs {
		h.learn(w.Fleet())
	}
	transporttest.WaitFor(t, "the revoked member is cut off", func() (bool, string) { return !connectedTo(device, other.key.ID()), "" })
	transporttest.WaitFor(t, "the revoked member is relayed no more", func() (bool, string) { // its own end of the connection may close a moment later
		r, err := other.Reach(t.Context(), device.key.ID())
		return errors.Is(err, transport.ErrUnreachable), fmt.Sprintf("%+v, %v", r, err)
	})
}

// TestRelay_Unreachable: the route says what was tried.
func TestRelay_Unreachable(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 2)
	crew(t, w)
	other := sail(t, w.Devices[1], w.Fleet(), nil)
	ok(t, other.Bootstrap(t.Context()))
	r, err := other.Reach(t.Context(), w.Devices[0].ID())
	if !errors.Is(err, transport.ErrUnreachable) || len(r.Steps) != 4 {
		t.Fatalf("%+v, %v", r, err)
	}
	for _, s := range r.Steps {
		if s.Err == nil {
			t.Errorf("%s led nowhere without an error", s.Way)
		}
	}
	if _, err := other.Reach(t.Context(), transporttest.NewKey(t).ID()); !errors.Is(err, transport.ErrUnreachable) {
		t.Errorf("a stranger: %v", err)
	}
}

// TestRelay_HubRestarts: a member keeps its places while hubs come and go.
func TestRelay_HubRestarts(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	hubs := crew(t, w)
	device := sail(t, w.Devices[0], w.Fleet(), reachable)
	ok(t, device.Bootstrap(t.Context()))
	awaitRelays(t, device, 2)
	lost := device.Relays()[0]
	for _, h := range hubs {
		if h.key.ID() == lost {
			ok(t, h.Close())
		}
	}
	transporttest.WaitFor(t, "a place at another relay", func() (bool, string) {
		now := device.Relays()
		if slices.Contains(now, lost) {
			return false, "the lost one is still there"
		}
		return len(now) == 2, ""
	})
}

// TestRelay_CloseWithoutAddress: a member that knows no address of its own from which a hole could be punched is relayed, and ends when it shall. libp2p's service
// waits for such an address even after it was closed.
func TestRelay_CloseWithoutAddress(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 2)
	crew(t, w)
	var log swarm.Buffer
	device := sail(t, w.Devices[0], w.Fleet(), func(o *p2p.Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Reachable, o.Listen = true, []string{"/ip4/127.0.0.1/tcp/0"}
		o.Announce = []string{"/ip4/127.0.0.1/tcp/1"} // where nobody listens
	})
	ok(t, device.Bootstrap(t.Context()))
	awaitRelays(t, device, 2)
	other := sail(t, w.Devices[1], w.Fleet(), nil)
	if r, err := other.Reach(t.Context(), device.key.ID()); err != nil || r.Direct {
		t.Fatalf("%+v, %v", r, err)
	}
	transporttest.WaitFor(t, "a try to punch a hole", func() (bool, string) { return log.Count("no hole was punched") > 0, log.Tail(3) })
	closed := make(chan error, 1)
	go func() { closed <- device.Close() }()
	select {
	case err := <-closed:
		ok(t, err)
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
}
