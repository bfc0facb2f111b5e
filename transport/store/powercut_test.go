// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

// card is a disk that remembers, before each write and each sync, what would be left of it.
type card struct {
	t      *testing.T
	dir    string
	mu     sync.Mutex
	synced map[string]int64 // by file: bytes that a power cut leaves
	gone   map[string][]byte
	last   map[string][]byte
	cuts   []cut
	seen   map[[sha256.Size]byte]bool
	known  knowledge
	busy   bool         // pictures are taken
	fail   func() error // of each write and sync; nil = none
}

// knowledge is what the hub's clients have been told.
type knowledge struct {
	acked  map[string][]byte
	floors map[journal.Chain]uint64
}

// cut is a disk after a kill, a power cut, or a power cut that took back what was removed.
type cut struct {
	files map[string][]byte
	known knowledge
}

func newCard(t *testing.T) *card {
	return &card{t: t, dir: t.TempDir(), synced: map[string]int64{}, gone: map[string][]byte{}, seen: map[[sha256.Size]byte]bool{},
		known: knowledge{acked: map[string][]byte{}, floors: map[journal.Chain]uint64{}}}
}

func (d *card) wrap(f wal.File) wal.File {
	return &cardFile{File: f, name: filepath.Base(f.(interface{ Name() string }).Name()), d: d}
}

type cardFile struct {
	wal.File
	name string
	size int64
	d    *card
}

func (f *cardFile) WriteAt(b []byte, off int64) (int, error) {
	f.d.picture()
	n, err := f.File.WriteAt(b, off)
	f.size = max(f.size, off+int64(n))
	return n, err
}

func (f *cardFile) Sync() error {
	f.d.picture()
	err := f.File.Sync()
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.d.synced[f.name] = max(f.size, f.d.synced[f.name])
	return err
}

// picture takes the pictures.
func (d *card) picture() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.busy {
		return
	}
	now, durable := map[string][]byte{}, map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(d.dir, "*.wal"))
	check(d.t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		check(d.t, err)
		base := filepath.Base(name)
		now[base] = b
		durable[base] = b[:min(d.synced[base], int64(len(b)))]
	}
	for name, b := range d.last {
		if now[name] == nil {
			d.gone[name] = b
		}
	}
	d.last = now
	back := maps.Clone(durable)
	maps.Copy(back, d.gone)
	known := knowledge{maps.Clone(d.known.acked), maps.Clone(d.known.floors)}
	for _, files := range []map[string][]byte{now, durable, back} {
		h := sha256.New()
		for _, name := range slices.Sorted(maps.Keys(files)) {
			fmt.Fprint(h, name, len(files[name]))
			h.Write(files[name])
		}
		if sum := [sha256.Size]byte(h.Sum(nil)); !d.seen[sum] {
			d.seen[sum] = true
			d.cuts = append(d.cuts, cut{files, known})
		}
	}
}

func (d *card) watch(on bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = on
}

// unsynced is a disk that forgets fsync, for tests that have nothing to lose.
func unsynced(f wal.File) wal.File { return noSync{f} }

type noSync struct{ wal.File }

func (noSync) Sync() error { return nil }

func place(seg *journal.Segment) string { return fmt.Sprint(seg.Chain, "@", seg.Seq) }

func (d *card) acked(segs ...*journal.Segment) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range segs {
		d.known.acked[place(s)] = s.Bytes()
	}
}

func (d *card) told(h transport.Held) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known.floors[h.Chain] = h.Floor
}

