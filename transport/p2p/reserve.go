// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/observedaddrs"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/streembit/edge"
	"github.com/streembit/edge/internal/nap"
)

const (
	relayGoal    = 2                // hubs at which a member can be found: one may restart
	reserveLimit = 10 * time.Second // one reservation
	reserveFirst = 2 * time.Second  // pause after a failure …
	reserveLast  = 2 * time.Minute
	punchFirst   = time.Second     // between two tries to punch a hole …
	punchLast    = time.Minute     // … no more after this
	reserveAgain = 5 * time.Second // and, at most, after the loss of a relay: a hub that restarts is not stormed
)

// places are a member's reservations at the relays of hubs.
type places struct {
	lost chan struct{} // capacity 1: a relay is gone

	mu    sync.Mutex
	until map[edge.ID]time.Time
}

// startReachable makes the node one that others reach through the hubs' relays, and then directly where the NATs on the way let holes be punched
// (DCUtR, github.com/libp2p/specs/blob/master/relay/DCUtR.md).
func (n *Node) startReachable() error {
	if err := client.AddTransport(n.host, n.parts.upgrader); err != nil {
		return fmt.Errorf("p2p: starting relay client: %w", err)
	}
	if len(n.o.Listen) > 0 {
		if err := n.startPunching(); err != nil {
			return err
		}
	}
	if !n.o.Reachable {
		return nil
	}
	if !n.o.Metered { // of which the multiplexer's own half-minute is enough
		n.spawn(func() { n.watchPlaces(n.life) })
	}
	n.parts.host.Network().Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
		if id, ok := memberID(c.RemotePeer()); ok {
			n.places.lose(id)
		}
	}})
	return nil
}

func (n *Node) startPunching() error {
	observed, err := observedaddrs.NewManager(n.parts.bus, n.parts.swarm)
	if err != nil {
		return fmt.Errorf("p2p: watching own addresses: %w", err)
	}
	observed.Start(n.parts.swarm)
	n.parts.closed = append(n.parts.closed, observed.Close)
	p := &puncher{}
	p.Service, err = holepunch.NewService(n.host, n.parts.host.IDService(), func() []ma.Multiaddr {
		from := n.punchable(observed)
		p.ready.Store(p.ready.Load() || len(from) > 0)
		return from
	})
	if err != nil {
		return fmt.Errorf("p2p: starting hole punching: %w", err)
	}
	n.parts.closed = append(n.parts.closed, p.Close)
	n.parts.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if relayed(c.RemoteMultiaddr()) && c.Stat().Direction == network.DirInbound {
			n.spawn(func() { n.punchAgain(n.life, p, c) })
		}
	}})
	return nil
}

// puncher is the service, and whether it has ever been told of an address from which a hole can be punched. Until then it waits in DirectConnect, after its own Close too.
type puncher struct {
	*holepunch.Service
	ready atomic.Bool
}

