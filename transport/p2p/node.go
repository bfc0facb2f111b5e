// SPDX-License-Identifier: Apache-2.0

// Package p2p is the real transport: a libp2p host assembled from its parts, the fleet's own Kademlia DHT, and the
// store and fetch protocols. It is the only folder that imports libp2p.
//
// Start with New. A Node with a Store is a hub, one without is a client. Only members of the fleet are spoken to, but for the
// enrolment: see guard and fleetProtocol for what strangers get. A Newcomer is what is no member yet.
package p2p

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/chunks"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/transport"
)

// ErrClosed is returned by the methods of a Node that was closed.
var ErrClosed = errors.New("node is closed")

// Options say who the node is and what it offers. Signer and Fleet are required.
type Options struct {
	Signer   journal.Signer      // identity
	Secret   []byte              // 32 stable random bytes, not the key, for QUIC's resets; nil = new at each start
	Listen   []string            // multiaddrs, e.g. /ip4/0.0.0.0/tcp/32321; none = a client without a listener
	Announce []string            // multiaddrs to tell others instead of those that are listened on
	Fleet    func() *fleet.Fleet // asked at every decision, so members may come and go; never nil
	Store    transport.Store     // a hub's disk; nil = not a hub
	Logger   *slog.Logger        // nil = no log

	Mirror transport.Mirror     // a hub's disk as other hubs repair from it; nil = they are refused
	Books  transport.Bookkeeper // a hub's disk as collectors mark in it; nil = they are refused

	// Merge takes in what another member (or a newcomer that proves its own membership) offers: it proves b, saves the result durably, audits it,
	// and makes Fleet return it from then on. It returns that fleet, also beside an error that wraps fleet.ErrFork. It is called concurrently, and need
	// not call FleetChanged: the node applies and passes on what came by the network. nil = what others offer is refused.
	Merge     func(b fleet.Bundle) (*fleet.Fleet, error)
	Direct    DirectServer   // a device's side of direct sessions, closed before the node; nil = they are refused
	Enrol     Enrolment      // a hub's queue for newcomers; nil = claims are refused
	Desk      Desk           // the same for operators; nil = they are refused
	Boot      journal.BootID // of this machine; zero = the node takes no part in the detection of clones
	Version   string         // of the program, for people
	Alarm     func(Alarm)    // called from the node's goroutines, must not block; nil = alarms are only logged
	Sync      time.Duration  // how often the fleet is compared with the others'. 0 = 3 min; 30 min if Metered
	Reachable bool           // others may want to speak to this node: it holds places at the hubs' relays
	MDNS      bool           // members that ask on the LAN find this node if it listens, and it looks there for others (discoverlan.go)
	Metered   bool           // the bytes cost money: a client that keeps to one hub, looks nothing up unasked and leaves heads to the hubs (transport.Metered)

	Records  *records.Shelf   // the records of updates: a hub's on disk; nil = in memory
	News     func(key string) // a record of updates is new here, or a hub says so; must not block. nil = nobody wants to know
	Programs Programs         // what this node gives others of programs; nil = nothing

	HeadMaxAge time.Duration // how long a hub keeps a head; must outlive the data. 0 = 30 days
	KeepAlive  time.Duration // pause after which a fetch or follow stream, or the connection to a relay, shows that it lives. 0 = 15 s

	test testOnly
}

// testOnly is what the tests of this package alone can set.
type testOnly struct {
	providers    bool          // provider records are on
	noFilters    bool          // everybody counts as a hub of the DHT
	strangerLife time.Duration // 0 = strangerLife
}

// PeerInfo is one connection.
type PeerInfo struct {
	ID      edge.ID
	Addr    string        // the remote multiaddr
	Direct  bool          // not through a relay
	Member  bool          // of the fleet, as far as this node knows
	Latency time.Duration // moving average, 0 = unknown
}

