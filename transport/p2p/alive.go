// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"io"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// A connection whose other end slept, moved to another address or lost its NAT's mapping looks open for as long as nobody writes: over TCP the multiplexer notices
// after 30 to 40 s. Who needs one asks whether it lives, and closes it if it does not.
const (
	aliveLimit = 3 * time.Second  // for the answer
	aliveFresh = 10 * time.Second // so long an answer counts
	firstLine  = "\x13/multistream/1.0.0\n"
)

// alive asks the other end of a connection for the first line of any stream (multistream-select 1.0), which all of libp2p answers.
func alive(ctx context.Context, c network.Conn) (time.Duration, bool) {
	ctx, cancel := context.WithTimeout(ctx, aliveLimit)
	defer cancel()
	began := time.Now()
	s, err := c.NewStream(network.WithNoDial(ctx, "asking whether it lives"))
	if err != nil {
		return 0, false
	}
	defer func() { _ = s.Reset() }()
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if _, err := io.WriteString(s, firstLine); err != nil {
		return 0, false
	}
	if _, err := s.Read(make([]byte, 1)); err != nil {
		return 0, false
	}
	return time.Since(began), true
}

// check closes a connection that does not answer, and notes how far away the other end of one that does is.
func (n *Node) check(ctx context.Context, c network.Conn) bool {
	took, ok := alive(ctx, c)
	switch {
	case ok:
		n.parts.host.Peerstore().RecordLatency(c.RemotePeer(), took)
		n.proven.Store(c, time.Now())
		if c.IsClosed() { // its end, which forgets it, may have been before
			n.proven.Delete(c)
		}
	case ctx.Err() == nil:
		n.log.Debug("a connection is dead", "peer", c.RemotePeer(), "addr", c.RemoteMultiaddr())
		_ = c.Close()
	}
	return ok
}

// stillOpen checks the open connections to a peer, the best first, and puts the one that answers into the route. One that has answered a moment ago counts.
func (n *Node) stillOpen(ctx context.Context, p peer.ID, r *Route) bool {
	for n.routeOpen(p, r) && ctx.Err() == nil {
		for _, c := range n.parts.host.Network().ConnsToPeer(p) {
			if c.RemoteMultiaddr().String() != r.Addr || c.IsClosed() {
				continue
			}
			last, _ := n.proven.Load(c)
			at, known := last.(time.Time)
			if !known {
				at = c.Stat().Opened
			}
			if time.Since(at) < aliveFresh || n.check(ctx, c) {
				return true
			}
		}
		*r = Route{Steps: r.Steps}
	}
	return false
}

// doubtOlder has the earlier connections of a member that comes anew checked: if it has moved they are dead, and what is relayed must not go there.
func (n *Node) doubtOlder(fresh network.Conn) {
	for _, c := range n.parts.host.Network().ConnsToPeer(fresh.RemotePeer()) {
		if c != fresh && !relayed(c.RemoteMultiaddr()) {
			n.spawn(func() { n.check(n.life, c) })
		}
	}
}

// watchPlaces checks the connections to the hubs that relay to this node, until ctx ends: who wants to reach it depends on them, and it may not speak for hours.
func (n *Node) watchPlaces(ctx context.Context) {
	t := time.NewTicker(n.o.KeepAlive)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		for _, hub := range n.Relays() {
			for _, c := range n.parts.host.Network().ConnsToPeer(peerID(hub)) {
				n.check(ctx, c)
			}
		}
	}
}
