// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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

// TestPowerCutHub cuts the power of the only hub, so that no other copy can help: what it acknowledged must be on its disk each time. It goes on
// with the disk that the cut left.
func TestPowerCutHub(t *testing.T) {
	tr := begin(t, "power cut of the only hub (ext4 image)", 5, 100)
	tr.main = cutHub(tr, tr.rounds, false)
	tr.controlled = "fsync does nothing"
	tr.control = cutHub(tr, 1, true)
	tr.end()
}

func cutHub(tr *trial, rounds int, lax bool) (sum outcome) {
	s := swarm.New(tr, 1, fastStreams)
	d := move(tr, s.Hubs[0], lax)
	s.Start(s.Hubs...)
	s.Start(s.Device)
	for round := range rounds {
		awaitMore(tr, s)
		time.Sleep(tr.some(700 * time.Millisecond))
		image := cutNow(tr, s, s.Hubs[0], d)
		notes := s.Receipts() // after the hub's death: all that it ever acknowledged
		d.visit(image, func(folder string) {
			o := fromHub(tr, s, filepath.Join(folder, "store"), notes)
			sum.lost, sum.twice, sum.published, sum.received = sum.lost+o.lost, sum.twice+o.twice, o.published, o.received
		})
		if round < rounds-1 {
			d.swap()
			s.Start(s.Hubs[0])
		}
	}
	s.Kill(s.Device)
	return sum
}

// TestPowerCutDevice cuts the power of a device of which the only hub that is up has all, and loses that hub too: with two hubs, one copy and the
// device's own make a segment published, so each image of the device's disk must hold everything that it published. It goes on with the disk
// that the cut left, in a new incarnation each time.
func TestPowerCutDevice(t *testing.T) {
	tr := begin(t, "power cut of the device, its only hub lost (ext4 image)", 5, 100)
	tr.main = cutDevice(tr, tr.rounds, false)
	tr.controlled = "fsync does nothing"
	tr.control = cutDevice(tr, 1, true)
	tr.end()
}

func cutDevice(tr *trial, rounds int, lax bool) (sum outcome) {
	s := swarm.New(tr, 2, atFullRate) // the second hub never starts
	d := move(tr, s.Device, lax)
	s.Start(s.Hubs[0])
	s.Start(s.Device)
	for round := range rounds {
		awaitMore(tr, s)
		time.Sleep(tr.some(700 * time.Millisecond))
		image := cutNow(tr, s, s.Device, d)
		notes := s.Receipts()
		d.visit(image, func(folder string) {
			o := fromDevice(tr, s, filepath.Join(folder, "outbox"), notes)
			sum.lost, sum.twice, sum.published, sum.received = sum.lost+o.lost, sum.twice+o.twice, o.published, o.received
		})
		if round < rounds-1 {
			d.swap()
			s.Start(s.Device)
		}
	}
	if !lax {
		requireNoForks(tr, s, s.Hubs[0])
		requireIncarnations(tr, s, rounds)
	}
	s.Kill(s.Hubs[0])
	return sum
}

// move puts a member's state folder onto a disk of its own, where it may be lost.
func move(tr *trial, m *swarm.Member, lax bool) *disk {
	tr.Helper()
	d := newDisk(tr.T, 256, lax)
	check(tr, command("cp", "-a", m.State+"/.", d.folder()))
	d.settle()
	config, err := os.ReadFile(m.Config)
	check(tr, err)
	check(tr, os.WriteFile(m.Config, []byte(strings.Replace(string(config), m.State, d.folder(), 1)), 0o600))
	m.State = d.folder()
	return d
}

// cutNow ends a member as a power cut does, at this very moment, and returns the image of its disk.
func cutNow(tr *trial, s *swarm.Swarm, m *swarm.Member, d *disk) string {
	tr.Helper()
	s.Signal(m, syscall.SIGSTOP)
	awaitStopped(tr, m.PID())
	image := d.cut()
	s.Kill(m)
	return image
}

// awaitStopped waits until no thread of a process runs any more: none may acknowledge what came after the image.
func awaitStopped(tr *trial, pid int) {
	tr.Helper()
	swarm.WaitFor(tr, "the process to stop", func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			return fmt.Errorf("no threads: %w", err)
		}
		for _, path := range threads {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			if rest := text[bytes.LastIndexByte(text, ')')+1:]; !bytes.HasPrefix(rest, []byte(" T ")) {
				return fmt.Errorf("%s says%.3s", path, rest)
			}
		}
		return nil
	})
}

