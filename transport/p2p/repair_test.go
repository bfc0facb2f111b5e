// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/repair"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

// TestRepair_WipedHubGetsItsCopiesBack: three hubs with real disks on the real network; the device publishes and is gone, then one disk is.
func TestRepair_WipedHubGetsItsCopiesBack(t *testing.T) {
	w := transporttest.NewWorld(t, 3, 1)
	dir := t.TempDir()
	folder := func(i int) string { return filepath.Join(dir, w.Hubs[i].ID().String()) }
	disks := []*store.Store{}
	begin := func(i int, listen string) (stop func()) {
		disk, err := store.Open(t.Context(), folder(i), store.Options{Fleet: w.Fleet, Self: w.Hubs[i].ID()})
		must(t, disk, err)
		hub := start(t, w, w.Hubs[i], disk, listen)
		r, err := repair.New(repair.Options{Self: hub.ID(), Fleet: w.Fleet, Local: disk, Peers: hub, Settle: 100 * time.Millisecond, Every: 2 * time.Second})
		must(t, r, err)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := r.Run(ctx); err != nil {
				t.Errorf("repairing: %v", err)
			}
		})
		disks = append(disks, disk)
		stop = sync.OnceFunc(func() {
			cancel()
			running.Wait()
			if err := errors.Join(hub.Close(), disk.Close()); err != nil {
				t.Errorf("closing hub: %v", err)
			}
		})
		t.Cleanup(stop)
		return stop
	}
	stops := []func(){begin(0, tcpAddr), begin(1, tcpAddr), begin(2, quicAddr)}
	device := start(t, w, w.Devices[0], nil)
	segs := w.Chain(t, w.Devices[0], "main").Many(3*journal.BucketSize + 10)
	for _, h := range w.Hubs {
		for _, s := range segs {
			if err := device.Put(deadline(t), h.ID(), s.Bytes()); err != nil {
				t.Fatalf("seq %d: %v", s.Seq, err)
			}
		}
	}
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	stops[1]()
	if err := os.RemoveAll(folder(1)); err != nil {
		t.Fatal(err)
	}
	begin(1, tcpAddr)
	wiped := disks[3]
	transporttest.WaitFor(t, "all copies are back", func() (bool, string) {
		var got [][]byte
		err := wiped.FetchDated(t.Context(), segs[0].Chain, transport.Span{Last: journal.MaxSeq}, func(b []byte, _ int64) error {
			got = append(got, bytes.Clone(b))
			return nil
		})
		same := slices.EqualFunc(got, segs, func(b []byte, s *journal.Segment) bool { return bytes.Equal(b, s.Bytes()) })
		return err == nil && same, fmt.Sprintf("%d of %d, %v", len(got), len(segs), err)
	})
}

// waiting is a store whose dated fetch gives one segment and then waits.
type waiting struct{ *transporttest.Store }

func (w waiting) FetchDated(ctx context.Context, c journal.Chain, s transport.Span, visit func([]byte, int64) error) error {
	if err := w.Store.FetchDated(ctx, c, transport.Span{First: s.First, Last: s.First}, visit); err != nil {
		return err
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestRepair_EndsWithTheHubsGrant: what a hub is being given ends when it is none any more, and it gets nothing afterwards.
func TestRepair_EndsWithTheHubsGrant(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	disk := waiting{transporttest.NewStore(w.Fleet, 0)}
	seg := w.Chain(t, w.Devices[0], "main").Next(1)
	ok(t, disk.Put(t.Context(), seg.Bytes()))
	giver := start(t, w, w.Hubs[0], disk, tcpAddr)
	asker := start(t, w, w.Hubs[1], transporttest.NewStore(w.Fleet, 0), tcpAddr)
	began, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		once := sync.OnceFunc(func() { close(began) })
		ended <- asker.FetchDated(deadline(t), giver.ID(), seg.Chain, transport.Span{Last: 9}, func([]byte, int64) error { once(); return nil })
	}()
	select {
	case <-began:
	case err := <-ended:
		t.Fatalf("fetch ended: %v", err)
	}
	grant, _ := w.Fleet().Member(asker.ID())
	grant.Roles = 1 // a device from now on
	grant.Addrs = nil
	w.Grant(t, grant)
	giver.FleetChanged()
	if err := <-ended; !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("fetch ended with %v", err)
	}
	err := asker.Ranges(deadline(t), giver.ID(), transport.RangeQuery{}, func(transport.Range) error { return nil })
	if !refusedFor(err, transport.RefusedNoRight) {
		t.Errorf("comparing as a device: %v", err)
	}
}

// TestRepair_OneHubCannotTakeAllPlaces: a third answer at a time is refused, and places come back.
func TestRepair_OneHubCannotTakeAllPlaces(t *testing.T) {
	w := transporttest.NewWorld(t, 2, 1)
	disk := waiting{transporttest.NewStore(w.Fleet, 0)}
	seg := w.Chain(t, w.Devices[0], "main").Next(1)
	ok(t, disk.Put(t.Context(), seg.Bytes()))
	giver := start(t, w, w.Hubs[0], disk, tcpAddr)
	asker := start(t, w, w.Hubs[1], transporttest.NewStore(w.Fleet, 0), tcpAddr)
	ctx, cancel := context.WithCancel(deadline(t))
	defer cancel()
	var two, over sync.WaitGroup
	two.Add(2)
	for range 2 {
		over.Go(func() {
			_ = asker.FetchDated(ctx, giver.ID(), seg.Chain, transport.Span{Last: 9}, func([]byte, int64) error { two.Done(); return nil })
		})
	}
	two.Wait()
	ask := func() error {
		return asker.Ranges(deadline(t), giver.ID(), transport.RangeQuery{}, func(transport.Range) error { return nil })
	}
	if err := ask(); !refusedFor(err, transport.RefusedBusy) {
		t.Errorf("a third answer: %v", err)
	}
	cancel()
	over.Wait()
	transporttest.WaitFor(t, "a place is free", func() (bool, string) {
		err := ask()
		return err == nil, errText(err)
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
