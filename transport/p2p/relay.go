// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"crypto/sha256"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
)

// What a hub relays for members that cannot be reached otherwise. libp2p's default ends each relayed connection after 128 KiB or 2 min, which no
// session of commands survives; here all relayed connections of a hub share a rate instead.
const (
	relayRate   = 4 << 20  // bytes/s of all of them together
	relayBuffer = 4 << 10  // bytes that one direction of a relayed connection buffers
	relayBurst  = 64 << 10 // bytes that may pass at once
	circuits    = 64       // relayed connections of one member
	reserveTTL  = time.Hour
)

// startRelay lets a hub carry connections between members.
func (n *Node) startRelay() error {
	l := limitsFor(true)
	pace := rate.NewLimiter(relayRate, relayBurst)
	r, err := relay.New(relayHost{n.host, n.life, pace}, relay.WithACL(relayRule{n}), relay.WithResources(relay.Resources{
		ReservationTTL: reserveTTL, MaxReservations: l.high, MaxCircuits: circuits, BufferSize: relayBuffer,
		MaxReservationsPerIP: connsPerAddress, MaxReservationsPerASN: l.high,
	}))
	if err != nil {
		return fmt.Errorf("p2p: starting relay: %w", err)
	}
	n.parts.closed = append(n.parts.closed, r.Close)
	n.parts.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.Stat().Direction == network.DirInbound && n.isMember(c.RemotePeer()) {
			n.doubtOlder(c)
		}
	}})
	return nil
}

// relayRule says who is relayed: members to members; and hubs need none.
type relayRule struct{ node *Node }

// AllowReserve implements relay.ACLFilter.
func (r relayRule) AllowReserve(p peer.ID, _ ma.Multiaddr) bool {
	return r.node.isMember(p) && !r.node.isHub(p)
}

// AllowConnect implements relay.ACLFilter.
func (r relayRule) AllowConnect(src peer.ID, _ ma.Multiaddr, dest peer.ID) bool {
	return r.node.isMember(src) && r.node.isMember(dest)
}

// relayHost is the host as the relay sees it: whatever it reads of its streams counts against the hub's rate.
type relayHost struct {
	memberHost
	life context.Context //nolint:containedctx // of the node
	pace *rate.Limiter
}

// SetStreamHandler implements host.Host.
func (h relayHost) SetStreamHandler(p protocol.ID, handler network.StreamHandler) {
	h.memberHost.SetStreamHandler(p, func(s network.Stream) { handler(pacedStream{s, h}) })
}

// NewStream implements host.Host.
func (h relayHost) NewStream(ctx context.Context, to peer.ID, p ...protocol.ID) (network.Stream, error) {
	s, err := h.Host.NewStream(ctx, to, p...)
	if err != nil {
		return nil, err
	}
	return pacedStream{s, h}, nil
}

var _ host.Host = relayHost{}

type pacedStream struct {
	network.Stream
	h relayHost
}

// Read waits until the hub's rate has room for what it has read.
func (s pacedStream) Read(b []byte) (int, error) {
	k, err := s.Stream.Read(b[:min(len(b), relayBuffer)])
	if k > 0 {
		if werr := s.h.pace.WaitN(s.h.life, k); werr != nil && err == nil {
			err = ErrClosed
		}
	}
	return k, err
}

// relaysOf returns the hubs at which a member can be found, those to try first in front: every member computes the same, so that nobody needs to
// tell where it is.
func relaysOf(f *fleet.Fleet, member edge.ID) []edge.ID {
	var hubs []edge.ID
	for _, g := range f.Hubs() {
		if g.Member != member {
			hubs = append(hubs, g.Member)
		}
	}
	return transport.Place(sha256.Sum256(append([]byte("streembit/relays/1\x00"), member[:]...)), hubs)
}

// relayed reports whether a connection goes through a relay.
func relayed(addr ma.Multiaddr) bool {
	_, err := addr.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
