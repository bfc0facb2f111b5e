// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// Mapping is what lies between a node and those that it connects to.
type Mapping string

// The kinds.
const (
	MappingUnknown Mapping = "unknown" // nobody has said under which address it sees this node
	MappingNone    Mapping = "none"    // others see the node's own address: no NAT
	MappingCone    Mapping = "cone"    // one outer address whoever is spoken to: holes can be punched
	MappingRandom  Mapping = "random"  // another outer port for each destination: holes cannot be punched
)

// Observed is under which address a hub sees a connection of this node.
type Observed struct {
	Hub  edge.ID `json:"hub"`
	Own  string  `json:"own"`  // the node's end, as it sees it
	Seen string  `json:"seen"` // the same end, as the hub sees it
}

// NetReport is how a node stands in the network.
type NetReport struct {
	Listen   []string   `json:"listen"`
	Observed []Observed `json:"observed"`
	UDP      Mapping    `json:"udp"`
	TCP      Mapping    `json:"tcp"`
	Relays   []edge.ID  `json:"relays"` // hubs through which the node can be reached
	Hubs     []HubLink  `json:"hubs"`   // connections to hubs
	Serves   bool       `json:"serves"` // it is a hub itself
	LAN      bool       `json:"lan"`    // members on the local network find it by multicast DNS
}

// HubLink is an open connection to a hub.
type HubLink struct {
	Hub      edge.ID       `json:"hub"`
	Addr     string        `json:"addr"`
	Protocol string        `json:"protocol"` // QUIC or TCP
	Latency  time.Duration `json:"latency_ns,omitempty"`
	Relays   bool          `json:"relays"` // the node has a place at its relay
}

// sightings are what hubs say of this node's addresses.
type sightings struct {
	mu  sync.Mutex
	all map[network.Conn]ma.Multiaddr
}

