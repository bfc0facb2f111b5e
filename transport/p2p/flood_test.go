// SPDX-License-Identifier: Apache-2.0

package p2p_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/transport/p2p"
	"github.com/streembit/edge/transport/transporttest"
)

// strangerAt is a raw host whose connections come from an address of its own; all of 127/8 is this machine on Linux.
func strangerAt(t testing.TB, ip string) rawHost {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return newRawHostWith(t, must(t, key, err), "/ip4/"+ip+"/tcp/0")
}

func infoOf(t testing.TB, n *p2p.Node) peer.AddrInfo {
	t.Helper()
	id, err := peer.IDFromBytes(n.ID().Bytes())
	info := peer.AddrInfo{ID: must(t, id, err)}
	for _, a := range n.Addrs() {
		info.Addrs = append(info.Addrs, ma.StringCast(a))
	}
	return info
}

// strangersAt counts the connections of strangers, in all and of the address that has most.
func strangersAt(n *p2p.Node) (all, most int) {
	per := map[string]int{}
	for _, p := range n.Peers() {
		if !p.Member {
			all++
			ip := strings.Split(p.Addr, "/")[2]
			per[ip]++
			most = max(most, per[ip])
		}
	}
	return all, most
}

// crowdAt is strangersAt, but for connections that are refused and not closed yet.
func crowdAt(n *p2p.Node) (all, most int) {
	for range 5 {
		if all, most = strangersAt(n); all <= 16 && most <= 4 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return all, most
}

// works shows that members are served: one that is connected, and one that comes now.
func works(t *testing.T, w *transporttest.World, hub, there *sailor, chain *transporttest.Chain) {
	t.Helper()
	ok(t, there.Put(deadline(t), hub.ID(), chain.Next(1).Bytes()))
	comes := sail(t, w.Reader, hub.now(), nil)
	transporttest.WaitFor(t, "a member that comes now is served", func() (bool, string) {
		held, err := comes.Held(deadline(t), hub.ID(), there.ID())
		return err == nil && len(held) == 1, fmt.Sprintf("%v, %v", held, err)
	})
	ok(t, comes.Close())
}

func TestFlood_Connections(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	hub := crew(t, w)[0]
	device := sail(t, w.Devices[0], hub.now(), nil)
	chain := w.Chain(t, w.Devices[0], "main")
	ok(t, device.Put(t.Context(), hub.ID(), chain.Next(1).Bytes()))
	to := infoOf(t, hub.Node)

	ctx, cancel := context.WithCancel(t.Context())
	var dialled, held atomic.Int64
	var flood sync.WaitGroup
	for i := range 48 {
		h := strangerAt(t, fmt.Sprintf("127.0.1.%d", 1+i/8)) // six addresses, eight keys each
		flood.Go(func() {
			for ctx.Err() == nil {
				dialled.Add(1)
				if h.Connect(ctx, to) == nil {
					held.Add(1)
					s, err := h.NewStream(ctx, to.ID, "/streembit/fleet/1") // says nothing
					if err == nil {
						defer func() { _ = s.Reset() }()
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(50 * time.Millisecond): // the machine is theirs too
				}
			}
		})
	}
	transporttest.WaitFor(t, "all places of strangers are taken", func() (bool, string) {
		all, most := crowdAt(hub.Node)
		if all > 16 || most > 4 {
			t.Fatalf("%d strangers are connected, %d of one address", all, most)
		}
		return all == 16 && dialled.Load() > 400, fmt.Sprintf("%d of %d dials", all, dialled.Load())
	})
	works(t, w, hub, device, chain)
	if all, most := crowdAt(hub.Node); all > 16 || most > 4 {
		t.Errorf("%d strangers are connected, %d of one address", all, most)
	}
	cancel()
	flood.Wait()
	t.Logf("%d dials of strangers, %d of them thought to be connected", dialled.Load(), held.Load())
}

func TestFlood_Streams(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	hub := crew(t, w)[0]
	device := sail(t, w.Devices[0], hub.now(), nil)
	chain := w.Chain(t, w.Devices[0], "main")
	ok(t, device.Put(t.Context(), hub.ID(), chain.Next(1).Bytes()))
	flood := func(h rawHost, p string) (opened int) {
		to := h.dial(t, hub.Node)
		question := message(t, 'h', []any{journal.BootID{}, "", journal.Hash{}})
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if answer, err := h.ask(ctx, to, "/streembit/fleet/1", question, readFramed); err == nil && answer[0] == 'W' {
				opened++
			}
			cancel()
		}
		return opened
	}
	opened := flood(strangerAt(t, "127.0.2.1"), "a stranger")
	if opened > 12 { // a handful at once and one every two seconds
		t.Errorf("a stranger was answered on %d of 200 streams", opened)
	}
	if opened == 0 {
		t.Error("a stranger was never answered, so that nothing is shown")
	}
	works(t, w, hub, device, chain)
}

// TestFlood_SilentHandshakes: connections that never say whose they are.
func TestFlood_SilentHandshakes(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 1)
	hub := crew(t, w)[0]
	device := sail(t, w.Devices[0], hub.now(), nil)
	chain := w.Chain(t, w.Devices[0], "main")
	ok(t, device.Put(t.Context(), hub.ID(), chain.Next(1).Bytes()))
	to, err := manet.ToNetAddr(infoOf(t, hub.Node).Addrs[0])
	must(t, to, err)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 3, 1)}}
	var conns []net.Conn
	t.Cleanup(func() {
		for _, c := range conns {
			_ = c.Close()
		}
	})
	for range 300 {
		c, err := dialer.DialContext(t.Context(), "tcp", to.String())
		must(t, c, err) // the kernel accepts
		conns = append(conns, c)
	}
	works(t, w, hub, device, chain)
	transporttest.WaitFor(t, "most are closed at once", func() (bool, string) {
		closed := 0
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			if _, err := io.Copy(io.Discard, c); err == nil || !isTimeout(err) {
				closed++
			}
		}
		return closed >= 300-128, fmt.Sprintf("%d of 300", closed)
	})
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error) //nolint:errorlint // as net gives it
	return ok && ne.Timeout()
}

// TestStranger_LeavesAfterItsTime: a stranger that stays is disconnected.
func TestStranger_LeavesAfterItsTime(t *testing.T) {
	w := transporttest.NewWorld(t, 1, 0)
	hub := sail(t, w.Hubs[0], w.Fleet(), func(o *p2p.Options) { asHub(w)(o); *o = p2p.WithStrangerLife(*o, 300*time.Millisecond) })
	h := strangerAt(t, "127.0.4.1")
	to := h.dial(t, hub.Node)
	began := time.Now()
	transporttest.WaitFor(t, "it is disconnected", func() (bool, string) {
		return h.Network().Connectedness(to) != network.Connected, ""
	})
	if all, _ := strangersAt(hub.Node); all != 0 || time.Since(began) < 200*time.Millisecond {
		t.Errorf("%d strangers left after %s", all, time.Since(began))
	}
}
