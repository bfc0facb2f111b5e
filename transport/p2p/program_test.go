// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/ota/swarm"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// gives is a member's programs: one of them.
type gives struct {
	file *chunks.File

	mu      sync.Mutex
	fetcher *swarm.Fetcher
	spoil   bool
}

func (g *gives) Holding(tree chunks.Hash) (h swarm.Holding, known bool) {
	if tree != g.file.Tree() {
		return h, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	h.Have, _ = g.file.Have()
	if g.fetcher != nil && !g.file.Complete() {
		h.Wants, h.Due = true, g.fetcher.Due()
	}
	return h, true
}

func (g *gives) List(chunks.Hash) ([]byte, error) {
	l, err := g.file.List()
	return l.Bytes(), err
}

func (g *gives) Chunk(_ context.Context, _ chunks.Hash, i int, buf []byte) ([]byte, error) {
	c, err := g.file.Chunk(i, buf)
	if g.spoil && len(c) > 0 {
		c[0] ^= 1
	}
	return c, err
}

// release is a program in a file.
func release(t testing.TB, pieces int) *chunks.File {
	t.Helper()
	b := make([]byte, pieces*chunks.Size-77)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	path := filepath.Join(t.TempDir(), "program")
	ok(t, os.WriteFile(path, b, 0o600))
	f, err := chunks.Share(path)
	must(t, f, err)
	t.Cleanup(func() { ok(t, f.Close()) })
	return f
}

// empty is room for a program.
func empty(t testing.TB, of *chunks.File) *gives {
	t.Helper()
	s, err := chunks.Open(t.TempDir(), 1<<30)
	must(t, s, err)
	t.Cleanup(func() { ok(t, s.Close()) })
	f, err := s.Begin(of.Tree(), of.Size())
	must(t, f, err)
	return &gives{file: f}
}

// startGiving is start with programs.
func startGiving(t testing.TB, w *transporttest.World, signer journal.Signer, store transport.Store, g p2p.Programs, turn ...func(*p2p.Options)) *p2p.Node {
	t.Helper()
	o := p2p.Options{Signer: signer, Fleet: w.Fleet, Store: store, KeepAlive: time.Second, Programs: g, Listen: []string{tcpAddr}}
	for _, f := range turn {
		f(&o)
	}
	n := startWith(t, o)
	if store != nil {
		grant, _ := w.Fleet().Member(signer.ID())
		grant.Addrs = n.Addrs()
		w.Grant(t, grant)
	}
	ok(t, n.Bootstrap(t.Context()))
	return n
}

func fetchAll(ctx context.Context, n *p2p.Node, g *gives) (*swarm.Fetcher, error) {
	f := swarm.New(g.file, swarm.Options{Self: n.ID(), Find: n.ProgramPeers(g.file.Tree()).Find, Look: 200 * time.Millisecond})
	g.mu.Lock()
	g.fetcher = f
	g.mu.Unlock()
	return f, f.Run(ctx)
}

// label gives members of w a site.
func label(t testing.TB, w *transporttest.World, id edge.ID, site string) {
	t.Helper()
	g, _ := w.Fleet().Member(id)
	g.Labels = []string{"site=" + site}
	w.Grant(t, g)
}

// TestProgram_FromLaptopToHubsToDevices is the way of a release: an operator's machine that hubs cannot dial offers it, the hubs share it among themselves, devices of
// one site find each other through the hubs and take it about once from outside.
func TestProgram_FromLaptopToHubsToDevices(t *testing.T) {
	const devices = 5
	w := transporttest.NewWorld(t, 2, devices)
	of := release(t, 24)
	for _, d := range w.Devices {
		label(t, w, d.ID(), "lab")
	}
	for _, h := range w.Hubs {
		label(t, w, h.ID(), "cellar")
	}
	hubs := []*gives{empty(t, of), empty(t, of)}
	nodes := []*p2p.Node{}
	for i, g := range hubs {
		nodes = append(nodes, startGiving(t, w, w.Hubs[i], transporttest.NewStore(w.Fleet, 0), g))
	}
	origin := &gives{file: of}
	laptop := startGiving(t, w, w.Reader, nil, origin, func(o *p2p.Options) { o.Listen = nil })
	for _, h := range w.Hubs {
		have, err := laptop.OfferProgram(deadline(t), h.ID(), of.Tree())
		if err != nil || slices.Max(have) != 0 {
			t.Fatalf("offering: %x, %v", have, err)
		}
	}
	var running sync.WaitGroup
	var mu sync.Mutex
	var far, near int64
	fetch := func(n *p2p.Node, g *gives) {
		f, err := fetchAll(deadline(t), n, g)
		if err != nil {
			t.Errorf("%s: %v", n.ID().Short(), err)
		}
		s := f.Stats()
		mu.Lock()
		defer mu.Unlock()
		far, near = far+s.Far, near+s.Near
	}
	for i, g := range hubs {
		running.Go(func() { fetch(nodes[i], g) })
	}
	running.Wait()
	t.Logf("from the laptop to two hubs: %.2f sizes, between them %.2f", float64(far)/float64(of.Size()), float64(near)/float64(of.Size()))
	if far > of.Size()*13/10 {
		t.Errorf("the laptop gave %d bytes of a program of %d", far, of.Size())
	}
	if have, err := laptop.OfferProgram(deadline(t), w.Hubs[0].ID(), of.Tree()); err != nil || len(have) != 3 || slices.Min(have) != 0xff {
		t.Errorf("the hub says it has %x, %v", have, err)
	}
	far, near = 0, 0
	for i := range devices {
		g := empty(t, of)
		n := startGiving(t, w, w.Devices[i], nil, g, func(o *p2p.Options) { o.Reachable = true })
		running.Go(func() { fetch(n, g) })
	}
	running.Wait()
	t.Logf("from the hubs to %d devices: %.2f sizes, between them %.2f", devices, float64(far)/float64(of.Size()), float64(near)/float64(of.Size()))
	if far > of.Size()*13/10 {
		t.Errorf("the hubs gave %d bytes of a program of %d", far, of.Size())
	}
}

// TestProgram_OnlyHubHearsOfWhoAskedIt: there is no other hub that could tell it.
func TestProgram_OnlyHubHearsOfWhoAskedIt(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	of := release(t, 3)
	g := empty(t, of)
	hub := startGiving(t, w, w.Hubs[0], transporttest.NewStore(w.Fleet, 0), g)
	laptop := startGiving(t, w, w.Reader, nil, &gives{file: of}, func(o *p2p.Options) { o.Listen = nil })
	_, err := laptop.OfferProgram(deadline(t), hub.ID(), of.Tree())
	ok(t, err)
	if _, err := fetchAll(deadline(t), hub, g); err != nil {
		t.Error(err)
	}
}

// TestProgram_MembersOnly: a stranger gets nothing, and nobody whose grant has ended.
func TestProgram_MembersOnly(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	of := release(t, 2)
	hub := startGiving(t, w, w.Hubs[0], transporttest.NewStore(w.Fleet, 0), &gives{file: of})
	device := startGiving(t, w, w.Devices[0], nil, empty(t, of))
	if have, err := device.OfferProgram(deadline(t), hub.ID(), of.Tree()); err != nil || len(have) != 1 {
		t.Fatalf("as a member: %x, %v", have, err)
	}
	before := w.Fleet()
	w.Revoke(t, device.ID())
	hub.FleetChanged()
	if _, err := device.OfferProgram(deadline(t), hub.ID(), of.Tree()); err == nil {
		t.Error("who was revoked got an answer")
	}
	stranger := startWith(t, p2p.Options{Signer: transporttest.NewKey(t), Fleet: fixed(before), Programs: empty(t, of)})
	if _, err := stranger.OfferProgram(deadline(t), hub.ID(), of.Tree()); err == nil {
		t.Error("a stranger got an answer")
	}
}

// TestUpdate_BadPeer_OverTheNetwork: a member whose disk or will is bad is put out, and the rest comes from the other.
func TestUpdate_BadPeer_OverTheNetwork(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	of := release(t, 12)
	bad := &gives{file: of, spoil: true}
	startGiving(t, w, w.Hubs[0], transporttest.NewStore(w.Fleet, 0), bad)
	startGiving(t, w, w.Hubs[1], transporttest.NewStore(w.Fleet, 0), &gives{file: of})
	g := empty(t, of)
	f, err := fetchAll(deadline(t), startGiving(t, w, w.Devices[0], nil, g), g)
	if err != nil || !slices.Equal(f.Stats().Liars, []edge.ID{w.Hubs[0].ID()}) {
		t.Errorf("liars %v, %v", f.Stats().Liars, err)
	}
	a, err := os.ReadFile(of.Path())
	b, err2 := os.ReadFile(g.file.Path())
	if errors.Join(err, err2) != nil || !bytes.Equal(a, b) {
		t.Errorf("the program differs: %v", errors.Join(err, err2))
	}
}

// updater grants a key the right to update a channel.
func updater(t testing.TB, w *transporttest.World, channel string) journal.SoftKey {
	t.Helper()
	key := transporttest.NewKey(t)
	w.Grant(t, fleet.Grant{Member: key.ID(), Name: "operator", Roles: fleet.Collector,
		Rights: []fleet.Right{{Do: fleet.Update, On: []string{"*"}, What: []string{channel}}}, Reader: w.Recovery.Public()})
	return key
}

func signed(t testing.TB, w *transporttest.World, key journal.SoftKey, name string, version uint64, body string) []byte {
	t.Helper()
	raw, err := records.Sign(key, w.Fleet().ID(), name, version, []byte(body))
	return must(t, raw, err)
}

// TestRecords_SurviveTheHubsAndTellMembers: a record goes to the hubs, members that are connected hear of it, a hub that was off and one that begins anew from its disk
// have it again, and older ones and those of others are refused.
func TestRecords_SurviveTheHubsAndTellMembers(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	op := updater(t, w, "stable")
	dir := t.TempDir()
	shelf := func(i int) func(*p2p.Options) {
		return func(o *p2p.Options) {
			s, err := records.OpenShelf(filepath.Join(dir, fmt.Sprint(i)), w.Fleet)
			o.Records = must(t, s, err)
		}
	}
	hub := startGiving(t, w, w.Hubs[0], transporttest.NewStore(w.Fleet, 0), nil, shelf(0))
	news := make(chan string, 9)
	device := startGiving(t, w, w.Devices[0], nil, nil, func(o *p2p.Options) { o.News = func(k string) { news <- k } })
	laptop := startGiving(t, w, op, nil, nil)
	key := records.Key(records.Rollout, "stable")
	if _, err := device.Record(deadline(t), key); !errors.Is(err, records.ErrNone) {
		t.Fatalf("before: %v", err)
	}
	one, two := signed(t, w, op, key, 1, "one"), signed(t, w, op, key, 2, "two")
	ok(t, laptop.PutRecord(deadline(t), key, two))
	select {
	case k := <-news:
		if k != key {
			t.Errorf("news of %s", k)
		}
	case <-time.After(transporttest.Limit):
		t.Error("the device was not told")
	}
	r, err := device.Record(deadline(t), key)
	if err != nil || string(r.Body) != "two" || r.Signer != op.ID() {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := laptop.PutRecord(deadline(t), key, one); err == nil {
		if r, err := device.Record(deadline(t), key); err != nil || r.Version != 2 {
			t.Errorf("after an older one: version %d, %v", r.Version, err)
		}
	}
	other := startGiving(t, w, w.Hubs[1], transporttest.NewStore(w.Fleet, 0), nil, shelf(1)) // it was off
	transporttest.WaitFor(t, "the other hub to hear", func() (bool, string) {
		found := 0
		err := other.RecordsOf(t.Context(), other.ID(), records.Rollout, func(records.Record) { found++ })
		return found == 1, errText(err)
	})
	ok(t, hub.Close())
	ok(t, other.Close())
	again := startGiving(t, w, w.Hubs[0], transporttest.NewStore(w.Fleet, 0), nil, shelf(0)) // from its disk
	fresh := startGiving(t, w, transporttestMember(t, w), nil, nil)
	transporttest.WaitFor(t, "the record", func() (bool, string) {
		r, err := fresh.Record(t.Context(), key)
		return err == nil && r.Version == 2, errText(err)
	})
	if err := again.PutRecord(deadline(t), key, signed(t, w, w.Devices[0], key, 9, "nine")); !errors.Is(err, fleet.ErrNotAllowed) {
		t.Errorf("of a member without the right: %v", err)
	}
}

func transporttestMember(t testing.TB, w *transporttest.World) journal.SoftKey {
	t.Helper()
	key := transporttest.NewKey(t)
	w.Grant(t, fleet.Grant{Member: key.ID(), Name: "late", Roles: fleet.Device})
	return key
}

// TestRecords_MeteredAsksOneHub: no look-up, one hub, which passes on what the device says of itself.
func TestRecords_MeteredAsksOneHub(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	op := updater(t, w, "stable")
	for i := range w.Hubs {
		startGiving(t, w, w.Hubs[i], transporttest.NewStore(w.Fleet, 0), nil)
	}
	key := records.Key(records.Metadata, "timestamp.json")
	reader := startGiving(t, w, op, nil, nil)
	ok(t, reader.PutRecord(deadline(t), key, signed(t, w, op, key, 3, "{}")))
	device := startGiving(t, w, w.Devices[0], nil, nil, func(o *p2p.Options) { o.Metered, o.Listen = true, nil })
	r, err := device.Record(deadline(t), key)
	if err != nil || r.Version != 3 || len(device.Peers()) != 1 {
		t.Errorf("version %d over %d connections: %v", r.Version, len(device.Peers()), err)
	}
	own := records.Key(records.Progress, device.ID().String())
	ok(t, device.PutRecord(deadline(t), own, signed(t, w, w.Devices[0], own, 4, "four")))
	if n := len(device.Peers()); n != 1 {
		t.Errorf("a record was put over %d connections", n)
	}
	transporttest.WaitFor(t, "the record at who asks another hub", func() (bool, string) {
		r, err := reader.Record(t.Context(), own)
		return err == nil && r.Version == 4, errText(err)
	})
}
