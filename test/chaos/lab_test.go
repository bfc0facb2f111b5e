// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/mem"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

// node is one member's end of the network; *mem.Node and *p2p.Node are some.
type node interface {
	transport.Putter
	collector.Source
	collector.HeadSource
	collector.FollowSource
	agent.Heads
	Close() error
}

// lab is a fleet in this process: devices with their real outboxes and agents, hubs with their real stores, on a network in memory or real
// libp2p hosts on loopback.
type lab struct {
	*testing.T
	plan
	world *transporttest.World
	dir   string
	net   *mem.Network // nil: libp2p
	hub   []*hub
}

// hub is an enrolled hub. Its disk outlives its node.
type hub struct {
	key   journal.SoftKey
	dir   string
	wrap  func(wal.File) wal.File
	store *store.Store
	node  node // nil while it is down
}

// plan says what a lab is made of. Zero values: a network in memory, honest hubs, disks in a temporary folder that work and do not sync.
type plan struct {
	hubs, devices int
	real          bool                                                   // libp2p hosts on loopback
	bad           func(i int, s transport.Store) transport.Store         // stands between the network and a hub's store
	disk          func(i int) (dir string, wrap func(wal.File) wal.File) // of a hub
	wrap          func(wal.File) wal.File                                // of the devices' disks
}

// newLab founds a fleet and starts its hubs.
func newLab(t *testing.T, p plan) *lab {
	t.Helper()
	l := &lab{T: t, plan: p, world: transporttest.NewWorld(t, p.hubs, p.devices), dir: t.TempDir()}
	if !p.real {
		l.net = mem.NewNetwork(l.world.Fleet)
	}
	var grants []fleet.Grant
	for i, key := range l.world.Hubs {
		h := &hub{key: key, dir: filepath.Join(l.dir, fmt.Sprintf("hub%d", i)), wrap: unsynced}
		if p.disk != nil {
			h.dir, h.wrap = p.disk(i)
		}
		h.store = l.openStore(h)
		l.hub = append(l.hub, h)
		var s transport.Store = h.store
		if p.bad != nil {
			s = p.bad(i, s)
		}
		h.node = l.join(key, s)
		if n, ok := h.node.(*p2p.Node); ok {
			g, _ := l.world.Fleet().Member(key.ID())
			g.Addrs = n.Addrs()
			grants = append(grants, g)
		}
	}
	if len(grants) > 0 {
		l.world.Grant(t, grants...)
	}
	t.Cleanup(func() {
		for _, h := range l.hub {
			l.kill(h)
			check(t, h.store.Close())
		}
	})
	return l
}

// openStore opens a hub's disk.
func (l *lab) openStore(h *hub) *store.Store {
	l.Helper()
	s, err := store.Open(l.Context(), h.dir, store.Options{Fleet: l.world.Fleet, Self: h.key.ID(), Wrap: h.wrap})
	check(l, err)
	return s
}

// unsynced is a disk whose fsync does nothing: for trials in which a hub either goes on or never comes back, and for controls.
func unsynced(f wal.File) wal.File { return noSync{f} }

type noSync struct{ wal.File }

func (noSync) Sync() error { return nil }

// join brings a member onto the network.
func (l *lab) join(key journal.SoftKey, s transport.Store) node {
	l.Helper()
	if l.net != nil {
		return l.net.Join(key.ID(), s)
	}
	o := p2p.Options{Signer: key, Fleet: l.world.Fleet, Store: s, Version: "chaos", Logger: slog.New(slog.DiscardHandler)}
	if s != nil {
		o.Listen = []string{"/ip4/127.0.0.1/tcp/0"}
	}
	n, err := p2p.New(l.Context(), o)
	check(l, err)
	return n
}

// kill takes a hub off the network for good or until revive; its disk stays.
func (l *lab) kill(h *hub) {
	if h.node != nil {
		_ = h.node.Close()
		h.node = nil
	}
}

// empty takes a hub's disk away and gives it a new one. It must be down.
func (l *lab) empty(h *hub) {
	l.Helper()
	check(l, errors.Join(h.store.Close(), os.RemoveAll(h.dir)))
	h.store = l.openStore(h)
}

// revive brings a hub back. Only on a network in memory: elsewhere its address would change.
func (l *lab) revive(h *hub) { h.node = l.join(h.key, h.store) }

// holders counts the enrolled hubs that hold a segment, whether they are up or not.
func (l *lab) holders(c journal.Chain, seq uint64) (n int) {
	l.Helper()
	for _, h := range l.hub {
		err := h.store.Fetch(l.Context(), c, transport.Span{First: seq, Last: seq}, func([]byte) error { n++; return nil })
		check(l, err)
	}
	return n
}

