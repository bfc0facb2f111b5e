// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/store"
	"github.com/streembit/edge/transport/transporttest"
)

// crowd is collectors that follow one hub, and come again as package collector does when it is gone.
type crowd struct {
	nodes []*p2p.Node
	told  []atomic.Uint64 // the newest seq, and one
	lost  atomic.Int64    // streams that ended
}

// follow follows until ctx ends. The 7th of each ten takes its time.
func (c *crowd) follow(ctx context.Context, i int, hub *sailor, slow *sync.WaitGroup) {
	for pause := 200 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Second) {
		err := c.nodes[i].Follow(ctx, hub.ID(), func(h transport.Held) error {
			if i%10 == 7 {
				slow.Wait()
			}
			for _, s := range h.Spans {
				c.told[i].Store(max(c.told[i].Load(), s.Last+1))
			}
			return nil
		})
		if ctx.Err() == nil && errors.Is(err, transport.ErrUnreachable) {
			c.lost.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
	}
}

// await waits until those who do not dawdle, or all, were told of seq.
func (c *crowd) await(t *testing.T, what string, seq uint64, all bool) time.Duration {
	t.Helper()
	began := time.Now()
	transporttest.WaitFor(t, what, func() (bool, string) {
		n := 0
		for i := range c.told {
			if c.told[i].Load() > seq || i%10 == 7 && !all {
				n++
			}
		}
		return n == len(c.told), fmt.Sprintf("%d of %d followers", n, len(c.told))
	})
	return time.Since(began)
}

// TestFollow_TwoHundredFollowers: each durable segment is told to all followers of a hub at once, those that dawdle cost the hub little and the others nothing,
// and after the hub's restart all come back.
func TestFollow_TwoHundredFollowers(t *testing.T) {
	followers := 60
	if os.Getenv(hostsVariable) != "" {
		followers = 200
	}
	w := transporttest.NewWorld(t, 1, 1)
	c := &crowd{told: make([]atomic.Uint64, followers)}
	keys := make([]journal.SoftKey, followers)
	var grants []fleet.Grant
	for i := range keys {
		keys[i] = transporttest.NewKey(t)
		grants = append(grants, fleet.Grant{Member: keys[i].ID(), Name: fmt.Sprintf("follower-%d", i), Roles: fleet.Collector,
			Rights: []fleet.Right{{Do: fleet.Read, On: []string{"*"}, What: []string{"*"}}}, Reader: w.Recovery.Public()})
	}
	w.Grant(t, grants...)
	dir := t.TempDir()
	disk := openStore(t, w, dir)
	hub := sail(t, w.Hubs[0], w.Fleet(), onDisk(disk, tcpAddr))
	g, _ := w.Fleet().Member(hub.ID())
	g.Addrs = hub.Addrs()
	w.Grant(t, g)
	for i, key := range keys {
		c.nodes = append(c.nodes, startWith(t, p2p.Options{Signer: key, Fleet: w.Fleet, Listen: []string{houseAddr(i)}, KeepAlive: time.Second}))
	}
	before := memory()
	ctx, cancel := context.WithCancel(t.Context())
	var all, slow sync.WaitGroup
	defer all.Wait()
	defer cancel()
	slow.Add(1)
	for i := range c.nodes {
		all.Go(func() { c.follow(ctx, i, hub, &slow) })
	}
	device := startWith(t, p2p.Options{Signer: w.Devices[0], Fleet: w.Fleet})
	segs := w.Chain(t, w.Devices[0], "main").Many(400)
	put := func(from, to int) {
		for _, seg := range segs[from:to] {
			ok(t, device.Put(deadline(t), hub.ID(), seg.Bytes()))
		}
	}
	put(0, 1)
	t.Logf("%d followers were told of the first segment %s after it was durable", followers, c.await(t, "all connected", 0, false))
	put(1, 2)
	t.Logf("the second one took %s", c.await(t, "news", 1, false))
	put(2, 300)
	c.await(t, "news beside some that dawdle", 299, false)
	after := memory()
	each := (after - before) / int64(followers)
	t.Logf("%d kB of memory for each follower, both ends", each>>10)
	if each > 1<<20 {
		t.Errorf("followers that dawdle cost %d kB each", each>>10)
	}
	slow.Done()
	c.await(t, "those that dawdled", 299, true)

	addr := hub.Addrs()[0]
	ok(t, errors.Join(hub.Close(), disk.Close()))
	transporttest.WaitFor(t, "all notice", func() (bool, string) { n := c.lost.Load(); return n >= int64(followers), fmt.Sprint(n) })
	hub = sail(t, w.Hubs[0], w.Fleet(), onDisk(openStore(t, w, dir), addr))
	transporttest.WaitFor(t, "the device is back", func() (bool, string) {
		err := device.Put(deadline(t), hub.ID(), segs[300].Bytes())
		return err == nil, fmt.Sprint(err)
	})
	t.Logf("all were told again %s after the hub's restart", c.await(t, "news after the restart", 300, true))
}

func onDisk(s *store.Store, addr string) func(*p2p.Options) {
	return func(o *p2p.Options) { o.Store, o.Listen = s, []string{addr} }
}

// memory is what is in use, in bytes: heap and stacks.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
