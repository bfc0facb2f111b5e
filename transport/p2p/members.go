// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
)

// memberHost lets no stranger's stream reach any protocol that is set on it, the DHT's inbound requests included:
// kad-dht's own filters guard its routing table and its queries, not its server.
type memberHost struct {
	host.Host
	node *Node
}

// SetStreamHandler sets a handler that only members reach.
func (h memberHost) SetStreamHandler(p protocol.ID, handler network.StreamHandler) {
	h.Host.SetStreamHandler(p, h.node.membersOnly(handler))
}

// SetStreamHandlerMatch sets a handler that only members reach.
func (h memberHost) SetStreamHandlerMatch(p protocol.ID, match func(protocol.ID) bool, handler network.StreamHandler) {
	h.Host.SetStreamHandlerMatch(p, match, h.node.membersOnly(handler))
}

// membersOnly also lets a stream wait until it is known from which machine it comes, and makes the handler's goroutine one that Close waits for.
func (n *Node) membersOnly(handler network.StreamHandler) network.StreamHandler {
	return func(s network.Stream) {
		who := s.Conn().RemotePeer()
		if !n.isMember(who) {
			n.log.Debug("stranger refused", "peer", who, "protocol", s.Protocol(), "addr", s.Conn().RemoteMultiaddr())
			_ = s.Reset()
			return
		}
		if !n.begin() {
			_ = s.Reset()
			return
		}
		defer n.tasks.Done()
		if !n.twins.gate(s.Conn()) || !n.isMember(who) {
			n.log.Debug("stream refused before a hello", "peer", who, "protocol", s.Protocol(), "addr", s.Conn().RemoteMultiaddr())
			_ = s.Reset()
			return
		}
		handler(s)
	}
}

func (n *Node) isMember(p peer.ID) bool {
	id, ok := memberID(p)
	return ok && n.o.Fleet().IsMember(id)
}

func (n *Node) isHub(p peer.ID) bool {
	id, ok := memberID(p)
	return ok && n.o.Fleet().Is(id, fleet.Hub)
}

// isWelcome is what the guard asks.
func (n *Node) isWelcome(p peer.ID) bool { return n.isMember(p) || n.o.test.noFilters }

// routable and askable are kad-dht's two filters: only enrolled hubs are remembered and asked.
func (n *Node) routable(_ any, p peer.ID) bool       { return n.isHub(p) || n.o.test.noFilters }
func (n *Node) askable(_ any, to peer.AddrInfo) bool { return n.isHub(to.ID) || n.o.test.noFilters }

// FleetChanged applies a new fleet to what is open, before it returns: who is no member any more is cut from connections, look-ups, lanes and streams,
// what is served to somebody without the right to it ends, and hubs that are connected already become known to the DHT. Then it passes the change on to all
// connected members, in the background. Call it after each change that did not come by this node's Merge.
func (n *Node) FleetChanged() {
	n.apply()
	n.meetAll()
	n.sweepSoon()
}

// sweepAfter is when a change is applied once more: a connection or a look-up that was under way may have been judged by the fleet before, and
// come into the tables after they were cleared.
const sweepAfter = 2 * time.Second

func (n *Node) sweepSoon() {
	n.spawn(func() {
		t := time.NewTimer(sweepAfter)
		defer t.Stop()
		select {
		case <-t.C:
			n.apply()
		case <-n.life.Done():
		}
	})
}

func (n *Node) apply() {
	n.parts.guard.review()
	f := n.o.Fleet()
	for _, p := range n.dht.RoutingTable().ListPeers() {
		if !n.isHub(p) {
			n.dht.RoutingTable().RemovePeer(p)
		}
	}
	for _, p := range n.parts.host.Network().Peers() {
		switch {
		case n.isHub(p):
			n.remember(p)
		case !n.isMember(p) && !n.parts.guard.visiting(p):
			_ = n.parts.host.Network().ClosePeer(p)
			n.parts.host.Peerstore().ClearAddrs(p)
		}
		n.rank(p)
	}
	n.dropLanes(f)
	n.serving.review(f)
	if n.o.Direct != nil {
		n.o.Direct.Review()
	}
}

// dropLanes ends the lanes to those that are no hubs any more: what waits there fails, and goes to other hubs.
func (n *Node) dropLanes(f *fleet.Fleet) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for hub, l := range n.lanes {
		if !f.Is(hub, fleet.Hub) {
			l.drop(fmt.Errorf("p2p: putting: %s is no hub any more: %w", hub, transport.ErrUnreachable))
			delete(n.lanes, hub)
		}
	}
}

// memberRank makes the connection manager close strangers first. It does not protect members wholly: a hub of a large fleet has more of them than
// connections, and must close those that were idle longest.
const memberRank = 100

func (n *Node) rank(p peer.ID) {
	if n.isMember(p) {
		n.parts.host.ConnManager().TagPeer(p, "member", memberRank)
	} else {
		n.parts.host.ConnManager().UntagPeer(p, "member")
	}
}

// arrived is told of each new connection: its dialler says hello.
func (n *Node) arrived(_ network.Network, c network.Conn) {
	p := c.RemotePeer()
	if !n.isMember(p) {
		return
	}
	n.rank(p)
	if c.Stat().Direction == network.DirOutbound {
		n.meetSoon(c)
	}
}

// remember puts a connected hub into the routing table at once: kad-dht does so only some time after the handshake,
// and a first look-up would find an empty table.
func (n *Node) remember(p peer.ID) {
	if _, err := n.dht.RoutingTable().TryAddPeer(p, true, false); err != nil {
		n.log.Debug("hub not added to routing table", "peer", p, "err", err)
	}
	if !n.isHub(p) { // revoked since the caller looked: FleetChanged may have cleared the table a moment before
		n.dht.RoutingTable().RemovePeer(p)
	}
}
