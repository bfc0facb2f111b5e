// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// TestConfirm_OneCopyOverTheUplink: a device that knows one hub's address alone publishes on all.
func TestConfirm_OneCopyOverTheUplink(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	disks := map[edge.ID]*transporttest.Store{}
	hubs := docked(t, w, disks)
	device := sail(t, w.Devices[0], w.Fleet(), func(o *p2p.Options) { o.Metered = true })
	ok(t, device.Bootstrap(t.Context()))
	m := transport.NewMetered(transport.NewPublisher(device.Node, w.Fleet), device.Node, 50*time.Millisecond, nil)
	defer m.Close()
	segs := w.Chain(t, w.Devices[0], "main").Many(12)
	for _, s := range segs {
		r, err := m.Publish(t.Context(), s, nil)
		if err != nil || !r.Forgettable() {
			t.Fatalf("seq %d: %+v, %v", s.Seq, r, err)
		}
	}
	for _, h := range hubs {
		transporttest.WaitFor(t, "every hub has all", func() (bool, string) {
			return disks[h.key.ID()].Len() == len(segs), h.key.ID().Short()
		})
	}
	direct := 0
	for _, p := range device.Peers() {
		if p.Member {
			direct++
		}
	}
	if direct != 1 {
		t.Errorf("the device is connected to %d hubs: want the one that it uses", direct)
	}
	transporttest.WaitFor(t, "a hub has put the head", func() (bool, string) {
		head, err := hubs[0].Head(t.Context(), segs[0].Chain)
		return err == nil && len(head) > 0, ""
	})
}

// docked is crew with the hubs' disks.
func docked(t *testing.T, w *transporttest.World, disks map[edge.ID]*transporttest.Store) []*sailor {
	t.Helper()
	hubs := crewWith(t, w, func(h journal.SoftKey) func(*p2p.Options) {
		return func(o *p2p.Options) {
			asHub(w)(o)
			disks[h.ID()] = o.Store.(*transporttest.Store)
		}
	})
	return hubs
}

// TestConfirm_Refused: proofs are for the device alone, and for what the hub has.
func TestConfirm_Refused(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 2)
	disks := map[edge.ID]*transporttest.Store{}
	hubs := docked(t, w, disks)
	hub := hubs[0].key.ID()
	device, other := sail(t, w.Devices[0], w.Fleet(), nil), sail(t, w.Devices[1], w.Fleet(), nil)
	segs := w.Chain(t, w.Devices[0], "main").Many(4)
	for _, s := range segs {
		ok(t, device.Put(t.Context(), hub, s.Bytes()))
	}
	last := segs[3]
	want := journal.Custody{Chain: last.Chain, To: last.Seq, Hash: last.Hash, Nonce: [16]byte{1}}
	none := func(edge.ID, []byte) bool { t.Error("a proof was shown"); return false }
	if err := other.Confirm(t.Context(), hub, want, none); !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("another device's segments: %v", err)
	}
	longer := want
	longer.To++
	if err := device.Confirm(t.Context(), hub, longer, none); !refusedFor(err, transport.RefusedInvalid) {
		t.Errorf("more than the hub holds: %v", err)
	}
	fork := want
	fork.Hash[0]++
	if err := device.Confirm(t.Context(), hub, fork, none); !refusedFor(err, transport.RefusedFork) {
		t.Errorf("another branch: %v", err)
	}
	backwards := want
	backwards.From, backwards.To = 3, 2
	if err := device.Confirm(t.Context(), hub, backwards, none); !refusedFor(err, transport.RefusedInvalid) {
		t.Errorf("an impossible run: %v", err)
	}
	proofs := 0
	if err := device.Confirm(t.Context(), hub, want, func(storer edge.ID, signature []byte) bool {
		c := want
		c.Storer = storer
		ok(t, c.Check(signature))
		proofs++
		return true
	}); err != nil || proofs != 1 {
		t.Errorf("%d proofs, %v", proofs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := device.Confirm(ctx, hub, want, none); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
