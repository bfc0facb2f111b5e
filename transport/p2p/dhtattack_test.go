// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bufio"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

func kadOf(w *transporttest.World) protocol.ID {
	return protocol.ID("/streembit/" + w.Fleet().ID().String() + "/kad/1.0.0")
}

// liar serves the Kademlia protocol and answers every question with these peers and no value. asked counts the questions.
func (h rawHost) liar(p protocol.ID, peers []peer.AddrInfo) (asked *atomic.Int64) {
	asked = &atomic.Int64{}
	h.SetStreamHandler(p, func(s network.Stream) {
		defer func() { _ = s.Close() }()
		r := bufio.NewReader(s)
		for {
			n, err := binary.ReadUvarint(r)
			if err != nil || n > 1<<20 {
				return
			}
			body := make([]byte, n)
			m := &pb.Message{}
			if _, err := io.ReadFull(r, body); err != nil || proto.Unmarshal(body, m) != nil {
				return
			}
			asked.Add(1)
			answer := pb.NewMessage(m.GetType(), m.GetKey(), 0)
			answer.CloserPeers = pb.RawPeerInfosToPBPeers(peers)
			answer.Record = m.GetRecord() // as if it had stored it
			out, err := proto.Marshal(answer)
			if err != nil {
				return
			}
			if _, err := s.Write(append(binary.AppendUvarint(nil, uint64(len(out))), out...)); err != nil {
				return
			}
		}
	})
	return asked
}

