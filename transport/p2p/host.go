// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	bhost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/host/peerstore/pstoremem"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quictransport "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// limits are fixed, not scaled to the machine: a board of 512 MB and a server refuse at the same load. memory is what
// the multiplexers may promise to peers (256 KiB a stream), not what is in use.
type limits struct {
	low, high int // connection manager: trim from high down to low
	conns     int
	streams   int
	memory    int64
}

func limitsFor(hub bool) limits {
	if hub { // of 1 000 devices and 40 hubs each has the segments of 500 devices
		return limits{low: 768, high: 896, conns: 1024, streams: 4096, memory: 512 << 20}
	}
	return limits{low: 40, high: 64, conns: 128, streams: 1024, memory: 128 << 20}
}

// handshakeLimit is how long a connection may take to say whose it is.
const handshakeLimit = 10 * time.Second

// connsPerAddress replaces libp2p's default of 8: a site of 20 gateways sits behind one address.
const connsPerAddress = 128

func (l limits) resources() (network.ResourceManager, error) {
	conns, streams := rcmgr.LimitVal(l.conns), rcmgr.LimitVal(l.streams)
	memory := rcmgr.LimitVal64(l.memory)
	all := rcmgr.ResourceLimits{Conns: conns, ConnsInbound: conns, ConnsOutbound: conns, FD: conns,
		Streams: streams, StreamsInbound: streams, StreamsOutbound: streams, Memory: memory}
	half := all
	half.Streams, half.StreamsInbound, half.StreamsOutbound, half.Memory = streams/2, streams/2, streams/2, memory/2
	one := rcmgr.ResourceLimits{Conns: 8, ConnsInbound: 8, ConnsOutbound: 8, FD: 8,
		Streams: 128, StreamsInbound: 128, StreamsOutbound: 128, Memory: 48 << 20}
	cfg := rcmgr.PartialLimitConfig{System: all, Transient: half, PeerDefault: one, ServiceDefault: all,
		ServicePeerDefault: one, ProtocolDefault: all, ProtocolPeerDefault: one}
	cfg.Transient.Conns, cfg.Transient.ConnsInbound = conns/2, conns/2 // silent handshakes leave room
	fixed := cfg.Build(rcmgr.DefaultLimits.Scale(l.memory, l.conns))
	v4 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: connsPerAddress}}
	v6 := []rcmgr.ConnLimitPerSubnet{{PrefixLength: 64, ConnCount: connsPerAddress}}
	m, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(fixed), rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(v4, v6), rcmgr.WithConnRateLimiters(handshakes()))
	if err != nil {
		return nil, fmt.Errorf("p2p: making resource manager: %w", err)
	}
	return m, nil
}

// assembly is a host made from its parts. The package go-libp2p itself and its config link WebRTC and WebTransport
// whatever the options say, 9 MB of program (docs/decisions/0010-host-from-parts.md); the parts alone do not.
type assembly struct {
	guard    *guard
	host     *bhost.BasicHost
	swarm    *swarm.Swarm
	bus      event.Bus
	upgrader transport.Upgrader
	udp      *quicreuse.ConnManager
	closed   []func() error // what the host does not close itself
}

// addrs returns the multiaddrs that the host tells others, without the /p2p part.
func (a *assembly) addrs() []string {
	var out []string
	for _, addr := range a.host.Addrs() {
		out = append(out, addr.String())
	}
	return out
}

