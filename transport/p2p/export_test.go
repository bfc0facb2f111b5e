// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"time"

	"github.com/ipfs/go-cid"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/multiformats/go-multihash"

	"github.com/streembit/edge"
	"github.com/streembit/edge/fleet"
)

// WithStrangerLife shortens the time after which strangers are disconnected.
func WithStrangerLife(o Options, d time.Duration) Options {
	o.test.strangerLife = d
	return o
}

// WithoutFilters lets everybody into the DHT, as if it had no filters: what the attacks on it look like then.
func WithoutFilters(o Options) Options {
	o.test.noFilters = true
	return o
}

// What the fuzz tests reach into.
var (
	WriteFrame    = writeFrame
	ReadFrame     = readFrame
	EncodeStatus  = encodeStatus
	DecodeStatus  = decodeStatus
	DecodeRequest = decodeRequest
	DecodeAsk     = decodeAsk

	DecodeRepairRequest = decodeRepairRequest
	DecodeRanges        = decodeRanges
	DecodeHeld          = decodeHeld
	DecodeDated         = decodeDated

	DecodeProgramRequest = decodeProgramRequest
	DecodeHolding        = decodeHolding
	DecodeRecord         = decodeRecord

	Look       = look
	ParseLook  = parseLook
	ParseFound = parseFound
)

// Answer is what a newcomer answers.
func (q question) Answer(self Found, single bool) ([]byte, error) { return q.answer(self, single) }

// TakeBundle gathers the chunks of a bundle.
func TakeBundle(r io.Reader, limit int) (fleet.Bundle, error) {
	t := &talk{r: bufio.NewReader(r), frame: strangerFrame, bundle: limit}
	return t.take(edge.ID{}, nil)
}

// Visited reports whether id is connected as strangers are, for a short time and with the fleet's protocol alone.
func (n *Node) Visited(id edge.ID) bool {
	g := n.parts.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.visits[peerID(id)] != nil
}

// Question makes a member's question on the LAN, as who asks does.
func Question(f *fleet.Fleet, member edge.ID) (packet []byte, name string, err error) {
	return lanQuestion(f.ID(), member)
}

// ParseLANQuestion and ParseLANAnswer are what a member reads of anybody on the LAN.
var (
	ParseLANQuestion = parseLANQuestion
	ParseLANAnswer   = parseLANAnswer
	LANAnswer        = lanAnswer
)

// LANResponder is a member's answers to packets that come from another port than the group's, on network index.
func LANResponder(f *fleet.Fleet, self edge.ID, addrs []string) (func(packet []byte, index int) ([]byte, bool), error) {
	parsed, err := parseAddrs(addrs)
	r := lanResponder(f.ID, self, func() []ma.Multiaddr { return parsed }, slog.New(slog.DiscardHandler))
	return func(packet []byte, index int) ([]byte, bool) { return r(packet, index, true) }, err
}

// OnConnected calls visit for each connection that comes to a node from now on.
func OnConnected(n *Node, visit func(network.Conn)) {
	n.parts.host.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) { visit(c) }})
}

// WithProviders turns the DHT's provider records on, which are off: for the comparison of decision 0042.
func WithProviders(o Options) Options {
	o.test.providers = true
	return o
}

// Provide puts a provider record for a program.
func (n *Node) Provide(ctx context.Context, tree [32]byte) error {
	c, err := treeCID(tree)
	if err != nil {
		return err
	}
	return n.dht.Provide(ctx, c, true)
}

// Providers looks up to want providers of a program up; 0 = all.
func (n *Node) Providers(ctx context.Context, tree [32]byte, want int) (found int, err error) {
	c, err := treeCID(tree)
	if err != nil {
		return 0, err
	}
	for range n.dht.FindProvidersAsync(ctx, c, want) {
		found++
	}
	return found, ctx.Err()
}

func treeCID(tree [32]byte) (cid.Cid, error) {
	h, err := multihash.Encode(tree[:], multihash.SHA2_256)
	return cid.NewCidV1(cid.Raw, h), err
}