// pull has a collector that has seen nothing yet pull everything into a database of its own, and compares.
func (l *lab) pull(devices ...*device) (outcome, collector.Report) {
	l.Helper()
	path := filepath.Join(l.dir, fmt.Sprintf("readings-%d.db", time.Now().UnixNano()))
	n := l.join(l.world.Reader, nil)
	defer n.Close()
	r := l.pullFrom(n, path)
	var notes []agent.ReceiptNote
	for _, d := range devices {
		notes = append(notes, d.receipts()...)
	}
	return compare(l, notes, path), r
}

func (l *lab) pullFrom(src collector.Source, path string) collector.Report {
	l.Helper()
	r, err := l.tryPull(src, path)
	if err != nil {
		l.Fatalf("pulling: %v\n%s", err, r)
	}
	return r
}

func (l *lab) tryPull(src collector.Source, path string) (collector.Report, error) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), 5*time.Minute)
	defer cancel()
	sink, err := sqlite.Open(ctx, path)
	check(l, err)
	defer sink.Close()
	c, err := collector.New(collector.Config{Source: src, Sink: sink, Fleet: l.world.Fleet, Key: l.world.Recovery, Reader: l.world.Reader.ID()})
	check(l, err)
	return c.Pull(ctx)
}

// device is a device whose readings are handed to its outbox by the test; the rest is the real agent.
type device struct {
	*testing.T
	lab   *lab
	key   journal.SoftKey
	dir   string
	box   *outbox.Outbox
	agent *agent.Agent
	node  node
	count int // readings sealed
	mono  int64
	end   func()
}

// quorum changes how a device counts: the controls'.
type quorum func(d *device, p agent.Publisher) agent.Publisher

// byTheBook is the real one.
func byTheBook(_ *device, p agent.Publisher) agent.Publisher { return p }

// newDevice starts device i.
func (l *lab) newDevice(i int, q quorum) *device {
	l.Helper()
	d := &device{T: l.T, lab: l, key: l.world.Devices[i], dir: filepath.Join(l.dir, fmt.Sprintf("device%d", i))}
	check(l, os.MkdirAll(d.dir, 0o700))
	log := slog.New(slog.DiscardHandler)
	wrap := l.wrap
	if wrap == nil {
		wrap = unsynced
	}
	var rec outbox.Recovery
	var err error
	d.box, rec, err = outbox.Open(l.Context(), outbox.Options{Dir: filepath.Join(d.dir, "outbox"), Fleet: l.world.Fleet().ID(), Signer: d.key, Wrap: wrap})
	check(l, err)
	d.node = l.join(d.key, nil)
	p := transport.NewPublisher(d.node, l.world.Fleet)
	hubs := agent.NewHubs(log)
	p.Observe(hubs.Answered)
	notes, err := agent.OpenReceipts(d.receiptsPath())
	check(l, err)
	d.agent, err = agent.New(agent.Config{Clock: agent.NewClock(0, time.Now(), func() bool { return true }, time.Time{}), Outbox: d.box, Unsealed: rec.Spooled,
		Publisher: q(d, p), Heads: d.node, Hubs: hubs, Receipts: notes, Logger: log})
	check(l, err)
	readers, err := l.world.Fleet().Readers(d.key.ID(), "main")
	check(l, err)
	_, err = d.box.StartEpoch(l.Context(), "main", readers, journal.Stamp{At: edge.Instant{Mono: 1}})
	check(l, err)
	d.run(p, notes)
	return d
}

// run starts the agent; d.end stops it and closes everything, once.
func (d *device) run(p *transport.Publisher, notes *agent.Receipts) {
	ctx, cancel := context.WithCancel(context.Background())
	var tasks sync.WaitGroup
	tasks.Go(func() {
		if err := d.agent.Run(ctx); err != nil {
			d.Errorf("agent: %v", err)
		}
	})
	d.end = sync.OnceFunc(func() {
		cancel()
		_ = d.node.Close() // what is on its way to a hub ends with it
		tasks.Wait()
		p.Close()
		if err := errors.Join(d.box.Close(), notes.Close()); err != nil {
			d.Error(err)
		}
	})
	d.Cleanup(d.end)
}

func (d *device) receiptsPath() string { return d.dir + ".receipts" }

func (d *device) receipts() []agent.ReceiptNote { return swarm.ReadReceipts(d, d.receiptsPath()) }

// gone ends a device and deletes its folder.
func (d *device) gone() {
	d.Helper()
	d.end()
	check(d, os.RemoveAll(d.dir))
}

// batch makes ten readings, no two of them alike.
func (d *device) batch() []edge.Reading {
	batch := make([]edge.Reading, 0, 10)
	for range cap(batch) {
		d.mono++
		batch = append(batch, edge.Reading{Sensor: "bme280-0", At: edge.Instant{Mono: d.mono},
			Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: float64(d.mono)}})
	}
	return batch
}

