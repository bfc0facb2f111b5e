// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/streembit/edge"
	"github.com/streembit/edge/transport"
)

const (
	addressLimit = 3 * time.Second // dialling known addresses
	lookupLimit  = 5 * time.Second // asking the hubs for others
	relayLimit   = 5 * time.Second // one relay
)

// Step is one way to a member that was tried.
type Step struct {
	Way   string   // "known addresses", "local network", "addresses that hubs know", "relay of HUB"
	Tried []string // multiaddrs
	Took  time.Duration
	Err   error // nil: it led there
}

// Route is how a member is reached.
type Route struct {
	Addr   string // its multiaddr, as this side sees it
	Direct bool   // not through a relay
	Steps  []Step // in the order in which they were tried; none if the connection was open
}

// Reach connects to a member: over the open connection, by addresses that are known of it, by those that it tells on the local network (Options.MDNS), by those that
// the hubs know, through the relay of a hub.
// A relayed connection becomes a direct one by itself where a hole can be punched: see Upgrade. The error wraps transport.ErrUnreachable and the route
// says what was tried.
func (n *Node) Reach(ctx context.Context, member edge.ID) (Route, error) {
	if !n.begin() {
		return Route{}, fmt.Errorf("p2p: reaching %s: %w", member.Short(), ErrClosed)
	}
	defer n.tasks.Done()
	if !n.o.Fleet().IsMember(member) {
		return Route{}, fmt.Errorf("p2p: %s is no member of the fleet: %w", member, transport.ErrUnreachable)
	}
	r := Route{}
	p := peerID(member)
	if n.routeOpen(p, &r) && n.stillOpen(ctx, p, &r) {
		return r, nil
	}
	n.parts.swarm.Backoff().Clear(p)
	known := directOf(append(n.known(member), n.parts.host.Peerstore().Addrs(p)...))
	if n.try(ctx, &r, "known addresses", addressLimit, p, known) {
		return r, nil
	}
	if n.tryLAN(ctx, &r, member) || n.tryFound(ctx, &r, p, known) || n.tryRelays(ctx, &r, member) {
		return r, nil
	}
	if ctx.Err() != nil {
		return r, fmt.Errorf("p2p: reaching %s: %w: %w", member.Short(), ctx.Err(), &awayError{r.Steps})
	}
	return r, fmt.Errorf("p2p: reaching %s: %w", member.Short(), &awayError{r.Steps})
}

// awayError says what was tried; it is transport.ErrUnreachable.
type awayError struct{ steps []Step }

func (e *awayError) Error() string {
	var tried []string
	for _, s := range e.steps {
		tried = append(tried, s.Way+": "+s.Why())
	}
	return "it does not answer: " + strings.Join(tried, "; ")
}

func (e *awayError) Unwrap() []error {
	all := []error{transport.ErrUnreachable}
	for _, s := range e.steps {
		all = append(all, s.Err)
	}
	return all
}

var errNoAddress = errors.New("none")

// try dials addresses and adds the step to the route.
func (n *Node) try(ctx context.Context, r *Route, way string, limit time.Duration, p peer.ID, addrs []ma.Multiaddr) bool {
	step := Step{Way: way, Err: errNoAddress}
	for _, a := range addrs {
		step.Tried = append(step.Tried, a.String())
	}
	began := time.Now()
	if len(addrs) > 0 {
		ctx, cancel := context.WithTimeout(ctx, limit)
		step.Err = n.parts.host.Connect(ctx, peer.AddrInfo{ID: p, Addrs: addrs})
		cancel()
	}
	step.Took = time.Since(began)
	r.Steps = append(r.Steps, step)
	return step.Err == nil && n.routeOpen(p, r)
}

// tryLAN asks this machine's own networks, if the node does that.
func (n *Node) tryLAN(ctx context.Context, r *Route, member edge.ID) bool {
	if !n.o.MDNS || ctx.Err() != nil {
		return false
	}
	const way = "local network"
	began := time.Now()
	addrs, err := n.findOnLAN(ctx, member)
	if err != nil {
		r.Steps = append(r.Steps, Step{Way: way, Took: time.Since(began), Err: err})
		return false
	}
	return n.try(ctx, r, way, addressLimit, peerID(member), addrs)
}

func (n *Node) tryFound(ctx context.Context, r *Route, p peer.ID, known []ma.Multiaddr) bool {
	const way = "addresses that hubs know"
	look, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	began := time.Now()
	err := n.seed(look)
	var found peer.AddrInfo
	if err == nil {
		found, err = n.dht.FindPeer(look, p)
	}
	if err != nil {
		r.Steps = append(r.Steps, Step{Way: way, Took: time.Since(began), Err: err})
		return false
	}
	fresh := slices.DeleteFunc(directOf(found.Addrs), func(a ma.Multiaddr) bool { return slices.ContainsFunc(known, a.Equal) })
	return n.try(ctx, r, way, addressLimit, p, fresh)
}

func (n *Node) tryRelays(ctx context.Context, r *Route, member edge.ID) bool {
	for _, hub := range relaysOf(n.o.Fleet(), member) {
		way := "relay of hub " + hub.Short()
		began := time.Now()
		limited, cancel := context.WithTimeout(ctx, relayLimit)
		err := n.reach(limited, hub)
		if err == nil {
			addr := ma.StringCast("/p2p/" + peerID(hub).String() + "/p2p-circuit")
			err = n.parts.host.Connect(limited, peer.AddrInfo{ID: peerID(member), Addrs: []ma.Multiaddr{addr}})
		}
		cancel()
		r.Steps = append(r.Steps, Step{Way: way, Took: time.Since(began), Err: err})
		if err == nil && n.routeOpen(peerID(member), r) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
	}
	return false
}

// routeOpen notes the best open connection, if there is one.
func (n *Node) routeOpen(p peer.ID, r *Route) bool {
	found := false
	for _, c := range n.parts.host.Network().ConnsToPeer(p) {
		addr := c.RemoteMultiaddr()
		if c.IsClosed() || found && (r.Direct || relayed(addr)) {
			continue
		}
		found, r.Addr, r.Direct = true, addr.String(), !relayed(addr)
	}
	return found
}

// Upgrade waits until a relayed connection to a member has become a direct one, by a hole that both sides punch at the same moment, or ctx ends.
func (n *Node) Upgrade(ctx context.Context, member edge.ID) (Route, bool) {
	p := peerID(member)
	bell := make(chan struct{}, 1)
	watcher := &network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == p {
			select {
			case bell <- struct{}{}:
			default:
			}
		}
	}}
	n.parts.host.Network().Notify(watcher)
	defer n.parts.host.Network().StopNotify(watcher)
	for {
		var r Route
		if n.routeOpen(p, &r) && r.Direct {
			return r, true
		}
		select {
		case <-bell:
		case <-ctx.Done():
			return r, false
		case <-n.life.Done():
			return r, false
		}
	}
}

// directOf leaves relayed addresses out, and what is there twice.
func directOf(addrs []ma.Multiaddr) []ma.Multiaddr {
	return ma.Unique(slices.DeleteFunc(slices.Clone(addrs), relayed))
}