func (h rawHost) info() peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// TestRoutingPoisoning: an enrolled hub that lies in its answers gets no stranger into tables, queries or connections, and its false addresses of honest
// hubs hide none of them.
func TestRoutingPoisoning(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	var strangers []peer.AddrInfo
	var asked []*atomic.Int64
	var knocked atomic.Int64
	for range 6 {
		h := newRawHost(t)
		h.Network().Notify(&network.NotifyBundle{ConnectedF: func(network.Network, network.Conn) { knocked.Add(1) }})
		asked = append(asked, h.liar(kadOf(w), nil))
		strangers = append(strangers, h.info())
	}
	bad := newRawHost(t)
	lies := slices.Clone(strangers)
	for _, h := range w.Hubs { // the honest hubs, at addresses where nobody or somebody else is
		id, err := peer.IDFromBytes(h.ID().Bytes())
		must(t, id, err)
		lies = append(lies, peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/9"), strangers[0].Addrs[0]}})
	}
	told := bad.liar(kadOf(w), lies)
	w.Grant(t, fleet.Grant{Member: bad.key.ID(), Name: "bad", Roles: fleet.Hub, Addrs: []string{bad.Addrs()[0].String()}})
	hubs := crew(t, w)
	bundle := w.Bootstrap(t, fleet.Bootstrap{ID: bad.key.ID(), Addrs: []string{bad.Addrs()[0].String()}},
		fleet.Bootstrap{ID: hubs[0].ID(), Addrs: hubs[0].Addrs()})
	device := sail(t, w.Devices[0], bundle, nil)
	ok(t, device.Bootstrap(deadline(t)))
	chain := w.Chain(t, w.Devices[0], "main")
	for range 5 {
		seg := chain.Next(1)
		ok(t, device.PutHead(deadline(t), seg.SignedHeader()))
		for _, h := range hubs {
			ok(t, device.Put(deadline(t), h.ID(), seg.Bytes()))
		}
		if head, err := device.Head(deadline(t), seg.Chain); err != nil || !slices.Equal(head, seg.SignedHeader()) {
			t.Errorf("head: %v", err)
		}
	}
	if told.Load() == 0 {
		t.Error("the lying hub was never asked, so that nothing is shown")
	}
	for _, s := range append(slices.Clone(hubs), device) {
		for _, id := range s.Known() {
			if !w.Fleet().Is(id, fleet.Hub) {
				t.Errorf("a stranger is in a routing table")
			}
		}
	}
	for _, a := range asked {
		if a.Load() != 0 {
			t.Error("a stranger was asked")
		}
	}
	if knocked.Load() != 0 {
		t.Logf("%d connections to strangers at the false addresses, all refused by their keys", knocked.Load())
	}
}

// ground makes keys whose distance to a DHT key is smaller than that of every honest hub.
func ground(t *testing.T, key string, n int, honest []edge.ID) []ed25519.PrivateKey {
	t.Helper()
	target := sha256.Sum256([]byte(key))
	distance := func(id edge.ID) (d [32]byte) {
		d = sha256.Sum256(id.Bytes())
		for i := range d {
			d[i] ^= target[i]
		}
		return d
	}
	closest := [32]byte{0xff}
	for _, h := range honest {
		if d := distance(h); slices.Compare(d[:], closest[:]) < 0 {
			closest = d
		}
	}
	var out []ed25519.PrivateKey
	for len(out) < n {
		pub, priv, err := ed25519.GenerateKey(rand.Reader)
		must(t, priv, err)
		if d := distance(edge.ID(pub)); slices.Compare(d[:], closest[:]) < 0 {
			out = append(out, priv)
		}
	}
	return out
}

// TestEclipse_GroundSybils: 24 strangers whose keys are ground to be the closest to a head's key, against 24 hubs. With the filters every read finds the
// head; the same attack without them hides it, so that the test can fail.
func TestEclipse_GroundSybils(t *testing.T) {
	with := eclipse(t, true)
	t.Logf("with filters %d of 5 reads found the head", with)
	if with != 5 {
		t.Errorf("with filters %d of 5 reads found the head", with)
	}
	without := eclipse(t, false)
	t.Logf("without filters %d of 5 reads found the head", without)
	if without >= 5 {
		t.Errorf("without filters %d of 5 reads found the head: the attack is none", without)
	}
}

func eclipse(t *testing.T, filters bool) (found int) {
	t.Helper()
	const n = 24
	w := transporttest.NewWorld(t, n, 1)
	seg := w.Chain(t, w.Devices[0], "main").Next(1)
	option := func(o *p2p.Options) {
		if !filters {
			*o = p2p.WithoutFilters(*o)
		}
	}
	var sybils []rawHost
	var infos []peer.AddrInfo
	for _, key := range ground(t, "/head/"+seg.Chain.Key().DHTName(), n, w.HubIDs()) {
		h := newRawHostWith(t, key, tcpAddr)
		sybils = append(sybils, h)
		infos = append(infos, h.info())
	}
	for _, h := range sybils {
		h.liar(kadOf(w), infos)
	}
	var hubs []*sailor
	var grants []fleet.Grant
	for _, key := range w.Hubs {
		h := sail(t, key, w.Fleet(), func(o *p2p.Options) { asHub(w)(o); option(o) })
		hubs = append(hubs, h)
		g, _ := w.Fleet().Member(key.ID())
		g.Addrs = h.Addrs()
		grants = append(grants, g)
	}
	w.Grant(t, grants...)
	for i, h := range hubs {
		h.learn(w.Fleet())
		for _, s := range sybils {
			if i >= 4 {
				break // the others hear of them
			}
			_ = s.Connect(deadline(t), infoOf(t, h.Node)) // refused, or closed, where there are filters
		}
		for _, before := range hubs[max(0, i-4):i] {
			if _, err := h.Held(deadline(t), before.ID(), w.Devices[0].ID()); err != nil {
				t.Fatal(err)
			}
		}
	}
	device := sail(t, w.Devices[0], w.Fleet(), option)
	ok(t, device.Bootstrap(deadline(t)))
	_ = device.PutHead(deadline(t), seg.SignedHeader()) // returns nil whoever stored it
	for range 5 {
		reader := sail(t, w.Reader, w.Fleet(), option)
		if err := reader.Bootstrap(deadline(t)); err != nil {
			t.Logf("bootstrapping: %v", err)
		}
		if head, err := reader.Head(deadline(t), seg.Chain); err == nil && slices.Equal(head, seg.SignedHeader()) {
			found++
		}
		ok(t, reader.Close())
	}
	return found
}

// TestHead_Refused: what is no head of this chain, made by its device, does not get in by PUT_VALUE: unsigned, foreign, too large, under another key.
func TestHead_Refused(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	member := newRawHost(t)
	w.Grant(t, fleet.Grant{Member: member.key.ID(), Name: "raw", Roles: fleet.Device})
	hub := crew(t, w)[0]
	chain := w.Chain(t, w.Devices[0], "main")
	seg, next := chain.Next(1), chain.Next(3)
	key := "/head/" + seg.Chain.Key().DHTName()
	to := member.dial(t, hub.Node)
	member.hello(t, to, journal.BootID{})
	put := func(key string, value []byte) error {
		m := pb.NewMessage(pb.Message_PUT_VALUE, []byte(key), 0)
		m.Record = record.MakePutRecord(key, value)
		_, err := member.kad(deadline(t), to, kadOf(w), m)
		return err
	}
	broken := slices.Clone(seg.SignedHeader())
	broken[len(broken)-1] ^= 1
	for name, v := range map[string]struct {
		key   string
		value []byte
	}{
		"unsigned":           {key, []byte("temperature: 21")},
		"signature broken":   {key, broken},
		"no device signs it": {"/head/" + w.Chain(t, member.key, "main").Name().Key().DHTName(), w.Chain(t, w.Reader, "main").Next(1).SignedHeader()},
		"another chain's":    {"/head/" + w.Chain(t, w.Devices[0], "other").Name().Key().DHTName(), seg.SignedHeader()},
		"a whole segment":    {key, next.Bytes()},
		"256 kB":             {key, make([]byte, 256<<10)},
		"another namespace":  {"/pk/" + seg.Chain.Key().DHTName(), seg.SignedHeader()},
	} {
		if err := put(v.key, v.value); err == nil {
			t.Errorf("%s: it was stored", name)
		}
	}
	ok(t, put(key, seg.SignedHeader())) // the control
}

// headFor reads a head with a fresh program, which has no marks of its own.
func headFor(t *testing.T, w *transporttest.World, c journal.Chain) ([]byte, error) {
	t.Helper()
	reader := sail(t, w.Reader, w.Fleet(), nil)
	head, err := reader.Head(deadline(t), c)
	ok(t, reader.Close())
	return head, err
}

// TestHead_OldAfterExpiry: kad-dht would take an older head again once the newer one has expired; the high-water marks do not, and a restarted hub knows
// from its disk.
func TestHead_OldAfterExpiry(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	const age = time.Second
	disk := transporttest.NewStore(w.Fleet, 0)
	hub := sail(t, w.Hubs[0], w.Fleet(), func(o *p2p.Options) { asHub(w)(o); o.Store, o.HeadMaxAge = disk, age })
	g, _ := w.Fleet().Member(hub.ID())
	g.Addrs = hub.Addrs()
	w.Grant(t, g)
	hub.learn(w.Fleet())
	segs := w.Chain(t, w.Devices[0], "main").Many(journal.BucketSize + 10)
	old, newest := segs[2], segs[len(segs)-1]
	device := sail(t, w.Devices[0], w.Fleet(), nil)
	began := time.Now()
	ok(t, device.PutHead(deadline(t), newest.SignedHeader()))
	if _, err := headFor(t, w, old.Chain); err != nil && time.Since(began) < age {
		t.Fatalf("the new head is not there: %v", err)
	}
	transporttest.WaitFor(t, "the head expires", func() (bool, string) {
		_, err := headFor(t, w, old.Chain)
		return errors.Is(err, transport.ErrNoHead), ""
	})
	attack := func(hub *sailor) error {
		raw := sail(t, w.Devices[0], w.Fleet(), nil) // a fresh program, without marks of its own
		ok(t, raw.PutHead(deadline(t), old.SignedHeader()))
		ok(t, raw.Close())
		_, err := headFor(t, w, old.Chain)
		return err
	}
	if err := attack(hub); !errors.Is(err, transport.ErrNoHead) {
		t.Errorf("an old head was taken after the new one had expired: %v", err)
	}
	for _, s := range segs {
		ok(t, device.Put(deadline(t), hub.ID(), s.Bytes()))
	}
	addr := hub.Addrs()[0]
	ok(t, hub.Close())
	again := sail(t, w.Hubs[0], w.Fleet(), func(o *p2p.Options) { o.Store, o.Listen = disk, []string{addr} })
	if err := attack(again); !errors.Is(err, transport.ErrNoHead) {
		t.Errorf("an old head was taken after a restart: %v", err)
	}
	ok(t, sail(t, w.Devices[0], w.Fleet(), nil).PutHead(deadline(t), newest.SignedHeader()))
	if head, err := headFor(t, w, old.Chain); err != nil || !slices.Equal(head, newest.SignedHeader()) {
		t.Errorf("the newest head is not taken: %v", err)
	}
}
