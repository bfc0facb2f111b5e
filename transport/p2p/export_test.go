// SPDX-License-Identifier: Apache-2.0

package p2p

import (
	"bufio"
	"io"
	"time"

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
