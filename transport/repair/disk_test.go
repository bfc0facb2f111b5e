// SPDX-License-Identifier: Apache-2.0

package repair_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

// openDisk opens a hub's real store in a folder.
func openDisk(t *testing.T, w *transporttest.World, self edge.ID, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), dir, store.Options{Fleet: w.Fleet, Self: self})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestRealDisks: of five hubs two lose their disks while the device is gone for good; a third comes back with its own, cut off in the middle of a file.
func TestRealDisks(t *testing.T) {
	w := transporttest.NewWorld(t, 5, 1)
	segs := chains(t, w, 6, 100)
	dir := t.TempDir()
	folder := func(i int) string { return filepath.Join(dir, w.Hubs[i].ID().String()) }
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		for i, k := range w.Hubs {
			r.join(t, k, openDisk(t, w, k.ID(), folder(i)))
		}
		r.publish(t, segs...)
		for i := range 3 {
			h := r.hubs[w.Hubs[i].ID()]
			r.net.Kill(h.key.ID())
			if err := h.disk.(*store.Store).Close(); err != nil {
				t.Fatal(err)
			}
			if i < 2 {
				if err := os.RemoveAll(folder(i)); err != nil {
					t.Fatal(err)
				}
			} else {
				tear(t, folder(i))
			}
			r.join(t, h.key, openDisk(t, w, h.key.ID(), folder(i)))
		}
		copies, _, missing := r.missing(t)
		if copies <= 2*len(segs) || copies >= 3*len(segs) {
			t.Fatalf("%d copies are missing, want those of two disks and some of a third", copies)
		}
		r.repairAll(t)
		r.whole(t, 2*time.Minute)
		var fetched int64
		for _, h := range r.hubs {
			fetched += h.counted.bytes.Load()
		}
		if fetched != missing {
			t.Errorf("%d bytes fetched, %d were missing", fetched, missing)
		}
	})
}

// tear cuts the newest file of a log off in its middle.
func tear(t *testing.T, dir string) {
	t.Helper()
	var newest string
	err := filepath.WalkDir(dir, func(name string, e os.DirEntry, err error) error {
		if info, infoErr := e.Info(); err == nil && infoErr == nil && info.Mode().IsRegular() && info.Size() > 4096 {
			newest = name
		}
		return err
	})
	if err != nil || newest == "" {
		t.Fatalf("nothing to tear in %s: %v", dir, err)
	}
	info, err := os.Stat(newest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(newest, info.Size()/2); err != nil {
		t.Fatal(err)
	}
}

// TestBranchOfTheCutWins: one hub holds a clone's branch. Once the owner has named the last segment of the device's own, repair puts that in its place,
// over the border of a bucket.
func TestBranchOfTheCutWins(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	c := w.Chain(t, w.Devices[0], "main")
	common := c.Many(40)
	twin := c.Twin()
	false1, true1 := twin.Many(60), c.Many(60)
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, w)
		for _, k := range w.Hubs {
			r.join(t, k, openDisk(t, w, k.ID(), filepath.Join(dir, k.ID().String())))
		}
		cloned, good := r.hubs[w.Hubs[0].ID()], r.hubs[w.Hubs[1].ID()]
		put(t, cloned.disk, slices.Concat(common, false1)...)
		put(t, good.disk, slices.Concat(common, true1)...)
		r.Revoke(t, w.Devices[0].ID(), true1[50])
		want := slices.Concat(common, true1[:51])
		r.repairAll(t)
		end := time.Now().Add(20 * time.Minute)
		for !same(t, cloned, want) {
			if time.Now().After(end) {
				t.Fatalf("the clone's branch is held still: %+v", cloned.Stats())
			}
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
		if !same(t, good, want) {
			t.Error("the good hub has lost something")
		}
		if n := len(cloned.disk.(*store.Store).Forks(t.Context())); n == 0 {
			t.Error("no proof is kept of the fork")
		}
	})
}

// same reports whether a hub holds these segments of their chain and no others.
func same(t *testing.T, h *hub, want []*journal.Segment) bool {
	t.Helper()
	var got [][]byte
	err := h.disk.FetchDated(t.Context(), want[0].Chain, transport.Span{Last: journal.MaxSeq}, func(b []byte, _ int64) error {
		got = append(got, bytes.Clone(b))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return slices.EqualFunc(got, want, func(b []byte, s *journal.Segment) bool { return bytes.Equal(b, s.Bytes()) })
}
