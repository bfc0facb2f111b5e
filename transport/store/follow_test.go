// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/journal/wal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/store"
)

// told collects what a follower was told.
type told struct {
	mu    sync.Mutex
	seqs  map[journal.Chain]map[uint64]bool
	calls int
}

func (f *told) visit(h transport.Held) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if f.seqs[h.Chain] == nil {
		f.seqs[h.Chain] = map[uint64]bool{}
	}
	for _, s := range h.Spans {
		for seq := s.First; seq <= s.Last; seq++ {
			f.seqs[h.Chain][seq] = true
		}
	}
	return nil
}

func (f *told) count(c journal.Chain) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.seqs[c])
}

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for limit := time.Now().Add(20 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestFollow(t *testing.T) {
	w := newWorld(t, 1)
	s := open(t, t.TempDir(), w.options())
	a, b := w.chain(t, w.device, "a"), w.chain(t, w.device, "b")
	put(t, s, a.many(5)...)
	put(t, s, b.many(1)...)
	ctx, cancel := context.WithCancel(context.Background())
	got := &told{seqs: map[journal.Chain]map[uint64]bool{}}
	done := make(chan error, 1)
	go func() { done <- s.Follow(ctx, got.visit) }()
	until(t, "what is held now", func() bool { return got.count(a.w.Chain()) == 5 && got.count(b.w.Chain()) == 1 })
	if got.calls != 2 {
		t.Errorf("%d calls for two chains", got.calls)
	}
	c := w.chain(t, w.device, "c")
	put(t, s, a.many(3)...)
	put(t, s, c.many(2)...)
	until(t, "what came later", func() bool { return got.count(a.w.Chain()) == 8 && got.count(c.w.Chain()) == 2 })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("follow ended with %v", err)
	}
	stop := errors.New("stop")
	if err := s.Follow(context.Background(), func(transport.Held) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("follow ended with %v", err)
	}
}

// TestSlowFollower: a follower that hangs delays no Put, and learns all in a few calls when it goes on.
func TestSlowFollower(t *testing.T) {
	w := newWorld(t, 1)
	s := open(t, t.TempDir(), w.options())
	c := w.chain(t, w.device, "main")
	segs := c.many(400)
	put(t, s, segs[0])
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	got := &told{seqs: map[journal.Chain]map[uint64]bool{}}
	started, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	done := make(chan error, 1)
	go func() {
		done <- s.Follow(ctx, func(h transport.Held) error {
			once.Do(func() { close(started); <-release })
			return got.visit(h)
		})
	}()
	<-started
	for i := 1; i < len(segs); i += 2 { // scattered: more spans than are kept for a follower
		put(t, s, segs[i])
	}
	for i := 2; i < len(segs); i += 2 {
		put(t, s, segs[i])
	}
	close(release)
	until(t, "all segments", func() bool { return got.count(c.w.Chain()) == len(segs) })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) || got.calls > 3 {
		t.Errorf("%d calls, %v", got.calls, err)
	}
}

// broken is a disk whose syncs fail while on is set.
type broken struct {
	wal.File
	on *atomic.Bool
}

func (b broken) Sync() error {
	if b.on.Load() {
		return syscall.EIO
	}
	return b.File.Sync()
}

func TestDiskErrorAndReopen(t *testing.T) {
	w := newWorld(t, 1)
	var on atomic.Bool
	o := w.options()
	o.Wrap = func(f wal.File) wal.File { return broken{f, &on} }
	c := w.chain(t, w.device, "main")
	segs := c.many(6)
	synctest.Test(t, func(t *testing.T) {
		s, err := store.Open(context.Background(), t.TempDir(), o)
		check(t, err)
		defer s.Close()
		put(t, s, segs[:3]...)
		on.Store(true)
		refused(t, s.Put(context.Background(), segs[3].Bytes()), transport.RefusedFailed, w.hub.ID(), "")
		refused(t, s.Put(context.Background(), segs[4].Bytes()), transport.RefusedFailed, w.hub.ID(), "")
		if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(segs[:3])) {
			t.Fatalf("while the disk fails %d segments can be fetched", len(got))
		}
		on.Store(false)
		refused(t, s.Put(context.Background(), segs[3].Bytes()), transport.RefusedFailed, w.hub.ID(), "") // the pause is not over
		time.Sleep(2 * time.Second)
		put(t, s, segs[3:]...)
		if got := fetch(t, s, c.w.Chain(), 0, end); !equal(got, bytesOf(segs)) {
			t.Fatalf("after the disk works again: %d segments", len(got))
		}
	})
}
