// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
)

// hostsVariable makes TestManyHosts larger: "30,270" is 30 hubs and 270 devices. Each pair takes two descriptors, of which a process may have 20 000 or fewer.
const hostsVariable = "STREEMBIT_TEST_HOSTS"

// TestManyHosts: whole nodes, each with its own key and address, join, and every device's segments are on exactly the hubs that anybody can compute.
func TestManyHosts(t *testing.T) {
	hubs, devices := 22, 12 // more hubs than copies, so that some hubs must not have one
	if text := os.Getenv(hostsVariable); text != "" {
		if _, err := fmt.Sscanf(text, "%d,%d", &hubs, &devices); err != nil {
			t.Fatalf("%s=%q: want HUBS,DEVICES", hostsVariable, text)
		}
	}
	began := time.Now()
	phase := func(what string) { t.Logf("%6.2f s: %s; %s", time.Since(began).Seconds(), what, usage(t)) }
	phase("nothing runs")
	s := newForty(t, hubs, max(devices, 1))
	phase(fmt.Sprintf("%d hubs run", hubs))
	atOnce(hubs, func(i int) {
		if err := join(t, s.nodes[s.Hubs[i].ID()]); err != nil {
			t.Errorf("hub %d: %v", i, err)
		}
	})
	phase("hubs have joined")

	nodes := make([]*p2p.Node, len(s.Devices))
	atOnce(len(nodes), func(i int) { // each starts when there is room for it: they share two cores, not each its own
		n, err := p2p.New(deadline(t), p2p.Options{Signer: s.Devices[i], Fleet: s.Fleet, Listen: []string{houseAddr(hubs + i)}})
		if err == nil {
			nodes[i] = n
			t.Cleanup(func() { _ = n.Close() })
			err = join(t, n)
		}
		if err != nil {
			t.Errorf("device %d: %v", i, err)
		}
	})
	if t.Failed() {
		return
	}
	phase(fmt.Sprintf("%d devices have joined", len(nodes)))

	segs := make([]*journal.Segment, 0, 2*len(nodes))
	for _, key := range s.Devices {
		segs = append(segs, s.Chain(t, key, "main").Many(2)...)
	}
	copies := min(transport.MaxCopies, hubs)
	atOnce(len(nodes), func(i int) {
		for _, seg := range segs[2*i : 2*i+2] {
			if _, err := publishEverywhere(deadline(t), nodes[i], s.Fleet, seg, copies); err != nil {
				t.Errorf("device %d, seq %d: %v", i, seg.Seq, err)
			}
		}
	})
	phase(fmt.Sprintf("%d segments are on %d hubs each", len(segs), copies))
	held := 0
	for _, seg := range segs {
		placed := transport.Place(seg.Chain.Bucket(seg.Seq).Key(), s.HubIDs())
		for id, st := range s.stores {
			has := st.Has(seg.Chain, seg.Seq)
			if has != slices.Contains(placed, id) {
				t.Errorf("seq %d of %s: held by hub %s: %t", seg.Seq, seg.Chain.Device.Short(), id.Short(), has)
			}
			if has {
				held++
			}
		}
	}
	if held != len(segs)*copies {
		t.Errorf("%d copies of %d segments", held, len(segs))
	}
}

// join bootstraps a node, as often as it takes on a machine that does the work of all.
func join(t *testing.T, n *p2p.Node) (err error) {
	t.Helper()
	for range 5 {
		if err = n.Bootstrap(deadline(t)); err == nil {
			break
		}
	}
	return err
}

// atOnce runs f for 0 to n-1, eight at a time, and waits.
func atOnce(n int, f func(int)) {
	var all sync.WaitGroup
	slots := make(chan struct{}, 8)
	for i := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			f(i)
		})
	}
	all.Wait()
}

// usage tells what the process has taken so far.
func usage(t *testing.T) string {
	t.Helper()
	var u syscall.Rusage
	ok(t, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return fmt.Sprintf("CPU %.1f s, %d goroutines, heap %d MB, stacks %d MB, largest RSS %d MB",
		float64(u.Utime.Nano()+u.Stime.Nano())/1e9, runtime.NumGoroutine(), m.HeapAlloc>>20, m.StackInuse>>20, u.Maxrss>>10)
}