// check opens what is left: floors that were told are there, and what was acknowledged and is not below them.
func (c *cut) check(t *testing.T, o store.Options, segs []*journal.Segment, final map[journal.Chain]uint64) {
	t.Helper()
	dir := t.TempDir()
	for name, b := range c.files {
		check(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
	}
	s, err := store.Open(t.Context(), dir, o)
	check(t, err)
	defer s.Close()
	floors := map[journal.Chain]uint64{}
	all, err := s.Held(t.Context(), segs[0].Chain.Device)
	check(t, err)
	for _, h := range all {
		floors[h.Chain] = h.Floor
		if h.Floor < c.known.floors[h.Chain] || h.Floor > final[h.Chain] {
			t.Fatalf("floor %d; it had been told as %d and came to be %d", h.Floor, c.known.floors[h.Chain], final[h.Chain])
		}
	}
	for c, told := range c.known.floors {
		if floors[c] < told {
			t.Fatalf("floor %d; it had been told as %d", floors[c], told)
		}
	}
	have := map[string]bool{}
	for chain := range floors {
		for _, raw := range fetch(t, s, chain, 0, end) {
			seg, err := journal.Open(raw, chain.Fleet)
			check(t, err)
			have[place(seg)] = true
		}
	}
	for _, seg := range segs {
		if _, acked := c.known.acked[place(seg)]; acked && have[place(seg)] != (seg.Seq >= floors[seg.Chain]) {
			t.Fatalf("seq %d of stream %s, floor %d: held %v", seg.Seq, seg.Chain.Stream, floors[seg.Chain], have[place(seg)])
		}
	}
}

// TestPowerCutWhileCleaning: a hub that lets one stream go and moves another one's segments out of the way is killed, or loses its power, before
// each write and each sync. Nothing acknowledged is lost that had not been let go, and no floor goes down.
func TestPowerCutWhileCleaning(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, d := newKeeping(t), newCard(t)
		w.retainStream(t, "main", day)
		w.retainStream(t, "slow", 300*day)
		o := w.options()
		o.Quota = 72 << 10
		plain := o
		plain.Wrap = unsynced
		o.Wrap = d.wrap
		s := open(t, d.dir, o)
		segs := w.days(t, s, 12, func(made ...*journal.Segment) { d.acked(made...) }, func() {
			d.watch(true)
			sweep(t, s)
			d.watch(false)
			all, err := s.Held(t.Context(), w.device.ID())
			check(t, err)
			for _, h := range all {
				d.told(h)
			}
		})
		st := s.Stats()
		if st.Moved == 0 || st.Freed == 0 || st.LetGo[transport.PastAge] < 40 {
			t.Fatalf("too little happened to show anything: %+v", st)
		}
		check(t, s.Close())
		final := maps.Clone(d.known.floors)
		t.Logf("%d states of the disk", len(d.cuts))
		for i := range d.cuts {
			d.cuts[i].check(t, plain, segs, final)
		}
	})
}

// days lets a device put an epoch of each of two streams a day.
func (w *keeping) days(t *testing.T, s *store.Store, n int, acked func(...*journal.Segment), sweep func()) (segs []*journal.Segment) {
	t.Helper()
	fast, slow := w.chain(t, w.device, "main"), w.chain(t, w.device, "slow")
	for range n {
		made := append(fast.epoch(6), slow.epoch(2)...)
		put(t, s, made...)
		acked(made...)
		segs = append(segs, made...)
		time.Sleep(day)
		sweep()
	}
	return segs
}

// TestDiskErrorsWhileCleaning: whatever write or sync of a sweep fails, nothing is lost, and the next sweeps do what was left undone.
func TestDiskErrorsWhileCleaning(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		t.Run(cause.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, d := newKeeping(t), newCard(t)
				w.retainStream(t, "main", day)
				w.retainStream(t, "slow", 300*day)
				o := w.options()
				o.Quota = 72 << 10
				o.Wrap = d.failing
				s := open(t, d.dir, o)
				failures := 0
				segs := w.days(t, s, 12, func(...*journal.Segment) {}, func() {
					for at := range 40 {
						writes := 0
						d.fails(func() error {
							if writes++; writes == at+1 {
								return cause
							}
							return nil
						})
						err := s.Sweep(t.Context())
						d.fails(nil)
						if err != nil && !errors.Is(err, cause) {
							t.Fatalf("sweep: %v", err)
						}
						if err != nil {
							failures++
						}
						if err == nil && writes <= at { // it did not come so far: all is done
							break
						}
						time.Sleep(2 * time.Minute) // more than the pause before the log is opened again
					}
				})
				if st := s.Stats(); failures < 10 || st.Moved == 0 || st.Freed == 0 {
					t.Fatalf("%d failures; too little happened to show anything: %+v", failures, st)
				}
				all, err := s.Held(t.Context(), w.device.ID())
				check(t, err)
				for _, h := range all {
					var want [][]byte
					for _, seg := range segs {
						if seg.Chain == h.Chain && seg.Seq >= h.Floor {
							want = append(want, seg.Bytes())
						}
					}
					if got := fetch(t, s, h.Chain, 0, end); !equal(got, want) || len(got) == 0 {
						t.Errorf("stream %s, floor %d: %d segments, want %d", h.Chain.Stream, h.Floor, len(got), len(want))
					}
				}
			})
		})
	}
}

func (d *card) fails(f func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fail = f
}

// failing is a disk that takes no pictures.
func (d *card) failing(f wal.File) wal.File { return failingFile{f, d} }

type failingFile struct {
	wal.File
	d *card
}

func (f failingFile) WriteAt(b []byte, off int64) (int, error) {
	if err := f.d.failed(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(b, off)
}

func (f failingFile) Sync() error {
	if err := f.d.failed(); err != nil {
		return err
	}
	return f.File.Sync()
}

func (d *card) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		return nil
	}
	return d.fail()
}