func (a *assembly) close() error {
	var errs []error
	if a.host != nil {
		errs = append(errs, a.host.Close())
	}
	for _, c := range a.closed {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// assembling is what a host needs to know.
type assembling struct {
	key      *hostKey
	hub      bool
	announce []string
	member   func(peer.ID) bool // asked at each decision
	life     time.Duration      // of strangers' connections; 0 = strangerLife
}

func assemble(o assembling) (a *assembly, err error) {
	a = &assembly{}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	key, l := o.key, limitsFor(o.hub)
	resources, err := l.resources()
	if err != nil {
		return a, err
	}
	a.guard = newGuard(resources, o.member, cmp.Or(o.life, strangerLife))
	store, err := pstoremem.NewPeerstore()
	if err != nil {
		return a, fmt.Errorf("p2p: making peerstore: %w", err)
	}
	self, err := peer.IDFromPublicKey(key.public)
	if err != nil {
		return a, fmt.Errorf("p2p: naming host: %w", err)
	}
	if err := errors.Join(store.AddPrivKey(self, key), store.AddPubKey(self, key.public)); err != nil {
		return a, fmt.Errorf("p2p: adding own key: %w", err)
	}
	a.bus = eventbus.NewBus()
	if a.swarm, err = swarm.NewSwarm(self, store, a.bus, swarm.WithResourceManager(a.guard),
		swarm.WithConnectionGater(a.guard), swarm.WithDialTimeout(dialLimit)); err != nil {
		return a, fmt.Errorf("p2p: making swarm: %w", err)
	}
	a.swarm.Notify(a.guard)
	if err := a.addTransports(key, a.guard); err != nil {
		return a, err
	}
	cm, err := connmgr.NewConnManager(l.low, l.high, connmgr.WithGracePeriod(20*time.Second))
	if err != nil {
		return a, fmt.Errorf("p2p: making connection manager: %w", err)
	}
	factory, err := announcer(o.announce)
	if err != nil {
		return a, err
	}
	a.host, err = bhost.NewHost(a.swarm, &bhost.HostOpts{EventBus: a.bus, ConnManager: cm, AddrsFactory: factory,
		UserAgent: "streembit", ProtocolVersion: "streembit/1"})
	if err != nil {
		return a, fmt.Errorf("p2p: making host: %w", err)
	}
	return a, nil
}

func (a *assembly) addTransports(key *hostKey, resources *guard) error {
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	secure, err := noise.New(noise.ID, key, muxers)
	if err != nil {
		return fmt.Errorf("p2p: making noise: %w", err)
	}
	up, err := upgrader.New([]sec.SecureTransport{secure}, muxers, nil, resources, resources, upgrader.WithAcceptTimeout(handshakeLimit))
	if err != nil {
		return fmt.Errorf("p2p: making upgrader: %w", err)
	}
	a.upgrader = up
	stream, err := tcp.NewTCPTransport(up, resources, nil)
	if err != nil {
		return fmt.Errorf("p2p: making TCP: %w", err)
	}
	reset, err := key.derive("quic stateless reset")
	if err != nil {
		return err
	}
	token, err := key.derive("quic token")
	if err != nil {
		return err
	}
	a.udp, err = quicreuse.NewConnManager(quic.StatelessResetKey(reset), quic.TokenGeneratorKey(token),
		quicreuse.ConnContext(inboundQUIC(resources)), quicreuse.VerifySourceAddress(func(addr net.Addr) bool {
			return resources.VerifySourceAddress(addr)
		}))
	if err != nil {
		return fmt.Errorf("p2p: making UDP manager: %w", err)
	}
	a.closed = append(a.closed, a.udp.Close)
	datagram, err := quictransport.NewTransport(key, a.udp, nil, resources, resources)
	if err != nil {
		return fmt.Errorf("p2p: making QUIC: %w", err)
	}
	if err := errors.Join(a.swarm.AddTransport(stream), a.swarm.AddTransport(datagram)); err != nil {
		return fmt.Errorf("p2p: adding transports: %w", err)
	}
	return nil
}

// inboundQUIC counts a QUIC connection against the limits from its first packet on, as TCP connections are.
func inboundQUIC(resources network.ResourceManager) func(context.Context, *quic.ClientInfo) (context.Context, error) {
	return func(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
		addr, err := quicreuse.ToQuicMultiaddr(client.RemoteAddr, quic.Version1)
		if err != nil {
			addr = nil // the resource manager decides without it
		}
		scope, err := resources.OpenConnection(network.DirInbound, false, addr)
		if err != nil {
			return ctx, err
		}
		ctx = network.WithConnManagementScope(ctx, scope)
		context.AfterFunc(ctx, scope.Done)
		return ctx, nil
	}
}

// announcer returns what the host tells others about its addresses: the configured ones, or nil for all it has.
func announcer(announce []string) (func([]ma.Multiaddr) []ma.Multiaddr, error) {
	if len(announce) == 0 {
		return nil, nil
	}
	fixed, err := parseAddrs(announce)
	if err != nil {
		return nil, err
	}
	return func([]ma.Multiaddr) []ma.Multiaddr { return fixed }, nil
}

func parseAddrs(texts []string) ([]ma.Multiaddr, error) {
	out := make([]ma.Multiaddr, 0, len(texts))
	for _, t := range texts {
		m, err := ma.NewMultiaddr(t)
		if err != nil {
			return nil, fmt.Errorf("p2p: address %q: want a multiaddr such as /ip4/0.0.0.0/tcp/32321: %w", t, err)
		}
		out = append(out, m)
	}
	return out, nil
}