// try punches a hole, unless ctx ends before.
func (p *puncher) try(ctx context.Context, to peer.ID) error {
	if !p.ready.Load() {
		return errNoHole
	}
	done := make(chan error, 1)
	go func() { done <- p.DirectConnect(to) }() // ends with the service; if that is closed just as it begins, with the program
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

var errNoHole = errors.New("p2p: this node knows no address of its own from which to punch a hole")

// punchAgain tries at growing distances to make a relayed connection a direct one. libp2p tries once, at the connection, when one of the two may not
// have heard yet under which address others see it.
func (n *Node) punchAgain(ctx context.Context, p *puncher, c network.Conn) {
	for pause := punchFirst; pause <= punchLast && !c.IsClosed(); pause *= 3 {
		if !nap.For(ctx, pause/2+rand.N(pause)) {
			return
		}
		var r Route
		if n.routeOpen(c.RemotePeer(), &r) && r.Direct {
			return
		}
		if err := p.try(ctx, c.RemotePeer()); err != nil {
			n.log.Debug("no hole was punched", "peer", c.RemotePeer(), "err", err)
		}
	}
}

// punchable returns the addresses from which a hole can be punched: the public ones that this node has, or that others see it under; members say so, one of
// them is enough. Before it knows of one it returns those of its own network, because the service takes no part until it is given something.
func (n *Node) punchable(observed *observedaddrs.Manager) []ma.Multiaddr {
	own, _ := n.parts.swarm.InterfaceListenAddresses() // none is no reason to stop
	own = slices.DeleteFunc(directOf(own), manet.IsIPLoopback)
	public := slices.DeleteFunc(directOf(append(slices.Clone(own), observed.Addrs(1)...)), func(a ma.Multiaddr) bool { return !manet.IsPublicAddr(a) })
	if len(public) == 0 {
		return own
	}
	return public
}

func (p *places) lose(hub edge.ID) {
	p.mu.Lock()
	_, had := p.until[hub]
	delete(p.until, hub)
	p.mu.Unlock()
	if had {
		select {
		case p.lost <- struct{}{}:
		default:
		}
	}
}

// keepPlaces holds reservations until ctx ends.
func (n *Node) keepPlaces(ctx context.Context) {
	fails := 0
	for {
		next, ok := n.reserve(ctx)
		pause := time.Until(next)
		if ok {
			fails = 0
		} else {
			pause = min(reserveFirst<<min(fails, 10), reserveLast)
			fails++
		}
		t := time.NewTimer(pause/2 + rand.N(pause/2+1))
		select {
		case <-t.C:
		case <-n.places.lost:
			nap.For(ctx, rand.N(reserveAgain))
		case <-ctx.Done():
		}
		if t.Stop(); ctx.Err() != nil {
			return
		}
	}
}

// reserve makes sure of places at the first hubs that can be reached, and returns when they are to be renewed.
func (n *Node) reserve(ctx context.Context) (next time.Time, ok bool) {
	hubs, goal := relaysOf(n.o.Fleet(), n.self), relayGoal
	if n.o.Metered { // at the hub that it is connected to anyway: those who look for it ask one after the other
		hubs, goal = slices.DeleteFunc(hubs, func(id edge.ID) bool { return !n.connected(id) }), 1
	}
	have := 0
	next = time.Now().Add(reserveTTL)
	for _, hub := range hubs {
		until, err := n.placeAt(ctx, hub)
		if err != nil {
			n.log.Debug("no place at the relay of a hub", "hub", hub, "err", err)
			continue
		}
		if renew := until.Add(-reserveTTL / 4); renew.Before(next) {
			next = renew
		}
		if have++; have == goal {
			break
		}
	}
	return next, have >= min(goal, len(hubs)) && have > 0
}

// placeAt returns until when the hub relays to this node.
func (n *Node) placeAt(ctx context.Context, hub edge.ID) (time.Time, error) {
	n.places.mu.Lock()
	until := n.places.until[hub]
	n.places.mu.Unlock()
	if time.Until(until) > reserveTTL/4 && n.connected(hub) {
		return until, nil
	}
	ctx, cancel := context.WithTimeout(ctx, reserveLimit)
	defer cancel()
	if err := n.reach(ctx, hub); err != nil {
		return until, err
	}
	if _, err := client.Reserve(ctx, n.host, peer.AddrInfo{ID: peerID(hub)}); err != nil {
		return until, fmt.Errorf("p2p: reserving at hub %s: %w", hub.Short(), err)
	}
	for _, c := range n.parts.host.Network().ConnsToPeer(peerID(hub)) {
		n.check(ctx, c) // and hear how far it is
	}
	until = time.Now().Add(reserveTTL) // what the hub says is a time of its own clock
	n.places.mu.Lock()
	defer n.places.mu.Unlock()
	n.places.until[hub] = until
	return until, nil
}

// Relays returns the hubs through which this node can be reached now.
func (n *Node) Relays() []edge.ID {
	n.places.mu.Lock()
	defer n.places.mu.Unlock()
	var out []edge.ID
	for hub, until := range n.places.until {
		if time.Now().Before(until) {
			out = append(out, hub)
		}
	}
	return out
}
