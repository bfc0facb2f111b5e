// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

func openStore(t testing.TB, w *transporttest.World, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), dir, store.Options{Fleet: w.Fleet, Self: w.Hubs[0].ID()})
	must(t, s, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// TestRestartedHubServesWhatItAcknowledged puts on the real disk, restarts the hub at the same address, and goes on
// with the same client.
func TestRestartedHubServesWhatItAcknowledged(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	dir := t.TempDir()
	disk := openStore(t, w, dir)
	hub := start(t, w, w.Hubs[0], disk, tcpAddr)
	addr := hub.Addrs()[0]
	device := start(t, w, w.Devices[0], nil)
	segs := w.Chain(t, w.Devices[0], "main").Many(20)
	var puts sync.WaitGroup
	for _, s := range segs[:10] {
		puts.Go(func() {
			if err := device.Put(deadline(t), hub.ID(), s.Bytes()); err != nil {
				t.Errorf("seq %d: %v", s.Seq, err)
			}
		})
	}
	puts.Wait()
	if err := hub.Close(); err != nil {
		t.Fatal(err)
	}
	if err := disk.Close(); err != nil {
		t.Fatal(err)
	}
	if err := device.Put(deadline(t), hub.ID(), segs[10].Bytes()); err == nil {
		t.Error("a put on a closed hub succeeded")
	}
	start(t, w, w.Hubs[0], openStore(t, w, dir), addr)
	for _, s := range segs[10:] {
		transporttest.WaitFor(t, "puts go on", func() (bool, string) {
			err := device.Put(deadline(t), hub.ID(), s.Bytes())
			return err == nil, fmt.Sprint(err)
		})
	}
	n := 0
	err := start(t, w, w.Reader, nil).Fetch(deadline(t), hub.ID(), segs[0].Chain, transport.Span{Last: 99}, func(b []byte) error {
		if n >= len(segs) || !bytes.Equal(b, segs[n].Bytes()) {
			t.Errorf("segment %d differs", n)
		}
		n++
		return nil
	})
	if err != nil || n != len(segs) {
		t.Errorf("fetched %d of %d: %v", n, len(segs), err)
	}
}

// BenchmarkPut is one client and one hub with a real disk, in one process, over loopback TCP.
func BenchmarkPut(b *testing.B) {
	for _, flights := range []int{1, 60} {
		b.Run(fmt.Sprintf("readings=1000/flights=%d", flights), func(b *testing.B) {
			w := transporttest.NewWorld(b, 1, 1)
			hub := start(b, w, w.Hubs[0], openStore(b, w, b.TempDir()), tcpAddr)
			device := start(b, w, w.Devices[0], nil)
			c := w.Chain(b, w.Devices[0], "main")
			segs := []*journal.Segment{c.Next(1)}
			for range b.N {
				segs = append(segs, c.Next(1000))
			}
			if err := device.Put(b.Context(), hub.ID(), segs[0].Bytes()); err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(segs[len(segs)-1].Bytes())))
			b.ResetTimer()
			putAll(b, device, hub, segs[1:], flights)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

func putAll(b *testing.B, device, hub *p2p.Node, segs []*journal.Segment, flights int) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range flights {
		all.Go(func() {
			for i := next.Add(1); i <= int64(len(segs)); i = next.Add(1) {
				if err := device.Put(b.Context(), hub.ID(), segs[i-1].Bytes()); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
}
