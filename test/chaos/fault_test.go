// SPDX-License-Identifier: Apache-2.0

package chaos_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/test/swarm"
	"github.com/streembit/edge/transport"
)

// badDisk loses what is written while it is ill, as Linux does whose write-back failed: the pages are clean and never reached the disk, where zeros
// stand in their place. Only the fsync tells, once; a hushed one does not.
type badDisk struct {
	ill  atomic.Bool
	hush bool
	told atomic.Int64 // fsyncs that failed
}

type badFile struct {
	wal.File
	disk *badDisk
	lost *atomic.Bool // something of this file since its last fsync
}

func (d *badDisk) wrap(f wal.File) wal.File { return badFile{f, d, &atomic.Bool{}} }

func (f badFile) WriteAt(b []byte, off int64) (int, error) {
	if f.disk.ill.Load() {
		f.lost.Store(true)
		return f.File.WriteAt(make([]byte, len(b)), off)
	}
	return f.File.WriteAt(b, off)
}

func (f badFile) Sync() error {
	if f.lost.Swap(false) && !f.disk.hush {
		f.disk.told.Add(1)
		return syscall.EIO
	}
	return nil // these trials cut no power
}

// TestBadDisk has the disks of the only hub and of the device fail at random moments. Nothing that was lost may count; status must say what is wrong;
// and it must go on by itself.
func TestBadDisk(t *testing.T) {
	tr := begin(t, "EIO at fsync, of the only hub and of the device", 4, 60)
	tr.main = illness(tr, tr.rounds, false)
	tr.controlled = "the error is ignored"
	tr.control = illness(tr, 2, true)
	tr.end()
}

func illness(tr *trial, rounds int, hush bool) outcome {
	tr.Helper()
	hubs, devices := &badDisk{hush: hush}, &badDisk{} // a device that ignores it would not find what it wants to publish
	dir := tr.TempDir()
	l := newLab(tr.T, plan{hubs: 1, devices: 1, wrap: devices.wrap, disk: func(int) (string, func(wal.File) wal.File) { return filepath.Join(dir, "hub"), hubs.wrap }})
	d := l.newDevice(0, byTheBook)
	for round := range rounds {
		d.seal(20)
		if disk := []*badDisk{hubs, devices}[round%2]; disk == hubs {
			disk.ill.Store(true)
			d.seal(20)
			if !hush {
				awaitStatus(tr, "the device's status to say that the hub's disk failed", func() string { return d.agent.Status().Error }, "disk failed")
			} else {
				d.awaitPublished()
			}
			time.Sleep(tr.some(50 * time.Millisecond))
			disk.ill.Store(false)
		} else {
			disk.ill.Store(true)
			d.trySeal(3)
			awaitStatus(tr, "the device's status to say that its disk failed", func() string { return d.agent.Status().Outbox.Error }, "input/output error")
			disk.ill.Store(false)
		}
		d.reseal(20)
		d.awaitPublished()
	}
	if n := hubs.told.Load() + devices.told.Load(); n == 0 {
		tr.Error("no fsync failed")
	}
	if st := l.hub[0].store.Stats(); !hush && (st.Damaged > 0 || st.Refused[transport.RefusedFork] > 0) {
		tr.Errorf("the hub's store: %+v", st)
	}
	if st := d.box.Status(); st.Failed != "" || st.GivenUp > 0 {
		tr.Errorf("the device's outbox: %+v", st)
	}
	d.gone()
	o, r := l.pull(d)
	if !hush && (r.Missing > 0 || r.BadCount > 0) {
		tr.Errorf("the collector: %s", r)
	}
	return o
}

// awaitStatus waits until a text of somebody's status holds another.
func awaitStatus(t testing.TB, what string, status func() string, want string) {
	t.Helper()
	swarm.WaitFor(t, what, func() error {
		if text := status(); !strings.Contains(text, want) {
			return fmt.Errorf("it says %q", text)
		}
		return nil
	})
}
