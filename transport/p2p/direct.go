// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
)

const directProtocol protocol.ID = "/streembit/direct/1"

// DirectServer is a device's side of direct sessions; *direct.Server is one.
type DirectServer interface {
	// Serve holds one session with a member that the handshake has proven, until it is over or ctx ends.
	Serve(ctx context.Context, stream io.ReadWriteCloser, member edge.ID) error
	// Review is called after each change of the fleet.
	Review()
}

// Path is how a stream goes.
type Path struct {
	Addr    string // the remote multiaddr
	Relayed bool
}

func (p Path) String() string {
	if p.Relayed {
		return "relayed by " + p.Addr
	}
	return "direct to " + p.Addr
}

// Direct opens a stream for a session with a member: over a connection that is there, at the addresses that are known of it, or at those that the hubs know.
// The caller closes the stream. An error wraps transport.ErrUnreachable, or fleet.ErrNotMember.
func (n *Node) Direct(ctx context.Context, member edge.ID) (io.ReadWriteCloser, Path, error) {
	if !n.o.Fleet().IsMember(member) {
		return nil, Path{}, fmt.Errorf("p2p: session with %s: %w", member.Short(), fleet.ErrNotMember)
	}
	if err := n.reachMember(ctx, member); err != nil {
		return nil, Path{}, err
	}
	s, err := n.host.NewStream(ctx, peerID(member), directProtocol)
	if err != nil {
		return nil, Path{}, fmt.Errorf("p2p: opening %s to %s: %w: %w", directProtocol, member.Short(), transport.ErrUnreachable, err)
	}
	c := s.Conn()
	return &directStream{Stream: s}, Path{Addr: c.RemoteMultiaddr().String(), Relayed: c.Stat().Limited}, nil
}

// reachMember connects to any member. Hubs tell of one that is connected to them, or was of late, where it is.
func (n *Node) reachMember(ctx context.Context, member edge.ID) error {
	if n.o.Fleet().Is(member, fleet.Hub) {
		return n.reach(ctx, member)
	}
	if n.connected(member) {
		return nil
	}
	to := peer.AddrInfo{ID: peerID(member), Addrs: n.known(member)}
	cause := errors.New("no address of it was known before")
	if len(to.Addrs) > 0 || len(n.parts.host.Peerstore().Addrs(to.ID)) > 0 {
		if cause = n.connect(ctx, to); cause == nil {
			return nil
		}
	}
	found, err := n.find(ctx, member)
	if err == nil {
		err = n.connect(ctx, found)
	}
	if err != nil {
		return fmt.Errorf("p2p: reaching %s: %w", member.Short(), &awayError{cause, err})
	}
	return nil
}

// awayError is transport.ErrUnreachable of a member that is no hub.
type awayError struct{ before, byHubs error }

func (e *awayError) Error() string {
	return fmt.Sprintf("it does not answer: %v; by the hubs: %v", e.before, e.byHubs)
}

func (e *awayError) Unwrap() []error { return []error{transport.ErrUnreachable, e.before, e.byHubs} }

// serveDirect holds the session of one member.
func (n *Node) serveDirect(s network.Stream) {
	who, _ := memberID(s.Conn().RemotePeer())
	if err := n.o.Direct.Serve(n.life, &directStream{Stream: s}, who); err != nil {
		n.log.Debug("direct session ended", "peer", s.Conn().RemotePeer(), "err", err)
	}
}

// directStream makes Close wake a Write that waits, which libp2p's leaves to the transport.
type directStream struct {
	network.Stream
	writing atomic.Int32
}

// Write implements io.Writer.
func (s *directStream) Write(p []byte) (int, error) {
	s.writing.Add(1)
	defer s.writing.Add(-1)
	return s.Stream.Write(p)
}

// Close implements io.Closer.
func (s *directStream) Close() error {
	if s.writing.Load() > 0 {
		return s.Reset()
	}
	return s.Stream.Close()
}
