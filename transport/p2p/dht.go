// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"context"
	"errors"
	"fmt"

	dht "github.com/libp2p/go-libp2p-kad-dht"
	kb "github.com/libp2p/go-libp2p-kbucket"
	record "github.com/libp2p/go-libp2p-record"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/routing"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
	"github.com/streembit/edge/journal"
	"github.com/streembit/edge/ota/records"
	"github.com/streembit/edge/transport"
)

// dhtPrefix keeps each fleet's DHT apart from every other.
func dhtPrefix(f journal.FleetID) protocol.ID { return protocol.ID("/streembit/" + f.String()) }

// headSpace is the namespace of heads among DHT values.
const headSpace = "head"

func headKey(c journal.Chain) string { return "/" + headSpace + "/" + c.Key().DHTName() }

func (n *Node) startDHT() error {
	mode := dht.ModeClient
	if n.o.Store != nil {
		mode = dht.ModeServer
	}
	options := []dht.Option{
		dht.ProtocolPrefix(dhtPrefix(n.o.Fleet().ID())),
		dht.Mode(mode), // never auto: a hub behind NAT would stay a client for ever
		dht.Validator(n.validators()),
		dht.MaxRecordAge(n.o.HeadMaxAge), // after it an older head would be accepted again
		dht.AddressFilter(fewAddrs),
		dht.RoutingTableFilter(n.routable),
		dht.QueryFilter(n.askable),
		dht.WithCustomMessageSender(newAsker),
	}
	if !n.o.test.providers {
		options = append(options, dht.DisableProviders()) // docs/decisions/0042-who-has-a-program.md
	}
	if n.o.Metered {
		options = append(options, dht.DisableAutoRefresh())
	} else {
		options = append(options, dht.BootstrapPeersFunc(n.earlyPeers)) // which dials two as soon as the table is empty
	}
	d, err := dht.New(n.host, options...)
	if err != nil {
		return fmt.Errorf("p2p: starting DHT: %w", err)
	}
	n.dht = d
	return nil
}

// validators judge the values of each namespace.
func (n *Node) validators() record.NamespacedValidator {
	v := record.NamespacedValidator{headSpace: headValidator{n.o.Fleet, &n.marks}, thingSpace: thingValidator{n.o.Fleet, &n.things}}
	for _, space := range records.Spaces() {
		v[space] = recordValidator{n.o.Fleet, n.o.Records, n.learnt}
	}
	return v
}

// earlyPeers are the bootstrap peers once this node listens: a dial before that would go out by a port of its own, which every later dial then
// uses too, and no hole can be punched from that.
func (n *Node) earlyPeers() []peer.AddrInfo {
	if !n.listening.Load() {
		return nil
	}
	return n.bootstrapPeers()
}

// maxPeerAddrs bounds what a hub may tell of where another one is.
const maxPeerAddrs = 16

// fewAddrs keeps a hub's answer from filling the address book. False addresses in it cost a failed handshake each, no more: those that the fleet or the hub
// itself told stay beside them.
func fewAddrs(addrs []ma.Multiaddr) []ma.Multiaddr { return addrs[:min(len(addrs), maxPeerAddrs)] }

// headValidator guards heads at the hub that stores one and at the member that reads one.
type headValidator struct {
	fleet func() *fleet.Fleet
	marks *marks
}

// Validate refuses what is not a head of the chain that the key names, or is older than one that was here.
func (v headValidator) Validate(key string, value []byte) error {
	h, err := transport.CheckHead(value, v.fleet())
	if err != nil {
		return err
	}
	if headKey(h.Header.Chain) != key {
		return fmt.Errorf("p2p: head of %s under another chain's key: %w", h.Header.Chain, journal.ErrForeignChain)
	}
	return v.marks.check(h)
}

// Select returns the index of the head that counts.
func (v headValidator) Select(_ string, values [][]byte) (int, error) {
	best, found := transport.Head{}, -1
	for i, value := range values {
		h, err := transport.CheckHead(value, v.fleet())
		if err == nil && (found < 0 || h.Supersedes(best)) {
			best, found = h, i
		}
	}
	if found < 0 {
		return 0, fmt.Errorf("p2p: selecting among %d heads: none is valid", len(values))
	}
	return found, nil
}

// PutHead offers a signed header to the hubs closest to its chain's key. It is a hint: kad-dht returns nil whether
// or not anybody stored it, so nil means only that hubs were found and asked. What is published is told by Put.
func (n *Node) PutHead(ctx context.Context, signedHeader []byte) error {
	h, err := transport.CheckHead(signedHeader, n.o.Fleet())
	if err != nil {
		return err
	}
	if err := n.seed(ctx); err != nil {
		return err
	}
	err = n.dht.PutValue(ctx, headKey(h.Header.Chain), signedHeader)
	if errors.Is(err, kb.ErrLookupFailure) && n.o.Store != nil {
		return nil // alone: this hub has stored it
	}
	if err != nil {
		return fmt.Errorf("p2p: putting head of %s: %w", h.Header.Chain, lookupError(ctx, err))
	}
	return nil
}

// Head returns the newest signed header of a chain that the hubs know, proven; transport.ErrNoHead if they know
// none. It may be older than what the hubs hold: the truth is the higher of this and Held.
func (n *Node) Head(ctx context.Context, chain journal.Chain) ([]byte, error) {
	if err := n.seed(ctx); err != nil {
		return nil, err
	}
	// Quorum 0 asks all the closest hubs and writes the newest back to those that lack it: measured to be the only
	// read that repairs.
	value, err := n.dht.GetValue(ctx, headKey(chain), dht.Quorum(0))
	switch {
	case errors.Is(err, routing.ErrNotFound):
		return nil, fmt.Errorf("p2p: head of %s: %w", chain, transport.ErrNoHead)
	case err != nil:
		return nil, fmt.Errorf("p2p: head of %s: %w", chain, lookupError(ctx, err))
	}
	return value, nil
}

// Closest asks the DHT for the hubs closest to a key, closest first, this one included when it qualifies. Who counts
// is decided by the fleet log's list and transport.Place; this finds them.
func (n *Node) Closest(ctx context.Context, key journal.Hash) ([]edge.ID, error) {
	if err := n.seed(ctx); err != nil {
		return nil, err
	}
	peers, err := n.dht.GetClosestPeers(ctx, key.DHTName())
	alone := errors.Is(err, kb.ErrLookupFailure) && n.o.Store != nil
	if err != nil && !alone {
		return nil, fmt.Errorf("p2p: looking up %s: %w", key, lookupError(ctx, err))
	}
	f := n.o.Fleet()
	var hubs []edge.ID
	for _, p := range peers {
		if id, ok := memberID(p); ok && f.Is(id, fleet.Hub) {
			hubs = append(hubs, id)
		}
	}
	if n.o.Store != nil && f.Is(n.self, fleet.Hub) {
		hubs = append(hubs, n.self) // GetClosestPeers leaves the asker out
	}
	return transport.Place(key, hubs), nil
}

func lookupError(ctx context.Context, err error) error {
	if ctx.Err() != nil || !errors.Is(err, kb.ErrLookupFailure) {
		return err
	}
	return fmt.Errorf("no hub in the routing table: %w: %w", transport.ErrUnreachable, err)
}