// fromHub compares what was published with what a collector gets of a hub's disk.
func fromHub(tr *trial, s *swarm.Swarm, dir string, notes []agent.ReceiptNote) outcome {
	tr.Helper()
	now := func() *fleet.Fleet { return s.Fleet }
	held, err := store.Open(tr.Context(), dir, store.Options{Fleet: now, Self: s.Hubs[0].ID})
	if errors.Is(err, os.ErrNotExist) {
		tr.Logf("the disk is bare: %v", err)
		return outcome{published: readingsOf(tr, notes), lost: readingsOf(tr, notes)}
	}
	check(tr, err)
	defer held.Close()
	net := mem.NewNetwork(now)
	net.Join(s.Hubs[0].ID, held)
	reader := net.Join(s.Reader.ID, nil)
	defer reader.Close()
	defer net.Kill(s.Hubs[0].ID)
	key, err := fleet.LoadOrCreateReaderKey(filepath.Join(s.Reader.State, "reader.pem"))
	check(tr, err)
	path := filepath.Join(tr.TempDir(), "image.db")
	sink, err := sqlite.Open(tr.Context(), path)
	check(tr, err)
	defer sink.Close()
	c, err := collector.New(collector.Config{Source: reader, Sink: sink, Fleet: now, Key: key, Reader: s.Reader.ID})
	check(tr, err)
	_, err = c.Pull(tr.Context())
	check(tr, err)
	if len(held.Forks(tr.Context())) > 0 {
		tr.Error("FORK: the disk holds a proof of one")
	}
	return compare(tr, notes, path)
}

// fromDevice compares what was published with what a hub that comes later gets out of a device's outbox.
func fromDevice(tr *trial, s *swarm.Swarm, dir string, notes []agent.ReceiptNote) outcome {
	tr.Helper()
	key, err := fleet.LoadOrCreateKey(filepath.Join(s.Device.State, "key.pem"))
	check(tr, err)
	if key.ID() != s.Device.ID {
		tr.Fatal("the device's key is another one")
	}
	box, rec, err := outbox.Open(tr.Context(), outbox.Options{Dir: dir, Fleet: s.Fleet.ID(), Signer: key})
	check(tr, err)
	defer box.Close()
	if rec.Clean || len(rec.Gaps) > 0 {
		tr.Errorf("after a power cut: clean %v, gaps %v", rec.Clean, rec.Gaps)
	}
	to := filepath.Join(tr.TempDir(), "hub")
	late, err := store.Open(tr.Context(), to, store.Options{Fleet: func() *fleet.Fleet { return s.Fleet }, Self: s.Hubs[0].ID, Wrap: unsynced})
	check(tr, err)
	empty(tr, box, s.Hubs[0].ID, late)
	check(tr, late.Close())
	return fromHub(tr, s, to, notes)
}

// empty brings all that an outbox holds to a hub that has nothing, the others being lost.
func empty(tr *trial, box *outbox.Outbox, hub edge.ID, to *store.Store) {
	tr.Helper()
	targets := []fleet.Grant{{Member: hub, Roles: fleet.Hub}}
	box.Recount(func(journal.Chain, uint64, []edge.ID) transport.Receipt { return transport.Receipt{Targets: targets} })
	for st := box.Status(); st.Pending > 0; st = box.Status() {
		ctx, cancel := context.WithTimeout(tr.Context(), time.Minute)
		items, err := box.Take(ctx, 256)
		cancel()
		if err != nil {
			tr.Fatalf("%d segments are not given out: %v", st.Pending, err)
		}
		for _, it := range items {
			check(tr, to.Put(tr.Context(), it.Segment.Bytes()))
			check(tr, box.Ack(it, transport.Receipt{Targets: targets, Acked: []edge.ID{hub}}))
		}
	}
}

// requireIncarnations wants a new chain of each stream for each life of the device: no incarnation outlives a power cut.
func requireIncarnations(tr *trial, s *swarm.Swarm, lives int) {
	tr.Helper()
	chains := map[string]int{}
	seen := map[string]bool{}
	for _, n := range s.Receipts() {
		if !seen[n.Chain] {
			seen[n.Chain] = true
			chains[strings.Split(n.Chain, "/")[1]]++
		}
	}
	for stream, n := range chains {
		if n < lives {
			tr.Errorf("stream %s has %d incarnations after %d power cuts", stream, n, lives)
		}
	}
}
