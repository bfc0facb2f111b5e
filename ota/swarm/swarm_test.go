// SPDX-License-Identifier: Apache-2.0

package swarm_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/swarm"
)

// TestUpdate_BadPeer_OtherPeerFinishes: who gives bytes that are not the program is asked no second time, and the program comes from the other.
func TestUpdate_BadPeer_OtherPeerFinishes(t *testing.T) {
	for name, lie := range map[string]func(int, []byte) []byte{
		"one bit":       func(_ int, c []byte) []byte { c = bytes.Clone(c); c[77] ^= 1; return c },
		"too short":     func(_ int, c []byte) []byte { return c[:len(c)-1] },
		"nothing":       func(int, []byte) []byte { return []byte{} },
		"another chunk": func(i int, c []byte) []byte { c = bytes.Clone(c); c[0] = byte(i) + c[0] + 1; return c },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 12)
				liar := &way{to: &node{id: w.id(), file: w.origin.file}, lie: lie}
				honest := &way{to: w.origin, delay: 200 * time.Millisecond}
				n := w.node("", t.TempDir())
				must(t, w.fetch(t.Context(), n, swarm.Options{}, far(liar), far(honest)))
				w.whole(n)
				if s := n.running().Stats(); !slices.Equal(s.Liars, []edge.ID{liar.to.id}) || liar.asked.Load() != 1 {
					t.Errorf("liars: %v, asked %d times", s.Liars, liar.asked.Load())
				}
			})
		})
	}
}

// liars give a list that is not the tree's, or say that they have chunks that do not exist.
type liars struct {
	*way
	have chunks.Bitmap
	list []byte
}

func (l liars) Have(ctx context.Context, tree chunks.Hash) (swarm.Holding, error) {
	h, err := l.way.Have(ctx, tree)
	if l.have != nil {
		h.Have = l.have
	}
	return h, err
}

func (l liars) Chunks(context.Context, chunks.Hash) ([]byte, error) { return l.list, nil }

func TestWrongListOrBitmapPutsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 5)
		wrong := w.list.Bytes()
		wrong[3] ^= 1
		one := liars{way: &way{to: &node{id: w.id(), file: w.origin.file}}, list: wrong}
		two := liars{way: &way{to: &node{id: w.id(), file: w.origin.file}}, have: chunks.Bitmap{0xff, 0xff}}
		n := w.node("", t.TempDir())
		peers := []swarm.Peer{{ID: one.to.id, Source: one}, {ID: two.to.id, Source: two}, far(&way{to: w.origin, delay: time.Second})}
		must(t, w.fetch(t.Context(), n, swarm.Options{}, peers...))
		w.whole(n)
		if s := n.running().Stats(); len(s.Liars) != 2 {
			t.Errorf("liars: %v", s.Liars)
		}
	})
}

// TestUpdate_SlowRetrieval_PeerDroppedBelowRate: a source that drips is left, and the rest comes from the other at its rate.
func TestUpdate_SlowRetrieval_PeerDroppedBelowRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 40)
		slow := &way{to: &node{id: w.id(), file: w.origin.file}, link: link(1000)}
		must(t, slow.link.WaitN(t.Context(), chunks.Size)) // no burst
		fast := &way{to: w.origin, link: link(1 << 20)}
		n := w.node("", t.TempDir())
		began := time.Now()
		must(t, w.fetch(t.Context(), n, swarm.Options{MinRate: 32 << 10}, far(slow), far(fast)))
		w.whole(n)
		s := n.running().Stats()
		if !slices.Contains(s.Slow, slow.to.id) || slices.Contains(s.Slow, fast.to.id) || slow.asked.Load() > 1 {
			t.Errorf("slow: %v, asked %d times", s.Slow, slow.asked.Load())
		}
		if took := time.Since(began); took > 25*time.Second { // 10 s of the fast one, and 10 s until the slow one is dropped
			t.Errorf("took %v", took)
		}
	})
}

// TestWeakUplinkGetsThere: where every source is below the rate, less is asked of all rather than nothing fetched.
func TestWeakUplinkGetsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		only := &way{to: w.origin, link: link(4 << 10)}
		n := w.node("", t.TempDir())
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		must(t, w.fetch(ctx, n, swarm.Options{}, far(only)))
		w.whole(n)
	})
}

// TestUpdate_Resume_AfterDisconnect: the only source goes away half-way, the program ends, and another run fetches the rest and nothing twice.
func TestUpdate_Resume_AfterDisconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 20)
		dir := t.TempDir()
		crossed := &atomic.Int64{}
		first := &way{to: w.origin, bytes: crossed}
		first.cut.Store(11)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		n := w.node("", dir)
		if err := w.fetch(ctx, n, swarm.Options{}, far(first)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("the run ended with %v", err)
		}
		cancel()
		if _, have := n.file.Have(); have != 11 {
			t.Fatalf("%d chunks have come", have)
		}
		again := w.node("", dir) // from the disk alone
		must(t, w.fetch(t.Context(), again, swarm.Options{}, far(&way{to: w.origin, bytes: crossed})))
		w.whole(again)
		if crossed.Load() != int64(len(w.bytes)) {
			t.Errorf("%d bytes crossed for %d", crossed.Load(), len(w.bytes))
		}
	})
}