// watchSightings notes what members see, until ctx ends.
func (n *Node) watchSightings(ctx context.Context) error {
	sub, err := n.parts.bus.Subscribe(new(event.EvtPeerIdentificationCompleted))
	if err != nil {
		return fmt.Errorf("p2p: watching own addresses: %w", err)
	}
	n.spawn(func() {
		defer func() { _ = sub.Close() }()
		for {
			select {
			case e := <-sub.Out():
				if id, ok := e.(event.EvtPeerIdentificationCompleted); ok && id.ObservedAddr != nil && n.isHub(id.Peer) && !relayed(id.Conn.RemoteMultiaddr()) {
					n.sightings.add(id.Conn, id.ObservedAddr)
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

func (s *sightings) add(c network.Conn, seen ma.Multiaddr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old := range s.all {
		if old.IsClosed() {
			delete(s.all, old)
		}
	}
	s.all[c] = seen
}

// NetReport says how the node stands in the network now.
func (n *Node) NetReport() NetReport {
	r := NetReport{Relays: n.Relays(), UDP: MappingUnknown, TCP: MappingUnknown, LAN: n.lan != nil, Serves: n.o.Store != nil}
	r.Hubs = n.hubLinks(r.Relays)
	for _, a := range n.parts.swarm.ListenAddresses() {
		if !relayed(a) {
			r.Listen = append(r.Listen, a.String())
		}
	}
	own, _ := n.parts.swarm.InterfaceListenAddresses() // none is no reason to stop
	ports := map[string][]string{}                     // seen address and port by protocol
	n.sightings.mu.Lock()
	defer n.sightings.mu.Unlock()
	for c, seen := range n.sightings.all {
		if c.IsClosed() {
			continue
		}
		id, _ := memberID(c.RemotePeer())
		r.Observed = append(r.Observed, Observed{Hub: id, Own: c.LocalMultiaddr().String(), Seen: seen.String()})
		kind, at := endpoint(seen)
		if !slices.Contains(ports[kind], at) {
			ports[kind] = append(ports[kind], at)
		}
		switch {
		case kind == "udp":
			r.UDP = mapping(own, seen, len(ports[kind]))
		case kind == "tcp":
			r.TCP = mapping(own, seen, len(ports[kind]))
		}
	}
	slices.SortFunc(r.Observed, func(a, b Observed) int { return strings.Compare(a.Own+a.Seen, b.Own+b.Seen) })
	return r
}

func (n *Node) hubLinks(places []edge.ID) (out []HubLink) {
	f := n.o.Fleet()
	for _, p := range n.Peers() {
		if !p.Direct || !f.Is(p.ID, fleet.Hub) {
			continue
		}
		l := HubLink{Hub: p.ID, Addr: p.Addr, Protocol: "TCP", Latency: p.Latency, Relays: slices.Contains(places, p.ID)}
		if strings.Contains(p.Addr, "/quic-v1") {
			l.Protocol = "QUIC"
		}
		out = append(out, l)
	}
	slices.SortFunc(out, func(a, b HubLink) int { return strings.Compare(a.Hub.String()+a.Addr, b.Hub.String()+b.Addr) })
	return out
}

// endpoint returns the protocol and the outer address of a sighting.
func endpoint(a ma.Multiaddr) (protocol, at string) {
	ip, _ := manet.ToIP(a) // an address without one is its own kind
	for _, p := range []int{ma.P_UDP, ma.P_TCP} {
		if port, err := a.ValueForProtocol(p); err == nil {
			return ma.ProtocolWithCode(p).Name, fmt.Sprintf("%s %s", ip, port)
		}
	}
	return "", ""
}

// mapping judges sightings of one protocol: the last one, and how many different ones there are.
func mapping(own []ma.Multiaddr, seen ma.Multiaddr, different int) Mapping {
	ip, err := manet.ToIP(seen)
	if err != nil {
		return MappingUnknown
	}
	for _, a := range own {
		if mine, err := manet.ToIP(a); err == nil && mine.Equal(ip) {
			return MappingNone
		}
	}
	if different > 1 {
		return MappingRandom
	}
	return MappingCone
}

// Explain says in plain words what the report means for those who want to reach the node; one line each.
func (r NetReport) Explain() []string {
	var out []string
	switch {
	case len(r.Hubs) == 0 && r.Serves:
		return []string{"no other hub is connected"}
	case len(r.Hubs) == 0 && r.LAN:
		return []string{"no hub is connected: nothing is published, and only members on this local network can reach this node"}
	case len(r.Hubs) == 0:
		return []string{"no hub is connected: nothing is published, and only who has its address can reach this node"}
	case len(r.Observed) == 0:
		out = append(out, "hubs are connected and have not said yet under which address they see this node")
	case r.UDP == MappingNone || r.TCP == MappingNone:
		out = append(out, "hubs see this node's own address: it can be reached directly, if nothing on the way filters")
	case r.UDP == MappingCone:
		out = append(out, "behind a NAT that keeps its ports (QUIC): connections begin at a relay and become direct as soon as both sides punch a hole")
	case r.UDP == MappingRandom:
		out = append(out, "behind a NAT that takes another port for each destination: connections stay relayed, unless the other side can be reached directly")
	default:
		out = append(out, "no hub is connected over QUIC, so nothing is known of this NAT's UDP ports: open UDP outwards, or give hubs a /udp/…/quic-v1 address")
	}
	if len(r.Relays) == 0 && !r.Serves {
		out = append(out, "no hub relays to this node now: only who has its address can reach it")
	}
	if len(r.Observed) == 1 && r.UDP == MappingCone {
		out = append(out, "one hub alone has seen this node: whether the NAT keeps its ports shows only with a second one")
	}
	return out
}

// Ping measures round trips to a member over the best connection there is, until visit returns false or ctx ends; see Reach for how it gets there. An error wraps
// transport.ErrUnreachable when the member cannot be reached, or is that of the trip that failed.
func (n *Node) Ping(ctx context.Context, member edge.ID, visit func(rtt time.Duration) bool) error {
	if _, err := n.Reach(ctx, member); err != nil {
		return err
	}
	if !n.begin() {
		return fmt.Errorf("p2p: pinging: %w", ErrClosed)
	}
	defer n.tasks.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(n.life, cancel)()
	for trip := range ping.Ping(ctx, n.host, peerID(member)) {
		if trip.Error != nil {
			return fmt.Errorf("p2p: pinging %s: %w", member.Short(), trip.Error)
		}
		if !visit(trip.RTT) {
			return nil
		}
	}
	return ctx.Err()
}
