// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/transport"
)

const (
	dialLimit = 10 * time.Second // one connection attempt
	findLimit = 15 * time.Second // one look-up of an address
	seedGoal  = 2                // hubs to reach before look-ups begin …
	seedDials = 6                // … of so many that are dialled at once
	seedPause = 250 * time.Millisecond

	// missLimit is how long a hub counts as gone once all ways to it failed: a QUIC dial to a dead hub takes 5 s,
	// and who asks for one chain after the other must not pay that each time.
	missLimit = 2 * time.Second
)

// miss is the memory of a hub that could not be reached.
type miss struct {
	until time.Time
	err   error
}

// open gets a stream to a hub, dialling it if need be. An error wraps transport.ErrUnreachable.
func (n *Node) open(ctx context.Context, hub edge.ID, p protocol.ID) (network.Stream, error) {
	if err := n.reach(ctx, hub); err != nil {
		return nil, err
	}
	s, err := n.host.NewStream(ctx, peerID(hub), p)
	if err != nil {
		return nil, fmt.Errorf("p2p: opening %s to hub %s: %w: %w", p, hub.Short(), transport.ErrUnreachable, err)
	}
	return s, nil
}

// reach connects to a hub: an open connection, then the addresses that the fleet or the hub itself told, then those
// that the DHT finds, so a member that knows one hub finds the others.
func (n *Node) reach(ctx context.Context, hub edge.ID) error {
	if n.connected(hub) {
		return nil
	}
	n.mu.Lock()
	last := n.misses[hub]
	n.mu.Unlock()
	if time.Now().Before(last.until) {
		return last.err
	}
	err := n.dial(ctx, hub)
	if ctx.Err() == nil {
		n.mu.Lock()
		defer n.mu.Unlock()
		if err != nil && n.o.Fleet().Is(hub, fleet.Hub) {
			n.misses[hub] = miss{until: time.Now().Add(missLimit), err: err}
		} else {
			delete(n.misses, hub)
		}
	}
	return err
}

func (n *Node) dial(ctx context.Context, hub edge.ID) error {
	if !n.o.Fleet().Is(hub, fleet.Hub) {
		return fmt.Errorf("p2p: %s is not an enrolled hub: %w", hub, transport.ErrUnreachable)
	}
	to := peer.AddrInfo{ID: peerID(hub), Addrs: n.known(hub)}
	cause := errors.New("no address of it is known")
	if len(to.Addrs) > 0 || len(n.parts.host.Peerstore().Addrs(to.ID)) > 0 {
		if cause = n.connect(ctx, to); cause == nil {
			return nil
		}
	}
	found, err := n.find(ctx, hub)
	if err == nil {
		err = n.connect(ctx, found)
	}
	if err != nil {
		return fmt.Errorf("p2p: reaching hub %s: %w: %w; by the DHT: %w", hub.Short(), transport.ErrUnreachable, cause, err)
	}
	return nil
}

func (n *Node) connect(ctx context.Context, to peer.AddrInfo) error {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	n.parts.swarm.Backoff().Clear(to.ID) // the callers have back-offs of their own
	if err := n.parts.host.Connect(ctx, to); err != nil {
		return fmt.Errorf("p2p: connecting: %w", err)
	}
	if n.isHub(to.ID) {
		n.remember(to.ID)
	}
	return nil
}

func (n *Node) find(ctx context.Context, hub edge.ID) (peer.AddrInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	if err := n.seed(ctx); err != nil {
		return peer.AddrInfo{}, err
	}
	found, err := n.dht.FindPeer(ctx, peerID(hub))
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("p2p: finding %s: %w", hub.Short(), err)
	}
	return found, nil
}

// known returns the addresses that the fleet's bundle tells of a hub, or none.
func (n *Node) known(hub edge.ID) []ma.Multiaddr {
	f := n.o.Fleet()
	grant, _ := f.Member(hub)
	texts := slices.Clone(grant.Addrs)
	for _, b := range f.State().Hubs {
		if b.ID == hub {
			texts = append(texts, b.Addrs...)
		}
	}
	var out []ma.Multiaddr
	for _, t := range texts {
		m, err := ma.NewMultiaddr(t)
		if err != nil {
			n.log.Warn("bad address in fleet bundle", "hub", hub, "addr", t, "err", err)
			continue
		}
		out = append(out, m)
	}
	return out
}

