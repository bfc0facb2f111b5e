// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// TestReachable_HundredAndOneHub: a hub restarts. All members that can be reached through it come back to its relay, and not as one.
func TestReachable_HundredAndOneHub(t *testing.T) {
	const devices = 100
	w := transporttest.NewWorld(t, 1, devices)
	hub := crew(t, w)[0]
	before := memory()
	nodes := make([]*sailor, devices)
	var own sync.Mutex // startWith registers what the test cleans up
	atOnce(devices, func(i int) {
		own.Lock()
		defer own.Unlock()
		nodes[i] = sail(t, w.Devices[i], w.Fleet(), func(o *p2p.Options) { o.Reachable, o.Listen, o.KeepAlive = true, []string{houseAddr(i)}, 0 })
	})
	placed := func() (n int) {
		for _, d := range nodes {
			if len(d.Relays()) > 0 {
				n++
			}
		}
		return n
	}
	transporttest.WaitFor(t, "all have a place", func() (bool, string) { n := placed(); return n == devices, fmt.Sprint(n) })
	t.Logf("idle: %d kB of memory for each reachable member, both ends of its one connection", (memory()-before)/devices>>10)

	addr := hub.Addrs()[0]
	ok(t, hub.Close())
	transporttest.WaitFor(t, "all notice", func() (bool, string) { n := placed(); return n == 0, fmt.Sprint(n) })
	began := time.Now()
	var mu sync.Mutex
	came := map[string]time.Duration{}
	hub = sail(t, w.Hubs[0], w.Fleet(), func(o *p2p.Options) { asHub(w)(o); o.Listen = []string{addr} })
	p2p.OnConnected(hub.Node, func(c network.Conn) {
		mu.Lock()
		defer mu.Unlock()
		if _, again := came[c.RemotePeer().String()]; !again {
			came[c.RemotePeer().String()] = time.Since(began)
		}
	})
	for placed() < devices {
		if time.Since(began) > 40*time.Second {
			t.Fatalf("after %s only %d of %d are back", time.Since(began).Round(time.Second), placed(), devices)
		}
		time.Sleep(20 * time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	var at []time.Duration
	for _, d := range came {
		at = append(at, d)
	}
	slices.Sort(at)
	most := 0
	for i := range at {
		in := 0
		for ; i+in < len(at) && at[i+in] < at[i]+time.Second; in++ {
		}
		most = max(most, in)
	}
	t.Logf("all %d are back after %s; the first came after %s, half after %s, the last after %s; at most %d within a second", devices, time.Since(began).Round(10*time.Millisecond),
		at[0].Round(10*time.Millisecond), at[len(at)/2].Round(10*time.Millisecond), at[len(at)-1].Round(10*time.Millisecond), most)
	if most > devices/2 {
		t.Errorf("%d of %d came within one second", most, devices)
	}
}
