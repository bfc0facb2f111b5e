// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/test/swarm"
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
			o := crewOf(tr, s).fromHub(tr, filepath.Join(folder, "store"), notes)
			sum.next(o)
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
			o := crewOf(tr, s).fromDevice(tr, filepath.Join(folder, "outbox"), notes)
			sum.next(o)
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

// requireIncarnations wants new chains in each life of the device: no incarnation outlives a power cut. A life may be too short for all streams.
func requireIncarnations(tr *trial, s *swarm.Swarm, lives int) {
	tr.Helper()
	all, of := map[string]bool{}, map[string]int{}
	for _, n := range s.Receipts() {
		if !all[n.Chain] {
			all[n.Chain] = true
			of[strings.Split(n.Chain, "/")[1]]++
		}
	}
	for stream, n := range of {
		if n > lives || len(all) < lives {
			tr.Errorf("after %d power cuts stream %s has %d incarnations, all streams %d", lives, stream, n, len(all))
		}
	}
}

// TestPowerCutSectors is both trials on a disk of our own making that reorders and tears more than ext4 does, without root: in this process, many
// more images, each of a hub's or a device's log under full load.
func TestPowerCutSectors(t *testing.T) {
	tr := begin(t, "power cut of hub and device, unsynced sectors at random", 20, 1000)
	tr.main = sectors(tr, tr.rounds, false)
	tr.controlled = "fsync does nothing"
	tr.control = sectors(tr, 2, true)
	tr.end()
}

func sectors(tr *trial, rounds int, lax bool) (sum outcome) {
	tr.Helper()
	for left := rounds; left > 0; left -= 50 { // a new fleet now and then: an image costs as much as is on it
		o := sectorsOf(tr, min(left, 50), lax)
		sum.add(o)
	}
	return sum
}

// sectorsOf cuts the power of the one hub that is up and of the device in turn; the other one of its two hubs is down, so neither has help.
func sectorsOf(tr *trial, rounds int, lax bool) (sum outcome) {
	tr.Helper()
	disk, dir := newBlocks(lax), tr.TempDir()
	l := newLab(tr.T, plan{hubs: 2, devices: 1, wrap: disk.wrap, disk: func(i int) (string, func(wal.File) wal.File) {
		return filepath.Join(dir, fmt.Sprint("hub", i)), disk.wrap
	}})
	l.kill(l.hub[1])
	d := l.newDevice(0, byTheBook)
	c := crew{fleet: l.world.Fleet, hub: l.hub[0].key.ID(), reader: l.world.Reader.ID(), key: l.world.Recovery, device: d.key}
	for round := range rounds {
		d.seal(5)
		d.awaitPublished()
		d.seal(5) // some of these are under way
		time.Sleep(tr.some(10 * time.Millisecond))
		image := filepath.Join(dir, "image")
		var notes []agent.ReceiptNote
		from, judge := l.hub[0].dir, c.fromHub
		if round%2 == 1 {
			from, judge = filepath.Join(d.dir, "outbox"), c.fromDevice
		}
		disk.cut(tr, tr.rng, from, image, func() { notes = d.receipts() })
		o := judge(tr, image, notes)
		sum.next(o)
		check(tr, os.RemoveAll(image))
	}
	d.gone()
	return sum
}
