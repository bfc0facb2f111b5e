// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	lrate "github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"golang.org/x/time/rate"
)

// What strangers get of a node, all of them together and each address. Members do not count against it.
const (
	strangerConns    = 16               // connections in all
	strangerPerAddr  = 4                // of one address
	strangerPerPeer  = 2                // of one key
	strangerLife     = 30 * time.Second // then the connection is closed, busy or not
	strangerStreams  = 6                // streams at once of a key, identify's included …
	strangerStreamHz = 0.5              // … and a second from then on
)

// handshakes bounds connections before anybody knows whose they are. A site of gateways behind one address that come back from a power cut
// together fit.
func handshakes() *lrate.Limiter {
	one := lrate.Limit{RPS: 8, Burst: connsPerAddress}
	return &lrate.Limiter{
		GlobalLimit: lrate.Limit{RPS: 100, Burst: 1000},
		SubnetRateLimiter: lrate.SubnetLimiter{IPv4SubnetLimits: []lrate.SubnetLimit{{PrefixLength: 32, Limit: one}},
			IPv6SubnetLimits: []lrate.SubnetLimit{{PrefixLength: 64, Limit: one}}, GracePeriod: time.Minute},
	}
}

// arrivals bounds how often strangers may finish a handshake.
func arrivals() *lrate.Limiter {
	one := lrate.Limit{RPS: 4, Burst: 2 * strangerPerAddr} // a site of gateways that is switched on asks twice each
	return &lrate.Limiter{
		GlobalLimit: lrate.Limit{RPS: 16, Burst: 2 * strangerConns},
		SubnetRateLimiter: lrate.SubnetLimiter{IPv4SubnetLimits: []lrate.SubnetLimit{{PrefixLength: 32, Limit: one}},
			IPv6SubnetLimits: []lrate.SubnetLimit{{PrefixLength: 64, Limit: one}}, GracePeriod: time.Minute},
	}
}

var errStranger = errors.New("p2p: a stranger may not have that many")

// guard is libp2p's connection gater, resource manager and notifiee in one: it knows members from strangers and counts the strangers. Members pass it.
type guard struct {
	network.ResourceManager
	member   func(peer.ID) bool
	life     time.Duration
	arrivals *lrate.Limiter

	mu      sync.Mutex
	all     int
	perAddr map[netip.Addr]int
	visits  map[peer.ID]*visit
	called  map[peer.ID]int // strangers that this node itself wants to speak to
}

// visit is one stranger.
type visit struct {
	conns   map[network.Conn]*time.Timer // nil timer: this node dialled
	streams *rate.Limiter
}

func newGuard(inner network.ResourceManager, member func(peer.ID) bool, life time.Duration) *guard {
	return &guard{ResourceManager: inner, member: member, life: life, arrivals: arrivals(),
		perAddr: map[netip.Addr]int{}, visits: map[peer.ID]*visit{}, called: map[peer.ID]int{}}
}

// call lets the node dial a stranger until done is called.
func (g *guard) call(p peer.ID) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.called[p]++
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.called[p]--; g.called[p] <= 0 {
			delete(g.called, p)
		}
	}
}

func (g *guard) welcome(p peer.ID) bool {
	if g.member(p) {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.called[p] > 0
}

// InterceptPeerDial keeps the node from dialling whomever a look-up or an answer names: members only, and whom it calls itself.
func (g *guard) InterceptPeerDial(p peer.ID) bool { return g.welcome(p) }

// InterceptAddrDial lets all addresses pass: the handshake proves who is there.
func (g *guard) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

// InterceptAccept lets all pass: the resource manager has counted the connection, and nobody knows yet whose it is.
func (g *guard) InterceptAccept(network.ConnMultiaddrs) bool { return true }

// InterceptSecured refuses strangers that come too often or when there are enough, before a multiplexer costs memory.
func (g *guard) InterceptSecured(dir network.Direction, p peer.ID, c network.ConnMultiaddrs) bool {
	if g.member(p) {
		return true
	}
	if dir == network.DirOutbound {
		return g.welcome(p)
	}
	addr := addrOf(c)
	g.mu.Lock()
	full := g.full(p, addr)
	g.mu.Unlock()
	return !full && g.arrivals.Allow(addr)
}

// InterceptUpgraded lets all pass; Connected counts, because each Connected has its Disconnected.
func (g *guard) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func (g *guard) full(p peer.ID, addr netip.Addr) bool {
	v := g.visits[p]
	return g.all >= strangerConns || g.perAddr[addr] >= strangerPerAddr || v != nil && len(v.conns) >= strangerPerPeer
}

// Connected implements network.Notifiee. It comes before the first stream of the connection.
func (g *guard) Connected(_ network.Network, c network.Conn) {
	p := c.RemotePeer()
	if g.member(p) {
		return
	}
	if !g.count(p, c) {
		_ = c.Close()
	}
}

func (g *guard) count(p peer.ID, c network.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	inbound := c.Stat().Direction == network.DirInbound
	if inbound && g.full(p, addrOf(c)) {
		return false
	}
	v := g.visits[p]
	if v == nil {
		v = &visit{conns: map[network.Conn]*time.Timer{}, streams: rate.NewLimiter(strangerStreamHz, strangerStreams)}
		g.visits[p] = v
	}
	v.conns[c] = nil
	if inbound {
		g.all++
		g.perAddr[addrOf(c)]++
		v.conns[c] = time.AfterFunc(g.life, func() { _ = c.Close() })
	}
	return true
}

// Disconnected implements network.Notifiee.
func (g *guard) Disconnected(_ network.Network, c network.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forget(c.RemotePeer(), c)
}

func (g *guard) forget(p peer.ID, c network.Conn) {
	v := g.visits[p]
	if v == nil {
		return
	}
	t, there := v.conns[c]
	if !there {
		return
	}
	delete(v.conns, c)
	if len(v.conns) == 0 {
		delete(g.visits, p)
	}
	if t == nil {
		return
	}
	t.Stop()
	g.all--
	addr := addrOf(c)
	if g.perAddr[addr]--; g.perAddr[addr] <= 0 {
		delete(g.perAddr, addr)
	}
}

// Listen implements network.Notifiee.
func (g *guard) Listen(network.Network, ma.Multiaddr) {}

// ListenClose implements network.Notifiee.
func (g *guard) ListenClose(network.Network, ma.Multiaddr) {}

// review takes strangers that have become members out of the count.
func (g *guard) review() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for p, v := range g.visits {
		if !g.member(p) {
			continue
		}
		for c := range v.conns {
			g.forget(p, c)
		}
	}
}

// visiting reports whether the peer is counted as a stranger, or one that this node called.
func (g *guard) visiting(p peer.ID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.visits[p] != nil || g.called[p] > 0
}

// OpenStream counts the streams of strangers, those that no protocol has been agreed on for included.
func (g *guard) OpenStream(p peer.ID, dir network.Direction) (network.StreamManagementScope, error) {
	if dir == network.DirInbound && !g.member(p) {
		g.mu.Lock()
		v := g.visits[p]
		g.mu.Unlock()
		if v == nil || !v.streams.Allow() {
			return nil, errStranger
		}
	}
	return g.ResourceManager.OpenStream(p, dir)
}

// addrOf returns the remote IP address; the zero Addr stands for all that have none.
func addrOf(c network.ConnMultiaddrs) netip.Addr {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	a = a.Unmap()
	if a.Is6() {
		if prefix, err := a.Prefix(64); err == nil { // one site has a /64
			return prefix.Addr()
		}
	}
	return a
}
