// SPDX-License-Identifier: Apache-2.0

// Package transporttest is the contract that every transport keeps, as a test suite (Run), and what tests of
// transports need: a fleet (World), chains of segments (Chain) and a hub's disk in memory (Store).
package transporttest

import (
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
)

// World is a fleet for one test. Fleet and its fields may be read concurrently.
type World struct {
	Hubs     []journal.SoftKey // enrolled as "hub-0", "hub-1" …
	Devices  []journal.SoftKey // "device-0" …
	Reader   journal.SoftKey   // a collector, "reader"
	Recovery journal.ReaderKey // opens every epoch

	owner journal.SoftKey
	fleet atomic.Pointer[fleet.Fleet]
}

// NewKey makes a fresh identity.
func NewKey(t testing.TB) journal.SoftKey {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return journal.NewSoftKey(priv)
}

// NewWorld founds a fleet of so many hubs and devices, none with an address.
func NewWorld(t testing.TB, hubs, devices int) *World {
	t.Helper()
	w := &World{owner: NewKey(t), Reader: NewKey(t)}
	var err error
	if w.Recovery, err = journal.GenerateReaderKey(); err != nil {
		t.Fatal(err)
	}
	f, err := fleet.Found(fleet.Founding{Name: "test", Owner: w.owner, Spare: NewKey(t).ID(), Recovery: w.Recovery.Public()}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	w.fleet.Store(f)
	grants := []fleet.Grant{{Member: w.Reader.ID(), Name: "reader", Roles: fleet.Collector,
		Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"*"}}}, Reader: w.Recovery.Public()}}
	for i := range hubs {
		w.Hubs = append(w.Hubs, NewKey(t))
		grants = append(grants, fleet.Grant{Member: w.Hubs[i].ID(), Name: fmt.Sprintf("hub-%d", i), Roles: fleet.Hub})
	}
	for i := range devices {
		w.Devices = append(w.Devices, NewKey(t))
		grants = append(grants, fleet.Grant{Member: w.Devices[i].ID(), Name: fmt.Sprintf("device-%d", i), Roles: fleet.Device})
	}
	w.Grant(t, grants...)
	return w
}

// Fleet returns the fleet as it is now.
func (w *World) Fleet() *fleet.Fleet { return w.fleet.Load() }

// Fork returns the same fleet with a history of its own from here on, made with the same keys: what a thief of the owner's key has.
func (w *World) Fork(t testing.TB) *World {
	t.Helper()
	f := &World{Hubs: w.Hubs, Devices: w.Devices, Reader: w.Reader, Recovery: w.Recovery, owner: w.owner}
	f.fleet.Store(w.Fleet())
	return f
}

// Grant adds to the fleet's log; each is the newest word on its member, whatever its Serial. Not concurrently.
func (w *World) Grant(t testing.TB, grants ...fleet.Grant) {
	t.Helper()
	for i := range grants {
		grants[i].Serial = 0
	}
	f, err := w.Fleet().Grant(fleet.Author{Key: w.owner}, time.Now(), grants...)
	if err != nil {
		t.Fatal(err)
	}
	w.fleet.Store(f)
}

// Revoke takes everything from a member, its chains included but for those that end with the segments. Not concurrently.
func (w *World) Revoke(t testing.TB, member edge.ID, last ...*journal.Segment) {
	t.Helper()
	var cuts []fleet.Cut
	for _, s := range last {
		cuts = append(cuts, fleet.Cut{Stream: s.Chain.Stream, Incarnation: s.Chain.Incarnation, Seq: s.Seq, Hash: s.Hash})
	}
	f, err := w.Fleet().Revoke(fleet.Author{Key: w.owner}, time.Now(), member, cuts, "test")
	if err != nil {
		t.Fatal(err)
	}
	w.fleet.Store(f)
}

// Amend makes the next version of the fleet's state. Not concurrently.
func (w *World) Amend(t testing.TB, change func(*fleet.State)) {
	t.Helper()
	f, err := w.Fleet().Amend(w.owner, time.Now(), change)
	if err != nil {
		t.Fatal(err)
	}
	w.fleet.Store(f)
}

// Bootstrap returns the fleet as it would be if its state told these hubs, and no grant any address. The fleet itself
// does not change.
func (w *World) Bootstrap(t testing.TB, hubs ...fleet.Bootstrap) *fleet.Fleet {
	t.Helper()
	f, err := w.Fleet().Amend(w.owner, time.Now(), func(s *fleet.State) { s.Hubs = hubs })
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// HubIDs returns the identities of the hubs.
func (w *World) HubIDs() []edge.ID {
	var ids []edge.ID
	for _, h := range w.Hubs {
		ids = append(ids, h.ID())
	}
	return ids
}

// Chain is a chain as a device makes it.
type Chain struct {
	t      testing.TB
	w      *journal.Writer
	signer journal.Signer
	world  *World
	ticks  int64
	opened bool
}

// Chain begins a new incarnation of a stream of the signer's.
func (w *World) Chain(t testing.TB, signer journal.Signer, stream string) *Chain {
	t.Helper()
	jw, err := journal.NewWriter(w.Fleet().ID(), stream, signer)
	if err != nil {
		t.Fatal(err)
	}
	return &Chain{t: t, w: jw, signer: signer, world: w}
}

// Twin goes on with the chain from here as a copy of the device does that knows nothing of it: a fork.
func (c *Chain) Twin() *Chain {
	c.t.Helper()
	jw, err := journal.ResumeWriter(c.Name(), c.w.Tip(), c.signer)
	if err != nil {
		c.t.Fatal(err)
	}
	return &Chain{t: c.t, w: jw, signer: c.signer, world: c.world}
}

// Name returns the chain's name.
func (c *Chain) Name() journal.Chain { return c.w.Chain() }

// Next makes the next segment of so many readings; the first of a chain starts an epoch instead.
func (c *Chain) Next(readings int) *journal.Segment {
	c.t.Helper()
	seg, err := c.make(readings)
	if err == nil {
		err = c.w.Commit(seg)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return seg
}

func (c *Chain) make(readings int) (*journal.Segment, error) {
	if !c.opened {
		c.opened = true
		readers, err := c.world.Fleet().Readers(c.w.Chain().Device, c.w.Chain().Stream)
		if err != nil {
			return nil, err
		}
		return c.w.Epoch(readers, nil, journal.Stamp{At: edge.Instant{Mono: 1}})
	}
	batch := make([]edge.Reading, 0, readings)
	for range readings {
		c.ticks++
		batch = append(batch, edge.Reading{Sensor: "bme280-0", At: edge.Instant{Mono: c.ticks * 1000},
			Sample: edge.Sample{Quantity: edge.Quantity{Name: "temperature", Unit: "Cel"}, Value: float64(c.ticks%400) / 16}})
	}
	return c.w.Readings(journal.BootID{1}, batch)
}

// Many makes the next n segments of ten readings each.
func (c *Chain) Many(n int) []*journal.Segment {
	c.t.Helper()
	out := make([]*journal.Segment, 0, n)
	for range n {
		out = append(out, c.Next(10))
	}
	return out
}