// Node is one member on the network. Safe for concurrent use. Close it.
type Node struct {
	o     Options
	self  edge.ID
	log   *slog.Logger
	parts *assembly
	host  memberHost
	dht   *dht.IpfsDHT

	*lifetime
	taken *semaphore.Weighted // bytes of segments between wire and disk

	serving  readings
	repairs  turns
	giving   turns // chunks of programs and lists of records
	twins    *twins
	marks    marks
	things   thingMarks
	wanted   seekers
	meetings meetings
	telling  *semaphore.Weighted // places for comparing fleets, as the asking side …
	served   *semaphore.Weighted // … and as the answering one
	large    *semaphore.Weighted // places for large bundles
	offers   *rate.Limiter       // of strangers, all together

	mu     sync.Mutex
	lanes  map[edge.ID]*lane
	misses map[edge.ID]miss
	places places
	lan    io.Closer // nil = off
	proven sync.Map  // network.Conn → time.Time when it answered last; see alive.go

	sightings sightings
	listening atomic.Bool

	headDue map[journal.Chain]time.Time // when this hub may put a head again for a metered device
}

// New starts a node. ctx bounds the start only.
func New(ctx context.Context, o Options) (*Node, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	key, err := newHostKey(o.Signer, o.Secret)
	if err != nil {
		return nil, err
	}
	listen, err := parseAddrs(o.Listen)
	if err != nil {
		return nil, err
	}
	n := &Node{lifetime: newLifetime(), o: o, self: o.Signer.ID(), log: o.Logger, lanes: map[edge.ID]*lane{}, misses: map[edge.ID]miss{}, headDue: map[journal.Chain]time.Time{},
		sightings: sightings{all: map[network.Conn]ma.Multiaddr{}}, places: places{lost: make(chan struct{}, 1), until: map[edge.ID]time.Time{}},
		taken: semaphore.NewWeighted(maxTaken), serving: readings{all: map[*reading]struct{}{}},
		repairs: newTurns(repairPlaces, repairOfOne), giving: newTurns(programPlaces, programsOfOne), wanted: seekers{trees: map[chunks.Hash]map[edge.ID]seeker{}},
		marks: marks{store: o.Store, seen: map[journal.Chain]transport.Head{}}, things: thingMarks{seen: map[edge.ID]described{}},
		meetings: meetings{again: map[network.Conn]bool{}},
		telling:  semaphore.NewWeighted(tellPlaces), served: semaphore.NewWeighted(tellPlaces), large: semaphore.NewWeighted(largePlaces),
		offers: rate.NewLimiter(strangerOffers, 8*strangerOffers)}
	n.twins = newTwins(n)
	if n.parts, err = assemble(assembling{key: key, hub: o.Store != nil, announce: o.Announce, member: n.isWelcome, life: o.test.strangerLife}); err != nil {
		return nil, err
	}
	n.host = memberHost{Host: n.parts.host, node: n}
	if err := n.start(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	if len(listen) > 0 {
		if err := n.parts.swarm.Listen(listen...); err != nil {
			return nil, errors.Join(fmt.Errorf("p2p: listening on %v: %w", o.Listen, err), n.Close())
		}
	}
	n.listening.Store(true)
	if o.MDNS && len(listen) > 0 {
		if n.lan, err = n.startLAN(); err != nil {
			n.log.Warn("members on the local network cannot find this one by multicast DNS", "err", err)
			n.lan = nil
		}
	}
	if o.Reachable && o.Store == nil {
		n.spawn(func() { n.keepPlaces(n.life) })
	}
	return n, ctx.Err()
}

func (o *Options) complete() error {
	if o.Signer == nil || o.Fleet == nil || o.Fleet() == nil {
		return errors.New("p2p: starting node: an identity and a fleet are required")
	}
	return o.defaults()
}

func (o *Options) defaults() error {
	if len(o.Secret) != 0 && len(o.Secret) != 32 {
		return fmt.Errorf("p2p: starting node: secret of %d bytes: want 32", len(o.Secret))
	}
	if len(o.Secret) == 0 {
		o.Secret = make([]byte, 32)
		rand.Read(o.Secret)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.HeadMaxAge == 0 {
		o.HeadMaxAge = 30 * 24 * time.Hour
	}
	switch {
	case o.Sync == 0 && o.Metered:
		o.Sync = 30 * time.Minute
	case o.Sync == 0:
		o.Sync = 3 * time.Minute
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 15 * time.Second
	}
	if o.News == nil {
		o.News = func(string) {}
	}
	if o.Records == nil && o.Fleet != nil {
		o.Records, _ = records.OpenShelf("", o.Fleet) // memory cannot fail
	}
	return nil
}

// start brings up the protocols before anything is listened on, so that no early caller finds half a node.
func (n *Node) start() error {
	n.parts.host.Start()
	if n.o.Store != nil {
		n.host.SetStreamHandler(storeProtocol, n.serveStore)
		n.host.SetStreamHandler(fetchProtocol, n.serveFetch)
		n.host.SetStreamHandler(confirmProtocol, n.serveConfirm)
	}
	if n.o.Mirror != nil {
		n.host.SetStreamHandler(repairProtocol, n.serveRepair)
	}
	if n.o.Direct != nil {
		n.host.SetStreamHandler(directProtocol, n.serveDirect)
	}
	n.host.SetStreamHandler(programProtocol, n.servePrograms)
	ping.NewPingService(n.host)
	if err := n.watchSightings(n.life); err != nil {
		return err
	}
	if err := n.startDHT(); err != nil {
		return err
	}
	start := n.startReachable
	if n.o.Store != nil {
		start = n.startRelay
	}
	if err := start(); err != nil {
		return err
	}
	n.parts.host.SetStreamHandler(fleetProtocol, n.serveFleet)
	n.parts.host.Network().Notify(&network.NotifyBundle{ConnectedF: n.arrived,
		DisconnectedF: func(_ network.Network, c network.Conn) { n.twins.gone(c); n.proven.Delete(c) }})
	n.spawn(func() { n.keepUp(n.life) })
	if n.o.Store != nil {
		n.spawn(func() { n.keepRecords(n.life) })
	}
	return nil
}

// Close ends all work, waits for it and frees the addresses.
func (n *Node) Close() error {
	if !n.end() {
		return nil
	}
	var errs []error
	if n.lan != nil {
		errs = append(errs, n.lan.Close())
	}
	if n.dht != nil {
		errs = append(errs, n.dht.Close())
	}
	errs = append(errs, n.parts.close())
	n.tasks.Wait()
	return errors.Join(errs...)
}

// ID returns the node's own identity.
func (n *Node) ID() edge.ID { return n.self }

// Addrs returns the multiaddrs under which others reach the node, without the /p2p part; none for a client.
func (n *Node) Addrs() []string {
	return n.parts.addrs()
}

// Peers returns the open connections.
func (n *Node) Peers() []PeerInfo {
	f := n.o.Fleet()
	var out []PeerInfo
	for _, c := range n.parts.host.Network().Conns() {
		id, ok := memberID(c.RemotePeer())
		out = append(out, PeerInfo{ID: id, Addr: c.RemoteMultiaddr().String(), Direct: !relayed(c.RemoteMultiaddr()),
			Member: ok && f.IsMember(id), Latency: n.parts.host.Peerstore().LatencyEWMA(c.RemotePeer())})
	}
	return out
}

// Known returns the hubs in the DHT's routing table: those that look-ups begin at.
func (n *Node) Known() []edge.ID {
	var out []edge.ID
	for _, p := range n.dht.RoutingTable().ListPeers() {
		if id, ok := memberID(p); ok {
			out = append(out, id)
		}
	}
	return out
}

// connected reports whether a direct connection is open.
func (n *Node) connected(id edge.ID) bool {
	return n.parts.host.Network().Connectedness(peerID(id)) == network.Connected
}
