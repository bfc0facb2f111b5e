// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// attempts is what somebody tries on a hub with nothing but libp2p, by name; each returns what it got.
func attempts(t *testing.T, h rawHost, hub *p2p.Node, w *transporttest.World, known, fresh *journal.Segment) map[string]error {
	to := h.dial(t, hub)
	h.hello(t, to, journal.BootID{})
	ctx := deadline(t)
	kad := protocol.ID("/streembit/" + w.Fleet().ID().String() + "/kad/1.0.0")
	key := func(s *journal.Segment) string { return "/head/" + s.Chain.Key().DHTName() }
	got := map[string]error{}

	m, err := h.kad(ctx, to, kad, pb.NewMessage(pb.Message_FIND_NODE, []byte(key(known)), 0))
	if err == nil && len(m.GetCloserPeers()) == 0 {
		err = errors.New("no peers in the answer")
	}
	got["FIND_NODE"] = err

	m, err = h.kad(ctx, to, kad, pb.NewMessage(pb.Message_GET_VALUE, []byte(key(known)), 0))
	if err == nil && m.GetRecord() == nil {
		err = errors.New("no record in the answer")
	}
	got["GET_VALUE"] = err

	put := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key(fresh)), 0)
	put.Record = record.MakePutRecord(key(fresh), fresh.SignedHeader())
	_, got["PUT_VALUE"] = h.kad(ctx, to, kad, put)

	status, err := h.ask(ctx, to, "/streembit/store/1", framed(fresh.Bytes()), readFramed)
	if err == nil && !slices.Equal(status, []byte{0}) {
		err = errors.New("refused")
	}
	got["store/1"] = err

	request, err := journal.Encode([]any{uint8(1), edge.ID{}, journal.Chain{}, transport.Span{}})
	must(t, request, err)
	answer, err := h.ask(ctx, to, "/streembit/fetch/1", framed(request), readFramed)
	if err == nil && answer[0] != 'H' {
		err = errors.New("nothing is held")
	}
	got["fetch/1"] = err
	return got
}

func TestStrangerGetsNothing(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	disk := transporttest.NewStore(w.Fleet, 0)
	hub := start(t, w, w.Hubs[0], disk, tcpAddr)
	start(t, w, w.Hubs[1], transporttest.NewStore(w.Fleet, 0), tcpAddr)
	device := start(t, w, w.Devices[0], nil)
	known := w.Chain(t, w.Devices[0], "main").Next(1)
	if err := errors.Join(device.Put(t.Context(), hub.ID(), known.Bytes()), device.PutHead(t.Context(), known.SignedHeader())); err != nil {
		t.Fatal(err)
	}
	fresh := w.Chain(t, w.Devices[0], "other").Next(1) // made by a device of the fleet: only who brings it is wrong

	stranger := newRawHost(t)
	kad := protocol.ID("/streembit/" + w.Fleet().ID().String() + "/kad/1.0.0")
	stranger.SetStreamHandler(kad, serveKad) // poses as a server of the DHT
	for what, err := range attempts(t, stranger, hub, w, known, fresh) {
		if err == nil {
			t.Errorf("a stranger's %s succeeded", what)
		}
	}
	if disk.Len() != 1 {
		t.Errorf("the hub holds %d segments, want 1", disk.Len())
	}
	if _, err := device.Head(t.Context(), fresh.Chain); !errors.Is(err, transport.ErrNoHead) {
		t.Errorf("the stranger's head: %v", err)
	}

	// The control: the same calls by a member, so that the test can fail.
	member := newRawHost(t)
	member.SetStreamHandler(kad, serveKad)
	w.Grant(t, fleet.Grant{Member: member.key.ID(), Name: "raw", Roles: fleet.Hub})
	for what, err := range attempts(t, member, hub, w, known, fresh) {
		if err != nil {
			t.Errorf("a member's %s: %v", what, err)
		}
	}
	if !disk.Has(fresh.Chain, 0) {
		t.Error("the member's segment is not held")
	}
	if head, err := device.Head(t.Context(), fresh.Chain); err != nil || !slices.Equal(head, fresh.SignedHeader()) {
		t.Errorf("the member's head: %v", err)
	}
	checkTables(t, hub, stranger, member)
}

// checkTables waits until the hub's DHT has taken in the member, who came last and answers as the stranger does.
func checkTables(t *testing.T, hub *p2p.Node, stranger, member rawHost) {
	t.Helper()
	transporttest.WaitFor(t, "the member is in the routing table", func() (bool, string) {
		return slices.Contains(hub.Known(), member.key.ID()), ""
	})
	if slices.Contains(hub.Known(), stranger.key.ID()) {
		t.Error("the stranger is in the routing table")
	}
	for _, p := range hub.Peers() {
		if p.ID == stranger.key.ID() && p.Member {
			t.Error("the stranger counts as a member")
		}
	}
}

func TestRevokedMemberIsDropped(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 0)
	var now atomic.Pointer[fleet.Fleet]
	now.Store(w.Fleet())
	hub := startWith(t, p2p.Options{Signer: w.Hubs[0], Fleet: now.Load, Listen: []string{tcpAddr},
		Store: transporttest.NewStore(w.Fleet, 0)})
	member := newRawHost(t)
	kad := protocol.ID("/streembit/" + w.Fleet().ID().String() + "/kad/1.0.0")
	member.SetStreamHandler(kad, func(s network.Stream) { _ = s.Reset() })
	before := now.Load()
	w.Grant(t, fleet.Grant{Member: member.key.ID(), Name: "raw", Roles: fleet.Hub})
	now.Store(w.Fleet())
	member.dial(t, hub)
	transporttest.WaitFor(t, "connection", func() (bool, string) { return len(hub.Peers()) == 1, "" })
	hub.FleetChanged()
	if !slices.Contains(hub.Known(), member.key.ID()) {
		t.Fatal("the member is not in the routing table")
	}
	now.Store(before) // as if the grant had been taken back
	hub.FleetChanged()
	if len(hub.Known()) != 0 || len(hub.Peers()) != 0 {
		t.Errorf("a former member is known (%v) or connected (%v)", hub.Known(), hub.Peers())
	}
}

// A hub that answers PUT_VALUE with nothing crashed every member that asked it, before asker.
func TestFaultyHubDoesNotCrashMembers(t *testing.T) {
	w := transporttest.NewWorld(t, 0, 1)
	faulty := newRawHost(t)
	faulty.SetStreamHandler(protocol.ID("/streembit/"+w.Fleet().ID().String()+"/kad/1.0.0"), serveKad)
	var addrs []string
	for _, a := range faulty.Addrs() {
		addrs = append(addrs, a.String())
	}
	w.Grant(t, fleet.Grant{Member: faulty.key.ID(), Name: "faulty", Roles: fleet.Hub, Addrs: addrs})
	device := start(t, w, w.Devices[0], nil)
	seg := w.Chain(t, w.Devices[0], "main").Next(1)
	if err := device.PutHead(deadline(t), seg.SignedHeader()); err != nil {
		t.Errorf("putting head: %v", err)
	}
	reader := start(t, w, w.Reader, nil)
	if _, err := reader.Head(deadline(t), seg.Chain); !errors.Is(err, transport.ErrNoHead) {
		t.Errorf("head: %v", err)
	}
}
