// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/test/swarm"
)

// TestDiskFull fills the real disk, a small tmpfs, of the only hub and of the device in turn, while they run. Status must say so, nothing that was
// published may be lost, and both go on as soon as there is room.
func TestDiskFull(t *testing.T) {
	tr := begin(t, "disk full, of the only hub and of the device (real tmpfs)", 2, 20)
	tr.main = fill(tr, tr.rounds)
	tr.controlled = "the error is ignored"
	tr.control = fillAnyway(tr)
	tr.end()
}

func fill(tr *trial, rounds int) outcome {
	tr.Helper()
	s := swarm.New(tr, 1, fastStreams)
	hub, device := s.Hubs[0], s.Device
	disks := map[*swarm.Member]string{hub: small(tr, hub), device: small(tr, device)}
	s.Start(hub)
	s.Start(device)
	for round := range rounds {
		awaitMore(tr, s)
		time.Sleep(tr.some(300 * time.Millisecond))
		m := []*swarm.Member{hub, device}[round%2]
		ballast := filepath.Join(disks[m], "ballast")
		fillUp(tr, ballast)
		if m == hub {
			awaitText(tr, s, device, "publishing fails:", "hub is full")
			awaitText(tr, s, hub, "× hub is full")
		} else {
			awaitText(tr, s, device, "ALARM: readings are not safe", "no space left on device")
		}
		check(tr, os.Remove(ballast))
		awaitMore(tr, s)
		awaitNo(tr, s, device, "publishing fails:", "readings are not safe")
	}
	s.Kill(device)
	notes := s.Receipts()
	requireNoForks(tr, s, hub)
	v, err := s.Status(hub)
	check(tr, err)
	if st := v["store"].(map[string]any); st["damaged"].(float64) != 0 || st["skipped"].(float64) != 0 {
		tr.Errorf("the hub's store: %v", st)
	}
	db := filepath.Join(s.Dir, "readings.db")
	s.CollectOnce(db)
	s.Kill(hub)
	return compare(tr, notes, db)
}

// small moves a member's state onto a tmpfs of its own.
func small(tr *trial, m *swarm.Member) string {
	tr.Helper()
	dir := tmpfs(tr.T, "size=8m")
	check(tr, command("cp", "-a", m.State+"/.", dir))
	config, err := os.ReadFile(m.Config)
	check(tr, err)
	check(tr, os.WriteFile(m.Config, []byte(strings.Replace(string(config), m.State, dir, 1)), 0o600))
	m.State = dir
	return dir
}

func tmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "mounting a small tmpfs needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		skip(t, "mounting a small tmpfs: "+err.Error())
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fillUp writes until the disk is full, again and again, so that what is dropped meanwhile gives no room either.
func fillUp(tr *trial, ballast string) {
	tr.Helper()
	f, err := os.Create(ballast)
	check(tr, err)
	defer f.Close()
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else {
			check(tr, err)
		}
	}
}

// awaitText waits until a person who asks for a member's status reads all of these.
func awaitText(tr *trial, s *swarm.Swarm, m *swarm.Member, want ...string) {
	tr.Helper()
	swarm.WaitFor(tr, fmt.Sprintf("status of %s to say %q", m.Name, want), func() error {
		text := statusText(s, m)
		for _, w := range want {
			if !strings.Contains(text, w) {
				return fmt.Errorf("it says\n%s", text)
			}
		}
		return nil
	})
}

func awaitNo(tr *trial, s *swarm.Swarm, m *swarm.Member, gone ...string) {
	tr.Helper()
	swarm.WaitFor(tr, fmt.Sprintf("status of %s to say %q no more", m.Name, gone), func() error {
		text := statusText(s, m)
		for _, w := range gone {
			if strings.Contains(text, w) {
				return fmt.Errorf("it says\n%s", text)
			}
		}
		return nil
	})
}

func statusText(s *swarm.Swarm, m *swarm.Member) string {
	stdout, stderr, _ := s.Run("streembitd", "status", "--state", m.State)
	return stdout + stderr
}

// careless writes on as if there were room.
type careless struct{ wal.File }

func (c careless) WriteAt(b []byte, off int64) (int, error) {
	n, err := c.File.WriteAt(b, off)
	if errors.Is(err, syscall.ENOSPC) {
		return len(b), nil
	}
	return n, err
}

// fillAnyway is the control: a hub that does not notice that its disk is full.
func fillAnyway(tr *trial) outcome {
	tr.Helper()
	dir := tmpfs(tr.T, "size=512k")
	l := newLab(tr.T, plan{hubs: 1, devices: 1, disk: func(int) (string, func(wal.File) wal.File) {
		return filepath.Join(dir, "hub"), func(f wal.File) wal.File { return careless{f} }
	}})
	d := l.newDevice(0, byTheBook)
	d.seal(1500)
	d.awaitPublished()
	d.gone()
	o, _ := l.pull(d)
	check(tr, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=8m")) // the store wants to be closed
	return o
}