// seal makes so many segments.
func (d *device) seal(segments int) {
	d.Helper()
	for range segments {
		batch := d.batch()
		_, err := d.box.Seal(d.Context(), "main", journal.BootID{1}, batch)
		check(d, err)
		d.count += len(batch)
	}
}

// trySeal wants none of so many segments to be sealed.
func (d *device) trySeal(segments int) {
	d.Helper()
	for range segments {
		if _, err := d.box.Seal(d.Context(), "main", journal.BootID{1}, d.batch()); err == nil {
			d.Error("a segment was sealed on a disk that failed")
		}
	}
}

// reseal is seal on a disk that failed until now: it is opened again after a pause.
func (d *device) reseal(segments int) {
	d.Helper()
	swarm.WaitFor(d, "the device's disk to be used again", func() error {
		batch := d.batch()
		_, err := d.box.Seal(d.Context(), "main", journal.BootID{1}, batch)
		if errors.Is(err, outbox.ErrNoEpoch) {
			return d.epoch()
		}
		if err == nil {
			d.count += len(batch)
		}
		return err
	})
	d.seal(segments - 1)
}

func (d *device) epoch() error {
	readers, err := d.lab.world.Fleet().Readers(d.key.ID(), "main")
	check(d, err)
	_, err = d.box.StartEpoch(d.Context(), "main", readers, journal.Stamp{At: edge.Instant{Mono: 1}})
	if err == nil {
		err = errors.New("an epoch was started")
	}
	return err
}

// awaitPublished waits until all that was sealed is published, as long as something is.
func (d *device) awaitPublished() {
	d.Helper()
	awaitProgress(d, "the outbox to be published", func() (left int, text string) {
		n := readingsOf(d, d.receipts())
		return d.count - n, fmt.Sprintf("%d of %d readings, %s", n, d.count, d.agent.Status().Error)
	})
}

// awaitProgress waits until nothing is left; on a busy machine it may take as long as it likes, but it must not stand still for a minute.
func awaitProgress(t testing.TB, what string, look func() (left int, text string)) {
	t.Helper()
	least, deadline := math.MaxInt, time.Now().Add(time.Minute)
	for {
		left, text := look()
		switch {
		case left <= 0:
			return
		case left < least:
			least, deadline = left, time.Now().Add(time.Minute)
		case time.Now().After(deadline):
			t.Fatalf("waiting for %s: %s", what, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// firstAnswers is the control's quorum: a segment counts as published whoever has it.
type firstAnswers struct{ agent.Publisher }

func anyHub(_ *device, p agent.Publisher) agent.Publisher { return firstAnswers{p} }

func oneHub(d *device, p agent.Publisher) agent.Publisher {
	return oneCopy{Publisher: p, put: d.node.Put, fleet: d.lab.world.Fleet}
}

// Publish implements agent.Publisher.
func (f firstAnswers) Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (transport.Receipt, error) {
	r, err := f.Publisher.Publish(ctx, seg, acked)
	return trust(r, err)
}

// Count implements agent.Publisher.
func (f firstAnswers) Count(c journal.Chain, seq uint64, acked []edge.ID) transport.Receipt {
	r, _ := trust(f.Publisher.Count(c, seq, acked), nil)
	return r
}

// oneCopy is the control's device that puts each segment on the hub closest to its bucket, and counts that as published.
type oneCopy struct {
	agent.Publisher
	put   func(ctx context.Context, hub edge.ID, segment []byte) error
	fleet func() *fleet.Fleet
}

// Publish implements agent.Publisher.
func (o oneCopy) Publish(ctx context.Context, seg *journal.Segment, acked []edge.ID) (transport.Receipt, error) {
	r := o.Count(seg.Chain, seg.Seq, acked)
	if r.Published() {
		return r, nil
	}
	if err := o.put(ctx, r.Targets[0].Member, seg.Bytes()); err != nil {
		return r, err
	}
	r.Acked = []edge.ID{r.Targets[0].Member}
	return r, nil
}

// Count implements agent.Publisher.
func (o oneCopy) Count(c journal.Chain, seq uint64, acked []edge.ID) transport.Receipt {
	var ids []edge.ID
	for _, g := range o.fleet().Hubs() {
		ids = append(ids, g.Member)
	}
	first := transport.Place(c.Bucket(seq).Key(), ids)[0]
	g, _ := o.fleet().Member(first)
	r := transport.Receipt{Targets: []fleet.Grant{g}}
	if slices.Contains(acked, first) {
		r.Acked = []edge.ID{first}
	}
	return r
}

// trust leaves in a receipt only the hubs that acknowledged.
func trust(r transport.Receipt, err error) (transport.Receipt, error) {
	if len(r.Acked) == 0 {
		return r, err
	}
	var have []fleet.Grant
	for _, g := range r.Targets {
		for _, id := range r.Acked {
			if id == g.Member {
				have = append(have, g)
			}
		}
	}
	return transport.Receipt{Targets: have, Acked: r.Acked}, nil
}
