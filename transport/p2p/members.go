// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/streembit/edge/fleet"
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

// membersOnly also makes the handler's goroutine one that Close waits for.
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

// routable and askable are kad-dht's two filters: only enrolled hubs are remembered and asked.
func (n *Node) routable(_ any, p peer.ID) bool       { return n.isHub(p) }
func (n *Node) askable(_ any, to peer.AddrInfo) bool { return n.isHub(to.ID) }

// FleetChanged applies a new fleet to what is open: connections of former members are closed and forgotten, hubs
// that are connected already become known to the DHT.
func (n *Node) FleetChanged() {
	for _, p := range n.parts.host.Network().Peers() {
		switch {
		case n.isHub(p):
			n.remember(p)
		case !n.isMember(p):
			n.dht.RoutingTable().RemovePeer(p)
			_ = n.parts.host.Network().ClosePeer(p)
		default:
			n.dht.RoutingTable().RemovePeer(p)
		}
	}
}

// remember puts a connected hub into the routing table at once: kad-dht does so only some time after the handshake,
// and a first look-up would find an empty table.
func (n *Node) remember(p peer.ID) {
	if _, err := n.dht.RoutingTable().TryAddPeer(p, true, false); err != nil {
		n.log.Debug("hub not added to routing table", "peer", p, "err", err)
	}
}