// TestSourceThatComesBack: while nobody answers the fetcher waits, however long, and goes on by itself.
func TestSourceThatComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		w.origin.set(nil, true)
		n := w.node("", t.TempDir())
		time.AfterFunc(2*time.Hour, func() { w.origin.set(nil, false) })
		began := time.Now()
		must(t, w.fetch(t.Context(), n, swarm.Options{}, far(&way{to: w.origin})))
		w.whole(n)
		if took := time.Since(began); took > 2*time.Hour+3*time.Minute {
			t.Errorf("took %v", took)
		}
	})
}

// TestRateIsKept: with a limit of 64 KiB/s two sources that could give far more are not asked for more.
func TestRateIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 16)
		other := &node{id: w.id(), file: w.origin.file}
		n := w.node("", t.TempDir())
		began := time.Now()
		must(t, w.fetch(t.Context(), n, swarm.Options{Rate: rate.NewLimiter(64<<10, chunks.Size)}, far(&way{to: w.origin}), near(&way{to: other})))
		w.whole(n)
		want := time.Duration(len(w.bytes)-chunks.Size) * time.Second / (64 << 10) // the first one is the burst
		if took := time.Since(began); took < want || took > want+10*time.Second {
			t.Errorf("took %v, want %v", took, want)
		}
	})
}

// TestDiskErrorEndsTheRun: this side's disk is not the source's fault.
func TestDiskErrorEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 6)
		disk, err := chunks.Open(t.TempDir(), 1<<30)
		must(t, err)
		file, err := disk.Begin(w.list.Tree(), int64(len(w.bytes)))
		must(t, err)
		n := &node{id: w.id(), file: file}
		must(t, n.file.SetList(w.list.Bytes()))
		must(t, n.file.Close())
		err = w.fetch(t.Context(), n, swarm.Options{}, far(&way{to: w.origin}))
		if err == nil || errors.Is(err, chunks.ErrWrong) || len(n.running().Stats().Liars) > 0 {
			t.Errorf("ended with %v", err)
		}
	})
}

// site has ten devices fetch over one uplink and returns what crossed it, in sizes of the program, and how long the last took.
func site(t *testing.T, w *world, uplink int, start func(i int) time.Duration, trouble func(devices []*node)) (ratio float64, took time.Duration) {
	line, crossed := link(uplink), &atomic.Int64{}
	var devices []*node
	for range 10 {
		devices = append(devices, w.node("lab", t.TempDir()))
	}
	began := time.Now()
	var running sync.WaitGroup
	for i, d := range devices {
		running.Go(func() {
			time.Sleep(start(i))
			find := func(context.Context) (peers []swarm.Peer) {
				for _, o := range devices {
					if o != d && o.running() != nil { // as a hub tells who has asked it
						peers = append(peers, near(&way{to: o, link: link(10 << 20)}))
					}
				}
				return append(peers, far(&way{to: w.origin, link: line, bytes: crossed, delay: 40 * time.Millisecond}))
			}
			if err := w.fetch(t.Context(), d, swarm.Options{Find: find}); err != nil {
				t.Errorf("device %d: %v", i, err)
			}
			w.whole(d)
		})
	}
	if trouble != nil {
		trouble(devices)
	}
	running.Wait()
	return float64(crossed.Load()) / float64(len(w.bytes)), time.Since(began)
}

// TestTenDevicesBehindOneUplink: a release of 12 MB crosses the uplink about once, whenever the devices begin and whoever falls out.
func TestTenDevicesBehindOneUplink(t *testing.T) {
	for name, c := range map[string]struct {
		uplink  int
		start   func(i int) time.Duration
		trouble func([]*node)
		most    float64
	}{
		"all at once":          {1 << 20, func(int) time.Duration { return 0 }, nil, 1.3},
		"within half a minute": {1 << 20, func(i int) time.Duration { return time.Duration(i) * 3 * time.Second }, nil, 1.3},
		"one far ahead":        {4 << 20, func(i int) time.Duration { return time.Duration(min(i, 1)) * time.Hour }, nil, 1.3},
		"weak uplink":          {40 << 10, func(int) time.Duration { return 0 }, nil, 1.3},
		"two freeze": {1 << 20, func(int) time.Duration { return 0 }, func(d []*node) {
			time.Sleep(6 * time.Second)
			d[3].set(d[3].running(), true)
			d[7].set(d[7].running(), true)
		}, 1.6},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 48)
				ratio, took := site(t, w, c.uplink, c.start, c.trouble)
				t.Logf("%s: %.2f sizes crossed the uplink, the last was done after %v", name, ratio, took)
				if ratio > c.most {
					t.Errorf("%.2f sizes crossed the uplink", ratio)
				}
			})
		})
	}
}

// TestWithoutSharingEachTakesItAll shows that the figure above is the sharing's: devices that are not near each other take ten.
func TestWithoutSharingEachTakesItAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		crossed := &atomic.Int64{}
		var running sync.WaitGroup
		for range 10 {
			d := w.node("", t.TempDir())
			running.Go(func() { must(t, w.fetch(t.Context(), d, swarm.Options{}, far(&way{to: w.origin, bytes: crossed}))) })
		}
		running.Wait()
		if crossed.Load() != 10*int64(len(w.bytes)) {
			t.Errorf("%d bytes crossed", crossed.Load())
		}
	})
}
