// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/agent"
	"github.com/streembit/edge/agent/outbox"
)

// skip skips the test, loudly, or fails it where all must run.
func skip(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal("not run: " + why)
	}
	t.Skip("SKIPPED: " + why)
}

// smallDisk is a file system of 4 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "mounting a small tmpfs needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		skip(t, "mounting a small tmpfs: "+err.Error())
	}
	t.Cleanup(func() { check(t, syscall.Unmount(dir, 0)) })
	return dir
}

// fill takes what is left of a file system.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	check(t, err)
	for block := make([]byte, 64<<10); len(block) > 0; {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else {
			check(t, err)
		}
	}
	check(t, f.Close())
}

// Something else fills the device's disk, with the hubs in reach and without: each reading is on a hub, waits, or is counted and told once the disk has
// room again, which takes nobody.
func TestFullDisk_OfTheDevice(t *testing.T) {
	for name, dead := range map[string]bool{"hubs in reach": false, "no hub in reach": true} {
		t.Run(name, func(t *testing.T) {
			disk := smallDisk(t)
			synctest.Test(t, func(t *testing.T) {
				u := &uplink{cluster: newCluster(t, 3), rate: 1e6, share: map[edge.ID]*bucket{}}
				defer u.close()
				u.dead.Store(dead)
				a, logs, stop := u.run(outbox.Options{Dir: filepath.Join(disk, "outbox"), Quota: 1 << 20}, time.Second, agent.Stream{Name: "main", Age: 10 * time.Second, Readings: 1000})
				time.Sleep(10 * time.Minute)
				fill(t, filepath.Join(disk, "filler"))
				time.Sleep(20 * time.Minute)
				full := a.Status()
				if full.Streams[0].Error == "" && full.Outbox.GivenUp == 0 {
					t.Errorf("the disk is full, and the status says %+v, %+v", full.Streams[0], full.Outbox)
				}
				check(t, os.Remove(filepath.Join(disk, "filler")))
				u.dead.Store(false)
				time.Sleep(10*time.Minute + time.Millisecond)
				if st := a.Status(); st.Streams[0].Error != "" || st.Outbox.Error != "" || st.Streams[0].Pending.Segments > 3 {
					t.Errorf("with room again: %+v, %q", st.Streams[0], st.Outbox.Error)
				}
				st := stop()
				got, told, made := u.readings(u.Recovery), u.gaps(u.Recovery), 40*60+1
				lost := st.Streams[0].Lost + st.Outbox.LostReadings
				if len(got)+int(lost)+int(st.Outbox.Readings) != made || told != lost {
					t.Errorf("%d readings on hubs, %d wait, %d lost, %d told to be lost, of %d", len(got), st.Outbox.Readings, lost, told, made)
				}
				if n := logs.Count("level=ERROR"); n > 6 { // without hubs, one each time that the room of the oldest file, which goes, is spent
					t.Errorf("%d alarms:\n%s", n, logs)
				}
				for v, n := range got {
					if n != 1 {
						t.Fatalf("reading %v is there %d times", v, n)
					}
				}
			})
		})
	}
}
