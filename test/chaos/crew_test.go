// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
	"github.com/streembit/edge/collector"
	"github.com/streembit/edge/collector/sqlite"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/mem"
	"github.com/streembit/edge/transport/store"
)

// crew is whom it takes to read what is on a disk after a power cut.
type crew struct {
	fleet       func() *fleet.Fleet
	hub, reader edge.ID
	key         journal.ReaderKey // the reader's
	device      journal.SoftKey
}

func crewOf(tr *trial, s *swarm.Swarm) crew {
	tr.Helper()
	key, err := fleet.LoadOrCreateReaderKey(filepath.Join(s.Reader.State, "reader.pem"))
	check(tr, err)
	device, err := fleet.LoadOrCreateKey(filepath.Join(s.Device.State, "key.pem"))
	check(tr, err)
	if device.ID() != s.Device.ID {
		tr.Fatal("the device has another key")
	}
	return crew{fleet: func() *fleet.Fleet { return s.Fleet }, hub: s.Hubs[0].ID, reader: s.Reader.ID, key: key, device: device}
}

// fromHub compares what was published with what a collector gets of a hub's disk.
func (c crew) fromHub(tr *trial, dir string, notes []agent.ReceiptNote) outcome {
	tr.Helper()
	held, err := store.Open(tr.Context(), dir, store.Options{Fleet: c.fleet, Self: c.hub})
	check(tr, err)
	defer held.Close()
	net := mem.NewNetwork(c.fleet)
	net.Join(c.hub, held)
	defer net.Kill(c.hub)
	reader := net.Join(c.reader, nil)
	defer reader.Close()
	path := filepath.Join(tr.TempDir(), "image.db")
	sink, err := sqlite.Open(tr.Context(), path)
	check(tr, err)
	defer sink.Close()
	col, err := collector.New(collector.Config{Source: reader, Sink: sink, Fleet: c.fleet, Key: c.key, Reader: c.reader})
	check(tr, err)
	r, err := col.Pull(tr.Context())
	check(tr, err)
	if len(held.Forks(tr.Context())) > 0 || len(r.Forks) > 0 {
		tr.Errorf("FORK: the disk holds %d proofs of one, the collector saw %d", len(held.Forks(tr.Context())), len(r.Forks))
	}
	return compare(tr, notes, path)
}

// fromDevice compares what was published with what a hub that comes later gets out of a device's outbox, the other hubs being lost.
func (c crew) fromDevice(tr *trial, dir string, notes []agent.ReceiptNote) outcome {
	tr.Helper()
	box, rec, err := outbox.Open(tr.Context(), outbox.Options{Dir: dir, Fleet: c.fleet().ID(), Signer: c.device})
	check(tr, err)
	defer box.Close()
	if rec.Clean {
		tr.Error("the outbox calls itself properly closed after a power cut, and would go on with its incarnation")
	}
	to := filepath.Join(tr.TempDir(), "hub")
	late, err := store.Open(tr.Context(), to, store.Options{Fleet: c.fleet, Self: c.hub, Wrap: unsynced})
	check(tr, err)
	c.drain(tr, box, late)
	check(tr, late.Close())
	defer func() { check(tr, os.RemoveAll(to)) }()
	return c.fromHub(tr, to, notes)
}

// drain brings all that an outbox holds to a hub that has nothing.
func (c crew) drain(tr *trial, box *outbox.Outbox, to *store.Store) {
	tr.Helper()
	targets := []fleet.Grant{{Member: c.hub, Roles: fleet.Hub}}
	box.Recount(func(journal.Chain, uint64, []edge.ID) transport.Receipt { return transport.Receipt{Targets: targets} })
	for st := box.Status(); st.Pending > 0; st = box.Status() {
		ctx, cancel := context.WithTimeout(tr.Context(), time.Minute)
		items, err := box.Take(ctx, 256)
		cancel()
		if err != nil {
			tr.Fatalf("%d segments are not given out: %v", st.Pending, err)
		}
		for _, it := range items {
			err := errors.Join(to.Put(tr.Context(), it.Segment.Bytes()), box.Ack(it, transport.Receipt{Targets: targets, Acked: []edge.ID{c.hub}}))
			check(tr, err)
		}
	}
}