// bootstrapPeers returns every other hub whose address the bundle tells, those of the fleet state first.
func (n *Node) bootstrapPeers() []peer.AddrInfo {
	f := n.o.Fleet()
	var ids []edge.ID
	for _, b := range f.State().Hubs {
		ids = append(ids, b.ID)
	}
	for _, h := range f.Hubs() {
		ids = append(ids, h.Member)
	}
	seen := map[edge.ID]bool{n.self: true}
	var out []peer.AddrInfo
	for _, id := range ids {
		if seen[id] {
			continue
		}
		seen[id] = true
		if addrs := n.known(id); len(addrs) > 0 {
			out = append(out, peer.AddrInfo{ID: peerID(id), Addrs: addrs})
		}
	}
	return out
}

// seed makes sure that the DHT knows somebody. It does nothing while the routing table has entries.
func (n *Node) seed(ctx context.Context) error {
	if n.life.Err() != nil {
		return fmt.Errorf("p2p: reaching the fleet: %w", ErrClosed)
	}
	if n.dht.RoutingTable().Size() > 0 {
		return nil
	}
	for _, p := range n.parts.host.Network().Peers() {
		if n.isHub(p) {
			n.remember(p)
		}
	}
	if n.dht.RoutingTable().Size() > 0 {
		return nil
	}
	return n.dialBootstrap(ctx)
}

// dialBootstrap dials hubs of the bundle and returns when seedGoal of them are connected or all have answered. It begins with a few in random order,
// lest each member of a large fleet dial all hubs, and goes on with the next when one fails and every seedPause: addresses that swallow what is sent must
// not hold up the others.
func (n *Node) dialBootstrap(ctx context.Context) error {
	hubs := n.bootstrapPeers()
	if n.o.Metered && len(hubs) > 0 {
		return n.dialOne(ctx, hubs)
	}
	ctx, cancel := context.WithCancel(ctx)
	var dials sync.WaitGroup
	defer dials.Wait()
	defer cancel()
	answers := make(chan error, len(hubs))
	rest := slices.Clone(hubs)
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	more := func() {
		if len(rest) > 0 {
			h := rest[0]
			rest = rest[1:]
			dials.Go(func() { answers <- n.connect(ctx, h) })
		}
	}
	for range seedDials {
		more()
	}
	next := time.NewTicker(seedPause)
	defer next.Stop()
	reached, errs := 0, []error(nil)
	for reached+len(errs) < len(hubs) {
		select {
		case <-next.C:
			more()
		case err := <-answers:
			if err != nil {
				errs = append(errs, err)
				more()
			} else if reached++; reached >= seedGoal {
				return nil
			}
		}
	}
	switch {
	case reached > 0 || (len(hubs) == 0 && n.o.Store != nil):
		return nil
	case len(hubs) == 0:
		return fmt.Errorf("p2p: reaching the fleet: its bundle tells no hub's address: %w", transport.ErrUnreachable)
	case n.o.Store != nil:
		return nil // the first hub to start finds nobody, and serves
	}
	return fmt.Errorf("p2p: reaching the fleet: %w: %w", transport.ErrUnreachable, errors.Join(errs...))
}

// dialOne dials the hubs one after the other until one answers: each handshake costs 4 kB. Members of one fleet begin with different ones.
func (n *Node) dialOne(ctx context.Context, hubs []peer.AddrInfo) error {
	rand.Shuffle(len(hubs), func(i, j int) { hubs[i], hubs[j] = hubs[j], hubs[i] })
	var errs []error
	for _, h := range hubs {
		err := n.connect(ctx, h)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return fmt.Errorf("p2p: reaching the fleet: %w: %w", transport.ErrUnreachable, errors.Join(errs...))
}

// Bootstrap joins the fleet: it dials hubs that the bundle names and fills the routing table. It wraps
// transport.ErrUnreachable when none answers; the node goes on trying by itself at each use and every few minutes.
func (n *Node) Bootstrap(ctx context.Context) error {
	if n.life.Err() != nil {
		return fmt.Errorf("p2p: bootstrapping: %w", ErrClosed)
	}
	if err := n.dialBootstrap(ctx); err != nil || n.o.Metered {
		return err
	}
	var err error
	for range refreshTries {
		if n.dht.RoutingTable().Size() == 0 {
			return nil // the first hub to start
		}
		if err = n.refresh(ctx); err == nil || ctx.Err() != nil || n.dht.RoutingTable().Size() > 0 {
			return err
		}
		if err := n.seed(ctx); err != nil {
			return err
		}
	}
	return err
}

// refreshTries is how often Bootstrap tries: kad-dht throws out a peer whose one request failed, and at the start that
// peer may be the only one.
const refreshTries = 3

func (n *Node) refresh(ctx context.Context) error {
	select {
	case err := <-n.dht.RefreshRoutingTable():
		if err != nil {
			return fmt.Errorf("p2p: filling routing table: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("p2p: filling routing table: %w", ctx.Err())
	}
}
